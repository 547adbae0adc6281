//! `minivmm check`: how Linux handles each reserved-memory node of a device tree, and why.
//!
//! The rules are transcribed from the kernel, version by version: each finding names its source file and function.

mod activate;
mod cmdline;
pub mod config;
mod cycles;
mod default_window;
mod dma;
mod kernel;
mod mapping;
mod memblock;
mod misplaced;
mod names;
mod order;
mod overlap;
mod place;
mod print;
mod ram;
mod ranges;
mod references;
mod regions;
mod set_up;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use std::{fmt, ops::Range};

use serde::Serialize;

pub use default_window::{DefaultWindow, Origin};

pub use kernel::{Arch, ArchError, Boot, Kernel, KernelError, Options, SizeSelection};
pub use tree::{Tree, TreeError};

pub use crate::area::{Rules, RulesError};

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing happens: good to know.
    Note,
    /// Memory is lost, or it works, but perhaps not as intended; or it depends on what the boot loader does.
    Warning,
    /// The boot fails, or a device gets nothing.
    Error,
}

/// A finding, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its severity.
    pub level: Level,
    /// The sentence.
    pub text: String,
    /// The source file and function of the kernel.
    pub source: &'static str,
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
}

/// Applies the rules of `kernel` to a tree, with what the boot adds to it.
pub fn check(tree: &Tree<'_>, kernel: &Kernel, boot: &Boot) -> Report {
    let mut findings = Vec::new();
    let regions::Outcome { mut regions, window, panics, may_panic, memory } =
        regions::check(tree, kernel, boot, &mut findings);
    regions.iter_mut().for_each(|region| misplaced::look_at_region(tree, region));
    let users = references::check(tree, kernel, &regions);
    let regions = regions.into_iter().map(|region| region.region).collect();
    Report {
        rules: format!("Linux {}", kernel.rules),
        kernel: kernel.clone(),
        boot: boot.clone(),
        assumed: kernel::assumed(kernel, boot),
        findings,
        regions,
        default_window: window,
        panics,
        may_panic,
        memory,
        users,
    }
}

fn finding(level: Level, source: &'static str, text: impl Into<String>) -> Finding {
    Finding { level, text: text.into(), source }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}
