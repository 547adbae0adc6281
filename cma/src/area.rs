//! The allocator of a CMA area: which pages Linux 6.1 hands out, and what it says when it does not.
//!
//! The rules are those of mm/cma.c (cma_alloc, cma_release), lib/bitmap.c (bitmap_find_next_zero_area_off),
//! mm/cma_debug.c (used, maxchunk) and kernel/dma/contiguous.c (cma_alloc_aligned). A page frame number, pfn for short,
//! is an address divided by the page size. Newer kernels differ: since 6.15 an area can have several ranges, and a
//! search that finds none answers otherwise.

use std::{fmt::Write as _, ops::Range};

use serde::Serialize;

use crate::{PAGE_SIZE, Window, map::Pages};

/// The largest alignment that the DMA API asks for, as an order of pages: CONFIG_CMA_ALIGNMENT.
pub const CMA_ALIGNMENT: u32 = 8;

/// The largest area that is modelled, in pages: 1 TiB. Its bitmap is 32 MiB.
pub const MAX_PAGES: u64 = 1 << 28;

/// The alignment of a buffer of `size` bytes from the DMA API, as an order of pages: min(get_order(size),
/// CONFIG_CMA_ALIGNMENT) (kernel/dma/contiguous.c, cma_alloc_aligned).
///
/// ```
/// assert_eq!(cma::area::dma_alignment(4096), 0);
/// assert_eq!(cma::area::dma_alignment(3 * 4096), 2);
/// assert_eq!(cma::area::dma_alignment(1920 * 1080 * 2), 8);
/// ```
pub fn dma_alignment(size: u64) -> u32 {
    size.div_ceil(PAGE_SIZE).next_power_of_two().trailing_zeros().min(CMA_ALIGNMENT)
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
    base_pfn: u64,
    count: u64,
    order_per_bit: u32,
    /// A bit for 2^order_per_bit pages, set if they are handed out.
    bitmap: Pages,
    /// Pages counted from the base.
    busy: Pages,
}

/// Why there is no such area.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AreaError {
    /// Nothing to hand out.
    #[error("the CMA area {0} has no pages; give it one at least")]
    Empty(String),
    /// More than is modelled, or than there are addresses for.
    #[error(
        "the CMA area {name} of {count} pages at page {base_pfn:#x} is too large; it has to have {MAX_PAGES} pages \
         (1 TiB) at most and to end below 16 EiB"
    )]
    TooLarge {
        /// The area.
        name: String,
        /// Its first page.
        base_pfn: u64,
        /// Its pages.
        count: u64,
    },
    /// Base or size are not whole pages.
    #[error(
        "the CMA area {name} has the {what} {value:#x}, which is not a multiple of the page size of {PAGE_SIZE}"
    )]
    NotPages {
        /// The area.
        name: String,
        /// Which.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// The last bit would stand for pages beyond the end (mm/cma.c, cma_declare_contiguous_nid).
    #[error(
        "the CMA area {name} has {count} pages, which is not a multiple of the 2^{order_per_bit} pages of a bit; \
         choose a smaller order_per_bit or another size"
    )]
    PartOfABit {
        /// The area.
        name: String,
        /// Its pages.
        count: u64,
        /// Pages of a bit, as an order.
        order_per_bit: u32,
    },
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

/// What kept cma_alloc from finding pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No page was asked for.
    ZeroPages,
    /// More pages were asked for than the area has.
    LargerThanArea,
    /// No run of free bits is long enough at the alignment.
    NoRun,
    /// There were such runs, but in each lay a page that could not be migrated.
    Busy,
}

/// cma_alloc's refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the CMA area {name} has no {count} pages at alignment {align}: {}", .reason.sentence())]
pub struct AllocError {
    /// The area.
    pub name: String,
    /// Pages that were asked for.
    pub count: u64,
    /// Their alignment, as an order of pages.
    pub align: u32,
    /// What kept it from finding them.
    pub reason: Reason,
    /// The first page of each candidate that was busy, in the order of the attempts.
    pub busy: Vec<u64>,
    /// What the kernel prints, without time stamps: two lines with CONFIG_CMA_DEBUG (as the guest image has), of which
    /// other kernels print the first. No line if the request was refused before a search. Of more than ten failures
    /// in five seconds the kernel does not print the first line of each (pr_err_ratelimited).
    pub dmesg: Vec<String>,
}

