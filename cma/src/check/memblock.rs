//! The early allocator's state: RAM, what of it is not mapped, and what is reserved (mm/memblock.c).

use std::ops::Range;

use super::{kernel::Kernel, ranges::Ranges};

/// Alignment of an allocation that asks for none (SMP_CACHE_BYTES).
const CACHE_LINE: u64 = 64;

/// Who reserved memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// Not a region: its name.
    Other(&'static str),
    /// A child of /reserved-memory, by its number.
    Region(usize),
}

/// The state.
#[derive(Debug, Default)]
pub(super) struct Memblock {
    /// The RAM.
    pub(super) memory: Ranges,
    /// The memory that is marked no-map.
    unmapped: Ranges,
    reserved: Ranges,
    /// All reservations so far, also those that were freed.
    held: Vec<(Range<u64>, Holder)>,
}

/// A request for memory.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) size: u64,
    pub(super) align: u64,
    pub(super) within: Range<u64>,
    pub(super) bottom_up: bool,
}

impl Memblock {
    pub(super) fn is_reserved(&self, range: &Range<u64>) -> bool {
        self.reserved.overlaps(range)
    }

    pub(super) fn reserve(&mut self, range: Range<u64>, holder: Holder) {
        self.reserved.insert(range.clone());
        self.held.push((range, holder));
    }

    /// Marks memory as not mapped. It is not reserved, but nothing is allocated there (memblock_mark_nomap).
    pub(super) fn unmap(&mut self, range: Range<u64>, holder: Holder) {
        self.unmapped.insert(range.clone());
        self.held.push((range, holder));
    }

    /// Ends all reservations of a range, also those of other nodes.
    pub(super) fn free(&mut self, range: &Range<u64>) {
        self.reserved.remove(range);
    }

    pub(super) fn map(&mut self, range: &Range<u64>) {
        self.unmapped.remove(range);
    }

    /// The reservations of RAM that overlap one of `ranges`, the largest first.
    pub(super) fn holders(&self, ranges: &[Range<u64>]) -> Vec<&(Range<u64>, Holder)> {
        let is_there = |(held, _): &&(Range<u64>, Holder)| {
            self.memory.overlaps(held)
                && (self.reserved.overlaps(held) || self.unmapped.overlaps(held))
                && ranges.iter().any(|range| held.start < range.end && range.start < held.end)
        };
        let mut held: Vec<_> = self.held.iter().filter(is_there).collect();
        held.sort_by_key(|(range, _)| std::cmp::Reverse(range.end - range.start));
        held.dedup();
        held
    }

    /// The RAM without the memory that is marked no-map, ascending.
    pub(super) fn mapped(&self) -> Vec<Range<u64>> {
        self.memory.without(&[&self.unmapped])
    }

    /// The RAM that is marked no-map, ascending.
    pub(super) fn unmapped(&self) -> Vec<Range<u64>> {
        let mapped = self.mapped().into_iter().collect();
        self.memory.without(&[&mapped])
    }

    pub(super) fn reserved(&self) -> &Ranges {
        &self.reserved
    }

    /// The free memory.
    pub(super) fn free_memory(&self) -> Free {
        Free(self.memory.without(&[&self.reserved, &self.unmapped]))
    }

    /// The free memory in `ram`.
    pub(super) fn free_memory_in(&self, ram: &Ranges) -> Free {
        let elsewhere = self.memory.without(&[ram]).into_iter().collect();
        Free(self.memory.without(&[&self.reserved, &self.unmapped, &elsewhere]))
    }

    /// What would be free if all of `more` were RAM.
    pub(super) fn free_memory_with(&self, more: &[Range<u64>]) -> Free {
        let mut memory = self.memory.clone();
        more.iter().for_each(|range| memory.insert(range.clone()));
        Free(memory.without(&[&self.reserved, &self.unmapped]))
    }
}

/// Free memory: ranges, ascending.
pub(super) struct Free(Vec<Range<u64>>);

