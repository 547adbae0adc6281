//! NUMA nodes: Linux on x86_64 takes them from ACPI's tables, which this machine does not have, or makes them by itself with
//! `numa=fake=N` on its command line. This file computes the nodes that it makes.

use std::ops::Range;

use super::layout::{HIMEM_START, LOW_RAM_END};
use crate::boot::numa::Nodes;

/// The explanation in the help of `--numa`.
pub const NUMA_HELP: &str = "Linux on x86_64 makes these nodes by itself (numa=fake=N), of memory alone: every CPU is in all of \
                             them, and no device is in any";

/// The option of the kernel command line that gives the guest `nodes` nodes.
pub fn numa_cmdline(nodes: u8) -> Option<String> {
    (nodes > 1).then(|| format!("numa=fake={nodes}"))
}

/// FAKE_NODE_MIN_SIZE (arch/x86/include/asm/numa.h): the unit of the division.
const UNIT: u64 = 32 << 20;
/// Where ZONE_DMA32 ends (MAX_DMA32_PFN).
const DMA32_END: u64 = 1 << 32;
const PAGE: u64 = cma::PAGE_SIZE;

/// The nodes that Linux divides `ram` into (split_nodes_interleave in arch/x86/mm/numa_emulation.c, 6.1). None if Linux makes
/// fewer nodes.
pub fn nodes(ram: &[Range<u64>], count: u8, _pageblock: u64) -> Option<Nodes> {
    if count == 1 {
        return Some(ram.iter().map(|range| (0, range.clone())).collect());
    }
    let memory = memory(ram);
    let present = |range: Range<u64>| -> u64 {
        memory.iter().map(|part| part.end.min(range.end).saturating_sub(part.start.max(range.start))).sum()
    };
    let (limit, wanted) = (ram.last()?.end, u64::from(count));
    let even = present(0..limit) / PAGE / wanted * PAGE;
    let larger = (even % UNIT) * wanted / UNIT;
    let size = even / UNIT * UNIT;
    if size == 0 {
        return None;
    }
    let mut nodes = Vec::new();
    let (mut start, mut made) = (0, 0);
    while start < limit {
        let mut end = start + size + if made < larger { UNIT } else { 0 };
        while present(start..end) < size {
            end += UNIT;
            if end > limit {
                end = limit;
                break;
            }
        }
        if end < DMA32_END && present(end..DMA32_END) < UNIT {
            end = DMA32_END;
        }
        if present(end..limit) < size {
            end = limit;
        }
        let end = end.min(limit);
        let node = u32::try_from(made % wanted).ok()?;
        let parts = ram.iter().map(|part| part.start.max(start)..part.end.min(end));
        nodes.extend(parts.filter(|part| !part.is_empty()).map(|part| (node, part)));
        (start, made) = (end, made + 1);
    }
    (made >= wanted).then_some(nodes)
}

/// The part of `ram` in memblock: without the first page (trim_bios_range in arch/x86/kernel/setup.c), and without the hole from
/// 640 KiB to the first MiB.
fn memory(ram: &[Range<u64>]) -> Vec<Range<u64>> {
    let low = PAGE..LOW_RAM_END / PAGE * PAGE;
    let parts = ram.iter().map(|part| part.start.max(HIMEM_START)..part.end);
    std::iter::once(low).chain(parts).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::layout::ram, *};

    const M: u64 = 1 << 20;

    fn in_mib(memory: u64, count: u8) -> Vec<(u32, Range<u64>)> {
        let nodes = nodes(&ram(memory * M), count, 4 * M).unwrap();
        nodes.into_iter().map(|(node, range)| (node, range.start / M..range.end / M)).collect()
    }

    /// tests/tests/suite/linux.rs has a kernel divide the same.
    #[test]
    fn memory_is_divided_as_the_kernel_does() {
        assert_eq!(in_mib(1024, 1), [(0, 0..1024)]);
        assert_eq!(in_mib(1024, 2), [(0, 0..512), (1, 512..1024)]);
        assert_eq!(in_mib(1024, 3), [(0, 0..352), (1, 352..672), (2, 672..1024)]);
        assert_eq!(in_mib(4096, 2), [(0, 0..2048), (1, 2048..3328), (1, 4096..4864)]);
        // A node takes the rest of ZONE_DMA32 where that is too little for the next node.
        assert_eq!(
            in_mib(8320, 5),
            [(0, 0..1664), (1, 1664..3328), (2, 4096..5760), (3, 5760..7424), (4, 7424..9088)]
        );
    }

    #[test]
    fn what_the_kernel_does_not_divide_is_none() {
        // As the first MiB has a hole, one node goes on above 4 GiB, and leaves too little for another.
        assert_eq!(nodes(&ram(6664 * M), 2, 4 * M), None);
        assert_eq!(nodes(&ram(64 * M), 2, 4 * M), None);
        assert_eq!(nodes(&ram(200 * M), 8, 4 * M), None);
        assert!(nodes(&ram(512 * M), 8, 4 * M).is_some());
    }
}
