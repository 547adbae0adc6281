//! What becomes of a plan while a machine runs: which rules fire, and the record of it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use chacha20::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    plan::{Action, Device, Plan, Point, Rule, START},
    timeline::{Moment, Timeline, What},
};

/// Most firings on record: more are counted only.
const MOST_FIRINGS: usize = 100_000;

/// Something at which a device consults the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Where.
    pub point: Point,
    /// The camera's number, if it is one's.
    pub camera: Option<u32>,
    /// The virtio device, if it is one's.
    pub device: Option<Device>,
    /// The sensor's number of the frame, if it is one's.
    pub frame: Option<u32>,
    /// The channel, or the queue, if it is one's.
    pub channel: Option<u32>,
    /// The register's offset, if one is accessed.
    pub register: Option<u32>,
    /// What is read there, or written.
    pub value: Option<u32>,
}

impl Event {
    /// One of which nothing is known but where.
    pub const fn new(point: Point) -> Self {
        Self { point, camera: None, device: None, frame: None, channel: None, register: None, value: None }
    }
}

/// What a device does wrong now.
#[derive(Debug)]
pub struct Fault {
    /// What.
    pub action: Action,
    /// For choices that the action leaves open.
    pub random: ChaCha8Rng,
    /// Where the firing is on record.
    firing: Option<usize>,
}

/// A rule that fired. The names are stable in JSON, of which a trace has a line for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firing {
    /// The camera's number, if it was one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera: Option<u32>,
    /// The virtio device, if it was one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// The CMA window, if the tree was to tell of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// The sensor's number of the frame, if it was one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<u32>,
    /// Where.
    pub on: Point,
    /// The rule's name.
    pub rule: String,
    /// Number of the event among those that the rule counts; the first is 1.
    pub event: u64,
    /// The channel, or the queue, if it was one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<u32>,
    /// The register's offset, if one was accessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<u32>,
    /// What the guest wrote there, or would have read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accessed: Option<u32>,
    /// What went wrong.
    #[serde(flatten)]
    pub action: Action,
    /// The guest-physical address to which the frame went instead of where it should, or of the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
    /// Bytes in guest memory that it changed one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// A byte in guest memory that a fault changed, or that was read wrongly from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its guest-physical address.
    pub address: u64,
    /// What it should have been.
    pub before: u8,
    /// What it is.
    pub after: u8,
}

/// What became of a plan, for a report. The names are stable in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The plan, as it was given.
    pub plan: String,
    /// What random choices depended on: the same plan and seed do the same again.
    pub seed: u64,
    /// What fired, by camera, frame and rule.
    pub firings: Vec<Firing>,
    /// Firings more than there is room for on record.
    pub more: u64,
}

/// A rule at work. The names are stable in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// Its name.
    pub name: String,
    /// Where it acts.
    pub on: Point,
    /// What goes wrong.
    #[serde(flatten)]
    pub action: Action,
    /// Events that it counted.
    pub events: u64,
    /// How often it fired.
    pub firings: u64,
}

/// A plan at work, shared by all that consult it. Rules come and go while it is.
#[derive(Debug, Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Whether there are rules, or a timeline: without, nobody waits for the lock.
    any: AtomicBool,
    state: Mutex<State>,
    /// The CMA window that each camera uses, by its name.
    windows: Vec<Option<String>>,
}

#[derive(Debug)]
struct State {
    plan: String,
    seed: u64,
    rules: Vec<(Rule, Counts)>,
    state: String,
    /// What the guest marked last.
    mark: Option<String>,
    timeline: Option<Timeline>,
    firings: Vec<Firing>,
    /// Firings that found no room on record.
    more: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    events: u64,
    firings: u64,
    /// Frames of its cameras.
    frames: u64,
    /// It fires at the next event that it counts.
    triggered: bool,
}

impl Faults {
    /// Lets `plan` begin. Random choices depend on `seed`.
    pub fn new(plan: Plan, seed: u64) -> Self {
        Self::of_machine(plan, seed, Vec::new(), false)
    }

    /// The same for a machine of whose cameras each uses one of the `windows`; with a timeline if `recorded`.
    pub fn of_machine(plan: Plan, seed: u64, windows: Vec<Option<String>>, recorded: bool) -> Self {
        let rules: Vec<_> = plan.rules.into_iter().map(|rule| (rule, Counts::default())).collect();
        let any = AtomicBool::new(!rules.is_empty() || recorded);
        let state = State {
            plan: plan.text,
            seed,
            rules,
            state: START.to_owned(),
            mark: None,
            timeline: recorded.then(Timeline::new),
            firings: Vec::new(),
            more: 0,
        };
        Self { shared: Arc::new(Shared { any, state: Mutex::new(state), windows }) }
    }

