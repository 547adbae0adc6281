//! Where Linux guests run: here, if this host's KVM is fit, else in the lab host.

use std::{env, ffi::OsString, process::ExitCode, time::Duration};

use vmm::doctor::{check_fit, open_kvm};

use crate::lab::Lab;

/// Set in the lab, so that a lab whose own KVM is unfit does not boot another.
const IN_LAB: &str = "MINIVMM_IN_LAB";

/// Why Linux guests cannot run on this host itself; None if they can.
pub fn unfit() -> Option<String> {
    open_kvm().and_then(|kvm| check_fit(&kvm)).err().map(|error| error.to_string())
}

/// Runs this program again in the lab, with the same arguments, if this host is unfit; its exit status then.
/// None: go on here. Which one it is, is said on stderr.
///
/// # Panics
/// If the lab itself does not have a fit KVM.
pub fn move_to_lab_if_unfit(limit: Duration) -> Option<ExitCode> {
    let Some(reason) = unfit() else {
        eprintln!("Linux guests run on this host's own KVM.");
        return None;
    };
    assert!(env::var_os(IN_LAB).is_none(), "the lab's KVM is unfit: {reason}");
    eprintln!("Linux guests run in the lab host: {reason}.");
    // SAFETY: called at the start of a program, before it has other threads.
    unsafe { env::set_var(IN_LAB, "1") };
    // In the lab nothing is built: what cargo would tell us ends here.
    // SAFETY: as above.
    unsafe { env::remove_var("CARGO") };
    let command: Vec<OsString> = match env::current_exe() {
        Ok(program) => [program.into_os_string()].into_iter().chain(env::args_os().skip(1)).collect(),
        Err(error) => {
            eprintln!("this program cannot be found again: {error}");
            return Some(ExitCode::FAILURE);
        }
    };
    let lab = Lab::new().timeout(Some(limit)).stop_on_signals().note(|note| eprintln!("{note}"));
    Some(match lab.run(command) {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("lab: {error}");
            error.exit_status().into()
        }
    })
}
