//! Reads a plan of faults, and refuses one that cannot be meant.

use std::{
    collections::HashSet,
    ops::{Range, RangeInclusive},
};

use toml::{Spanned, de::DeValue};

use super::{
    fields::{Fields, PlanError, Problem, kind, number},
    plan::{ACTIONS, Action, Device, Plan, Point, Row, Rule, START, When},
};

/// Most rules of a plan: each event asks all that act on its point.
const MOST_RULES: usize = 256;

impl Plan {
    /// Reads a plan, as `--faults` takes it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(text: &str) -> Result<Self, PlanError> {
        read(text).map_err(|problem| problem.located(text))
    }
}

fn read(text: &str) -> Result<Plan, Problem> {
    let mut fields = Fields::of_file("a plan", text)?;
    let span = fields.span.clone();
    let list = fields.take("rule");
    fields.end()?;
    let list = list.ok_or_else(|| Problem::new(span, "a plan has rules; give it at least one [[rule]]"))?;
    Ok(Plan { text: text.to_owned(), rules: rules(list)? })
}

/// The rules of a list of them.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn rules(list: Spanned<DeValue<'_>>) -> Result<Vec<Rule>, Problem> {
    let list_span = list.span();
    let DeValue::Array(list) = list.into_inner() else {
        return Err(Problem::new(list_span, "rules are tables of a list; begin each with [[rule]]"));
    };
    if list.len() > MOST_RULES {
        return Err(Problem::new(
            list_span,
            format!("a plan has at most {MOST_RULES} rules, not {}", list.len()),
        ));
    }
    let (mut rules, mut states) = (Vec::new(), Vec::new());
    let mut names = HashSet::new();
    for value in list {
        let (rule, name, state) = rule(value)?;
        if !names.insert(rule.name.clone()) {
            return Err(Problem::new(
                name,
                format!("there are two rules '{}'; give each a name of its own", rule.name),
            ));
        }
        states.push(state);
        rules.push(rule);
    }
    for (rule, span) in rules.iter().zip(states) {
        let Some(state) = &rule.state else { continue };
        // A rule that only its own firing would let fire does not lead there.
        let reached = state == START
            || rules.iter().any(|other| other.name != rule.name && other.next_state.as_ref() == Some(state));
        if !reached {
            return Err(Problem::new(
                span,
                format!(
                    "rule '{}' can never fire: no other rule has next-state = \"{state}\", and a plan begins in \"{START}\"",
                    rule.name
                ),
            ));
        }
    }
    Ok(rules)
}

/// A rule, where its name is, and where its state is.
fn rule(value: Spanned<DeValue<'_>>) -> Result<(Rule, Range<usize>, Range<usize>), Problem> {
    let mut fields = Fields::new("a rule", value)?;
    let name = fields.needed_text("name")?;
    let on = point(&fields.needed_text("on")?)?;
    let action = action(on, &mut fields)?;
    let when = match fields.take("when") {
        Some(value) => when(on, value)?,
        None => When::default(),
    };
    let times = fields.number("times", 1..i64::MAX)?.map(|times| times.get_ref().unsigned_abs());
    let small = |number: Spanned<i64>| u32::try_from(*number.get_ref()).unwrap_or(u32::MAX);
    let camera = fields.number("camera", 0..8)?;
    let window = fields.text("window")?;
    let channel = fields.number("channel", if on == Point::Queue { 0..16 } else { 0..4 })?;
    let device = fields.text("device")?;
    let refused = |span, what: &str, points: fn(Point) -> bool| {
        let points: Vec<&str> =
            Point::ALL.iter().filter(|(_, point, _)| points(*point)).map(|(name, ..)| *name).collect();
        let text =
            format!("{} is of no {what}; leave {what} out, or act on {}", on.name(), points.join(", "));
        Err(Problem::new(span, text))
    };
    if let Some(channel) = channel.as_ref().filter(|_| !on.is_channel()) {
        return refused(channel.span(), "channel", Point::is_channel);
    }
    if let Some(camera) = camera.as_ref().filter(|_| !on.is_camera()) {
        return refused(camera.span(), "camera", Point::is_camera);
    }
    if let Some(window) = window.as_ref().filter(|_| !on.is_window()) {
        return refused(window.span(), "window", Point::is_window);
    }
    if let Some(device) = device.as_ref().filter(|_| !on.is_device()) {
        return refused(device.span(), "device", Point::is_device);
    }
    let device = device.map(|name| self::device(&name)).transpose()?;
    let state = fields.text("state")?;
    let next_state = fields.text("next-state")?;
    fields.end()?;
    if action == Action::None && next_state.is_none() {
        return Err(Problem::new(
            name.span(),
            format!("rule '{}' does nothing (none) and leads nowhere; give it a next-state", name.get_ref()),
        ));
    }
    if let Some(times) = times.filter(|times| *times > 1)
        && when.nth.is_some()
    {
        return Err(Problem::new(
            name.span(),
            format!(
                "rule '{}' fires at one event (nth), and so not {times} times; leave one out",
                name.get_ref()
            ),
        ));
    }
    let state_span = state.as_ref().map_or(0..0, Spanned::span);
    let name_span = name.span();
    let rule = Rule {
        name: name.into_inner(),
        on,
        action,
        when,
        times,
        camera: camera.map(small),
        window: window.map(Spanned::into_inner),
        channel: channel.map(small),
        device,
        state: state.map(Spanned::into_inner),
        next_state: next_state.map(Spanned::into_inner),
    };
    Ok((rule, name_span, state_span))
}