    /// What goes wrong at `event`, if anything does.
    #[inline]
    pub fn consult(&self, event: &Event) -> Option<Fault> {
        if self.is_idle() { None } else { self.state().consult(event, &self.shared.windows, None) }
    }

    /// What is wrong with what the tree tells of this CMA window, if anything is.
    pub fn consult_tree(&self, window: &str) -> Option<Fault> {
        self.state().consult(&Event::new(Point::Tree), &self.shared.windows, Some(window))
    }

    /// Whether there is a rule for `point`.
    pub fn acts_on(&self, point: Point) -> bool {
        !self.is_idle() && self.state().rules.iter().any(|(rule, _)| rule.on == point)
    }

    /// The guest marks where it is.
    pub fn mark(&self, text: &str) {
        let mut state = self.state();
        state.mark = Some(text.to_owned());
        state.note(|| What::Mark(text.to_owned()));
    }

    /// `camera` raises its interrupt.
    #[inline]
    pub fn interrupt(&self, camera: u32) {
        if !self.is_idle() {
            self.state().note(|| What::Interrupt { camera });
        }
    }

    /// What happened so far, if that was to be recorded, and since when.
    pub fn timeline(&self) -> Option<(Instant, Vec<Moment>)> {
        self.state().timeline.as_ref().map(|timeline| (timeline.begun, timeline.moments.clone()))
    }

    /// The CMA window that each camera uses, by its name.
    pub fn windows(&self) -> &[Option<String>] {
        &self.shared.windows
    }

    #[inline]
    fn is_idle(&self) -> bool {
        !self.shared.any.load(Ordering::Relaxed)
    }

