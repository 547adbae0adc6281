//! Where guests run: on this host, if its KVM is fit, else in the lab.

use std::{env, ffi::OsString, iter, path::PathBuf, process::ExitCode, time::Duration};

use vmm::machine::kvm::{check_fit, open_kvm};

use crate::{
    harness::LabPlan,
    lab::{self, Lab},
};

/// Why Linux guests cannot run on this host itself; None if they can.
pub fn unfit() -> Option<String> {
    open_kvm().and_then(|kvm| check_fit(&kvm)).err().map(|error| error.to_string())
}

/// Why no guest can run on this host itself, not even a bare-metal one; None if these can.
pub fn without_kvm() -> Option<String> {
    open_kvm().err().map(|error| error.to_string())
}

/// The tests of the test program that are to run in a lab, with commas between: it has not as many filters.
pub const CHOSEN: &str = "MINIVMM_TESTS";

/// Runs the tests of this program that `labs` has in labs, and says so on stderr. Whether all passed.
///
/// # Panics
/// If the lab itself does not have a fit KVM.
pub fn run_in_labs(labs: &[LabPlan], limit: Duration) -> bool {
    let Some(reason) = unfit().or_else(without_kvm).filter(|_| !labs.is_empty()) else { return true };
    eprintln!("Guests run in the lab host: {reason}.");
    let run = |tests: &[String]| {
        let program = env::current_exe().map(PathBuf::into_os_string);
        let program = program.unwrap_or_else(|error| panic!("this program cannot be found again: {error}"));
        let chosen = OsString::from(format!("{CHOSEN}={}", tests.join(",")));
        in_lab(&reason, [OsString::from("env"), chosen, program], limit) == 0
    };
    let failed: Vec<String> = labs.iter().flat_map(|plan| run_twice(&plan.tests, run)).collect();
    let lost = failed.len();
    let passed = labs.iter().map(|plan| plan.tests.len()).sum::<usize>() - lost;
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    if !failed.is_empty() {
        println!("failed in two labs each: {}", failed.join(", "));
    }
    println!("test result: {verdict}. {passed} passed; {lost} failed; 0 ignored; 0 measured; 0 filtered out");
    failed.is_empty()
}

/// Lets `run` run `tests` in a lab and, if one of them fails, each by itself in a second lab: an emulated KVM is not without
/// faults. That tests needed a second lab is said loudly. Returns those that failed in both.
pub fn run_twice(tests: &[String], run: impl Fn(&[String]) -> bool) -> Vec<String> {
    if run(tests) {
        return Vec::new();
    }
    eprintln!("{} FAILED IN A LAB: each once more, in one of its own.", tests.join(" or "));
    let fails_again = |test: &&String| {
        let passed = run(std::slice::from_ref(*test));
        if passed {
            eprintln!("{test} PASSED IN THE SECOND LAB; what the first said is above.");
        }
        !passed
    };
    tests.iter().filter(fails_again).cloned().collect()
}

/// Runs this program again in the lab, with the same arguments, if this host cannot run Linux guests; says so on stderr.
/// None: go on here.
///
/// # Panics
/// If the lab itself does not have a fit KVM.
pub fn move_to_lab_if_unfit(limit: Duration) -> Option<ExitCode> {
    let reason = unfit()?;
    eprintln!("Linux guests run in the lab host: {reason}.");
    let status = match env::current_exe() {
        Ok(program) => {
            in_lab(&reason, iter::once(program.into_os_string()).chain(env::args_os().skip(1)), limit)
        }
        Err(error) => {
            eprintln!("this program cannot be found again: {error}");
            1
        }
    };
    Some(status.into())
}

/// Runs a command in the lab; its exit status.
fn in_lab(reason: &str, command: impl IntoIterator<Item = OsString>, limit: Duration) -> u8 {
    assert!(!lab::is_inside(), "the lab's KVM is unfit: {reason}");
    let lab = Lab::new().timeout(Some(limit)).pass_signals().note(|note| eprintln!("{note}"));
    match lab.run(command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("lab: {error}");
            error.exit_status()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_of_a_lab_that_failed_has_a_second_one() {
        let tests = ["a", "b", "c"].map(String::from);
        assert_eq!(run_twice(&tests, |_| true), [""; 0]);
        // Together they fail, and b alone does, too.
        assert_eq!(run_twice(&tests, |tests| tests.len() == 1 && tests[0] != "b"), ["b"]);
    }
}
