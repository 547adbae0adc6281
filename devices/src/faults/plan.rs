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
    Tree = "tree", "A CMA window's node is put into the device tree, before the guest boots: one event for each, in their order.";
    SensorLink = "sensor.link", "The sensor is about to send a frame: one event for each, but for those that a lost link takes.";
    FrameStart = "frame.start", "A frame begins in the device: one event for each that the sensor sends.";
    Params = "params", "A buffer of parameters is about to be taken.";
    FrameDma = "frame.dma", "A channel is about to write its frame: one event for each frame of a channel.";
    FrameLine = "frame.line", "A line of the first plane is written, of a frame that no rule of frame.dma changes: one event for each, from \
        the top.";
    Stats = "stats", "The statistics of a frame are about to be written.";
    FrameEnd = "frame.end", "A frame of a channel is written, and `CH_DONE_*` is about to tell of it.";
    Irq = "irq", "A channel's `IRQ_DONE` is about to raise the interrupt: one event for each frame of a channel.";
    MmioRead = "mmio.read", "The guest reads a register.";
    MmioWrite = "mmio.write", "The guest writes a register.";
    Queue = "queue", "A virtio device is about to give a request back to the guest's driver.";
}

impl Point {
    /// Whether its events are a camera's.
    pub(super) fn is_camera(self) -> bool {
        !self.is_device() && self != Self::Tree
    }

    /// Whether its events are of a CMA window, or of a camera that uses one.
    pub(super) fn is_window(self) -> bool {
        !self.is_device()
    }

    /// Whether its events are a virtio device's.
    pub(super) fn is_device(self) -> bool {
        self == Self::Queue
    }

    /// Whether its events are of a frame.
    pub(super) fn is_frame(self) -> bool {
        self.is_camera() && !self.is_access()
    }

    /// Whether its events are of a channel, or of a queue.
    pub(super) fn is_channel(self) -> bool {
        matches!(self, Self::FrameDma | Self::FrameLine | Self::FrameEnd | Self::Irq | Self::Queue)
    }

    /// Whether its events are accesses to a register.
    pub(super) fn is_access(self) -> bool {
        matches!(self, Self::MmioRead | Self::MmioWrite)
    }
}

/// A virtio device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The terminal, and the ports of the guest's agent.
    Console,
    /// The one with random bytes.
    Entropy,
}

impl Device {
    /// All of them, as they are named in plans.
    pub(super) const ALL: [(&str, Self); 2] = [("console", Self::Console), ("entropy", Self::Entropy)];
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Nothing goes wrong: what follows is the rule's next state.
    None,
    /// The tree has the window at another address.
    Move {
        /// Its first address.
        base: u64,
    },
    /// The tree has the window with another size.
    Resize {
        /// In bytes.
        bytes: u64,
    },
    /// The window's node has no `reusable`.
    NotReusable,
    /// The window's node has `no-map` beside `reusable`.
    NoMap,
    /// `/reserved-memory` has one cell for an address and one for a size.
    WrongCells,
    /// `/reserved-memory` has no `ranges`.
    NoRanges,
    /// The window's node has another phandle than the cameras' `memory-region` has.
    Dangling,
    /// Before the window's node there are others.
    Crowd {
        /// How many.
        count: u32,
    },
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
    /// So many bits are flipped.
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
    /// What came last comes again: the channel's last frame, the line above, the last statistics, the interrupt.
    Duplicate,
    /// What is written is zero.
    Zero,
    /// The frame is told of before it is written.
    Early,
    /// The first two planes are exchanged.
    SwapPlanes,
    /// `CH_DONE_TIME_*` is wrong by so much.
    Timestamp {
        /// In nanoseconds, backwards if it is negative.
        nanoseconds: i64,
    },
    /// The sensor's clock is fast from now on.
    Drift {
        /// By so many parts per million; slow if it is negative.
        ppm: i64,
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
    /// It is as if what is handed over, to a register or in a buffer, had been taken.
    Drop,
    /// The register has this value instead.
    Value {
        /// Which.
        value: u32,
    },
    /// The request is never given back.
    Stall,
}

/// What an action does at some points.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Where it makes sense; none: everywhere.
    points: &'static [Point],
    /// What it needs to be told, if anything.
    parameter: &'static str,
    meaning: &'static str,
}

impl Row {
    /// Whether `point` is one of its.
    pub(super) fn is_of(&self, point: Point) -> bool {
        self.points.is_empty() || self.points.contains(&point)
    }

    /// Where it makes sense.
    pub(super) fn points(&self) -> Vec<Point> {
        Point::ALL.iter().map(|(_, point, _)| *point).filter(|point| self.is_of(*point)).collect()
    }

