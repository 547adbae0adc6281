//! What a plan of faults is.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// The state that a plan begins with.
pub const START: &str = "start";

macro_rules! points {
    ($($name:ident = $text:literal, $meaning:literal;)*) => {
        /// Where a device consults the plan.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Point {
            $(#[doc = $meaning] #[serde(rename = $text)] $name,)*
        }

        impl Point {
            /// All of them, as they are named in plans.
            pub const ALL: &[(&str, Self, &str)] = &[$(($text, Self::$name, $meaning)),*];

            /// As it is named in plans.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

points! {
    FrameStart = "frame.start", "A frame begins: one event for each frame that the sensor makes.";
    FrameDma = "frame.dma", "A channel is about to write its frame: one event for each frame of a channel.";
    FrameEnd = "frame.end", "A frame of a channel is written, and `CH_DONE_*` is about to tell of it.";
    Irq = "irq", "A channel's `IRQ_DONE` is about to raise the interrupt: one event for each frame of a channel.";
    MmioRead = "mmio.read", "The guest reads a register.";
    MmioWrite = "mmio.write", "The guest writes a register.";
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// The line buffer overflows in the middle of the frame, which is lost, and `IRQ_OVERFLOW` says so.
    Overflow,
    /// The bus refuses the frame's first address: the frame is lost, and `IRQ_BUS_ERROR` says so.
    BusError,
    /// The sensor's link is lost for so many frames, and `IRQ_SYNC_LOSS` says so at the first.
    LinkLoss {
        /// How many.
        frames: u32,
    },
    /// The sensor's number of the frame jumps by so many.
    Skip {
        /// How many.
        frames: u32,
    },
    /// The frame stays in work until the device is reset.
    Stuck,
    /// The registers take their reset values.
    Reset,
    /// The interrupt is raised with no event.
    Spurious,
    /// The frame is written so many bytes away from where it should: also outside the posted buffer, within RAM.
    Offset {
        /// How far up, or down if it is negative.
        bytes: i64,
    },
    /// Lines lie so many bytes further apart than they should: also beyond the posted buffer, within RAM.
    Stride {
        /// How much further, or nearer if it is negative.
        bytes: i64,
    },
    /// The frame is written to the buffer of the channel's last one.
    Previous,
    /// So many bits of the frame are flipped.
    Flip {
        /// How many.
        bits: u32,
    },
    /// So many lines are written, and `CH_DONE_BYTES` tells of no more.
    Short {
        /// How many.
        lines: u32,
    },
    /// So many lines are written, and nothing tells of it.
    Torn {
        /// How many; none leaves what was in the buffer before.
        lines: u32,
    },
    /// The sensor sends so many lines more: as far as `CH_LEN*` of the last plane lets it, they are written; else the frame is
    /// lost, and `IRQ_OVERFLOW` says so.
    Long {
        /// How many.
        lines: u32,
    },
    /// The channel's last frame is written again.
    Duplicate,
    /// The frame is told of before it is written.
    Early,
    /// The first two planes are exchanged.
    SwapPlanes,
    /// `CH_DONE_TIME_*` is wrong by so much.
    Timestamp {
        /// In nanoseconds, backwards if it is negative.
        nanoseconds: i64,
    },
    /// `CH_DONE_SEQUENCE` is wrong by so much.
    Sequence {
        /// How much.
        add: i64,
    },
    /// The interrupt is not raised.
    Lose,
    /// The interrupt is raised only with that of the channel's frame so many frames later.
    Late {
        /// How many.
        frames: u32,
    },
    /// The interrupt is raised again each time that the guest reads `IRQ_STATUS`.
    Storm {
        /// How many times.
        count: u32,
    },
    /// The register reads as all ones, as one behind a dead link.
    Ones,
    /// Nothing is written to the register.
    Drop,
}

/// The actions by name, with the points at which each makes sense, the parameter that it has, if any, and its meaning.
pub(super) const ACTIONS: &[(&str, &[Point], &str, &str)] = &[
    (
        "overflow",
        &[Point::FrameDma],
        "",
        "The line buffer overflows in the middle of the frame, which is lost, `IRQ_OVERFLOW`.",
    ),
    (
        "bus-error",
        &[Point::FrameDma],
        "",
        "The bus refuses the frame's first address: the frame is lost, `IRQ_BUS_ERROR`.",
    ),
    (
        "link-loss",
        &[Point::FrameStart],
        "frames",
        "The sensor's link is lost for so many frames, `IRQ_SYNC_LOSS` at the first.",
    ),
    ("skip", &[Point::FrameStart], "frames", "The sensor's number of the frame jumps by so many."),
    ("stuck", &[Point::FrameStart], "", "The frame stays in work until the device is reset."),
    ("reset", &[Point::FrameStart], "", "The registers take their reset values."),
    (
        "spurious",
        &[Point::FrameStart, Point::MmioWrite],
        "",
        "The interrupt is raised with no event; at a write, which is done, after it.",
    ),
    (
        "offset",
        &[Point::FrameDma],
        "bytes",
        "The frame is written so many bytes further up, or down, anywhere in RAM.",
    ),
    (
        "stride",
        &[Point::FrameDma],
        "bytes",
        "Lines lie so many bytes further apart, or nearer, anywhere in RAM.",
    ),
    ("previous", &[Point::FrameDma], "", "The frame is written to the buffer of the channel's last one."),
    ("flip", &[Point::FrameDma], "bits", "So many bits of the frame are flipped."),
    (
        "short",
        &[Point::FrameDma],
        "lines",
        "So many lines are written, and `CH_DONE_BYTES` tells of no more.",
    ),
    (
        "torn",
        &[Point::FrameDma],
        "lines",
        "So many lines are written, and nothing tells of it; 0 leaves what was there before.",
    ),
    (
        "long",
        &[Point::FrameDma],
        "lines",
        "So many lines more are written, and `CH_DONE_BYTES` tells of them, if `CH_LEN*` of the last plane has room; else the \
         frame is lost, `IRQ_OVERFLOW`.",
    ),
    ("duplicate", &[Point::FrameDma], "", "The channel's last frame is written again."),
    ("early", &[Point::FrameDma], "", "The frame is told of before it is written."),
    ("swap-planes", &[Point::FrameDma], "", "The first two planes are exchanged."),
    (
        "timestamp",
        &[Point::FrameEnd],
        "nanoseconds",
        "`CH_DONE_TIME_*` is wrong by so much, backwards if it is negative.",
    ),
    ("sequence", &[Point::FrameEnd], "add", "`CH_DONE_SEQUENCE` is wrong by so much."),
    ("lose", &[Point::Irq], "", "The interrupt is not raised."),
    (
        "late",
        &[Point::Irq],
        "frames",
        "The interrupt is raised only with that of the channel's frame so many frames later.",
    ),
    (
        "storm",
        &[Point::Irq],
        "count",
        "The interrupt is raised again at each of so many reads of `IRQ_STATUS`.",
    ),
    ("ones", &[Point::MmioRead], "", "The register reads as all ones, as one behind a dead link."),
    ("drop", &[Point::MmioWrite], "", "Nothing is written to the register."),
];

/// The names of all actions.
pub fn action_names() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(name, ..)| *name)
}

/// At which of its point's events a rule fires; all of what is given must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct When {
    /// The event with this number alone; the first is 1.
    pub nth: Option<u64>,
    /// Every so many events.
    pub every: Option<u64>,
    /// While the sensor's number of the frame is one of these.
    pub frames: Option<RangeInclusive<u32>>,
    /// With this probability, above 0 and at most 1.
    pub probability: Option<f64>,
    /// At this offset among the registers, for accesses to them.
    pub register: Option<u32>,
}

