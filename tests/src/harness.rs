//! The main function of the test program: chooses tests, runs each where it can run, and prints how long it took.
//!
//! Tests that boot Linux run on this host if its KVM is fit. Otherwise the program runs itself again in labs, with the names
//! of a few tests for each (see [`host::CHOSEN`]).

use std::{
    env, fmt,
    fs::OpenOptions,
    io::Write as _,
    process::{self, ExitCode},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use guest_images::{Arch, Kind};
use libtest_mimic::{Arguments, Trial};

use crate::{
    guest,
    host::{self, CHOSEN, PASSED},
    lab::IN_LAB,
};

/// A test: its name, and the function that panics if it fails.
pub struct Test {
    name: String,
    run: Arc<dyn Fn() + Send + Sync>,
    /// The one architecture that it is for.
    arch: Option<&'static str>,
    has_own_lab: bool,
    /// The least extent in which it runs.
    extent: Extent,
}

/// The tests with the names of these functions.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => { vec![$($crate::harness::Test::new(stringify!($name), $name)),*] };
}

impl Test {
    /// The test `name`, which `run` does.
    pub fn new(name: impl Into<String>, run: impl Fn() + Send + Sync + 'static) -> Self {
        let (arch, has_own_lab, extent) = (None, false, Extent::Brief);
        Self { name: name.into(), run: Arc::new(run), arch, has_own_lab, extent }
    }

    /// Its name in its group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For guests of `arch` alone.
    #[must_use]
    pub fn only_on(self, arch: &Arch) -> Self {
        Self { arch: Some(arch.name), ..self }
    }

    /// Depends on no architecture: it does not run if the tests are [brief](Extent::Brief).
    #[must_use]
    pub fn the_same_everywhere(self) -> Self {
        Self { extent: Extent::Usual, ..self }
    }

    /// Runs only if the tests are [thorough](Extent::Thorough).
    #[must_use]
    pub fn only_if_thorough(self) -> Self {
        Self { extent: Extent::Thorough, ..self }
    }

    /// Takes so long that it has a lab of its own.
    #[must_use]
    pub fn in_its_own_lab(self) -> Self {
        Self { has_own_lab: true, ..self }
    }
}

/// How much the tests do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// What depends on the architecture. `cargo verify` asks for it on another architecture than this machine's.
    Brief,
    /// All but what takes minutes. `cargo verify` asks for it on this machine's architecture.
    Usual,
    /// Everything.
    Thorough,
}

impl Extent {
    /// The environment variable that names the extent. Without it, the tests are thorough.
    pub const VARIABLE: &str = "MINIVMM_EXTENT";

    /// The extent that the environment names.
    ///
    /// # Panics
    /// If it names another.
    pub fn asked() -> Self {
        let Some(name) = env::var_os(Self::VARIABLE) else { return Self::Thorough };
        let known = [Self::Brief, Self::Usual, Self::Thorough];
        let found = known.into_iter().find(|extent| name == extent.name());
        found.unwrap_or_else(|| panic!("{} is brief, usual or thorough, not {name:?}", Self::VARIABLE))
    }

    /// The number of CPUs of guests for which it makes no other difference. In a lab of one CPU, two take three times as long.
    pub fn cpus(self) -> u8 {
        if self == Self::Thorough { 2 } else { 1 }
    }

    /// Its name in the environment.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brief => "brief",
            Self::Usual => "usual",
            Self::Thorough => "thorough",
        }
    }
}

/// Where the tests of a group run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Anywhere: no guest runs.
    Anywhere,
    /// Outside of labs: they boot labs of their own, or look at what is the same in a lab.
    OutsideOfLabs,
    /// Where there is a KVM: their guests are bare-metal.
    Kvm,
    /// Where there is a KVM that runs Linux: their guests boot these images.
    Linux(Vec<Kind>),
}

