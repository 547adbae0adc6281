//! The experiments in tests/experiments: our driver passes all of them, and they find each deliberate bug of
//! guest-images/driver/buggy.c.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use devices::faults::{Plan, Rule};
use guest_images::Kind;
use rustix::process::Signal;
use tests::{
    guest,
    harness::{Extent, Group, Place, Test},
    tests,
};
use vmm::{
    boot::tree_faults::fault_tables,
    experiment::{
        self,
        expect::Expect,
        file::{Case, Experiment},
        judge::judge,
        results::Summary,
        run::Evidence,
    },
    observe::report::{MachineOutcome, Report},
};

/// Time limit of all of it: several times what it takes.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// The tests.
pub(crate) fn group() -> Group {
    // Our driver runs in each architecture's kernel. The runner, and the checks of the experiments themselves, are the same
    // on all.
    let passes = tests![our_driver_passes_all];
    // They test the experiments, not the program.
    let checks = tests![no_experiment_passes_without_its_fault, every_planted_bug_is_found];
    let long = passes.into_iter().chain(checks.into_iter().map(Test::only_if_thorough));
    let short = tests![
        every_action_has_an_experiment,
        a_failing_plan_is_minimised_and_runs_go_on,
        a_hang_leaves_what_there_is_of_it,
        who_stops_them_leaves_no_guest,
    ];
    let short = short.into_iter().map(Test::the_same_everywhere);
    let tests = long.map(Test::in_its_own_lab).chain(short).collect();
    Group { name: "experiments", place: Place::Linux(vec![Kind::DEFAULT]), tests }
}

/// All files of the library, by name.
fn library() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The number of experiments with a fault of the tree in brief tests.
const BRIEF_TREES: usize = 3;

/// The experiments that run in this extent. Thorough tests run all. Usual ones run those at a fault point that no earlier one has, and
/// the first without a fault: the unit tests of the devices compare what each action does, and scenarios run the allocator's cases.
/// Brief ones run some of those with a fault of the tree, which each architecture reads with its own code.
fn chosen() -> Vec<PathBuf> {
    let (mut tried, mut trees) = (BTreeSet::new(), 0);
    let mut is_chosen = |file: &PathBuf| {
        let cases = Experiment::open(file.clone(), &[]).unwrap().cases;
        let mut points: BTreeSet<Option<&str>> =
            cases.iter().flat_map(|case| &case.rules).map(|rule: &Rule| Some(rule.on)).collect();
        if points.is_empty() {
            points.insert(None);
        }
        match Extent::asked() {
            Extent::Brief => {
                let is_wanted = points.contains(&Some("tree")) && trees < BRIEF_TREES;
                trees += usize::from(is_wanted);
                is_wanted
            }
            Extent::Usual => {
                let is_first = !points.is_subset(&tried);
                tried.extend(points);
                is_first
            }
            Extent::Thorough => true,
        }
    };
    library().into_iter().filter(|file| is_chosen(file)).collect()
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments").join(name)
}

/// Runs these experiments; what was printed, and the summary that they left.
fn run(files: &[PathBuf], out: &Path, more: &[&str]) -> (Output, Summary) {
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["experiment", "run", "--out"]).arg(out).args(["--jobs", "1"]).args(more).args(files);
    let output = guest::run_within(&mut minivmm, LIMIT);
    let report = fs::read(out.join("report.json")).unwrap_or_else(|error| {
        panic!("{error}: {}{}", guest::text(&output.stdout), guest::text(&output.stderr))
    });
    (output, serde_json::from_slice(&report).unwrap())
}

fn every_action_has_an_experiment() {
    let rules = library().into_iter().flat_map(|file| {
        let experiment = Experiment::open(file, &[]).unwrap();
        experiment.cases.into_iter().filter(has_to_fire).flat_map(|case| case.rules)
    });
    let tried: Vec<Rule> = rules.collect();
    for point in fault_tables().iter().flat_map(|table| table.points) {
        for action in point.actions.iter().map(|row| row.name) {
            // Both directions of a register access share the code of an action, and an interrupt without an event is the same
            // wherever it comes from.
            let is_here = |on: &str| {
                on == point.name
                    || on.starts_with("mmio.") && point.name.starts_with("mmio.")
                    || action == "spurious"
            };
            let is_tried = tried.iter().any(|rule| is_here(rule.on) && rule.action.name() == action);
            assert!(is_tried, "there is no experiment of {action} at {}", point.name);
        }
    }
}