fn point(name: &Spanned<String>) -> Result<Point, Problem> {
    let named = Point::ALL.iter().find(|(text, _, _)| text == name.get_ref());
    named.map(|(_, point, _)| *point).ok_or_else(|| {
        let all: Vec<&str> = Point::ALL.iter().map(|(text, _, _)| *text).collect();
        Problem::new(
            name.span(),
            format!("there is no point '{}'; the points are {}", name.get_ref(), all.join(", ")),
        )
    })
}

fn action(on: Point, fields: &mut Fields<'_>) -> Result<Action, Problem> {
    let name = fields.needed_text("action")?;
    let is_named = |row: &&Row| row.name == name.get_ref();
    if !ACTIONS.iter().any(|row| is_named(&row)) {
        let all: Vec<&str> = ACTIONS.iter().filter(|row| row.is_of(on)).map(|row| row.name).collect();
        return Err(Problem::new(
            name.span(),
            format!("there is no action '{}'; those of {} are {}", name.get_ref(), on.name(), all.join(", ")),
        ));
    }
    if !ACTIONS.iter().filter(is_named).any(|row| row.is_of(on)) {
        let at: Vec<&str> = ACTIONS.iter().filter(is_named).flat_map(Row::points).map(Point::name).collect();
        return Err(Problem::new(
            name.span(),
            format!("{} is no action of {}; it is one of {}", name.get_ref(), on.name(), at.join(", ")),
        ));
    }
    let several = 1..i64::from(u32::MAX) + 1;
    let from_none = 0..i64::from(u32::MAX) + 1;
    let (from_none_64, several_64) = (0..i64::MAX, 1..i64::MAX);
    let signed = -(1 << 40)..(1 << 40) + 1;
    Ok(match name.get_ref().as_str() {
        "none" => Action::None,
        "move" => Action::Move { base: fields.needed_number("base", from_none_64)? },
        "resize" => Action::Resize { bytes: fields.needed_number("bytes", several_64)? },
        "not-reusable" => Action::NotReusable,
        "no-map" => Action::NoMap,
        "wrong-cells" => Action::WrongCells,
        "no-ranges" => Action::NoRanges,
        "dangling" => Action::Dangling,
        "crowd" => Action::Crowd { count: fields.needed_number("count", 1..257)? },
        "overflow" => Action::Overflow,
        "bus-error" => Action::BusError,
        "link-loss" => Action::LinkLoss { frames: fields.needed_number("frames", several)? },
        "skip" => Action::Skip { frames: fields.needed_number("frames", several)? },
        "stuck" => Action::Stuck,
        "reset" => Action::Reset,
        "spurious" => Action::Spurious,
        "offset" => Action::Offset { bytes: fields.needed_number("bytes", signed)? },
        "stride" => Action::Stride { bytes: fields.needed_number("bytes", signed)? },
        "previous" => Action::Previous,
        "flip" => Action::Flip { bits: fields.needed_number("bits", 1..(1 << 20) + 1)? },
        "short" => Action::Short { lines: fields.needed_number("lines", from_none)? },
        "torn" => Action::Torn { lines: fields.needed_number("lines", from_none)? },
        "long" => Action::Long { lines: fields.needed_number("lines", several)? },
        "duplicate" => Action::Duplicate,
        "early" => Action::Early,
        "swap-planes" => Action::SwapPlanes,
        "timestamp" => Action::Timestamp { nanoseconds: fields.needed_number("nanoseconds", signed)? },
        "sequence" => Action::Sequence { add: fields.needed_number("add", signed)? },
        "lose" => Action::Lose,
        "late" => Action::Late { frames: fields.needed_number("frames", several)? },
        "storm" => Action::Storm { count: fields.needed_number("count", 1..1_000_001)? },
        "ones" => Action::Ones,
        "drop" => Action::Drop,
        "zero" => Action::Zero,
        "drift" => Action::Drift { ppm: fields.needed_number("ppm", -999_999..1_000_001)? },
        "value" => Action::Value { value: fields.needed_number("value", from_none)? },
        "stall" => Action::Stall,
        _ => unreachable!("ACTIONS has no other"),
    })
}