impl Reason {
    /// The kernel's `ret`: -ENOMEM (-12) or -EBUSY (-16). A search that met busy candidates and then reached the end
    /// keeps the -EBUSY of the last one.
    pub fn errno(self) -> i32 {
        match self {
            Self::ZeroPages | Self::LargerThanArea | Self::NoRun => -12,
            Self::Busy => -16,
        }
    }

    /// What is wrong, after a colon.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ZeroPages => "no page was asked for, which cma_alloc refuses without a message",
            Self::LargerThanArea => {
                "that is more than the whole area, which cma_alloc refuses without a search and without a message"
            }
            Self::NoRun => "no run of free pages is long enough at that alignment",
            Self::Busy => {
                "each run that is long enough has a page in it that is in use and cannot be migrated"
            }
        }
    }
}

/// A request in bits of the bitmap.
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

/// Free space of an area, in pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Pages of the area.
    pub count: u64,
    /// Pages that are handed out, as debugfs `used`: whole bits.
    pub used: u64,
    /// Length of the longest free run, as debugfs `maxchunk`.
    pub maxchunk: u64,
    /// First page of that run, the first of equal ones; null if nothing is free.
    pub maxchunk_pfn: Option<u64>,
    /// Number of free runs.
    pub free_runs: u64,
    /// How many free runs have 2^n pages or more, but fewer than 2^(n+1): element n. It ends with the last such n.
    pub histogram: Vec<u64>,
    /// Pages that cannot be migrated, handed out or not.
    pub busy: u64,
}

impl Area {
    /// An area of which nothing is handed out and nothing busy.
    ///
    /// `base_pfn` and `count` are in pages; a bit of the bitmap stands for 2^`order_per_bit` pages, which is one page
    /// for areas of the device tree and of the DMA API.
    ///
    /// # Errors
    /// If it has no page, too many, or a bit that is not whole.
    pub fn new(name: &str, base_pfn: u64, count: u64, order_per_bit: u32) -> Result<Self, AreaError> {
        let name = name.to_owned();
        let last = u64::MAX / PAGE_SIZE;
        if count == 0 {
            return Err(AreaError::Empty(name));
        }
        if count > MAX_PAGES || base_pfn.checked_add(count).is_none_or(|end| end > last) {
            return Err(AreaError::TooLarge { name, base_pfn, count });
        }
        if count.trailing_zeros() < order_per_bit {
            return Err(AreaError::PartOfABit { name, count, order_per_bit });
        }
        let (bitmap, busy) = (Pages::empty(count >> order_per_bit), Pages::empty(count));
        Ok(Self { name, base_pfn, count, order_per_bit, bitmap, busy })
    }

    /// The area of a window of the device tree, which has the name of its node with the unit address.
    ///
    /// # Errors
    /// If the window is not whole pages, or there is no such area.
    pub fn of_window(window: &Window, order_per_bit: u32) -> Result<Self, AreaError> {
        let Window { name, base, size, .. } = window;
        let name = format!("{name}@{base:x}");
        for (what, value) in [("size", *size), ("base", *base)] {
            if !value.is_multiple_of(PAGE_SIZE) {
                return Err(AreaError::NotPages { name, what, value });
            }
        }
        Self::new(&name, base / PAGE_SIZE, size / PAGE_SIZE, order_per_bit)
    }

    /// Its name: of an area of the device tree, the node's with its unit address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Pages of a bit of its bitmap, as an order.
    pub fn order_per_bit(&self) -> u32 {
        self.order_per_bit
    }

