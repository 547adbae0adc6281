//! Where guests run: on this host, if its KVM is fit, else in the lab.

use std::{
    collections::VecDeque,
    env,
    ffi::OsString,
    fs, iter,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

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

/// The file to which the test program appends the name of each test that passes.
pub const PASSED: &str = "MINIVMM_PASSED";

/// Runs the tests of this program that `labs` has in labs, and says so on stderr. Whether all passed.
///
/// # Panics
/// If the lab itself does not have a fit KVM.
pub fn run_in_labs(labs: &[LabPlan], limit: Duration) -> bool {
    let Some(reason) = unfit().or_else(without_kvm).filter(|_| !labs.is_empty()) else { return true };
    eprintln!("Guests run in the lab host: {reason}.");
    let run = |tests: &[String], passed: &Path| {
        let program = env::current_exe().map(PathBuf::into_os_string);
        let program = program.unwrap_or_else(|error| panic!("this program cannot be found again: {error}"));
        let words = iter::once(OsString::from("env")).chain(chosen(tests, passed)).chain([program]);
        in_lab(&reason, words, passed.parent(), limit) == 0
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

/// The environment of a test program that runs `tests` and notes those that pass in the file `passed`.
pub fn chosen(tests: &[String], passed: &Path) -> [OsString; 2] {
    let mut file = OsString::from(format!("{PASSED}="));
    file.push(passed);
    [format!("{CHOSEN}={}", tests.join(",")).into(), file]
}

/// How many tests of a lab run a second time: more failures are not the emulated KVM's.
const SECOND_LABS: usize = 3;

/// Lets `run` run `tests` in a lab, where the first failure ends them. The failed test runs once more in a lab of its own, because
/// an emulated KVM can fail by itself, and those after it run together in the next lab. Each second lab is announced loudly.
/// `run` gets a file for the names of the tests that pass, in a folder that the lab may write. Returns the tests that failed in
/// both labs, and those that were not run.
///
/// # Panics
/// If there is no temporary folder.
pub fn run_twice(tests: &[String], run: impl Fn(&[String], &Path) -> bool) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("passed");
    // Those of `tests` that did not pass, of which the first is the one that failed.
    let run = |tests: &[String]| -> VecDeque<String> {
        if run(tests, &file) {
            return VecDeque::new();
        }
        let passed = fs::read_to_string(&file).unwrap_or_default();
        let rest: VecDeque<String> =
            tests.iter().filter(|test| passed.lines().all(|line| line != *test)).cloned().collect();
        if rest.is_empty() { tests.iter().cloned().collect() } else { rest }
    };
    let mut failed = Vec::new();
    let mut rest = run(tests);
    for _ in 0..SECOND_LABS {
        let Some(test) = rest.pop_front() else { return failed };
        eprintln!("{test} FAILED IN A LAB: once more, in one of its own.");
        if run(std::slice::from_ref(&test)).is_empty() {
            eprintln!("{test} PASSED IN THE SECOND LAB; what the first said is above.");
        } else {
            failed.push(test);
        }
        if !rest.is_empty() {
            rest = run(rest.make_contiguous());
        }
    }
    if !rest.is_empty() {
        eprintln!("NOT RUN, because too many tests failed before: {}", rest.make_contiguous().join(", "));
    }
    failed.into_iter().chain(rest).collect()
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
            let words = iter::once(program.into_os_string()).chain(env::args_os().skip(1));
            in_lab(&reason, words, None, limit)
        }
        Err(error) => {
            eprintln!("this program cannot be found again: {error}");
            1
        }
    };
    Some(status.into())
}

/// Runs a command in the lab, which may write the folder `writable`; its exit status.
fn in_lab(
    reason: &str,
    command: impl IntoIterator<Item = OsString>,
    writable: Option<&Path>,
    limit: Duration,
) -> u8 {
    assert!(!lab::is_inside(), "the lab's KVM is unfit: {reason}");
    let mut lab =
        Lab::new().network(Vec::new()).timeout(Some(limit)).pass_signals().note(|note| eprintln!("{note}"));
    if let Some(folder) = writable {
        lab = lab.writable(folder);
    }
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
    use std::{cell::RefCell, fs::OpenOptions, io::Write as _};

    use super::*;

    #[test]
    fn a_test_that_fails_in_a_lab_has_a_second_one() {
        let tests = ["a", "b", "c", "d", "e", "f"].map(String::from);
        // What each lab was asked to run, and those that were lost in the end, when a lab fails at the tests of `bad`.
        let run = |bad: &dyn Fn(&str, usize) -> bool| {
            let labs = RefCell::new(Vec::new());
            let lost = run_twice(&tests, |tests, file| {
                labs.borrow_mut().push(tests.concat());
                let passed = tests.iter().take_while(|test| !bad(test, tests.len()));
                let passed: Vec<String> = passed.map(|test| format!("{test}\n")).collect();
                let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
                file.write_all(passed.concat().as_bytes()).unwrap();
                passed.len() == tests.len()
            });
            (labs.into_inner().join(" "), lost.concat())
        };
        let results = |labs: &str, lost: &str| (labs.to_owned(), lost.to_owned());
        assert_eq!(run(&|_, _| false), results("abcdef", ""));
        // Together they fail, and b alone does, too.
        assert_eq!(run(&|test, _| test == "b"), results("abcdef b cdef", "b"));
        // An emulated KVM that fails once, and at the last test.
        assert_eq!(run(&|test, together| test == "c" && together > 1), results("abcdef c def", ""));
        assert_eq!(run(&|test, _| test == "f"), results("abcdef f", "f"));
        assert_eq!(run(&|_, _| true), results("abcdef a bcdef b cdef c def", "abcdef"));
    }
}
