//! Compares the rules of `minivmm check` with kernels: random device trees, what the check predicts for each, what a booted kernel does
//! with it, and the smallest tree that shows a difference.
//!
//! The kernels are Debian's unmodified arm64 kernels and our x86_64 kernel. Plain QEMU boots them with a small tree of its machine, in
//! which the nodes under test are merged. The guest's only program loads a module, which asks for each region as drivers do.

pub mod answer;
pub mod machine;
pub mod platform;
pub mod random;
pub mod shrink;
pub mod tree;

use std::fmt;

use cma::check::{Boot, Kernel, Report, Tree as Parsed, check};

use answer::{Answer, Difference};
use machine::Machine;
use platform::Platform;
use tree::{Item, Tree};

/// A tree for which the check and a kernel differ.
#[derive(Debug)]
pub struct Mismatch {
    /// The machine.
    pub platform: Platform,
    /// The items of the smallest tree found that still shows a difference.
    pub items: Vec<Item>,
    /// The differences of that tree.
    pub differences: Vec<Difference>,
    /// The boots that made it smaller.
    pub boots: usize,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        writeln!(f, "The smallest tree with a difference, after {} boots:", self.boots)?;
        write!(f, "{}", Tree::new(self.platform, &self.items).dts())
    }
}

/// A predictor: [`predict`], or in tests one with a mistake.
pub type Predict<'a> = &'a dyn Fn(&Tree) -> Report;

/// What the check says about a tree on a kernel.
///
/// # Panics
/// If the tree is malformed.
pub fn predict(tree: &Tree, kernel: &Kernel, boot: &Boot) -> Report {
    let blob = tree.blob();
    check(&Parsed::read(&blob).expect("the tree is well-formed"), kernel, boot)
}

/// Compares the prediction for the tree of `items` with the answer of `ask`, a booted kernel. A difference is made smaller with more
/// answers.
///
/// # Errors
/// The smallest difference found.
pub fn compare(
    platform: Platform,
    items: &[Item],
    predict: Predict<'_>,
    ask: &mut dyn FnMut(&Tree) -> Answer,
) -> Result<(), Box<Mismatch>> {
    let mut boots = 0;
    let mut differences = |items: &[Item]| {
        boots += 1;
        let tree = Tree::new(platform, items);
        answer::differences(&predict(&tree), &tree, &ask(&tree))
    };
    let Some(Difference { kind, .. }) = differences(items).into_iter().next() else { return Ok(()) };
    let is_same = |found: &Difference| found.kind == kind;
    // Every tree without RAM is silent.
    let smallest = match kind.as_str() {
        "silence" => items.to_vec(),
        _ => shrink::shrink(items, &mut |items| differences(items).iter().any(is_same)),
    };
    let differences = differences(&smallest);
    Err(Box::new(Mismatch { platform, items: smallest, differences, boots }))
}

/// Compares the tree of `items` with what the kernel of `machine` does.
///
/// # Errors
/// The smallest difference found.
pub fn compare_booted(items: &[Item], machine: &Machine) -> Result<(), Box<Mismatch>> {
    let predict = |tree: &Tree| predict(tree, &machine.rules, &machine.boot);
    compare(machine.platform, items, &predict, &mut |tree| machine.boot(tree))
}

#[cfg(test)]
mod tests {
    use cma::{
        PAGE_SIZE,
        check::{Arch, NodeOutcome, Origin, Rules},
    };

    use super::{
        answer::{End, Got, Known},
        *,
    };

    /// The answer of a kernel that does what `report` says.
    fn obedient(report: &Report, tree: &Tree) -> Answer {
        let end = if report.panics { End::Panicked } else { End::Answered };
        let mut answer = Answer { end, ..Answer::default() };
        answer.ram.clone_from(&report.memory.ram);
        // Whole pages.
        let end = |end: u64| end.checked_next_multiple_of(PAGE_SIZE).unwrap_or(end);
        let pages = report.memory.reserved.iter().map(|range| range.start & !(PAGE_SIZE - 1)..end(range.end));
        answer.reserved = pages.collect();
        for region in &report.regions {
            let is_there = region.outcome.is_pool()
                || matches!(region.outcome, NodeOutcome::NoMap | NodeOutcome::Reserved);
            let name = region.node.rsplit('/').next().unwrap().to_owned();
            if let (true, Some(size)) = (is_there, region.size) {
                let base = region.base.or(region.placed).unwrap_or(0x7777_0000);
                answer.regions.push(Known { name, base, size, is_pool: region.outcome.is_pool() });
            }
        }
        for user in report.users.iter().filter(|user| user.enabled && tree.is_asked(&user.node[1..])) {
            for reference in &user.references {
                let kind = match reference.gets {
                    Some(NodeOutcome::CmaPool) => "cma",
                    Some(NodeOutcome::CoherentCarveout) => "coherent",
                    None if reference.errno < 0 => "-",
                    _ => "other",
                };
                let target =
                    report.regions.iter().find(|region| Some(&region.node) == reference.target.as_ref());
                answer.got.push(Got {
                    user: user.node[1..].to_owned(),
                    index: Some(reference.index),
                    errno: reference.errno,
                    kind: kind.to_owned(),
                    buffer: target.and_then(|region| region.base.or(region.placed)),
                });
            }
        }
        let window = &report.default_window;
        let pools = report.regions.iter().filter(|region| region.outcome == NodeOutcome::CmaPool);
        answer.cma_total = pools.filter_map(|region| region.size).sum();
        if window.origin != Origin::Node {
            answer.cma_total += window.size.unwrap_or(0);
        }
        let node = report.regions.iter().find(|region| Some(&region.node) == window.node.as_ref());
        let default = node.map_or(window.base, |region| region.base.or(region.placed));
        answer.got.push(Got {
            user: "plain".to_owned(),
            index: None,
            errno: 0,
            kind: "none".to_owned(),
            buffer: default,
        });
        answer
    }

    /// A kernel that does what the check says has no difference. If a rule is broken, here the pageblock, trees with a difference are
    /// found, and few items of each remain.
    #[test]
    fn a_broken_rule_is_found_and_its_tree_becomes_small() {
        let kernel = Kernel::debian(Rules::V6_12, Arch::Arm64, PAGE_SIZE).unwrap();
        let predict = |tree: &Tree, kernel: &Kernel| predict(tree, kernel, &Boot::default());
        let broken = kernel.clone().with_pageblock(8 << 20).unwrap();
        let mut found = 0;
        for seed in 0..60 {
            let items = random::items(seed);
            let mut ask = |tree: &Tree| obedient(&predict(tree, &kernel), tree);
            let right = compare(Platform::Virt, &items, &|tree| predict(tree, &kernel), &mut ask);
            assert!(right.is_ok(), "seed {seed}: {}", right.unwrap_err());
            let Err(mismatch) = compare(Platform::Virt, &items, &|tree| predict(tree, &broken), &mut ask)
            else {
                continue;
            };
            found += 1;
            assert!(mismatch.items.len() <= 4, "{mismatch}");
        }
        assert!(found > 10, "{found}");
    }
}