    /// Adds the rules of `plan` behind those that there are; they count from now on.
    ///
    /// # Errors
    /// If there is a rule of such a name already: its name. Then nothing is added.
    pub fn add(&self, plan: Plan) -> Result<(), String> {
        let mut state = self.state();
        let is_there = |rule: &Rule| state.rules.iter().any(|(other, _)| other.name == rule.name);
        if let Some(rule) = plan.rules.iter().find(|rule| is_there(rule)) {
            return Err(rule.name.clone());
        }
        state.plan += "\n# Added while the machine ran:\n";
        state.plan += &plan.text;
        state.rules.extend(plan.rules.into_iter().map(|rule| (rule, Counts::default())));
        self.shared.any.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the rule `name` away; false if there is none. What it did stays on record.
    pub fn remove(&self, name: &str) -> bool {
        let mut state = self.state();
        let before = state.rules.len();
        state.rules.retain(|(rule, _)| rule.name != name);
        let any = !state.rules.is_empty() || state.timeline.is_some();
        self.shared.any.store(any, Ordering::Relaxed);
        state.rules.len() < before
    }

    /// Lets the rule `name` fire at the next event that it counts, whatever its `when` and `times` say; false if there is none.
    pub fn trigger(&self, name: &str) -> bool {
        let mut state = self.state();
        let rule = state.rules.iter_mut().find(|(rule, _)| rule.name == name);
        rule.map(|(_, counts)| counts.triggered = true).is_some()
    }

    /// The rules, in their order.
    pub fn rules(&self) -> Vec<RuleStatus> {
        let status = |(rule, counts): &(Rule, Counts)| RuleStatus {
            name: rule.name.clone(),
            on: rule.on,
            action: rule.action,
            events: counts.events,
            firings: counts.firings,
        };
        self.state().rules.iter().map(status).collect()
    }

    /// Puts on record what a fault did to guest memory.
    pub fn record(&self, fault: &Fault, put: impl FnOnce(&mut Firing)) {
        if let Some(index) = fault.firing {
            put(&mut self.state().firings[index]);
        }
    }

    /// What became of the plan so far, in an order that does not depend on which thread came first.
    pub fn trace(&self) -> Trace {
        let state = self.state();
        let mut firings = state.firings.clone();
        let place = |name: &str| state.rules.iter().position(|(rule, _)| rule.name == name);
        firings.sort_by_key(|firing| {
            let of = (firing.camera, firing.device.map(|device| device as u32), firing.frame);
            (of, place(&firing.rule), firing.event)
        });
        Trace { plan: state.plan.clone(), seed: state.seed, firings, more: state.more }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn consult(&mut self, event: &Event, windows: &[Option<String>], of_tree: Option<&str>) -> Option<Fault> {
        self.note(|| What::Event(*event));
        let Self { rules, state, mark, seed, .. } = self;
        let of_camera = || event.camera.and_then(|camera| windows.get(camera as usize)?.as_deref());
        let window = of_tree.or_else(of_camera);
        let mut fired = None;
        for (index, (rule, counts)) in rules.iter_mut().enumerate() {
            if !rule.is_of(event, window) {
                continue;
            }
            counts.frames += u64::from(event.point == Point::SensorLink);
            if rule.counts(event, *counts, state, mark.as_deref()) {
                counts.events += 1;
                if fired.is_none() && (counts.triggered || rule.fires(*counts, *seed)) {
                    counts.triggered = false;
                    counts.firings += 1;
                    fired = Some((index, counts.events));
                }
            }
        }
        let (index, number) = fired?;
        let rule = &self.rules[index].0.clone();
        if let Some(next) = &rule.next_state {
            self.state.clone_from(next);
        }
        self.note(|| What::Fired { event: *event, rule: rule.name.clone(), number });
        let firing = if self.firings.len() < MOST_FIRINGS {
            self.firings.push(Firing {
                camera: event.camera,
                device: event.device,
                window: of_tree.map(ToOwned::to_owned),
                frame: event.frame,
                on: event.point,
                rule: rule.name.clone(),
                event: number,
                channel: event.channel,
                register: event.register,
                accessed: event.value,
                action: rule.action,
                address: None,
                changes: Vec::new(),
            });
            Some(self.firings.len() - 1)
        } else {
            self.more += 1;
            None
        };
        let mut random = generator(self.seed, &rule.name, number);
        // The first number is the one that decided whether it fires.
        random.next_u64();
        Some(Fault { action: rule.action, random, firing })
    }

    /// Puts something on the timeline, if there is one.
    fn note(&mut self, what: impl FnOnce() -> What) {
        if let Some(timeline) = &mut self.timeline {
            timeline.note(what());
        }
    }
}

impl Rule {
    /// Whether `event` is of its camera, whose window this is, or device.
    fn is_of(&self, event: &Event, window: Option<&str>) -> bool {
        (self.camera.is_none() || self.camera == event.camera)
            && (self.window.is_none() || self.window.as_deref() == window)
            && (self.device.is_none() || self.device == event.device)
    }

    /// Whether `event`, which is of its camera, is one of those that it counts.
    fn counts(&self, event: &Event, counts: Counts, state: &str, mark: Option<&str>) -> bool {
        let is = |wanted: Option<u32>, is: Option<u32>| wanted.is_none() || wanted == is;
        let when = &self.when;
        self.on == event.point
            && is(self.channel, event.channel)
            && is(when.register, event.register)
            && is(when.value, event.value)
            && self.state.as_deref().is_none_or(|wanted| wanted == state)
            && (when.mark.is_none() || when.mark.as_deref() == mark)
            && when.after.is_none_or(|after| counts.frames > after)
            && when
                .frames
                .as_ref()
                .is_none_or(|frames| event.frame.is_some_and(|frame| frames.contains(&frame)))
    }

    /// Whether it fires at the event that it counted last.
    fn fires(&self, counts: Counts, seed: u64) -> bool {
        let when = &self.when;
        self.times.is_none_or(|times| counts.firings < times)
            && when.nth.is_none_or(|nth| counts.events == nth)
            && when.every.is_none_or(|every| counts.events.is_multiple_of(every))
            && when.probability.is_none_or(|probability| {
                // The upper 53 bits, as many as a float has: from 0 to just below 1.
                let chance = (generator(seed, &self.name, counts.events).next_u64() >> 11) as f64
                    / (1_u64 << 53) as f64;
                chance < probability
            })
    }
}

/// The random numbers of a rule for an event: of their own, whatever other rules and events there are.
fn generator(seed: u64, rule: &str, event: u64) -> ChaCha8Rng {
    let key = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(rule).finalize();
    let mut generator = ChaCha8Rng::from_seed(key.into());
    generator.set_stream(event);
    generator
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(plan: &str, seed: u64) -> Faults {
        Faults::new(Plan::read(plan).unwrap(), seed)
    }

    fn rule(name: &str, rest: &str) -> String {
        format!("[[rule]]\nname = \"{name}\"\non = \"frame.dma\"\naction = \"flip\"\nbits = 1\n{rest}\n")
    }

    fn frame(frame: u32) -> Event {
        Event { camera: Some(0), frame: Some(frame), channel: Some(0), ..Event::new(Point::FrameDma) }
    }

    /// The frames at which something goes wrong.
    fn hit(faults: &Faults, frames: std::ops::Range<u32>) -> Vec<u32> {
        frames.filter(|number| faults.consult(&frame(*number)).is_some()).collect()
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
        let write = |value| Event {
            camera: Some(0),
            register: Some(0x10),
            value: Some(value),
            ..Event::new(Point::MmioWrite)
        };
        let plan = "[[rule]]\nname = \"a\"\non = \"mmio.write\"\naction = \"drop\"\n\
            when = { register = 0x10, value = 3, nth = 2 }\n";
        let by_value = faults(plan, 1);
        let dropped: Vec<bool> = [3, 1, 3, 3].map(|value| by_value.consult(&write(value)).is_some()).to_vec();
        assert_eq!(dropped, [false, false, true, false], "others are not counted");
        assert_eq!(by_value.trace().firings[0].accessed, Some(3));

        let by_mark = faults(&rule("a", "when = { mark = \"go\", every = 2 }"), 1);
        assert_eq!(hit(&by_mark, 0..4), [0_u32; 0]);
        by_mark.mark("go");
        assert_eq!(hit(&by_mark, 4..8), [5, 7]);
        by_mark.mark("stop");
        assert_eq!(hit(&by_mark, 8..12), [0_u32; 0]);

        let windows = || vec![Some("isp".to_owned()), None];
        for (window, fires) in [("isp", true), ("vpu", false)] {
            let plan = Plan::read(&rule("a", &format!("window = \"{window}\""))).unwrap();
            let faults = Faults::of_machine(plan, 1, windows(), false);
            assert_eq!(faults.consult(&frame(0)).is_some(), fires, "{window}");
            assert!(faults.consult(&Event { camera: Some(1), ..frame(0) }).is_none(), "it uses none");
        }

        // Frames of a stream that begins anew count on; those of another camera do not count.
        let after = faults(&rule("a", "camera = 0\nwhen = { after = 3, nth = 2 }"), 1);
        let stream = |camera, numbers: std::ops::Range<u32>| -> Vec<u32> {
            let one = |number| {
                let link = Event { point: Point::SensorLink, camera: Some(camera), ..frame(number) };
                assert!(after.consult(&link).is_none());
                after.consult(&Event { camera: Some(camera), ..frame(number) }).map(|_| number)
            };
            numbers.filter_map(one).collect()
        };
        assert_eq!((stream(0, 0..2), stream(1, 0..9), stream(0, 0..5)), (vec![], vec![], vec![2]));
    }

    #[test]
    fn what_happens_is_on_a_timeline_if_that_is_asked_for() {
        let plan = || Plan::read(&rule("a", "when = { nth = 2 }")).unwrap();
        let faults = Faults::of_machine(plan(), 1, Vec::new(), true);
        hit(&faults, 0..2);
        faults.mark("here");
        faults.interrupt(0);
        let what: Vec<What> = faults.timeline().unwrap().1.into_iter().map(|moment| moment.what).collect();
        assert_eq!(
            what,
            [
                What::Event(frame(0)),
                What::Event(frame(1)),
                What::Fired { event: frame(1), rule: "a".into(), number: 2 },
                What::Mark("here".into()),
                What::Interrupt { camera: 0 },
            ]
        );
        assert!(Faults::new(plan(), 1).timeline().is_none());
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
        // What the action chooses is another number than the one that let it fire, and the same again.
        let choice = |faults: &Faults| faults.consult(&frame(0)).unwrap().random.next_u64();
        let always = rule("always", "");
        assert_eq!(choice(&faults(&always, 1)), choice(&faults(&always, 1)));
        assert_ne!(choice(&faults(&always, 1)), choice(&faults(&rule("other", ""), 1)));
    }

    #[test]
    fn rules_come_and_go_and_fire_on_demand() {
        let faults = Faults::new(Plan::default(), 1);
        assert_eq!(hit(&faults, 0..3), [0_u32; 0]);
        let later = Plan::read(&rule("later", "when = { nth = 100 }")).unwrap();
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
            let fault = faults.consult(&frame(number)).unwrap();
            let change = Change { address: number.into(), before: 0, after: 1 };
            faults.record(&fault, |firing| firing.changes.push(change));
        }
        let trace = faults.trace().firings;
        assert_eq!(
            serde_json::to_string(&trace[0]).unwrap(),
            r#"{"camera":0,"frame":1,"on":"frame.dma","rule":"a","event":2,"channel":0,"action":"flip","bits":1,"changes":[{"address":1,"before":0,"after":1}]}"#
        );
        assert_eq!(trace.iter().map(|firing| firing.changes[0].address).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_trace_that_is_written_is_read_the_same() {
        for action in ["flip\"\nbits = 1", "offset\"\nbytes = -8", "stride\"\nbytes = 16", "previous\""] {
            let plan = format!("[[rule]]\nname = \"a\"\non = \"frame.dma\"\naction = \"{action}\n");
            let faults = faults(&plan, 1);
            let fault = faults.consult(&frame(0)).unwrap();
            let change = Change { address: 5, before: 0, after: 1 };
            faults.record(&fault, |firing| firing.changes.push(change));
            let json = serde_json::to_string(&faults.trace()).unwrap();
            assert_eq!(serde_json::from_str::<Trace>(&json).unwrap(), faults.trace(), "{json}");
        }
    }
}
