//! Many stores and loads for each seed, anywhere among the registers of devices, with frames anywhere.

#[path = "pokes/lcdif.rs"]
mod lcdif;
mod pokes;
#[path = "pokes/rkisp1.rs"]
mod rkisp1;
#[path = "pokes/vepu.rs"]
mod vepu;

use std::ops::Range;

use pokes::{MEMORY, Poked};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// A debug build has few, as it is what everyone runs: `cargo test --release -p devices --test register_pokes` has them all.
const SEEDS: u64 = if cfg!(debug_assertions) { 10 } else { 100 };
const POKES: u64 = 10_000;
/// After so many, what was posted does not yet cover the window.
const ROUND: u64 = 200;

/// Those of rkisp1, lcdif and vepu, which wait for no time of the host.
const STEPPED_SEEDS: u64 = 100;
const STEPPED_POKES: u64 = 1000;

/// The next number of Vigna's SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn memory(range: &Range<u64>) -> GuestMemoryMmap {
    let size = usize::try_from(range.end - range.start).unwrap();
    GuestMemoryMmap::from_ranges(&[(GuestAddress(range.start), size)]).unwrap()
}

#[test]
fn random_pokes_write_nowhere_but_to_posted_planes_and_a_reset_mends_all() {
    let (mut frames, mut metadata, memory) = (0, 0, memory(&MEMORY));
    for seed in 0..SEEDS {
        let timing = ["timing=stall", "timing=free,fps=1000", "timing=stall,noise=no"][(seed % 3) as usize];
        let mut poked = Poked::new(&format!("{timing},scene=noise,seed={seed}"), &memory, false);
        let mut state = seed;
        for count in 1..=POKES {
            poked.poke(next(&mut state));
            if count % ROUND == 0 {
                poked.check(true);
            }
        }
        frames += poked.frames;
        metadata += poked.metadata;
    }
    println!("{SEEDS} seeds, {frames} frames, {metadata} buffers of metadata");
    // Hundreds of frames and a few buffers for each seed on a fast machine; an emulated one makes fewer meanwhile.
    assert!(frames > SEEDS * 10, "{frames} frames in {SEEDS} seeds: hardly anything was written");
    assert!(metadata > 0, "no buffer of metadata in {SEEDS} seeds");
}

#[test]
fn random_pokes_of_rkisp1_write_nowhere_but_to_its_window_and_a_reset_mends_all() {
    let (mut frames, memory) = (0, memory(&rkisp1::MEMORY));
    for seed in 0..STEPPED_SEEDS {
        let options =
            ["scene=gradient", "scene=flat,noise=no", "sensor=imx290,scene=gradient"][(seed % 3) as usize];
        let mut poked = rkisp1::Poked::new(options, &memory);
        let mut state = seed;
        for count in 1..=STEPPED_POKES {
            poked.poke(next(&mut state));
            if count % ROUND == 0 {
                poked.check();
            }
        }
        // One of each check.
        frames += poked.counter("frames") - STEPPED_POKES / ROUND;
    }
    println!("{STEPPED_SEEDS} seeds, {frames} frames");
    assert!(frames > STEPPED_SEEDS, "{frames} frames in {STEPPED_SEEDS} seeds: hardly anything was written");
}

#[test]
fn random_pokes_of_lcdif_write_nowhere_and_a_reset_mends_all() {
    let (mut frames, mut refused, memory) = (0, 0, memory(&lcdif::MEMORY));
    for seed in 0..STEPPED_SEEDS {
        let mut poked = lcdif::Poked::new(&memory);
        let mut state = seed;
        for count in 1..=STEPPED_POKES {
            poked.poke(next(&mut state));
            if count % ROUND == 0 {
                poked.check();
            }
        }
        // One of each check.
        frames += poked.counter("frames") - STEPPED_POKES / ROUND;
        refused += poked.counter("bus_errors");
    }
    println!("{STEPPED_SEEDS} seeds, {frames} frames, {refused} refused");
    let read = frames - refused;
    assert!(read.min(refused) > STEPPED_SEEDS, "{read} frames, {refused} refused: hardly anything was read");
}

#[test]
fn random_pokes_of_vepu_write_nowhere_but_to_its_window_and_a_reset_mends_all() {
    let (mut pictures, mut failed, memory) = (0, 0, memory(&vepu::MEMORY));
    for seed in 0..STEPPED_SEEDS {
        let mut poked = vepu::Poked::new(&memory);
        let mut state = seed;
        for count in 1..=STEPPED_POKES {
            poked.poke(next(&mut state));
            if count % ROUND == 0 {
                poked.check();
            }
        }
        // One of each check.
        pictures += poked.counter("pictures") - STEPPED_POKES / ROUND;
        failed += poked.counter("bus_errors") + poked.counter("overflows");
    }
    println!("{STEPPED_SEEDS} seeds, {pictures} pictures, {failed} failed");
    assert!(
        pictures.min(failed) > STEPPED_SEEDS,
        "{pictures} pictures, {failed} failed: hardly anything was encoded"
    );
}
