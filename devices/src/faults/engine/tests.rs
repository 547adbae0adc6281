//! Tests of a plan at work.

use super::{
    super::{
        FaultHandle, FaultPoint, MachineDevice, MmioWrite, event::Change, fault_point, handle::Fault,
        testing, testing::TABLES,
    },
    *,
};

fault_point! {
    /// The sensor sends a frame.
    enum Link = "sensor.link" [frame, tick] {
        /// It is lost.
        LinkLoss { frames: u32 in 1..=9 } = "link-loss",
    }
}

fault_point! {
    /// A frame is written.
    enum Dma = "frame.dma" [frame, channel, begin("frame")] {
        /// Bits are flipped.
        Flip { bits: u32 in 1..=9 } = "flip",
        /// The frame is written elsewhere.
        Offset { bytes: i64 in -9..=9 } = "offset",
        /// Lines lie further apart.
        Stride { bytes: i64 in 0..=16 } = "stride",
        /// It is written to the last buffer.
        Previous = "previous",
    }
}

fn faults(plan: &str, seed: u64) -> Faults {
    Faults::new(testing::plan(plan), seed)
}

fn rule(name: &str, rest: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\non = \"frame.dma\"\naction = \"flip\"\nbits = 1\n{rest}\n")
}

/// The first camera.
fn camera(faults: &Faults) -> FaultHandle {
    FaultHandle::new(faults.clone(), "camera0")
}

fn frame(frame: u32) -> Event {
    Event::of_frame(frame).on_channel(0)
}

/// What goes wrong with a frame of the first camera.
fn consult(faults: &Faults, number: u32) -> Option<Fault<Dma>> {
    camera(faults).consult(frame(number))
}

/// The frames at which something goes wrong.
fn hit(faults: &Faults, frames: std::ops::Range<u32>) -> Vec<u32> {
    frames.filter(|number| consult(faults, *number).is_some()).collect()
}

#[test]
fn events_are_counted() {
    assert_eq!(hit(&faults(&rule("a", "when = { nth = 3 }"), 1), 0..20), [2]);
    assert_eq!(hit(&faults(&rule("a", "when = { every = 7 }"), 1), 0..20), [6, 13]);
    assert_eq!(hit(&faults(&rule("a", "when = { frames = [4, 6] }"), 1), 0..20), [4, 5, 6]);
    assert_eq!(hit(&faults(&rule("a", "when = { frames = [4, 9], nth = 2 }"), 1), 0..20), [5]);
    assert_eq!(hit(&faults(&rule("a", "times = 2"), 1), 0..20), [0, 1]);
    assert_eq!(hit(&faults(&rule("a", "channel = 1"), 1), 0..20), [0_u32; 0]);
    assert_eq!(hit(&faults(&rule("a", "camera = 0"), 1), 0..2), [0, 1]);
}

#[test]
fn events_are_chosen_by_value_mark_window_and_frames_before() {
    let plan = "[[rule]]\nname = \"a\"\non = \"mmio.write\"\naction = \"drop\"\n\
        when = { register = 0x10, value = 3, nth = 2 }\n";
    let by_value = faults(plan, 1);
    let write = |value| camera(&by_value).consult::<MmioWrite>(Event::access(0x10, value));
    let dropped: Vec<bool> = [3, 1, 3, 3].map(|value| write(value).is_some()).to_vec();
    assert_eq!(dropped, [false, false, true, false], "others are not counted");
    assert_eq!(by_value.trace().firings[0].accessed, Some(3));

    let by_mark = faults(&rule("a", "when = { mark = \"go\", every = 2 }"), 1);
    assert_eq!(hit(&by_mark, 0..4), [0_u32; 0]);
    by_mark.mark("go");
    assert_eq!(hit(&by_mark, 4..8), [5, 7]);
    by_mark.mark("stop");
    assert_eq!(hit(&by_mark, 8..12), [0_u32; 0]);

    let device = |id: &str, window: Option<&str>| {
        MachineDevice::find(TABLES, id.to_owned(), window.map(ToOwned::to_owned)).unwrap()
    };
    for (window, fires) in [("isp", true), ("vpu", false)] {
        let plan = testing::plan(&rule("a", &format!("window = \"{window}\"")));
        let devices = vec![device("camera0", Some("isp")), device("camera1", None)];
        let faults = Faults::of_machine(plan, 1, devices, false);
        assert_eq!(consult(&faults, 0).is_some(), fires, "{window}");
        let other = FaultHandle::new(faults, "camera1");
        assert!(other.consult::<Dma>(frame(0)).is_none(), "it uses none");
    }

    // The count continues over a restart of the stream. The frames of another camera do not count.
    let after = faults(&rule("a", "camera = 0\nwhen = { after = 3, nth = 2 }"), 1);
    let stream = |camera: u32, numbers: std::ops::Range<u32>| -> Vec<u32> {
        let handle = FaultHandle::new(after.clone(), &format!("camera{camera}"));
        let one = |number: u32| {
            assert!(handle.consult::<Link>(Event::of_frame(number)).is_none());
            handle.consult::<Dma>(frame(number)).map(|_| number)
        };
        numbers.filter_map(one).collect()
    };
    assert_eq!((stream(0, 0..2), stream(1, 0..9), stream(0, 0..5)), (vec![], vec![], vec![2]));
}

