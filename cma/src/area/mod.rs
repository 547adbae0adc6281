//! The allocator of a CMA area: which pages Linux hands out, and what it says when it does not.
//!
//! The rules are those of mm/cma.c (cma_alloc, cma_release), lib/bitmap.c (bitmap_find_next_zero_area_off),
//! mm/cma_debug.c (used, maxchunk) and kernel/dma/contiguous.c (cma_alloc_aligned): see [`Rules`] for the kernels. A
//! page frame number, pfn for short, is an address divided by the page size.

mod error;
mod import;
mod measure;
mod why;

use std::{fmt, fmt::Write as _, ops::Range, str::FromStr};

pub use error::{AllocError, AreaError, Reason};
pub use import::{Debugfs, ImportError, ImportProblem};
pub use measure::Statistics;
pub(crate) use measure::{permille, plural};
use serde::Serialize;
pub use why::{Place, Why};

use crate::{PAGE_SIZE, Window, map::Pages};

/// The largest alignment that the DMA API asks for, as an order of pages: CONFIG_CMA_ALIGNMENT.
pub const CMA_ALIGNMENT: u32 = 8;

/// The largest area that is modelled, in pages: 1 TiB. Its bitmap is 32 MiB.
pub const MAX_PAGES: u64 = 1 << 28;

/// Ranges of an area since 6.15, at most (mm/cma.h, CMA_MAX_RANGES).
pub const MAX_RANGES: usize = 8;

/// The alignment of a buffer of `size` bytes from the DMA API, as an order of pages: min(get_order(size),
/// CONFIG_CMA_ALIGNMENT) (kernel/dma/contiguous.c, cma_alloc_aligned).
///
/// ```
/// assert_eq!(cma::area::dma_alignment(4096), 0);
/// assert_eq!(cma::area::dma_alignment(3 * 4096), 2);
/// assert_eq!(cma::area::dma_alignment(1920 * 1080 * 2), 8);
/// ```
pub fn dma_alignment(size: u64) -> u32 {
    order(size.div_ceil(PAGE_SIZE)).min(CMA_ALIGNMENT)
}

/// The order of the smallest power of two that is not less than `pages`, which is 52 for none
/// (include/asm-generic/getorder.h, get_order).
pub fn order(pages: u64) -> u32 {
    let power = pages.checked_next_power_of_two().filter(|_| pages > 0);
    power.map_or(u64::BITS - PAGE_SIZE.trailing_zeros(), u64::trailing_zeros)
}

/// Which kernels' rules an area follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum Rules {
    /// Linux 6.1: one range, -ENOMEM where nothing is found. What is free is listed by kernels with CONFIG_CMA_DEBUG.
    #[default]
    #[serde(rename = "6.1")]
    V6_1,
    /// Linux 6.12: the same answers, as up to 6.14. Messages come from `__cma_alloc`, and every kernel lists what is
    /// free.
    #[serde(rename = "6.12")]
    V6_12,
    /// Linux 7.2: several ranges, -EBUSY where nothing is found, and a count of the pages that are available, which
    /// debugfs `used` shows: pages that were asked for, not whole bits. All that came with 6.15, the messages later.
    #[serde(rename = "7.2")]
    V7_2,
}

impl Rules {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V6_1, Self::V6_12, Self::V7_2];

    /// Whether they are those since 6.15, when areas got ranges.
    pub(crate) fn have_ranges(self) -> bool {
        self == Self::V7_2
    }
}

/// A text names no rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are no rules \"{0}\"; write 6.1 or 6.12, which hold up to Linux 6.14, or 7.2 for those since")]
pub struct RulesError(pub String);

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
        })
    }
}

impl FromStr for Rules {
    type Err = RulesError;

    fn from_str(text: &str) -> Result<Self, RulesError> {
        Self::ALL
            .into_iter()
            .find(|rules| rules.to_string() == text)
            .ok_or_else(|| RulesError(text.chars().take(40).flat_map(char::escape_debug).collect()))
    }
}

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
    name: String,
    rules: Rules,
    order_per_bit: u32,
    /// Ascending, without overlap: one, or up to [`MAX_RANGES`] since 6.15.
    ranges: Vec<MemRange>,
    /// The kernel's available_count since 6.15: the pages less those that were asked for and handed out.
    available: u64,
}

