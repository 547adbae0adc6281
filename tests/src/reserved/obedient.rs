//! The answer of a kernel that does what the check says, for tests without boots.

use cma::{
    PAGE_SIZE,
    check::{NodeOutcome, Region, Report},
};

use super::{
    answer::{Answer, Area, End, Got, Known, is_active},
    tree::Tree,
};

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The answer of a kernel that does what `report` says.
pub(super) fn obedient(report: &Report, tree: &Tree) -> Answer {
    let end = if report.panics { End::Panicked } else { End::Answered };
    let mut answer = Answer { end, ..Answer::default() };
    answer.ram.clone_from(&report.memory.ram);
    // Whole pages.
    let end = |end: u64| end.checked_next_multiple_of(PAGE_SIZE).unwrap_or(end);
    let pages = report.memory.reserved.iter().map(|range| range.start & !(PAGE_SIZE - 1)..end(range.end));
    answer.reserved = pages.collect();
    for region in &report.regions {
        let is_there =
            region.outcome.is_pool() || matches!(region.outcome, NodeOutcome::NoMap | NodeOutcome::Reserved);
        let name = name_of(&region.node).to_owned();
        if let (true, Some(size)) = (is_there, region.size) {
            let base = region.base.or(region.placed).unwrap_or(0x7777_0000);
            answer.regions.push(Known { name, base, size, is_pool: region.outcome.is_pool() });
        }
    }
    for user in report.users.iter().filter(|user| user.enabled && tree.is_asked(name_of(&user.node))) {
        for reference in &user.references {
            let kind = match reference.gets {
                Some(NodeOutcome::CmaPool) => "cma",
                Some(NodeOutcome::CoherentCarveout) => "coherent",
                None if reference.errno < 0 => "-",
                _ => "other",
            };
            let pool = report.regions.iter().find(|region| Some(&region.node) == reference.pool.as_ref());
            answer.got.push(Got {
                user: name_of(&user.node).to_owned(),
                index: Some(reference.index),
                errno: reference.errno,
                kind: kind.to_owned(),
                buffer: pool
                    .filter(|region| is_active(&region.findings))
                    .and_then(|region| region.base.or(region.placed)),
            });
        }
    }
    let window = &report.default_window;
    let beside = report.memory.window.clone();
    let all: Vec<_> = beside.iter().chain(&report.memory.numa).cloned().collect();
    answer.windows = all.iter().map(|range| range.start).collect();
    answer.own = all.iter().filter(|range| !report.memory.reserved.contains(range)).cloned().collect();
    let beside = beside.filter(|_| is_active(&window.findings));
    let is_pool = |region: &&Region| region.outcome == NodeOutcome::CmaPool && is_active(&region.findings);
    let pools = report.regions.iter().filter(is_pool);
    let others: Vec<_> = beside.iter().chain(&report.memory.numa).collect();
    answer.cma_total = pools.clone().filter_map(|region| region.size).sum();
    answer.cma_total += others.iter().map(|range| range.end - range.start).sum::<u64>();
    let of_node = |region: &Region| Area {
        name: name_of(&region.node).to_owned(),
        base_pfn: region.base.or(region.placed).unwrap_or(0x7777_0000) / PAGE_SIZE,
        count: region.size.unwrap() / PAGE_SIZE,
    };
    let mut areas: Vec<Area> = pools.clone().map(of_node).collect();
    for range in others {
        let (base_pfn, count) = (range.start / PAGE_SIZE, (range.end - range.start) / PAGE_SIZE);
        areas.push(Area { name: "reserved".to_owned(), base_pfn, count });
    }
    answer.areas = Some(areas);
    let default = match &window.node {
        Some(node) => {
            pools.clone().find(|region| region.node == *node).and_then(|region| region.base.or(region.placed))
        }
        None => beside.as_ref().map(|range| range.start),
    };
    answer.got.push(Got {
        user: "plain".to_owned(),
        index: None,
        errno: 0,
        kind: "none".to_owned(),
        buffer: default,
    });
    answer
}
