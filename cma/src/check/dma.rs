//! The memory that a device can reach, by the `dma-ranges` of the buses above it.

use super::{
    ranges::{Ranges, at},
    tree::{ROOT, Tree, number},
};

/// Maximum number of cells of an address (drivers/of/address.c, OF_MAX_ADDR_CELLS).
const MAX_CELLS: usize = 4;

/// The source of the rules.
pub(super) const SOURCE: &str =
    "drivers/of/address.c, of_dma_get_range; kernel/dma/direct.c, dma_coherent_ok";

/// The bus whose `dma-ranges` applies to `device`: the nearest one with tuples. None without such a bus, and if a memory
/// controller is the device's parent for DMA (`interconnects`), which is not examined.
pub(super) fn bus(tree: &Tree<'_>, device: usize) -> Option<usize> {
    let mut found = false;
    for node in tree.ancestors(device) {
        match tree.property(node, "dma-ranges") {
            Some([_, ..]) => return Some(node),
            None if found => return None,
            _ => found = true,
        }
        if tree.strings(node, "interconnect-names").any(|name| name == b"dma-mem") {
            return None;
        }
    }
    None
}

/// The memory that devices on `bus` can reach by its `dma-ranges`. None if the property is malformed.
pub(super) fn reach(tree: &Tree<'_>, bus: usize) -> Option<Ranges> {
    let mut reach = Ranges::default();
    for (_, parent, size) in tuples(tree, bus)? {
        if let Some(base) = translate(tree, bus, parent) {
            reach.insert(at(base, size));
        }
    }
    (!reach.is_empty()).then_some(reach)
}

/// The highest address that all devices can reach, by every `dma-ranges` of the tree (drivers/of/address.c,
/// of_dma_get_max_cpu_address). u64::MAX without a limit.
pub(super) fn max_cpu_address(tree: &Tree<'_>) -> u64 {
    let last = |bus| {
        let ranges = tuples(tree, bus)?;
        // An address that no bus above has is the largest number, and the sum wraps.
        let end = |(_, parent, size): (u64, u64, u64)| {
            translate(tree, bus, parent).unwrap_or(u64::MAX).wrapping_add(size)
        };
        Some(ranges.map(end).fold(0, |last, end| if end > last { end.wrapping_sub(1) } else { last }))
    };
    let buses =
        tree.nodes().filter(|node| tree.property(*node, "dma-ranges").is_some_and(|value| !value.is_empty()));
    // A node that is not available is not walked into; the root's status does not matter.
    let walked = buses.filter(|bus| tree.ancestors(*bus).all(|node| node == ROOT || tree.is_available(node)));
    walked.filter_map(last).min().unwrap_or(u64::MAX)
}

/// Translates `address`, on the bus above `bus`, to an address of the CPU. A missing or empty `dma-ranges` changes nothing
/// (drivers/of/address.c, of_translate_one).
fn translate(tree: &Tree<'_>, bus: usize, mut address: u64) -> Option<u64> {
    for above in tree.ancestors(bus).skip(1) {
        if tree.property(above, "dma-ranges").is_some_and(|value| !value.is_empty()) {
            let (child, parent, _) =
                tuples(tree, above)?.find(|(child, _, size)| at(*child, *size).contains(&address))?;
            address = parent.wrapping_add(address - child);
        }
    }
    Some(address)
}

/// The tuples of `dma-ranges` of a bus: the address on it, the address on the bus above, and the size in bytes. PCI addresses begin
/// with a cell of flags, which the 64 bits do not contain.
fn tuples<'a>(tree: &Tree<'a>, bus: usize) -> Option<impl Iterator<Item = (u64, u64, u64)> + use<'a>> {
    let above = tree.ancestors(bus).nth(1).unwrap_or(ROOT);
    let cells = [
        cells(tree, bus, "#address-cells"),
        cells(tree, above, "#address-cells"),
        cells(tree, bus, "#size-cells"),
    ];
    if cells.iter().any(|cells| !(1..=MAX_CELLS).contains(cells)) {
        return None;
    }
    let [child, parent, size] = cells.map(|cells| 4 * cells);
    let tuples = tree.property(bus, "dma-ranges")?.chunks_exact(child + parent + size);
    Some(tuples.map(move |tuple| {
        (number(&tuple[..child]), number(&tuple[child..child + parent]), number(&tuple[child + parent..]))
    }))
}

/// The number of cells of addresses below `node`, inherited if the node does not set it (drivers/of/base.c, of_bus_n_addr_cells).
fn cells(tree: &Tree<'_>, node: usize, name: &str) -> usize {
    tree.ancestors(node).find_map(|node| tree.cell(node, name)).unwrap_or(1) as usize
}
