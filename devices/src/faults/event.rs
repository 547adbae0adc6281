//! Events at which a device consults a plan, and the record of the rules that fired.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::action::Action;

/// What a device says of an event at one of its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Event {
    /// The number of the frame.
    pub frame: Option<u32>,
    /// The channel, or the queue.
    pub channel: Option<u32>,
    /// The offset of the register that the guest accesses.
    pub register: Option<u32>,
    /// The value that is read or written there.
    pub value: Option<u32>,
}

impl Event {
    /// An event of which nothing more is known than its point and device.
    pub const PLAIN: Self = Self { frame: None, channel: None, register: None, value: None };

    /// An event of this frame.
    #[must_use]
    pub const fn of_frame(number: u32) -> Self {
        Self { frame: Some(number), ..Self::PLAIN }
    }

    /// An access to a register.
    #[must_use]
    pub const fn access(register: u32, value: u32) -> Self {
        Self { register: Some(register), value: Some(value), ..Self::PLAIN }
    }

    /// The same event, of this channel or queue.
    #[must_use]
    pub fn on_channel(self, channel: usize) -> Self {
        Self { channel: u32::try_from(channel).ok(), ..self }
    }
}

/// A rule that fired. The names are stable in JSON, and a trace has one line for each firing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Firing {
    /// The id of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The CMA window, where the event is of a window and of no device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// The number of the frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<u32>,
    /// The name of the point.
    pub on: Cow<'static, str>,
    /// The rule's name.
    pub rule: String,
    /// The number of the event among those that the rule counts; the first is 1.
    pub event: u64,
    /// The channel, or the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<u32>,
    /// The offset of the register that the guest accessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<u32>,
    /// The value that the guest wrote there, or would have read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accessed: Option<u32>,
    /// What went wrong.
    #[serde(flatten)]
    pub action: Action,
    /// The guest-physical address of the transfer that went wrong; where it went elsewhere, that address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
    /// The bytes that the fault changed one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// A byte of guest memory that a fault changed, or that the device read wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// Its guest-physical address.
    pub address: u64,
    /// The right value.
    pub before: u8,
    /// The value instead.
    pub after: u8,
}

/// The record of a plan, for a report. The names are stable in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// The plan, as it was given.
    pub plan: String,
    /// The seed of the random choices: the same plan and seed do the same again.
    pub seed: u64,
    /// The firings, by device, frame and rule.
    pub firings: Vec<Firing>,
    /// The number of further firings, for which the record has no room.
    pub more: u64,
    /// The number of further changed bytes, for which the record has no room.
    #[serde(default)]
    pub more_changes: u64,
}

/// A rule at work. The names are stable in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleStatus {
    /// Its name.
    pub name: String,
    /// The name of its point.
    pub on: Cow<'static, str>,
    /// What goes wrong.
    #[serde(flatten)]
    pub action: Action,
    /// The number of events that it counted.
    pub events: u64,
    /// How often it fired.
    pub firings: u64,
}
