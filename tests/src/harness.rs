//! The end of a test program's main function that has done its own beginning: the tests by name.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// Runs those of `tests` that `arguments` (a filter, --list, --test-threads...) ask for.
pub fn run<const N: usize>(arguments: &Arguments, tests: [(&'static str, fn()); N]) -> ExitCode {
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(arguments, trials.into()).exit_code()
}