fn our_driver_passes_all() {
    let out = tempfile::tempdir().unwrap();
    let files = chosen();
    let (output, summary) = run(&files, out.path(), &[]);
    let said = guest::text(&output.stdout);
    println!("{said}");
    assert!(output.status.success() && summary.failed == 0 && summary.passed == files.len(), "{said}");
    for name in ["index.html", "junit.xml"] {
        let text = fs::read_to_string(out.path().join(name)).unwrap();
        for run in &summary.runs {
            assert!(text.contains(&run.experiment), "{name} has no {}", run.experiment);
        }
    }
    if Extent::asked() == Extent::Brief {
        return;
    }
    // The page shows the frames with repeated lines.
    let page = fs::read_to_string(out.path().join("index.html")).unwrap();
    let shown =
        summary.runs.iter().find(|run| run.experiment == "the checksum finds a repeated line").unwrap();
    assert!(page.contains(&format!("{}/{}", shown.folder, shown.pictures[0])), "{page}");
    assert!(out.path().join(&shown.folder).join(&shown.pictures[0]).exists());
}

/// Each experiment fails without its faults, and by the guest's evidence.
fn no_experiment_passes_without_its_fault() {
    let folder = tempfile::tempdir().unwrap();
    let mut without: Vec<(Case, PathBuf)> = Vec::new();
    let mut cases = Vec::new();
    for file in library() {
        let case = Experiment::open(file.clone(), &[]).unwrap().cases.remove(0);
        if !has_to_fire(&case) {
            continue;
        }
        // One run without faults serves all experiments with its machine and workload.
        let is_same =
            |(other, _): &(Case, _)| other.machine == case.machine && other.workload == case.workload;
        let index = without.iter().position(is_same).unwrap_or_else(|| {
            let text = fs::read_to_string(&file).unwrap();
            let path = folder.path().join(file.file_name().unwrap());
            fs::write(&path, text.split_once("[[rule]]\n").unwrap().0).unwrap();
            without.push((case.clone(), path));
            without.len() - 1
        });
        cases.push((file, case, index));
    }
    let files: Vec<PathBuf> = without.into_iter().map(|(_, path)| path).collect();
    let out = folder.path().join("results");
    let (output, summary) = run(&files, &out, &[]);
    println!("{}", guest::text(&output.stdout));
    for (file, case, index) in cases {
        let run = &summary.runs[index];
        let ended = run.verdict.complaints.iter().all(|complaint| complaint.expectation != "end");
        let expect = Expect { fired: BTreeMap::new(), ..case.expect };
        let evidence = Evidence {
            status: ended.then(ExitStatus::default),
            ..experiment::run::look(&expect, &out.join(&run.folder))
        };
        let verdict = judge(&expect, &evidence);
        assert!(!verdict.passed(), "{} passes without its fault", file.display());
        println!("{}: {}", file.display(), verdict.complaints[0].text);
    }
}

/// Whether a rule must fire: false without a plan, and with random faults.
fn has_to_fire(case: &Case) -> bool {
    case.expect.fired.values().any(|count| *count.start() > 0)
}

/// Our driver passes the experiment that finds each bug.
fn every_planted_bug_is_found() {
    for (bug, experiment, expectation) in [
        ("lost-buffer", "overflow.toml", "flagged"),
        ("short-frame", "short.toml", "flagged"),
        ("early-return", "overflow-while-pending.toml", "flagged"),
        ("no-watchdog", "drop.toml", "exit"),
        ("dma-length", "long.toml", "log"),
    ] {
        let out = tempfile::tempdir().unwrap();
        let driver =
            format!("rmmod minivmm_camera; insmod /lib/modules/minivmm-camera-buggy.ko bug={bug} || exit 77");
        let (output, summary) = run(&[file(experiment)], out.path(), &["--before", &driver]);
        let complaints = &summary.runs[0].verdict.complaints;
        assert_eq!(output.status.code(), Some(1), "{bug} was not found: {}", guest::text(&output.stdout));
        assert!(
            complaints.iter().any(|complaint| complaint.expectation == expectation),
            "{bug}: {complaints:?}"
        );
        println!("{bug}: {complaints:?}");
    }
}

