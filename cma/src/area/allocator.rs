//! The allocator of one area: which pages a request gets, and what the kernel prints when it gets none.

use std::{fmt::Write as _, ops::Range};

use super::{
    error::{AllocError, AreaError, Reason},
    limits::{MAX_PAGES, MAX_RANGES},
    rules::Rules,
};
use crate::{PAGE_SIZE, Window, map::pages::Pages};

/// One CMA area: the kernel's `struct cma`, and which of its pages cannot be migrated.
///
/// ```
/// use cma::area::Area;
///
/// let mut area = Area::new("isp", 0x40000, 16384, 0)?;
/// assert_eq!(area.alloc(1013, 8)?.pfn, 0x40000);
/// assert_eq!(area.alloc(1013, 8)?.pfn, 0x40400);
/// assert_eq!(area.used(), 2026);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Area {
    pub(super) name: String,
    pub(super) rules: Rules,
    pub(super) order_per_bit: u32,
    /// Ascending, without overlap: one, or up to [`MAX_RANGES`] since 6.15.
    pub(super) ranges: Vec<MemRange>,
    /// The kernel's available_count, since 6.15: all pages minus the pages of the requests that were granted.
    pub(super) available: u64,
}

/// The kernel's `struct cma_memrange`.
#[derive(Debug, Clone)]
pub(super) struct MemRange {
    pub(super) base_pfn: u64,
    pub(super) count: u64,
    /// A bit for each 2^order_per_bit pages, set if they are allocated.
    pub(super) bitmap: Pages,
    /// Pages counted from the base.
    pub(super) busy: Pages,
}

/// Pages that cma_alloc allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The first page.
    pub pfn: u64,
    /// The first page of each candidate that was busy, in the order of the attempts: the kernel's tracepoint
    /// cma_alloc_busy_retry.
    pub busy: Vec<u64>,
}

/// A request to a range, in bits of its bitmap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// The requested number of pages: only these need to be migrated.
    pub(super) count: u64,
    pub(super) bits: u64,
    /// A power of two minus one. The number of an aligned bit plus `offset` is a multiple of that power.
    pub(super) mask: u64,
    /// The distance of the base from the aligned place below it.
    pub(super) offset: u64,
}

impl Area {
    /// An area of one range with the rules of 6.1. No page is allocated or busy.
    ///
    /// `base_pfn` and `count` are in pages. A bit of the bitmap stands for 2^`order_per_bit` pages: one page
    /// for areas of the device tree and of the DMA API.
    ///
    /// # Errors
    /// If it has no pages, too many, or a number that is not a multiple of the pages of a bit.
    pub fn new(name: &str, base_pfn: u64, count: u64, order_per_bit: u32) -> Result<Self, AreaError> {
        Self::of_ranges(name, &[(base_pfn, count)], order_per_bit, Rules::V6_1)
    }

    /// An area of `ranges`, each the first page and the number of pages, ascending (mm/cma.c,
    /// cma_declare_contiguous_multi). No page is allocated or busy.
    ///
    /// # Errors
    /// If a range has no pages, too many, or a number that is not a multiple of the pages of a bit; or if the rules do not
    /// allow this number of ranges.
    pub fn of_ranges(
        name: &str,
        ranges: &[(u64, u64)],
        order_per_bit: u32,
        rules: Rules,
    ) -> Result<Self, AreaError> {
        let most = if rules.have_ranges() { MAX_RANGES } else { 1 };
        let name = name.to_owned();
        if ranges.is_empty() || ranges.len() > most {
            return Err(AreaError::Ranges { name, found: ranges.len() });
        }
        let last = u64::MAX / PAGE_SIZE;
        let (mut end, mut total) = (0, 0_u64);
        for &(base_pfn, count) in ranges {
            total = total.saturating_add(count);
            if count == 0 {
                return Err(AreaError::Empty(name));
            }
            if total > MAX_PAGES || base_pfn.checked_add(count).is_none_or(|end| end > last) {
                return Err(AreaError::TooLarge { name, base_pfn, count });
            }
            if count.trailing_zeros() < order_per_bit {
                return Err(AreaError::PartOfABit { name, count, order_per_bit });
            }
            if base_pfn < end {
                return Err(AreaError::Overlap { name, pfn: base_pfn });
            }
            end = base_pfn + count;
        }
        let ranges = ranges.iter().map(|&(base_pfn, count)| MemRange {
            base_pfn,
            count,
            bitmap: Pages::empty(count >> order_per_bit),
            busy: Pages::empty(count),
        });
        Ok(Self { name, rules, order_per_bit, ranges: ranges.collect(), available: total })
    }

