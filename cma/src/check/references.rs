//! The result of of_reserved_mem_device_init() in a driver, for each entry of each `memory-region`.

use std::collections::BTreeMap;

use super::{
    cycles, dma,
    early::Checked,
    finding::{Level, finding},
    kernel::Kernel,
    ranges::Ranges,
    report::{EINVAL, ENODEV, ENOMEM, NodeOutcome, Reference, User},
    tree::Tree,
};
use crate::area::Rules;

const DEVICE_INIT: &str = "drivers/of/of_reserved_mem.c, of_reserved_mem_device_init_by_idx";
const ASSIGN: &str = "kernel/dma/coherent.c, dma_assign_coherent_memory";
const KEEP_PHANDLE: &str = "drivers/of/of_reserved_mem.c, fdt_init_reserved_mem";
const BY_NAME: &str = "drivers/of/of_reserved_mem.c, of_reserved_mem_device_init_by_name";
const PARSE_PHANDLE: &str = "drivers/of/base.c, of_parse_phandle";

/// The property with the names of a device's regions.
const NAMES: &str = "memory-region-names";

/// The end of the addresses that a device can reach if its driver sets no DMA mask (drivers/of/platform.c,
/// of_platform_device_create_pdata).
const FIRST_MASK_END: u64 = 4 << 30;

/// The nodes with a `memory-region`, in the order of the tree.
pub(super) fn check(tree: &Tree<'_>, kernel: &Kernel, regions: &[Checked]) -> Vec<User> {
    let by_node: BTreeMap<usize, &Checked> = regions.iter().map(|region| (region.node, region)).collect();
    // The kernel takes the first one of its list.
    let mut saved: Vec<&Checked> = regions.iter().filter(|region| region.rank.is_some()).collect();
    saved.sort_by_key(|region| std::cmp::Reverse(region.rank));
    let phandles = saved.iter().filter_map(|region| Some((kept_phandle(tree, region.node)?, *region)));
    let names = saved.iter().map(|region| (tree.name(region.node), *region));
    let (by_phandle, by_name) = match kernel.rules {
        Rules::V6_1 => (phandles.collect(), BTreeMap::new()),
        Rules::V6_12 | Rules::V7_2 => (BTreeMap::new(), names.collect()),
    };
    let circles = cycles::circles(&edges(tree, &saved));
    let mut known = Known { tree, by_node, by_phandle, by_name, circles, reach: BTreeMap::new() };
    let mut users = Vec::new();
    for node in tree.nodes() {
        let value = tree.property(node, "memory-region");
        if value.is_none() && !tree.has(node, NAMES) || tree.is_meta(node) {
            continue;
        }
        let enabled = tree.ancestors(node).all(|node| tree.is_available(node));
        let names: Vec<&[u8]> = tree.strings(node, NAMES).collect();
        let mut references = Vec::new();
        let mut has_carveout = false;
        for (index, cell) in value.unwrap_or_default().chunks(4).enumerate() {
            let mut reference = known.reference(node, index, cell);
            reference.name = names.get(index).map(|name| name.escape_ascii().to_string());
            let is_carveout = reference.gets == Some(NodeOutcome::CoherentCarveout);
            if is_carveout && has_carveout {
                let text = "a device can have one carveout: this one is refused if the earlier one is assigned (-EBUSY)";
                reference.findings.push(finding(Level::Note, ASSIGN, text));
            }
            has_carveout |= is_carveout;
            if !enabled {
                // No driver calls it for a disabled device.
                reference.findings.iter_mut().for_each(|finding| finding.level = Level::Note);
            }
            references.push(reference);
        }
        let level = if enabled { Level::Warning } else { Level::Note };
        let findings = look_at_names(tree, node, &names, references.len())
            .into_iter()
            .map(|text| finding(level, BY_NAME, text))
            .collect();
        users.push(User { node: tree.path(node), enabled, findings, references });
    }
    users.retain(|user| !user.references.is_empty() || !user.findings.is_empty());
    users
}

