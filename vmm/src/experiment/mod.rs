//! `minivmm experiment`: tests guests' drivers by fault injection, judges the results, and writes a report.
//!
//! An [`Experiment`] is a file. Each of its [`Case`]s is a [`run`] of a minivmm of its own, and [`mod@judge`] compares the evidence
//! with the expectations. Each run leaves a folder with its files.

use std::{
    collections::{BTreeMap, VecDeque},
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::SystemTime,
};

use clap::{Args, Subcommand};
use cma::size;
use devices::faults::{Plan, Rule};
use indicatif::{ProgressBar, ProgressStyle};
use libc::SIGINT;
use sha2::{Digest, Sha256};

pub mod expect;
pub mod file;
pub mod judge;
pub mod minimise;
pub mod results;
pub mod run;
mod values;

use file::{Case, Experiment, FileError};
use judge::{Verdict, judge};
use results::{Done, Fault, Summary};

use crate::{
    lab::{self, Host, HostError, Place},
    machine::{kvm::open_kvm, signals},
    observe::{exit_status::Reason, log::Format, words::counted},
};

/// The file in a run's folder that says that the run is finished, for `--resume`.
const DONE: &str = "done.json";

/// The arguments of `minivmm experiment`.
#[derive(Debug, Args)]
pub struct ExperimentArgs {
    #[command(subcommand)]
    command: ExperimentCommand,
}

#[derive(Debug, Subcommand)]
enum ExperimentCommand {
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
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "experiment-results")]
    out: PathBuf,
    #[arg(long, value_name = "WHERE", value_enum, default_value_t, hide_possible_values = true, help = lab::HELP)]
    host: Host,
    /// Most guests at a time [default: the number of CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    jobs: Option<u32>,
    /// Most memory of the guests that run at a time, with M or G [default: half of the available memory]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    memory_limit: Option<u64>,
    /// Use only this value of a choice of the matrix; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Run this command in the guest before each workload, for example to load another driver
    #[arg(long, value_name = "CMD")]
    before: Option<String>,
    /// Continue an earlier call: skip runs that are finished and unchanged
    #[arg(long)]
    resume: bool,
    /// For each failed run, find the smallest plan with the same failure, and write it to minimal.toml
    #[arg(long)]
    minimise: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("\"{text}\" has no '='; write it as NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Why the experiments were not run.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// A file is not an experiment.
    #[error(transparent)]
    File(#[from] FileError),
    /// The options of a machine are wrong.
    #[error("the machine of {}, {case}, is wrong: {reason}", path.display())]
    Machine {
        /// The experiment's file.
        path: PathBuf,
        /// The run.
        case: String,
        /// Why.
        reason: String,
    },
    /// Two experiments have one name.
    #[error("{} and {} are both named '{name}'; give each experiment a name of its own", first.display(), second.display())]
    Twice {
        /// The name.
        name: String,
        /// A file.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// `--set` names no entry of a matrix.
    #[error("no experiment has '{0}' in its matrix; omit --set {0}=..., or add the experiment that has it")]
    Set(String),
    /// Two runs would have one folder.
    #[error(
        "the runs {first} and {second} of {} have the same folder, {folder}; use values that differ in their first letters and \
         digits",
        path.display()
    )]
    Same {
        /// The experiment's file.
        path: PathBuf,
        /// The folder, below that of the results.
        folder: String,
        /// The first run.
        first: String,
        /// Another.
        second: String,
    },
    /// Signals cannot be handled.
    #[error("the host refused signal handlers: {0}")]
    Signals(io::Error),
    /// Guests run neither on this host nor in the lab.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The folder for the results cannot be written to.
    #[error("the results cannot be written to {}: {source}; choose a writable folder for --out", path.display())]
    Results {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ExperimentError {
    /// The reason for minivmm's exit status.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Host(error) => error.reason(),
            Self::Signals(_) => Reason::Failed,
            Self::File(_)
            | Self::Machine { .. }
            | Self::Twice { .. }
            | Self::Set(_)
            | Self::Same { .. }
            | Self::Results { .. } => Reason::BadRequest,
        }
    }
}

