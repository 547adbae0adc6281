//! `cargo verify`: formatting, lints, unit tests, bare-metal guests, the lab, and the tests that boot Linux, for each
//! architecture.

use std::{
    env,
    fmt::Display,
    io::{self, BufRead as _, BufReader},
    process::{Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::Instant,
};

use ::tests::{
    cross::{self, Cross},
    kernels, programs,
};
use clap::Parser;
use guest_images::{Arch, Kind, Release, debian};

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
    /// Another release of our kernel, 6.12 or 7.2: instead of all the checks, the allocator's model against that kernel,
    /// and the tests that any release passes
    #[arg(long, value_name = "RELEASE", value_parser = kernels::parse)]
    kernel: Option<Release>,
}

fn main() -> ExitCode {
    let Arguments { arch, kernel } = Arguments::parse();
    let mut steps = Steps::default();
    let mut tests = Vec::new();
    steps.run("packages", || debian::refresh().and_then(|()| debian::install(PACKAGES)));
    for arch in arch.map_or_else(cross::architectures, |arch| vec![arch]) {
        let here_too = arch.name == Arch::host().name;
        let test = match kernel {
            Some(release) => with_kernel(&mut steps, arch, release),
            None if here_too => here(&mut steps),
            None => elsewhere(&mut steps, arch),
        };
        tests.extend(test.map(|test| (arch.name, test)));
    }
    steps.side_by_side("tests", tests);
    if steps.failed.is_empty() {
        eprintln!("verify: all passed");
        ExitCode::SUCCESS
    } else {
        eprintln!("verify: FAILED: {}", steps.failed.join(", "));
        ExitCode::FAILURE
    }
}

/// What tests of a kernel `release` for `arch` need; the command that runs them.
fn with_kernel(steps: &mut Steps, arch: &'static Arch, release: Release) -> Option<Command> {
    let kind = Kind::Default(release);
    let tests = |mut test: Command| {
        test.args([
            "--quiet",
            "--package",
            "tests",
            "--test",
            "model",
            "--test",
            "other_kernels",
            "--no-fail-fast",
        ]);
        test.env(kernels::VARIABLE, release.name());
        test
    };
    let image = format!("guest image {} for {}", kind.name(), arch.name);
    if arch.name == Arch::host().name {
        return steps.run(&image, || guest_images::build(arch, kind)).map(|_| tests(cargo(&["test"])));
    }
    let cross = steps.run(&format!("toolchain for {}", arch.name), Cross::prepare)?;
    steps.run(&image, || guest_images::build(arch, kind))?;
    // The tests find it beside themselves.
    steps.run(&format!("minivmm for {}", arch.name), || cross.minivmm())?;
    let lab = steps.run("the lab", || programs::build("tests", "lab"))?;
    Some(tests(cross.test(&lab)))
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments);
    cargo
}

/// Checks for this machine's architecture, the cheap steps first; the command that runs the tests.
fn here(steps: &mut Steps) -> Option<Command> {
    steps.command("formatting", cargo(&["fmt", "--all", "--check"]));
    let lints = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    steps.command("lints", cargo(&lints));
    let name = Arch::host().name;
    images(steps, Arch::host());
    let tests = ["test", "--quiet", "--workspace", "--no-fail-fast"];
    steps
        .command(&format!("build of the tests for {name}"), cargo(&[&tests[..], &["--no-run"]].concat()))
        .then(|| cargo(&tests))
}

/// Checks for `arch`, which is not this machine's; the command that runs the tests.
fn elsewhere(steps: &mut Steps, arch: &'static Arch) -> Option<Command> {
    let name = arch.name;
    let cross = steps.run(&format!("toolchain for {name}"), Cross::prepare)?;
    steps.command(&format!("lints for {name}"), cross.clippy());
    images(steps, arch);
    // The tests find it beside themselves.
    steps.run(&format!("minivmm for {name}"), || cross.minivmm());
    let lab = steps.run("the lab", || programs::build("tests", "lab"))?;
    // The images were built here.
    let tests =
        ["--quiet", "--workspace", "--exclude", "guest-images", "--lib", "--test", "*", "--no-fail-fast"];
    let test = |more: &[&str]| {
        let mut test = cross.test(&lab);
        test.args(tests).args(more);
        test
    };
    steps.command(&format!("build of the tests for {name}"), test(&["--no-run"])).then(|| test(&[]))
}

/// Builds the images for `arch` that the tests boot.
fn images(steps: &mut Steps, arch: &'static Arch) {
    let first = |kind: &&Kind| kind.release().is_none_or(|release| release == Release::ALL[0]);
    for &kind in arch.kinds.iter().filter(first) {
        steps.run(&format!("guest image {} for {}", kind.name(), arch.name), || {
            guest_images::build(arch, kind)
        });
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

    /// Does the step `name`, which a command does. Whether it passed.
    fn command(&mut self, name: &str, mut command: Command) -> bool {
        self.run(name, || {
            let status = command.status();
            judge(&shown(&command), status)
        })
        .is_some()
    }

    /// Does all of `commands` at the same time, each for the architecture before it: what they say appears line by line
    /// with that before it. A lab keeps one CPU of this machine busy.
    fn side_by_side(&mut self, name: &str, mut commands: Vec<(&str, Command)>) {
        if commands.len() == 1 {
            let (arch, command) = commands.remove(0);
            self.command(&format!("{name} for {arch}"), command);
            return;
        }
        let results = thread::scope(|scope| {
            let run = |(arch, command)| {
                let name = format!("{name} for {arch}");
                scope.spawn(move || {
                    let mut steps = Steps::default();
                    steps.run(&name, || tell(arch, command));
                    steps.failed
                })
            };
            let threads: Vec<_> = commands.into_iter().map(run).collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for failed in results {
            self.failed.extend(failed.unwrap_or_else(|_| vec![name.to_owned()]));
        }
    }
}

/// Runs `command`, and tells what it says with `who` before each line.
fn tell(who: &str, mut command: Command) -> Result<(), String> {
    let error = |error: io::Error| format!("{who} cannot be heard: {error}");
    let (said, writer) = io::pipe().map_err(error)?;
    let errors = writer.try_clone().map_err(error)?;
    let child = command.stdin(Stdio::null()).stdout(writer).stderr(errors).spawn();
    let line = shown(&command);
    // With it go our ends of the pipe, without which it would never be at its end.
    drop(command);
    let mut child = child.map_err(|error| format!("{line} cannot be run: {error}"))?;
    for said in BufReader::new(said).split(b'\n') {
        eprintln!("{who}: {}", String::from_utf8_lossy(&said.map_err(error)?));
    }
    judge(&line, child.wait())
}

fn judge(command: &str, status: io::Result<ExitStatus>) -> Result<(), String> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command} ended with {status}")),
        Err(error) => Err(format!("{command} cannot be run: {error}")),
    }
}

/// A command as one types it.
fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
