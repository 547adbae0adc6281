//! Explains why a request fails in the present state of an area, and what would make it succeed.

use std::{fmt, ops::Range};

use serde::Serialize;

use super::{
    allocator::{Area, MemRange, Request},
    error::Reason,
    measure::plural,
};
use crate::PAGE_SIZE;

/// The answer to a request, and what would make it succeed. A field that does not apply is null. Counts are in pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The number of pages requested.
    pub pages: u64,
    /// Their alignment, as an order of pages.
    pub align: u32,
    /// 0, -12 (-ENOMEM) or -16 (-EBUSY).
    pub errno: i32,
    /// Page frame number of the first page that it would get.
    pub pfn: Option<u64>,
    /// Why the kernel finds no pages.
    pub reason: Option<Reason>,
    /// Pages of the window.
    pub count: u64,
    /// Free pages of the window.
    pub free: u64,
    /// The longest free run, as page frame numbers.
    pub largest_hole: Range<u64>,
    /// The longest free run that begins at the alignment: the largest request that would be granted.
    pub largest_aligned_hole: Range<u64>,
    /// The largest alignment below `align` at which it would be granted.
    pub granted_at: Option<u32>,
    /// The place where the fewest pages would have to be freed.
    pub cheapest: Option<Place>,
    /// The number of pages by which the window would have to be longer. A real window grows by whole pageblocks.
    pub grow: Option<u64>,
}

/// The first of the places for a request with the fewest pages in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Its pages, as page frame numbers.
    pub pfns: Range<u64>,
    /// The number of allocated pages in it.
    pub used: u64,
    /// The number of pages in it that cannot be migrated.
    pub busy: u64,
    /// The allocated runs that overlap it, each with its full length. A run can be several buffers, and a buffer is
    /// freed as a whole.
    pub runs: Vec<Range<u64>>,
}

impl Area {
    /// Why a request for `count` pages at alignment `align` fails, and what would make it succeed.
    pub fn why(&self, count: u64, align: u32) -> Why {
        let found = |align| {
            let (index, bit, _) = self.search(count, align, &mut Vec::new())?;
            Ok(self.pfns_of(&self.ranges[index], bit..bit).start)
        };
        let answer = found(align);
        let mut why = Why {
            pages: count,
            align,
            errno: answer.map_or_else(|reason: Reason| reason.errno(self.rules), |_| 0),
            pfn: answer.ok(),
            reason: answer.err(),
            count: self.count(),
            free: self.free(),
            largest_hole: self.largest_hole(),
            largest_aligned_hole: self.largest_hole_at(align),
            granted_at: None,
            cheapest: None,
            grow: None,
        };
        if answer.is_err() && count > 0 {
            why.granted_at = (0..align.min(52)).rev().find(|align| found(*align).is_ok());
            why.cheapest = self.cheapest(count, align);
            why.grow = self.ranges.last().map(|range| self.missing(range, count, align));
        }
        why
    }

    /// The place in which the fewest pages are in the way.
    fn cheapest(&self, count: u64, align: u32) -> Option<Place> {
        let places = self.ranges.iter().filter_map(|range| {
            let request = self.request(range, count, align)?;
            let (bit, cost) = self.cheapest_bit(range, request)?;
            Some((cost, range, bit..bit + request.bits))
        });
        let (_, range, bits) = places.min_by_key(|(cost, ..)| *cost)?;
        let runs = range.bitmap.runs().filter(|run| run.start < bits.end && bits.start < run.end);
        let page = bits.start << self.order_per_bit;
        Some(Place {
            runs: runs.map(|run| self.pfns_of(range, run)).collect(),
            used: range.bitmap.count_in(bits.clone()) << self.order_per_bit,
            busy: range.busy.count_in(page..page + count),
            pfns: self.pfns_of(range, bits),
        })
    }

    /// The first aligned bit of the range from which the fewest pages are allocated or busy, and their number.
    fn cheapest_bit(&self, range: &MemRange, request: Request) -> Option<(u64, u64)> {
        let step = request.mask + 1;
        let in_the_way = |bits: Range<u64>, pages: Range<u64>| {
            (range.bitmap.count_in(bits) << self.order_per_bit) + range.busy.count_in(pages)
        };
        let page = |bit: u64| bit << self.order_per_bit;
        let first = request.offset.next_multiple_of(step) - request.offset;
        let last = range.bitmap.window_pages().checked_sub(request.bits)?;
        let mut bit = first;
        let mut cost = in_the_way(bit..bit + request.bits, page(bit)..page(bit) + request.count);
        let mut best = (first <= last).then_some((first, cost))?;
        // Adjacent places differ only at their ends, so the search is linear.
        while bit + step <= last && best.1 > 0 {
            let (end, page_end) = (bit + request.bits, page(bit) + request.count);
            cost += in_the_way(end..end + step, page_end..page_end + page(step));
            cost -= in_the_way(bit..bit + step, page(bit)..page(bit + step));
            bit += step;
            if cost < best.1 {
                best = (bit, cost);
            }
        }
        Some(best)
    }