/// Tests of one subject.
pub struct Group {
    /// What their names begin with, before `::`.
    pub name: &'static str,
    /// Where they run.
    pub place: Place,
    /// The tests.
    pub tests: Vec<Test>,
}

/// What [`PLAN`] asks for.
pub const PLAN: &str = "MINIVMM_TEST_PLAN";

/// What one lab is for: the images that its tests boot, and their names. On paper it is a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabPlan {
    /// The names of the images.
    pub images: Vec<String>,
    /// The names of the tests.
    pub tests: Vec<String>,
}

impl fmt::Display for LabPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lab {};{}", self.images.join(","), self.tests.join(","))
    }
}

impl FromStr for LabPlan {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (images, tests) =
            line.strip_prefix("lab ").and_then(|rest| rest.split_once(';')).ok_or_else(|| {
                format!("{line:?} is no plan of a lab; it has the form: lab IMAGE,...;TEST,...")
            })?;
        let list = |text: &str| text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(Self { images: list(images), tests: list(tests) })
    }
}

/// How many tests share a lab: each lab takes a second to begin.
const TOGETHER: usize = 18;

/// Time limit of the tests that share a lab: several times what they take.
pub const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Time limit of a test in a lab: several times as long as the longest takes that is not thorough.
const TEST_LIMIT: Duration = Duration::from_secs(5 * 60);

/// What a test's time begins with.
const TOOK: &str = "took ";

/// A test and its time, from a line of `run`'s.
pub fn time(line: &str) -> Option<(&str, Duration)> {
    // The line has begun with the name of the test.
    let (seconds, name) = line.trim().rsplit_once(TOOK)?.1.split_once(" s: ")?;
    Some((name, Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?))
}

