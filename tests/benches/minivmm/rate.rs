//! Frames at the rate of a sensor to a bare-metal guest on the native /dev/kvm: sensor, whole ISP with statistics, DMA.
//!
//! The frame clock runs (free timing). A frame that is not made in time, or that finds no buffer, is dropped, as in
//! hardware. The guest (tests/bare-metal/stream.c) detects this by the sequence numbers. The whole machine, camera and guest, is
//! limited to the number of CPUs of the case. The guest's CPU spins while it waits, because not every KVM can wake a bare-metal
//! guest; so it has the lowest priority. For comparison, the benchmark also measures the rate of the same machine without the
//! frame clock (stall timing). The first frame, for which the scene is drawn and memory first touched, is late. It is not counted,
//! nor are the frames that it delays.

use std::{
    error::Error,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::{
    process::{Pid, setpriority_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde::Serialize;
use tests::bare_metal::BareMetal;

use crate::{
    camera::{CASES, Case, MEASURED, guest, stream},
    median, verdict,
};

/// Odd, for medians.
const ROUNDS: usize = 7;
/// Name, frames per second, and number of CPUs and of threads of the ISP.
const RATES: [(&str, u32, usize); 2] = [("1080p NV12", 60, 1), ("2160p NV12", 30, 2)];

/// The results for a rate.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Size and format.
    name: &'static str,
    /// Frames a second of the frame clock.
    rate: u32,
    /// Number of CPUs of the machine, and of threads of the ISP.
    cpus: usize,
    /// Frames that the guest received in all rounds.
    frames: usize,
    /// Dropped frames among them.
    drops: u32,
    /// Frames per second without the frame clock: the median of the rounds.
    reachable: f64,
    /// Whether no frame was dropped.
    goal_met: bool,
}

pub(crate) fn run() -> Result<Vec<Figures>, Box<dyn Error>> {
    println!(
        "Sensor and ISP to a bare-metal guest on /dev/kvm by a frame clock, {ROUNDS} rounds of {MEASURED} frames"
    );
    println!("{:<20}{:>6}{:>9}{:>8}{:>16}", "", "CPUs", "frames", "drops", "reachable fps");
    let all = sched_getaffinity(None)?;
    let figures = RATES.map(|(name, rate, cpus)| {
        let case = CASES.iter().find(|case| case.name == name).ok_or("no such case")?;
        sched_setaffinity(None, &first(&all, cpus)?)?;
        measure(case, rate, cpus)
    });
    sched_setaffinity(None, &all)?;
    figures.into_iter().collect()
}

/// The first `count` of the CPUs.
pub(crate) fn first(all: &CpuSet, count: usize) -> Result<CpuSet, Box<dyn Error>> {
    let mut some = CpuSet::new();
    (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).take(count).for_each(|cpu| some.set(cpu));
    if some.count() as usize != count {
        return Err(format!("this machine has fewer than {count} CPUs").into());
    }
    Ok(some)
}

fn measure(case: &'static Case, rate: u32, cpus: usize) -> Result<Figures, Box<dyn Error>> {
    let [clocked, stalled] = [format!("fps={rate}"), "timing=stall".to_owned()];
    let (mut drops, mut reachable) = (0, Vec::new());
    for timing in [clocked, stalled] {
        let folder = tempfile::tempdir()?;
        let camera = format!("sensor=yes,threads={cpus},{timing}");
        let guest = guest(case, &camera)?.build(folder.path());
        for _ in 0..ROUNDS {
            let (seconds, dropped) = stream_patiently(&guest)?;
            if timing == "timing=stall" {
                reachable.push(MEASURED as f64 / seconds);
            } else {
                drops += dropped;
            }
        }
    }
    let frames = ROUNDS * MEASURED;
    let figures = Figures {
        name: case.name,
        rate,
        cpus,
        frames,
        drops,
        reachable: median(reachable),
        goal_met: drops == 0,
    };
    println!(
        "{:<20}{:>6}{:>9}{:>8}{:>16.1}  {}",
        format!("{} {rate} fps", figures.name),
        figures.cpus,
        figures.frames,
        figures.drops,
        figures.reachable,
        verdict(figures.goal_met)
    );
    Ok(figures)
}

/// Streams to `guest`, whose CPU has the lowest priority.
fn stream_patiently(guest: &BareMetal) -> Result<(f64, u32), Box<dyn Error>> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) && !give_way("vcpu0") {
                thread::sleep(Duration::from_millis(1));
            }
        });
        let streamed = stream(guest);
        done.store(true, Ordering::Relaxed);
        streamed
    })
}

/// Gives the thread of this name in this process the lowest priority. False if there is no such thread.
fn give_way(name: &str) -> bool {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let named = |thread: &fs::DirEntry| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    threads
        .filter(named)
        .filter_map(|thread| thread.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .any(|thread| setpriority_process(Some(thread), 19).is_ok())
}
