//! What a machine is asked to be: plain data, from the command line or from a test.

use std::path::PathBuf;

use cma::spec::WindowSpec;
use devices::{camera::CameraSpec, faults::Plan};

use crate::arch;

/// How the guest is told of its default window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum CmaMode {
    /// By a node of the tree, as of the others.
    #[default]
    Dt,
    /// By `cma=size@base` on the kernel command line, and no node.
    Cmdline,
    /// By both: the kernel then lets the command line overrule the node (kernel/dma/contiguous.c, rmem_cma_setup).
    Both,
}

/// A machine as asked for.
#[derive(Debug, Clone)]
pub struct Config {
    /// Guest memory in bytes.
    pub memory: u64,
    /// Back guest memory with 2 MiB pages of the host's pool.
    pub hugepages: bool,
    /// Number of vCPUs.
    pub cpus: u8,
    /// Number of NUMA nodes, among which memory and vCPUs are divided.
    pub numa: u8,
    /// What only machines of this architecture can be asked for.
    pub arch: arch::Options,
    /// A file of one of [`arch::KERNEL_FORMATS`].
    pub kernel: PathBuf,
    /// initramfs or initrd.
    pub initrd: Option<PathBuf>,
    /// Appended to the kernel command line.
    pub cmdline: String,
    /// The guest kernel's unit for CMA windows in bytes, CMA_MIN_ALIGNMENT_BYTES (include/linux/cma.h).
    pub pageblock: u64,
    /// CMA windows.
    pub windows: Vec<WindowSpec>,
    /// How the guest is told of the default window.
    pub cma_mode: CmaMode,
    /// The cameras, at most [`CAMERAS_MAX`].
    pub cameras: Vec<CameraSpec>,
    /// What goes wrong on purpose.
    pub faults: Option<Plan>,
    /// What happens is recorded with its time, for a timeline.
    pub timeline: bool,
    /// A command to run in the guest instead of a shell.
    pub exec: Option<String>,
    /// Where files that the guest hands back land.
    pub out: Option<PathBuf>,
    /// Seed of everything random: the entropy device, noise, faults. None: the host's entropy.
    pub seed: Option<u64>,
    /// A copy of everything the guest prints to its serial console.
    pub console_log: Option<PathBuf>,
}

impl Default for Config {
    /// A machine with 1 GiB of memory and one CPU, and nothing to boot yet.
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            hugepages: false,
            cpus: 1,
            numa: 1,
            arch: arch::Options::default(),
            kernel: PathBuf::new(),
            initrd: None,
            cmdline: String::new(),
            pageblock: arch::PAGEBLOCK,
            windows: Vec::new(),
            cma_mode: CmaMode::default(),
            cameras: Vec::new(),
            faults: None,
            timeline: false,
            exec: None,
            out: None,
            seed: None,
            console_log: None,
        }
    }
}

/// Most cameras that a machine has: each has an interrupt line.
pub const CAMERAS_MAX: usize = 8;

/// Smallest guest memory in bytes: what the kernel image, its page tables and the initramfs take at the least.
pub const MEMORY_MIN: u64 = 32 << 20;