    #[cfg(test)]
    pub(super) fn parameter(&self) -> &'static str {
        self.parameter
    }
}

const fn row(
    name: &'static str,
    points: &'static [Point],
    parameter: &'static str,
    meaning: &'static str,
) -> Row {
    Row { name, points, parameter, meaning }
}

/// The actions, in the order in which a frame meets them. A name may have a meaning of its own at each point.
pub(super) const ACTIONS: &[Row] = &[
    row("none", &[], "", "Nothing: the rule is there for its `next-state`."),
    row("move", &[Point::Tree], "base", "The window is said to be at this address, whatever is there."),
    row("resize", &[Point::Tree], "bytes", "The window is said to have so many bytes."),
    row("not-reusable", &[Point::Tree], "", "The window's node has no `reusable`."),
    row("no-map", &[Point::Tree], "", "The window's node has `no-map`."),
    row(
        "wrong-cells",
        &[Point::Tree],
        "",
        "`/reserved-memory` has one cell for addresses and one for sizes, and the root has two.",
    ),
    row("no-ranges", &[Point::Tree], "", "`/reserved-memory` has no `ranges`."),
    row("dangling", &[Point::Tree], "", "The cameras' `memory-region` leads to no node."),
    row(
        "crowd",
        &[Point::Tree],
        "count",
        "Before the window's node there are so many more, each with a page of its own below the window.",
    ),
    row(
        "link-loss",
        &[Point::SensorLink],
        "frames",
        "The link is lost for so many frames, `IRQ_SYNC_LOSS` at the first.",
    ),
    row("skip", &[Point::SensorLink], "frames", "The sensor's number of the frame jumps by so many."),
    row("stuck", &[Point::FrameStart], "", "The frame stays in work until the device is reset."),
    row("reset", &[Point::FrameStart], "", "The registers take their reset values."),
    row(
        "spurious",
        &[Point::FrameStart, Point::MmioWrite],
        "",
        "The interrupt is raised with no event; at a write, which is done, after it.",
    ),
    row(
        "drift",
        &[Point::FrameStart],
        "ppm",
        "The sensor's clock, in `CH_DONE_TIME_*`, is so many parts per million fast from the next frame on, or slow.",
    ),
    row("drop", &[Point::Params], "", "The parameters are told of as taken, and are not."),
    row("flip", &[Point::Params], "bits", "So many bits of the parameters are read wrongly."),
    row(
        "overflow",
        &[Point::FrameDma],
        "",
        "The line buffer overflows in the middle of the frame, which is lost, `IRQ_OVERFLOW`.",
    ),
    row(
        "bus-error",
        &[Point::FrameDma],
        "",
        "The bus refuses the frame's first address: the frame is lost, `IRQ_BUS_ERROR`.",
    ),
    row(
        "offset",
        &[Point::FrameDma],
        "bytes",
        "The frame is written so many bytes further up, or down, anywhere in RAM.",
    ),
    row(
        "stride",
        &[Point::FrameDma],
        "bytes",
        "Lines lie so many bytes further apart, or nearer, anywhere in RAM.",
    ),
    row("previous", &[Point::FrameDma], "", "The frame is written to the buffer of the channel's last one."),
    row("flip", &[Point::FrameDma], "bits", "So many bits of the frame are flipped."),
    row(
        "short",
        &[Point::FrameDma],
        "lines",
        "So many lines are written, and `CH_DONE_BYTES` tells of no more.",
    ),
    row(
        "torn",
        &[Point::FrameDma],
        "lines",
        "So many lines are written, and nothing tells of it; 0 leaves what was there before.",
    ),
    row(
        "long",
        &[Point::FrameDma],
        "lines",
        "So many lines more are written, and `CH_DONE_BYTES` tells of them, if `CH_LEN*` of the last plane has room; else the \
                  frame is lost, `IRQ_OVERFLOW`.",
    ),
    row("duplicate", &[Point::FrameDma], "", "The channel's last frame is written again."),
    row("early", &[Point::FrameDma], "", "The frame is told of before it is written."),
    row("swap-planes", &[Point::FrameDma], "", "The first two planes are exchanged."),
    row("flip", &[Point::FrameLine], "bits", "So many bits of the line are flipped."),
    row("duplicate", &[Point::FrameLine], "", "The line is the one above again."),
    row("zero", &[Point::FrameLine], "", "The line is zero."),
    row(
        "drop",
        &[Point::Stats],
        "",
        "The statistics are told of as written, and are not: what was there before is there.",
    ),
    row("duplicate", &[Point::Stats], "", "The last statistics are written again."),
    row("flip", &[Point::Stats], "bits", "So many bits of the statistics are flipped."),
    row("zero", &[Point::Stats], "", "The statistics are zero."),
    row(
        "timestamp",
        &[Point::FrameEnd],
        "nanoseconds",
        "`CH_DONE_TIME_*` is wrong by so much, backwards if it is negative.",
    ),
    row("sequence", &[Point::FrameEnd], "add", "`CH_DONE_SEQUENCE` is wrong by so much."),
    row("lose", &[Point::Irq], "", "The interrupt is not raised."),
    row(
        "late",
        &[Point::Irq],
        "frames",
        "The interrupt is raised only with that of the channel's frame so many frames later.",
    ),
    row(
        "duplicate",
        &[Point::Irq],
        "",
        "The interrupt is raised a second time when the guest has written `IRQ_STATUS`.",
    ),
    row(
        "storm",
        &[Point::Irq],
        "count",
        "The interrupt is raised again at each of so many reads of `IRQ_STATUS`.",
    ),
    row("ones", &[Point::MmioRead], "", "The register reads as all ones, as one behind a dead link."),
    row("drop", &[Point::MmioWrite], "", "Nothing is written to the register."),
    row(
        "flip",
        &[Point::MmioRead, Point::MmioWrite],
        "bits",
        "So many bits of the value are flipped on the way.",
    ),
    row("value", &[Point::MmioRead, Point::MmioWrite], "value", "This value is read, or written, instead."),
    row("lose", &[Point::Queue], "", "The request is given back, and no interrupt tells of it."),
    row(
        "stall",
        &[Point::Queue],
        "",
        "The request is never given back: the driver has it again when it resets the device.",
    ),
];