    /// Pages by which the range is too short for one more place at its end.
    fn missing(&self, range: &MemRange, count: u64, align: u32) -> u64 {
        let end = range.bitmap.window_pages();
        let last_used = range.bitmap.last_in(0..end).map_or(0, |bit| bit + 1);
        let last_busy = range.busy.last_in(0..range.count).map_or(0, |page| (page >> self.order_per_bit) + 1);
        let (unit, offset) = self.alignment(range, align);
        let place = (last_used.max(last_busy) + offset).next_multiple_of(unit) - offset;
        (place.saturating_add(self.bits(count)).saturating_sub(end)).saturating_mul(1 << self.order_per_bit)
    }
}

/// Text for people: a line, and indented details.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pages, align, errno, count, free, largest_hole, .. } = self;
        write!(f, "a request for {} at alignment {align}: ", plural(*pages))?;
        let Some(reason) = self.reason else {
            write!(f, "granted at pfn {:#x}", self.pfn.unwrap_or(0))?;
            return write!(
                f,
                "\n  if the board refuses it nevertheless, the answer is -16: each run that is long enough has a page in use \
                 that cannot be migrated (pinned, under writeback); a bitmap does not show this"
            );
        };
        write!(f, "{errno}, {}", reason.sentence())?;
        write!(f, "\n  {free} of {} are free", plural(*count))?;
        for (hole, which) in
            [(largest_hole, ""), (&self.largest_aligned_hole, " that begins at the alignment")]
        {
            if !hole.is_empty() {
                let pages = plural(hole.end - hole.start);
                write!(f, "; the longest free run{which} has {pages} at pfn {:#x}", hole.start)?;
            }
        }
        if *pages == 0 {
            return Ok(());
        }
        write!(f, "\n  each of these would make it succeed:")?;
        let most = self.largest_aligned_hole.end - self.largest_aligned_hole.start;
        if most > 0 && most < *pages {
            write!(f, "\n  - a request for {most} pages or fewer")?;
        }
        if let Some(align) = self.granted_at {
            write!(f, "\n  - an alignment of {align} or less")?;
        }
        if let Some(Place { pfns, used, busy, runs }) = &self.cheapest {
            let way = match (used, busy) {
                (used, 0) => format!("{} freed", plural(*used)),
                (0, busy) => format!("{} that can be migrated again", plural(*busy)),
                (used, busy) => format!("{} freed, and {busy} that can be migrated again", plural(*used)),
            };
            write!(f, "\n  - {way} at pfn {:#x} to {:#x}: ", pfns.start, pfns.end - 1)?;
            f.write_str("the fewest of all places, but buffers are freed as a whole")?;
            for run in runs.iter().take(LISTED) {
                let pages = plural(run.end - run.start);
                write!(f, "\n    {pages} allocated at pfn {:#x} to {:#x}", run.start, run.end - 1)?;
            }
            if runs.len() > LISTED {
                write!(f, "\n    and {} more runs", runs.len() - LISTED)?;
            }
        }
        if let Some(grow) = self.grow {
            let size = count.saturating_add(grow).saturating_mul(PAGE_SIZE);
            write!(
                f,
                "\n  - a window that is {} longer, of at least {}",
                plural(grow),
                crate::size::format(size)
            )?;
        }
        Ok(())
    }
}

