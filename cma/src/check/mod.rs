//! `minivmm check`: how Linux 6.1 handles each reserved-memory node of a device tree, and why.
//!
//! The rules are transcribed from the kernel: each finding names its source file and function. They assume 64-bit
//! addresses, CONFIG_DMA_CMA, CONFIG_DMA_DECLARE_COHERENT and CONFIG_DMA_RESTRICTED_POOL.

mod dma;
mod ranges;
mod references;
mod regions;
mod set_up;
mod source;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;

use serde::Serialize;

use crate::{PAGE_SIZE, size};
pub use tree::{Tree, TreeError};

/// The configuration of the kernel on which the rules depend.
#[derive(Debug, Clone, Serialize)]
pub struct Kernel {
    /// Unit of CMA windows in bytes, CMA_MIN_ALIGNMENT_BYTES (include/linux/cma.h).
    pub pageblock: u64,
    /// Size of a page in bytes.
    pub page_size: u64,
    /// Maximum number of CMA areas, MAX_CMA_AREAS (include/linux/cma.h): 1 + CONFIG_CMA_AREAS.
    pub cma_areas: usize,
}

/// Why a kernel configuration is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The page size is invalid.
    #[error("the page size must be 4K, 16K or 64K, not {}", size::format(*.0))]
    PageSize(u64),
    /// The pageblock is invalid.
    #[error(
        "the pageblock of {} is not a power of two, or is smaller than a page of {}; give a power of two, such as 4M",
        size::format(*.pageblock), size::format(*.page_size)
    )]
    Pageblock {
        /// Its size.
        pageblock: u64,
        /// Size of a page.
        page_size: u64,
    },
}

impl Kernel {
    /// A kernel with these sizes of pages and pageblocks, in bytes, and this maximum number of CMA areas.
    ///
    /// # Errors
    /// If a size is invalid.
    pub fn new(pageblock: u64, page_size: u64, cma_areas: usize) -> Result<Self, KernelError> {
        if ![PAGE_SIZE, 4 * PAGE_SIZE, 16 * PAGE_SIZE].contains(&page_size) {
            return Err(KernelError::PageSize(page_size));
        }
        if !pageblock.is_power_of_two() || pageblock < page_size {
            return Err(KernelError::Pageblock { pageblock, page_size });
        }
        Ok(Self { pageblock, page_size, cma_areas })
    }
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Note,
    /// It works, but perhaps not as intended.
    Warning,
    /// It will not work.
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
    /// The entries.
    pub references: Vec<Reference>,
}

/// The findings on a tree. `minivmm check --json` prints them with these field names.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of Linux whose rules were applied.
    pub rules: &'static str,
    /// The configuration on which the rules depend.
    pub kernel: Kernel,
    /// Findings on the tree as a whole.
    pub findings: Vec<Finding>,
    /// The children of /reserved-memory, in the order of the tree.
    pub regions: Vec<Region>,
    /// The nodes with a `memory-region`, in the order of the tree.
    pub users: Vec<User>,
}

impl Report {
    /// All findings.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let regions = self.regions.iter().flat_map(|region| &region.findings);
        let references = self.users.iter().flat_map(|user| &user.references);
        self.findings.iter().chain(regions).chain(references.flat_map(|reference| &reference.findings))
    }

    /// The number of findings with `level`.
    pub fn count(&self, level: Level) -> usize {
        self.findings().filter(|finding| finding.level == level).count()
    }
}

/// Applies the rules of `kernel` to a tree.
pub fn check(tree: &Tree<'_>, kernel: &Kernel) -> Report {
    let mut findings = Vec::new();
    let regions = regions::check(tree, kernel, &mut findings);
    let users = references::check(tree, &regions);
    let regions = regions.into_iter().map(|region| region.region).collect();
    Report { rules: "Linux 6.1", kernel: kernel.clone(), findings, regions, users }
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

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.level, self.text, self.source)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_rule = |finding: &&Finding| finding.text == self.rule;
        write!(f, "{}\n  ", self.node)?;
        if let Some(finding) = self.findings.iter().find(is_rule) {
            write!(f, "{}: ", finding.level)?;
        }
        write!(f, "{}", self.outcome)?;
        match (self.base, self.size) {
            (Some(base), Some(size)) => write!(f, ", {} at {base:#x}", size::format(size))?,
            (None, Some(size)) => write!(f, ", {} where the kernel finds room", size::format(size))?,
            (_, None) => {}
        }
        let default = if self.default { ", the default window" } else { "" };
        write!(f, "{default}: {} ({})", self.rule, self.source)?;
        let mut others = self.findings.iter().filter(|finding| !is_rule(finding));
        others.try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, target, errno, gets, findings } = self;
        write!(f, "memory-region {index}: {}: ", target.as_deref().unwrap_or("nothing"))?;
        match index {
            0 => write!(f, "of_reserved_mem_device_init() ")?,
            _ => write!(f, "of_reserved_mem_device_init_by_idx() with {index} ")?,
        }
        match gets {
            Some(pool) => write!(f, "gives it the {pool}")?,
            None if *errno == 0 => write!(f, "returns 0 without a pool")?,
            None => write!(f, "returns {errno}")?,
        }
        findings.iter().try_for_each(|finding| write!(f, "\n    {finding}"))
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.node, if self.enabled { "" } else { " (disabled)" })?;
        self.references.iter().try_for_each(|reference| write!(f, "\n  {reference}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kernel { pageblock, page_size, cma_areas } = &self.kernel;
        let (pageblock, page_size) = (size::format(*pageblock), size::format(*page_size));
        let rules = self.rules;
        writeln!(
            f,
            "Rules of {rules}, pageblock {pageblock}, page {page_size}, at most {cma_areas} CMA areas"
        )?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))?;
        self.regions.iter().try_for_each(|region| writeln!(f, "\n{region}"))?;
        self.users.iter().try_for_each(|user| writeln!(f, "\n{user}"))?;
        let [errors, warnings, notes] =
            [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Note, "note")].map(
                |(level, word)| {
                    let count = self.count(level);
                    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
                },
            );
        write!(f, "\n{errors}, {warnings}, {notes}")
    }
}
