//! Errors of a CMA area: why it cannot exist, and why cma_alloc refuses a request.

use serde::Serialize;

use super::{
    limits::{MAX_PAGES, MAX_RANGES},
    rules::Rules,
};
use crate::PAGE_SIZE;

/// Why an area cannot exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AreaError {
    /// It has no pages.
    #[error("the CMA area {0} has no pages; give it at least one")]
    Empty(String),
    /// It is larger than the model supports, or than the address space.
    #[error(
        "the CMA area {name} of {count} pages at page {base_pfn:#x} is too large; the largest area has \
         {MAX_PAGES} pages (1 TiB) and ends below 16 EiB"
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
    /// It has no range, or more than the kernel supports.
    #[error(
        "the CMA area {name} has {found} ranges; it has one with the rules of {} and {}, and up to \
         {MAX_RANGES} with those of {}",
        Rules::V6_1,
        Rules::V6_12,
        Rules::V7_2
    )]
    Ranges {
        /// The area.
        name: String,
        /// Its ranges.
        found: usize,
    },
    /// The ranges do not add up.
    #[error("the CMA area {name} has {count} pages, but its ranges have {ranges}; copy its files again")]
    Count {
        /// The area.
        name: String,
        /// Its pages.
        count: u64,
        /// The pages of its ranges.
        ranges: u64,
    },
    /// Two ranges overlap.
    #[error(
        "the CMA area {name} has two ranges with the page {pfn:#x}; a page lies in one, and the ranges ascend"
    )]
    Overlap {
        /// The area.
        name: String,
        /// The first page of the range that begins before the one before it ends.
        pfn: u64,
    },
}

/// Why cma_alloc found no pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The request is for zero pages.
    ZeroPages,
    /// The request is for more pages than the area, or its largest range, has.
    LargerThanArea,
    /// No run of free bits is long enough at the alignment.
    NoRun,
    /// There are such runs, but each contains a page that cannot be migrated.
    Busy,
}

/// A refusal by cma_alloc.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the CMA area {name} has no {count} pages at alignment {align}: {}", .reason.sentence())]
pub struct AllocError {
    /// The area.
    pub name: String,
    /// Number of pages requested.
    pub count: u64,
    /// Their alignment, as an order of pages.
    pub align: u32,
    /// Why it found none.
    pub reason: Reason,
    /// The kernel's `ret`: -ENOMEM (-12) or -EBUSY (-16).
    pub errno: i32,
    /// The first page of each candidate that was busy, in the order of the attempts.
    pub busy: Vec<u64>,
}

impl Reason {
    /// The kernel's `ret`. In 6.1 it is -ENOMEM (-12), or -EBUSY (-16) if the search met a busy candidate before it reached
    /// the end. Since 6.15 a search begins with -EBUSY (cma_range_alloc); only a request for zero pages is not searched.
    pub(super) fn errno(self, rules: Rules) -> i32 {
        match self {
            Self::ZeroPages => -12,
            Self::LargerThanArea | Self::NoRun if !rules.have_ranges() => -12,
            Self::LargerThanArea | Self::NoRun | Self::Busy => -16,
        }
    }

    /// The reason in words, to follow a colon.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ZeroPages => "the request is for zero pages, which cma_alloc refuses without a message",
            Self::LargerThanArea => {
                "the request is larger than the area, which cma_alloc refuses without a search"
            }
            Self::NoRun => "no run of free pages is long enough at that alignment",
            Self::Busy => {
                "each run that is long enough contains a page that is in use and cannot be migrated"
            }
        }
    }
}