/// A rule: where, when and how often something goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, which no other rule of the plan has.
    pub name: String,
    /// Where it acts.
    pub on: Point,
    /// What goes wrong.
    pub action: Action,
    /// At which events.
    pub when: When,
    /// How often at most; none: each time.
    pub times: Option<u64>,
    /// The camera whose events it counts; none: those of all.
    pub camera: Option<u32>,
    /// The channel whose events it counts; none: those of all.
    pub channel: Option<u32>,
    /// The state in which it counts events; none: in any.
    pub state: Option<String>,
    /// The state that follows when it has fired.
    pub next_state: Option<String>,
}

/// A plan of faults.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// As it was read.
    pub text: String,
    /// The rules. Where several fire at an event, the first is done, and the others take the event for one that was not theirs.
    pub rules: Vec<Rule>,
}

impl Plan {
    /// A plan of these rules.
    pub fn of(rules: Vec<Rule>) -> Self {
        Self { text: rules.iter().map(Rule::to_toml).collect::<Vec<_>>().join("\n"), rules }
    }
}

impl Rule {
    /// As it stands in a plan.
    fn to_toml(&self) -> String {
        // What JSON has for texts and numbers, TOML has too.
        let json = |value: serde_json::Value| value.to_string();
        let mut lines = vec!["[[rule]]".to_owned()];
        let mut put = |name: &str, value: Option<String>| {
            lines.extend(value.map(|value| format!("{name} = {value}")));
        };
        put("name", Some(json(self.name.as_str().into())));
        put("on", Some(json(self.on.name().into())));
        if let Ok(serde_json::Value::Object(action)) = serde_json::to_value(self.action) {
            action.into_iter().for_each(|(name, value)| put(&name, Some(json(value))));
        }
        let When { nth, every, frames, probability, register } = &self.when;
        let when = [
            nth.map(|nth| format!("nth = {nth}")),
            every.map(|every| format!("every = {every}")),
            frames.as_ref().map(|frames| format!("frames = [{}, {}]", frames.start(), frames.end())),
            probability.map(|probability| format!("probability = {probability:?}")),
            register.map(|register| format!("register = {register:#x}")),
        ];
        let when: Vec<String> = when.into_iter().flatten().collect();
        put("when", (!when.is_empty()).then(|| format!("{{ {} }}", when.join(", "))));
        put("times", self.times.map(|times| times.to_string()));
        put("camera", self.camera.map(|camera| camera.to_string()));
        put("channel", self.channel.map(|channel| channel.to_string()));
        put("state", self.state.as_deref().map(|state| json(state.into())));
        put("next-state", self.next_state.as_deref().map(|state| json(state.into())));
        lines.push(String::new());
        lines.join("\n")
    }
}

