//! The command `cargo demo`: boots `minivmm --cma 256M`, streams the camera, checks every frame, and saves pictures. With `--libcamera`,
//! libcamera develops a photograph.

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
    /// Has libcamera develop a photograph: exposure and white balance in coloured light, on the camera of an RK3399
    ///
    /// Writes to target/demo-libcamera: picture.png with the scene, an early frame and the last one side by side, console.log, and
    /// cam.log. The guest is of aarch64, with Linux 6.12 and Debian 13. On a machine of another architecture it takes about three
    /// minutes, and the first time, when both and a minivmm for aarch64 are built, a quarter of an hour or more.
    #[arg(long, conflicts_with_all = ["arch", "release"])]
    libcamera: bool,
}

fn main() -> ExitCode {
    let Arguments { arch, release, libcamera } = Arguments::parse();
    let result = if libcamera {
        demo::libcamera::run().map(|developed| developed.to_string())
    } else {
        demo::run(arch, release).map(|summary| summary.to_string())
    };
    match result {
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
