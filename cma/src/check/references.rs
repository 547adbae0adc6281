//! The result of of_reserved_mem_device_init() in a driver, for each entry of each `memory-region`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Level, NodeOutcome, Reference, User, dma, finding, ranges::Ranges, regions::Checked, tree::Tree,
};

const DEVICE_INIT: &str = "drivers/of/of_reserved_mem.c, of_reserved_mem_device_init_by_idx";
const ASSIGN: &str = "kernel/dma/coherent.c, dma_assign_coherent_memory";
const PARSE_PHANDLE: &str = "drivers/of/base.c, of_parse_phandle";

/// The error codes of Linux (include/uapi/asm-generic/errno-base.h).
const ENODEV: i32 = -19;
const EINVAL: i32 = -22;

/// The end of the addresses that a device can reach if its driver sets no DMA mask (drivers/of/platform.c,
/// of_platform_device_create_pdata).
const FIRST_MASK_END: u64 = 4 << 30;

/// The nodes with a `memory-region`, in the order of the tree.
pub(super) fn check(tree: &Tree<'_>, regions: &[Checked]) -> Vec<User> {
    let by_node: BTreeMap<usize, &Checked> = regions.iter().map(|region| (region.node, region)).collect();
    // __find_rmem returns the first one in the kernel's order.
    let mut saved: Vec<&Checked> = regions.iter().filter(|region| region.rank.is_some()).collect();
    saved.sort_by_key(|region| std::cmp::Reverse(region.rank));
    let by_phandle: BTreeMap<u32, &Checked> =
        saved.iter().filter_map(|region| Some((tree.phandle(region.node)?, *region))).collect();
    let mut known = Known {
        tree,
        by_node,
        by_phandle,
        reachable: reachable(&edges(tree, &saved)),
        reach: BTreeMap::new(),
    };
    let mut users = Vec::new();
    for node in tree.nodes() {
        let Some(value) = tree.property(node, "memory-region") else { continue };
        let enabled = tree.ancestors(node).all(|node| tree.is_available(node));
        let mut references = Vec::new();
        for (index, cell) in value.chunks(4).enumerate() {
            let mut reference = known.reference(node, index, cell);
            let is_carveout = |reference: &Reference| reference.gets == Some(NodeOutcome::CoherentCarveout);
            if is_carveout(&reference) && references.iter().any(is_carveout) {
                let text = "a device can have one carveout: this one is refused if the earlier one is assigned (-EBUSY)";
                reference.findings.push(finding(Level::Note, ASSIGN, text));
            }
            if !enabled {
                // No driver calls it for a disabled device.
                reference.findings.iter_mut().for_each(|finding| finding.level = Level::Note);
            }
            references.push(reference);
        }
        if !references.is_empty() {
            users.push(User { node: tree.path(node), enabled, references });
        }
    }
    users
}

struct Known<'t, 'a> {
    tree: &'t Tree<'a>,
    by_node: BTreeMap<usize, &'t Checked>,
    by_phandle: BTreeMap<u32, &'t Checked>,
    /// For each region that Linux keeps: the region, and those that it refers to by `memory-region`, directly or indirectly.
    reachable: BTreeMap<usize, BTreeSet<usize>>,
    /// The memory that devices on a bus can reach, for the buses examined so far.
    reach: BTreeMap<usize, Option<Ranges>>,
}

/// The phandle in a cell. None if the cell is incomplete.
fn phandle(cell: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(cell.try_into().ok()?))
}

