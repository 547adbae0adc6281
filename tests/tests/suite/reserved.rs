//! Compares the rules of `minivmm check` with Debian's arm64 kernels and our x86_64 kernel: plain QEMU boots random trees.
//!
//! A seed stands for [`TREES`] trees of each kernel, or for [`THOROUGH_TREES`] if the tests are thorough. The seeds are 1, 2 and 3.
//! CHECK_SEEDS sets others, separated by commas. The command `check-trees` boots as many trees as it is told.

use cma::check::Kernel;
use guest_images::Release;
use tests::{
    harness::{Extent, Group, Place, Test},
    reserved::{self, machine::Machine, random},
    tests,
};

/// Trees of a seed. Each kernel has others.
const TREES: u64 = 1;
/// Trees of a seed in thorough tests.
const THOROUGH_TREES: u64 = 40;
/// The seeds.
const SEEDS: &str = "1,2,3";

/// The tests.
pub(crate) fn group() -> Group {
    let debian = Release::ALL.into_iter().zip(0..).map(|(release, number)| {
        let name = format!("linux_{}_does_what_the_check_says", release.name().replace('.', "_"));
        Test::new(name, move || compare(&machine(Machine::debian(release)), number))
    });
    let ours = Test::new("our_x86_64_kernel_does_what_the_check_says", || {
        compare(&machine(Machine::ours(Release::V6_1)), 3);
    });
    let mut all: Vec<Test> = debian.chain([ours]).map(Test::the_same_everywhere).collect();
    all.extend(tests![a_broken_rule_is_found].into_iter().map(Test::only_if_thorough));
    Group { name: "reserved", place: Place::OutsideOfLabs, tests: all }
}

fn seeds() -> Vec<u64> {
    let seeds = std::env::var("CHECK_SEEDS").unwrap_or_else(|_| SEEDS.to_owned());
    let seed = |seed: &str| seed.trim().parse().expect("CHECK_SEEDS has whole numbers with commas between");
    seeds.split(',').map(seed).collect()
}

fn machine(made: Result<Machine, Box<dyn std::error::Error>>) -> Machine {
    made.unwrap_or_else(|error| panic!("{error}"))
}

/// `number` is that of the kernel.
fn compare(machine: &Machine, number: u64) {
    let trees = if Extent::asked() == Extent::Thorough { THOROUGH_TREES } else { TREES };
    for seed in seeds() {
        let first = seed * 1000 + number * trees;
        for tree in first..first + trees {
            let result = reserved::compare_booted(&random::items(tree), machine);
            result
                .unwrap_or_else(|mismatch| panic!("{}, check-trees --seed {tree}: {mismatch}", machine.name));
        }
        println!("{}, seed {seed}: {trees} trees without a difference", machine.name);
    }
}

/// If a rule is broken, here the pageblock, a booted kernel shows it, and a tree of few nodes remains.
fn a_broken_rule_is_found() {
    let machine = machine(Machine::debian(Release::V6_12));
    let broken: Kernel = machine.rules.clone().with_pageblock(8 << 20).expect("it is a power of two");
    let predict = |tree: &reserved::tree::Tree| reserved::predict(tree, &broken, &machine.boot);
    let found = (1000..1012).find_map(|seed| {
        reserved::compare(machine.platform, &random::items(seed), &predict, &mut |tree| machine.boot(tree))
            .err()
    });
    let mismatch = found.expect("a tree of these has a region that is not aligned to 8 MiB");
    println!("{mismatch}");
    assert!(mismatch.items.len() <= 4, "{mismatch}");
}
