//! A run of a target: libFuzzer's options, and what it prints.

use std::{
    collections::VecDeque,
    fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tests::programs::end_with_us;

use super::targets::{Build, CRATE, Target};

/// The longest time that an input may take, in seconds.
const TIMEOUT: u32 = 25;
/// The most memory that a target may have, in MiB. Each has its own limit of its heap, which is smaller.
const MEMORY: u32 = 1024;
/// The number of the last lines that are shown of a target with a finding.
const SHOWN: usize = 40;
/// The beginning of the warnings about the absent sanitizer.
const NOISE: &str = "WARNING: Failed to find function";
/// Where a target writes its seeds and words (`SEEDS` in tests/fuzz/src/lib.rs).
const SEEDS: &str = "MINIVMM_FUZZ_SEEDS";

/// How long a target runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent {
    /// For this time, and then until it has run this number of inputs.
    Run { seconds: u64, runs: u64 },
    /// Not at all: its corpus is minimised.
    Minimise,
}

/// How a target ran.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) target: Target,
    /// The number of inputs that it ran.
    pub(crate) runs: u64,
    pub(crate) took: Duration,
    /// The number of edges that it reached.
    pub(crate) edges: u64,
    /// The number of inputs in its corpus, with the seeds.
    pub(crate) corpus: u64,
    /// What was found, if something was.
    pub(crate) finding: Option<String>,
}

/// Runs a target. An error of the host is a finding, too.
pub(crate) fn run(build: &Build, target: &Target, folder: &Path, extent: Extent) -> Outcome {
    let start = Instant::now();
    let mut outcome = Outcome { target: target.clone(), ..Outcome::default() };
    if let Err(finding) = run_for(build, &mut outcome, folder, extent) {
        outcome.finding = Some(finding);
    }
    outcome.took = start.elapsed();
    outcome
}

fn run_for(build: &Build, outcome: &mut Outcome, folder: &Path, extent: Extent) -> Result<(), String> {
    let target = &outcome.target;
    let (corpus, findings) = (folder.join(target), folder.join("findings").join(target));
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let program = build.program(target);
    let made = build.seeds.join(target);
    make_seeds(&program, &made)?;
    let seeds = [made.join("seeds"), Path::new(CRATE).join("seeds").join(target)];
    let seeds: Vec<PathBuf> = seeds.into_iter().filter(|seeds| seeds.is_dir()).collect();
    let Extent::Run { seconds, runs } = extent else {
        return minimise(Command::new(&program), &corpus, &seeds, outcome);
    };
    // libFuzzer refuses an empty file.
    let words = Some(made.join("words")).filter(|words| words.metadata().is_ok_and(|file| file.len() > 0));
    let fuzzer = || {
        let mut fuzzer = Command::new(&program);
        fuzzer
            .arg(format!("-artifact_prefix={}/", findings.display()))
            .args(words.iter().map(|words| format!("-dict={}", words.display())))
            .args([format!("-timeout={TIMEOUT}"), format!("-rss_limit_mb={MEMORY}")])
            .arg("-print_final_stats=1")
            .arg(&corpus)
            .args(&seeds);
        fuzzer
    };
    // For libFuzzer no time is a time without end.
    if seconds > 0 {
        let mut timed = fuzzer();
        timed.arg(format!("-max_total_time={seconds}"));
        fuzz(timed, outcome)?;
    }
    if outcome.runs < runs {
        let mut counted = fuzzer();
        counted.arg(format!("-runs={}", runs - outcome.runs));
        fuzz(counted, outcome)?;
    }
    Ok(())
}

/// Runs libFuzzer.
fn fuzz(fuzzer: Command, outcome: &mut Outcome) -> Result<(), String> {
    let (before, program) = (outcome.runs, fuzzer.get_program().to_owned());
    let ended = follow(fuzzer, |line| note(outcome, line))?;
    outcome.runs += before;
    let Err(last) = ended else { return Ok(()) };
    let written = last.iter().find_map(|line| line.split_once("Test unit written to "));
    let repeat = written.map_or_else(String::new, |(_, input)| {
        format!("\nthis repeats it:\n    {} {input}", Path::new(&program).display())
    });
    Err(Vec::from(last).join("\n") + &repeat)
}

/// Takes the figures of a line like `#8 NEW cov: 10 ft: 12 corp: 5/20b ...` or `stat::number_of_executed_units: 1000`.
fn note(outcome: &mut Outcome, line: &str) {
    if let Some(runs) = line.strip_prefix("stat::number_of_executed_units:") {
        outcome.runs = runs.trim().parse().unwrap_or(outcome.runs);
    } else if line.starts_with('#') {
        let after = |name: &str| line.split_once(name).and_then(|(_, rest)| rest.split([' ', '/']).next());
        let number = |name: &str| after(name).and_then(|number| number.parse().ok());
        outcome.edges = number(" cov: ").unwrap_or(outcome.edges);
        outcome.corpus = number(" corp: ").unwrap_or(outcome.corpus);
    }
}

/// Lets a target write its seeds and words.
fn make_seeds(program: &Path, folder: &Path) -> Result<(), String> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mut command = Command::new(program);
    command.env(SEEDS, folder);
    follow(command, |_| ())?
        .map_err(|last| format!("the seeds cannot be made: {}", Vec::from(last).join("\n")))
}

/// Replaces the corpus by those of its inputs that reach something which the others, and the seeds, do not.
fn minimise(
    mut command: Command,
    corpus: &Path,
    seeds: &[PathBuf],
    outcome: &mut Outcome,
) -> Result<(), String> {
    let beside = |name: &str| corpus.with_extension(name);
    let (new, old) = (beside("new"), beside("old"));
    let error = |error: io::Error| format!("{}: {error}", corpus.display());
    for folder in [&new, &old] {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(error)?;
        }
    }
    fs::create_dir(&new).map_err(error)?;
    command.args(["-merge=1".into(), format!("-timeout={TIMEOUT}"), format!("-rss_limit_mb={MEMORY}")]);
    command.arg(&new).args(seeds).arg(corpus);
    follow(command, |line| note(outcome, line))?.map_err(|last| Vec::from(last).join("\n"))?;
    fs::rename(corpus, &old).and_then(|()| fs::rename(&new, corpus)).map_err(error)?;
    fs::remove_dir_all(&old).map_err(error)?;
    outcome.corpus = fs::read_dir(corpus).map_err(error)?.count() as u64;
    Ok(())
}

/// Runs `command` to its end and hands out each line of its standard error. Returns the last lines if its status is not 0. It ends with
/// us, however we end.
fn follow(mut command: Command, mut line: impl FnMut(&str)) -> Result<Result<(), VecDeque<String>>, String> {
    end_with_us(&mut command, Signal::KILL);
    // The lines of a backtrace would displace the message of a panic, which names the place.
    command.env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let program = command.get_program().to_owned();
    let failed = |error: io::Error| format!("{} cannot be run: {error}", Path::new(&program).display());
    let mut child = command.spawn().map_err(failed)?;
    let mut last = VecDeque::new();
    for text in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).split(b'\n')) {
        let text = String::from_utf8_lossy(&text.map_err(failed)?).into_owned();
        line(&text);
        if text.starts_with(NOISE) {
            continue;
        }
        last.push_back(text);
        if last.len() > SHOWN {
            last.pop_front();
        }
    }
    let status = child.wait().map_err(failed)?;
    Ok(if status.success() { Ok(()) } else { Err(last) })
}
