//! `minivmm check`: what Linux 6.1 makes of each reserved-memory node of a device tree, and why.
//!
//! The rules are transcribed from the kernel: each finding names the file and the function that it comes from. Addresses
//! are taken to have 64 bits, and CONFIG_DMA_CMA, CONFIG_DMA_DECLARE_COHERENT and CONFIG_DMA_RESTRICTED_POOL to be set.

mod dma;
mod ranges;
mod references;
mod regions;
mod set_up;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;

use serde::Serialize;

use crate::{PAGE_SIZE, size};
pub use tree::{Tree, TreeError};

/// What the rules depend on: the configuration of the kernel.
#[derive(Debug, Clone, Serialize)]
pub struct Kernel {
    /// Unit of CMA windows in bytes, CMA_MIN_ALIGNMENT_BYTES (include/linux/cma.h).
    pub pageblock: u64,
    /// Size of a page in bytes.
    pub page_size: u64,
    /// Most CMA areas, MAX_CMA_AREAS (include/linux/cma.h): 1 + CONFIG_CMA_AREAS.
    pub cma_areas: usize,
}

/// Why there can be no such kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// No size of pages.
    #[error("a page of {} cannot be had: it is 4K, 16K or 64K", size::format(*.0))]
    PageSize(u64),
    /// No pageblock.
    #[error(
        "a pageblock of {} cannot be had: it is a power of two of at least a page, which has {}",
        size::format(*.pageblock), size::format(*.page_size)
    )]
    Pageblock {
        /// As asked for.
        pageblock: u64,
        /// Size of a page.
        page_size: u64,
    },
}

impl Kernel {
    /// A kernel whose pages and pageblocks have these sizes in bytes, and which has at most so many CMA areas.
    ///
    /// # Errors
    /// If no kernel can be built so.
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

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Note,
    /// It works, though perhaps not as meant.
    Warning,
    /// It will not work.
    Error,
}

/// Something that there is to say, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// The sentence.
    pub text: String,
    /// The file and the function of the kernel that it comes from.
    pub source: &'static str,
}

/// What Linux makes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeOutcome {
    /// A CMA window.
    CmaPool,
    /// A pool of coherent memory for the devices that name it, which nobody else uses.
    CoherentCarveout,
    /// A pool of bounce buffers for the devices that name it (CONFIG_DMA_RESTRICTED_POOL).
    RestrictedDmaPool,
    /// Memory that the kernel does not map.
    NoMap,
    /// Memory that the kernel maps and leaves alone.
    Reserved,
    /// Nothing: the memory is used as any other.
    Ignored,
    /// What it asks for is refused.
    Refused,
}

impl NodeOutcome {
    /// Whether of_reserved_mem_device_init has something to give.
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
    /// What Linux makes of it.
    pub outcome: NodeOutcome,
    /// The rule by which it does, in words.
    pub rule: String,
    /// The file and the function of the kernel that has the rule.
    pub source: &'static str,
    /// Its first address; null if the kernel finds a place for it, or if it has none.
    pub base: Option<u64>,
    /// Its size in bytes, by the first tuple of `reg` or by `size`; null if it has none.
    pub size: Option<u64>,
    /// It is the window of devices that have none of their own (linux,cma-default).
    pub default: bool,
    /// What else there is to say.
    pub findings: Vec<Finding>,
}

/// An entry of a `memory-region` property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// Which entry, counted from 0: the index for of_reserved_mem_device_init_by_idx.
    pub index: usize,
    /// The path of the node that it leads to; null if there is none.
    pub target: Option<String>,
    /// The return value of of_reserved_mem_device_init_by_idx: 0 or a negative error code.
    pub errno: i32,
    /// What the device gets: a pool, or null for nothing.
    pub gets: Option<NodeOutcome>,
    /// What there is to say.
    pub findings: Vec<Finding>,
}

/// A node with a `memory-region`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its path.
    pub node: String,
    /// Whether Linux makes a device of it: neither it nor a node around it has a `status` against that.
    pub enabled: bool,
    /// The entries.
    pub references: Vec<Reference>,
}

/// What there is to say of a tree. `minivmm check --json` prints it with these field names.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The rules that were applied: the version of Linux.
    pub rules: &'static str,
    /// What the rules depend on.
    pub kernel: Kernel,
    /// What concerns the tree as a whole.
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

    /// How many findings have `level`.
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
            None if *errno == 0 => write!(f, "gives it nothing and returns 0")?,
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
            "The rules of {rules}, pageblock {pageblock}, page {page_size}, at most {cma_areas} CMA areas"
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
