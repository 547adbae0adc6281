//! Which memory the kernel maps: carveouts that it cannot map a second time, and free memory that it has not mapped.

use std::ops::Range;

use super::{
    early::{Checked, Early},
    finding::Level,
    kernel::Arch,
    ranges::Ranges,
    report::{EINVAL, ENOMEM, NodeOutcome},
};
use crate::{area::Rules, size};

const DMA_INIT: &str = "kernel/dma/coherent.c, dma_init_coherent_memory";
const MEMREMAP: &str = "kernel/dma/coherent.c, dma_init_coherent_memory; kernel/iomem.c, memremap";
const IOREMAP: &str =
    "kernel/dma/coherent.c, dma_init_coherent_memory; arch/arm64/mm/ioremap.c, __ioremap_prot";
const X86_IOREMAP: &str =
    "kernel/dma/coherent.c, dma_init_coherent_memory; arch/x86/mm/ioremap.c, __ioremap_caller";
const MAP_MEM: &str = "arch/arm64/mm/mmu.c, map_mem";
const INIT_MAPPING: &str = "arch/x86/mm/init.c, init_range_memory_mapping";

/// The end of the addresses that a page table of 64-bit Arm and x86 can have.
const LARGEST: u64 = 1 << 52;
/// The smallest request of the early allocator.
const SMALLEST: u64 = 64;
/// The bytes of a region in the kernel's list (include/linux/of_reserved_mem.h, struct reserved_mem).
const ENTRY: u64 = 48;
/// Room above free memory that is not mapped: with less, the early allocator surely takes the latter.
const LITTLE_ROOM: u64 = 128 << 10;
/// With more room, it surely does not.
const MUCH_ROOM: u64 = 64 << 20;

impl Early<'_, '_> {
    /// Keeps what the linear map has now that the first pass has ended. Since 6.12 static nodes are set up after this.
    pub(super) fn map_memory(&mut self) {
        let page = self.kernel.page_size;
        let mapped = self.memblock.mapped();
        let inward = |range: Range<u64>| whole_pages(&range, page);
        self.linear = match (self.kernel.arch, self.kernel.rules) {
            // 6.12 leaves out the pages in which no-map memory begins or ends.
            (Arch::Arm64, Rules::V6_12) => mapped.into_iter().map(inward).collect(),
            // Also no-map memory, but no page that belongs to two ranges.
            (Arch::X86_64, _) => mapped.into_iter().chain(self.memblock.unmapped()).map(inward).collect(),
            _ => mapped.iter().map(|range| outward(range, page)).collect(),
        };
        if self.kernel.arch == Arch::X86_64 {
            // The end of what is mapped limits all later allocations (arch/x86/kernel/setup.c, setup_arch).
            self.ram.window_limit = self.mapped_end();
        }
    }

    /// The end of the linear map.
    pub(super) fn mapped_end(&self) -> u64 {
        self.linear.iter().next_back().map_or(0, |range| range.end)
    }

    /// The memory that /proc/iomem calls System RAM.
    pub(super) fn system_ram(&self) -> Ranges {
        let page = self.kernel.page_size;
        // An e820 map knows nothing of no-map. minivmm's own leaves out what its trees do not map.
        let is_e820 = self.kernel.arch == Arch::X86_64 && self.ram.given;
        let parts = if is_e820 { self.memblock.memory.iter().collect() } else { self.memblock.mapped() };
        parts.iter().map(|part| whole_pages(part, page)).collect()
    }

    /// Whether some RAM in `range` is not in the linear map of 64-bit Arm, which has been made.
    pub(super) fn was_left_unmapped(&self, range: &Range<u64>) -> bool {
        self.kernel.arch == Arch::Arm64
            && self.ram.is_known()
            && !self.linear.is_empty()
            && self.memblock.memory.overlaps(range)
            && !self.linear.covers(range)
    }

