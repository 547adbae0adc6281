//! `cargo verify`: formatting, lints, unit tests, bare-metal guests, the lab, and the tests that boot Linux, for each
//! architecture.

use std::{
    env,
    fmt::Display,
    process::{Command, ExitCode},
    time::Instant,
};

use ::tests::{
    cross::{self, Cross},
    programs,
};
use clap::Parser;
use guest_images::{Arch, Kind, debian};

/// Debian packages that the tests need beyond those of the lab and of the image builder, which install their own.
const PACKAGES: &[&str] = &["device-tree-compiler", "dt-schema", "gcc", "libc6-dev", "util-linux"];

/// Checks the whole workspace: formatting, lints, unit tests, bare-metal guests, the lab, tests that boot Linux.
///
/// What is missing on this machine is installed or built first. For another architecture than this machine's, all is built
/// by a cross compiler, and run on an emulated machine.
#[derive(Parser)]
#[command(name = "verify", version)]
struct Arguments {
    /// The one architecture to check for; without it, all that this machine can
    #[arg(long, value_parser = cross::architecture)]
    arch: Option<&'static Arch>,
}

fn main() -> ExitCode {
    let Arguments { arch } = Arguments::parse();
    let mut steps = Steps::default();
    for arch in arch.map_or_else(cross::architectures, |arch| vec![arch]) {
        if arch.name == Arch::host().name {
            here(&mut steps);
        } else {
            elsewhere(&mut steps, arch);
        }
    }
    if steps.failed.is_empty() {
        eprintln!("verify: all passed");
        ExitCode::SUCCESS
    } else {
        eprintln!("verify: FAILED: {}", steps.failed.join(", "));
        ExitCode::FAILURE
    }
}

/// Checks for this machine's architecture, the cheap steps first.
fn here(steps: &mut Steps) {
    steps.run("packages", || debian::install(PACKAGES));
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(arguments);
        cargo
    };
    steps.command("formatting", cargo(&["fmt", "--all", "--check"]));
    let lints = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    steps.command("lints", cargo(&lints));
    steps.command("tests", cargo(&["test", "--quiet", "--workspace", "--no-fail-fast"]));
}

/// Checks for `arch`, which is not this machine's.
fn elsewhere(steps: &mut Steps, arch: &'static Arch) {
    let name = arch.name;
    let Some(cross) = steps.run(&format!("toolchain for {name}"), Cross::prepare) else { return };
    steps.command(&format!("lints for {name}"), cross.clippy());
    for kind in Kind::ALL {
        steps.run(&format!("guest image {} for {name}", kind.name()), || guest_images::build(arch, kind));
    }
    // The tests find it beside themselves.
    steps.run(&format!("minivmm for {name}"), || cross.minivmm());
    let lab = steps.run("the lab", || programs::build("tests", "lab"));
    if let Some(lab) = lab {
        let mut test = cross.test(&lab);
        // The images are built here.
        test.args([
            "--quiet",
            "--workspace",
            "--exclude",
            "guest-images",
            "--lib",
            "--test",
            "*",
            "--no-fail-fast",
        ]);
        steps.command(&format!("tests for {name}"), test);
    }
}

/// What is done, one after another, and what of it failed.
#[derive(Default)]
struct Steps {
    failed: Vec<String>,
}

impl Steps {
    /// Does the step `name`; what came of it, if it did not fail.
    fn run<T, E: Display>(&mut self, name: &str, step: impl FnOnce() -> Result<T, E>) -> Option<T> {
        eprintln!("verify: {name}");
        let start = Instant::now();
        let done = step();
        let seconds = start.elapsed().as_secs();
        match done {
            Ok(done) => {
                eprintln!("verify: {name} passed in {seconds} s");
                Some(done)
            }
            Err(error) => {
                eprintln!("verify: {name} FAILED in {seconds} s: {error}");
                self.failed.push(name.to_owned());
                None
            }
        }
    }

    /// Does the step `name`, which a command does.
    fn command(&mut self, name: &str, mut command: Command) {
        self.run(name, || match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{} ended with {status}", shown(&command))),
            Err(error) => Err(format!("{} cannot be run: {error}", shown(&command))),
        });
    }
}

/// A command as one types it.
fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
