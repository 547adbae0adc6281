//! The window of devices without a window of their own: a node's, that of `cma=`, or that of the kernel's configuration
//! (kernel/dma/contiguous.c, dma_contiguous_reserve; mm/cma.c, cma_declare_contiguous_nid).

use std::ops::Range;

use super::{
    early::{Checked, Early},
    finding::{Level, finding},
    kernel::SizeSelection,
    memblock::{Holder, Request},
    ranges::Ranges,
    report::Origin,
};
use crate::{area::Rules, size};

pub(super) const RESERVE: &str = "kernel/dma/contiguous.c, dma_contiguous_reserve";
const NUMA_RESERVE: &str = "kernel/dma/contiguous.c, dma_numa_cma_reserve";
const DECLARE: &str = "mm/cma.c, cma_declare_contiguous_nid";

/// The end of 32-bit addresses.
const BORDER: u64 = 4 << 30;

/// A request for the default window.
struct Wanted {
    base: u64,
    size: u64,
    /// The end of its addresses.
    limit: u64,
    fixed: bool,
}

impl Early<'_, '_> {
    /// Reserves the default window, unless a node is it already, and those of NUMA nodes.
    pub(super) fn reserve_default_window(&mut self, regions: &[Checked]) {
        if self.reserve_one_window() {
            self.reserve_numa_windows(regions);
        }
    }

    /// Reserves a window of the default window's size in each of several NUMA nodes (kernel/dma/contiguous.c, dma_numa_cma_reserve).
    fn reserve_numa_windows(&mut self, regions: &[Checked]) {
        let is_configured = self.kernel.rules == Rules::V7_2 && self.kernel.options.cma_size_pernuma;
        let size = match self.default {
            Some(index) => regions[index].region.size,
            None => self.window.size,
        };
        let (Some(size), true, true) = (size, is_configured, self.ram.nodes.len() > 1) else { return };
        let wanted = Wanted { base: 0, size, limit: 0, fixed: false };
        for ram in self.ram.nodes.clone().into_values() {
            // Linux goes on without it.
            let Ok((Some(base), size)) = self.declare(&wanted, Some(&ram)) else { continue };
            let range = self.kernel.range(base, size);
            self.guessed.insert(range.clone());
            self.memblock.reserve(range.clone(), Holder::Other("a NUMA node's default window"));
            self.areas.push((None, None));
            self.numa.push(range);
        }
        let text = format!(
            "Linux also reserves {} in {} of {} NUMA nodes (CONFIG_CMA_SIZE_PERNUMA)",
            size::format(size),
            self.numa.len(),
            self.ram.nodes.len()
        );
        self.window.findings.push(finding(Level::Note, NUMA_RESERVE, text));
    }

    /// Reserves the default window, unless a node is it already. False if that fails.
    fn reserve_one_window(&mut self) -> bool {
        let options = &self.kernel.options;
        if !options.dma_cma {
            if self.cmdline.cma.is_some() {
                let text = "cma= on the command line has no effect without CONFIG_DMA_CMA";
                self.window.findings.push(finding(Level::Warning, RESERVE, text));
            }
            return false;
        }
        let limit = self.ram.window_limit;
        let (origin, wanted) = match self.cmdline.cma {
            Some(cma) => {
                let (size, base) = (self.kernel.address(cma.size), self.kernel.address(cma.base));
                let own = self.kernel.address(cma.limit);
                let limit = match own {
                    0 => limit,
                    own if self.kernel.rules == Rules::V7_2 => own,
                    own => own.min(limit),
                };
                (Origin::Cmdline, Wanted { base, size, limit, fixed: base.wrapping_add(size) == own })
            }
            None => (Origin::Config, Wanted { base: 0, size: self.configured_size(), limit, fixed: false }),
        };
        if wanted.size == 0 || self.default.is_some() {
            return true;
        }
        match self.declare(&wanted, None) {
            Ok((base, size)) => {
                self.window.origin = origin;
                (self.window.base, self.window.size) = (base.filter(|_| wanted.fixed), Some(size));
                let range = base.map(|base| self.kernel.range(base, size));
                self.beside.clone_from(&range);
                if let Some(range) = range.clone() {
                    if !wanted.fixed {
                        self.guessed.insert(range.clone());
                    }
                    self.memblock.reserve(range, Holder::Other("the default window"));
                }
                self.areas.push((None, range.filter(|_| wanted.fixed)));
                true
            }
            Err(text) => {
                let level = if origin == Origin::Cmdline { Level::Error } else { Level::Warning };
                let name =
                    if origin == Origin::Cmdline { "cma= on the command line" } else { "CONFIG_CMA_SIZE_*" };
                let text = format!(
                    "{name} makes no default window: {text} (\"Failed to reserve {} MiB\"): buffers come from the buddy allocator",
                    wanted.size >> 20
                );
                self.window.findings.push(finding(level, DECLARE, text));
                false
            }
        }
    }

