//! Where Linux guests run: here, if this host's KVM is fit, else in the lab host.

use std::{env, ffi::OsString, iter, path::PathBuf, process::ExitCode, time::Duration};

use vmm::machine::kvm::{KvmError, check_fit, open_kvm};

use crate::lab::{IN_LAB, Lab};

/// Why Linux guests cannot run on this host itself; None if they can.
pub fn unfit() -> Option<String> {
    Some(match open_kvm().and_then(|kvm| check_fit(&kvm)).err()? {
        KvmError::Unfit { reason, .. } => format!("this host's KVM cannot run Linux: {reason}"),
        error => error.to_string(),
    })
}

/// The tests of this program that are to run in a lab, with commas between: it has not as many filters.
pub const CHOSEN: &str = "MINIVMM_TESTS";

/// How many tests share a lab: each lab takes some seconds to boot.
const TOGETHER: usize = 8;

/// Runs the `tests` of this program by name in labs, a few in each, if this host cannot run Linux guests; the exit status
/// then. None: go on here. Which one it is, is said on stderr.
///
/// A few, and each by itself in a second lab if one of them failed in the first: an emulated KVM is not without faults.
/// That tests needed a second lab is said loudly.
///
/// # Panics
/// If the lab itself does not have a fit KVM.
pub fn run_in_labs_if_unfit(tests: &[&str], limit: Duration) -> Option<ExitCode> {
    let Some(reason) = unfit() else {
        eprintln!("Linux guests run on this host's own KVM.");
        return None;
    };
    eprintln!("Linux guests run in the lab host: {reason}.");
    let run = |tests: &[&str]| {
        let program = env::current_exe().map(PathBuf::into_os_string);
        let program = program.unwrap_or_else(|error| panic!("this program cannot be found again: {error}"));
        let chosen = OsString::from(format!("{CHOSEN}={}", tests.join(",")));
        let command = [OsString::from("env"), chosen, program, OsString::from("--test-threads=1")];
        in_lab(&reason, command, limit) == 0
    };
    let mut failed = Vec::new();
    for together in tests.chunks(TOGETHER) {
        if run(together) {
            continue;
        }
        eprintln!("{} FAILED IN A LAB: each once more, in one of its own.", together.join(" or "));
        for test in together {
            if run(&[test]) {
                eprintln!("{test} PASSED IN THE SECOND LAB; what the first said is above.");
            } else {
                failed.push(*test);
            }
        }
    }
    let (passed, lost) = (tests.len() - failed.len(), failed.len());
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("failed in two labs each: {failed:?}");
    println!("test result: {verdict}. {passed} passed; {lost} failed; 0 ignored; 0 measured; 0 filtered out");
    Some(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs this program again in the lab, with the same arguments, if this host has no KVM at all: bare-metal guests run on
/// any. None: go on here.
///
/// # Panics
/// If the lab itself has no KVM.
pub fn move_to_lab_without_kvm(limit: Duration) -> Option<ExitCode> {
    let reason = open_kvm().err()?.to_string();
    eprintln!("Bare-metal guests run in the lab host: {reason}.");
    Some(run_in_lab(&reason, env::args_os().skip(1), limit).into())
}

/// Runs this program again in the lab, with the same arguments, if this host cannot run Linux guests; says so on stderr.
/// None: go on here.
///
/// # Panics
/// If the lab itself does not have a fit KVM.
pub fn move_to_lab_if_unfit(limit: Duration) -> Option<ExitCode> {
    let reason = unfit()?;
    eprintln!("Linux guests run in the lab host: {reason}.");
    Some(run_in_lab(&reason, env::args_os().skip(1), limit).into())
}

/// Runs this program in the lab with `arguments`; its exit status.
fn run_in_lab(reason: &str, arguments: impl IntoIterator<Item = OsString>, limit: Duration) -> u8 {
    match env::current_exe() {
        Ok(program) => in_lab(reason, iter::once(program.into_os_string()).chain(arguments), limit),
        Err(error) => {
            eprintln!("this program cannot be found again: {error}");
            1
        }
    }
}

/// Runs a command in the lab; its exit status.
fn in_lab(reason: &str, command: impl IntoIterator<Item = OsString>, limit: Duration) -> u8 {
    assert!(env::var_os(IN_LAB).is_none(), "the lab's KVM is unfit: {reason}");
    let lab = Lab::new().timeout(Some(limit)).stop_on_signals().note(|note| eprintln!("{note}"));
    match lab.run(command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("lab: {error}");
            error.exit_status()
        }
    }
}