/// All actions: the name of each, and the points at which it does this.
pub fn actions() -> impl Iterator<Item = (&'static str, Vec<Point>)> {
    ACTIONS.iter().map(|row| (row.name, row.points()))
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
    /// While this is the value that is read or written there.
    pub value: Option<u32>,
    /// From the frame on that follows so many of the rule's cameras, counted since the rule is there.
    pub after: Option<u64>,
    /// While this is the last mark that the guest made.
    pub mark: Option<String>,
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
    /// The CMA window whose events, or cameras' events, it counts; none: those of all.
    pub window: Option<String>,
    /// The channel, or the queue, whose events it counts; none: those of all.
    pub channel: Option<u32>,
    /// The virtio device whose events it counts; none: those of all.
    pub device: Option<Device>,
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

    /// Whether the cameras are there that the rules are of, and the windows: of each camera `windows` has the name of the one that
    /// it uses, and the `tree` has those, if the guest has not read it yet.
    ///
    /// # Errors
    /// If not: a sentence that says which.
    pub fn check(&self, windows: &[Option<String>], tree: Option<&[&str]>) -> Result<(), String> {
        for Rule { name, on, camera, window, .. } in &self.rules {
            if *on == Point::Tree {
                let window = window.as_deref();
                let Some(tree) = tree else {
                    return Err(format!(
                        "rule '{name}' acts on the tree, which the guest has read; give it with --faults"
                    ));
                };
                if window.map_or(tree.is_empty(), |window| !tree.contains(&window)) {
                    return Err(format!(
                        "rule '{name}' is of {} in the tree, which has {}",
                        window.map_or("a CMA window".to_owned(), |window| format!("the window '{window}'")),
                        if tree.is_empty() { "none".to_owned() } else { tree.join(", ") }
                    ));
                }
                continue;
            }
            if let Some(camera) = camera
                && *camera as usize >= windows.len()
            {
                return Err(format!(
                    "rule '{name}' is of camera {camera}, and the machine has {}; the first is 0",
                    windows.len()
                ));
            }
            if window.is_some() && !windows.contains(window) {
                return Err(format!(
                    "rule '{name}' is of the window '{}', which no camera uses; they use {}",
                    window.as_deref().unwrap_or_default(),
                    windows.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ")
                ));
            }
        }
        Ok(())
    }
}

