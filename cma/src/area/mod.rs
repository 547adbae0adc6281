//! A model of the allocator of a CMA area: which pages Linux allocates, and what it prints when a request fails.
//!
//! The rules are those of mm/cma.c (cma_alloc, cma_release), lib/bitmap.c (bitmap_find_next_zero_area_off),
//! mm/cma_debug.c (used, maxchunk) and kernel/dma/contiguous.c (cma_alloc_aligned). [`Rules`] lists the kernels. A
//! page frame number (pfn) is an address divided by the page size.

mod allocator;
mod error;
mod import;
mod limits;
mod measure;
mod rules;
#[cfg(test)]
mod tests;
mod why;

pub use allocator::{Allocation, Area};
pub use error::{AllocError, AreaError, Reason};
pub use import::{Debugfs, ImportError, ImportProblem};
pub use limits::{CMA_ALIGNMENT, MAX_PAGES, MAX_RANGES, dma_alignment, order};
pub(crate) use measure::permille;
pub use measure::{Statistics, plural};
pub use rules::{Rules, RulesError};
pub use why::{Place, Why};