#[test]
fn what_happens_is_on_a_timeline_if_that_is_asked_for() {
    let plan = || testing::plan(&rule("a", "when = { nth = 2 }"));
    let faults = Faults::of_machine(plan(), 1, Vec::new(), true);
    hit(&faults, 0..2);
    faults.mark("here");
    camera(&faults).interrupted();
    camera(&faults).was_reset();
    let shown = |at: Occurrence| format!("{:?} {} {:?}", at.device, at.point.name, at.event.frame);
    let what: Vec<String> = faults
        .take_timeline()
        .unwrap()
        .moments
        .into_iter()
        .map(|moment| match moment.happening {
            Happening::Event(at) => shown(at),
            Happening::Fired { at, rule, number, .. } => format!("{} {rule} {number}", shown(at)),
            Happening::Mark(text) => text,
            Happening::Interrupt(device) => format!("interrupt of {device}"),
            Happening::Reset(device) => format!("reset of {device}"),
        })
        .collect();
    assert_eq!(
        what,
        [
            "Some(\"camera0\") frame.dma Some(0)",
            "Some(\"camera0\") frame.dma Some(1)",
            "Some(\"camera0\") frame.dma Some(1) a 2",
            "here",
            "interrupt of camera0",
            "reset of camera0",
        ]
    );
    assert!(Faults::new(plan(), 1).take_timeline().is_none());
}

/// Those who listen hear of marks, firings and resets, and not of each event.
#[test]
fn those_who_listen_hear_what_happens_meanwhile() {
    let faults = Faults::new(testing::plan(&rule("a", "")), 1);
    hit(&faults, 0..1);
    let events = Arc::new(MachineEvents::new().unwrap());
    faults.begin_listening(events.clone());
    hit(&faults, 1..2);
    faults.mark("here");
    camera(&faults).interrupted();
    camera(&faults).was_reset();
    assert_eq!(events.eventfd().read().unwrap(), 1);
    let [fired, mark, reset] = &faults.take_moments().moments[..] else { panic!("there are three") };
    assert!(
        matches!(&fired.happening, Happening::Fired { at, rule, number: 2, window: None, .. }
            if rule == "a" && at.event.frame == Some(1)),
        "{fired:?}"
    );
    assert!(matches!(&mark.happening, Happening::Mark(text) if text == "here"), "{mark:?}");
    assert!(matches!(&reset.happening, Happening::Reset(device) if &**device == "camera0"), "{reset:?}");
    faults.end_listening();
    faults.mark("there");
    assert!(faults.take_moments().moments.is_empty());
}

#[test]
fn a_rule_without_a_device_counts_those_that_have_its_action() {
    fault_point! {
        /// A frame of another device is written.
        enum Other = "frame.dma" [] {
            /// Lines lie further apart.
            Stride { bytes: i64 in 0..=8 } = "stride",
        }
    }
    let stride = |bytes: u32| {
        let plan =
            format!("[[rule]]\nname = \"a\"\non = \"frame.dma\"\naction = \"stride\"\nbytes = {bytes}\n");
        let faults = faults(&plan, 1);
        let other = FaultHandle::new(faults.clone(), "other0");
        (
            other.consult::<Other>(Event::PLAIN).is_some(),
            consult(&faults, 0).is_some(),
            faults.rules()[0].events,
        )
    };
    assert_eq!(stride(8), (true, true, 2));
    assert_eq!(stride(9), (false, true, 1), "the other takes no such number");
}

#[test]
fn nobody_waits_at_a_point_without_rules() {
    let faults = faults(&rule("a", "when = { after = 3 }"), 1);
    assert!(faults.acts_on(Dma::POINT) && faults.acts_on(Link::POINT), "frames are counted");
    assert!(!faults.acts_on(MmioWrite::POINT));
    assert!(faults.remove("a") && !faults.acts_on(Dma::POINT));
    assert_eq!(faults.add(testing::plan(&rule("b", ""))), Ok(()));
    assert!(faults.acts_on(Dma::POINT) && !faults.acts_on(Link::POINT));
}

#[test]
fn rules_follow_each_other() {
    let plan = rule("first", "when = { nth = 2 }\nnext-state = \"hurt\"")
        + &rule("then", "state = \"hurt\"\nwhen = { nth = 3 }\nnext-state = \"well\"")
        + &rule("last", "state = \"well\"\ntimes = 1");
    let faults = faults(&plan, 1);
    assert_eq!(hit(&faults, 0..20), [1, 4, 5]);
    let trace = faults.trace();
    let names: Vec<_> = trace.firings.iter().map(|firing| (&firing.rule[..], firing.event)).collect();
    assert_eq!((names, trace.more), (vec![("first", 2), ("then", 3), ("last", 1)], 0));
}

