//! Which memory the kernel maps: carveouts that it cannot map a second time, and free memory that it has not mapped.

use std::ops::Range;

use super::{
    Level, NodeOutcome,
    kernel::Arch,
    ranges::Ranges,
    regions::{Checked, Early},
};
use crate::{area::Rules, size};

const DMA_INIT: &str = "kernel/dma/coherent.c, dma_init_coherent_memory";
const MEMREMAP: &str = "kernel/dma/coherent.c, dma_init_coherent_memory; kernel/iomem.c, memremap";
const IOREMAP: &str =
    "kernel/dma/coherent.c, dma_init_coherent_memory; arch/arm64/mm/ioremap.c, __ioremap_prot";
const MAP_MEM: &str = "arch/arm64/mm/mmu.c, map_mem";

/// The smallest request of the early allocator.
const SMALLEST: u64 = 64;
/// Room above free memory that is not mapped: with less, the early allocator soon takes the latter.
const ROOM: u64 = 4 << 20;

impl Early<'_, '_> {
    /// Keeps what 64-bit Arm maps now that the first pass has ended. Since 6.12 static nodes are set up after this.
    pub(super) fn map_memory(&mut self) {
        let page = self.kernel.page_size;
        let mut mapped = Ranges::default();
        for range in self.memblock.mapped() {
            // 6.12 leaves out the pages in which no-map memory begins or ends; the others map these.
            mapped.insert(if self.kernel.rules == Rules::V6_12 {
                whole_pages(&range, page)
            } else {
                range.start / page * page..range.end.checked_next_multiple_of(page).unwrap_or(range.end)
            });
        }
        self.linear = mapped;
    }

    /// Whether some RAM in `range` is not in the linear map of 64-bit Arm, which has been made.
    pub(super) fn was_left_unmapped(&self, range: &Range<u64>) -> bool {
        self.kernel.arch == Arch::Arm64
            && self.ram.is_known()
            && !self.linear.is_empty()
            && self.memblock.memory.overlaps(range)
            && !self.linear.covers(range)
    }

    /// Finds free memory that 64-bit Arm has not mapped: beside no-map memory in a page, and no-map memory that is freed. The early
    /// allocator takes memory from the top, and the page allocator gets the whole pages that are left.
    pub(super) fn look_at_free_memory(&mut self, regions: &mut [Checked]) {
        if self.kernel.arch != Arch::Arm64 || !self.ram.is_known() {
            return;
        }
        let page = self.kernel.page_size;
        let mut free = Ranges::default();
        self.memblock.free_memory().parts().for_each(|part| free.insert(part.clone()));
        let mut room = 0;
        let mut parts: Vec<(Range<u64>, bool)> =
            free.without(&[&self.linear]).into_iter().map(|part| (part, false)).collect();
        let mut unmapped = Ranges::default();
        parts.iter().for_each(|(part, _)| unmapped.insert(part.clone()));
        parts.extend(free.without(&[&unmapped]).into_iter().map(|part| (part, true)));
        parts.sort_by_key(|(part, _)| std::cmp::Reverse(part.start));
        for (part, is_mapped) in parts {
            if is_mapped {
                room += part.end - part.start;
                continue;
            }
            let Some(start) = part.start.checked_next_multiple_of(SMALLEST) else { continue };
            let soon = room < ROOM && start.saturating_add(SMALLEST) <= part.end;
            if !soon && whole_pages(&part, page).is_empty() {
                continue;
            }
            self.panics |= soon;
            self.may_panic |= !soon;
            let pages = part.start / page * page..part.end.next_multiple_of(page);
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
                "crashes when it uses it"
            };
            let text = format!(
                "{part:#x?} is free, but Linux does not map it, because of no-map in the same pages: it {end}"
            );
            region.say(Level::Error, MAP_MEM, text);
        }
    }

    /// Findings on carveouts, which Linux maps when a device first asks for them.
    pub(super) fn look_at_carveouts(&self, regions: &mut [Checked]) {
        let page = self.kernel.page_size;
        let mut mapped = Ranges::default();
        self.memblock.mapped().into_iter().for_each(|range| mapped.insert(range));
        let mut ram = Ranges::default();
        mapped.iter().for_each(|range| ram.insert(whole_pages(&range, page)));
        for region in
            regions.iter_mut().filter(|region| region.region.outcome == NodeOutcome::CoherentCarveout)
        {
            let was_said = !region.usable;
            region.usable = true;
            let Some(range) = region.range.clone() else { continue };
            let no_map = self.tree.has(region.node, "no-map");
            let first = range.start / page * page;
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
            } else {
                continue;
            };
            region.usable = false;
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

/// The whole pages of a range.
fn whole_pages(range: &Range<u64>, page: u64) -> Range<u64> {
    let end = range.end / page * page;
    range.start.checked_next_multiple_of(page).unwrap_or(end).min(end)..end
}
