//! Compares the rules of `minivmm check` with kernels: random device trees, what the check predicts for each, what a booted kernel does
//! with it, and the smallest tree that shows a difference.
//!
//! The kernels are Debian's unmodified arm64 kernels and our x86_64 kernel. Plain QEMU boots them with a small tree of its machine, in
//! which the nodes under test are merged. The guest's only program loads a module, which asks for each region as drivers do.

pub mod answer;
pub mod contest;
pub mod machine;
#[cfg(test)]
mod obedient;
pub mod platform;
pub mod random;
pub mod shrink;
pub mod surroundings;
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
        check::{Arch, Rules},
    };

    use super::{obedient::obedient, *};

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

    /// What the check says where one of its rules decides, for any kernel.
    const RULES: [&str; 65] = [
        "status is neither",
        "its reg has 0 bytes",
        "(\"invalid reg property\")",
        "Linux ignores reg, and uses size",
        "it has neither reg nor size",
        "Linux reads what follows it in the tree",
        "(-EBUSY, \"failed to reserve memory\")",
        "a tuple of its reg after the first has size zero",
        "its reg is zero",
        "its reg has size zero",
        "Linux reserves only the first of",
        "devices see only the first of",
        "and there is room for 64 (\"not enough space",
        "\"too many defined dynamic regions\"",
        "instead (-EBUSY); Linux reserves nothing",
        "bypass ... node",
        "exclude each other",
        "Linux keeps its memory reserved",
        "Linux frees its memory",
        "its base 0x",
        "its size 0x",
        "no slot for another (-ENOSPC",
        "is not reserved any more",
        "Linux frees what is reserved for /memreserve/",
        "invalid size property",
        "invalid alignment property",
        "invalid alloc-ranges property",
        "its alloc-ranges has",
        "is not a power of two: Linux uses it as a mask",
        "there is no room for",
        "panics at boot when it activates it",
        "crashes when it first uses a page without memory",
        "more than one NUMA node",
        "lies on both sides of",
        "in it is free, because",
        "because of no-map in the same pages: it panics",
        "because of no-map in the same pages: it crashes",
        "no device can use it: its size is zero",
        "it is mapped as RAM",
        "in the middle of a page of which",
        "its bitmap has a bit for each page",
        "in the middle of a page: devices get memory from",
        "unless other memory is there",
        "(\"must be aligned\")",
        "(\"exceeds limit\")",
        "is already reserved for",
        "CMA areas and no slot for another (\"Failed",
        "(-ENOMEM) (\"Failed",
        "is not at the root: Linux does not take it for RAM",
        "no device_type = \"memory\"",
        "status that is not \"okay\": Linux does not take it for RAM",
        "which are no whole tuples of",
        "Linux uses no NUMA nodes, because",
        "is a second /reserved-memory",
        "no node has the phandle",
        "is not \"okay\": the call succeeds",
        "Linux keeps no record of it, because",
        "it is not a pool, because",
        "it is not a pool (-EINVAL)",
        "it cannot be used (-EINVAL)",
        "is not a child of /reserved-memory (-EINVAL)",
        "references lead to that node",
        "is the default window, because Linux sets it up last",
        "it must be the same as the root's",
        "limits RAM, so that not all of",
    ];

    /// The random trees show each rule of the check.
    #[test]
    fn random_trees_reach_every_rule() {
        let mut left = RULES.to_vec();
        for rules in [Rules::V6_1, Rules::V6_12, Rules::V7_2] {
            let kernel = Kernel::debian(rules, Arch::Arm64, PAGE_SIZE).unwrap();
            for seed in 0..400 {
                let tree = Tree::new(Platform::Virt, &random::items(seed));
                let report = predict(&tree, &kernel, &Boot::default());
                let mut texts: Vec<&str> = report.findings().map(|finding| finding.text.as_str()).collect();
                texts.extend(report.regions.iter().map(|region| region.rule.as_str()));
                left.retain(|rule| !texts.iter().any(|text| text.contains(rule)));
            }
        }
        assert!(left.is_empty(), "{left:#?}");
    }
}