#[test]
fn one_fault_is_done_at_an_event_and_all_rules_count_it() {
    let faults = faults(&(rule("a", "when = { every = 2 }") + &rule("b", "when = { every = 3 }")), 1);
    assert_eq!(hit(&faults, 0..6), [1, 2, 3, 5]);
    let trace = faults.trace().firings;
    assert_eq!(trace.iter().map(|firing| &firing.rule[..]).collect::<Vec<_>>(), ["a", "b", "a", "a"]);
}

#[test]
fn chance_is_the_seeds_the_rules_and_the_events() {
    let likely = rule("likely", "when = { probability = 0.25 }");
    let hits = hit(&faults(&likely, 5), 0..1000);
    assert!((200..300).contains(&hits.len()), "{}", hits.len());
    assert_eq!(hit(&faults(&likely, 5), 0..1000), hits);
    assert_ne!(hit(&faults(&likely, 6), 0..1000), hits);
    // Another rule, before or behind it, changes nothing: here it takes no event away.
    let never = rule("other", "camera = 7\nwhen = { probability = 0.5 }");
    assert_eq!(hit(&faults(&(never.clone() + &likely), 5), 0..1000), hits);
    assert_eq!(hit(&faults(&(likely.clone() + &never), 5), 0..1000), hits);
    // The action uses a random number of its own, which is reproducible.
    let choice = |faults: &Faults| consult(faults, 0).unwrap().random.next_u64();
    let always = rule("always", "");
    assert_eq!(choice(&faults(&always, 1)), choice(&faults(&always, 1)));
    assert_ne!(choice(&faults(&always, 1)), choice(&faults(&rule("other", ""), 1)));
}

#[test]
fn rules_come_and_go_and_fire_on_demand() {
    let faults = Faults::new(Plan::default(), 1);
    assert_eq!(hit(&faults, 0..3), [0_u32; 0]);
    let later = testing::plan(&rule("later", "when = { nth = 100 }"));
    assert_eq!(faults.add(later.clone()), Ok(()));
    assert_eq!(faults.add(later), Err("later".to_owned()));
    assert_eq!(hit(&faults, 3..6), [0_u32; 0]);
    assert!(faults.trigger("later") && !faults.trigger("never"));
    assert_eq!(hit(&faults, 6..9), [6]);
    let status = &faults.rules()[0];
    assert_eq!((status.name.as_str(), status.events, status.firings), ("later", 6, 1));
    assert!(faults.remove("later") && !faults.remove("later"));
    assert!(faults.rules().is_empty());
    let trace = faults.trace();
    assert!(trace.plan.contains("name = \"later\"") && trace.firings.len() == 1, "{trace:?}");
}

#[test]
fn the_trace_is_in_order_of_frames_and_has_what_changed() {
    let faults = faults(&rule("a", ""), 1);
    for number in [3, 1, 2] {
        let fault = consult(&faults, number).unwrap();
        let change = Change { address: number.into(), before: 0, after: 1 };
        camera(&faults).record(&fault, |firing| firing.changes.push(change));
    }
    let trace = faults.trace().firings;
    assert_eq!(
        serde_json::to_string(&trace[0]).unwrap(),
        r#"{"device":"camera0","frame":1,"on":"frame.dma","rule":"a","event":2,"channel":0,"action":"flip","bits":1,"changes":[{"address":1,"before":0,"after":1}]}"#
    );
    assert_eq!(trace.iter().map(|firing| firing.changes[0].address).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_trace_that_is_written_is_read_the_same() {
    for action in ["flip\"\nbits = 1", "offset\"\nbytes = -8", "stride\"\nbytes = 16", "previous\""] {
        let plan = format!("[[rule]]\nname = \"a\"\non = \"frame.dma\"\naction = \"{action}\n");
        let faults = faults(&plan, 1);
        let fault = consult(&faults, 0).unwrap();
        let change = Change { address: 5, before: 0, after: 1 };
        camera(&faults).record(&fault, |firing| firing.changes.push(change));
        let json = serde_json::to_string(&faults.trace()).unwrap();
        assert_eq!(serde_json::from_str::<Trace>(&json).unwrap(), faults.trace(), "{json}");
    }
}

#[test]
fn the_changes_on_record_have_a_limit_over_all_firings() {
    let faults = faults(&rule("a", ""), 1);
    let change = Change { address: 1, before: 0, after: 1 };
    for (number, count) in [(0, 10), (1, MOST_CHANGES), (2, 5)] {
        let fault = consult(&faults, number).unwrap();
        camera(&faults).record(&fault, |firing| firing.changes = vec![change; count]);
    }
    let trace = faults.trace();
    let kept: Vec<_> = trace.firings.iter().map(|firing| firing.changes.len()).collect();
    assert_eq!((kept, trace.more_changes), (vec![10, MOST_CHANGES - 10, 0], 15));
    // A trace from before the limit has no count.
    let mut json = serde_json::to_value(Trace { firings: Vec::new(), ..trace }).unwrap();
    json.as_object_mut().unwrap().remove("more_changes");
    assert_eq!(serde_json::from_value::<Trace>(json).unwrap().more_changes, 0);
}
