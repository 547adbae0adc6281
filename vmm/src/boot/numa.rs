//! NUMA nodes: the RAM and CPUs of each, and their properties in the tree (Documentation/devicetree/bindings/numa.txt).
//! [`NUMA_HELP`](crate::arch::NUMA_HELP) says which of these an architecture's guest reads.

use std::ops::Range;

use vm_fdt::{Error, FdtWriter};

/// RAM, each stretch with the number of its node, ascending.
pub type Nodes = Vec<(u32, Range<u64>)>;

/// The most nodes that our kernels are made for (CONFIG_NODES_SHIFT in guest-images/kernel/common.config).
pub const NODES_MAX: u8 = 8;

/// Distances between nodes (include/linux/topology.h).
const LOCAL_DISTANCE: u32 = 10;
const REMOTE_DISTANCE: u32 = 20;

/// The node of CPU `index` of `cpus` in a machine with `numa` nodes. CPUs are divided as evenly as possible; the first belong to node 0.
pub fn node_of_cpu(cpus: u8, numa: u8, index: u8) -> u32 {
    u32::from(index) * u32::from(numa) / u32::from(cpus)
}

/// Writes the property that puts the open node of the tree into NUMA node `node`, if there is more than one of these `numa` nodes.
///
/// # Errors
/// Those of the writer.
pub fn write_id(fdt: &mut FdtWriter, numa: u8, node: u32) -> Result<(), Error> {
    if numa == 1 {
        return Ok(());
    }
    fdt.property_u32("numa-node-id", node)
}

/// Writes the distances between these `numa` nodes, if there is more than one.
///
/// # Errors
/// Those of the writer.
pub fn write_distances(fdt: &mut FdtWriter, numa: u8) -> Result<(), Error> {
    if numa == 1 {
        return Ok(());
    }
    let nodes = 0..u32::from(numa);
    let matrix: Vec<u32> = nodes
        .clone()
        .flat_map(|from| nodes.clone().map(move |to| (from, to)))
        .flat_map(|(from, to)| [from, to, if from == to { LOCAL_DISTANCE } else { REMOTE_DISTANCE }])
        .collect();
    let map = fdt.begin_node("distance-map")?;
    fdt.property_string("compatible", "numa-distance-map-v1")?;
    fdt.property_array_u32("distance-matrix", &matrix)?;
    fdt.end_node(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_gets_its_share_of_the_cpus() {
        let of = |cpus, numa| (0..cpus).map(|index| node_of_cpu(cpus, numa, index)).collect::<Vec<_>>();
        assert_eq!(of(3, 1), [0, 0, 0]);
        assert_eq!(of(4, 2), [0, 0, 1, 1]);
        assert_eq!(of(3, 2), [0, 0, 1]);
        assert_eq!(of(2, 8), [0, 4]);
        assert_eq!(of(254, 8)[253], 7);
    }
}
