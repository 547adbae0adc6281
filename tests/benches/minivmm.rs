//! The project's benchmarks, run by `cargo bench`: camera DMA beside a memcpy, boot time, memory beyond the guest's,
//! allocations of the CMA model.
//!
//! Prints tables and writes target/bench/report.json. `cargo bench -- camera`, `-- boot` and `-- model` run a part.

use std::{env, error::Error, fs, path::Path};

use serde::Serialize;

#[path = "minivmm/boot.rs"]
mod boot;
#[path = "minivmm/camera.rs"]
mod camera;
#[path = "minivmm/model.rs"]
mod model;

/// What target/bench/report.json has; a part that was not run is null. Times are in seconds, sizes in bytes.
#[derive(Serialize)]
struct BenchReport {
    camera: Option<Vec<camera::Figures>>,
    boot: Option<boot::Figures>,
    model: Option<Vec<model::Figures>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // `cargo test --all-targets` starts benchmarks as well, without this.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("benchmarks are run by cargo bench");
        return Ok(());
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
        boot: wanted("boot").then(|| boot::run(release, &folder)).transpose()?,
        model: wanted("model").then(model::run).transpose()?,
    };
    let path = folder.join("report.json");
    fs::write(&path, serde_json::to_string_pretty(&report)? + "\n")?;
    println!("\nAll figures are in {}.", path.display());
    Ok(())
}

/// The middle one of an odd number of figures, by size.
fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Whether a goal was met, for a table.
fn verdict(met: bool) -> &'static str {
    if met { "goal met" } else { "GOAL MISSED" }
}