/// What is wrong with the names of a device's regions.
fn look_at_names(tree: &Tree<'_>, node: usize, names: &[&[u8]], entries: usize) -> Vec<String> {
    if !tree.has(node, NAMES) {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    if entries == 0 {
        wrong.push(format!("{NAMES} has no effect without memory-region"));
    } else if names.len() != entries {
        wrong.push(format!(
            "{NAMES} has {} names for {entries} entries of memory-region: an entry without a name is found by its number only, \
             and a name without an entry gives -ENODEV",
            names.len()
        ));
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        wrong.push(format!("{NAMES} has the name {} twice: the first one is found", pair[0].escape_ascii()));
    }
    wrong
}

struct Known<'t, 'a> {
    tree: &'t Tree<'a>,
    by_node: BTreeMap<usize, &'t Checked>,
    /// The regions that 6.1 keeps.
    by_phandle: BTreeMap<u32, &'t Checked>,
    /// The regions that 6.12 and 7.2 keep.
    by_name: BTreeMap<&'t str, &'t Checked>,
    /// For each region that Linux keeps, its circle of `memory-region`.
    circles: BTreeMap<usize, usize>,
    /// The memory that devices on a bus can reach, for the buses examined so far.
    reach: BTreeMap<usize, Option<Ranges>>,
}

/// The phandle that 6.1 keeps with a region: also a zero, with which no device finds the region ([`KEEP_PHANDLE`]).
fn kept_phandle(tree: &Tree<'_>, node: usize) -> Option<u32> {
    let value = ["phandle", "linux,phandle"].into_iter().find_map(|name| tree.property(node, name))?;
    value
        .chunks_exact(4)
        .try_fold(0_u64, |all, cell| Some(all << 32 | u64::from(phandle(cell)?)))?
        .try_into()
        .ok()
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
            name: None,
            target: target.map(|target| tree.path(target)),
            errno: ENODEV,
            gets: None,
            pool: None,
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
        if self.circles.get(&target).is_some_and(|circle| self.circles.get(&user) == Some(circle)) {
            let text = "it refers back to this node by its own memory-region: a region cannot contain itself, and Linux does \
                        not follow the loop";
            say(Level::Warning, DEVICE_INIT, text.into());
        }
        reference.errno = EINVAL;
        let found = self.by_phandle.get(&phandle).or_else(|| self.by_name.get(tree.name(target))).copied();
        let Some(found) = found else {
            match self.by_node.get(&target) {
                Some(found) if found.is_placeholder => say(
                    Level::Warning,
                    DEVICE_INIT,
                    "Linux keeps no record of it, unless the boot loader completes it (-EINVAL)".into(),
                ),
                Some(_) if kept_phandle(tree, target) != Some(phandle) => say(
                    Level::Error,
                    KEEP_PHANDLE,
                    format!(
                        "Linux keeps its phandle property, which is not {phandle:#x} (-EINVAL); remove it, or linux,phandle"
                    ),
                ),
                Some(found) => say(
                    Level::Error,
                    DEVICE_INIT,
                    format!("Linux keeps no record of it, because it is {} (-EINVAL)", found.region.outcome),
                ),
                None => {
                    let is_pool = |name| tree.is_compatible(target, name);
                    let is_meant = is_pool("shared-dma-pool") || is_pool("restricted-dma-pool");
                    let level = if is_meant { Level::Error } else { Level::Warning };
                    say(level, DEVICE_INIT, "it is not a child of /reserved-memory (-EINVAL)".into());
                }
            }
            return reference;
        };
        let region = &found.region;
        match region.outcome {
            NodeOutcome::Refused | NodeOutcome::Ignored => {
                let level = if found.is_placeholder { Level::Warning } else { Level::Error };
                say(
                    level,
                    DEVICE_INIT,
                    format!("it is not a pool, because it is {} (-EINVAL)", region.outcome),
                );
            }
            NodeOutcome::NoMap | NodeOutcome::Reserved => {
                let text =
                    "it is not a pool (-EINVAL): a driver can use it only by finding and mapping it itself";
                say(Level::Note, "drivers/of/of_reserved_mem.c, of_reserved_mem_lookup", text.into());
            }
            NodeOutcome::CoherentCarveout | NodeOutcome::RestrictedDmaPool if found.use_error != 0 => {
                reference.errno = found.use_error;
                let name = if found.use_error == ENOMEM { "-ENOMEM" } else { "-EINVAL" };
                let text = format!("it cannot be used ({name}); see the finding of that node");
                say(Level::Error, "kernel/dma/coherent.c, rmem_dma_device_init", text);
            }
            pool => {
                let range = found.range.clone();
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
                (reference.gets, reference.pool) = (Some(pool), Some(region.node.clone()));
            }
        }
        reference
    }
}

/// The regions that Linux keeps, each with the regions that its own `memory-region` names.
fn edges(tree: &Tree<'_>, saved: &[&Checked]) -> BTreeMap<usize, Vec<usize>> {
    let mut edges: BTreeMap<usize, Vec<usize>> =
        saved.iter().map(|region| (region.node, Vec::new())).collect();
    for region in saved {
        let value = tree.property(region.node, "memory-region").unwrap_or_default();
        let targets = value.chunks(4).filter_map(|cell| tree.find(phandle(cell)?));
        let targets: Vec<usize> = targets.filter(|target| edges.contains_key(target)).collect();
        edges.insert(region.node, targets);
    }
    edges
}
