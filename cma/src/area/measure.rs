//! Measures of an area: free pages, free runs, and how much of the free space a request can use.

use std::{fmt, ops::Range};

use serde::Serialize;

use super::{
    allocator::{Area, MemRange},
    rules::Rules,
};

/// Free space of an area, in pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Pages of the area.
    pub count: u64,
    /// Allocated pages, as debugfs `used` shows them: see [`Area::used`].
    pub used: u64,
    /// Length of the longest free run, as debugfs `maxchunk` shows it.
    pub maxchunk: u64,
    /// First page of that run (the first one if several have this length); null if no page is free.
    pub maxchunk_pfn: Option<u64>,
    /// Number of free runs.
    pub free_runs: u64,
    /// Element n is the number of free runs with at least 2^n and fewer than 2^(n+1) pages. The last element is not zero.
    pub histogram: Vec<u64>,
    /// Pages that cannot be migrated, allocated or not.
    pub busy: u64,
}

impl Area {
    /// debugfs `used` (mm/cma_debug.c, cma_used_get). Up to 6.14 it counts the pages of the bits that are set. Since 6.15 it
    /// counts the pages that were requested; these are fewer if a bit stands for several pages.
    pub fn used(&self) -> u64 {
        match self.rules {
            Rules::V6_1 | Rules::V6_12 => self.count() - self.free(),
            Rules::V7_2 => self.count().wrapping_sub(self.available),
        }
    }

    /// Pages of the bits that are clear.
    pub fn free(&self) -> u64 {
        self.holes().map(|hole| hole.end - hole.start).sum()
    }

    /// The longest free run, as page frame numbers: the first one if several have this length, empty if no page is free. Its
    /// length is debugfs `maxchunk` (mm/cma_debug.c, cma_maxchunk_get).
    pub fn largest_hole(&self) -> Range<u64> {
        longest(self.holes())
    }

    /// The longest free run that begins at a multiple of 2^`align` pages, as page frame numbers: the first one if several have
    /// this length, empty if there is no such run. It is the largest request that is granted at that alignment.
    pub fn largest_hole_at(&self, align: u32) -> Range<u64> {
        longest(self.ranges.iter().flat_map(|range| {
            let (unit, offset) = self.alignment(range, align);
            range.bitmap.holes().filter_map(move |hole| {
                let start = (hole.start + offset).next_multiple_of(unit) - offset;
                (start < hole.end).then(|| self.pfns_of(range, start..hole.end))
            })
        }))
    }

    /// The numbers of free pages and free runs.
    pub fn statistics(&self) -> Statistics {
        let hole = self.largest_hole();
        let mut histogram = Vec::new();
        let mut free_runs = 0;
        for hole in self.holes() {
            free_runs += 1;
            let order = (hole.end - hole.start).ilog2() as usize;
            histogram.resize(histogram.len().max(order + 1), 0);
            histogram[order] += 1;
        }
        Statistics {
            count: self.count(),
            used: self.used(),
            maxchunk: hole.end - hole.start,
            maxchunk_pfn: Some(hole.start).filter(|_| !hole.is_empty()),
            free_runs,
            histogram,
            busy: self.ranges.iter().map(|range| range.busy.count()).sum(),
        }
    }

    /// External fragmentation for requests of `count` pages at alignment `align`: of each thousand free pages, the number that
    /// repeated requests cannot use. It is 1000 if no page is free.
    ///
    /// It is the buddy allocator's unusable free index (mm/vmstat.c, unusable_free_index) for runs of a bitmap: 0 if all free
    /// pages are usable. Pages that are lost to alignment or to busy pages count as unusable.
    pub fn unusable_free_index(&self, count: u64, align: u32) -> u64 {
        match self.free() {
            0 => 1000,
            free => (free - self.fits(count, align) * count) * 1000 / free,
        }
    }

    /// The free runs, as page frame numbers, ascending.
    fn holes(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().flat_map(|range| range.bitmap.holes().map(|hole| self.pfns_of(range, hole)))
    }

    /// The page frame numbers of bits of a range.
    pub(super) fn pfns_of(&self, range: &MemRange, bits: Range<u64>) -> Range<u64> {
        let pfn = |bit: u64| range.base_pfn + (bit << self.order_per_bit);
        pfn(bits.start)..pfn(bits.end)
    }
}

/// The longest of `runs`: the first one if several have this length, empty if there are no runs.
fn longest(runs: impl Iterator<Item = Range<u64>>) -> Range<u64> {
    let longer = |best: Range<u64>, run: Range<u64>| {
        if run.end - run.start > best.end - best.start { run } else { best }
    };
    runs.fold(0..0, longer)
}

/// Text for people: a summary line, and a line for each size of free runs.
impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, used, maxchunk, maxchunk_pfn, free_runs, histogram, busy } = self;
        let runs = if *free_runs == 1 { "run" } else { "runs" };
        write!(f, "{used} of {count} pages used, {busy} busy; {free_runs} free {runs}")?;
        if let Some(pfn) = maxchunk_pfn {
            write!(f, ", the longest (maxchunk) of {} at pfn {pfn:#x}", plural(*maxchunk))?;
        }
        for (order, runs) in histogram.iter().enumerate().filter(|(_, runs)| **runs > 0) {
            let first = 1_u64 << order;
            write!(f, "\nfree runs of {first} to {} pages: {runs}", 2 * first - 1)?;
        }
        Ok(())
    }
}

/// "1 page" or "2 pages".
pub fn plural(pages: u64) -> String {
    if pages == 1 { "1 page".to_owned() } else { format!("{pages} pages") }
}

/// Thousandths as a percentage.
pub(crate) fn permille(thousandths: u64) -> String {
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}