impl Free {
    pub(super) fn parts(&self) -> impl DoubleEndedIterator<Item = &Range<u64>> {
        self.0.iter()
    }

    /// The rest without `taken`.
    pub(super) fn without(&self, taken: &Ranges) -> Self {
        Self(self.0.iter().cloned().collect::<Ranges>().without(&[taken]))
    }

    /// The address that an allocation gets (memblock_find_in_range_node). An alignment that is not a power of two is used as a mask,
    /// as the kernel does.
    pub(super) fn find(&self, kernel: &Kernel, request: &Request) -> Option<u64> {
        let mask = if request.align == 0 { CACHE_LINE - 1 } else { request.align - 1 };
        let start = request.within.start.max(kernel.page_size);
        let end = request.within.end.max(start);
        let size = request.size;
        let clamped = |range: &Range<u64>| range.start.clamp(start, end)..range.end.clamp(start, end);
        let base = if request.bottom_up {
            self.0.iter().map(clamped).find_map(|range| {
                let base = (range.start.wrapping_sub(1) | mask).wrapping_add(1);
                (base < range.end && range.end - base >= size).then_some(base)
            })
        } else {
            self.0.iter().rev().map(clamped).find_map(|range| {
                let base = range.end.checked_sub(size)? & !mask;
                (base >= range.start).then_some(base)
            })
        };
        base.filter(|base| *base != 0)
    }

    /// The size of the largest part in one of `within` that begins at a multiple of `align`.
    pub(super) fn largest(&self, align: u64, within: &[Range<u64>]) -> u64 {
        let align = if align.is_power_of_two() { align } else { CACHE_LINE };
        let parts = within.iter().flat_map(|within| {
            let first = self.0.partition_point(|free| free.end <= within.start);
            let inside = self.0[first..].iter().take_while(|free| free.start < within.end);
            inside.map(|free| free.start.max(within.start)..free.end.min(within.end))
        });
        let usable = |part: Range<u64>| {
            part.start.checked_next_multiple_of(align).map_or(0, |start| part.end.saturating_sub(start))
        };
        parts.map(usable).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        area::Rules,
        check::{Arch, ranges::at},
    };

    const M: u64 = 1 << 20;

    #[test]
    fn memory_is_taken_from_the_top() {
        let kernel = Kernel::debian(Rules::V6_12, Arch::Arm64, 4096).unwrap();
        let mut memblock = Memblock::default();
        memblock.memory.insert(at(0x4000_0000, 2048 * M));
        let find = |memblock: &Memblock, size, align, within, bottom_up| {
            memblock.free_memory().find(&kernel, &Request { size, align, within, bottom_up })
        };
        let all = 0..u64::MAX;
        assert_eq!(find(&memblock, 64 * M, 2 * M, all.clone(), false), Some(0xbc00_0000));
        assert_eq!(find(&memblock, 64 * M, 2 * M, all.clone(), true), Some(0x4000_0000));
        memblock.reserve(at(0xbff0_0000, 4096), Holder::Other("the tree"));
        assert_eq!(find(&memblock, 64 * M, 2 * M, all.clone(), false), Some(0xbbe0_0000));
        // A mask, not a multiple.
        assert_eq!(find(&memblock, 16 * M, 6 * M, 0..0xbf00_0000, false), Some(0xbe00_0000));
        assert_eq!(find(&memblock, 4096 * M, 0, all.clone(), false), None);
        memblock.unmap(at(0x4000_0000, 2000 * M), Holder::Region(0));
        assert_eq!(find(&memblock, 64 * M, 0, all.clone(), false), None);
        assert_eq!(memblock.free_memory().largest(M, &[0..u64::MAX]), 47 * M);
        memblock.map(&at(0x4000_0000, 2000 * M));
        memblock.free(&at(0xbff0_0000, 4096));
        assert_eq!(memblock.free_memory().largest(M, &[0..u64::MAX]), 2048 * M);
        assert!(memblock.holders(&[all]).is_empty());
    }
}
