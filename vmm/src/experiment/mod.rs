//! `minivmm experiment`: runs guests with faults on purpose, judges how their driver took them, and leaves a report.
//!
//! An [`Experiment`] is a file; each of its [`Case`]s a run ([`run`]) of a minivmm of its own, whose [`Evidence`] is judged
//! ([`judge`]). A run leaves its folder with all there is of it.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use clap::{Args, Subcommand};
use cma::size;
use devices::faults::{Plan, Rule};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

pub mod file;
pub mod judge;
pub mod minimise;
pub mod results;
pub mod run;

use file::{Case, Experiment, FileError};
use judge::judge;
use results::{Done, Summary};
use run::Evidence;

use crate::doctor::{self, KvmError};

/// What there is of a finished run in its folder, for a later call that goes on.
const DONE: &str = "done.json";

/// What `minivmm experiment` is told.
#[derive(Debug, Args)]
pub struct ExperimentArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run experiments, and leave report.json, junit.xml and index.html
    #[command(after_help = file::HELP)]
    Run(RunArgs),
    /// List the runs of experiments
    List {
        /// Experiments
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Experiments
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder for all that they leave
    #[arg(long, value_name = "DIR", default_value = "experiment-results")]
    out: PathBuf,
    /// Most guests at a time [default: as many as there are CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    jobs: Option<u32>,
    /// Most memory of all guests that run at a time, with M or G [default: half of what is available]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    memory_limit: Option<u64>,
    /// Take this value of the matrix alone, may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Run this in the guest before each workload: for another driver, say
    #[arg(long, value_name = "CMD")]
    before: Option<String>,
    /// Go on where an earlier call was ended: runs that are done and have not changed are not run again
    #[arg(long)]
    resume: bool,
    /// Look for the smallest plan that shows the same failure, for each run that fails; leaves minimal.toml
    #[arg(long)]
    minimise: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has no '='; write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Why experiments were not run to their end.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// No experiment.
    #[error(transparent)]
    File(#[from] FileError),
    /// No machine.
    #[error("the machine of {}, {case}, cannot be: {reason}", path.display())]
    Machine {
        /// The experiment's file.
        path: PathBuf,
        /// The run.
        case: String,
        /// Why.
        reason: String,
    },
    /// Two of the same name.
    #[error("{} and {} are both called '{name}'; give each experiment a name of its own", first.display(), second.display())]
    Twice {
        /// The name.
        name: String,
        /// A file.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// No such matrix.
    #[error(
        "no experiment has '{0}' in its matrix; leave --set {0}=... out, or name the experiment that has it"
    )]
    Set(String),
    /// This host runs no guests.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The results' folder.
    #[error("the results cannot be written to {}: {source}; name another folder with --out", path.display())]
    Results {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ExperimentError {
    /// 2 for a bad request, 1 for a host that cannot.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Kvm(_) => 1,
            Self::File(_)
            | Self::Machine { .. }
            | Self::Twice { .. }
            | Self::Set(_)
            | Self::Results { .. } => 2,
        }
    }
}

/// A run that is to be made.
struct Todo<'a> {
    experiment: &'a Experiment,
    case: Case,
    /// Of its guest.
    memory: u64,
    /// Its folder's name below that of the results.
    folder: String,
    fingerprint: String,
}

