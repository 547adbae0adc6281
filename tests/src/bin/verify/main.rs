//! `cargo verify`: formatting, lints, unit tests, bare-metal guests, the lab, and the tests that boot Linux, for each
//! architecture.
//!
//! What is done are stages (see [`stages`]): each begins as soon as those that it needs have passed. Builds stand back for labs,
//! in which time counts.

mod commands;
mod programs;
mod stages;
mod summary;

use std::{
    env,
    ffi::OsString,
    path::Path,
    process::{Command, ExitCode},
    str::FromStr,
    thread::{self, Scope},
    time::Instant,
};

use ::tests::{
    cross::{self, Cross},
    harness::{self, Extent, LabPlan},
    host, kernels, lab,
};
use clap::Parser;
use guest_images::{Arch, Kind, Release, cache::cache_dir, debian};

use commands::in_background;
use programs::{TestProgram, TestPrograms};
use stages::{Stage, Stages};
use summary::Summary;

/// Debian packages that the tests need beyond those of the lab, of the cross compiler and of the image builder.
const PACKAGES: &[&str] = &[
    "device-tree-compiler",
    "dt-schema",
    "e2fsprogs",
    "g++",
    "gcc",
    "gdb",
    "git",
    "iproute2",
    "libc6-dev",
    "mmdebstrap",
    "passt",
    "python3-jsonschema",
    "tmux",
    "util-linux",
];

/// Images that are built and tested only by `--thorough`: each takes minutes to build.
const ONLY_IF_THOROUGH: &[Kind] = &[Kind::Debug(Release::ALL[0]), Kind::Large(Release::ALL[0])];

/// The turn of the first lab for another architecture: more than this machine's has labs.
const AFTER_THE_HOSTS: usize = 100;

/// Checks the whole workspace: formatting, lints, unit tests, bare-metal guests, the lab, tests that boot Linux.
///
/// What is missing on this machine is installed or built first. For another architecture than this machine's, all is built
/// by a cross compiler, and run on an emulated machine. It ends with a table: how long each stage and the slowest tests took.
#[derive(Parser)]
#[command(name = "verify", version)]
struct Arguments {
    /// Check for one architecture [default: all that this machine can check]
    #[arg(long, value_parser = cross::architecture)]
    arch: Option<&'static Arch>,
    /// Another release of our kernel, 6.12 or 7.2: instead of all the checks, the allocator's model against that kernel,
    /// and the tests that any release passes
    #[arg(long, value_name = "RELEASE", value_parser = kernels::parse)]
    release: Option<Release>,
    /// Runs also the tests of the images debug and 64k and, for another architecture than this machine's, the lints and the tests
    /// that depend on no architecture
    #[arg(long)]
    thorough: bool,
    /// Builds this image for --arch, and does nothing else: a stage of another verify
    #[arg(long, value_name = "NAME", value_parser = image, hide = true)]
    build_image: Option<Kind>,
}

fn image(name: &str) -> Result<Kind, String> {
    Kind::named(name).ok_or_else(|| format!("there is no image {name}"))
}

