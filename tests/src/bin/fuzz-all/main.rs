//! `cargo fuzz-all`: builds the fuzz targets of tests/fuzz and runs them, as many at a time as there are CPUs.

mod run;
mod table;
mod targets;

use std::{
    collections::VecDeque,
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
};

use clap::Parser;
use guest_images::cache::cache_dir;

use run::{Extent, Outcome};
use targets::{Build, Target};

/// Builds and runs the fuzz targets.
///
/// Each target runs on the seeds that it makes, on those in tests/fuzz/seeds, and on its corpus, to which its new inputs go. The end is a
/// table. If a target has a finding, the exit status is 1, and the command that repeats the finding is printed.
#[derive(Parser)]
#[command(name = "cargo fuzz-all", version)]
struct Arguments {
    /// How long each target runs [default: 60, or 0 with --runs]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// The least number of inputs of each target: it goes on after --seconds until it has run them
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Run this target; may be repeated [default: all]
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// The folder for the corpora and findings [default: the folder fuzz in the user's cache]
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// The number of targets that run at a time [default: the number of CPUs]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Remove the inputs of the corpora that reach nothing new, instead of a run
    #[arg(long, conflicts_with_all = ["seconds", "runs"])]
    minimise: bool,
}

fn main() -> ExitCode {
    match fuzz(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether no target has a finding.
fn fuzz(arguments: &Arguments) -> Result<bool, String> {
    let targets = targets::chosen(&arguments.target)?;
    let build = Build::new(&targets)?;
    let folder = match &arguments.corpus {
        Some(folder) => folder.clone(),
        None => cache_dir().map_err(|error| error.to_string())?.join("fuzz"),
    };
    let default = if arguments.runs.is_some() { 0 } else { 60 };
    let run = Extent::Run {
        seconds: arguments.seconds.unwrap_or(default),
        runs: arguments.runs.unwrap_or_default(),
    };
    let extent = if arguments.minimise { Extent::Minimise } else { run };
    let jobs = arguments.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let queue: Mutex<VecDeque<Target>> = Mutex::new(targets.into());
    let outcomes: Mutex<Vec<Outcome>> = Mutex::default();
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let outcome = run::run(&build, &target, &folder, extent);
                    table::progress(&outcome);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by(|a, b| a.target.cmp(&b.target));
    println!("{}", table::Table(&outcomes));
    Ok(outcomes.iter().all(|outcome| outcome.finding.is_none()))
}
