//! Where Linux guests run: here, if this host's KVM is fit, else in the lab host.

use std::{env, ffi::OsString, process::ExitCode, time::Duration};

use vmm::doctor::{KvmError, check_fit, open_kvm};

use crate::lab::Lab;

/// Set in the lab, so that a lab whose own KVM is unfit does not boot another.
const IN_LAB: &str = "MINIVMM_IN_LAB";

/// Why Linux guests cannot run on this host itself; None if they can.
pub fn unfit() -> Option<String> {
    Some(match open_kvm().and_then(|kvm| check_fit(&kvm)).err()? {
        KvmError::Unfit { reason, .. } => format!("this host's KVM cannot run Linux: {reason}"),
        error => error.to_string(),
    })
}

/// Runs this program again in the lab, with the same arguments, if this host cannot run Linux guests; its exit status
/// then. None: go on here. Which one it is, is said on stderr.
///
/// # Panics
/// If the lab itself does not have a fit KVM.
pub fn move_to_lab_if_unfit(limit: Duration) -> Option<ExitCode> {
    let Some(reason) = unfit() else {
        eprintln!("Linux guests run on this host's own KVM.");
        return None;
    };
    eprintln!("Linux guests run in the lab host: {reason}.");
    Some(move_to_lab(&reason, limit))
}

/// As [`move_to_lab_if_unfit`], for bare-metal guests: they run on any KVM.
///
/// # Panics
/// If the lab itself has no KVM.
pub fn move_to_lab_without_kvm(limit: Duration) -> Option<ExitCode> {
    let reason = open_kvm().err()?.to_string();
    eprintln!("Bare-metal guests run in the lab host: {reason}.");
    Some(move_to_lab(&reason, limit))
}

fn move_to_lab(reason: &str, limit: Duration) -> ExitCode {
    assert!(env::var_os(IN_LAB).is_none(), "the lab's KVM is unfit: {reason}");
    // SAFETY: called at the start of a program, before it has other threads.
    unsafe { env::set_var(IN_LAB, "1") };
    // In the lab nothing is built: what cargo would tell us ends here.
    // SAFETY: as above.
    unsafe { env::remove_var("CARGO") };
    let command: Vec<OsString> = match env::current_exe() {
        Ok(program) => [program.into_os_string()].into_iter().chain(env::args_os().skip(1)).collect(),
        Err(error) => {
            eprintln!("this program cannot be found again: {error}");
            return ExitCode::FAILURE;
        }
    };
    let lab = Lab::new().timeout(Some(limit)).stop_on_signals().note(|note| eprintln!("{note}"));
    match lab.run(command) {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("lab: {error}");
            error.exit_status().into()
        }
    }
}
