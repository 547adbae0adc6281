//! `cargo verify`: formatting, lints, unit tests, bare-metal guests, the lab, and the tests that boot Linux.

use std::{
    env,
    process::{Command, ExitCode},
    time::Instant,
};

use guest_images::debian;

/// Debian packages that the tests need beyond those of the lab and of the image builder, which install their own.
const PACKAGES: &[&str] = &["device-tree-compiler", "gcc", "libc6-dev", "util-linux"];

/// What is run, in order; the cheap ones first.
const STEPS: [(&str, &[&str]); 3] = [
    ("formatting", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
    ("tests", &["test", "--quiet", "--workspace", "--no-fail-fast"]),
];

fn main() -> ExitCode {
    if env::args().len() > 1 {
        let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
        eprintln!("cargo verify takes no options: it runs {}", names.join(", "));
        return ExitCode::from(2);
    }
    if let Err(error) = debian::install(PACKAGES) {
        eprintln!("verify: {error}");
        return ExitCode::FAILURE;
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut failed = Vec::new();
    for (name, arguments) in STEPS {
        eprintln!("verify: {name}: cargo {}", arguments.join(" "));
        let start = Instant::now();
        let passed = Command::new(&cargo).args(arguments).status().is_ok_and(|status| status.success());
        let seconds = start.elapsed().as_secs();
        eprintln!("verify: {name} {} in {seconds} s", if passed { "passed" } else { "FAILED" });
        if !passed {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        eprintln!("verify: all passed");
        ExitCode::SUCCESS
    } else {
        eprintln!("verify: FAILED: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}
