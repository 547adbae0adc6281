//! The state of the early boot: the regions as far as they are known, and what is reserved.

use std::ops::Range;

use super::{
    cmdline::Cmdline,
    finding::{Level, finding},
    kernel::Kernel,
    memblock::{Holder, Memblock},
    ram::Ram,
    ranges::Ranges,
    report::{DefaultWindow, NodeOutcome, Region},
    tree::Tree,
};

/// The name of the initrd among the other reservations.
pub(super) const INITRD: &str = "the initrd";
pub(super) const RESERVE: &str = "drivers/of/of_reserved_mem.c, early_init_dt_reserve_memory";
pub(super) const CMA_SETUP: &str = "kernel/dma/contiguous.c, rmem_cma_setup";

/// A region and its node in the tree.
pub(super) struct Checked {
    pub(super) node: usize,
    pub(super) region: Region,
    /// Its position in the kernel's list, which the kernel searches for a device. None if it is not in the list.
    pub(super) rank: Option<usize>,
    /// The error for a device that asks for it, if it is a pool; 0 if it can be used.
    pub(super) use_error: i32,
    /// Whether a boot loader may still make it work: it fills in `reg`, or adds RAM.
    pub(super) is_placeholder: bool,
    /// Its addresses, if they are known.
    pub(super) range: Option<Range<u64>>,
}

impl Checked {
    pub(super) fn say(&mut self, level: Level, source: &'static str, text: impl Into<String>) {
        self.region.findings.push(finding(level, source, text));
    }

    pub(super) fn end(&mut self, outcome: NodeOutcome, source: &'static str, rule: impl Into<String>) {
        self.region.outcome = outcome;
        self.region.rule = rule.into();
        self.region.source = source;
    }

    /// Like [`Self::end`], with a finding.
    pub(super) fn fail(
        &mut self,
        level: Level,
        outcome: NodeOutcome,
        source: &'static str,
        rule: impl Into<String>,
    ) {
        let rule = rule.into();
        self.say(level, source, rule.clone());
        self.end(outcome, source, rule);
    }
}

/// The state of the early boot.
pub(super) struct Early<'t, 'a> {
    pub(super) tree: &'t Tree<'a>,
    pub(super) kernel: &'t Kernel,
    /// The root's cells of an address and of a size.
    pub(super) cells: (usize, usize),
    pub(super) ram: Ram,
    pub(super) memblock: Memblock,
    /// The memory in the kernel's linear map.
    pub(super) linear: Ranges,
    pub(super) cmdline: Cmdline,
    /// The paths of the regions.
    pub(super) paths: Vec<String>,
    /// Memory that is reserved for something else than a region, with its name.
    pub(super) others: Vec<(&'static str, Ranges)>,
    /// The regions that have been set up.
    pub(super) done: Vec<Range<u64>>,
    /// The CMA areas in the kernel's order: the number of the region, or None for the default window; and the addresses, if known.
    pub(super) areas: Vec<(Option<usize>, Option<Range<u64>>)>,
    /// The region that is the default window.
    pub(super) default: Option<usize>,
    /// The regions that were the default window before.
    pub(super) replaced: Vec<usize>,
    /// The last region with `linux,dma-default`.
    pub(super) dma_default: Option<usize>,
    pub(super) window: DefaultWindow,
    /// Where the default window likely is, if Linux chooses its place: other early allocations come first.
    pub(super) guessed: Ranges,
    /// The default window that is no region's, if its place is known or likely.
    pub(super) beside: Option<Range<u64>>,
    /// The windows of NUMA nodes.
    pub(super) numa: Vec<Range<u64>>,
    /// Whether the kernel panics at boot.
    pub(super) panics: bool,
    /// Whether it may crash later.
    pub(super) may_panic: bool,
}

impl Early<'_, '_> {
    pub(super) fn is_pool(&self, node: usize) -> bool {
        self.tree.is_compatible(node, "shared-dma-pool")
    }

    /// Whether a node asks for a CMA window.
    pub(super) fn asks_for_cma(&self, node: usize) -> bool {
        self.is_pool(node) && self.tree.has(node, "reusable") && !self.tree.has(node, "no-map")
    }

    /// Whether `cma=` replaces a node that would be the default window.
    pub(super) fn is_bypassed(&self, node: usize) -> bool {
        self.kernel.options.dma_cma && self.cmdline.cma.is_some() && self.tree.has(node, "linux,cma-default")
    }

    /// The names of what else than regions is reserved in `range`.
    pub(super) fn others_in(&self, range: &Range<u64>) -> Vec<&'static str> {
        self.others.iter().filter(|(_, ranges)| ranges.overlaps(range)).map(|(name, _)| *name).collect()
    }

    /// Reserves `range` for something else than a region.
    pub(super) fn reserve_other(&mut self, name: &'static str, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.memblock.reserve(range.clone(), Holder::Other(name));
        match self.others.iter_mut().find(|(other, _)| *other == name) {
            Some((_, ranges)) => ranges.insert(range),
            None => {
                let mut ranges = Ranges::default();
                ranges.insert(range);
                self.others.push((name, ranges));
            }
        }
    }
}
