//! The report of a run: the JSON of `--report`.

use std::ops::Range;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    exit_status::{ExitStatus, Reason},
    guest_windows::GuestWindow,
    page_runs::runs,
};
use crate::{guest::files::OutReport, sandbox::SandboxReport};

/// The version of the format of a [`Report`]. It grows when a field goes or changes its meaning; a new field leaves it as it
/// is.
pub const FORMAT_VERSION: u32 = 2;

/// How the machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum MachineOutcome {
    /// The guest ended with a status: the command's, or that of a power-off (0).
    Exit {
        /// The status.
        status: u8,
    },
    /// The guest powered off before its command ended.
    PoweredOff,
    /// The guest did not make its boot mark in time.
    NotBooted {
        /// The limit.
        seconds: u64,
    },
    /// The guest could not load a module of `--module`.
    ModuleNotLoaded {
        /// The module and the reason.
        module: String,
    },
    /// The guest could not mount the userland of `--root`.
    RootNotMounted {
        /// The reason.
        reason: String,
    },
    /// The guest's kernel panicked.
    Panic,
    /// All CPUs halted with interrupts off.
    Halted,
    /// The guest requested a reset, or had a triple fault; minivmm does not start it again.
    Reset,
    /// The user pressed the escape key and x.
    Quit,
    /// A signal ended minivmm.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// A client of the API socket requested it.
    Stopped,
    /// The time limit of the run was reached.
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// KVM could not continue the guest.
    Failed {
        /// The reason.
        reason: String,
    },
}

impl MachineOutcome {
    /// The reason for minivmm's exit status.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Exit { status } => Reason::Guest(*status),
            Self::Quit | Self::Stopped => Reason::Stopped,
            Self::Signal { signal } => Reason::Signal(*signal),
            Self::TimedOut { .. } => Reason::TimeLimit,
            Self::PoweredOff
            | Self::NotBooted { .. }
            | Self::ModuleNotLoaded { .. }
            | Self::RootNotMounted { .. }
            | Self::Panic
            | Self::Halted
            | Self::Reset => Reason::GuestFailed,
            Self::Failed { .. } => Reason::Failed,
        }
    }
}

/// A CMA window at the end of a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WindowReport {
    /// Name of its node.
    pub name: String,
    /// First address; 0 if the guest's kernel chose the place (alloc-ranges).
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
    /// The NUMA node of its RAM, 0 in a guest with one node; null if the guest's kernel chose the place.
    pub node: Option<u32>,
    /// Number of its pages that devices wrote to.
    pub pages_written: u64,
    /// The runs of these pages as (first page, number of pages). Pages are counted from the window's base, or from the start of
    /// its alloc-ranges.
    pub runs_written: Vec<(u64, u64)>,
}

impl WindowReport {
    /// The report of `window`. `written` has a bitmap of the pages that devices wrote to for each range of addresses.
    pub(crate) fn new(window: cma::Window, written: &[(Range<u64>, Vec<u64>)]) -> Self {
        let bitmap =
            written.iter().find(|(range, _)| *range == window.range()).map(|(_, bitmap)| &bitmap[..]);
        let runs_written = runs(bitmap.unwrap_or_default());
        Self {
            name: window.name,
            base: window.base,
            size: window.size,
            node: window.node,
            pages_written: runs_written.iter().map(|(_, count)| count).sum(),
            runs_written,
        }
    }
}

/// The counters of a device by their names.
pub type Counters = IndexMap<String, u64>;

/// A device of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceReport {
    /// Its name in the machine: its kind and a number.
    pub id: String,
    /// Its kind: the NAME of the option `--device NAME` that adds such a device.
    pub kind: String,
    /// Its counters since it was built.
    pub counters: Counters,
}

impl DeviceReport {
    /// A report with the counters of a device, in their order.
    pub fn new(id: String, kind: &str, counters: impl IntoIterator<Item = (&'static str, u64)>) -> Self {
        let counters = counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        Self { id, kind: kind.to_owned(), counters }
    }
}

/// The report of a run. Times are in seconds, sizes in bytes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this format.
    pub format_version: u32,
    /// minivmm's version.
    pub version: String,
    /// The words of minivmm's command line; empty if another program started the machine.
    pub arguments: Vec<String>,
    /// How the machine ended.
    pub outcome: MachineOutcome,
    /// The exit status of minivmm. It is the guest's own if `outcome` is `exit`, and else one of minivmm's.
    pub exit: ExitStatus,
    /// From the start of the process to the boot mark, which the guest's init makes; null if there was no mark.
    pub seconds_to_boot_mark: Option<f64>,
    /// From the start of the process to the end of the machine.
    pub seconds: f64,
    /// Guest memory.
    pub memory: u64,
    /// Resident memory of the process apart from the guest's, at the boot mark; null if there was no mark.
    pub overhead_at_boot_mark: Option<u64>,
    /// The same at the end of the machine.
    pub overhead_at_end: u64,
    /// The CMA windows.
    pub windows: Vec<WindowReport>,
    /// The windows as the guest's kernel had them at the end, read from its memory; null if the guest ended by itself, and if
    /// minivmm does not know the kernel's symbols.
    pub guest_windows: Option<Vec<GuestWindow>>,
    /// The devices that have counters, in the order in which the machine has them.
    pub devices: Vec<DeviceReport>,
    /// The files that the guest left; null without `--out`.
    pub out: Option<OutReport>,
    /// The fault injection; null without a plan.
    pub faults: Option<devices::faults::Trace>,
    /// The memory dump of a guest that panicked; null without `--dump-on-panic`, and if it could not be written.
    pub memory_dump: Option<String>,
    /// The likely reason, in a sentence, if a guest failed before its boot mark; else null.
    pub boot_failure: Option<String>,
    /// The sandbox of minivmm; null with `--sandbox off`, or if another program started the machine.
    pub sandbox: Option<SandboxReport>,
    /// The last lines of the guest's serial console, if the guest did not end by itself.
    pub last_console_lines: Vec<String>,
}

impl Report {
    /// A counter of a device by `ID.COUNTER`, if the machine has that device and the device that
    /// counter.
    pub fn counter(&self, path: &str) -> Option<u64> {
        let (id, counter) = path.split_once('.')?;
        let device = self.devices.iter().find(|device| device.id == id)?;
        device.counters.get(counter).copied()
    }
}
