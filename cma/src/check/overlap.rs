//! Regions that overlap. Linux logs it, but only compares neighbours in the order of addresses
//! (drivers/of/of_reserved_mem.c, __rmem_check_for_overlap).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{early::Checked, finding::Level, report::NodeOutcome, tree::Tree};

const OVERLAP: &str = "drivers/of/of_reserved_mem.c, __rmem_check_for_overlap";

/// Reports each region that overlaps the one before it in the order of addresses, or an earlier one that reaches furthest.
pub(super) fn check(tree: &Tree<'_>, regions: &mut [Checked]) {
    let users = users(tree);
    let range = |region: &Checked| region.range.clone().filter(|_| region.rank.is_some());
    let mut order: Vec<(Range<u64>, usize)> =
        regions.iter().enumerate().filter_map(|(index, region)| Some((range(region)?, index))).collect();
    order.sort_by_key(|(range, _)| (range.start, range.end));
    let mut longest: Option<(u64, usize)> = None;
    for at in 1..order.len() {
        let (previous, before) = &order[at - 1];
        if longest.is_none_or(|(end, _)| end < previous.end) {
            longest = Some((previous.end, *before));
        }
        let (later, index) = &order[at];
        if later.is_empty() {
            continue;
        }
        let neighbour = (later.start < previous.end).then_some(*before);
        let other = longest.filter(|(end, _)| later.start < *end).map(|(_, other)| other);
        for (earlier, seen) in [(neighbour, true), (other.filter(|other| Some(*other) != neighbour), false)] {
            if let Some(earlier) = earlier {
                let shared = common(tree, &users, [regions[earlier].node, regions[*index].node]);
                report(regions, earlier, *index, seen, shared);
            }
        }
    }
}

/// The devices that refer to each phandle by `memory-region`.
fn users(tree: &Tree<'_>) -> BTreeMap<u32, BTreeSet<usize>> {
    let mut users: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
    for node in tree.nodes() {
        let value = tree.property(node, "memory-region").unwrap_or_default();
        for cell in value.chunks_exact(4) {
            users.entry(u32::from_be_bytes([cell[0], cell[1], cell[2], cell[3]])).or_default().insert(node);
        }
    }
    users
}

/// The path of a device that alone has both regions.
fn common(tree: &Tree<'_>, users: &BTreeMap<u32, BTreeSet<usize>>, nodes: [usize; 2]) -> Option<String> {
    let [one, other] = nodes.map(|node| tree.phandle(node).and_then(|phandle| users.get(&phandle)));
    let (Some(one), Some(other)) = (one, other) else { return None };
    let device = one.first().filter(|_| one.len() == 1 && one == other)?;
    Some(tree.path(*device))
}

/// `device` has both regions, and no other device has one of them.
fn report(regions: &mut [Checked], earlier: usize, later: usize, seen: bool, device: Option<String>) {
    let outcomes = [earlier, later].map(|index| regions[index].region.outcome);
    let pool = outcomes.iter().any(|outcome| outcome.is_pool());
    // Linux itself hands out the memory of two pools, or of a CMA pool.
    let is_linux =
        outcomes.iter().all(|outcome| outcome.is_pool()) || outcomes.contains(&NodeOutcome::CmaPool);
    let device = device.filter(|_| !is_linux);
    let level = if pool && device.is_none() { Level::Error } else { Level::Warning };
    let seen = if seen { "Linux logs it (\"OVERLAP DETECTED!\")" } else { "Linux does not notice" };
    let done = match device {
        Some(device) => {
            format!("and continues; both are of {device}, whose driver or firmware has to know it")
        }
        None if outcomes == [NodeOutcome::CmaPool; 2] => {
            "and gives the same memory to both: the page allocator gets it twice, \
                                                         and Linux crashes when it uses it"
                .to_owned()
        }
        None if pool => "and gives the same memory to both".to_owned(),
        None => "and continues".to_owned(),
    };
    let other = regions[earlier].region.node.clone();
    regions[later].say(level, OVERLAP, format!("it overlaps {other}: {seen} {done}"));
}