    /// The area of a window of the device tree. Its name is that of the node, with the unit address.
    ///
    /// # Errors
    /// If base or size of the window are not whole pages, or the area cannot exist.
    pub fn of_window(window: &Window, order_per_bit: u32, rules: Rules) -> Result<Self, AreaError> {
        let Window { name, base, size, .. } = window;
        let name = format!("{name}@{base:x}");
        for (what, value) in [("size", *size), ("base", *base)] {
            if !value.is_multiple_of(PAGE_SIZE) {
                return Err(AreaError::NotPages { name, what, value });
            }
        }
        Self::of_ranges(&name, &[(base / PAGE_SIZE, size / PAGE_SIZE)], order_per_bit, rules)
    }

    /// Its name. An area of the device tree has the name of its node, with the unit address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rules that it follows.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Pages of a bit of its bitmap, as an order.
    pub fn order_per_bit(&self) -> u32 {
        self.order_per_bit
    }

    /// Its ranges, as page frame numbers.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().map(MemRange::pfns)
    }

    /// Its pages.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|range| range.count).sum()
    }

    /// The allocated pages, in whole bits, counted from the base. The pages of a second range follow those of the first, and so
    /// on.
    pub fn allocated(&self) -> Pages {
        let mut pages = Pages::empty(self.count());
        let mut before = 0;
        for (pfns, allocated) in self.range_bitmaps() {
            allocated.runs().for_each(|run| pages.insert(before + run.start..before + run.end));
            before += pfns.end - pfns.start;
        }
        pages
    }

    /// The page frame numbers of each range, and its allocated pages, counted from its base.
    pub fn range_bitmaps(&self) -> impl Iterator<Item = (Range<u64>, Pages)> {
        self.ranges.iter().map(|range| {
            let mut pages = Pages::empty(range.count);
            for run in range.bitmap.runs() {
                pages.insert(run.start << self.order_per_bit..run.end << self.order_per_bit);
            }
            (range.pfns(), pages)
        })
    }

    /// cma_alloc: allocates the first run of `count` free pages from which all movable pages can be migrated.
    ///
    /// `align` is an order of pages, below 52: a page frame number has 52 bits. The search does not wait or start again: it
    /// skips pages that are busy at that moment.
    ///
    /// # Errors
    /// The kernel's answer, if there is no such run. [`Area::dmesg`] returns the messages.
    pub fn alloc(&mut self, count: u64, align: u32) -> Result<Allocation, AllocError> {
        let mut busy = Vec::new();
        match self.search(count, align, &mut busy) {
            Ok((index, bit, request)) => {
                self.hand_out(index, bit, request);
                Ok(Allocation { pfn: self.pfns_of(&self.ranges[index], bit..bit).start, busy })
            }
            Err(reason) => {
                let (name, errno) = (self.name.clone(), reason.errno(self.rules));
                Err(AllocError { name, count, align, reason, errno, busy })
            }
        }
    }

    /// cma_release: frees `count` pages from `pfn` on. False if `pfn` is not in the area, and since 6.15 also if the
    /// last of the pages is not in the same range (find_cma_memrange).
    ///
    /// Like the kernel, it does not check that the pages were allocated. If some of them lie beyond the end, those in the area
    /// are freed; a 6.1 kernel with CONFIG_DEBUG_VM stops instead.
    pub fn release(&mut self, pfn: u64, count: u64) -> bool {
        let bits = self.bits(count);
        let Some(range) = self.ranges.iter_mut().find(|range| range.pfns().contains(&pfn)) else {
            return false;
        };
        if self.rules.have_ranges() && count > range.pfns().end - pfn {
            return false;
        }
        let bit = (pfn - range.base_pfn) >> self.order_per_bit;
        range.bitmap.remove(bit..bit.saturating_add(bits));
        self.available = self.available.wrapping_add(count);
        true
    }

    /// Marks those of `pfns` that are in the area as pages that cannot be migrated, for example because a driver pinned them or
    /// they are under writeback. alloc_contig_range answers -EBUSY for a range with such a page.
    pub fn set_busy(&mut self, pfns: Range<u64>) {
        for range in &mut self.ranges {
            range.busy.insert(range.counted_from_base(&pfns));
        }
    }

    /// Marks `pfns` as pages that can be migrated, which is the initial state.
    pub fn set_idle(&mut self, pfns: Range<u64>) {
        for range in &mut self.ranges {
            range.busy.remove(range.counted_from_base(&pfns));
        }
    }

    /// The number of further requests for `count` pages at alignment `align` that would be granted.
    pub fn fits(&self, count: u64, align: u32) -> u64 {
        self.clone().fill(count, align)
    }

    /// Grants requests for `count` pages at alignment `align` until cma_alloc would refuse one. Returns their number.
    pub fn fill(&mut self, count: u64, align: u32) -> u64 {
        let mut granted = 0;
        for index in 0..self.ranges.len() {
            let Some(request) = self.request(&self.ranges[index], count, align) else { continue };
            // A place that one request skips is skipped by the next, too: it is still in use or busy.
            let mut start = 0;
            while let Some(bit) = self.first_fit(&self.ranges[index], request, start, |_| ()) {
                self.hand_out(index, bit, request);
                start = bit + request.bits;
                granted += 1;
            }
        }
        granted
    }

    /// The kernel's messages about a refusal, without time stamps. The area must not have changed since.
    ///
    /// Up to 6.12 these are the line of cma_alloc and that of cma_debug_show_areas. In 6.1 the second needs CONFIG_CMA_DEBUG,
    /// which the guest image has. A request that is refused before a search has no message. 7.2 prints a line
    /// for each range. After ten failures in five seconds the kernel omits the first line
    /// (pr_err_ratelimited), and printk splits a long line.
    pub fn dmesg(&self, refused: &AllocError) -> Vec<String> {
        let AllocError { name, count, reason, errno, .. } = refused;
        let tail = format!("{name}: alloc failed, req-size: {count} pages, ret: {errno}");
        match (self.rules, reason) {
            (_, Reason::ZeroPages) | (Rules::V6_1 | Rules::V6_12, Reason::LargerThanArea) => Vec::new(),
            (rules @ (Rules::V6_1 | Rules::V6_12), _) => {
                let mut available = "cma: number of available pages: ".to_owned();
                let mut free = 0;
                // The length of a run is in pages, its position in bits.
                for hole in self.ranges.iter().flat_map(|range| range.bitmap.holes()) {
                    let pages = (hole.end - hole.start) << self.order_per_bit;
                    let plus = if free == 0 { "" } else { "+" };
                    let _ = write!(available, "{plus}{pages}@{}", hole.start);
                    free += pages;
                }
                let _ = write!(available, "=> {free} free of {} total pages", self.count());
                let function = if rules == Rules::V6_1 { "cma_alloc" } else { "__cma_alloc" };
                vec![format!("cma: {function}: {tail}"), available]
            }
            (Rules::V7_2, _) => {
                let mut lines = vec![format!("cma: __cma_alloc_frozen: {tail}")];
                lines.push("cma: number of available pages: ".to_owned());
                for (index, range) in self.ranges.iter().enumerate() {
                    let mut line = format!("cma: range {index}: ");
                    for hole in range.bitmap.holes() {
                        let pages = (hole.end - hole.start) << self.order_per_bit;
                        // The kernel omits the plus at bit 0, not at the first run.
                        let plus = if hole.start == 0 { "" } else { "+" };
                        let _ = write!(line, "{plus}{pages}@{}", hole.start);
                    }
                    lines.extend([line, "cma: ".to_owned()]);
                }
                lines.push(format!("=> {} free of {} total pages", self.available, self.count()));
                lines
            }
        }
    }

    /// The range and the first bit that a request gets, or why it is refused. `busy` receives the first page of each place that
    /// is free and busy.
    pub(super) fn search(
        &self,
        count: u64,
        align: u32,
        busy: &mut Vec<u64>,
    ) -> Result<(usize, u64, Request), Reason> {
        let mut reason = if count == 0 { Reason::ZeroPages } else { Reason::LargerThanArea };
        for (index, range) in self.ranges.iter().enumerate() {
            let Some(request) = self.request(range, count, align) else { continue };
            if let Some(bit) = self.first_fit(range, request, 0, |pfn| busy.push(pfn)) {
                return Ok((index, bit, request));
            }
            reason = if busy.is_empty() { Reason::NoRun } else { Reason::Busy };
        }
        Err(reason)
    }

    /// The request in bits of the range. None if it has zero pages, or more than the range.
    pub(super) fn request(&self, range: &MemRange, count: u64, align: u32) -> Option<Request> {
        let bits = self.bits(count);
        let (unit, offset) = self.alignment(range, align);
        let fits = count > 0 && bits <= range.count >> self.order_per_bit;
        fits.then_some(Request { count, bits, mask: unit - 1, offset })
    }

    /// A unit and an offset in bits. A page is aligned if the number of its bit plus the offset is a multiple of the unit (mm/cma.c,
    /// cma_bitmap_aligned_mask, cma_bitmap_aligned_offset).
    pub(super) fn alignment(&self, range: &MemRange, align: u32) -> (u64, u64) {
        let align = align.min(52);
        let unit = 1 << align.saturating_sub(self.order_per_bit);
        (unit, (range.base_pfn & ((1 << align) - 1)) >> self.order_per_bit)
    }

    /// The bit of the first place from `start` on that is free and not busy. `on_busy` receives the first page of each place
    /// that is free and busy.
    fn first_fit(
        &self,
        range: &MemRange,
        request: Request,
        mut start: u64,
        mut on_busy: impl FnMut(u64),
    ) -> Option<u64> {
        if self.rules.have_ranges() && request.count > self.available {
            return None;
        }
        loop {
            let bit = range.first_free(request, start)?;
            let page = bit << self.order_per_bit;
            if range.busy.first_in(page..page + request.count).is_none() {
                return Some(bit);
            }
            on_busy(range.base_pfn + page);
            start = bit + request.mask + 1;
        }
    }

    /// Marks the bits of a request as allocated.
    fn hand_out(&mut self, index: usize, bit: u64, request: Request) {
        self.ranges[index].bitmap.insert(bit..bit + request.bits);
        self.available = self.available.wrapping_sub(request.count);
    }

    /// The bits for `count` pages.
    pub(super) fn bits(&self, count: u64) -> u64 {
        count.div_ceil(1 << self.order_per_bit)
    }
}

impl MemRange {
    pub(super) fn pfns(&self) -> Range<u64> {
        self.base_pfn..self.base_pfn + self.count
    }

    fn counted_from_base(&self, pfns: &Range<u64>) -> Range<u64> {
        pfns.start.saturating_sub(self.base_pfn)..pfns.end.saturating_sub(self.base_pfn)
    }

    /// The first aligned bit from `start` on with enough clear bits. Busy pages are not considered.
    fn first_free(&self, request: Request, mut start: u64) -> Option<u64> {
        let end = self.bitmap.window_pages();
        loop {
            let clear = self.bitmap.first_not_in(start..end)?;
            let bit = (clear + request.offset).next_multiple_of(request.mask + 1) - request.offset;
            if bit + request.bits > end {
                return None;
            }
            // The kernel continues after the first set bit. Continuing after the last one gives the same result.
            match self.bitmap.last_in(bit..bit + request.bits) {
                None => return Some(bit),
                Some(set) => start = set + 1,
            }
        }
    }
}
