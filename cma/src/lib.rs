//! What CMA (the Contiguous Memory Allocator) is: window specification, placement, allocator and its scripts, the DMA API
//! above it, reserved-memory node and what Linux makes of it, map.
//!
//! Pure: no KVM, no I/O beyond what it is handed. Addresses and sizes are in bytes of guest physical memory.

use std::ops::Range;

pub mod area;
pub mod check;
pub mod dma;
pub mod map;
pub mod node;
pub mod place;
pub mod script;
pub mod size;
pub mod spec;

/// Size of a page in bytes: a bit of a window's bitmap, as DMA windows have order_per_bit 0 (mm/cma.c).
pub const PAGE_SIZE: u64 = 4096;

/// A window with its place in guest memory: a node under /reserved-memory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Window {
    /// Name of the node under /reserved-memory, without the unit address.
    pub name: String,
    /// First address, aligned to a pageblock; 0 if the guest's kernel chooses it.
    pub base: u64,
    /// Size in bytes, a multiple of the pageblock.
    pub size: u64,
    /// The window of devices that have none of their own (linux,cma-default).
    pub default: bool,
    /// The NUMA node whose RAM it lies in, 0 where there is but one; none if the guest's kernel chooses its place.
    pub node: Option<u32>,
    /// What has no place of its own here: the guest's kernel chooses one in this range (alloc-ranges).
    pub within: Option<Range<u64>>,
    /// What the base is a multiple of, if more than a pageblock.
    pub align: Option<u64>,
    /// Memory that the kernel may use as long as no device does (reusable): a CMA window. Without this it is a carveout.
    pub reusable: bool,
    /// Memory that the kernel has not mapped (no-map).
    pub no_map: bool,
}

impl Default for Window {
    /// A CMA window without a name, a place and a size.
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
    /// The addresses of the window, or those among which the guest's kernel chooses them.
    pub fn range(&self) -> Range<u64> {
        self.within.clone().unwrap_or(self.base..self.base + self.size)
    }
}
