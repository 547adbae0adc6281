//! The program `soak`: runs machines whose host fails at random, on this host and in labs, and checks that each ends and leaves
//! nothing.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use ::tests::{
    cross::{self, Cross},
    programs,
    soak::{self, Ended, Work, summary::Summary},
};
use clap::Parser;
use guest_images::{Arch, Kind};

/// The longest time of one lab, in seconds: a lab that fails ends the machines of no other.
const LAB_TIME: u64 = 600;
/// What a lab has beyond the time in which machines are started, in seconds.
const LAB_GRACE: u64 = 180;
/// The most failures of workers in a row.
const FAILURES: u32 = 3;
/// The interval of progress lines.
const PROGRESS: Duration = Duration::from_secs(10);

/// Runs machines whose host fails at random: full disks, short memory, streams that nobody reads, errors of system calls, signals.
///
/// Each machine must end in time and with a documented status, leave a whole report or none, and leave nothing else. The machines
/// depend on the seed alone.
#[derive(Parser)]
#[command(name = "soak", version)]
struct Arguments {
    /// Start machines for this time, in minutes
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    minutes: f64,
    /// Run at most this number of machines in each place
    #[arg(long, value_name = "N")]
    machines: Option<u64>,
    /// Seed of all choices [default: the time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Number of the first machine
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// Where machines run: here, or the architecture of a lab; can be repeated [default: a lab of each architecture]
    #[arg(long, value_name = "PLACE", value_parser = place)]
    place: Vec<Place>,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Run machines in this process, and print a line of JSON for each: a part of another soak
    #[arg(long, value_name = "DIR", hide = true)]
    worker: Option<PathBuf>,
}

/// Where machines run.
#[derive(Debug, Clone, Copy)]
enum Place {
    Here,
    Lab(&'static Arch),
}

fn place(name: &str) -> Result<Place, String> {
    if name == "here" { Ok(Place::Here) } else { cross::architecture(name).map(Place::Lab) }
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Lab(arch) => arch.name,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
    });
    let time = Duration::try_from_secs_f64(arguments.minutes * 60.0).unwrap_or(Duration::MAX);
    let (first, machines) = (arguments.first, arguments.machines);
    if let Some(kept) = arguments.worker {
        let work = Work { seed, first, machines, time, kept };
        return match soak::work_for_another_process(&work) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("soak: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let result = programs::folder().map(|folder| folder.join("soak-kept")).and_then(|kept| {
        let work = Work { seed, first, machines, time, kept };
        soak(&work, &arguments.place, arguments.report.as_deref())
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs machines in all places. Returns whether there was no problem.
fn soak(work: &Work, places: &[Place], report: Option<&Path>) -> io::Result<bool> {
    let mut places = places.to_vec();
    if places.is_empty() {
        places = cross::architectures().into_iter().map(Place::Lab).collect();
    }
    fs::create_dir_all(&work.kept)?;
    let programs = places.iter().map(|place| program(*place)).collect::<io::Result<Vec<_>>>()?;
    let begun = Instant::now();
    let summary = Mutex::new(Summary { seed: work.seed, ..Summary::default() });
    thread::scope(|scope| {
        let threads: Vec<_> = places
            .iter()
            .zip(&programs)
            .map(|(place, program)| scope.spawn(|| soak_in(*place, program, work, &summary)))
            .collect();
        let mut said = Instant::now();
        while threads.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(Duration::from_millis(100));
            if said.elapsed() >= PROGRESS {
                said = Instant::now();
                progress(&lock(&summary), begun.elapsed());
            }
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.seconds = begun.elapsed().as_secs_f64();
    if let Some(path) = report {
        fs::write(path, serde_json::to_vec_pretty(&summary)?)?;
    }
    println!("{summary}");
    if !summary.problems.is_empty() {
        println!("The logs of machines with problems are in {}.", work.kept.display());
    }
    Ok(summary.problems.is_empty())
}

fn progress(summary: &Summary, time: Duration) {
    let places: Vec<String> =
        summary.machines.iter().map(|(place, count)| format!("{count} in {place}")).collect();
    let (minutes, seconds) = (time.as_secs() / 60, time.as_secs() % 60);
    let problems = summary.problems.len();
    eprintln!("soak: {minutes}:{seconds:02}  machines: {}; problems: {problems}", places.join(", "));
}

/// Builds everything for `place`. Returns the path of this program there.
fn program(place: Place) -> io::Result<PathBuf> {
    match place {
        Place::Here => {
            programs::minivmm()?;
            env::current_exe()
        }
        Place::Lab(arch) => {
            programs::build("tests", "lab")?;
            guest_images::build(arch, Kind::DEFAULT).map_err(io::Error::other)?;
            if arch.name == Arch::host().name {
                programs::minivmm()?;
                return env::current_exe();
            }
            let cross = Cross::prepare()?;
            cross.minivmm()?;
            cross.program("tests", "soak")
        }
    }
}

/// Runs machines in one place: by one process after another, each in a lab of its own if the place is a lab.
fn soak_in(place: Place, program: &Path, work: &Work, summary: &Mutex<Summary>) {
    let begun = Instant::now();
    let (mut next, mut failures) = (work.first, 0);
    let end = work.machines.map(|machines| work.first + machines);
    while begun.elapsed() < work.time && end.is_none_or(|end| next < end) && failures < FAILURES {
        let left = (work.time - begun.elapsed()).as_secs().clamp(1, LAB_TIME);
        let machines = end.map(|end| end - next);
        let worker = worker(place, program, work, next, machines, left);
        let failed = worker.and_then(|worker| {
            follow(worker, |ended| {
                (next, failures) = (ended.index + 1, 0);
                for problem in &ended.problems {
                    eprintln!("soak: machine {} in {}: {problem}", ended.index, place.name());
                }
                lock(summary).add(place.name(), &ended);
            })
        });
        if let Err(error) = failed {
            let problem = format!("the soak in {} broke off at machine {next}: {error}", place.name());
            eprintln!("soak: {problem}");
            lock(summary).problems.push(problem);
            // The next one may fare better.
            next += 1;
            failures += 1;
        }
    }
}

/// The command of a worker that starts machines for `seconds`.
fn worker(
    place: Place,
    program: &Path,
    work: &Work,
    first: u64,
    machines: Option<u64>,
    seconds: u64,
) -> io::Result<Command> {
    let mut command = match place {
        Place::Here => Command::new(program),
        Place::Lab(arch) => {
            let mut lab = Command::new(programs::folder()?.join("lab"));
            let limit = (seconds + LAB_GRACE).to_string();
            lab.args(["run", "--arch", arch.name, "--timeout", &limit, "--writable"]);
            lab.arg(&work.kept).arg("--").arg(program);
            lab
        }
    };
    command.arg("--worker").arg(&work.kept).args(["--seed", &work.seed.to_string()]);
    command.args(["--first", &first.to_string(), "--minutes", &(seconds as f64 / 60.0).to_string()]);
    if let Some(machines) = machines {
        command.args(["--machines", &machines.to_string()]);
    }
    // The worker finds the programs built.
    command.env_remove("CARGO").stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// Runs a worker to its end, and hands on each machine that it reports.
fn follow(mut worker: Command, mut ended: impl FnMut(Ended)) -> io::Result<()> {
    let mut child = worker.spawn()?;
    let stdout = child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
    for line in stdout {
        ended(serde_json::from_str(&line?)?);
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}

fn lock(summary: &Mutex<Summary>) -> MutexGuard<'_, Summary> {
    summary.lock().unwrap_or_else(PoisonError::into_inner)
}