    fn configured_size(&self) -> u64 {
        let options = &self.kernel.options;
        let mbytes = options.cma_size_mbytes << 20;
        let ram: u64 =
            if self.ram.is_known() { self.ram.memory.iter().map(|ram| ram.end - ram.start).sum() } else { 0 };
        let page = self.kernel.page_size;
        let percentage = (ram / page).saturating_mul(options.cma_size_percentage) / 100 * page;
        match options.cma_size_selection {
            SizeSelection::Mbytes => mbytes,
            SizeSelection::Percentage => percentage,
            SizeSelection::Min => mbytes.min(percentage),
            SizeSelection::Max => mbytes.max(percentage),
        }
    }

    /// The base, if it is known, and the size of the window, in the RAM of a NUMA node or anywhere. The error is the reason for a kernel without a window.
    fn declare(&self, wanted: &Wanted, node: Option<&Ranges>) -> Result<(Option<u64>, u64), String> {
        let kernel = self.kernel;
        let current = kernel.rules == Rules::V7_2;
        let block = kernel.pageblock;
        let round_up = |value: u64| kernel.address(value.wrapping_add(block - 1) & !(block - 1));
        if self.areas.len() >= kernel.cma_areas {
            return Err(format!("there are {} CMA areas and no slot for another", self.areas.len()));
        }
        if wanted.fixed && !wanted.base.is_multiple_of(block) {
            return Err(format!(
                "its base {:#x} is not a multiple of the pageblock of {} (\"must be aligned\")",
                wanted.base,
                size::format(block)
            ));
        }
        let (base, size) = (round_up(wanted.base), round_up(wanted.size));
        let fixed = wanted.fixed && base != 0;
        let end = base.wrapping_add(size);
        let high = self.ram.low_end;
        let crosses = || {
            (fixed && base < high && end > high).then(|| {
                format!(
                    "{base:#x}..{end:#x} reaches beyond {high:#x} (\"defined on low/high memory boundary\")"
                )
            })
        };
        let has_boundary = !current || kernel.options.highmem;
        if !current && let Some(crosses) = crosses() {
            return Err(crosses);
        }
        let limit = match wanted.limit & !(block - 1) {
            0 => self.ram.end(),
            limit => limit.min(self.ram.end()),
        };
        if end > limit {
            return Err(format!("{base:#x}..{end:#x} is beyond the limit {limit:#x} (\"exceeds limit\")"));
        }
        if fixed {
            if has_boundary && let Some(crosses) = crosses() {
                return Err(crosses);
            }
            let range = kernel.range(base, size);
            if self.memblock.is_reserved(&range) {
                let holder = self.memblock.holders(std::slice::from_ref(&range)).first().map(
                    |(_, holder)| match holder {
                        Holder::Other(name) => (*name).to_owned(),
                        Holder::Region(index) => self.paths[*index].clone(),
                    },
                );
                let holder = holder.unwrap_or_else(|| "another region".to_owned());
                return Err(format!("{range:#x?} is already reserved for {holder} (-EBUSY)"));
            }
            if let Some((what, at)) = self.allocated_before_in(&range) {
                let other = if self.ram.may_grow() { "; with other RAM they are elsewhere" } else { "" };
                return Err(format!(
                    "Linux allocates {what} before, at the end of free RAM, and {at:#x} is in {range:#x?} (-EBUSY){other}"
                ));
            }
            return Ok((Some(base), size));
        }
        if !self.ram.is_known() {
            return Ok((None, size));
        }
        let free = node.map_or_else(|| self.memblock.free_memory(), |ram| self.memblock.free_memory_in(ram));
        let free = free.without(&self.allocated_before().into_iter().map(|(_, taken)| taken).collect());
        let find = |within: Range<u64>, bottom_up| {
            free.find(kernel, &Request { size, align: block, within, bottom_up })
        };
        let reach = if current { limit } else { self.ram.end() };
        let above_4g = || {
            let is_large = !kernel.has_32_bit_addresses() && reach >= BORDER.saturating_add(size);
            if is_large { find(BORDER..limit, true) } else { None }
        };
        // High memory first, as all pages of a window must be of one zone.
        let has_high = has_boundary && base < high && limit > high;
        let in_high = || if has_high { find(high..limit, false) } else { None };
        let below = if has_high { high } else { limit };
        match above_4g().or_else(in_high).or_else(|| find(base..below, false)) {
            Some(base) => Ok((Some(base), size)),
            None => {
                let room = free.largest(block, std::slice::from_ref(&(base.max(kernel.page_size)..limit)));
                Err(format!(
                    "there is no room for {} in one piece below {limit:#x}, only for {} (-ENOMEM)",
                    size::format(size),
                    size::format(room)
                ))
            }
        }
    }
}
