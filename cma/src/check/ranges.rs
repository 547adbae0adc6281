//! A set of addresses, as memblock keeps them: ranges without overlap, ascending.

use std::{collections::BTreeMap, ops::Range};

/// The range of `size` bytes at `base`, limited to 64-bit addresses like memblock_cap_size (mm/memblock.c).
pub(super) fn at(base: u64, size: u64) -> Range<u64> {
    base..base.saturating_add(size)
}

/// A set of addresses. Adjacent ranges are merged.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl FromIterator<Range<u64>> for Ranges {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(ranges: T) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

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

    pub(super) fn remove(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((start, end)) = self
            .0
            .range(..range.end)
            .next_back()
            .map(|(start, end)| (*start, *end))
            .filter(|(_, end)| *end > range.start)
        {
            self.0.remove(&start);
            if end > range.end {
                self.0.insert(range.end, end);
            }
            if start < range.start {
                self.0.insert(start, range.start);
            }
        }
    }

    /// Keeps only what is in `range`.
    pub(super) fn keep(&mut self, range: &Range<u64>) {
        self.remove(&(0..range.start));
        self.remove(&(range.end..u64::MAX));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
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

    /// The end of the range with `address`.
    pub(super) fn end_of(&self, address: u64) -> Option<u64> {
        self.0.range(..=address).next_back().map(|(_, end)| *end).filter(|end| *end > address)
    }

    /// The parts that are in none of `others`, ascending.
    pub(super) fn without(&self, others: &[&Self]) -> Vec<Range<u64>> {
        // Ascending lists, which a stable sort merges.
        let mut taken: Vec<Range<u64>> = others.iter().flat_map(|other| other.iter()).collect();
        taken.sort_by_key(|range| range.start);
        taken.dedup_by(|later, earlier| {
            let is_one = later.start <= earlier.end;
            if is_one {
                earlier.end = earlier.end.max(later.end);
            }
            is_one
        });
        let mut taken = taken.into_iter().peekable();
        let mut parts = Vec::new();
        for range in self.iter() {
            let mut start = range.start;
            while let Some(other) = taken.next_if(|other| other.end <= range.end) {
                if other.start > start {
                    parts.push(start..other.start);
                }
                start = start.max(other.end);
            }
            let end = taken.peek().map_or(range.end, |other| other.start.clamp(start, range.end));
            if start < end {
                parts.push(start..end);
            }
        }
        parts
    }

    /// The bytes of `within` that are in the set.
    pub(super) fn bytes(&self, within: &Range<u64>) -> u64 {
        if within.is_empty() {
            return 0;
        }
        let before = self.0.range(..within.start).next_back().map(|(start, end)| *start..*end);
        let inside = self.0.range(within.clone()).map(|(start, end)| *start..*end);
        let part =
            |range: Range<u64>| range.end.min(within.end).saturating_sub(range.start.max(within.start));
        before.into_iter().chain(inside).map(part).sum()
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
            (base, size) in (0u64..60, 1u64..12),
        ) {
            let make = |parts: &[(u64, u64)]| {
                let mut set = Ranges::default();
                parts.iter().for_each(|(base, size)| set.insert(at(*base, *size)));
                let list: BTreeSet<u64> = parts.iter().flat_map(|(base, size)| at(*base, *size)).collect();
                (set, list)
            };
            let ((mut set, list), (taken, taken_list)) = (make(&parts), make(&taken));
            let range = at(base, size);
            prop_assert_eq!(set.overlaps(&range), range.clone().any(|at| list.contains(&at)));
            prop_assert_eq!(set.covers(&range), range.clone().all(|at| list.contains(&at)));
            prop_assert_eq!(set.bytes(&range), range.clone().filter(|at| list.contains(at)).count() as u64);
            let free: Vec<u64> = set.without(&[&taken]).into_iter().flatten().collect();
            let expected: Vec<u64> = list.difference(&taken_list).copied().collect();
            prop_assert_eq!(free, expected);
            let ranges: Vec<_> = set.iter().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            set.remove(&range);
            let left: Vec<u64> = set.iter().flatten().collect();
            prop_assert_eq!(left, list.into_iter().filter(|at| !range.contains(at)).collect::<Vec<_>>());
        }
    }
}