/// Does what `args` says. `memory_of` is the memory of a machine with some options, or why there is no such machine.
///
/// # Errors
/// If an experiment is none, or the host runs no guests. A run that is not as it is to be is no error, but no success.
pub fn main(
    args: ExperimentArgs,
    memory_of: impl Fn(&[String]) -> Result<u64, String>,
) -> Result<ExitCode, ExperimentError> {
    match args.what {
        What::Run(args) => {
            let mut experiments = open(&args.files)?;
            for (name, value) in &args.set {
                let mut matrices = experiments.iter_mut().flat_map(|experiment| &mut experiment.matrix);
                let chosen = matrices.by_ref().filter(|(known, _)| known == name);
                if chosen.map(|(_, values)| *values = vec![value.clone()]).count() == 0 {
                    return Err(ExperimentError::Set(name.clone()));
                }
            }
            if let Some(before) = &args.before {
                experiments.iter_mut().for_each(|experiment| {
                    experiment.workload = format!("{before}\n{}", experiment.workload);
                });
            }
            let todo = todo(&experiments, memory_of)?;
            doctor::check_fit(&doctor::open_kvm()?)?;
            run_all(todo, &args)
        }
        What::List { files } => {
            for experiment in open(&files)? {
                println!("{} ({})", experiment.name, experiment.path.display());
                experiment.cases().iter().for_each(|case| println!("  {}", case.name));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn open(files: &[PathBuf]) -> Result<Vec<Experiment>, ExperimentError> {
    let experiments: Vec<_> = files.iter().cloned().map(Experiment::open).collect::<Result<_, _>>()?;
    let mut names = BTreeMap::new();
    for Experiment { name, path, .. } in &experiments {
        if let Some(first) = names.insert(slug(name), path) {
            let (first, second) = (first.clone(), path.clone());
            return Err(ExperimentError::Twice { name: name.clone(), first, second });
        }
    }
    Ok(experiments)
}

fn todo(
    experiments: &[Experiment],
    memory_of: impl Fn(&[String]) -> Result<u64, String>,
) -> Result<Vec<Todo<'_>>, ExperimentError> {
    let mut todo = Vec::new();
    for experiment in experiments {
        for case in experiment.cases() {
            let memory = memory_of(&case.machine).map_err(|reason| ExperimentError::Machine {
                path: experiment.path.clone(),
                case: case.name.clone(),
                reason,
            })?;
            let folder = format!("{}/{}", slug(&experiment.name), slug(&case.name));
            let fingerprint = fingerprint(experiment, &case);
            todo.push(Todo { experiment, case, memory, folder, fingerprint });
        }
    }
    Ok(todo)
}

/// As the name of a file: never empty, and none of those with a meaning, `.` and `..`.
fn slug(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "=,_".contains(c) { c } else { '-' };
    let kept = name.chars().map(kept).collect::<String>();
    if kept.is_empty() { "-".to_owned() } else { kept }
}

/// Of all that a run depends on, but for the guest's image and the host.
fn fingerprint(experiment: &Experiment, case: &Case) -> String {
    let Experiment { rules, expect, timeout, .. } = experiment;
    let all = format!(
        "{} {case:?} {} {expect:?} {timeout}",
        env!("CARGO_PKG_VERSION"),
        Plan::of(rules.clone()).text
    );
    Sha256::digest(all).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn run_all(todo: Vec<Todo<'_>>, args: &RunArgs) -> Result<ExitCode, ExperimentError> {
    let error = |source| ExperimentError::Results { path: args.out.clone(), source };
    fs::create_dir_all(&args.out).map_err(error)?;
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(cpus, |jobs| jobs as usize).min(todo.len()).max(1);
    let limit = args.memory_limit.unwrap_or_else(|| available() / 2);
    let count = todo.len();
    let bar = ProgressBar::new(count as u64);
    // The template is a constant; were it wrong, the default is shown.
    if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    let queue =
        Mutex::new(Queue { todo: todo.into_iter().enumerate().collect(), memory: 0, done: Vec::new() });
    let changed = Condvar::new();
    let worker = || -> io::Result<()> {
        while let Some((index, todo)) = next(&queue, &changed, limit) {
            let done = do_one(&todo, args);
            let mut queue = lock(&queue);
            queue.memory -= todo.memory;
            changed.notify_all();
            let done = done?;
            tell(&bar, &done);
            queue.done.push((index, done));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
    .map_err(error)?;
    bar.finish_and_clear();
    let mut done = queue.into_inner().unwrap_or_else(PoisonError::into_inner).done;
    done.sort_by_key(|(index, _)| *index);
    let summary = Summary::new(done.into_iter().map(|(_, done)| done).collect());
    summary.write(&args.out).map_err(error)?;
    println!(
        "{} runs, {} passed, {} failed; see {}",
        summary.runs.len(),
        summary.passed,
        summary.failed,
        args.out.join("index.html").display()
    );
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What there is to do, and what is done.
struct Queue<'a> {
    todo: VecDeque<(usize, Todo<'a>)>,
    /// Of the guests that run.
    memory: u64,
    done: Vec<(usize, Done)>,
}

fn lock<'a, 'b>(queue: &'a Mutex<Queue<'b>>) -> MutexGuard<'a, Queue<'b>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next run, as soon as there is memory for its guest; one that alone needs more than there is runs alone.
fn next<'a>(queue: &Mutex<Queue<'a>>, changed: &Condvar, limit: u64) -> Option<(usize, Todo<'a>)> {
    let mut queue = lock(queue);
    loop {
        let memory = queue.todo.front()?.1.memory;
        if queue.memory == 0 || queue.memory + memory <= limit {
            queue.memory += memory;
            return queue.todo.pop_front();
        }
        queue = changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

/// What the kernel thinks that can be had without swapping.
fn available() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn tell(bar: &ProgressBar, done: &Done) {
    let word = if done.verdict.passed() { "ok    " } else { "FAILED" };
    bar.suspend(|| {
        println!("{word} {} [{}] {} faults, {:.1} s", done.experiment, done.case, done.firings, done.seconds);
        for complaint in &done.verdict.complaints {
            println!("       {}: {}", complaint.expectation, complaint.text);
        }
    });
    bar.inc(1);
}

/// Makes a run, unless that is done already, and judges it.
fn do_one(todo: &Todo<'_>, args: &RunArgs) -> io::Result<Done> {
    let Todo { experiment, case, .. } = todo;
    let folder = args.out.join(&todo.folder);
    let file = folder.join(DONE);
    if args.resume
        && let Ok(Ok(done)) = fs::read(&file).map(|json| serde_json::from_slice::<Done>(&json))
        && done.fingerprint == todo.fingerprint
    {
        return Ok(done);
    }
    let evidence = run::run(experiment, case, &experiment.plan(), &folder)?;
    let verdict = judge(&experiment.expect, &evidence);
    let minimal = match verdict.complaints.first() {
        Some(complaint) if args.minimise && !experiment.rules.is_empty() => {
            Some(smallest(experiment, case, &complaint.expectation, &folder)?)
        }
        _ => None,
    };
    if let Some(minimal) = &minimal {
        fs::write(folder.join("minimal.toml"), &minimal.text)?;
    }
    let Evidence { seconds, .. } = evidence;
    let done = Done {
        experiment: experiment.name.clone(),
        case: case.name.clone(),
        folder: todo.folder.clone(),
        fingerprint: todo.fingerprint.clone(),
        seed: case.seed,
        seconds,
        firings: evidence.firings().len(),
        pictures: results::pictures(experiment, &evidence, &folder),
        minimised: minimal.is_some(),
        verdict,
    };
    fs::write(file, serde_json::to_vec(&done)?)?;
    Ok(done)
}

/// The smallest plan with which a run still fails by `expectation`.
fn smallest(experiment: &Experiment, case: &Case, expectation: &str, folder: &Path) -> io::Result<Plan> {
    let mut failure = None;
    let rules = minimise::minimise(&experiment.rules, |rules: &[Rule]| {
        let mut expect = experiment.expect.clone();
        // A rule that is left out cannot fire, and one that may fire less often need not.
        expect.fired.clear();
        match run::run(experiment, case, &Plan::of(rules.to_vec()), &folder.join("minimising")) {
            Ok(evidence) => judge(&expect, &evidence)
                .complaints
                .iter()
                .any(|complaint| complaint.expectation == expectation),
            Err(error) => {
                failure.get_or_insert(error);
                false
            }
        }
    });
    failure.map_or(Ok(Plan::of(rules)), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(memories: &[u64], experiment: &'static Experiment) -> Mutex<Queue<'static>> {
        let todo = memories.iter().map(|&memory| Todo {
            experiment,
            case: experiment.cases().remove(0),
            memory,
            folder: String::new(),
            fingerprint: String::new(),
        });
        Mutex::new(Queue { todo: todo.enumerate().collect(), memory: 0, done: Vec::new() })
    }

    fn experiment() -> &'static Experiment {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "name = \"a/b c\"\nmachine = \"--cma 16M\"\nworkload = \"true\"\n").unwrap();
        Box::leak(Box::new(Experiment::open(file.path().to_owned()).unwrap()))
    }

    #[test]
    fn guests_share_the_memory_and_a_large_one_runs_alone() {
        let (queue, changed) = (queue(&[40, 50, 200], experiment()), Condvar::new());
        assert_eq!(next(&queue, &changed, 100).unwrap().0, 0);
        assert_eq!(next(&queue, &changed, 100).unwrap().0, 1);
        thread::scope(|scope| {
            let third = scope.spawn(|| next(&queue, &changed, 100).unwrap().0);
            thread::sleep(std::time::Duration::from_millis(50));
            assert_eq!(lock(&queue).todo.len(), 1, "it waits");
            lock(&queue).memory = 0;
            changed.notify_all();
            assert_eq!(third.join().unwrap(), 2);
        });
        assert!(next(&queue, &changed, 100).is_none());
    }

    #[test]
    fn names_become_folders() {
        let todo = todo(std::slice::from_ref(experiment()), |_| Ok(1)).unwrap();
        assert_eq!(todo[0].folder, "a-b-c/seed=1");
        assert_eq!(["../x", ".", ".."].map(slug), ["---x", "-", "--"]);
    }
}