    /// Its pages, as page frame numbers.
    pub fn pfns(&self) -> Range<u64> {
        self.base_pfn..self.base_pfn + self.count
    }

    /// The pages that are handed out, counted from the base.
    pub fn allocated(&self) -> Pages {
        let mut pages = Pages::empty(self.count);
        for run in self.bitmap.runs() {
            pages.insert(run.start << self.order_per_bit..run.end << self.order_per_bit);
        }
        pages
    }

    /// cma_alloc: hands out the first `count` pages that are free and can be migrated away from.
    ///
    /// `align` is an order of pages, below 52 as there are no more bits in a page frame number. There is no second
    /// round and no wait: what is busy when its turn comes is passed over.
    ///
    /// # Errors
    /// If there are no such pages, what the kernel answers and prints.
    pub fn alloc(&mut self, count: u64, align: u32) -> Result<Allocation, AllocError> {
        let mut busy = Vec::new();
        let request = self.request(count, align);
        let reason = match request {
            Err(reason) => reason,
            Ok(request) => match self.first_fit(request, 0, |pfn| busy.push(pfn)) {
                Some(bit) => {
                    self.bitmap.insert(bit..bit + request.bits);
                    return Ok(Allocation { pfn: self.pfn(bit), busy });
                }
                None if busy.is_empty() => Reason::NoRun,
                None => Reason::Busy,
            },
        };
        let dmesg = if request.is_ok() { self.complaint(count, reason) } else { Vec::new() };
        Err(AllocError { name: self.name.clone(), count, align, reason, busy, dmesg })
    }

    /// cma_release: takes `count` pages from `pfn` on back. False if `pfn` is not in the area.
    ///
    /// As in the kernel nothing checks that they were handed out, or to whom. Of pages beyond the end, on which a
    /// kernel with CONFIG_DEBUG_VM stops, those in the area are taken back.
    pub fn release(&mut self, pfn: u64, count: u64) -> bool {
        if !self.pfns().contains(&pfn) {
            return false;
        }
        let bit = (pfn - self.base_pfn) >> self.order_per_bit;
        self.bitmap.remove(bit..bit.saturating_add(self.bits(count)));
        true
    }

    /// Makes the pages with the frame numbers `pfns`, as far as they are the area's, ones that cannot be migrated:
    /// pinned by a driver, say, or under writeback. alloc_contig_range answers -EBUSY for a range with such a page.
    pub fn set_busy(&mut self, pfns: Range<u64>) {
        self.busy.insert(self.counted_from_base(pfns));
    }

    /// Makes the pages with the frame numbers `pfns` ones that can be migrated, as all are at first.
    pub fn set_idle(&mut self, pfns: Range<u64>) {
        self.busy.remove(self.counted_from_base(pfns));
    }

    /// Pages that are handed out, in whole bits: debugfs `used` (mm/cma_debug.c, cma_used_get).
    pub fn used(&self) -> u64 {
        self.bitmap.count() << self.order_per_bit
    }

    /// The longest run of pages that are not handed out, as page frame numbers, the first of equal ones; empty if
    /// there is none. Its length is debugfs `maxchunk` (mm/cma_debug.c, cma_maxchunk_get).
    pub fn largest_hole(&self) -> Range<u64> {
        let hole = self.bitmap.longest_hole();
        self.pfn(hole.start)..self.pfn(hole.end)
    }

    /// What is free, and in what pieces.
    pub fn statistics(&self) -> Statistics {
        let hole = self.largest_hole();
        let mut histogram = Vec::new();
        let mut free_runs = 0;
        for hole in self.bitmap.holes() {
            free_runs += 1;
            let order = ((hole.end - hole.start) << self.order_per_bit).ilog2() as usize;
            histogram.resize(histogram.len().max(order + 1), 0);
            histogram[order] += 1;
        }
        Statistics {
            count: self.count,
            used: self.used(),
            maxchunk: hole.end - hole.start,
            maxchunk_pfn: Some(hole.start).filter(|_| !hole.is_empty()),
            free_runs,
            histogram,
            busy: self.busy.count(),
        }
    }