    /// Finds free memory that is not mapped: beside no-map memory in a page, and no-map memory that is freed. The early allocator takes
    /// memory from the top, and the page allocator gets the whole pages that are left.
    pub(super) fn look_at_free_memory(&mut self, regions: &mut [Checked]) {
        self.look_at_unmapped(regions, SMALLEST, true);
    }

    /// The same before static nodes are set up, which can free memory: since 6.12 Linux first allocates its list of `count` regions
    /// (drivers/of/of_reserved_mem.c, alloc_reserved_mem_array). Returns whether it panics then.
    pub(super) fn look_at_list(&mut self, regions: &mut [Checked], count: usize) -> bool {
        let size = (ENTRY * count as u64).next_multiple_of(SMALLEST);
        count > 0 && self.look_at_unmapped(regions, size, false)
    }

    /// Finds free memory that is not mapped, in which a request of `size` bytes fits. The memory that `is_last` is what the page
    /// allocator gets. Returns whether Linux surely uses it.
    fn look_at_unmapped(&mut self, regions: &mut [Checked], size: u64, is_last: bool) -> bool {
        let source = match self.kernel.arch {
            Arch::Arm64 => MAP_MEM,
            Arch::X86_64 => INIT_MAPPING,
            Arch::Arm | Arch::Riscv => return false,
        };
        if !self.ram.is_known() {
            return false;
        }
        let page = self.kernel.page_size;
        let mut free: Ranges = self.memblock.free_memory().parts().cloned().collect();
        if self.kernel.arch == Arch::X86_64 {
            free.keep(&(0..self.mapped_end()));
        }
        let (mut room, mut panics) = (0, false);
        let unmapped: Ranges = free.without(&[&self.linear]).into_iter().collect();
        let mapped = free.without(&[&unmapped]).into_iter().map(|part| (part, true));
        let mut parts: Vec<(Range<u64>, bool)> =
            unmapped.iter().map(|part| (part, false)).chain(mapped).collect();
        parts.sort_by_key(|(part, _)| std::cmp::Reverse(part.start));
        // Each NUMA node has data at its end.
        let nodes = self.ram.nodes.values().filter_map(|ram| ram.iter().next_back());
        let ends: Vec<u64> =
            nodes.filter(|_| is_last && self.ram.nodes.len() > 1).map(|ram| ram.end).collect();
        for (part, is_mapped) in parts {
            let inside = ends.iter().filter(|end| part.start < **end && **end <= part.end);
            let end = inside.min().copied();
            if is_mapped {
                room = end.map_or(room + (part.end - part.start), |end| end - part.start);
                continue;
            }
            room = if end.is_some() { 0 } else { room };
            let Some(start) = part.start.checked_next_multiple_of(SMALLEST) else { continue };
            let fits = start.saturating_add(size) <= part.end;
            let soon = fits && room < LITTLE_ROOM;
            let has_pages = !whole_pages(&part, page).is_empty();
            let later = is_last && (has_pages || fits && room < MUCH_ROOM);
            if !(soon || later) {
                continue;
            }
            panics |= soon;
            self.panics |= soon;
            self.may_panic |= !soon;
            let pages = outward(&part, page);
            let touches = |region: &Checked| {
                self.tree.has(region.node, "no-map")
                    && region
                        .range
                        .as_ref()
                        .is_some_and(|range| range.start < pages.end && pages.start < range.end)
            };
            let Some(region) = regions.iter_mut().find(|region| touches(region)) else { continue };
            if !soon && region.region.outcome == NodeOutcome::Refused {
                // Its refusal says so.
                continue;
            }
            let end = if soon {
                "panics at boot when it uses it (\"Unable to handle kernel paging request\")"
            } else {
                "crashes once it uses it"
            };
            let text = format!(
                "{part:#x?} is free, but Linux does not map it, because of no-map in the same pages: it {end}"
            );
            let level = if soon || has_pages { Level::Error } else { Level::Warning };
            region.say(level, source, text);
        }
        panics
    }