fn device(name: &Spanned<String>) -> Result<Device, Problem> {
    let named = Device::ALL.iter().find(|(text, _)| text == name.get_ref());
    named.map(|(_, device)| *device).ok_or_else(|| {
        let all: Vec<&str> = Device::ALL.iter().map(|(text, _)| *text).collect();
        Problem::new(
            name.span(),
            format!("there is no virtio device '{}'; there are {}", name.get_ref(), all.join(", ")),
        )
    })
}

fn when(on: Point, value: Spanned<DeValue<'_>>) -> Result<When, Problem> {
    let mut fields = Fields::new("when", value)?;
    let span = fields.span.clone();
    let count = |number: Spanned<i64>| number.get_ref().unsigned_abs();
    let nth = fields.number("nth", 1..i64::MAX)?.map(count);
    let every = fields.number("every", 1..i64::MAX)?.map(count);
    let frames = fields.take("frames").map(|value| range(on, &value)).transpose()?;
    let probability = fields.take("probability").map(|value| probability(&value)).transpose()?;
    let register = fields.number("register", 0..0x1000)?;
    let value = fields.number("value", 0..i64::from(u32::MAX) + 1)?;
    let after = fields.number("after", 1..i64::MAX)?.map(count);
    let mark = fields.text("mark")?.map(Spanned::into_inner);
    fields.end()?;
    if let Some(value) = value.as_ref().filter(|_| register.is_none()) {
        return Err(Problem::new(value.span(), "value is that of a register; say which, with register"));
    }
    if nth.is_some() && (every.is_some() || probability.is_some()) {
        return Err(Problem::new(
            span,
            "nth says which event alone; leave out nth, or every and probability",
        ));
    }
    if let Some(register) = &register {
        if !on.is_access() {
            return Err(Problem::new(
                register.span(),
                format!(
                    "{} is no access to a register; leave register out, or act on mmio.read or mmio.write",
                    on.name()
                ),
            ));
        }
        if register.get_ref() % 4 != 0 {
            return Err(Problem::new(register.span(), "registers lie 4 bytes apart; give a multiple of 4"));
        }
    }
    let small = |number: Spanned<i64>| u32::try_from(*number.get_ref()).ok();
    let (register, value) = (register.and_then(small), value.and_then(small));
    Ok(When { nth, every, frames, probability, register, value, after, mark })
}

/// `[first, last]`, frames by the sensor's number.
fn range(on: Point, value: &Spanned<DeValue<'_>>) -> Result<RangeInclusive<u32>, Problem> {
    let span = value.span();
    if !on.is_frame() {
        return Err(Problem::new(
            span,
            format!("{} is of no frame; leave frames out, or count by nth and every", on.name()),
        ));
    }
    let limits = 0..i64::from(u32::MAX) + 1;
    let DeValue::Array(ends) = value.get_ref() else {
        return Err(Problem::new(
            span,
            format!("frames is a list [first, last], not {}", kind(value.get_ref())),
        ));
    };
    let [first, last] = &ends[..] else {
        return Err(Problem::new(span, format!("frames is a list [first, last], not one of {}", ends.len())));
    };
    let number = |value| number("a frame's number", value, &limits).map(|number| *number.get_ref());
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(Problem::new(
            span,
            format!("no frame lies from {first} to {last}; write the smaller one first"),
        ));
    }
    let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(small(first)..=small(last))
}