    /// How many more requests for `count` pages at alignment `align` would be granted, one after the other.
    pub fn fits(&self, count: u64, align: u32) -> u64 {
        self.clone().fill(count, align)
    }

    /// Grants requests for `count` pages at alignment `align` for as long as cma_alloc would; returns how many.
    pub fn fill(&mut self, count: u64, align: u32) -> u64 {
        let Ok(request) = self.request(count, align) else { return 0 };
        // What was passed over for one is passed over for the next: the places before are still used or busy.
        let mut start = 0;
        let mut granted = 0;
        while let Some(bit) = self.first_fit(request, start, |_| ()) {
            start = bit + request.bits;
            self.bitmap.insert(bit..start);
            granted += 1;
        }
        granted
    }

    /// The request in bits, or why it is refused before any search.
    fn request(&self, count: u64, align: u32) -> Result<Request, Reason> {
        let align = align.min(52);
        let bits = self.bits(count);
        let request = Request {
            count,
            bits,
            mask: (1 << align.saturating_sub(self.order_per_bit)) - 1,
            offset: (self.base_pfn & ((1 << align) - 1)) >> self.order_per_bit,
        };
        match count {
            0 => Err(Reason::ZeroPages),
            _ if bits > self.count >> self.order_per_bit => Err(Reason::LargerThanArea),
            _ => Ok(request),
        }
    }

    /// The bit of the first place from `start` on that is free and not busy; `on_busy` gets the first page of each
    /// that is free and busy.
    fn first_fit(&self, request: Request, mut start: u64, mut on_busy: impl FnMut(u64)) -> Option<u64> {
        loop {
            let bit = self.first_free(request, start)?;
            let page = bit << self.order_per_bit;
            if self.busy.first_in(page..page + request.count).is_none() {
                return Some(bit);
            }
            on_busy(self.pfn(bit));
            start = bit + request.mask + 1;
        }
    }

    /// The first aligned bit from `start` on with so many clear bits, whatever is busy.
    fn first_free(&self, request: Request, mut start: u64) -> Option<u64> {
        let end = self.count >> self.order_per_bit;
        loop {
            let clear = self.bitmap.first_not_in(start..end)?;
            let bit = (clear + request.offset).next_multiple_of(request.mask + 1) - request.offset;
            if bit + request.bits > end {
                return None;
            }
            match self.bitmap.first_in(bit..bit + request.bits) {
                None => return Some(bit),
                Some(set) => start = set + 1,
            }
        }
    }

    /// The lines of a failure: cma_alloc's, and that of cma_debug_show_areas, which gives the length of each free run
    /// in pages, but its place in bits. printk breaks a long one up.
    fn complaint(&self, count: u64, reason: Reason) -> Vec<String> {
        let (name, ret) = (&self.name, reason.errno());
        let failed = format!("cma: cma_alloc: {name}: alloc failed, req-size: {count} pages, ret: {ret}");
        let mut available = "cma: number of available pages: ".to_owned();
        let mut free = 0;
        for hole in self.bitmap.holes() {
            let pages = (hole.end - hole.start) << self.order_per_bit;
            let plus = if free == 0 { "" } else { "+" };
            let _ = write!(available, "{plus}{pages}@{}", hole.start);
            free += pages;
        }
        let _ = write!(available, "=> {free} free of {} total pages", self.count);
        vec![failed, available]
    }

    /// The bits for `count` pages.
    fn bits(&self, count: u64) -> u64 {
        count.div_ceil(1 << self.order_per_bit)
    }

    /// The first page of a bit.
    fn pfn(&self, bit: u64) -> u64 {
        self.base_pfn + (bit << self.order_per_bit)
    }

    fn counted_from_base(&self, pfns: Range<u64>) -> Range<u64> {
        pfns.start.saturating_sub(self.base_pfn)..pfns.end.saturating_sub(self.base_pfn)
    }
}

#[cfg(test)]
mod tests;
