//! `minivmm --cma 256M`: time from the start of the process to the guest's boot mark, and resident memory beyond the
//! guest's at that moment. If this machine's KVM cannot run Linux, all boots run in one lab.

use std::{
    error::Error,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde::Serialize;
use tests::lab::Lab;
use vmm::{
    machine::kvm::{check_fit, open_kvm},
    observe::report::Report,
};

use crate::{median, verdict};

/// Odd, for medians.
const BOOTS: usize = 5;
/// Goal for the memory overhead: less than 5 MiB.
const OVERHEAD_GOAL: f64 = 5.0 * MIB;
const MIB: f64 = 1024.0 * 1024.0;

/// The results: medians of the boots.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// "lab", or "host" if the host's KVM is fit.
    place: &'static str,
    /// From the start of the process to the boot mark.
    seconds_to_boot_mark: f64,
    /// Resident memory beyond the guest's at the boot mark.
    overhead_at_boot_mark: f64,
    /// Both values of each boot.
    boots: Vec<(f64, f64)>,
    /// Whether `overhead_at_boot_mark` meets the goal.
    goal_met: bool,
}

/// Measures the minivmm of this workspace, which is built into the folder `release`. Its reports go to `folder`.
pub(crate) fn run(release: &Path, folder: &Path) -> Result<Figures, Box<dyn Error>> {
    build_minivmm(release)?;
    let place = boot(release, folder)?;
    let boots = (1..=BOOTS).map(|boot| read(&folder.join(format!("boot-{boot}.json"))));
    let boots = boots.collect::<Result<Vec<_>, _>>()?;
    let overhead = median(boots.iter().map(|(_, overhead)| *overhead));
    let figures = Figures {
        place,
        seconds_to_boot_mark: median(boots.iter().map(|(seconds, _)| *seconds)),
        overhead_at_boot_mark: overhead,
        boots,
        goal_met: overhead < OVERHEAD_GOAL,
    };
    println!("\nminivmm --cma 256M, on the {place}, medians of {BOOTS} boots");
    println!("  start of the process to the boot mark   {:>6.2} s", figures.seconds_to_boot_mark);
    println!(
        "  resident memory beyond the guest's      {:>6.2} MiB  {}",
        overhead / MIB,
        verdict(figures.goal_met)
    );
    Ok(figures)
}

/// Cargo builds a benchmark without the programs of other packages.
pub(crate) fn build_minivmm(release: &Path) -> Result<(), Box<dyn Error>> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--package", "vmm", "--bin", "minivmm"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")])
        .arg("--target-dir")
        .arg(release.parent().unwrap_or(release))
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("cargo build of minivmm ended with {status}").into()) }
}

/// Boots minivmm several times. Returns where it ran.
fn boot(release: &Path, folder: &Path) -> Result<&'static str, Box<dyn Error>> {
    let script = r#"for boot in $(seq "$1"); do "$2/minivmm" --cma 256M --exec true --report "$3/boot-$boot.json" || exit; done"#;
    let count = BOOTS.to_string();
    let command = [
        "sh".as_ref(),
        "-c".as_ref(),
        script.as_ref(),
        "sh".as_ref(),
        count.as_ref(),
        release.as_os_str(),
        folder.as_os_str(),
    ];
    let (place, well, stderr) = if open_kvm().and_then(|kvm| check_fit(&kvm)).is_ok() {
        let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output()?;
        ("host", output.status.success(), output.stderr)
    } else {
        let lab = Lab::new().writable(folder).note(|note| eprintln!("{note}"));
        let output = lab.output(command, b"")?;
        ("lab", output.status == 0, output.stderr)
    };
    if well { Ok(place) } else { Err(String::from_utf8_lossy(&stderr).trim().into()) }
}

/// Seconds to the boot mark and bytes of overhead, of one report.
fn read(path: &Path) -> Result<(f64, f64), Box<dyn Error>> {
    let report: Report = serde_json::from_slice(&fs::read(path)?)?;
    let missing = || format!("{} has no boot mark", path.display());
    let seconds = report.seconds_to_boot_mark.ok_or_else(missing)?;
    let overhead = report.overhead_at_boot_mark.ok_or_else(missing)?;
    Ok((seconds, overhead as f64))
}