/// The kernel's `struct cma_memrange`.
#[derive(Debug, Clone)]
struct MemRange {
    base_pfn: u64,
    count: u64,
    /// A bit for 2^order_per_bit pages, set if they are handed out.
    bitmap: Pages,
    /// Pages counted from the base.
    busy: Pages,
}

/// Pages that cma_alloc handed out.
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
struct Request {
    /// In pages, as it was asked for: only these have to be migrated.
    count: u64,
    bits: u64,
    /// One less than the power of two that a bit's number plus the offset has to be a multiple of.
    mask: u64,
    /// Where the base lies between two aligned places.
    offset: u64,
}

impl Area {
    /// An area of one range with the rules of 6.1, of which nothing is handed out and nothing busy.
    ///
    /// `base_pfn` and `count` are in pages; a bit of the bitmap stands for 2^`order_per_bit` pages, which is one page
    /// for areas of the device tree and of the DMA API.
    ///
    /// # Errors
    /// If it has no page, too many, or a bit that is not whole.
    pub fn new(name: &str, base_pfn: u64, count: u64, order_per_bit: u32) -> Result<Self, AreaError> {
        Self::of_ranges(name, &[(base_pfn, count)], order_per_bit, Rules::V6_1)
    }

    /// An area of `ranges`, each the first page and the number of pages, ascending (mm/cma.c,
    /// cma_declare_contiguous_multi). Nothing is handed out and nothing busy.
    ///
    /// # Errors
    /// If a range has no page, too many, or a bit that is not whole; or if there are not as many ranges as the rules
    /// allow.
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

    /// The area of a window of the device tree, which has the name of its node with the unit address.
    ///
    /// # Errors
    /// If the window is not whole pages, or there is no such area.
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

    /// Its name: of an area of the device tree, the node's with its unit address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernels whose rules it follows.
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

    /// The pages that are handed out, in whole bits, counted from the base; those of a further range come after those
    /// of the ranges before it.
    pub fn allocated(&self) -> Pages {
        let mut pages = Pages::empty(self.count());
        let mut before = 0;
        for range in &self.ranges {
            for run in range.bitmap.runs() {
                let (start, end) = (run.start << self.order_per_bit, run.end << self.order_per_bit);
                pages.insert(before + start..before + end);
            }
            before += range.count;
        }
        pages
    }

    /// cma_alloc: hands out the first `count` pages that are free and can be migrated away from.
    ///
    /// `align` is an order of pages, below 52 as there are no more bits in a page frame number. There is no second
    /// round and no wait: what is busy when its turn comes is passed over.
    ///
    /// # Errors
    /// If there are no such pages, what the kernel answers; [`Area::dmesg`] says what it prints.
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

    /// cma_release: takes `count` pages from `pfn` on back. False if `pfn` is not in the area; since 6.15 also if the
    /// last of the pages is not in the same range (find_cma_memrange).
    ///
    /// As in the kernel nothing checks that they were handed out, or to whom. Of pages beyond the end, on which a 6.1
    /// kernel with CONFIG_DEBUG_VM stops, those in the area are taken back.
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

    /// Makes the pages with the frame numbers `pfns`, as far as they are the area's, ones that cannot be migrated:
    /// pinned by a driver, say, or under writeback. alloc_contig_range answers -EBUSY for a range with such a page.
    pub fn set_busy(&mut self, pfns: Range<u64>) {
        for range in &mut self.ranges {
            range.busy.insert(range.counted_from_base(&pfns));
        }
    }

    /// Makes the pages with the frame numbers `pfns` ones that can be migrated, as all are at first.
    pub fn set_idle(&mut self, pfns: Range<u64>) {
        for range in &mut self.ranges {
            range.busy.remove(range.counted_from_base(&pfns));
        }
    }

    /// How many more requests for `count` pages at alignment `align` would be granted, one after the other.
    pub fn fits(&self, count: u64, align: u32) -> u64 {
        self.clone().fill(count, align)
    }

