//! The command `cargo demo`: boots `minivmm --cma 256M`, streams the camera, checks every frame, and saves pictures.

use std::process::ExitCode;

use ::tests::{cross, demo, kernels};
use clap::Parser;
use guest_images::{Arch, Release};

/// Boots a Linux guest with `minivmm --cma 256M`, streams 60 frames of its camera, and checks each frame.
///
/// Writes to target/demo: index.html with the pictures frame.png and cma-map.svg, scene.png, console.log, report.json, and in guest/
/// the files of the guest. Missing packages are installed, and missing images are built. If /dev/kvm cannot run Linux, or
/// the architecture is not this machine's, it uses an emulated machine.
#[derive(Parser)]
#[command(name = "demo", version)]
struct Arguments {
    /// The guest's architecture
    #[arg(long, value_parser = cross::architecture, default_value = Arch::host().name)]
    arch: &'static Arch,
    /// The release of its kernel: 6.1, 6.12 or 7.2
    #[arg(long, value_name = "RELEASE", value_parser = kernels::parse, default_value = Release::ALL[0].name())]
    release: Release,
}

fn main() -> ExitCode {
    let Arguments { arch, release } = Arguments::parse();
    match demo::run(arch, release) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}