    /// Findings on carveouts, which Linux maps when a device first asks for them.
    pub(super) fn look_at_carveouts(&mut self, regions: &mut [Checked]) {
        let page = self.kernel.page_size;
        let mapped: Ranges = self.memblock.mapped().into_iter().collect();
        let ram = self.system_ram();
        // What kmalloc gives for a bitmap.
        let most = page << self.kernel.options.max_order.min(40);
        for region in
            regions.iter_mut().filter(|region| region.region.outcome == NodeOutcome::CoherentCarveout)
        {
            let was_said = region.use_error != 0;
            region.use_error = 0;
            let Some(range) = region.range.clone() else { continue };
            let no_map = self.tree.has(region.node, "no-map");
            let first = range.start / page * page;
            let pages = (range.end - range.start) / page;
            let mut error = EINVAL;
            let (source, text) = if range.is_empty() {
                (DMA_INIT, "no device can use it: its size is zero (-EINVAL)".to_owned())
            } else if ram.overlaps(&range) {
                (MEMREMAP, self.mapped_carveout(&range, no_map))
            } else if matches!(self.kernel.arch, Arch::Arm64 | Arch::Arm)
                && mapped.overlaps(&(first..first + 1))
            {
                let text = format!(
                    "no device can use it: it begins at {:#x}, in the middle of a page of which Linux uses the rest, and Linux does \
                     not map that page again uncached (-EINVAL); its address and size must be multiples of the page of {}",
                    range.start,
                    size::format(page)
                );
                (IOREMAP, text)
            } else if matches!(self.kernel.arch, Arch::Arm64 | Arch::X86_64) && range.end > LARGEST {
                let text = format!(
                    "no device can use it: addresses have at most 52 bits, and it ends at {:#x} (-EINVAL)",
                    range.end
                );
                (if self.kernel.arch == Arch::Arm64 { IOREMAP } else { X86_IOREMAP }, text)
            } else if pages.div_ceil(64) * 8 > most {
                error = ENOMEM;
                let text = format!(
                    "no device can use it: its bitmap has a bit for each page, and more than {}, which is the most that kmalloc gives \
                     (-ENOMEM); it can have {}",
                    size::format(most),
                    size::format(most.saturating_mul(8 * page))
                );
                (DMA_INIT, text)
            } else {
                if first < range.start {
                    let text = format!(
                        "it begins in the middle of a page: devices get memory from {first:#x} on, which is not all its own"
                    );
                    region.say(Level::Warning, DMA_INIT, text);
                }
                if let Some(lack) = self.ram.lack(&range) {
                    self.may_panic = true;
                    let text =
                        format!("{lack}: unless other memory is there, Linux crashes when a device uses it");
                    region.say(Level::Note, MEMREMAP, text);
                }
                continue;
            };
            region.use_error = error;
            if !was_said {
                region.say(Level::Warning, source, text);
            }
        }
    }

    fn mapped_carveout(&self, range: &Range<u64>, no_map: bool) -> String {
        let block = self.kernel.pageblock;
        let advice = if no_map {
            String::new()
        } else if range.start.is_multiple_of(block) && range.end.is_multiple_of(block) {
            "; for a CMA pool add reusable, for a carveout no-map".to_owned()
        } else {
            format!(
                "; for a CMA pool at whole pageblocks of {} add reusable, for a carveout no-map",
                size::format(block)
            )
        };
        format!(
            "no device can use it: it is mapped as RAM, and Linux does not map RAM again uncached (-EINVAL, \"memremap attempted on \
             ram\"), so that its memory is lost{advice}"
        )
    }
}

/// The pages of a range, also those that it has in part.
fn outward(range: &Range<u64>, page: u64) -> Range<u64> {
    range.start / page * page..range.end.checked_next_multiple_of(page).unwrap_or(range.end)
}

/// The whole pages of a range.
fn whole_pages(range: &Range<u64>, page: u64) -> Range<u64> {
    let end = range.end / page * page;
    range.start.checked_next_multiple_of(page).unwrap_or(end).min(end)..end
}
