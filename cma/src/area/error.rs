//! Why there is no such area, and why cma_alloc refuses pages of one.

use serde::Serialize;

use super::{MAX_PAGES, MAX_RANGES, Rules};
use crate::PAGE_SIZE;

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
    /// Not as many ranges as the kernel has room for.
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
    /// Two ranges have pages in common.
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

/// What kept cma_alloc from finding pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No page was asked for.
    ZeroPages,
    /// More pages were asked for than the area has; of an area of several ranges, than any of them has.
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
    /// The kernel's `ret`: -ENOMEM (-12) or -EBUSY (-16).
    pub errno: i32,
    /// The first page of each candidate that was busy, in the order of the attempts.
    pub busy: Vec<u64>,
}

impl Reason {
    /// The kernel's `ret`. In 6.1 it is -ENOMEM (-12) unless a candidate was busy: a search that met one and then
    /// reached the end keeps its -EBUSY (-16). Since 6.15 a search begins with -EBUSY (cma_range_alloc), and only the
    /// request for no page is not one.
    pub(super) fn errno(self, rules: Rules) -> i32 {
        match self {
            Self::ZeroPages => -12,
            Self::LargerThanArea | Self::NoRun if !rules.have_ranges() => -12,
            Self::LargerThanArea | Self::NoRun | Self::Busy => -16,
        }
    }

    /// What is wrong, after a colon.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ZeroPages => "no page was asked for, which cma_alloc refuses without a message",
            Self::LargerThanArea => {
                "that is more than the whole area, which cma_alloc refuses without a search"
            }
            Self::NoRun => "no run of free pages is long enough at that alignment",
            Self::Busy => {
                "each run that is long enough has a page in it that is in use and cannot be migrated"
            }
        }
    }
}
