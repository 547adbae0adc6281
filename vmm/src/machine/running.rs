//! A machine whose guest runs: its parts, for the files that start it, look after it, answer requests and end it.

use std::{
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use event_manager::EventManager;
use kvm_ioctls::VmFd;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::timerfd::TimerFd;

use super::{
    devices::Devices,
    gdb::Debugger,
    limits::Limit,
    metrics::Metrics,
    requests::Requests,
    signals::Signals,
    told::Told,
    vcpu::Vcpus,
    wakeups::{Subscriber, Wakeups},
    watch::Watch,
};
use crate::{
    boot::kernel_options::Compression,
    guest::{input::Input, output::Output, serial_log::SerialLog},
    observe::{kernel_memory::KernelMemory, memory_dump::MemoryDump},
};

/// A machine whose guest runs. Fields are dropped in order: the vCPUs first, so that no guest runs when devices go.
pub struct Machine {
    pub(super) vcpus: Vcpus,
    pub(super) devices: Devices,
    pub(super) manager: EventManager<Subscriber>,
    pub(super) wakeups: Arc<Mutex<Wakeups>>,
    pub(super) serial_log: SerialLog,
    pub(super) input: Option<Input>,
    pub(super) signals: Option<Signals>,
    pub(super) requests: Option<Requests>,
    /// What those who listen to events know.
    pub(super) told: Told,
    pub(super) metrics: Option<Metrics>,
    pub(super) debugger: Option<Debugger>,
    pub(super) watch: Watch,
    pub(super) tick: TimerFd,
    /// The time limit of the run.
    pub(super) time_limit: Option<Limit>,
    /// The time limit of the guest's way to its boot mark; none once that is over.
    pub(super) boot_limit: Option<Limit>,
    pub(super) stdout: Output,
    /// One output of each thread that writes.
    pub(super) outputs: Vec<Output>,
    pub(super) windows: Vec<cma::Window>,
    pub(super) memory_size: u64,
    pub(super) cpus: u8,
    pub(super) overhead_at_boot_mark: Option<u64>,
    /// Folder of `--out`.
    pub(super) out: Option<PathBuf>,
    /// Whether the guest runs one command and hands back its status.
    pub(super) exec: bool,
    /// The kernel's files, by which its memory can be read.
    pub(super) kernel_memory: KernelMemory,
    /// The file for the memory of a guest that panics.
    pub(super) dump: Option<MemoryDump>,
    /// Where the kernel lies in guest memory.
    pub(super) kernel: Range<u64>,
    /// The compression of the initrd, if it is compressed.
    pub(super) compression: Option<&'static Compression>,
    pub(super) _vm: VmFd,
    pub(super) memory: GuestMemoryMmap,
}
