//! Requests to a running machine over its `--api-socket`, and the answers to them: each is a line of JSON.
//!
//! `{"verb": "status"}` is a request, `{"status": {...}}` its answer. The machine answers a client's requests one after the
//! other. The answer to an invalid request, or to one that the machine cannot execute, is `{"error": "..."}`.
//! `{"verb": "events"}` makes the connection a stream of what happens.

pub mod client;
mod event;
pub mod server;

use devices::faults::RuleStatus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::event::Event;
pub use crate::observe::guest_windows::{GuestWindow, OwnedRun, Reader};
use crate::observe::{
    capture::Capture,
    report::{DeviceReport, WindowReport},
};

/// Longest request, in bytes with its newline.
pub const REQUEST_MAX: usize = 16 << 10;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The verb.
    pub verb: Verb,
    /// For the verb `faults`: the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<FaultsRequest>,
    /// For the verb `frames`: the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<FramesRequest>,
    /// For the verb `set`: the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<SetRequest>,
    /// For the verb `set`: the id of the device that changes. For the verbs `devices`, `frames` and `capture`: the id of a device. Without it `devices` and `frames` mean all devices, and
    /// `capture` means the first device that makes frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// For the verb `cma`: who reads the areas. Without it minivmm reads guest memory if it finds the areas there, and else
    /// asks the guest's agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Reader>,
}

impl Request {
    /// The request that is only a verb.
    pub fn new(verb: Verb) -> Self {
        Self { verb, faults: None, frames: None, set: None, device: None, from: None }
    }
}

/// A change of the frame clocks of devices: `{"verb": "frames", "frames": {"step": 1}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FramesRequest {
    /// No further frame begins
    Pause,
    /// This number of frames begins, and then none
    Step(u32),
    /// Frames begin as before
    Resume,
}

/// A new value of a key of a device: `{"verb": "set", "device": "balloon0", "set": {"key": "size", "value": "128M"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRequest {
    /// The key, as in `--device NAME,KEY=VALUE`. It is one of those that can change while the machine runs.
    pub key: String,
    /// Its value, as in that option.
    pub value: String,
}

/// A request about fault injection: `{"verb": "faults", "faults": {"trigger": "NAME"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultsRequest {
    /// List the rules, and how often each fired
    List,
    /// Add the rules of a plan; the value is the plan's text
    Add(String),
    /// Remove the rule of this name
    Remove(String),
    /// Let the rule of this name fire at the next event that it counts, regardless of its `when` and `times`
    Trigger(String),
}

/// The verb of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Show the state of the machine
    Status,
    /// Show the counters of the devices, or of one with --device
    #[value(alias = "camera")]
    Devices,
    /// Draw the CMA windows with their bitmaps, from guest memory, or as the guest's agent reads them from debugfs
    Cma,
    /// Control fault injection: list the rules; add FILE, a plan; remove NAME, a rule; trigger NAME, a rule, at its next event
    Faults,
    /// Control the frame clocks of devices while the guest runs: pause; step, for one frame; step N, for N frames; resume
    Frames,
    /// Give a key of a device a new value while the guest runs: ID KEY=VALUE, as in balloon0 size=128M
    Set,
    /// Capture the next frame of a device from guest memory, and draw it, or write it to a file with --png
    #[value(alias = "snapshot")]
    Capture,
    /// Pause the vCPUs and the devices until `resume`; the clock continues
    Pause,
    /// Resume the vCPUs and the devices
    Resume,
    /// Print what happens in the machine, as it happens, until the machine ends
    Events,
    /// End the machine in order, as SIGTERM does
    Stop,
}

/// An answer, or a line of the stream of `events`. Its one field is named after the verb, or is `done`, `error` or `event`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `status`; and to `events`, before the first event: the state from which the events start.
    Status(Status),
    /// To `devices`: the devices that have counters, in the order in which the machine has them.
    Devices(Vec<DeviceReport>),
    /// To `cma`: the areas in the order of their places.
    Cma(Vec<GuestWindow>),
    /// To `faults` with `list`: the rules, in their order.
    Faults(Vec<RuleStatus>),
    /// To `capture`.
    Capture(Capture),
    /// Something that happened, in the stream of `events`.
    Event(Event),
    /// The request is done.
    Done {},
    /// An error: a sentence that says why.
    Error(String),
}

/// The state of a running machine. Sizes are in bytes, times in seconds; the fields that a report has too mean the same.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// minivmm's version.
    pub version: String,
    /// Since the start of the process.
    pub seconds: f64,
    /// From the start of the process to the boot mark of the guest's init; null before the mark.
    pub seconds_to_boot_mark: Option<f64>,
    /// Whether the vCPUs are paused, or about to be.
    pub paused: bool,
    /// Number of vCPUs.
    pub cpus: u8,
    /// How often a vCPU has left the guest for minivmm: the returns of KVM_RUN. KVM handles most of a guest's exits itself.
    pub exits: u64,
    /// Guest memory.
    pub memory: u64,
    /// The windows, as the options have them.
    pub windows: Vec<WindowReport>,
    /// The devices that have counters.
    pub devices: Vec<DeviceReport>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_in_json_are_stable() {
        let request: Request = serde_json::from_str(r#"{"verb": "stop"}"#).unwrap();
        assert_eq!(request, Request::new(Verb::Stop));
        let text = r#"{"verb":"faults","faults":{"trigger":"torn"}}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        assert_eq!(request.faults, Some(FaultsRequest::Trigger("torn".into())));
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        for (text, frames) in [("{\"step\":3}", FramesRequest::Step(3)), ("\"pause\"", FramesRequest::Pause)]
        {
            let text = format!("{{\"verb\":\"frames\",\"frames\":{text}}}");
            let request: Request = serde_json::from_str(&text).unwrap();
            assert_eq!((request.frames, serde_json::to_string(&request).unwrap()), (Some(frames), text));
        }
        let text = r#"{"verb":"set","set":{"key":"size","value":"1M"},"device":"balloon0"}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        assert_eq!(request.set, Some(SetRequest { key: "size".into(), value: "1M".into() }));
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        let request: Request = serde_json::from_str(r#"{"verb": "capture", "device": "grabber1"}"#).unwrap();
        assert_eq!((request.verb, request.device.as_deref()), (Verb::Capture, Some("grabber1")));
        for bad in [r#"{"verb": "stop", "when": "now"}"#, r#"{"verb": "fly"}"#, "{}", "\"stop\""] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&Answer::Done {}).unwrap(), r#"{"done":{}}"#);
        assert_eq!(serde_json::to_string(&Answer::Error("no".into())).unwrap(), r#"{"error":"no"}"#);
    }
}