/// The maximum number of runs that the text lists.
const LISTED: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::area::Rules;

    #[test]
    fn a_window_of_buffers() {
        let mut area = Area::new("isp", 0x40000, 16384, 0).unwrap();
        area.fill(1013, 8);
        area.release(0x40000 + 3 * 1024, 1013);
        let why = area.why(1519, 8);
        assert_eq!((why.errno, why.reason, why.pfn), (-12, Some(Reason::NoRun), None));
        assert_eq!(why.largest_hole, 0x40bf5..0x41000);
        assert_eq!(why.largest_aligned_hole, 0x40c00..0x41000);
        assert_eq!((why.granted_at, why.grow), (None, Some(1519)));
        // Parts of two buffers, which are fewer pages than a part of the buffer after the hole.
        let runs = vec![0x40800..0x40bf5, 0x41000..0x413f5];
        assert_eq!(why.cheapest, Some(Place { pfns: 0x40b00..0x410ef, used: 484, busy: 0, runs }));
        assert_eq!(
            why.to_string(),
            "a request for 1519 pages at alignment 8: -12, no run of free pages is long enough at that alignment\n  \
             1189 of 16384 pages are free; the longest free run has 1035 pages at pfn 0x40bf5; the longest free run that \
             begins at the alignment has 1024 pages at pfn 0x40c00\n  \
             each of these would make it succeed:\n  \
             - a request for 1024 pages or fewer\n  \
             - 484 pages freed at pfn 0x40b00 to 0x410ee: the fewest of all places, but buffers are freed as a whole\n    \
             1013 pages allocated at pfn 0x40800 to 0x40bf4\n    \
             1013 pages allocated at pfn 0x41000 to 0x413f4\n  \
             - a window that is 1519 pages longer, of at least 71612K"
        );
        // 11 pages before the free slot are free as well, but not aligned.
        let why = area.why(1035, 8);
        assert_eq!(why.granted_at, Some(0));
        assert!(why.to_string().contains("\n  - an alignment of 0 or less\n"));
        let granted = area.why(1024, 8);
        assert_eq!(
            (granted.errno, granted.pfn, granted.cheapest, granted.grow),
            (0, Some(0x40c00), None, None)
        );
        assert!(
            area.why(1024, 8)
                .to_string()
                .contains("granted at pfn 0x40c00\n  if the board refuses it nevertheless")
        );
    }

    #[test]
    fn requests_that_no_freeing_helps() {
        let area = Area::of_ranges("isp", &[(0x40010, 1024)], 0, Rules::V7_2).unwrap();
        let why = area.why(2000, 8);
        assert_eq!((why.errno, why.reason), (-16, Some(Reason::LargerThanArea)));
        // 240 pages come before the first aligned one.
        assert_eq!((why.granted_at, why.cheapest, why.grow), (None, None, Some(240 + 2000 - 1024)));
        let why = area.why(1024, 8);
        assert_eq!((why.granted_at, why.cheapest, why.grow), (Some(4), None, Some(240)));
        let why = area.why(0, 8);
        assert_eq!((why.errno, why.grow), (-12, None));
        assert!(why.to_string().ends_with("at pfn 0x40100"), "{why}");
        assert!(area.why(u64::MAX, 51).to_string().contains("pages longer"));
    }

    #[test]
    fn busy_pages_are_in_the_way_too() {
        let mut area = Area::new("isp", 0, 512, 0).unwrap();
        area.set_busy(0..512);
        area.set_idle(300..400);
        let why = area.why(256, 7);
        assert_eq!((why.errno, why.grow), (-16, Some(256)));
        assert_eq!(why.cheapest, Some(Place { pfns: 256..512, used: 0, busy: 156, runs: vec![] }));
        assert!(
            why.to_string().contains("- 156 pages that can be migrated again at pfn 0x100 to 0x1ff"),
            "{why}"
        );
        area.set_idle(0..300);
        area.alloc(10, 0).unwrap();
        let why = area.why(500, 0);
        assert!(why.to_string().contains("10 pages freed, and 100 that can be migrated again"), "{why}");
    }

    proptest! {
        /// Each proposal makes the request succeed, and a smaller one does not.
        #[test]
        fn what_would_let_it_pass_does(
            base in 0_u64..600, order in 0_u32..3, count in 1_u64..300, align in 0_u32..9,
            buffers in prop::collection::vec((1_u64..60, any::<bool>()), 0..30), busy in prop::collection::vec(0_u64..512, 0..4),
        ) {
            let mut area = Area::new("isp", base, 512, order).unwrap();
            let granted: Vec<_> = buffers.iter().filter_map(|(pages, keep)| Some((area.alloc(*pages, 0).ok()?.pfn, *pages, *keep))).collect();
            for (pfn, pages, _) in granted.iter().filter(|(.., keep)| !keep) {
                area.release(*pfn, *pages);
            }
            busy.iter().for_each(|page| area.set_busy(base + page..base + page + 1));
            let why = area.why(count, align);
            let answer = area.clone().alloc(count, align);
            prop_assert_eq!((why.pfn, why.errno), answer.map_or_else(|error| (None, error.errno), |granted| (Some(granted.pfn), 0)));
            if why.errno == 0 {
                return Ok(());
            }
            for align in 0..align {
                let granted = area.clone().alloc(count, align).is_ok();
                prop_assert!(why.granted_at.is_none_or(|at| granted == (align <= at)) && (why.granted_at.is_some() || !granted));
            }
            if let Some(Place { pfns, used, busy, runs }) = why.cheapest {
                let mut freed = area.clone();
                prop_assert!(runs.iter().all(|run| freed.release(run.start, run.end - run.start)));
                freed.set_idle(pfns.clone());
                prop_assert!(freed.alloc(count, align).is_ok());
                // No place has fewer pages in the way: each place is examined.
                let whole = count.next_multiple_of(1 << order);
                let pages = area.allocated();
                let costs = (0..=512 - whole)
                    .step_by(1 << order)
                    .filter(|page| ((base >> order) + (page >> order)).is_multiple_of(1 << align.saturating_sub(order)))
                    .map(|page| pages.count_in(page..page + whole) + area.ranges[0].busy.count_in(page..page + count));
                prop_assert_eq!(costs.min(), Some(used + busy));
            }
            let grow = why.grow.unwrap();
            let longer = |by: u64| {
                let mut longer = Area::new("isp", base, 512 + by, order).unwrap();
                area.allocated().runs().for_each(|run| longer.ranges[0].bitmap.insert(run.start >> order..run.end >> order));
                area.ranges[0].busy.runs().for_each(|run| longer.ranges[0].busy.insert(run));
                longer.alloc(count, align).is_ok()
            };
            prop_assert!(longer(grow) && !longer(grow - (1 << order)));
        }
    }
}
