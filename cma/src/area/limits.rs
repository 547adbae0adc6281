//! The limits of areas, and the alignment of requests.

use crate::PAGE_SIZE;

/// The largest alignment that the DMA API requests, as an order of pages: CONFIG_CMA_ALIGNMENT.
pub const CMA_ALIGNMENT: u32 = 8;

/// The largest area of the model, in pages: 1 TiB. Its bitmap has 32 MiB.
pub const MAX_PAGES: u64 = 1 << 28;

/// The maximum number of ranges of an area, since 6.15 (mm/cma.h, CMA_MAX_RANGES).
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

/// The order of the smallest power of two that is not less than `pages`; 52 for zero pages
/// (include/asm-generic/getorder.h, get_order).
pub fn order(pages: u64) -> u32 {
    let power = pages.checked_next_power_of_two().filter(|_| pages > 0);
    power.map_or(u64::BITS - PAGE_SIZE.trailing_zeros(), u64::trailing_zeros)
}
