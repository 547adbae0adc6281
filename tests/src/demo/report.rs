//! The demo's report.json.

use std::{fs, io, path::Path};

use serde::Serialize;
use vmm::observe::{frames::Buffer, report::Counters};

use super::DemoError;

/// Where minivmm ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Host {
    /// On this machine's KVM.
    Kvm,
    /// In the lab, an emulated machine.
    Lab,
}

/// The results of the demo: report.json. Times are in seconds, and sizes in bytes unless stated otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Frames that the program in the guest received.
    pub frames: u64,
    /// Frames that were torn, damaged, lost or repeated.
    pub bad_frames: u64,
    /// Frames that the camera dropped.
    pub drops: u64,
    /// CmaTotal in the guest's /proc/meminfo, in KiB.
    pub cma_total_kib: u64,
    /// The CMA window.
    pub window: WindowReport,
    /// Pages of the window that were allocated in the middle of streaming, with all buffers.
    pub peak_pages_used: u64,
    /// The driver's buffers at that moment.
    pub buffers: Vec<Buffer>,
    /// Time from the start of minivmm to the guest's init.
    pub seconds_to_init: f64,
    /// Time of the whole demo: building, booting, streaming, checking.
    pub seconds: f64,
    /// Resident memory of minivmm beyond the guest's memory, when the guest's init began.
    pub overhead_bytes: u64,
    /// The same at the end, after all frames.
    pub overhead_bytes_at_end: u64,
    /// The guest's architecture: "x86_64" or "aarch64".
    pub arch: &'static str,
    /// Where minivmm ran.
    pub host: Host,
    /// The camera's counters at the end.
    pub camera: Counters,
}

/// A CMA window and its place.
#[derive(Debug, Clone, Serialize)]
pub struct WindowReport {
    /// Name of its node in the device tree.
    pub name: String,
    /// First address.
    pub base: u64,
    /// Size.
    pub size: u64,
}

impl Report {
    /// Writes the report to `path`, as JSON.
    pub(super) fn write(&self, path: &Path) -> Result<(), DemoError> {
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        json.and_then(|json| fs::write(path, json)).map_err(DemoError::io("write", path))
    }
}
