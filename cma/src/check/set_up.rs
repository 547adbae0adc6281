//! Makes a pool of a region that has memory, as its `compatible` requests (drivers/of/of_reserved_mem.c, __reserved_mem_init_node).

use super::{
    early::{CMA_SETUP, Checked, Early, RESERVE},
    finding::Level,
    kernel::Arch,
    ranges::at,
    report::{EINVAL, NodeOutcome},
};
use crate::{area::Rules, size};

/// `compatible` of regions that a specific driver sets up if it is built in (RESERVEDMEM_OF_DECLARE).
const DRIVERS: [(&str, &str); 4] = [
    ("fsl,qman-fqd", "drivers/soc/fsl/qbman/qman_ccsr.c, qman_fqd"),
    ("fsl,qman-pfdr", "drivers/soc/fsl/qbman/qman_ccsr.c, qman_pfdr"),
    ("fsl,bman-fbpr", "drivers/soc/fsl/qbman/bman_ccsr.c, bman_fbpr"),
    ("nvidia,tegra210-emc-table", "drivers/memory/tegra/tegra210-emc-table.c, tegra210_emc_table_init"),
];

const DMA_SETUP: &str = "kernel/dma/coherent.c, rmem_dma_setup";
const SWIOTLB_SETUP: &str = "kernel/dma/swiotlb.c, rmem_swiotlb_setup";
const CMA_INIT: &str = "mm/cma.c, cma_init_reserved_mem";

