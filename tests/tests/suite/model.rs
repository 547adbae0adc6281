//! Compares the allocator model with the kernel: after each of many operations on a window of a booted guest, both have the same
//! state.
//!
//! The kernel is 6.1, or the release in TEST_KERNEL. The model has the rules of that release. The seeds are 1, 2 and 3, or only
//! 1 if the tests are not thorough. MODEL_SEEDS sets others, separated by commas.

use cma::{Window, area::Area};
use guest_images::{Kind, Release};
use tests::{
    differential::{Operation, Place, Random, aligned_operations, debugfs_operations},
    harness::{self, Extent, Group, Test},
    kernels, tests,
};
use vmm::arch;

/// Number of operations of a list: through debugfs, without alignment, and through the dma-buf heap and the camera, with alignment.
const DEBUGFS: usize = 20_000;
const ALIGNED: usize = 5_000;
/// Number of operations through debugfs on an area of several ranges.
const RANGES: usize = 5_000;
/// Size of the window in bytes: small, so that lists fill it often.
const SIZE: u64 = 16 << 20;
const GIB: u64 = 1 << 30;

/// The tests.
pub(crate) fn group() -> Group {
    let mut tests =
        tests![debugfs_answers_as_the_model_does, the_heap_and_the_camera_answer_as_the_model_does];
    if kernels::release() == Release::V7_2 {
        tests.extend(tests![several_ranges_answer_as_the_model_does]);
    }
    // The allocator has no code of an architecture.
    let tests = tests.into_iter().map(Test::the_same_everywhere).collect();
    Group { name: "model", place: harness::Place::Linux(vec![Kind::Default(kernels::release())]), tests }
}

fn seeds() -> Vec<u64> {
    let default = if Extent::asked() == Extent::Thorough { "1,2,3" } else { "1" };
    let seeds = std::env::var("MODEL_SEEDS").unwrap_or_else(|_| default.to_owned());
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

/// Compares lists of `what` on the window that `arguments` make, which is `area` in the model.
fn compare(
    area: &Area,
    arguments: &str,
    heap: bool,
    what: &str,
    operations: impl Fn(&mut Random) -> Vec<Operation>,
) {
    let release = kernels::release();
    let place = Place { area, kind: Kind::Default(release), arguments, heap };
    for seed in seeds() {
        let operations = operations(&mut Random::new(seed));
        place.compare(&operations).unwrap_or_else(|difference| panic!("seed {seed}: {difference}"));
        println!(
            "Linux {} and the rules of {}, seed {seed}: {} operations of {what} without a difference",
            release.name(),
            area.rules(),
            operations.len()
        );
    }
}

fn area(window: &Window) -> Area {
    Area::of_window(window, 0, kernels::rules(kernels::release())).expect("the window is an area")
}

fn debugfs_answers_as_the_model_does() {
    let window = window("isp", false);
    // This is not the default window, because arm64 allocates from that (kernel/dma/pool.c).
    let arguments = format!("--camera none --cma 16M,default --cma 16M,name=isp,base={:#x}", window.base);
    let list = |random: &mut Random| debugfs_operations(random, DEBUGFS, SIZE / cma::PAGE_SIZE);
    compare(&area(&window), &arguments, false, "debugfs", list);
}

fn the_heap_and_the_camera_answer_as_the_model_does() {
    let window = window("cma0", true);
    let arguments = format!("--cma 16M,base={:#x}", window.base);
    let list = |random: &mut Random| aligned_operations(random, ALIGNED, SIZE / cma::PAGE_SIZE);
    compare(&area(&window), &arguments, true, "the heap and the camera", list);
}

/// hugetlb_cma= creates the only area of several ranges in a kernel (mm/cma.c, cma_declare_contiguous_multi): if no
/// range of memory is large enough, it uses several ranges above 4 GiB. Unused windows divide the memory here, so that
/// whole gibibytes are free from 4 to 5 and from 6 to 8.
fn several_ranges_answer_as_the_model_does() {
    let low = arch::ram(16 * GIB)[0].clone();
    // Memory may have a hole below 4 GiB. The kernel's first allocations are at the end of memory.
    let end = 8 * GIB + GIB / 2;
    let (memory, mut holes) = if low.end <= 4 * GIB {
        (low.end - low.start + end - 4 * GIB, vec![])
    } else {
        (end - low.start, vec![4 * GIB - (4 << 20)])
    };
    holes.push(5 * GIB);
    let cut = |hole: &u64| format!(" --cma 4M,name=hole{},base={hole:#x}", hole / GIB);
    let holes: String = holes.iter().map(cut).collect();
    let arguments =
        format!("--camera none --memory {}M --cma 16M,default{holes} --cmdline hugetlb_cma=3G", memory >> 20);
    let pages = |bytes: u64| bytes / cma::PAGE_SIZE;
    let ranges = [(pages(4 * GIB), pages(GIB)), (pages(6 * GIB), pages(2 * GIB))];
    // A bit is a huge page of 2 MiB (mm/hugetlb_cma.c, hugetlb_cma_reserve).
    let area = Area::of_ranges("hugetlb0", &ranges, 9, kernels::rules(kernels::release()))
        .expect("the ranges are an area");
    let whole = [
        Operation::Alloc(pages(GIB) + 1),
        Operation::Alloc(pages(GIB)),
        Operation::Alloc(pages(GIB)),
        Operation::Alloc(pages(2 * GIB) + 1),
        Operation::Reset,
    ];
    let list = |random: &mut Random| {
        let mixed = debugfs_operations(random, RANGES, pages(GIB) / 4);
        whole.into_iter().chain(mixed).collect()
    };
    compare(&area, &arguments, false, "debugfs on two ranges", list);
}
