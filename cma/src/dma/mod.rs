//! A model of the kernel's DMA API above cma_alloc: where a DMA buffer comes from, and the fallbacks after a failure.
//!
//! The rules are those of dma_alloc_attrs for a device without an IOMMU, a restricted pool or a coherent carveout, and a
//! caller that may sleep: kernel/dma/direct.c (dma_direct_alloc, __dma_direct_alloc_pages, dma_direct_optimal_gfp_mask,
//! dma_coherent_ok) and kernel/dma/contiguous.c (dma_alloc_contiguous), the same in 6.1 and 7.2. Bus addresses are
//! physical addresses, and the kernel has CONFIG_ZONE_DMA and CONFIG_ZONE_DMA32, as on x86_64 and aarch64.

use std::fmt;

use serde::Serialize;

use crate::{
    PAGE_SIZE,
    area::{AllocError, Allocation, Area, dma_alignment, order, plural},
};

/// The largest block of the buddy allocator, as an order of pages (include/linux/mmzone.h: MAX_ORDER - 1 in 6.1,
/// MAX_PAGE_ORDER since 6.8).
pub const MAX_PAGE_ORDER: u32 = 10;

/// The last address of GFP_DMA on x86_64 (kernel/dma/direct.c, zone_dma_bits). On aarch64 it is 2^32 - 1, or
/// lower where the device tree's dma-ranges say so (arch/arm64/mm/init.c, zone_sizes_init).
pub const ZONE_DMA_LAST: u64 = (1 << 24) - 1;

/// The last address of GFP_DMA32.
const ZONE_DMA32_LAST: u64 = u32::MAX as u64;

/// The memory that DMA buffers can come from.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The CMA areas.
    pub areas: Vec<Area>,
    /// The index of the default area (dma_contiguous_default_area).
    pub default: Option<usize>,
    /// The index of each NUMA node's own area, by the node's number: dma_contiguous_pernuma_area, which 6.1 has on
    /// aarch64 with cma_pernuma=; in 7.2 dma_contiguous_numa_area, with numa_cma= as well.
    pub nodes: Vec<Option<usize>>,
    /// The buddy allocator's zones.
    pub zones: Vec<Zone>,
    /// The last address of GFP_DMA; see [`ZONE_DMA_LAST`].
    pub zone_dma_last: u64,
}

/// A zone of the buddy allocator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The NUMA node.
    pub node: usize,
    /// Which of the node's zones.
    pub kind: ZoneKind,
    /// The free blocks: the first page of each, and its size as an order of pages.
    pub free: Vec<(u64, u32)>,
}

/// Which zone of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneKind {
    /// ZONE_DMA.
    Dma,
    /// ZONE_DMA32.
    Dma32,
    /// ZONE_NORMAL.
    Normal,
}

/// A device that allocates a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The index of its own area, if a driver called of_reserved_mem_device_init (dev->cma_area).
    pub area: Option<usize>,
    /// The last address that it can reach: the smaller of coherent_dma_mask and bus_dma_limit.
    pub mask: u64,
    /// Its NUMA node. Without one, the kernel uses the CPU's node, which is node 0 here.
    pub node: Option<usize>,
}

/// Why an area was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The device's own area.
    Device,
    /// The area of the device's NUMA node.
    Node,
    /// The default area.
    Default,
}

/// A step of the allocation of a buffer. `step` names it in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// A request of a page or less, by a device without an area, does not use CMA.
    OnePage,
    /// The device has no area, and there is no default area.
    NoArea,
    /// The node's area is skipped, because a device that cannot reach all memory requests a zone.
    NodePassedOver {
        /// The area.
        area: String,
    },
    /// A call of cma_alloc.
    Cma {
        /// The area.
        area: String,
        /// Why this area was chosen.
        whose: Whose,
        /// Pages.
        pages: u64,
        /// Their alignment, as an order of pages.
        align: u32,
        /// 0 or a negative errno.
        errno: i32,
        /// The first page; null after a refusal.
        pfn: Option<u64>,
        /// What the kernel prints, without time stamps.
        dmesg: Vec<String>,
    },
    /// The device cannot reach the pages, and the kernel frees them.
    OutOfReach {
        /// The address of their last byte.
        last: u64,
        /// The last address that the device can reach.
        mask: u64,
    },
    /// A request to the buddy allocator.
    Buddy {
        /// The highest zone that it may take a block from.
        zone: ZoneKind,
        /// The size of the block, as an order of pages.
        order: u32,
        /// The first page; null if there is none.
        pfn: Option<u64>,
    },
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DmaOutcome {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The buffer's address; null where dma_alloc_attrs returns NULL, which drivers report as -ENOMEM (-12).
    pub address: Option<u64>,
    /// The index of the area that it comes from; null if there is no buffer, or the buddy allocator has provided it.
    pub area: Option<usize>,
}

