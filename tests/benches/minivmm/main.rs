//! The benchmarks, run by `cargo bench`.
//!
//! They measure camera DMA compared with memcpy, the rate of a sensor, the ISP, the camera rkisp1 and its rate, the cost of fault points,
//! boot time and memory overhead, also beside QEMU's microvm, files on their way out, allocations of the CMA model, and checks of device trees.
//!
//! Prints tables, and writes target/bench/report.json. `cargo bench -- camera`, `-- rate`, `-- isp`, `-- rkisp1`, `-- faults`, `-- boot`,
//! `-- microvm`, `-- files`, `-- model` and `-- check` run a part.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env,
    error::Error,
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::Serialize;

mod boot;
mod camera;
mod check;
mod faults;
mod files;
mod isp;
mod microvm;
mod model;
mod rate;
mod rkisp1;
mod rkisp1_rate;

/// The system's heap with a counter of allocations, for code that must not allocate.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static HEAP: Counting = Counting;

// SAFETY: all methods forward to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The number of heap allocations of the program.
fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// The content of target/bench/report.json. A part that was not run is null. Times are in seconds, sizes in bytes.
#[derive(Serialize)]
struct BenchReport {
    camera: Option<Vec<camera::Figures>>,
    rate: Option<Vec<rate::Figures>>,
    isp: Option<Vec<isp::Figures>>,
    rkisp1: Option<Vec<rkisp1::Figures>>,
    rkisp1_rate: Option<rkisp1_rate::Figures>,
    faults: Option<Vec<faults::Figures>>,
    boot: Option<boot::Figures>,
    microvm: Option<microvm::Figures>,
    files: Option<files::Figures>,
    model: Option<Vec<model::Figures>>,
    check: Option<Vec<check::Figures>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test --all-targets` also starts benchmarks, without this argument.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("benchmarks are run by cargo bench");
        return Ok(());
    }
    if let Some(place) = arguments.iter().position(|argument| argument == faults::ROUND) {
        return faults::round(arguments.get(place + 1).map_or("", String::as_str));
    }
    let wanted = |part: &str| {
        let mut parts = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
        parts.peek().is_none() || parts.any(|argument| argument == part)
    };
    // This program is target/release/deps/minivmm-HASH.
    let program = env::current_exe()?;
    let release = program.ancestors().nth(2).unwrap_or(Path::new("."));
    let folder = release.with_file_name("bench");
    fs::create_dir_all(&folder)?;

    let report = BenchReport {
        camera: wanted("camera").then(camera::run).transpose()?,
        rate: wanted("rate").then(rate::run).transpose()?,
        isp: wanted("isp").then(isp::run).transpose()?,
        rkisp1: wanted("rkisp1").then(rkisp1::run).transpose()?,
        rkisp1_rate: wanted("rkisp1").then(rkisp1_rate::run).transpose()?,
        faults: wanted("faults").then(faults::run).transpose()?,
        boot: wanted("boot").then(|| boot::run(release, &folder)).transpose()?,
        microvm: wanted("microvm").then(|| microvm::run(release)).transpose()?,
        files: wanted("files").then(|| files::run(&folder)).transpose()?,
        model: wanted("model").then(model::run).transpose()?,
        check: wanted("check").then(check::run).transpose()?,
    };
    let path = folder.join("report.json");
    fs::write(&path, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("\nAll figures are in {}.", path.display());
    Ok(())
}

/// The median of an odd number of figures.
fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Whether a goal was met, for a table.
fn verdict(met: bool) -> &'static str {
    if met { "goal met" } else { "GOAL MISSED" }
}