fn main() -> ExitCode {
    let Arguments { arch, release, thorough, build_image } = Arguments::parse();
    if let Some(kind) = build_image {
        return match guest_images::build(arch.unwrap_or(Arch::host()), kind) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let archs = arch.map_or_else(cross::architectures, |arch| vec![arch]);
    let begun = Instant::now();
    let stages = Stages::new();
    thread::scope(|scope| Verify { stages: &stages, scope, release, thorough }.begin(&archs));
    let (rows, tests) = stages.finish();
    let summary = Summary { rows, tests, took: begun.elapsed() };
    eprintln!("verify:\n{summary}");
    let failed = summary.failed();
    if failed.is_empty() {
        eprintln!("verify: all passed");
        ExitCode::SUCCESS
    } else {
        eprintln!("verify: FAILED: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}

/// Begins all stages.
#[derive(Clone, Copy)]
struct Verify<'scope, 'env> {
    stages: &'scope Stages,
    scope: &'scope Scope<'scope, 'env>,
    /// The release of our kernel that alone is looked at.
    release: Option<Release>,
    /// Whether lints and tests that depend on no architecture run for each.
    thorough: bool,
}

/// What the tests for an architecture need.
#[derive(Clone)]
struct Ready {
    arch: &'static Arch,
    /// Their programs, built for this machine.
    here: Stage<TestPrograms>,
    /// Their programs, built for the architecture.
    programs: Stage<TestPrograms>,
    /// The images.
    images: Vec<(Kind, Stage<()>)>,
}

impl<'scope> Verify<'scope, '_> {
    fn begin(self, archs: &[&'static Arch]) {
        let packages = self.packages(archs);
        let is_host = |arch: &&'static Arch| arch.name == Arch::host().name;
        if self.release.is_none() {
            let format = |()| {
                commands::run("formatting", cargo(&["fmt", "--all", "--check"]), |_| ())?;
                const TARGETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml");
                let targets = ["fmt", "--check", "--manifest-path", TARGETS];
                commands::run("formatting", cargo(&targets), |_| ())
            };
            self.stages.begin(self.scope, "formatting", || Some(()), format);
        }
        let images = self.images(archs, &packages);
        let images_of = |arch: &'static Arch| -> Vec<(Kind, Stage<()>)> {
            images
                .iter()
                .filter(|(of, ..)| of.name == arch.name)
                .map(|(_, kind, stage)| (*kind, stage.clone()))
                .collect()
        };
        let lints_here = self.release.is_none() && archs.iter().any(is_host);
        let here = self.build_here(lints_here, &packages);
        let mut ready = Vec::new();
        for &arch in archs {
            let programs = if is_host(&arch) { here.clone() } else { self.build_for(arch, &packages) };
            ready.push(Ready { arch, here: here.clone(), programs, images: images_of(arch) });
        }
        let all = ready.clone();
        for ready in ready {
            if self.release.is_none() {
                self.unit_tests(&ready);
            }
            if is_host(&ready.arch) {
                let labs_of_tests = self.tests_outside_of_labs(&ready, &all);
                if self.release.is_none() {
                    self.installed(&ready, labs_of_tests);
                    self.fuzzing(&ready);
                }
            }
            self.tests_in_labs(ready);
        }
    }

    /// Installs all packages at once: the lists and each call of apt cost seconds.
    fn packages(self, archs: &[&'static Arch]) -> Stage<()> {
        let mut packages = PACKAGES.to_vec();
        for arch in archs {
            packages.extend(guest_images::packages(arch));
            packages.extend(lab::packages(arch));
            if arch.name != Arch::host().name {
                packages.extend(Cross::PACKAGES);
            }
        }
        packages.extend(lab::packages(Arch::host()));
        packages.sort_unstable();
        packages.dedup();
        let install = move |()| debian::refresh().and_then(|()| debian::install(&packages));
        self.stages.begin(self.scope, "packages", || Some(()), install)
    }

    /// Builds the images that the tests boot, one after another, as each build keeps all CPUs busy: first those that the most
    /// tests wait for.
    fn images(self, archs: &[&'static Arch], packages: &Stage<()>) -> Vec<(&'static Arch, Kind, Stage<()>)> {
        let wanted = |kind: &Kind| match self.release {
            Some(release) => *kind == Kind::Default(release),
            None if ONLY_IF_THOROUGH.contains(kind) => self.thorough,
            None => kind.release().is_none_or(|release| release == Release::ALL[0]),
        };
        let mut images: Vec<(&'static Arch, Kind)> = archs
            .iter()
            .flat_map(|&arch| arch.kinds.iter().filter(|kind| wanted(kind)).map(move |&kind| (arch, kind)))
            .collect();
        images.sort_by_key(|(_, kind)| !matches!(kind, Kind::Default(_)));
        let mut before: Option<Stage<()>> = None;
        let mut begun = Vec::new();
        for (arch, kind) in images {
            let (packages, last) = (packages.clone(), before.take());
            let who = format!("image {} for {}", kind.name(), arch.name);
            let build = {
                let who = who.clone();
                move |()| -> Result<(), String> {
                    let program = env::current_exe().map_err(|error| error.to_string())?;
                    let mut build = Command::new(program);
                    build.args(["--arch", arch.name, "--build-image", &kind.name()]);
                    commands::run(&who, in_background(build), |_| ())
                }
            };
            let needs = move || {
                // Whether that one passed does not matter to this one.
                last.map(|last| last.wait());
                packages.wait()
            };
            let stage = self.stages.begin(self.scope, who, needs, build);
            before = Some(stage.clone());
            begun.push((arch, kind, stage));
        }
        begun
    }

    /// Lints and test programs for this machine: cargo does one after another. Also the programs that tests run.
    fn build_here(self, lints: bool, packages: &Stage<()>) -> Stage<TestPrograms> {
        let name = Arch::host().name;
        let linted = lints.then(|| {
            let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"];
            let packages = packages.clone();
            let lint = move |()| commands::run("lints", in_background(cargo(&clippy)), |_| ());
            self.stages.begin(self.scope, format!("lints for {name}"), move || packages.wait(), lint)
        });
        let packages = packages.clone();
        let only_suite = self.release.is_some();
        let needs = move || {
            linted.map(|linted| linted.wait());
            packages.wait()
        };
        let build = move |()| -> Result<TestPrograms, String> {
            let mut build = cargo(&["build", "--quiet", "-p", "vmm", "-p", "tests"]);
            build.args(["minivmm", "lab", "fuzz-all"].iter().flat_map(|program| ["--bin", program]));
            commands::run(name, in_background(build), |_| ())?;
            let tests = if only_suite { TestPrograms::SUITE } else { TestPrograms::ALL };
            TestPrograms::build(name, cargo(&["test"]), tests)
        };
        self.stages.begin(self.scope, format!("programs for {name}"), needs, build)
    }

    /// Toolchain, lints and programs for an architecture that is not this machine's.
    fn build_for(self, arch: &'static Arch, packages: &Stage<()>) -> Stage<TestPrograms> {
        let name = arch.name;
        let packages = packages.clone();
        let toolchain = self.stages.begin(
            self.scope,
            format!("toolchain for {name}"),
            move || packages.wait(),
            |()| Cross::prepare(),
        );
        let (only_suite, thorough) = (self.release.is_some(), self.thorough);
        let linted = (!only_suite && thorough).then(|| {
            let toolchain = toolchain.clone();
            let lint = move |cross: Cross| commands::run(name, in_background(cross.clippy()), |_| ());
            self.stages.begin(self.scope, format!("lints for {name}"), move || toolchain.wait(), lint)
        });
        let needs = move || {
            linted.map(|linted| linted.wait());
            toolchain.wait()
        };
        let build = move |cross: Cross| -> Result<TestPrograms, String> {
            let mut minivmm = cross.cargo("build");
            minivmm.args(["--quiet", "-p", "vmm", "--bin", "minivmm"]);
            commands::run(name, in_background(minivmm), |_| ())?;
            let tests = match (only_suite, thorough) {
                (true, _) => TestPrograms::SUITE,
                (_, true) => TestPrograms::ALL_ELSEWHERE,
                (_, false) => TestPrograms::WITH_CODE_FOR_IT,
            };
            TestPrograms::build(name, cross.cargo("test"), tests)
        };
        self.stages.begin(self.scope, format!("programs for {name}"), needs, build)
    }

    /// The unit tests of all crates; for another architecture in a lab.
    fn unit_tests(self, ready: &Ready) {
        let Ready { arch, programs, .. } = ready.clone();
        let name = format!("unit tests for {}", arch.name);
        let stages = self.stages;
        if arch.name == Arch::host().name {
            let run = move |built: TestPrograms| -> Result<(), String> {
                for TestProgram { folder, program, .. } in built.units() {
                    let mut command = Command::new(program);
                    command.current_dir(folder).arg("--quiet");
                    commands::run(arch.name, in_background(command), |_| ())?;
                }
                let documents = cargo(&["test", "--quiet", "--workspace", "--doc"]);
                commands::run(arch.name, in_background(documents), |_| ())
            };
            stages.begin(self.scope, name, move || programs.wait(), run);
        } else {
            let needs = move || programs.wait().map(|programs| (programs, stages.lab(AFTER_THE_HOSTS)));
            let run = move |(built, _permit): (TestPrograms, _)| -> Result<(), String> {
                let script = "status=0
                    while [ $# -gt 0 ]; do (cd \"$1\" && \"$2\" --quiet) || status=1; shift 2; done; exit $status";
                let mut words: Vec<OsString> = ["sh", "-c", script, "sh"].map(OsString::from).into();
                words.extend(
                    built.units().flat_map(|unit| [unit.folder.clone().into(), unit.program.clone().into()]),
                );
                commands::run(arch.name, in_lab(arch, None, words)?, |_| ())
            };
            stages.begin(self.scope, name, needs, run);
        }
    }

    /// Those tests of the suite that run on this machine, if any. Some boot labs of their own, one after another. Much of their time
    /// is waiting, so they run beside as many labs as there are CPUs.
    fn tests_outside_of_labs(self, ready: &Ready, all: &[Ready]) -> Stage<()> {
        let Ready { arch, programs, .. } = ready.clone();
        let stages = self.stages;
        // Some look at the other architecture's programs, too.
        let others: Vec<Ready> = all.to_vec();
        let fit = host::unfit().is_none();
        let needs = move || {
            for other in &others {
                let images = other.images.iter().filter(|(kind, _)| *kind == Kind::DEFAULT || fit);
                // A test names the programs that are missing.
                images.for_each(|(_, image)| _ = image.wait());
                other.programs.wait();
            }
            programs.wait()
        };
        let run = move |built: TestPrograms| -> Result<(), String> {
            let mut suite = built.suite()?;
            suite.arg("--test-threads=1").env(Extent::VARIABLE, self.extent(arch).name());
            if !fit {
                suite.env(harness::PLAN, "here");
            }
            commands::run(arch.name, suite, |line| self.keep_time(arch, line))
        };
        stages.begin(self.scope, format!("tests on this machine for {}", arch.name), needs, run)
    }

    /// The Debian package, installed in a chroot without the checkout. The tests that boot labs prepare the lab first.
    fn installed(self, ready: &Ready, labs_of_tests: Stage<()>) {
        const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/installed/run.sh");
        let Ready { programs, images, .. } = ready.clone();
        let stages = self.stages;
        let needs = move || {
            labs_of_tests.wait();
            let (_, image) = images.into_iter().find(|(kind, _)| *kind == Kind::DEFAULT)?;
            image.wait()?;
            Some((programs.wait()?, stages.lab(1)))
        };
        let run = move |(_, _permit): (TestPrograms, _)| -> Result<(), String> {
            let program = ::tests::programs::folder().map_err(|error| error.to_string())?.join("minivmm");
            let mut run = Command::new(RUN);
            run.arg(program).arg(cache_dir().map_err(|error| error.to_string())?);
            commands::run("installed", run, |_| ())
        };
        stages.begin(self.scope, "installed package", needs, run);
    }

    /// All fuzz targets, each for a second on its seeds.
    fn fuzzing(self, ready: &Ready) {
        let programs = ready.programs.clone();
        let run = move |_: TestPrograms| -> Result<(), String> {
            let program = ::tests::programs::folder().map_err(|error| error.to_string())?.join("fuzz-all");
            let corpus = tempfile::tempdir().map_err(|error| error.to_string())?;
            let mut run = Command::new(program);
            run.args(["--seconds", "1", "--corpus"]).arg(corpus.path());
            commands::run("fuzzing", in_background(run), |_| ())
        };
        self.stages.begin(self.scope, "fuzzing", move || programs.wait(), run);
    }

    /// The tests of the suite that run in labs: a stage for each lab.
    fn tests_in_labs(self, ready: Ready) {
        let Ready { arch, here, programs, images } = ready;
        let is_host = arch.name == Arch::host().name;
        if is_host && host::unfit().is_none() {
            return;
        }
        let only = self.release;
        let extent = self.extent(arch);
        let plan = move |built: TestPrograms| -> Result<Vec<LabPlan>, String> {
            let mut suite = built.suite()?;
            suite.env(harness::PLAN, arch.name);
            suite.env(Extent::VARIABLE, extent.name());
            if let Some(release) = only {
                suite.env(kernels::VARIABLE, release.name());
            }
            let lines = commands::output(arch.name, suite)?;
            lines.lines().map(LabPlan::from_str).collect()
        };
        let plans = self.stages.begin(
            self.scope,
            format!("plan of the labs for {}", arch.name),
            move || here.wait(),
            plan,
        );
        self.scope.spawn(move || {
            for (index, plan) in plans.wait().into_iter().flatten().enumerate() {
                let is_left_out = |name: &String| ONLY_IF_THOROUGH.iter().any(|kind| kind.name() == *name);
                if !self.thorough && plan.images.iter().any(is_left_out) {
                    eprintln!(
                        "verify: without --thorough NOT RUN for {}: {}",
                        arch.name,
                        plan.tests.join(", ")
                    );
                    continue;
                }
                let images: Vec<Stage<()>> = images
                    .iter()
                    .filter(|(kind, _)| plan.images.contains(&kind.name()))
                    .map(|(_, image)| image.clone())
                    .collect();
                self.lab(arch, index, plan, images, programs.clone());
            }
        });
    }

    /// One lab with tests of the suite.
    fn lab(
        self,
        arch: &'static Arch,
        index: usize,
        plan: LabPlan,
        images: Vec<Stage<()>>,
        programs: Stage<TestPrograms>,
    ) {
        let stages = self.stages;
        let more = match plan.tests.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let name = format!("lab {} for {}: {}{more}", index + 1, arch.name, plan.tests[0]);
        // The longer labs, which are this machine's, come first, so that both CPUs are busy until the end.
        let turn = if arch.name == Arch::host().name { index } else { AFTER_THE_HOSTS + index };
        let needs = move || {
            let built = programs.wait()?;
            images.iter().map(Stage::wait).collect::<Option<Vec<()>>>()?;
            Some((built, stages.lab(turn)))
        };
        let run = move |(built, _permit): (TestPrograms, _)| -> Result<(), String> {
            let run = |tests: &[String], passed: &Path| {
                let release = self.release.map(|release| format!("{}={}", kernels::VARIABLE, release.name()));
                let extent = OsString::from(format!("{}={}", Extent::VARIABLE, self.extent(arch).name()));
                let words = [OsString::from("env"), extent].into_iter();
                let words = words.chain(host::chosen(tests, passed)).chain(release.map(Into::into));
                let run = built.suite_path().and_then(|suite| {
                    let command = in_lab(arch, passed.parent(), words.chain([suite.into()]).collect())?;
                    commands::run(arch.name, command, |line| self.keep_time(arch, line))
                });
                run.inspect_err(|error| eprintln!("{}: {error}", arch.name)).is_ok()
            };
            let failed = host::run_twice(&plan.tests, run);
            if failed.is_empty() {
                Ok(())
            } else {
                Err(format!("failed in two labs each: {}", failed.join(", ")))
            }
        };
        stages.begin(self.scope, name, needs, run);
    }

    /// The extent of the tests for `arch`.
    fn extent(self, arch: &Arch) -> Extent {
        match (self.thorough, arch.name == Arch::host().name) {
            (true, _) => Extent::Thorough,
            (false, true) => Extent::Usual,
            (false, false) => Extent::Brief,
        }
    }

    fn keep_time(self, arch: &Arch, line: &str) {
        if let Some((test, took)) = harness::time(line) {
            self.stages.test_took(format!("{} on {}", test, arch.name), took);
        }
    }
}

/// The command that runs `words` in a lab, which may write the folder `writable`.
fn in_lab(arch: &Arch, writable: Option<&Path>, words: Vec<OsString>) -> Result<Command, String> {
    let folder = ::tests::programs::folder().map_err(|error| error.to_string())?;
    let mut lab = without_cargo(&folder.join("lab"));
    lab.args(["run", "--arch", arch.name, "--timeout", &harness::LIMIT.as_secs().to_string()]);
    if let Some(folder) = writable {
        lab.arg("--writable").arg(folder);
    }
    lab.arg("--").args(words);
    Ok(lab)
}

/// A program of this workspace, which finds others built, and builds none.
fn without_cargo(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("CARGO");
    command
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments);
    cargo
}