fn a_failing_plan_is_minimised_and_runs_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(file("overflow.toml")).unwrap();
    // One rule more, and an expectation that fails by the other.
    let more =
        "[[rule]]\nname = \"other\"\non = \"irq\"\naction = \"lose\"\nwhen = { every = 4 }\n\n[expect]\n";
    let text = text.replace("[expect]\n", more).replace("flagged = 1", "flagged = 0");
    let path = folder.path().join("failing.toml");
    fs::write(&path, text).unwrap();
    let out = folder.path().join("results");
    let (_, summary) = run(std::slice::from_ref(&path), &out, &["--minimise"]);
    let run_folder = out.join(&summary.runs[0].folder);
    assert!(summary.failed == 1 && summary.runs[0].minimised, "{summary:?}");
    let minimal =
        Plan::read(&fs::read_to_string(run_folder.join("minimal.toml")).unwrap(), &fault_tables()).unwrap();
    assert_eq!(minimal.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["overflow"]);
    assert_eq!(minimal.rules[0].times, Some(1));

    // What is done is not run again: its folder stays as it is.
    fs::write(run_folder.join("mark"), "").unwrap();
    let (_, again) = run(std::slice::from_ref(&path), &out, &["--resume"]);
    assert!(run_folder.join("mark").exists() && again.failed == 1);
}

/// An experiment in `folder` of a workload, with a matrix.
fn experiment(folder: &Path, workload: &str, more: &str) -> PathBuf {
    let path = folder.join("experiment.toml");
    let text = format!(
        "name = \"e\"\nmachine = \"--cma 16M --camera timing=stall\"\nworkload = \"{workload}\"\n{more}"
    );
    fs::write(&path, text).unwrap();
    path
}

fn a_hang_leaves_what_there_is_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let rule =
        "timeout = 10\n[[rule]]\nname = \"lose\"\non = \"irq\"\naction = \"lose\"\nwhen = { nth = 2 }\n";
    let path = experiment(folder.path(), "v4l2-ctl --stream-mmap --stream-count=4; sleep 100", rule);
    let out = folder.path().join("results");
    let (output, summary) = run(&[path], &out, &[]);
    assert_eq!(output.status.code(), Some(1));
    let run = &summary.runs[0];
    let names: Vec<_> =
        run.verdict.complaints.iter().map(|complaint| complaint.expectation.as_str()).collect();
    assert!(names == ["end"] && run.firings == 1, "{summary:?}");
    assert!(
        run.files.contains(&"trace.jsonl".to_owned()) && run.files.contains(&"plan.toml".to_owned()),
        "{run:?}"
    );
}

fn who_stops_them_leaves_no_guest() {
    let folder = tempfile::tempdir().unwrap();
    let path = experiment(folder.path(), "sleep {seconds}", "[matrix]\nseconds = [0, 1000]\n");
    let out = folder.path().join("results");
    let mut minivmm = Command::new(guest::minivmm());
    minivmm.args(["experiment", "run", "--jobs", "1", "--out"]).arg(&out).arg(&path);
    let mut minivmm = guest::spawn(minivmm.stdout(Stdio::piped()));
    let mut said = BufReader::new(minivmm.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("ok     e [seconds=0,seed=1] 0 faults, "), "{line}");
    // The second one's guest has begun when there is its console.
    let console = out.join("e/seconds=1000,seed=1/console.log");
    let start = Instant::now();
    while fs::metadata(&console).map_or(0, |file| file.len()) == 0 {
        assert!(start.elapsed() < LIMIT, "{}", console.display());
        thread::sleep(Duration::from_millis(50));
    }
    guest::kill(minivmm.id(), Signal::INT);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(minivmm.wait().unwrap().code(), Some(130), "{rest}");
    assert!(
        rest.contains("2 runs, 1 passed, 0 failed, 1 not run; see ") && rest.contains("--resume"),
        "{rest}"
    );
    // It ended in order, and before the other did.
    let report = fs::read(console.with_file_name("report.json")).unwrap();
    let report: Report = serde_json::from_slice(&report).unwrap();
    assert!(matches!(report.outcome, MachineOutcome::Signal { .. }), "{report:?}");
    assert!(!console.with_file_name("done.json").exists());
}