impl Memory {
    /// Allocates a buffer of `size` bytes for `device` as dma_alloc_attrs does.
    ///
    /// An index without an area counts as no index.
    pub fn alloc(&mut self, device: &Device, size: u64) -> DmaOutcome {
        let mut steps = Vec::new();
        let mut zone = match device.mask {
            mask if mask <= self.zone_dma_last => ZoneKind::Dma,
            mask if mask <= ZONE_DMA32_LAST => ZoneKind::Dma32,
            _ => ZoneKind::Normal,
        };
        if let Some((area, pfn)) = self.contiguous(device, size, zone, &mut steps) {
            if reaches(device, pfn, size, &mut steps) {
                return DmaOutcome { steps, address: Some(pfn * PAGE_SIZE), area: Some(area) };
            }
            self.areas[area].release(pfn, size.div_ceil(PAGE_SIZE));
        }
        // The zone of the mask can contain memory beyond the mask. Then a lower zone is tried, if there is one.
        loop {
            let order = order(size.div_ceil(PAGE_SIZE));
            let block = self.find_block(device.node.unwrap_or(0), zone, order);
            let pfn = block.map(|(zone, block)| self.zones[zone].free[block].0);
            steps.push(Step::Buddy { zone, order, pfn });
            match (block, pfn) {
                (Some((zone, block)), Some(pfn)) if reaches(device, pfn, size, &mut steps) => {
                    self.zones[zone].take_block(block, order);
                    return DmaOutcome { steps, address: Some(pfn * PAGE_SIZE), area: None };
                }
                (None, _) | (_, None) => return DmaOutcome { steps, address: None, area: None },
                _ => (),
            }
            zone = match zone {
                ZoneKind::Normal => ZoneKind::Dma32,
                ZoneKind::Dma32 => ZoneKind::Dma,
                ZoneKind::Dma => return DmaOutcome { steps, address: None, area: None },
            };
        }
    }

    /// dma_alloc_contiguous: the area and the first page.
    fn contiguous(
        &mut self,
        device: &Device,
        size: u64,
        zone: ZoneKind,
        steps: &mut Vec<Step>,
    ) -> Option<(usize, u64)> {
        let there = |index: &usize| *index < self.areas.len();
        let own = device.area.filter(there);
        let of_node = device.node.and_then(|node| self.nodes.get(node).copied().flatten()).filter(there);
        let default = self.default.filter(there);
        if let Some(own) = own {
            // The kernel does not try the other areas.
            return self.ask(own, Whose::Device, size, steps).map(|pfn| (own, pfn));
        }
        if size <= PAGE_SIZE {
            steps.push(Step::OnePage);
            return None;
        }
        if let Some(of_node) = of_node {
            if zone == ZoneKind::Normal {
                if let Some(pfn) = self.ask(of_node, Whose::Node, size, steps) {
                    return Some((of_node, pfn));
                }
            } else {
                let area = self.areas[of_node].name().to_owned();
                steps.push(Step::NodePassedOver { area });
            }
        }
        let Some(default) = default else {
            steps.push(Step::NoArea);
            return None;
        };
        self.ask(default, Whose::Default, size, steps).map(|pfn| (default, pfn))
    }

