//! NUMA nodes, which Linux on arm64 reads from the tree (drivers/of/of_numa.c).

use std::ops::Range;

use crate::boot::numa::Nodes;

/// The explanation in the help of `--numa`.
pub const NUMA_HELP: &str = "Linux on arm64 reads them from the device tree";

/// The option of the kernel command line that gives the guest this number of nodes.
pub fn numa_cmdline(_nodes: u8) -> Option<String> {
    None
}

/// The unit of the division, as on x86_64, where it is Linux' own. A larger pageblock is the unit instead.
const UNIT: u64 = 32 << 20;

/// Divides `ram` into equal parts. The last part also has the remainder. None if there is too little RAM.
pub fn nodes(ram: &[Range<u64>], count: u8, pageblock: u64) -> Option<Nodes> {
    let [ram] = ram else { return None };
    let (count, unit) = (u32::from(count), UNIT.max(pageblock));
    let size = (ram.end - ram.start) / u64::from(count) / unit * unit;
    let start = |node: u32| ram.start + size * u64::from(node);
    let end = |node: u32| if node + 1 == count { ram.end } else { start(node + 1) };
    (size > 0 || count == 1).then(|| (0..count).map(|node| (node, start(node)..end(node))).collect())
}

#[cfg(test)]
mod tests {
    use super::{super::layout::ram, *};

    const M: u64 = 1 << 20;

    fn in_mib(memory: u64, count: u8, pageblock: u64) -> Option<Vec<(u32, Range<u64>)>> {
        let nodes = nodes(&ram(memory * M), count, pageblock * M)?;
        Some(nodes.into_iter().map(|(node, range)| (node, range.start / M..range.end / M)).collect())
    }

    #[test]
    fn memory_is_divided_in_units() {
        assert_eq!(in_mib(33, 1, 4).unwrap(), [(0, 1024..1057)]);
        assert_eq!(in_mib(1024, 2, 4).unwrap(), [(0, 1024..1536), (1, 1536..2048)]);
        assert_eq!(in_mib(1000, 3, 4).unwrap(), [(0, 1024..1344), (1, 1344..1664), (2, 1664..2024)]);
        assert_eq!(in_mib(2560, 2, 512).unwrap(), [(0, 1024..2048), (1, 2048..3584)]);
        assert_eq!(in_mib(1023, 2, 512), None);
        assert_eq!(in_mib(63, 2, 4), None);
    }
}
