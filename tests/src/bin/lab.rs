//! The command `lab`: runs a command of the host's in the lab.

use std::{ffi::OsString, io, io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use ::tests::{
    cross,
    lab::{Lab, LabError, Note},
    programs,
};
use clap::Parser;
use guest_images::Arch;

/// Runs commands of this machine on an emulated machine with a full KVM.
#[derive(Parser)]
#[command(name = "lab", version)]
enum Cli {
    /// Boots the lab and runs one command in it.
    ///
    /// The lab's root is this machine's: the command finds every program and file, the same working directory and
    /// environment. What it writes is gone afterwards, except in the --writable folders and where the options of a minivmm lead,
    /// as --out and --report do; files that change on this machine meanwhile may look torn there. It has
    /// root's rights in the lab, and no network. With terminals as standard input and output it has a terminal, too;
    /// Ctrl-] three times ends the lab.
    #[command(
        after_help = "Exit status: the command's own (128 and the signal's number if a signal ended it); \
                            124 if the time limit was reached; 125 if the lab itself failed."
    )]
    Run(Run),
}

#[derive(clap::Args)]
struct Run {
    /// Architecture of the lab. In a lab of another architecture, the programs are busybox's and a few of Debian's, and
    /// `minivmm` is built for it
    #[arg(long, value_name = "ARCH", value_parser = cross::architecture, default_value = Arch::host().name)]
    arch: &'static Arch,
    /// Properties of QEMU's machine to change, for example gic-version=2 or virtualization=off
    #[arg(long, value_name = "NAME=VALUE,...")]
    machine: Option<String>,
    /// Ends the lab after this many seconds; 0: never [default: 600, or 0 with a terminal]
    #[arg(long, value_name = "SECS")]
    timeout: Option<u64>,
    /// Memory of the lab, with the suffix M or G
    #[arg(long, value_name = "SIZE", default_value = "3G", value_parser = mebibytes)]
    memory: u32,
    /// CPUs of the lab, which take turns on one of this machine's
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Lets the command write to this folder; can be repeated
    #[arg(long, value_name = "DIR")]
    writable: Vec<PathBuf>,
    /// Writes the messages of the lab's kernel to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Says how long the lab took to boot
    #[arg(short, long)]
    verbose: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let Cli::Run(run) = Cli::parse();
    match lab(&run) {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("lab: {error}");
            error.exit_status().into()
        }
    }
}

fn lab(run: &Run) -> Result<u8, LabError> {
    let io_error = |what: &str, source| LabError::Io { what: what.into(), source };
    let mut programs = programs::folder().map_err(|error| io_error("cannot find this program", error))?;
    // Under `cargo lab -- minivmm` the user means the minivmm of this workspace, which cargo did not build for us.
    if run.command.first().is_some_and(|word| word == "minivmm") {
        let built = cross::minivmm(run.arch).map_err(|error| io_error("cannot build minivmm", error))?;
        programs = built.parent().map(Into::into).unwrap_or(programs);
    }
    let seconds = run
        .timeout
        .unwrap_or_else(|| if io::stdin().is_terminal() && io::stdout().is_terminal() { 0 } else { 600 });
    let mut lab = Lab::new()
        .arch(run.arch)
        .network(Vec::new())
        .memory(run.memory)
        .cpus(run.cpus)
        .timeout((seconds > 0).then(|| Duration::from_secs(seconds)))
        .programs(programs)
        .pass_signals()
        .note(if run.verbose { say_all } else { say });
    for folder in &run.writable {
        lab = lab.writable(folder);
    }
    if let Some((_, words)) = run.command.split_first().filter(|(program, _)| *program == "minivmm") {
        lab = lab.for_minivmm(words)?;
    }
    if let Some(properties) = &run.machine {
        lab = lab.machine(properties);
    }
    if let Some(file) = &run.log {
        lab = lab.log(file);
    }
    lab.run(&run.command)
}

fn say(note: &Note) {
    if !matches!(note, Note::Up(_)) {
        eprintln!("{note}");
    }
}

fn say_all(note: &Note) {
    eprintln!("{note}");
}

/// Parses a size such as 512M or 3G into MiB.
fn mebibytes(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text} is not a size; write for example 512M or 3G, at least 256M");
    let (digits, factor) = match text.char_indices().next_back() {
        Some((end, 'M' | 'm')) => (&text[..end], 1),
        Some((end, 'G' | 'g')) => (&text[..end], 1024),
        _ => return Err(wrong()),
    };
    let mib = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
    mib.filter(|&mib| mib >= 256).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_suffix_and_a_minimum() {
        assert_eq!(mebibytes("3G"), Ok(3072));
        assert_eq!(mebibytes("512m"), Ok(512));
        for wrong in ["", "3", "G", "1.5G", "-1G", "128M", "9999999G", "3Gi", "é"] {
            assert!(mebibytes(wrong).unwrap_err().contains("not a size"), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