fn probability(value: &Spanned<DeValue<'_>>) -> Result<f64, Problem> {
    let number = match value.get_ref() {
        DeValue::Float(digits) => digits.as_str().replace('_', "").parse().ok(),
        DeValue::Integer(digits) => digits.as_str().parse().ok(),
        other => {
            return Err(Problem::new(value.span(), format!("probability is a number, not {}", kind(other))));
        }
    };
    match number {
        Some(number) if number > 0.0 && number <= 1.0 => Ok(number),
        Some(0.0) => Err(Problem::new(
            value.span(),
            "with probability 0 the rule can never fire; it is above 0 and at most 1",
        )),
        _ => Err(Problem::new(value.span(), "probability is above 0 and at most 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan of one rule with these fields beside its name.
    fn one(fields: &str) -> Result<Rule, PlanError> {
        Plan::read(&format!("[[rule]]\nname = \"r\"\n{fields}\n")).map(|mut plan| plan.rules.remove(0))
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
                on: Point::FrameDma,
                action: Action::Flip { bits: 3 },
                when,
                times: Some(4),
                camera: Some(1),
                window: Some("isp".into()),
                channel: Some(0),
                device: None,
                state: Some("start".into()),
                next_state: Some("hurt".into()),
            })
        );
        let read = one("on = \"mmio.read\"\naction = \"ones\"\nwhen = { nth = 7, register = 0x18 }").unwrap();
        assert_eq!((read.when.nth, read.when.register), (Some(7), Some(0x18)));
        let mark = one("on = \"irq\"\naction = \"lose\"\nwhen = { after = 9, mark = \"go\" }").unwrap().when;
        assert_eq!((mark.after, mark.mark.as_deref()), (Some(9), Some("go")));
        let queue = one("on = \"queue\"\naction = \"lose\"\ndevice = \"console\"\nchannel = 13").unwrap();
        assert_eq!((queue.device, queue.channel), (Some(Device::Console), Some(13)));
    }

    #[test]
    fn every_action_is_read_at_its_points() {
        for row in ACTIONS {
            let (name, parameter) = (row.name, row.parameter());
            let parameter = if parameter.is_empty() { String::new() } else { format!("{parameter} = 1") };
            for (text, point, _) in Point::ALL {
                let fields =
                    format!("on = \"{text}\"\naction = \"{name}\"\nnext-state = \"next\"\n{parameter}");
                let rule = one(&fields);
                let is_there = ACTIONS.iter().any(|other| other.name == name && other.is_of(*point));
                assert_eq!(rule.is_ok(), is_there, "{name} at {text}: {rule:?}");
                let json = rule.map(|rule| serde_json::to_value(rule.action).unwrap());
                assert!(json.is_err() || json.unwrap()["action"] == name);
            }
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
            (
                "on = \"irq\"\naction = \"lose\"\nwhen = { nth = 0 }",
                "5:16: nth cannot be that; it is at least 1",
            ),
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
            (
                "on = \"irq\"\naction = \"lose\"\nwhen = { register = 4 }",
                "5:21: irq is no access to a register",
            ),
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
                "5:10: irq is of no device; leave device out, or act on queue",
            ),
            (
                "on = \"queue\"\naction = \"lose\"\ndevice = \"disk\"",
                "5:10: there is no virtio device 'disk'; there are console, entropy",
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
            (
                "on = \"irq\"\naction = \"lose\"\nwhen = { mark = 3 }",
                "5:17: mark is a text, not a whole number",
            ),
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
            let error = Plan::read(plan).unwrap_err().to_string();
            assert!(error.starts_with(says), "{plan}: {error}");
        }
        let twice = "[[rule]]\nname = \"a\"\non = \"irq\"\naction = \"lose\"\n".repeat(2);
        assert!(Plan::read(&twice).unwrap_err().to_string().starts_with("6:8: there are two rules 'a'"));
    }
}
