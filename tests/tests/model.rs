//! The allocator's model against the kernel: many operations on a window of a booted guest, after each of which both say the
//! same. Its main function is as in linux.rs.
//!
//! Seeds are 1, 2 and 3; MODEL_SEEDS has others, with commas between.

use std::process::ExitCode;

use cma::Window;
use guest_images::Kind;
use tests::{
    differential::{Place, Random, aligned_operations, debugfs_operations},
    harness,
};
use vmm::arch;

/// Operations of one list: through debugfs, at no alignment, and through the dma-buf heap and the camera, at theirs.
const DEBUGFS: usize = 20_000;
const ALIGNED: usize = 5_000;
/// Size of the window in bytes: small, so that lists fill it often.
const SIZE: u64 = 16 << 20;

fn main() -> ExitCode {
    let tests: &[harness::Test] = &[
        ("debugfs_answers_as_the_model_does", debugfs_answers_as_the_model_does),
        (
            "the_heap_and_the_camera_answer_as_the_model_does",
            the_heap_and_the_camera_answer_as_the_model_does,
        ),
    ];
    harness::run_with_linux(&[Kind::Default], tests)
}

fn seeds() -> Vec<u64> {
    let seeds = std::env::var("MODEL_SEEDS").unwrap_or_else(|_| "1,2,3".to_owned());
    seeds
        .split(',')
        .map(|seed| seed.trim().parse().expect("MODEL_SEEDS has whole numbers with commas between"))
        .collect()
}

fn window(name: &str, default: bool) -> Window {
    Window {
        name: name.to_owned(),
        base: arch::ram(1 << 30)[0].start + 0x2000_0000,
        size: SIZE,
        default,
        ..Default::default()
    }
}

fn debugfs_answers_as_the_model_does() {
    let window = window("isp", false);
    // arm64 takes memory from the default window, so that is another (kernel/dma/pool.c).
    let arguments = format!("--camera none --cma 16M,default --cma 16M,name=isp,base={:#x}", window.base);
    let place = Place { window: &window, arguments: &arguments, heap: false };
    for seed in seeds() {
        let operations = debugfs_operations(&mut Random::new(seed), DEBUGFS, SIZE / cma::PAGE_SIZE);
        place.compare(&operations).unwrap_or_else(|difference| panic!("seed {seed}: {difference}"));
        println!("seed {seed}: {} operations of debugfs without a difference", operations.len());
    }
}

fn the_heap_and_the_camera_answer_as_the_model_does() {
    let window = window("cma0", true);
    let arguments = format!("--cma 16M,base={:#x}", window.base);
    let place = Place { window: &window, arguments: &arguments, heap: true };
    for seed in seeds() {
        let operations = aligned_operations(&mut Random::new(seed), ALIGNED, SIZE / cma::PAGE_SIZE);
        place.compare(&operations).unwrap_or_else(|difference| panic!("seed {seed}: {difference}"));
        println!(
            "seed {seed}: {} operations of the heap and the camera without a difference",
            operations.len()
        );
    }
}