    /// cma_alloc_aligned.
    fn ask(&mut self, index: usize, whose: Whose, size: u64, steps: &mut Vec<Step>) -> Option<u64> {
        let area = &mut self.areas[index];
        let (name, pages, align) = (area.name().to_owned(), size.div_ceil(PAGE_SIZE), dma_alignment(size));
        let answer = area.alloc(pages, align);
        let (errno, pfn, dmesg) = match &answer {
            Ok(Allocation { pfn, .. }) => (0, Some(*pfn), Vec::new()),
            Err(refused @ AllocError { errno, .. }) => (*errno, None, area.dmesg(refused)),
        };
        steps.push(Step::Cma { area: name, whose, pages, align, errno, pfn, dmesg });
        pfn
    }

    /// The free block that alloc_pages_node takes: the zones from `highest` down, first those of `node`, then those of
    /// the other nodes in the order of the list; in a zone the smallest block that is large enough (mm/page_alloc.c,
    /// __rmqueue_smallest). Returns the indices of the zone and the block.
    fn find_block(&self, node: usize, highest: ZoneKind, order: u32) -> Option<(usize, usize)> {
        if order > MAX_PAGE_ORDER {
            return None;
        }
        let mut zones: Vec<_> = (0..).zip(&self.zones).filter(|(_, zone)| zone.kind <= highest).collect();
        zones.sort_by_key(|(_, zone)| (zone.node != node, zone.node, std::cmp::Reverse(zone.kind)));
        zones.into_iter().find_map(|(index, zone)| {
            let enough = (0..).zip(&zone.free).filter(|(_, (_, size))| *size >= order);
            enough.min_by_key(|(_, (_, size))| *size).map(|(block, _)| (index, block))
        })
    }
}

impl Zone {
    /// Takes the lower end of a free block. The upper halves stay free (mm/page_alloc.c, expand).
    fn take_block(&mut self, block: usize, order: u32) {
        let (pfn, size) = self.free.swap_remove(block);
        self.free.extend((order..size.min(u64::BITS)).map(|half| (pfn + (1 << half), half)));
    }
}

/// dma_coherent_ok: whether the device can reach the last byte.
fn reaches(device: &Device, pfn: u64, size: u64, steps: &mut Vec<Step>) -> bool {
    let last = (pfn * PAGE_SIZE).saturating_add(size.next_multiple_of(PAGE_SIZE) - 1);
    if last > device.mask {
        steps.push(Step::OutOfReach { last, mask: device.mask });
    }
    last <= device.mask
}

/// Text for people: a sentence.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnePage => {
                f.write_str("a request of a page or less, by a device without a window, does not use CMA")
            }
            Self::NoArea => f.write_str("the device has no window, and there is no default window"),
            Self::NodePassedOver { area } => {
                write!(f, "{area}, the window of the device's node, is skipped: the mask requests a zone")
            }
            Self::Cma { area, whose, pages, align, errno, pfn, dmesg } => {
                let whose = match whose {
                    Whose::Device => "the device's own window",
                    Whose::Node => "the window of the device's node",
                    Whose::Default => "the default window",
                };
                write!(f, "{area}, {whose}, gets a request for {} at alignment {align}: ", plural(*pages))?;
                match pfn {
                    Some(pfn) => write!(f, "pfn {pfn:#x}")?,
                    None => write!(f, "{errno}")?,
                }
                dmesg.iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
            Self::OutOfReach { last, mask } => {
                write!(
                    f,
                    "the last byte would be {last:#x}, but the device can reach only {mask:#x}: freed again"
                )
            }
            Self::Buddy { zone, order, pfn } => {
                let zone = match zone {
                    ZoneKind::Dma => "ZONE_DMA",
                    ZoneKind::Dma32 => "ZONE_DMA32 or lower",
                    ZoneKind::Normal => "any zone",
                };
                write!(f, "the buddy allocator gets a request for a block of order {order} in {zone}: ")?;
                match pfn {
                    Some(pfn) => write!(f, "pfn {pfn:#x}"),
                    None if *order > MAX_PAGE_ORDER => {
                        write!(f, "none, because its largest blocks have order {MAX_PAGE_ORDER}")
                    }
                    None => f.write_str("none is free"),
                }
            }
        }
    }
}

/// Text for people: a line for each step, and a line for the result.
impl fmt::Display for DmaOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))?;
        match self.address {
            Some(address) => write!(f, "the buffer is at {address:#x}"),
            None => f.write_str("dma_alloc_attrs returns NULL"),
        }
    }
}

#[cfg(test)]
mod tests;
