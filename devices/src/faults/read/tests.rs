//! Tests of reading plans.

use super::{super::testing::TABLES, *};

/// A plan of one rule with these fields beside its name.
fn one(fields: &str) -> Result<Rule, PlanError> {
    Plan::read(&format!("[[rule]]\nname = \"r\"\n{fields}\n"), TABLES).map(|mut plan| plan.rules.remove(0))
}

#[test]
fn all_that_a_rule_can_have() {
    let rule = one("on = \"frame.dma\"\naction = \"flip\"\nbits = 3\n\
         when = { every = 0x2, frames = [10, 20], probability = 0.25 }\n\
         times = 4\ncamera = 1\nwindow = \"isp\"\nchannel = 0\nstate = \"start\"\nnext-state = \"hurt\"");
    let when = When { every: Some(2), frames: Some(10..=20), probability: Some(0.25), ..When::default() };
    assert_eq!(
        rule,
        Ok(Rule {
            name: "r".into(),
            on: "frame.dma",
            action: Action::new("flip", Some(("bits", 3))),
            when,
            times: Some(4),
            device: Some("camera1".into()),
            window: Some("isp".into()),
            channel: Some(0),
            state: Some("start".into()),
            next_state: Some("hurt".into()),
        })
    );
    let read = one("on = \"mmio.read\"\naction = \"ones\"\nwhen = { nth = 7, register = 0x18 }").unwrap();
    assert_eq!((read.when.nth, read.when.register), (Some(7), Some(0x18)));
    let mark = one("on = \"irq\"\naction = \"lose\"\nwhen = { after = 9, mark = \"go\" }").unwrap().when;
    assert_eq!((mark.after, mark.mark.as_deref()), (Some(9), Some("go")));
    let queue = one("on = \"queue\"\naction = \"lose\"\ndevice = \"console\"\nchannel = 13").unwrap();
    assert_eq!((queue.device.as_deref(), queue.channel), (Some("console"), Some(13)));
}

#[test]
fn every_action_is_read_at_its_points() {
    let words = Vocabulary(TABLES);
    for row in words.all().flat_map(|(_, point)| point.actions) {
        let parameter =
            row.parameter.as_ref().map_or(String::new(), |parameter| format!("{} = 1", parameter.name));
        for (_, point) in words.all() {
            let rule = one(&format!("on = \"{}\"\naction = \"{}\"\n{parameter}", point.name, row.name));
            assert_eq!(rule.is_ok(), has_action(point, row.name), "{} at {}: {rule:?}", row.name, point.name);
            let json = rule.map(|rule| serde_json::to_value(rule.action).unwrap());
            assert!(json.is_err() || json.unwrap()["action"] == row.name);
        }
    }
}