/// The points and actions as tables in Markdown, for the page that tells how a plan is written.
pub fn reference() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "# Faults on purpose\n\n\
         Made from `devices/src/faults/plan.rs` and `plan.md`: a test there holds them equal, and says how to make this anew.\n\n",
    );
    out += include_str!("plan.md");
    out += "\n## Points\n\n| on | an event is |\n|---|---|\n";
    for (name, _, meaning) in Point::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| `{name}` | {meaning} |");
    }
    out += "\n## Actions\n\n| on | action | parameter | what goes wrong |\n|---|---|---|---|\n";
    for (name, points, parameter, meaning) in ACTIONS {
        let points: Vec<String> = points.iter().map(|point| format!("`{}`", point.name())).collect();
        let parameter = if parameter.is_empty() { String::new() } else { format!("`{parameter}`") };
        let _ = writeln!(out, "| {} | `{name}` | {parameter} | {meaning} |", points.join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_is_written_is_read_the_same() {
        let text = "[[rule]]\nname = \"a \\\"b\\\"\"\non = \"frame.dma\"\naction = \"offset\"\nbytes = -4096\n\
            when = { every = 2, frames = [3, 9], probability = 1.0 }\ntimes = 4\ncamera = 1\nchannel = 0\n\
            next-state = \"hurt\"\n\n[[rule]]\nname = \"c\"\non = \"mmio.read\"\naction = \"ones\"\n\
            when = { nth = 7, register = 0x18 }\nstate = \"hurt\"\n";
        let rules = Plan::read(text).unwrap().rules;
        let written = Plan::of(rules.clone());
        assert_eq!(Plan::read(&written.text).unwrap().rules, rules, "{}", written.text);
    }

    #[test]
    fn the_page_is_this_table() {
        let (path, made) = (concat!(env!("CARGO_MANIFEST_DIR"), "/FAULTS.md"), reference());
        if std::env::var_os("UPDATE_HEADER").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == made,
            "{path} differs from the table; make it anew with UPDATE_HEADER=1 cargo test -p devices"
        );
    }
}