/// A pool: its kind, its source in the kernel, and the rule.
type Made = (NodeOutcome, &'static str, String);

/// Why a driver makes no pool.
struct Refusal {
    level: Level,
    source: &'static str,
    text: String,
    /// Whether 7.2 then asks the next driver, and keeps the memory reserved if all refuse so (-ENODEV).
    asks_next: bool,
}

fn refuse(source: &'static str, text: impl Into<String>) -> Result<Made, Refusal> {
    Err(Refusal { level: Level::Error, source, text: text.into(), asks_next: false })
}

impl Early<'_, '_> {
    /// Makes the pool, and says what becomes of the region.
    pub(super) fn set_up(&mut self, index: usize, region: &mut Checked) {
        self.done.extend(region.range.clone().filter(|range| !range.is_empty()));
        match self.make_pool(index, region) {
            Some(Ok((outcome, source, rule))) => {
                region.end(outcome, source, rule);
                self.look_at_pool(index, region);
            }
            Some(Err(refusal)) => self.refused(region, refusal),
            None => {
                let (outcome, rule) = if self.tree.has(region.node, "no-map") {
                    (NodeOutcome::NoMap, "it has no-map, and its compatible does not request a pool")
                } else {
                    (NodeOutcome::Reserved, "its compatible does not request a pool, and it has no no-map")
                };
                region.end(outcome, RESERVE, rule);
                self.look_at_plain(region);
            }
        }
    }

    fn refused(&mut self, region: &mut Checked, refusal: Refusal) {
        let Refusal { level, source, text, asks_next } = refusal;
        if self.kernel.rules == Rules::V7_2 && asks_next {
            region.fail(
                level,
                NodeOutcome::Refused,
                source,
                format!("{text}; Linux keeps its memory reserved"),
            );
            return;
        }
        if self.kernel.rules == Rules::V7_2 && self.done.last() == region.range.as_ref() {
            // It leaves the list of regions again (booted: Debian's 7.2.13).
            self.done.pop();
        }
        let range = region.range.clone();
        let is_unmapped = range.as_ref().is_some_and(|range| self.was_left_unmapped(range));
        let end = if is_unmapped { ", which it has not mapped, and crashes when it uses it" } else { "" };
        region.fail(level, NodeOutcome::Refused, source, format!("{text}; Linux frees its memory{end}"));
        let Some(range) = range else { return };
        if self.tree.has(region.node, "no-map") {
            self.memblock.map(&range);
        } else {
            let others = self.others_in(&range);
            if !others.is_empty() {
                let text = format!(
                    "with its memory, Linux frees what is reserved for {} in {range:#x?}",
                    others.join(" and ")
                );
                region.say(Level::Error, "mm/memblock.c, memblock_phys_free", text);
            }
            self.memblock.free(&range);
        }
    }

    /// The pool that its `compatible` requests. None if it requests none that this kernel knows.
    fn make_pool(&mut self, index: usize, region: &Checked) -> Option<Result<Made, Refusal>> {
        let (node, options) = (region.node, &self.kernel.options);
        let (cma, coherent) = (options.dma_cma, options.dma_declare_coherent);
        let restricted = options.dma_restricted_pool && self.tree.is_compatible(node, "restricted-dma-pool");
        let is_pool = self.is_pool(node);
        let mut first: Option<Refusal> = None;
        // The order of kernel/dma/Makefile.
        for driver in 0..3 {
            let made = match driver {
                0 if is_pool && cma => self.make_cma(index, region),
                1 if is_pool && coherent => self.make_carveout(node),
                2 if restricted => self.make_restricted(node),
                _ => continue,
            };
            match made {
                Ok(made) => return Some(Ok(made)),
                Err(refusal) => {
                    let is_last = self.kernel.rules == Rules::V7_2 && !refusal.asks_next;
                    // The reason of the pool that its properties ask for is more useful than that of the other kind.
                    first = Some(match first {
                        Some(first) if !is_last && self.tree.has(node, "reusable") => first,
                        _ => refusal,
                    });
                    if is_last {
                        break;
                    }
                }
            }
        }
        first.map(Err)
    }

    fn make_cma(&mut self, index: usize, region: &Checked) -> Result<Made, Refusal> {
        let (tree, node, rules) = (self.tree, region.node, self.kernel.rules);
        if self.is_bypassed(node) && (rules != Rules::V7_2 || self.asks_for_cma(node)) {
            let text = "cma= on the command line makes the default window (-EBUSY, \"bypass ... node, using cmdline CMA \
                        params instead\")";
            return Err(Refusal {
                level: Level::Warning,
                source: CMA_SETUP,
                text: text.to_owned(),
                asks_next: false,
            });
        }
        if !self.asks_for_cma(node) {
            let text = if tree.has(node, "reusable") {
                "reusable and no-map exclude each other: the kernel must map CMA memory to use it meanwhile (-EINVAL)"
            } else {
                "shared-dma-pool without reusable, which CMA requires (-EINVAL)"
            };
            return Err(Refusal {
                level: Level::Error,
                source: CMA_SETUP,
                text: text.to_owned(),
                asks_next: true,
            });
        }
        let pageblock = self.kernel.pageblock;
        // An address that Linux chooses is a multiple, unless its alignment is no power of two.
        let base = region.range.as_ref().map_or(0, |range| range.start);
        let size = region.region.size.unwrap_or(0);
        for (what, value) in [("base", base), ("size", size)] {
            if !value.is_multiple_of(pageblock) {
                return refuse(CMA_SETUP, self.misaligned(region, what, value));
            }
        }
        let full = self.areas.len() >= self.kernel.cma_areas;
        let no_slot = || {
            let text = format!(
                "there are {} CMA areas before it and no slot for another (-ENOSPC, \"Not enough slots for CMA reserved \
                 regions!\"); CONFIG_CMA_AREAS must be larger",
                self.areas.len()
            );
            refuse(CMA_INIT, text)
        };
        if full && rules != Rules::V7_2 {
            return no_slot();
        }
        if size == 0 {
            return refuse(CMA_INIT, "its size is zero (-EINVAL)");
        }
        if region.range.as_ref().is_some_and(|range| !self.memblock.is_reserved(range)) {
            let text = "its memory is not reserved any more, because Linux freed it with that of another node (-EINVAL, \
                        \"unable to setup CMA region\")";
            return refuse(CMA_INIT, text);
        }
        if full {
            return no_slot();
        }
        self.areas.push((Some(index), region.range.clone()));
        let text = "shared-dma-pool with reusable and without no-map, aligned to the pageblock";
        Ok((NodeOutcome::CmaPool, CMA_SETUP, text.to_owned()))
    }

    /// Why a base or a size is refused, and what would be right.
    fn misaligned(&self, region: &Checked, what: &str, value: u64) -> String {
        let pageblock = self.kernel.pageblock;
        let nearest =
            |value: u64| value.checked_next_multiple_of(pageblock).unwrap_or(value / pageblock * pageblock);
        let text = format!(
            "its {what} {value:#x} is not a multiple of the pageblock of {}; {:#x} is (-EINVAL, \"incorrect alignment of CMA \
             region\")",
            size::format(pageblock),
            nearest(value)
        );
        // What the advice leads to.
        let (Some(base), Some(size)) = (region.region.base, region.region.size) else { return text };
        let advised = at(nearest(base), nearest(size));
        match self.ram.lack(&advised) {
            Some(lack) => format!(
                "{text}; aligned, it would make the kernel panic, because {lack}: for memory that is not RAM use no-map without \
                 reusable, or let the driver map it"
            ),
            None => text,
        }
    }

    fn make_carveout(&self, node: usize) -> Result<Made, Refusal> {
        if self.tree.has(node, "reusable") {
            let text = "reusable needs CONFIG_DMA_CMA, which this kernel does not have (-EINVAL, \"compatible matching fail\")";
            return Err(Refusal {
                level: Level::Error,
                source: DMA_SETUP,
                text: text.to_owned(),
                asks_next: true,
            });
        }
        let no_map = self.tree.has(node, "no-map");
        if self.kernel.arch == Arch::Arm && !no_map {
            let text = "a carveout must have no-map on 32-bit Arm (-EINVAL, \"regions without no-map are not yet supported\"); for \
                        a CMA pool add reusable";
            return refuse(DMA_SETUP, text);
        }
        let text = if no_map {
            "shared-dma-pool with no-map and without reusable"
        } else {
            "shared-dma-pool without reusable, which CMA requires"
        };
        Ok((NodeOutcome::CoherentCarveout, DMA_SETUP, text.to_owned()))
    }

    fn make_restricted(&self, node: usize) -> Result<Made, Refusal> {
        for name in ["reusable", "linux,cma-default", "linux,dma-default", "no-map"] {
            if self.tree.has(node, name) {
                return refuse(SWIOTLB_SETUP, format!("a restricted-dma-pool cannot have {name} (-EINVAL)"));
            }
        }
        let text = "restricted-dma-pool, with CONFIG_DMA_RESTRICTED_POOL";
        Ok((NodeOutcome::RestrictedDmaPool, SWIOTLB_SETUP, text.to_owned()))
    }

    /// Findings on a pool.
    fn look_at_pool(&mut self, index: usize, region: &mut Checked) {
        let (tree, node, outcome) = (self.tree, region.node, region.region.outcome);
        let is_cma = outcome == NodeOutcome::CmaPool;
        if tree.has(node, "linux,cma-default") {
            if is_cma {
                if let Some(before) = self.default.replace(index) {
                    self.replaced.push(before);
                }
            } else {
                let text =
                    "linux,cma-default does not make it the default window, because it is not a CMA pool";
                region.say(Level::Error, CMA_SETUP, text);
            }
        }
        self.look_at_dma_default(index, region);
        let Some(range) = region.range.clone() else { return };
        let others = self.others_in(&range);
        if outcome != NodeOutcome::CoherentCarveout && !others.is_empty() {
            let text = format!(
                "it overlaps what is reserved for {}: Linux gives this memory to both",
                others.join(" and ")
            );
            let level = if others == ["/memreserve/"] { Level::Warning } else { Level::Error };
            region.say(level, CMA_SETUP, text);
        }
        if outcome == NodeOutcome::RestrictedDmaPool {
            if let Some(lack) = self.ram.lack(&range) {
                let text = format!("{lack}: Linux crashes when a device uses it");
                region.say(Level::Error, "kernel/dma/swiotlb.c, rmem_swiotlb_device_init", text);
            } else if self.kernel.arch == Arch::Arm && range.start >= self.ram.low_end {
                let text = "no device can use it: it is not in low memory (-EINVAL)";
                region.say(Level::Warning, "kernel/dma/swiotlb.c, rmem_swiotlb_device_init", text);
                region.use_error = EINVAL;
            }
        }
    }

    /// Findings on `linux,dma-default`.
    fn look_at_dma_default(&mut self, index: usize, region: &mut Checked) {
        if !self.tree.has(region.node, "linux,dma-default") {
            return;
        }
        if region.region.outcome != NodeOutcome::CoherentCarveout {
            let text = "linux,dma-default has no effect, because it is not a coherent carveout";
            region.say(Level::Warning, DMA_SETUP, text);
            return;
        }
        let before = self.dma_default.replace(index);
        let text = if self.kernel.options.dma_global_pool {
            "linux,dma-default makes it the default pool of coherent memory".to_owned()
        } else {
            "linux,dma-default makes it the default pool of coherent memory only with CONFIG_DMA_GLOBAL_POOL (Arm without an MMU, \
             RISC-V RZ/Five), which this kernel does not have: here it has no effect"
                .to_owned()
        };
        region.say(Level::Note, DMA_SETUP, text);
        if let Some(before) = before {
            let text = format!(
                "it has linux,dma-default like {}: with CONFIG_DMA_GLOBAL_POOL the last one is the default (\"region for default DMA \
                 coherent area is redefined\")",
                self.paths[before]
            );
            region.say(Level::Warning, DMA_SETUP, text);
        }
    }

    /// Findings on memory that is only reserved.
    fn look_at_plain(&self, region: &mut Checked) {
        let (tree, node) = (self.tree, region.node);
        if let Some((name, source)) = DRIVERS.into_iter().find(|(name, _)| tree.is_compatible(node, name)) {
            region.say(Level::Note, source, format!("the driver of {name} uses it, if it is built in"));
        }
        if tree.is_compatible(node, "restricted-dma-pool") {
            let text = "restricted-dma-pool needs CONFIG_DMA_RESTRICTED_POOL, which this kernel does not have: it is no pool, and its \
                        memory is lost";
            region.say(Level::Warning, SWIOTLB_SETUP, text);
        }
        for name in ["reusable", "linux,cma-default", "linux,dma-default"] {
            if tree.has(node, name) {
                let text = format!("{name} has no effect without compatible = \"shared-dma-pool\"");
                region.say(Level::Warning, CMA_SETUP, text);
            }
        }
        let Some(range) = region.range.clone() else { return };
        if region.region.outcome == NodeOutcome::Reserved
            && let Some(lack) = self.ram.lack(&range)
        {
            let text = format!("{lack}: unless the boot loader adds RAM there, it has no effect");
            region.say(Level::Note, RESERVE, text);
        }
        let page = self.kernel.page_size;
        if !range.start.is_multiple_of(page) || !range.end.is_multiple_of(page) {
            let page = size::format(page);
            let text = format!(
                "{range:#x?} does not consist of whole pages of {page}: Linux reserves the whole pages at its ends"
            );
            region.say(Level::Note, RESERVE, text);
        }
    }

    /// Marks the default window, and reports the nodes that would be, too.
    pub(super) fn name_default(&mut self, regions: &mut [Checked]) {
        let Some(index) = self.default else { return };
        let winner = regions[index].region.node.clone();
        regions[index].region.default = true;
        for other in &self.replaced {
            let text = format!(
                "it has linux,cma-default, but {winner} is the default window, because Linux sets it up last"
            );
            regions[*other].say(Level::Warning, CMA_SETUP, text);
        }
    }
}
