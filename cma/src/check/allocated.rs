//! Memory that Linux allocates for itself before it reserves the default window: page tables, the memory map, and an initrd that it moves.

use std::ops::Range;

use super::{
    early::{Early, INITRD},
    kernel::Arch,
    memblock::Request,
    ranges::Ranges,
};
use crate::area::Rules;

/// Pages that Linux allocates beside the tables of the linear map: the tables for its own image, and the unflattened tree. Debian's kernels
/// took 28 to 41 pages with a small tree.
const KERNEL_TABLES: u64 = 24;

/// The memory of a section (arch/arm64/include/asm/sparsemem.h, SECTION_SIZE_BITS), and of its part of the memory map, which is as large
/// and as aligned as what an entry of a page table of 4 KiB pages maps (mm/sparse.c, section_map_size).
const SECTION: u64 = 128 << 20;
const SECTION_MAP: u64 = 2 << 20;

impl Early<'_, '_> {
    /// What Linux allocates before and that is surely in `range`, and where.
    pub(super) fn allocated_before_in(&self, range: &Range<u64>) -> Option<(&'static str, u64)> {
        let page = self.kernel.page_size;
        self.allocated_before().into_iter().find_map(|(what, taken)| {
            let (first, end) = (taken.start.max(range.start), taken.end.min(range.end));
            (first < end).then(|| (what, (end - 1) / page * page))
        })
    }

    /// What Linux surely allocates before, and where, each at the end of memory that is free then. Nothing if the RAM is unknown.
    pub(super) fn allocated_before(&self) -> Vec<(&'static str, Range<u64>)> {
        match self.kernel.arch {
            _ if !self.ram.is_known() => Vec::new(),
            Arch::Arm64 => self.tables_and_maps(),
            Arch::X86_64 => self.moved_initrd().map(|taken| ("its initrd", taken)).into_iter().collect(),
            Arch::Arm | Arch::Riscv => Vec::new(),
        }
    }

    /// The new place of an initrd that is not in the linear map (arch/x86/kernel/setup.c, relocate_initrd).
    fn moved_initrd(&self) -> Option<Range<u64>> {
        let page = self.kernel.page_size;
        let (_, initrd) = self.others.iter().find(|(name, _)| *name == INITRD)?;
        let initrd = initrd.iter().next().filter(|initrd| !self.linear.covers(initrd))?;
        let size = (initrd.end - initrd.start).next_multiple_of(page);
        let request = Request { size, align: page, within: 0..self.mapped_end(), bottom_up: false };
        let start = self.memblock.free_memory().find(self.kernel, &request)?;
        Some(start..start + size)
    }

    fn tables_and_maps(&self) -> Vec<(&'static str, Range<u64>)> {
        let page = self.kernel.page_size;
        let mut free: Ranges = self.memblock.free_memory().parts().cloned().collect();
        let tables = self.page_tables(&free);
        tables.iter().for_each(|taken| free.remove(taken));
        let nodes = &self.ram.nodes;
        let several = nodes.values().filter(|_| nodes.len() > 1);
        let in_node = |ram: &Ranges| free.without(&[&free.without(&[ram]).into_iter().collect()]);
        // Each node's data is at its end.
        let data = |ram: &Ranges| in_node(ram).pop().map(|free| free.end.saturating_sub(page)..free.end);
        let datas = several.clone().filter_map(data);
        // In 7.2 the memory map comes after the window (mm/mm_init.c, mm_core_init_early).
        let has_map = |_: &&Ranges| self.kernel.rules != Rules::V7_2;
        let one = std::iter::once(&self.ram.memory).filter(|_| nodes.len() < 2);
        let maps = one.chain(several).filter(has_map).filter_map(|ram| self.memory_map(in_node(ram), ram));
        let tables = tables.into_iter().map(|taken| ("its page tables", taken));
        let datas = datas.map(|taken| ("the data of a NUMA node", taken));
        tables.chain(datas).chain(maps.map(|taken| ("its memory map", taken))).collect()
    }

    /// The page tables, each of which takes the last free page (arch/arm64/mm/mmu.c, early_pgtable_alloc).
    fn page_tables(&self, free: &Ranges) -> Vec<Range<u64>> {
        let page = self.kernel.page_size;
        let mut left = self.page_table_count();
        let mut taken = Vec::new();
        for free in free.iter().rev() {
            let end = free.end / page * page;
            let pages = (end.saturating_sub(free.start) / page).min(left);
            taken.push(end - pages * page..end);
            left -= pages;
        }
        taken
    }

    /// The least number of page tables. The linear map maps each page by itself, so that its rights can change (rodata=full,
    /// arch/arm64/mm/mmu.c, map_mem).
    fn page_table_count(&self) -> u64 {
        let page = self.kernel.page_size;
        let entries = page / 8;
        let mapped: Ranges = self.memblock.mapped().into_iter().collect();
        let spans = std::iter::successors(Some(page * entries), |span| span.checked_mul(entries));
        // The table of the last level is in the kernel.
        let tables = spans.take_while(|span| *span < 1 << 48).map(|span| parts(&mapped, span));
        KERNEL_TABLES + tables.sum::<u64>()
    }

    /// The memory map of the node with this `ram`, in one piece at the end of the `free` memory there, behind the node's own data
    /// (mm/sparse.c, sparse_buffer_init). None if there is no such piece, or with other pages than of 4 KiB.
    fn memory_map(&self, free: Vec<Range<u64>>, ram: &Ranges) -> Option<Range<u64>> {
        if self.kernel.page_size != 4096 {
            return None;
        }
        let size = parts(ram, SECTION) * SECTION_MAP;
        let mut data = self.kernel.page_size;
        free.into_iter().rev().find_map(|free| {
            let end = free.end.saturating_sub(data) / SECTION_MAP * SECTION_MAP;
            data = 0;
            let start = end.checked_sub(size)?;
            (start >= free.start).then_some(start..end)
        })
    }
}

/// The number of parts of `span` bytes in which some of `ranges` is.
fn parts(ranges: &Ranges, span: u64) -> u64 {
    let (mut count, mut next) = (0, 0);
    for range in ranges.iter() {
        let (first, end) = ((range.start / span).max(next), (range.end - 1) / span + 1);
        count += end.saturating_sub(first);
        next = end.max(next);
    }
    count
}
