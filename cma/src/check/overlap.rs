//! Regions that overlap. Linux logs it, but only compares neighbours in the order of addresses
//! (drivers/of/of_reserved_mem.c, __rmem_check_for_overlap).

use std::ops::Range;

use super::{Level, regions::Checked};

const OVERLAP: &str = "drivers/of/of_reserved_mem.c, __rmem_check_for_overlap";

/// Reports each region that overlaps the one before it in the order of addresses, or an earlier one that reaches furthest.
pub(super) fn check(regions: &mut [Checked]) {
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
                report(regions, earlier, *index, seen);
            }
        }
    }
}

fn report(regions: &mut [Checked], earlier: usize, later: usize, seen: bool) {
    let pool = [earlier, later].iter().any(|index| regions[*index].region.outcome.is_pool());
    let level = if pool { Level::Error } else { Level::Warning };
    let seen = if seen { "Linux logs it (\"OVERLAP DETECTED!\")" } else { "Linux does not notice" };
    let done = if pool { "and gives the same memory to both" } else { "and continues" };
    let other = regions[earlier].region.node.clone();
    regions[later].say(level, OVERLAP, format!("it overlaps {other}: {seen} {done}"));
}
