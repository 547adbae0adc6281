//! minivmm beside QEMU's microvm, with the same kernel and initramfs and the same virtio devices: the time to the guest's first line,
//! and resident memory beyond the guest's. All starts are in one lab, by turns.

use std::{
    error::Error,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use guest_images::{Arch, Kind};
use serde::Serialize;
use tests::lab::Lab;

use crate::{boot::build_minivmm, median, verdict};

/// Starts of each program. Odd, for medians.
const STARTS: usize = 7;
/// Goal for memory beyond the guest's: less than 8 MiB.
const OVERHEAD_GOAL: f64 = 8.0 * MIB;
const MIB: f64 = 1024.0 * 1024.0;

/// The results.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    minivmm: Program,
    qemu: Program,
    /// Whether minivmm is faster, and its memory meets the goal.
    goal_met: bool,
}

/// One program's results: medians of its starts.
#[derive(Debug, Serialize)]
struct Program {
    /// From the start of the process to the guest's first line.
    seconds: f64,
    /// Bytes of resident memory beyond the guest's.
    overhead: f64,
    /// Both values of each start.
    starts: Vec<(f64, f64)>,
}

/// Measures the minivmm of this workspace, which is built into the folder `release`.
pub(crate) fn run(release: &Path) -> Result<Figures, Box<dyn Error>> {
    build_minivmm(release)?;
    let arch = &Arch::X86_64;
    let image = guest_images::build(arch, Kind::DEFAULT)?;
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/minivmm/microvm.sh");
    let (minivmm, starts) = (release.join("minivmm"), STARTS.to_string());
    let command: [&OsStr; 6] = [
        "sh".as_ref(),
        script.as_ref(),
        minivmm.as_ref(),
        image.kernel.as_ref(),
        image.initramfs.as_ref(),
        starts.as_ref(),
    ];
    let lab = Lab::new().arch(arch).network(Vec::new()).note(|note| eprintln!("{note}"));
    let output = lab.output(command.map(OsStr::to_owned), b"")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if output.status != 0 {
        return Err(format!("{}{}", printed, String::from_utf8_lossy(&output.stderr)).trim().into());
    }
    let figures = Figures::of(program(&printed, "minivmm")?, program(&printed, "qemu")?);
    let Figures { minivmm, qemu, .. } = &figures;
    println!(
        "\nmicrovm of QEMU and minivmm, with share, disk, console, rng and net, medians of {STARTS} starts in the lab"
    );
    println!("                                          minivmm    microvm");
    println!(
        "  start of the process to the first line  {:>5.2} s    {:>5.2} s",
        minivmm.seconds, qemu.seconds
    );
    println!(
        "  resident memory beyond the guest's      {:>5.1} MiB  {:>5.1} MiB  {}",
        minivmm.overhead / MIB,
        qemu.overhead / MIB,
        verdict(figures.goal_met)
    );
    Ok(figures)
}

impl Figures {
    fn of(minivmm: Program, qemu: Program) -> Self {
        let goal_met = minivmm.seconds < qemu.seconds && minivmm.overhead < OVERHEAD_GOAL;
        Self { minivmm, qemu, goal_met }
    }
}

/// The results of the program called `name` in the lines that the script printed.
fn program(printed: &str, name: &str) -> Result<Program, Box<dyn Error>> {
    let lines = printed.lines().filter_map(|line| line.strip_prefix(name)?.trim().split_once(' '));
    let starts = lines.map(|(seconds, bytes)| Ok((seconds.parse()?, bytes.parse()?)));
    let starts = starts.collect::<Result<Vec<(f64, f64)>, Box<dyn Error>>>()?;
    let (seconds, overhead) =
        (median(starts.iter().map(|start| start.0)), median(starts.iter().map(|start| start.1)));
    Ok(Program { seconds, overhead, starts })
}
