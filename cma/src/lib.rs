//! CMA, the Contiguous Memory Allocator: window specifications and their placement, a model of the allocator and its scripts, the
//! DMA API above it, the reserved-memory node and the rules of Linux for it, maps, and what a board's files say about its windows.
//!
//! The crate uses no KVM and does no I/O. Addresses and sizes are in bytes of guest physical memory.

use std::ops::Range;

pub mod area;
pub mod board;
pub mod check;
pub mod dma;
pub mod live;
pub mod map;
pub mod node;
pub mod place;
pub mod script;
pub mod size;
pub mod spec;

/// Size of a page in bytes. It is also the unit of a window's bitmap: DMA windows have order_per_bit 0 (mm/cma.c).
pub const PAGE_SIZE: u64 = 4096;

/// A window with its address: a node under /reserved-memory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Window {
    /// Name of the node under /reserved-memory, without the unit address.
    pub name: String,
    /// First address, aligned to a pageblock; 0 if the guest's kernel chooses it.
    pub base: u64,
    /// Size in bytes, a multiple of the pageblock.
    pub size: u64,
    /// Whether it is the window of devices without a window of their own (linux,cma-default).
    pub default: bool,
    /// The NUMA node in whose RAM it lies: 0 if there is only one, None if the guest's kernel chooses its address.
    pub node: Option<u32>,
    /// The range in which the guest's kernel chooses its address (alloc-ranges). The window then has no base.
    pub within: Option<Range<u64>>,
    /// Alignment of the base, if larger than a pageblock.
    pub align: Option<u64>,
    /// Whether the kernel may use the memory while no device does (reusable): a CMA window. Otherwise it is a carveout.
    pub reusable: bool,
    /// Whether the kernel does not map the memory (no-map).
    pub no_map: bool,
}

impl Default for Window {
    /// A CMA window without name, address and size.
    fn default() -> Self {
        Self {
            name: String::new(),
            base: 0,
            size: 0,
            default: false,
            node: None,
            within: None,
            align: None,
            reusable: true,
            no_map: false,
        }
    }
}

impl Window {
    /// The addresses of the window, or those from which the guest's kernel chooses.
    pub fn range(&self) -> Range<u64> {
        self.within.clone().unwrap_or(self.base..self.base + self.size)
    }
}