impl Rule {
    /// As it stands in a plan.
    fn to_toml(&self) -> String {
        // What JSON has for texts and numbers, TOML has too, but for a character that it wants to see escaped.
        let json = |value: serde_json::Value| value.to_string().replace('\u{7f}', "\\u007f");
        let mut lines = vec!["[[rule]]".to_owned()];
        let mut put = |name: &str, value: Option<String>| {
            lines.extend(value.map(|value| format!("{name} = {value}")));
        };
        put("name", Some(json(self.name.as_str().into())));
        put("on", Some(json(self.on.name().into())));
        if let Ok(serde_json::Value::Object(action)) = serde_json::to_value(self.action) {
            action.into_iter().for_each(|(name, value)| put(&name, Some(json(value))));
        }
        let When { nth, every, frames, probability, register, value, after, mark } = &self.when;
        let when = [
            nth.map(|nth| format!("nth = {nth}")),
            every.map(|every| format!("every = {every}")),
            frames.as_ref().map(|frames| format!("frames = [{}, {}]", frames.start(), frames.end())),
            probability.map(|probability| format!("probability = {probability:?}")),
            register.map(|register| format!("register = {register:#x}")),
            value.map(|value| format!("value = {value:#x}")),
            after.map(|after| format!("after = {after}")),
            mark.as_deref().map(|mark| format!("mark = {}", json(mark.into()))),
        ];
        let when: Vec<String> = when.into_iter().flatten().collect();
        put("when", (!when.is_empty()).then(|| format!("{{ {} }}", when.join(", "))));
        put("times", self.times.map(|times| times.to_string()));
        put("camera", self.camera.map(|camera| camera.to_string()));
        put("window", self.window.as_deref().map(|window| json(window.into())));
        put("channel", self.channel.map(|channel| channel.to_string()));
        put("device", self.device.and_then(|device| serde_json::to_value(device).ok()).map(json));
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
    for Row { name, points, parameter, meaning } in ACTIONS {
        let points: Vec<String> = points.iter().map(|point| format!("`{}`", point.name())).collect();
        let points = if points.is_empty() { "all".to_owned() } else { points.join(", ") };
        let parameter = if parameter.is_empty() { String::new() } else { format!("`{parameter}`") };
        let _ = writeln!(out, "| {points} | `{name}` | {parameter} | {meaning} |");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_is_written_is_read_the_same() {
        let text = "[[rule]]\nname = \"a \\\"b\\\" \\u007f \\t\"\non = \"frame.dma\"\naction = \"offset\"\nbytes = -4096\n\
            when = { every = 2, frames = [3, 9], probability = 1.0 }\ntimes = 4\ncamera = 1\nchannel = 0\n\
            next-state = \"hurt\"\n\n[[rule]]\nname = \"c\"\non = \"mmio.read\"\naction = \"ones\"\n\
            when = { nth = 7, register = 0x18, value = 0xffffffff, after = 9, mark = \"a \\\"b\\\"\" }\nstate = \"hurt\"\n\
            window = \"isp\"\n\n[[rule]]\nname = \"d\"\non = \"queue\"\naction = \"lose\"\ndevice = \"entropy\"\nchannel = 0\n";
        let rules = Plan::read(text).unwrap().rules;
        let written = Plan::of(rules.clone());
        assert_eq!(Plan::read(&written.text).unwrap().rules, rules, "{}", written.text);
    }

    #[test]
    fn rules_are_of_cameras_that_are_there() {
        let check = |selector: &str, windows: &[Option<String>]| {
            let rule = format!("[[rule]]\nname = \"r\"\non = \"irq\"\naction = \"lose\"\n{selector}\n");
            Plan::read(&rule).unwrap().check(windows, Some(&["isp"]))
        };
        let windows = [Some("isp".to_owned()), None];
        assert_eq!(check("camera = 1\nwindow = \"isp\"", &windows), Ok(()));
        assert_eq!(
            check("camera = 2", &windows),
            Err("rule 'r' is of camera 2, and the machine has 2; the first is 0".to_owned())
        );
        assert_eq!(
            check("window = \"vpu\"", &windows),
            Err("rule 'r' is of the window 'vpu', which no camera uses; they use isp".to_owned())
        );
        let tree = |selector: &str, tree: Option<&[&str]>| {
            let rule = format!("[[rule]]\nname = \"r\"\non = \"tree\"\naction = \"no-map\"\n{selector}\n");
            Plan::read(&rule).unwrap().check(&[], tree)
        };
        assert_eq!(
            (tree("window = \"vpu\"", Some(&["isp", "vpu"])), tree("", Some(&["isp"]))),
            (Ok(()), Ok(()))
        );
        assert_eq!(
            tree("window = \"npu\"", Some(&["isp", "vpu"])),
            Err("rule 'r' is of the window 'npu' in the tree, which has isp, vpu".to_owned())
        );
        assert_eq!(
            tree("", Some(&[])),
            Err("rule 'r' is of a CMA window in the tree, which has none".to_owned())
        );
        assert!(tree("", None).unwrap_err().contains("which the guest has read; give it with --faults"));
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