    /// Grants requests for `count` pages at alignment `align` for as long as cma_alloc would; returns how many.
    pub fn fill(&mut self, count: u64, align: u32) -> u64 {
        let mut granted = 0;
        for index in 0..self.ranges.len() {
            let Some(request) = self.request(&self.ranges[index], count, align) else { continue };
            // What was passed over for one is passed over for the next: the places before are still used or busy.
            let mut start = 0;
            while let Some(bit) = self.first_fit(&self.ranges[index], request, start, |_| ()) {
                self.hand_out(index, bit, request);
                start = bit + request.bits;
                granted += 1;
            }
        }
        granted
    }

    /// What the kernel prints about a refusal, without time stamps, if nothing was asked of the area since.
    ///
    /// Up to 6.12 these are cma_alloc's line and that of cma_debug_show_areas, of a kernel of 6.1 only with
    /// CONFIG_CMA_DEBUG, as the guest image has it; nothing if the request was refused before a search. 7.2 has lines
    /// for each range. Of more than ten failures in five seconds the kernel does not print the first line
    /// of each (pr_err_ratelimited), and printk breaks a long line up.
    pub fn dmesg(&self, refused: &AllocError) -> Vec<String> {
        let AllocError { name, count, reason, errno, .. } = refused;
        let tail = format!("{name}: alloc failed, req-size: {count} pages, ret: {errno}");
        match (self.rules, reason) {
            (_, Reason::ZeroPages) | (Rules::V6_1 | Rules::V6_12, Reason::LargerThanArea) => Vec::new(),
            (rules @ (Rules::V6_1 | Rules::V6_12), _) => {
                let mut available = "cma: number of available pages: ".to_owned();
                let mut free = 0;
                // The length of a run is in pages, but its place in bits.
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
                        // The kernel leaves the plus away at bit 0, not at the first run.
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

    /// The range and the bit that a request is granted, or why it is not; `busy` gets the first page of each place that
    /// is free and busy.
    fn search(&self, count: u64, align: u32, busy: &mut Vec<u64>) -> Result<(usize, u64, Request), Reason> {
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

    /// The request in bits of the range; none if there are no pages in it, or more than in the range.
    fn request(&self, range: &MemRange, count: u64, align: u32) -> Option<Request> {
        let bits = self.bits(count);
        let (unit, offset) = self.alignment(range, align);
        let fits = count > 0 && bits <= range.count >> self.order_per_bit;
        fits.then_some(Request { count, bits, mask: unit - 1, offset })
    }

    /// What a bit's number plus the second has to be a multiple of for its page to be aligned, and the second (mm/cma.c,
    /// cma_bitmap_aligned_mask, cma_bitmap_aligned_offset).
    fn alignment(&self, range: &MemRange, align: u32) -> (u64, u64) {
        let align = align.min(52);
        let unit = 1 << align.saturating_sub(self.order_per_bit);
        (unit, (range.base_pfn & ((1 << align) - 1)) >> self.order_per_bit)
    }

    /// The bit of the first place from `start` on that is free and not busy; `on_busy` gets the first page of each
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

    /// Marks the bits of a request as handed out.
    fn hand_out(&mut self, index: usize, bit: u64, request: Request) {
        self.ranges[index].bitmap.insert(bit..bit + request.bits);
        self.available = self.available.wrapping_sub(request.count);
    }

    /// The bits for `count` pages.
    fn bits(&self, count: u64) -> u64 {
        count.div_ceil(1 << self.order_per_bit)
    }
}

impl MemRange {
    fn pfns(&self) -> Range<u64> {
        self.base_pfn..self.base_pfn + self.count
    }

    fn counted_from_base(&self, pfns: &Range<u64>) -> Range<u64> {
        pfns.start.saturating_sub(self.base_pfn)..pfns.end.saturating_sub(self.base_pfn)
    }

    /// The first aligned bit from `start` on with so many clear bits, whatever is busy.
    fn first_free(&self, request: Request, mut start: u64) -> Option<u64> {
        let end = self.bitmap.window_pages();
        loop {
            let clear = self.bitmap.first_not_in(start..end)?;
            let bit = (clear + request.offset).next_multiple_of(request.mask + 1) - request.offset;
            if bit + request.bits > end {
                return None;
            }
            // The kernel goes on after the first set bit; no place before the last one would do either.
            match self.bitmap.last_in(bit..bit + request.bits) {
                None => return Some(bit),
                Some(set) => start = set + 1,
            }
        }
    }
}

#[cfg(test)]
mod tests;
