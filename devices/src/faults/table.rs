//! Tables of the faults of a device: the points at which it consults a plan, and the actions of each point.
//!
//! [`fault_point!`](crate::fault_point) declares a point. A device lists its points in a [`Table`]; the parser of plans, the
//! manual and the timeline read the tables and know no device.

use std::ops::RangeInclusive;

use super::action::Action;

/// A parameter that is a count of at least one.
pub const SEVERAL: RangeInclusive<i64> = 1..=u32::MAX as i64;

/// A parameter that is any number of 32 bits.
pub const UNSIGNED: RangeInclusive<i64> = 0..=u32::MAX as i64;

/// A parameter that is a distance, in either direction.
pub const SIGNED: RangeInclusive<i64> = -(1 << 40)..=1 << 40;

/// A parameter that is a number of bits to flip.
pub const BITS: RangeInclusive<i64> = 1..=1 << 20;

/// What can go wrong with the devices of one kind.
#[derive(Debug)]
pub struct Table {
    /// What the manual calls these devices.
    pub title: &'static str,
    /// The ids that these devices have.
    pub ids: Ids,
    /// Whether a rule's `window` selects among them.
    pub windows: bool,
    /// The number of channels, or queues, that such a device has at most.
    pub channels: u32,
    /// The names of the first channels on a timeline; the others go by their number.
    pub channel_names: &'static [&'static str],
    /// The points, in the order in which the manual lists them.
    pub points: &'static [&'static Point],
}

/// The ids of the devices of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// This kind, and the device's number: `camera0`, `camera1` and so on. A plan may say `camera = 0` for
    /// `device = "camera0"`.
    Numbered(&'static str),
    /// One of these.
    Named(&'static [&'static str]),
    /// None: the events are of the CMA windows themselves, as the device tree advertises them before the guest boots.
    Windows,
}

impl Ids {
    /// Whether `id` is one of these.
    pub fn contain(self, id: &str) -> bool {
        match self {
            Self::Numbered(kind) => id
                .strip_prefix(kind)
                .is_some_and(|number| number.parse::<u32>().is_ok_and(|parsed| parsed.to_string() == number)),
            Self::Named(names) => names.contains(&id),
            Self::Windows => false,
        }
    }

    /// The ids in a list, for errors and the manual.
    pub(super) fn listed(self) -> Option<String> {
        match self {
            Self::Numbered(kind) => Some(format!("{kind}0, {kind}1 and so on")),
            Self::Named(names) => Some(names.join(", ")),
            Self::Windows => None,
        }
    }
}

/// A place in a device's work at which it consults the plan.
#[derive(Debug)]
pub struct Point {
    /// Its name in plans and traces.
    pub name: &'static str,
    /// What an event is there.
    pub meaning: &'static str,
    /// What an event has.
    pub scope: Scope,
    /// What can go wrong there.
    pub actions: &'static [Row],
}

/// An action of a point.
#[derive(Debug)]
pub struct Row {
    /// Its name in plans and traces.
    pub name: &'static str,
    /// What it takes.
    pub parameter: Option<Parameter>,
    /// What goes wrong.
    pub meaning: &'static str,
}

/// A whole number that an action takes.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in plans and traces.
    pub name: &'static str,
    /// The values that a plan may give it.
    pub(super) permitted: RangeInclusive<i64>,
}

/// Names that a parameter may not have: in a plan or in a trace it stands beside these fields.
const RESERVED: &[&str] = &[
    "action",
    "accessed",
    "address",
    "changes",
    "channel",
    "device",
    "event",
    "frame",
    "name",
    "next-state",
    "on",
    "register",
    "rule",
    "state",
    "times",
    "when",
    "window",
];

impl Parameter {
    /// A parameter with this name and these permitted values.
    ///
    /// # Panics
    /// If a rule or a firing has a field of this name. For a `static` table the compiler says so.
    pub const fn new(name: &'static str, permitted: RangeInclusive<i64>) -> Self {
        let mut index = 0;
        while index < RESERVED.len() {
            assert!(
                !is_equal(name, RESERVED[index]),
                "a parameter has the name of a field of rules or firings"
            );
            index += 1;
        }
        Self { name, permitted }
    }
}