impl Known<'_, '_> {
    fn reference(&mut self, user: usize, index: usize, cell: &[u8]) -> Reference {
        let tree = self.tree;
        let phandle = phandle(cell);
        let target = phandle.and_then(|phandle| tree.find(phandle));
        let mut reference = Reference {
            index,
            target: target.map(|target| tree.path(target)),
            errno: ENODEV,
            gets: None,
            findings: Vec::new(),
        };
        let mut say = |level, source, text: String| reference.findings.push(finding(level, source, text));
        let (Some(phandle), Some(target)) = (phandle, target) else {
            match phandle {
                None => say(
                    Level::Error,
                    PARSE_PHANDLE,
                    "memory-region ends in the middle of a phandle (4 bytes)".into(),
                ),
                Some(0) => say(Level::Note, PARSE_PHANDLE, "the phandle 0 stands for an empty entry".into()),
                Some(phandle) => say(
                    Level::Error,
                    PARSE_PHANDLE,
                    format!("no node has the phandle {phandle:#x} (-ENODEV)"),
                ),
            }
            return reference;
        };
        if !tree.is_available(target) {
            let text = "its status is not \"okay\": the call succeeds, and the driver continues with the default window";
            say(Level::Warning, DEVICE_INIT, text.into());
            reference.errno = 0;
            return reference;
        }
        if self.reachable.get(&target).is_some_and(|nodes| nodes.contains(&user)) {
            let text = "it refers back to this node by its own memory-region: a region cannot contain itself, and Linux does \
                        not follow the loop";
            say(Level::Warning, DEVICE_INIT, text.into());
        }
        reference.errno = EINVAL;
        let Some(found) = self.by_phandle.get(&phandle).copied() else {
            match self.by_node.get(&target) {
                Some(found) => say(
                    Level::Error,
                    DEVICE_INIT,
                    format!("Linux keeps no record of it, because it is {} (-EINVAL)", found.region.outcome),
                ),
                None => {
                    say(
                        Level::Warning,
                        DEVICE_INIT,
                        "it is not a child of /reserved-memory (-EINVAL)".into(),
                    );
                }
            }
            return reference;
        };
        let region = &found.region;
        match region.outcome {
            NodeOutcome::Refused | NodeOutcome::Ignored => {
                say(
                    Level::Error,
                    DEVICE_INIT,
                    format!("it is not a pool, because it is {} (-EINVAL)", region.outcome),
                );
            }
            NodeOutcome::NoMap | NodeOutcome::Reserved => {
                let text =
                    "it is not a pool (-EINVAL): a driver can use it only by finding and mapping it itself";
                say(Level::Note, "drivers/of/of_reserved_mem.c, of_reserved_mem_lookup", text.into());
            }
            NodeOutcome::CoherentCarveout if !found.usable => {
                say(
                    Level::Error,
                    "kernel/dma/coherent.c, rmem_dma_device_init",
                    "it cannot be mapped (-EINVAL); see the error of that node".into(),
                );
            }
            pool => {
                let range = region.base.zip(region.size).map(|(base, size)| super::ranges::at(base, size));
                let bus = dma::bus(tree, user);
                let reach = bus
                    .and_then(|bus| self.reach.entry(bus).or_insert_with(|| dma::reach(tree, bus)).as_ref());
                match (reach, range) {
                    (Some(reach), Some(range)) if !reach.covers(&range) => {
                        let ends: Vec<String> =
                            reach.iter().take(4).map(|range| format!("{range:#x?}")).collect();
                        let more = if reach.iter().nth(4).is_some() { " and more" } else { "" };
                        let text = format!(
                            "it is at {range:#x?}, which the device cannot reach by dma-ranges: it can reach {}{more}",
                            ends.join(" and ")
                        );
                        say(Level::Warning, dma::SOURCE, text);
                    }
                    (None, Some(range)) if range.end > FIRST_MASK_END => {
                        let text = "it is above 4 GiB: the driver must set a DMA mask of more than 32 bits, the initial mask";
                        say(Level::Note, dma::SOURCE, text.into());
                    }
                    _ => {}
                }
                reference.errno = 0;
                reference.gets = Some(pool);
            }
        }
        reference
    }
}

/// The regions that Linux keeps, each with the regions that its own `memory-region` names.
fn edges(tree: &Tree<'_>, saved: &[&Checked]) -> BTreeMap<usize, BTreeSet<usize>> {
    let nodes: BTreeSet<usize> = saved.iter().map(|region| region.node).collect();
    let targets = |node| {
        let value = tree.property(node, "memory-region").unwrap_or_default();
        let targets = value.chunks(4).filter_map(|cell| tree.find(phandle(cell)?));
        targets.filter(|target| nodes.contains(target)).collect()
    };
    nodes.iter().map(|node| (*node, targets(*node))).collect()
}

/// The regions that each region of `edges` leads to, directly or indirectly.
fn reachable(edges: &BTreeMap<usize, BTreeSet<usize>>) -> BTreeMap<usize, BTreeSet<usize>> {
    let follow = |start: &usize| {
        let mut seen = BTreeSet::from([*start]);
        let mut open = vec![*start];
        while let Some(node) = open.pop() {
            open.extend(edges[&node].iter().filter(|target| seen.insert(**target)));
        }
        (*start, seen)
    };
    edges.keys().map(follow).collect()
}
