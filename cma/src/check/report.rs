//! The result of a check: how Linux handles each region, its users and the default window.

use std::{fmt, ops::Range};

use serde::Serialize;

use super::{
    finding::{Finding, Level},
    kernel::{Boot, Kernel},
};

/// The error codes of Linux (include/uapi/asm-generic/errno-base.h).
pub(super) const ENOMEM: i32 = -12;
pub(super) const ENODEV: i32 = -19;
pub(super) const EINVAL: i32 = -22;

/// What makes the default window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// No window.
    #[default]
    None,
    /// A node with linux,cma-default.
    Node,
    /// `cma=` on the command line.
    Cmdline,
    /// CONFIG_CMA_SIZE_*.
    Config,
}

/// The default window.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DefaultWindow {
    /// What makes it.
    pub origin: Origin,
    /// The path of its node; null without one.
    pub node: Option<String>,
    /// Its first address; null if the kernel chooses it, or if there is no window.
    pub base: Option<u64>,
    /// Its size in bytes; null if there is no window.
    pub size: Option<u64>,
    /// The findings.
    pub findings: Vec<Finding>,
}

/// How Linux handles a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeOutcome {
    /// A CMA window.
    CmaPool,
    /// A pool of coherent memory for the exclusive use of the devices that name it.
    CoherentCarveout,
    /// A pool of bounce buffers for the devices that name it (CONFIG_DMA_RESTRICTED_POOL).
    RestrictedDmaPool,
    /// Memory that the kernel does not map.
    NoMap,
    /// Memory that the kernel maps and does not use.
    Reserved,
    /// The node has no effect: the memory is ordinary memory.
    Ignored,
    /// Linux refuses it.
    Refused,
}

impl NodeOutcome {
    /// Whether of_reserved_mem_device_init can assign it to a device.
    pub fn is_pool(self) -> bool {
        matches!(self, Self::CmaPool | Self::CoherentCarveout | Self::RestrictedDmaPool)
    }
}

impl fmt::Display for NodeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CmaPool => "CMA pool",
            Self::CoherentCarveout => "coherent carveout",
            Self::RestrictedDmaPool => "restricted DMA pool",
            Self::NoMap => "no-map region",
            Self::Reserved => "plain reservation",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
        })
    }
}

/// A child of /reserved-memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Region {
    /// Its path.
    pub node: String,
    /// How Linux handles it.
    pub outcome: NodeOutcome,
    /// The rule that decides this, in words.
    pub rule: String,
    /// The source file and function of the rule in the kernel.
    pub source: &'static str,
    /// Its first address; null if the kernel chooses it, or if the node has no memory.
    pub base: Option<u64>,
    /// Its size in bytes, from the first tuple of `reg` or from `size`; null without both.
    pub size: Option<u64>,
    /// The address that the kernel likely chooses; null if it chooses none. It avoids the kernel, the initrd and the tree, which
    /// can lie anywhere.
    pub placed: Option<u64>,
    /// Whether it is the window of devices without a window of their own (linux,cma-default).
    pub default: bool,
    /// Other findings.
    pub findings: Vec<Finding>,
}

/// An entry of a `memory-region` property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// The number of the entry, from 0: the index for of_reserved_mem_device_init_by_idx.
    pub index: usize,
    /// Its name in `memory-region-names`; null without one.
    pub name: Option<String>,
    /// The path of the node that it refers to; null if no node has the phandle.
    pub target: Option<String>,
    /// The return value of of_reserved_mem_device_init_by_idx: 0 or a negative error code.
    pub errno: i32,
    /// The kind of pool that the device gets; null if it gets no pool.
    pub gets: Option<NodeOutcome>,
    /// The path of the pool's node, which can be another than `target` with the same phandle or name; null if it gets no pool.
    pub pool: Option<String>,
    /// The findings.
    pub findings: Vec<Finding>,
}

/// A node with a `memory-region`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its path.
    pub node: String,
    /// Whether Linux creates a device: the `status` of the node and of its parents permits it.
    pub enabled: bool,
    /// The findings on all of them.
    pub findings: Vec<Finding>,
    /// The entries.
    pub references: Vec<Reference>,
}

/// The findings on a tree. `minivmm check --json` prints them with these field names.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of Linux whose rules were applied.
    pub rules: String,
    /// The kernel on which the rules depend.
    pub kernel: Kernel,
    /// What the boot adds to the tree.
    pub boot: Boot,
    /// Both in one line.
    pub assumed: String,
    /// Findings on the tree as a whole.
    pub findings: Vec<Finding>,
    /// The children of /reserved-memory, in the order of the tree.
    pub regions: Vec<Region>,
    /// The default window.
    pub default_window: DefaultWindow,
    /// Whether the kernel panics at boot.
    pub panics: bool,
    /// Whether Linux may crash later, when it uses certain memory. A finding says why.
    #[serde(skip)]
    pub may_panic: bool,
    /// The RAM at the end of the early boot.
    #[serde(skip)]
    pub memory: Memory,
    /// The nodes with a `memory-region`, in the order of the tree.
    pub users: Vec<User>,
}

impl Report {
    /// All findings.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let regions = self.regions.iter().flat_map(|region| &region.findings);
        let references = self.users.iter().flat_map(|user| &user.references);
        let users = self.users.iter().flat_map(|user| &user.findings);
        let window = &self.default_window.findings;
        let own = self.findings.iter().chain(regions).chain(window).chain(users);
        own.chain(references.flat_map(|reference| &reference.findings))
    }

    /// The number of findings with `level`.
    pub fn count(&self, level: Level) -> usize {
        self.findings().filter(|finding| finding.level == level).count()
    }
}

/// The RAM at the end of the early boot, as /proc/iomem shows it. If the RAM is unknown, any address is RAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// What Linux manages ("System RAM"), in whole pages.
    pub ram: Vec<Range<u64>>,
    /// What is reserved for regions, by `/memreserve/` and otherwise ("reserved"), in bytes. The default window is missing if Linux chooses
    /// its place.
    pub reserved: Vec<Range<u64>>,
    /// The window that Linux reserves beside the regions, for `cma=` or by its configuration. Where Linux chooses its place, other early
    /// allocations can move it.
    pub window: Option<Range<u64>>,
    /// The windows that Linux reserves in each of several NUMA nodes, where they likely are.
    pub numa: Vec<Range<u64>>,
}