/// Runs those of `groups`, made for guests of an architecture, that the command line (a filter, --list, --test-threads...) or
/// the environment ask for: [`CHOSEN`] names tests, and [`PLAN`] is `here`, for those alone that need no lab, or an
/// architecture, whose tests that need labs are printed, a line for each lab.
pub fn main(groups: impl Fn(&Arch) -> Vec<Group>) -> ExitCode {
    let arguments = Arguments::from_args();
    let plan = env::var(PLAN).ok();
    if let Some(arch) = plan.as_deref().and_then(Arch::named) {
        lab_plans(&groups(arch), arch, Extent::asked()).iter().for_each(|plan| println!("{plan}"));
        return ExitCode::SUCCESS;
    }
    let mut groups = groups(Arch::host());
    choose(&mut groups, &arguments);
    if arguments.list {
        return run(&arguments, &groups);
    }
    if env::var_os(IN_LAB).is_some() {
        return run(&one_by_one(arguments), &groups);
    }
    let in_labs = lab_plans(&groups, Arch::host(), Extent::asked());
    let (mut here, mut guests) = (Vec::new(), Vec::new());
    for group in groups {
        match &group.place {
            Place::Linux(_) if host::unfit().is_some() => {}
            Place::Kvm if host::without_kvm().is_some() => {}
            Place::Linux(_) => guests.push(group),
            _ => here.push(group),
        }
    }
    // Labs build nothing.
    guest::minivmm();
    let mut passed = run(&arguments, &here) == ExitCode::SUCCESS;
    if plan.is_none() {
        let images = in_labs.iter().flat_map(|plan| plan.images.clone()).collect::<Vec<_>>();
        let images = images.iter().filter_map(|name| Kind::named(name)).chain(images_of(&guests));
        if let Err(error) = build(images) {
            eprintln!("there is no guest image: {error}");
            return ExitCode::FAILURE;
        }
        if !guests.is_empty() {
            passed &= run(&one_by_one(arguments), &guests) == ExitCode::SUCCESS;
        }
        passed &= host::run_in_labs(&in_labs, LIMIT);
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A guest takes a whole CPU of an emulated lab, and its devices another.
fn one_by_one(mut arguments: Arguments) -> Arguments {
    arguments.test_threads = arguments.test_threads.or(Some(1));
    arguments
}

/// Leaves those tests in `groups` that the command line and the environment ask for.
fn choose(groups: &mut [Group], arguments: &Arguments) {
    let chosen = env::var(CHOSEN).ok();
    let in_lab = env::var_os(IN_LAB).is_some();
    for group in groups {
        if in_lab && group.place == Place::OutsideOfLabs {
            if chosen.is_none() {
                eprintln!("The tests {} run outside of labs.", group.name);
            }
            group.tests.clear();
        }
        group.tests.retain(|test| {
            let name = format!("{}::{}", group.name, test.name);
            let is_chosen = match &chosen {
                Some(chosen) => chosen.split(',').any(|chosen| chosen == name),
                None => test.extent <= Extent::asked(),
            };
            is_chosen
                && test.arch.is_none_or(|arch| arch == Arch::host().name)
                && !arguments.is_filtered_out(&Trial::test(name, || Ok(())))
        });
    }
}

/// The labs that tests of `groups` need on this host, when their guests are of `arch`; those that take long first.
fn lab_plans(groups: &[Group], arch: &Arch, extent: Extent) -> Vec<LabPlan> {
    let is_foreign = arch.name != Arch::host().name;
    let is_wanted = |test: &&Test| test.arch.is_none_or(|only| only == arch.name) && test.extent <= extent;
    let mut long = Vec::new();
    let mut short: Vec<LabPlan> = Vec::new();
    for Group { name, place, tests } in groups {
        let (in_lab, kinds) = match place {
            Place::Anywhere => (is_foreign, &[][..]),
            Place::OutsideOfLabs => (false, &[][..]),
            Place::Kvm => (is_foreign || host::without_kvm().is_some(), &[][..]),
            Place::Linux(kinds) => (is_foreign || host::unfit().is_some(), &kinds[..]),
        };
        if !in_lab {
            continue;
        }
        let images: Vec<String> = kinds.iter().map(|kind| kind.name()).collect();
        for test in tests.iter().filter(is_wanted) {
            let name = format!("{name}::{}", test.name);
            if test.has_own_lab {
                long.push(LabPlan { images: images.clone(), tests: vec![name] });
                continue;
            }
            // A test that boots no image shares a lab with those of the image that is always built.
            let is_common = |images: &[String]| images.iter().all(|image| *image == Kind::DEFAULT.name());
            let has_room = |plan: &&mut LabPlan| {
                (plan.images == images || is_common(&plan.images) && is_common(&images))
                    && plan.tests.len() < TOGETHER
            };
            match short.iter_mut().rev().find(has_room) {
                Some(plan) => {
                    if plan.images.is_empty() {
                        plan.images.clone_from(&images);
                    }
                    plan.tests.push(name);
                }
                None => short.push(LabPlan { images: images.clone(), tests: vec![name] }),
            }
        }
    }
    long.extend(short);
    long
}

fn images_of(groups: &[Group]) -> impl Iterator<Item = Kind> {
    let kinds = |group: &'_ Group| match &group.place {
        Place::Linux(kinds) => kinds.clone(),
        _ => Vec::new(),
    };
    groups.iter().filter(|group| !group.tests.is_empty()).flat_map(kinds)
}

/// Builds the images, each once.
fn build(images: impl Iterator<Item = Kind>) -> Result<(), guest_images::Error> {
    let mut built = Vec::new();
    for kind in images {
        if !built.contains(&kind) {
            guest_images::build(Arch::host(), kind)?;
            built.push(kind);
        }
    }
    Ok(())
}

/// Runs the tests of `groups`. In a lab that is to run some of them these alone, and none after one that failed: it may be the
/// lab that has.
fn run(arguments: &Arguments, groups: &[Group]) -> ExitCode {
    let stop_at_failure = env::var_os(CHOSEN).is_some();
    let failed = Arc::new(AtomicBool::new(false));
    let trial = |group: &Group, test: &Test| {
        let (name, run, failed) =
            (format!("{}::{}", group.name, test.name), test.run.clone(), failed.clone());
        Trial::test(name.clone(), move || {
            if failed.load(Ordering::Relaxed) {
                return Err("not run: one before it failed in this lab".into());
            }
            // Until it has ended well; a panic unwinds past what follows.
            failed.store(stop_at_failure, Ordering::Relaxed);
            let start = Instant::now();
            let ended = within_limit(&name);
            run();
            drop(ended);
            failed.store(false, Ordering::Relaxed);
            println!("{TOOK}{:.1} s: {name}", start.elapsed().as_secs_f64());
            if let Some(file) = env::var_os(PASSED) {
                let file = OpenOptions::new().append(true).create(true).open(file);
                file.and_then(|mut file| writeln!(file, "{name}")).map_err(|error| error.to_string())?;
            }
            Ok(())
        })
    };
    let trials = groups.iter().flat_map(|group| group.tests.iter().map(|test| trial(group, test))).collect();
    libtest_mimic::run(arguments, trials).exit_code()
}

/// Ends this program if the test `name` hangs in a lab: until the result is dropped, it has [`TEST_LIMIT`].
fn within_limit(name: &str) -> mpsc::Sender<()> {
    let (ended, hangs) = mpsc::channel();
    if env::var_os(IN_LAB).is_some() && Extent::asked() != Extent::Thorough {
        let name = name.to_owned();
        thread::spawn(move || {
            if hangs.recv_timeout(TEST_LIMIT) == Err(RecvTimeoutError::Timeout) {
                println!("{name} panicked at its time limit of {} s", TEST_LIMIT.as_secs());
                process::exit(101);
            }
        });
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_is_written() {
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let plan = LabPlan { images: list(&["default", "64k"]), tests: list(&["a::b", "c::d"]) };
        assert_eq!(plan.to_string().parse(), Ok(plan.clone()));
        let bare = LabPlan { images: Vec::new(), ..plan };
        assert_eq!(bare.to_string().parse(), Ok(bare));
        assert!("a::b: test".parse::<LabPlan>().is_err());
    }

    #[test]
    fn times_are_read_as_they_are_printed() {
        let took = Some(("a::b", Duration::from_millis(1500)));
        assert_eq!((time("took 1.5 s: a::b"), time("test a::b ... took 1.5 s: a::b")), (took, took));
        assert_eq!(time("test a::b ... ok"), None);
    }

    #[test]
    fn long_tests_have_labs_of_their_own_and_come_first() {
        let test = |name: &str| Test::new(name, || ());
        let foreign = Arch::ALL.into_iter().find(|arch| arch.name != Arch::host().name).unwrap();
        let group = |name, place, tests| Group { name, place, tests };
        let groups = [
            group("a", Place::Anywhere, vec![test("b")]),
            group("c", Place::OutsideOfLabs, vec![test("d")]),
            group("k", Place::Linux(vec![Kind::Debian]), vec![test("l")]),
            group(
                "e",
                Place::Linux(vec![Kind::DEFAULT]),
                vec![
                    test("f").only_on(Arch::host()),
                    test("g"),
                    test("h").in_its_own_lab(),
                    test("i").the_same_everywhere(),
                    test("j").only_if_thorough(),
                ],
            ),
        ];
        let plans = |extent| -> Vec<String> {
            lab_plans(&groups, foreign, extent).iter().map(ToString::to_string).collect()
        };
        assert_eq!(plans(Extent::Brief), ["lab default;e::h", "lab default;a::b,e::g", "lab debian;k::l"]);
        assert_eq!(plans(Extent::Usual)[1], "lab default;a::b,e::g,e::i");
        assert_eq!(plans(Extent::Thorough)[1], "lab default;a::b,e::g,e::i,e::j");
    }
}
