//! What happens in a running machine: the lines of the stream that `{"verb": "events"}` begins.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::observe::{exit_status::ExitStatus, report::MachineOutcome};

/// Something that happened. `seconds` are since the start of the process; the other fields that a report or a trace has too mean the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The guest's init made its boot mark.
    BootMark {
        /// When.
        seconds: f64,
    },
    /// A program in the guest made a mark.
    Mark {
        /// When.
        seconds: f64,
        /// The mark.
        text: String,
    },
    /// All vCPUs wait, by the verb `pause`.
    Paused {
        /// When.
        seconds: f64,
    },
    /// The vCPUs continue.
    Resumed {
        /// When.
        seconds: f64,
    },
    /// A rule of the fault injection fired. The fields are those of a trace, without the effect.
    Fired {
        /// When.
        seconds: f64,
        /// The id of the device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// The CMA window, where the event is of a window and of no device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window: Option<String>,
        /// The number of the frame.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        frame: Option<u32>,
        /// The name of the point.
        on: Cow<'static, str>,
        /// The rule's name.
        rule: String,
        /// The number of the event among those that the rule counts; the first is 1.
        event: u64,
        /// The channel, or the queue.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        channel: Option<u32>,
        /// The offset of the register that the guest accessed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        register: Option<u32>,
        /// The value that the guest wrote there, or would have read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accessed: Option<u32>,
        /// The name of the action.
        action: String,
    },
    /// A device wrote to a CMA window for the first time. It is seen within half a second.
    WindowWritten {
        /// When it was seen.
        seconds: f64,
        /// The window's name.
        window: String,
    },
    /// The guest reset a device.
    Reset {
        /// When.
        seconds: f64,
        /// The device's id.
        device: String,
    },
    /// The guest's kernel panicked.
    Panicked {
        /// When.
        seconds: f64,
    },
    /// Events that happened before this line are missing, because the client or minivmm was too slow for them.
    Lost {
        /// When they were missed.
        seconds: f64,
        /// Their number.
        count: u64,
    },
    /// The machine ended. It is the last line.
    End {
        /// When.
        seconds: f64,
        /// How the machine ended.
        outcome: MachineOutcome,
        /// The exit status of minivmm.
        exit: ExitStatus,
    },
}

impl Event {
    /// When it happened, in seconds since the start of the process.
    pub fn seconds(&self) -> f64 {
        match self {
            Self::BootMark { seconds }
            | Self::Mark { seconds, .. }
            | Self::Paused { seconds }
            | Self::Resumed { seconds }
            | Self::Fired { seconds, .. }
            | Self::WindowWritten { seconds, .. }
            | Self::Reset { seconds, .. }
            | Self::Panicked { seconds }
            | Self::Lost { seconds, .. }
            | Self::End { seconds, .. } => *seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_in_json_are_stable() {
        let fired = Event::Fired {
            seconds: 1.5,
            device: Some("camera0".into()),
            window: None,
            frame: Some(7),
            on: "frame.dma".into(),
            rule: "torn".into(),
            event: 3,
            channel: Some(0),
            register: None,
            accessed: None,
            action: "torn".into(),
        };
        for (event, text) in [
            (Event::BootMark { seconds: 0.5 }, r#"{"kind":"boot_mark","seconds":0.5}"#),
            (
                fired,
                r#"{"kind":"fired","seconds":1.5,"device":"camera0","frame":7,"on":"frame.dma","rule":"torn","event":3,"channel":0,"action":"torn"}"#,
            ),
            (
                Event::WindowWritten { seconds: 2.0, window: "isp".into() },
                r#"{"kind":"window_written","seconds":2.0,"window":"isp"}"#,
            ),
            (Event::Lost { seconds: 2.0, count: 3 }, r#"{"kind":"lost","seconds":2.0,"count":3}"#),
        ] {
            assert_eq!(serde_json::to_string(&event).unwrap(), text);
            assert_eq!(serde_json::from_str::<Event>(text).unwrap(), event);
        }
    }
}
