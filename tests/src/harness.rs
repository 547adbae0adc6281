//! The main function of test programs that have one of their own: where they run, and the tests by name.

use std::{
    env,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use guest_images::{Arch, Kind};
use libtest_mimic::{Arguments, Trial};

use crate::{ground, guest, lab::IN_LAB};

/// A test: its name, and what it does.
pub type Test = (&'static str, fn());

/// Time limit of the tests that share a lab: several times what they take.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs those of `tests` that `arguments` (a filter, --list, --test-threads...) ask for.
///
/// In a lab that is to run some of them (see [`ground::CHOSEN`]) these alone, and none after one that failed: it may be the
/// lab that has.
pub fn run<F: Fn() + Copy + Send + 'static>(arguments: &Arguments, tests: &[(&'static str, F)]) -> ExitCode {
    let chosen = env::var(ground::CHOSEN).ok();
    let is_chosen =
        |name: &str| chosen.as_ref().is_none_or(|chosen| chosen.split(',').any(|chosen| chosen == name));
    let stop_at_failure = chosen.is_some();
    let failed = Arc::new(AtomicBool::new(false));
    let trial = |&(name, test): &(&'static str, F)| {
        let failed = failed.clone();
        Trial::test(name, move || {
            if failed.load(Ordering::Relaxed) {
                return Err("not run: one before it failed in this lab".into());
            }
            // Until it has ended well; a panic unwinds past what follows.
            failed.store(stop_at_failure, Ordering::Relaxed);
            test();
            failed.store(false, Ordering::Relaxed);
            Ok(())
        })
    };
    let tests = tests.iter().filter(|(name, _)| is_chosen(name)).map(trial).collect();
    libtest_mimic::run(arguments, tests).exit_code()
}

/// Runs `tests`, which boot the images of `kinds`, where Linux guests can run, as the command line asks for.
pub fn run_with_linux<F: Fn() + Copy + Send + 'static>(
    kinds: &[Kind],
    tests: &[(&'static str, F)],
) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A guest takes a whole CPU of an emulated lab, and its devices another.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    if !arguments.list {
        guest::minivmm();
        // In a lab nothing is built; who booted it has done that.
        for &kind in kinds.iter().filter(|_| env::var_os(IN_LAB).is_none()) {
            if let Err(error) = guest_images::build(Arch::host(), kind) {
                eprintln!("there is no guest image: {error}");
                return ExitCode::FAILURE;
            }
        }
        let wanted = |test: &&str| match &arguments.filter {
            Some(filter) if arguments.exact => test == filter,
            Some(filter) => test.contains(filter.as_str()),
            None => true,
        };
        let names: Vec<&str> = tests.iter().map(|(name, _)| *name).filter(wanted).collect();
        if let Some(status) = ground::run_in_labs_if_unfit(&names, LIMIT) {
            return status;
        }
    }
    run(&arguments, tests)
}