/// As `==`, which a constant cannot use.
const fn is_equal(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

/// What the events of a point have, and how a timeline shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// Each event is of a frame, which has a number.
    pub frame: bool,
    /// Each event is of a channel, or of a queue.
    pub channel: bool,
    /// Each event is an access to a register.
    pub access: bool,
    /// Each event is a unit of the time that `after` counts.
    pub tick: bool,
    /// How a timeline shows it.
    pub shown: Shown,
}

/// How a timeline shows the events of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It does not: there are too many, or other events say the same.
    Not,
    /// As a moment with this name.
    Moment(&'static str),
    /// As the beginning of a stretch of time with this name, on its channel.
    Begin(&'static str),
    /// As the end of the stretch that began last on its channel; if none did, as a moment with this name.
    End(&'static str),
}

impl Scope {
    /// Events that have nothing.
    pub const NONE: Self =
        Self { frame: false, channel: false, access: false, tick: false, shown: Shown::Not };

    /// Each event is of a frame.
    #[must_use]
    pub const fn frame(self) -> Self {
        Self { frame: true, ..self }
    }

    /// Each event is of a channel.
    #[must_use]
    pub const fn channel(self) -> Self {
        Self { channel: true, ..self }
    }

    /// Each event is an access to a register.
    #[must_use]
    pub const fn access(self) -> Self {
        Self { access: true, ..self }
    }

    /// Each event is a unit of the time that `after` counts.
    #[must_use]
    pub const fn tick(self) -> Self {
        Self { tick: true, ..self }
    }

    /// A timeline shows each event as a moment.
    #[must_use]
    pub const fn moment(self, name: &'static str) -> Self {
        Self { shown: Shown::Moment(name), ..self }
    }

    /// A timeline shows each event as the beginning of a stretch of time.
    #[must_use]
    pub const fn begin(self, name: &'static str) -> Self {
        Self { shown: Shown::Begin(name), ..self }
    }

    /// A timeline shows each event as the end of a stretch of time.
    #[must_use]
    pub const fn end(self, name: &'static str) -> Self {
        Self { shown: Shown::End(name), ..self }
    }
}

/// Set in the interests of all points whose events are units of time.
const TICK: u64 = 1 << 63;

/// The bit of the point `name` among the interests of a plan. Two points may share one: then the plan is consulted at both.
const fn bit(name: &str) -> u64 {
    let (bytes, mut hash, mut at) = (name.as_bytes(), 0_u64, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    1 << ((hash ^ hash >> 32) % 63)
}

/// The interests of a rule on the point `on`, which counts time if it is `timed`.
pub(super) fn interest(on: &str, timed: bool) -> u64 {
    bit(on) | if timed { TICK } else { 0 }
}

impl Point {
    /// A plan that has none of these interests has nothing to say at this point.
    pub(super) const fn interest(&self) -> u64 {
        bit(self.name) | if self.scope.tick { TICK } else { 0 }
    }

    /// Whether `action` is one of this point's.
    pub(super) fn takes(&self, action: &Action) -> bool {
        *action == Action::NONE || self.actions.iter().any(|row| row.is(action))
    }
}

impl Row {
    fn is(&self, action: &Action) -> bool {
        self.name == action.name()
            && match (&self.parameter, action.given()) {
                (None, None) => true,
                (Some(Parameter { name, permitted }), Some((given, value))) => {
                    *name == given && permitted.contains(&value)
                }
                _ => false,
            }
    }
}

/// The actions of a point, as [`fault_point!`](crate::fault_point) declares them.
pub trait FaultPoint: Copy + 'static {
    /// The point.
    const POINT: &'static Point;

    /// The action of this point that `action` is, if it is one.
    fn of(action: &Action) -> Option<Self>;
}

/// Declares a point of a device: its name in plans, what its events have, and its actions, each with its name, its parameter
/// and what goes wrong. It becomes an enum of the actions, which is a [`FaultPoint`](crate::faults::FaultPoint).
///
/// The doc comments are the lines of the manual (`devices/src/faults/FAULTS.md`). The brackets hold calls on
/// [`Scope`](crate::faults::Scope); they are empty unless events have a frame, a channel or a register, or mark time. A parameter
/// is an integer, `in` the range of the values that a plan may give it. It may not have the name of a field of a rule or of a
/// firing, as `times` or `address`.
///
/// Devices may share the name of a point. A rule without `device` counts the events of every device that has the point and the
/// action.
///
/// ```
/// use devices::faults::{SIGNED, fault_point};
///
/// fault_point! {
///     /// A descriptor is done, and the device is about to say so: one event for each.
///     pub enum Done = "descriptor.done" [channel, moment("done")] {
///         /// The device does not say so.
///         Lost = "lost",
///         /// The device says that this many bytes more, or fewer, are done.
///         Count { bytes: i64 in SIGNED } = "count",
///     }
/// }
/// ```
#[macro_export]
macro_rules! fault_point {
    (@parameter) => { ::core::option::Option::None };
    (@parameter $parameter:ident $permitted:expr) => {
        ::core::option::Option::Some($crate::faults::Parameter::new(::core::stringify!($parameter), $permitted))
    };
    (
        $(#[doc = $event:literal])+
        $visibility:vis enum $point:ident = $name:literal
            [$($scope:ident $(($label:literal))?),* $(,)?] {
            $(
                $(#[doc = $effect:literal])+
                $action:ident $({ $parameter:ident: $kind:ident in $permitted:expr })? = $action_name:literal,
            )*
        }
    ) => {
        $(#[doc = $event])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $point {
            $(
                $(#[doc = $effect])+
                $action $({
                    /// As the plan gives it.
                    $parameter: $kind,
                })?,
            )*
        }

        impl $crate::faults::FaultPoint for $point {
            const POINT: &'static $crate::faults::Point = &$crate::faults::Point {
                name: $name,
                meaning: ::core::concat!($($event),+),
                scope: $crate::faults::Scope::NONE$(.$scope($($label)?))*,
                actions: &[$($crate::faults::Row {
                    name: $action_name,
                    parameter: $crate::faults::fault_point!(@parameter $($parameter $permitted)?),
                    meaning: ::core::concat!($($effect),+),
                }),*],
            };

            fn of(action: &$crate::faults::Action) -> ::core::option::Option<Self> {
                match action.name() {
                    $($action_name => ::core::option::Option::Some(Self::$action $({
                        $parameter: action.parameter(::core::stringify!($parameter))?,
                    })?),)*
                    _ => ::core::option::Option::None,
                }
            }
        }
    };
}

pub use fault_point;

#[cfg(test)]
mod tests {
    use super::*;

    fault_point! {
        /// Something happens,
        /// and takes two lines to say.
        enum Thing = "some.thing" [frame, tick, begin("thing")] {
            /// It is wrong.
            Wrong = "wrong",
            /// It is late.
            Late { frames: u32 in 1..=9 } = "late",
        }
    }

    #[test]
    fn a_point_has_what_its_declaration_says() {
        let point = Thing::POINT;
        assert_eq!(
            (point.name, point.meaning.trim()),
            ("some.thing", "Something happens, and takes two lines to say.")
        );
        assert_eq!(point.scope, Scope::NONE.frame().tick().begin("thing"));
        assert_eq!(point.actions.iter().map(|row| row.name).collect::<Vec<_>>(), ["wrong", "late"]);
        assert_eq!(point.actions[1].parameter.as_ref().unwrap().permitted, 1..=9);
    }

    #[test]
    fn an_action_becomes_the_devices_own() {
        let late = |frames| Action::new("late", Some(("frames", frames)));
        assert_eq!(Thing::of(&Action::new("wrong", None)), Some(Thing::Wrong));
        assert_eq!(Thing::of(&late(3)), Some(Thing::Late { frames: 3 }));
        assert_eq!((Thing::of(&Action::NONE), Thing::of(&Action::new("late", None))), (None, None));
        assert!(Thing::POINT.takes(&late(9)) && !Thing::POINT.takes(&late(10)));
        assert!(Thing::POINT.takes(&Action::NONE) && !Thing::POINT.takes(&Action::new("early", None)));
    }

    #[test]
    fn ids_are_those_of_a_kind() {
        let cameras = Ids::Numbered("camera");
        assert!(cameras.contain("camera0") && cameras.contain("camera12"));
        for other in ["camera", "camera01", "camera-1", "camera+1", "msgdma0"] {
            assert!(!cameras.contain(other), "{other}");
        }
        let named = Ids::Named(&["console"]);
        assert!(named.contain("console") && !named.contain("camera0") && !Ids::Windows.contain(""));
    }

    #[test]
    fn a_plan_is_asked_at_its_points_and_where_time_passes() {
        assert_ne!(Thing::POINT.interest() & interest("some.thing", false), 0);
        assert_ne!(Thing::POINT.interest() & interest("other", true), 0);
    }
}