/// Two devices may have a point and an action of the same name, with other parameters.
#[test]
fn a_device_decides_which_action_is_meant() {
    crate::faults::fault_point! {
        /// An interrupt.
        enum Irq = "irq" [] {
            /// It comes late.
            Late { milliseconds: u32 in 1..=100 } = "late",
            /// It has gone.
            Gone = "gone",
        }
    }
    use crate::faults::FaultPoint as _;
    static TIMER: Table = Table {
        title: "Timer",
        ids: Ids::Numbered("timer"),
        windows: false,
        channels: 0,
        channel_names: &[],
        points: &[Irq::POINT],
    };
    let tables = [TABLES, &[&TIMER]].concat();
    let read = |rest: &str| {
        let text = format!("[[rule]]\nname = \"r\"\non = \"irq\"\n{rest}\n");
        Plan::read(&text, &tables).map(|mut plan| plan.rules.remove(0)).map_err(|error| error.to_string())
    };
    let late = |name, value| Action::new("late", Some((name, value)));
    assert_eq!(read("action = \"late\"\nframes = 2").unwrap().action, late("frames", 2));
    let timer = read("action = \"late\"\nmilliseconds = 2\ntimer = 1").unwrap();
    assert_eq!((timer.action, timer.device.as_deref()), (late("milliseconds", 2), Some("timer1")));
    assert!(read("action = \"gone\"\ndevice = \"timer0\"").is_ok());
    for (rest, says) in [
        ("action = \"late\"\nframes = 2\ntimer = 0", "6:9: irq is of no timer; leave timer out, or act on"),
        (
            "action = \"gone\"\ncamera = 0",
            "5:10: irq is of no camera; leave camera out, or act on sensor.link",
        ),
        ("action = \"late\"\nmilliseconds = 101", "5:16: milliseconds cannot be that; it is from 1 to 100"),
        ("action = \"gone\"\ncamera = 0\ndevice = \"timer0\"", "6:10: device is there beside camera"),
    ] {
        let error = read(rest).unwrap_err();
        assert!(error.starts_with(says), "{rest}: {error}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    for (fields, says) in [
        ("on = \"frame\"", "3:6: there is no point 'frame'; the points are tree, sensor.link,"),
        ("on = 3", "3:6: on is a text, not a whole number"),
        ("action = \"lose\"", "1:1: a rule has no on; give it one"),
        (
            "on = \"irq\"\naction = \"loose\"",
            "4:10: there is no action 'loose'; those of irq are none, lose, late, duplicate, storm",
        ),
        (
            "on = \"frame.dma\"\naction = \"lose\"",
            "4:10: lose is no action of frame.dma; it is one of irq, queue",
        ),
        ("on = \"irq\"\naction = \"late\"", "1:1: a rule has no frames; give it one"),
        (
            "on = \"irq\"\naction = \"lose\"\nbits = 1",
            "5:1: a rule has no 'bits'; it has name, on, action, when",
        ),
        ("on = \"irq\"\naction = \"lose\"\nwhen = { nth = 0 }", "5:16: nth cannot be that; it is at least 1"),
        ("on = \"irq\"\naction = \"lose\"\nwhen = 3", "5:8: when is a table, not a whole number"),
        (
            "on = \"irq\"\naction = \"lose\"\nwhen = { probability = 1.5 }",
            "5:24: probability is above 0 and at most 1",
        ),
        (
            "on = \"irq\"\naction = \"lose\"\nwhen = { probability = 0 }",
            "5:24: with probability 0 the rule can never fire",
        ),
        (
            "on = \"irq\"\naction = \"lose\"\nwhen = { nth = 2, every = 3 }",
            "5:8: nth says which event alone; leave out nth, or every",
        ),
        (
            "on = \"irq\"\naction = \"lose\"\nwhen = { nth = 2 }\ntimes = 2",
            "2:8: rule 'r' fires at one event (nth)",
        ),
        (
            "on = \"irq\"\naction = \"lose\"\nwhen = { frames = [9, 3] }",
            "5:19: no frame lies from 9 to 3; write the smaller one first",
        ),
        ("on = \"irq\"\naction = \"lose\"\nwhen = { register = 4 }", "5:21: irq is no access to a register"),
        (
            "on = \"mmio.read\"\naction = \"ones\"\nwhen = { register = 6 }",
            "5:21: registers lie 4 bytes apart; give a multiple of 4",
        ),
        (
            "on = \"mmio.read\"\naction = \"ones\"\nwhen = { frames = [1, 2] }",
            "5:19: mmio.read is of no frame; leave frames out",
        ),
        ("on = \"irq\"\naction = \"lose\"\ntimes = 0", "5:9: times cannot be that; it is at least 1"),
        ("on = \"frame.start\"\naction = \"stuck\"\nchannel = 1", "5:11: frame.start is of no channel"),
        (
            "on = \"queue\"\naction = \"lose\"\ncamera = 1",
            "5:10: queue is of no camera; leave camera out, or act on sensor.link",
        ),
        ("on = \"queue\"\naction = \"lose\"\nwindow = \"isp\"", "5:10: queue is of no window"),
        (
            "on = \"irq\"\naction = \"lose\"\ndevice = \"console\"",
            "5:10: irq is of no console; leave device out, or act on queue",
        ),
        (
            "on = \"queue\"\naction = \"lose\"\ndevice = \"disk\"",
            "5:10: there is no device 'disk'; devices are called camera0, camera1 and so on, console, entropy",
        ),
        ("on = \"irq\"\naction = \"none\"", "2:8: rule 'r' does nothing (none) and leads nowhere"),
        (
            "on = \"mmio.read\"\naction = \"ones\"\nwhen = { value = 6 }",
            "5:18: value is that of a register; say which, with register",
        ),
        (
            "on = \"irq\"\naction = \"lose\"\nwhen = { after = 0 }",
            "5:18: after cannot be that; it is at least 1",
        ),
        ("on = \"irq\"\naction = \"lose\"\nwhen = { mark = 3 }", "5:17: mark is a text, not a whole number"),
        (
            "on = \"irq\"\naction = \"lose\"\nstate = \"hurt\"\nnext-state = \"hurt\"",
            "5:9: rule 'r' can never fire: no other rule has next-state = \"hurt\"",
        ),
        ("on = \"irq", "3:10: this is no TOML: "),
    ] {
        let error = one(fields).unwrap_err().to_string();
        assert!(error.starts_with(says), "{fields}: {error}");
    }
    for (plan, says) in [
        ("", "1:1: a plan has rules; give it at least one [[rule]]"),
        ("rule = 3", "1:8: rules are tables of a list; begin each with [[rule]]"),
        ("rules = []", "1:1: a plan has no 'rules'; it has rule"),
    ] {
        let error = Plan::read(plan, TABLES).unwrap_err().to_string();
        assert!(error.starts_with(says), "{plan}: {error}");
    }
    let twice = "[[rule]]\nname = \"a\"\non = \"irq\"\naction = \"lose\"\n".repeat(2);
    assert!(Plan::read(&twice, TABLES).unwrap_err().to_string().starts_with("6:8: there are two rules 'a'"));
}