/// Facts about a machine before it runs.
#[derive(Debug)]
pub struct Machine {
    /// Guest memory in bytes.
    pub memory: u64,
    /// The guest's kernel and initramfs, and the files that are added to it.
    pub files: Vec<PathBuf>,
}

/// A planned run.
struct Todo<'a> {
    experiment: &'a Experiment,
    case: &'a Case,
    /// Guest memory in bytes.
    memory: u64,
    /// Its folder, below that of the results.
    folder: String,
    fingerprint: String,
}

/// Runs or lists experiments. `machine_of` describes the machine of some options, or says what is wrong with them.
///
/// # Errors
/// If a file is not an experiment, or the host cannot run guests. A failed expectation is not an error, but the exit status is
/// nonzero.
pub fn main(
    args: ExperimentArgs,
    machine_of: impl Fn(&[String]) -> Result<Machine, String>,
) -> Result<ExitCode, ExperimentError> {
    match args.command {
        ExperimentCommand::Run(args) => {
            let mut experiments = open(&args.files, &args.set)?;
            let is_unknown =
                |name: &String| experiments.iter().all(|experiment| !experiment.matrix.contains(name));
            if let Some((name, _)) = args.set.iter().find(|(name, _)| is_unknown(name)) {
                return Err(ExperimentError::Set(name.clone()));
            }
            if let Some(before) = &args.before {
                for case in experiments.iter_mut().flat_map(|experiment| &mut experiment.cases) {
                    case.workload = format!("{before}\n{}", case.workload);
                }
            }
            let todo = todo(&experiments, machine_of)?;
            if let Place::Lab(reason) = lab::place(args.host, open_kvm(), true)? {
                // Half of the lab's memory is for guests at a time.
                let largest = todo.iter().map(|todo| todo.memory).max().unwrap_or(0);
                return Ok(ExitCode::from(lab::run_in_lab(
                    &reason,
                    largest.saturating_mul(2),
                    Format::Text,
                )?));
            }
            let stop = signals::ended().map_err(ExperimentError::Signals)?;
            run_all(todo, &args, &stop)
        }
        ExperimentCommand::List { files } => {
            for Experiment { path, name, cases, .. } in open(&files, &[])? {
                say(&format!("{name} ({})", path.display()));
                cases.iter().for_each(|case| say(&format!("  {}", case.name)));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints a line. A reader may close the pipe early.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn open(files: &[PathBuf], set: &[(String, String)]) -> Result<Vec<Experiment>, ExperimentError> {
    let open = |file: &PathBuf| Experiment::open(file.clone(), set);
    let experiments: Vec<_> = files.iter().map(open).collect::<Result<_, _>>()?;
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
    machine_of: impl Fn(&[String]) -> Result<Machine, String>,
) -> Result<Vec<Todo<'_>>, ExperimentError> {
    let minivmm = env::current_exe().ok();
    let mut todo = Vec::new();
    for experiment in experiments {
        let path = || experiment.path.clone();
        let mut folders: BTreeMap<String, &Case> = BTreeMap::new();
        for case in &experiment.cases {
            let machine = machine_of(&case.machine).map_err(|reason| ExperimentError::Machine {
                path: path(),
                case: case.name.clone(),
                reason,
            })?;
            let folder = format!("{}/{}", slug(&experiment.name), slug(&case.name));
            if let Some(first) = folders.insert(folder.clone(), case) {
                let (first, second) = (first.name.clone(), case.name.clone());
                return Err(ExperimentError::Same { path: path(), folder, first, second });
            }
            let fingerprint = fingerprint(case, machine.files.iter().chain(&minivmm));
            todo.push(Todo { experiment, case, memory: machine.memory, folder, fingerprint });
        }
    }
    Ok(todo)
}

/// `name` as the name of a folder: one that a file system takes and that stays below its parent.
fn slug(name: &str) -> String {
    const MOST: usize = 120;
    let kept = |c: char| if c.is_ascii_alphanumeric() || "=,._".contains(c) { c } else { '-' };
    let name: String = name.trim_start_matches('.').chars().take(MOST).map(kept).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// A hash of what a run depends on: the case, and the names, lengths and times of `files`. It leaves out the host, other files that
/// the machine's options name, and the content of folders.
fn fingerprint<'a>(case: &Case, files: impl Iterator<Item = &'a PathBuf>) -> String {
    let written = |path: &PathBuf| {
        let of = fs::metadata(path).ok()?;
        let since = of.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some((path.clone(), of.len(), since))
    };
    let all = format!("{case:?} {:?}", files.map(written).collect::<Vec<_>>());
    Sha256::digest(all).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn run_all(todo: Vec<Todo<'_>>, args: &RunArgs, stop: &AtomicBool) -> Result<ExitCode, ExperimentError> {
    let error = |source| ExperimentError::Results { path: args.out.clone(), source };
    fs::create_dir_all(&args.out).map_err(error)?;
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.map_or(cpus, |jobs| jobs as usize).min(todo.len()).max(1);
    let limit = args.memory_limit.unwrap_or_else(|| available() / 2);
    let count = todo.len();
    let bar = ProgressBar::new(count as u64);
    // The template is a constant. If it were wrong, the default would be shown.
    if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    let queue =
        Mutex::new(Queue { todo: todo.into_iter().enumerate().collect(), memory: 0, done: Vec::new() });
    let changed = Condvar::new();
    let failed = AtomicBool::new(false);
    let worker = || -> io::Result<()> {
        // A worker that cannot write its results ends the others, too.
        while !failed.load(Ordering::Relaxed)
            && let Some((index, todo)) = next(&queue, &changed, limit, stop)
        {
            let done = do_one(&todo, args, stop);
            let mut queue = lock(&queue);
            queue.memory -= todo.memory;
            changed.notify_all();
            failed.fetch_or(done.is_err(), Ordering::Relaxed);
            if let Some(done) = done? {
                tell(&bar, &done);
                queue.done.push((index, done));
            }
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
    let not_run = count - done.len();
    let summary = Summary::new(done.into_iter().map(|(_, done)| done).collect(), not_run);
    summary.write(&args.out).map_err(error)?;
    say(&format!("{}; see {}", summary.counts(), args.out.join("index.html").display()));
    if not_run > 0 {
        say("Stopped; the same command with --resume continues.");
        return Ok(ExitCode::from(u8::try_from(128 + SIGINT).unwrap_or(1)));
    }
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The planned runs and the finished runs.
struct Queue<'a> {
    todo: VecDeque<(usize, Todo<'a>)>,
    /// Memory of the guests that run, in bytes.
    memory: u64,
    done: Vec<(usize, Done)>,
}

fn lock<'a, 'b>(queue: &'a Mutex<Queue<'b>>) -> MutexGuard<'a, Queue<'b>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next run, as soon as there is memory for its guest. A guest that needs more than the limit runs alone. None after a `stop`.
fn next<'a>(
    queue: &Mutex<Queue<'a>>,
    changed: &Condvar,
    limit: u64,
    stop: &AtomicBool,
) -> Option<(usize, Todo<'a>)> {
    let mut queue = lock(queue);
    loop {
        // The workers whose guests end, also by a stop, wake those that wait for memory.
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let memory = queue.todo.front()?.1.memory;
        if queue.memory == 0 || queue.memory + memory <= limit {
            queue.memory += memory;
            return queue.todo.pop_front();
        }
        queue = changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Memory that is available without swapping, by the kernel's estimate.
fn available() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn tell(bar: &ProgressBar, done: &Done) {
    let word = if done.verdict.passed() { "ok    " } else { "FAILED" };
    bar.suspend(|| {
        say(&format!(
            "{word} {} [{}] {}, {:.1} s",
            done.experiment,
            done.case,
            counted(done.firings as u64, "fault"),
            done.seconds
        ));
        for complaint in &done.verdict.complaints {
            say(&format!("       {}: {}", complaint.expectation, complaint.text));
        }
    });
    bar.inc(1);
}

/// Makes a run and judges it, unless it is finished already. None if a `stop` came before its end.
fn do_one(todo: &Todo<'_>, args: &RunArgs, stop: &AtomicBool) -> io::Result<Option<Done>> {
    let Todo { experiment, case, .. } = todo;
    let folder = args.out.join(&todo.folder);
    let file = folder.join(DONE);
    let of_interest = |verdict: &Verdict| {
        if args.minimise { to_minimise(case, verdict).map(ToOwned::to_owned) } else { None }
    };
    if args.resume
        && let Ok(Ok(done)) = fs::read(&file).map(|json| serde_json::from_slice::<Done>(&json))
        && done.fingerprint == todo.fingerprint
        && (done.minimised || of_interest(&done.verdict).is_none())
    {
        return Ok(Some(done));
    }
    let Some(evidence) = run::run(case, &case.plan(), &folder, stop)? else { return Ok(None) };
    fs::copy(&experiment.path, folder.join(run::names::EXPERIMENT))?;
    let verdict = judge(&case.expect, &evidence);
    let mut minimised = false;
    if let Some(expectation) = of_interest(&verdict) {
        let Some(plan) = smallest(case, &expectation, &folder, stop)? else { return Ok(None) };
        fs::write(folder.join(results::MINIMAL), &plan.text)?;
        minimised = true;
    }
    let (pictures, captions) = results::pictures(case, &evidence, &folder);
    let done = Done {
        experiment: experiment.name.clone(),
        case: case.name.clone(),
        folder: todo.folder.clone(),
        fingerprint: todo.fingerprint.clone(),
        seed: case.seed,
        seconds: evidence.seconds,
        machine: case.machine.join(" "),
        workload: case.workload.clone(),
        faults: Fault::of(case, &evidence),
        firings: evidence.firings().len(),
        pictures,
        captions,
        files: results::files(&folder),
        minimised,
        verdict,
    };
    fs::write(file, serde_json::to_vec(&done)?)?;
    Ok(Some(done))
}

/// The expectation whose failure a smaller plan has to show. It is never `fired`, as rules that are left out cannot fire.
fn to_minimise<'a>(case: &Case, verdict: &'a Verdict) -> Option<&'a str> {
    let mut names = verdict.complaints.iter().map(|complaint| complaint.expectation.as_str());
    names.find(|name| *name != "fired" && !case.rules.is_empty())
}

/// The smallest plan with which a run still fails `expectation`. None after a `stop`.
fn smallest(case: &Case, expectation: &str, folder: &Path, stop: &AtomicBool) -> io::Result<Option<Plan>> {
    let mut expect = case.expect.clone();
    // Rules that are left out cannot fire, and the others may fire less often.
    expect.fired.clear();
    let tries = folder.join("minimising");
    let mut failure = None;
    let rules = minimise::minimise(&case.rules, |rules: &[Rule]| {
        if failure.is_some() || stop.load(Ordering::Relaxed) {
            return false;
        }
        match run::run(case, &Plan::of(rules.to_vec()), &tries, stop) {
            Ok(evidence) => evidence.is_some_and(|evidence| {
                let verdict = judge(&expect, &evidence);
                verdict.complaints.iter().any(|complaint| complaint.expectation == expectation)
            }),
            Err(error) => {
                failure = Some(error);
                false
            }
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    if tries.exists() {
        fs::remove_dir_all(tries)?;
    }
    Ok(if stop.load(Ordering::Relaxed) { None } else { Some(Plan::of(rules)) })
}

#[cfg(test)]
mod tests;
