//! The soak: machines whose host fails at random. Each must end in time, with a documented status, and leave nothing behind.
//!
//! A seed and a number choose a machine ([`plan`]): its guest, its outputs, the failures of its host, and what happens to it
//! meanwhile. A machine is run (`run`) and then checked (`check`). [`work`] does so for one machine after another and prints a
//! line of JSON for each; the program `soak` starts it on this host and in labs.

mod check;
mod host;
mod inject;
pub mod plan;
mod run;
pub mod summary;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use host::Place;
use plan::Plan;

/// What a worker is to do.
#[derive(Debug, Clone)]
pub struct Work {
    /// The seed of all choices.
    pub seed: u64,
    /// The number of the first machine.
    pub first: u64,
    /// The number of machines; none for as many as the time permits.
    pub machines: Option<u64>,
    /// The time in which machines are started.
    pub time: Duration,
    /// The folder that keeps the logs of machines with problems.
    pub kept: PathBuf,
}

/// A machine that has ended. The names are stable in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ended {
    /// The machine's number.
    pub index: u64,
    /// Its guest.
    pub guest: String,
    /// The failures of its host, and the number of system calls that failed for each error.
    pub faults: Vec<(String, u64)>,
    /// Its end: `status N` or `signal N`.
    pub end: String,
    /// The event that ended it, and the time from there to its end; none if it ended by itself.
    pub stopped: Option<(String, f64)>,
    /// The time that it took, in seconds.
    pub seconds: f64,
    /// What was not as it should be.
    pub problems: Vec<String>,
}

/// Runs machines one after another and calls `ended` for each.
///
/// # Errors
/// If the host refuses a folder or a mount.
pub fn work(work: &Work, mut ended: impl FnMut(Ended)) -> io::Result<()> {
    let place = Place::prepare()?;
    let begun = Instant::now();
    let end = work.machines.map_or(u64::MAX, |count| work.first.saturating_add(count));
    for index in work.first..end {
        if begun.elapsed() >= work.time {
            break;
        }
        ended(
            one(work, &place, index)
                .map_err(|error| io::Error::other(format!("machine {index}: {error}")))?,
        );
    }
    Ok(())
}

/// Runs the machine `index`.
fn one(work: &Work, place: &Place, index: u64) -> io::Result<Ended> {
    let plan = Plan::new(work.seed, index, place.abilities());
    let folder = place.folder(index, plan.disk)?;
    let before = check::ours()?;
    let mut ran = run::run(&plan, place, &folder)?;
    ran.problems.extend(check::problems(&plan, &ran, &folder, &before));
    if !ran.problems.is_empty() {
        let kept = work.kept.join(format!("machine-{}-{index}", work.seed));
        folder.keep(&kept, &format!("{plan:#?}\n{ran:#?}\n"))?;
    }
    folder.remove()?;
    let faults = plan.faults().into_iter().map(|fault| (fault, 1)).chain(ran.injected);
    Ok(Ended {
        index,
        guest: plan.guest.name(),
        faults: faults.collect(),
        end: ran.end.to_string(),
        stopped: ran.stopped.map(|(how, time)| (how, time.as_secs_f64())),
        seconds: ran.took.as_secs_f64(),
        problems: ran.problems,
    })
}

/// Runs machines and prints a line of JSON for each.
///
/// # Errors
/// Those of [`work`], and of standard output.
pub fn work_for_another_process(what: &Work) -> io::Result<()> {
    let mut failed = Ok(());
    work(what, |ended| {
        let mut line = serde_json::to_vec(&ended).unwrap_or_default();
        line.push(b'\n');
        let printed = io::stdout().write_all(&line).and_then(|()| io::stdout().flush());
        if printed.is_err() {
            failed = printed;
        }
    })?;
    failed
}
