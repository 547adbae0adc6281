//! A set of addresses, as memblock keeps them: ranges without overlap, ascending.

use std::{collections::BTreeMap, ops::Range};

/// The range of `size` bytes at `base`, limited to 64-bit addresses like memblock_cap_size (mm/memblock.c).
pub(super) fn at(base: u64, size: u64) -> Range<u64> {
    base..base.saturating_add(size)
}

/// A set of addresses. Adjacent ranges are merged.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&other, &other_end)) =
            self.0.range(..=end).next_back().filter(|(_, other_end)| **other_end >= start)
        {
            self.0.remove(&other);
            (start, end) = (start.min(other), end.max(other_end));
        }
        self.0.insert(start, end);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    /// Whether any of `range` is in the set.
    pub(super) fn overlaps(&self, range: &Range<u64>) -> bool {
        self.0.range(..range.end).next_back().is_some_and(|(_, end)| *end > range.start)
    }

    /// Whether all of `range` is in the set.
    pub(super) fn covers(&self, range: &Range<u64>) -> bool {
        self.0.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }

    /// The size of the largest range in `within` that begins at a multiple of `align` and is in the set, but not in `taken`.
    pub(super) fn room(&self, taken: &Self, align: u64, within: &Range<u64>) -> u64 {
        let mut largest = 0;
        let mut look = |start: u64, end: u64| {
            if let Some(start) = start.checked_next_multiple_of(align) {
                largest = largest.max(end.saturating_sub(start));
            }
        };
        for range in self.iter() {
            let end = range.end.min(within.end);
            let mut start = range.start.max(within.start);
            for other in taken.iter().filter(|other| other.end > range.start && other.start < range.end) {
                look(start, other.start.min(end));
                start = start.max(other.end);
            }
            look(start, end);
        }
        largest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_a_list_of_addresses_would_be(
            parts in prop::collection::vec((0u64..60, 0u64..12), 0..8),
            taken in prop::collection::vec((0u64..60, 0u64..12), 0..8),
            (base, size, align) in (0u64..60, 1u64..12, 1u64..9),
        ) {
            let make = |parts: &[(u64, u64)]| {
                let mut set = Ranges::default();
                parts.iter().for_each(|(base, size)| set.insert(at(*base, *size)));
                let list: BTreeSet<u64> = parts.iter().flat_map(|(base, size)| at(*base, *size)).collect();
                (set, list)
            };
            let ((set, list), (taken, taken_list)) = (make(&parts), make(&taken));
            let range = at(base, size);
            prop_assert_eq!(set.overlaps(&range), range.clone().any(|at| list.contains(&at)));
            prop_assert_eq!(set.covers(&range), range.clone().all(|at| list.contains(&at)));
            let within = 5..70;
            let free = |at| list.contains(&at) && !taken_list.contains(&at);
            let starts = within.clone().filter(|start| start % align == 0);
            let room = starts.map(|start| (start..within.end).take_while(|at| free(*at)).count() as u64).max();
            prop_assert_eq!(Some(set.room(&taken, align, &within)), room);
            let ranges: Vec<_> = set.iter().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
