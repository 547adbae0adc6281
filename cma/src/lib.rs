//! What CMA (the Contiguous Memory Allocator) is: window specification, placement, allocator and its scripts, the DMA API
//! above it, reserved-memory node, map.
//!
//! Pure: no KVM, no I/O beyond what it is handed. Addresses and sizes are in bytes of guest physical memory.

pub mod area;
pub mod dma;
pub mod map;
pub mod node;
pub mod place;
pub mod script;
pub mod size;
pub mod spec;

/// Size of a page in bytes: a bit of a window's bitmap, as DMA windows have order_per_bit 0 (mm/cma.c).
pub const PAGE_SIZE: u64 = 4096;

/// A window with its place in guest memory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Window {
    /// Name of the node under /reserved-memory, without the unit address.
    pub name: String,
    /// First address, aligned to a pageblock.
    pub base: u64,
    /// Size in bytes, a multiple of the pageblock.
    pub size: u64,
    /// The window of devices that have none of their own (linux,cma-default).
    pub default: bool,
}

impl Window {
    /// The addresses of the window.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.base..self.base + self.size
    }
}
