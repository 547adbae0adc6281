//! Requests to a running machine over its `--api-socket`, and the answers to them: each is a line of JSON.
//!
//! `{"verb": "status"}` is a request, `{"status": {...}}` its answer. The machine answers a client's requests one after the
//! other. The answer to a line that is no request, or to a request that the machine cannot do, is `{"error": "..."}`.

pub mod server;

use serde::{Deserialize, Serialize};

use devices::faults::RuleStatus;

use crate::observe::{
    capture::Capture,
    report::{DeviceReport, WindowReport},
};

/// Longest request, in bytes with its newline.
pub const REQUEST_MAX: usize = 16 << 10;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is asked for.
    pub verb: Verb,
    /// With [`Verb::Faults`]: what of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<FaultsRequest>,
    /// With [`Verb::Frames`]: what of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<FramesRequest>,
    /// With [`Verb::Devices`], [`Verb::Frames`] and [`Verb::Capture`]: the id of the one device that is meant. Without it
    /// `devices` and `frames` mean all devices, and `capture` means the first device that makes frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// What can be done to the frame clocks of devices: `{"verb": "frames", "frames": {"step": 1}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FramesRequest {
    /// No frame begins any more
    Pause,
    /// This number of frames begin, and then none
    Step(u32),
    /// Frames begin as before
    Resume,
}

/// What can be asked of faults on purpose: `{"verb": "faults", "faults": {"trigger": "NAME"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultsRequest {
    /// Which rules there are, and how often each fired
    List,
    /// Add the rules of a plan, which is the value: its text
    Add(String),
    /// Take away the rule of this name
    Remove(String),
    /// Let the rule of this name fire at the next event that it counts, whatever its `when` and `times` say
    Trigger(String),
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// The state of the machine
    Status,
    /// The counters of the devices; with --device of one
    #[value(alias = "camera")]
    Devices,
    /// The CMA windows with their bitmaps, as the guest's kernel has them; the guest's agent reads them from debugfs
    Cma,
    /// Faults on purpose: list; add FILE, a plan; remove NAME, a rule; trigger NAME, which fires at its next event
    Faults,
    /// The frame clocks of devices, while the guest runs: pause; step [N], which lets one frame begin, or N;
    /// resume
    Frames,
    /// The next frame of a device, as it lies in guest memory: drawn here, or with --png in a file
    #[value(alias = "snapshot")]
    Capture,
    /// Stop the vCPUs and the devices until `resume`; the host's clock goes on
    Pause,
    /// Let the vCPUs go on
    Resume,
    /// End the machine, as a signal does
    Stop,
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Verb::Status`].
    Status(Status),
    /// To [`Verb::Devices`]: the devices that have counters, in the order in which the machine has them.
    Devices(Vec<DeviceReport>),
    /// To [`Verb::Cma`]: the areas in the order of their places.
    Cma(Vec<GuestWindow>),
    /// To [`Verb::Faults`]: the rules, in their order.
    Faults(Vec<RuleStatus>),
    /// To [`Verb::Capture`].
    Capture(Capture),
    /// It is done.
    Done {},
    /// It cannot be done: a sentence that says why.
    Error(String),
}

/// The state of a running machine. Sizes are in bytes, times in seconds; the fields that a report has too mean the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// minivmm's version.
    pub version: String,
    /// Since the start of the process.
    pub seconds: f64,
    /// From the start of the process to the boot mark that the guest's init makes; null as long as it has not booted.
    pub seconds_to_boot_mark: Option<f64>,
    /// Whether the vCPUs stand still, or are about to.
    pub paused: bool,
    /// Number of vCPUs.
    pub cpus: u8,
    /// Guest memory.
    pub memory: u64,
    /// The windows, as they were asked for.
    pub windows: Vec<WindowReport>,
    /// The devices that have counters.
    pub devices: Vec<DeviceReport>,
}

/// A CMA window as the guest's kernel has it. Pages are counted from its base and have 4096 bytes, whatever the kernel's
/// have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestWindow {
    /// The kernel's name for it: that of its node with the address, `reserved` for `cma=`.
    pub name: String,
    /// First address.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
    /// Pages of a bit of the bitmap, as an order.
    pub order_per_bit: u32,
    /// Number of its pages that are allocated.
    pub pages_allocated: u64,
    /// Which: (first page, number of pages) of each run.
    pub runs_allocated: Vec<(u64, u64)>,
    /// The pages that devices wrote to since the start, in the same form.
    pub runs_written: Vec<(u64, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_in_json_are_stable() {
        let request: Request = serde_json::from_str(r#"{"verb": "stop"}"#).unwrap();
        assert_eq!(request, Request { verb: Verb::Stop, faults: None, frames: None, device: None });
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
        let request: Request = serde_json::from_str(r#"{"verb": "capture", "device": "grabber1"}"#).unwrap();
        assert_eq!((request.verb, request.device.as_deref()), (Verb::Capture, Some("grabber1")));
        for bad in [r#"{"verb": "stop", "when": "now"}"#, r#"{"verb": "fly"}"#, "{}", "\"stop\""] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&Answer::Done {}).unwrap(), r#"{"done":{}}"#);
        assert_eq!(serde_json::to_string(&Answer::Error("no".into())).unwrap(), r#"{"error":"no"}"#);
    }
}
