//! The ISP's whole pipeline with statistics, compared with a memcpy of the output frame.
//!
//! Raw lines come from memory, and finished lines go to memory, as into a guest's buffer. Rounds of the two alternate, so
//! that both have the same share of a machine that does other work. A frame must not allocate from the heap: the
//! program counts allocations, and fails if there are any.

use std::{
    error::Error,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
    thread,
    time::Instant,
};

use devices::media::{
    FORMATS, Format, Level, Phase, PlaneShape,
    isp::{Input, Isp, Output, Params, Rect, Statistics},
    sensor,
};
use serde::Serialize;

use crate::{allocations, median, verdict};

/// Odd, for medians.
const ROUNDS: usize = 41;
/// Goal for NV12 from ten bits on one thread, in seconds per megapixel of the best round, as its peers were measured.
const GOAL: f64 = 1.5e-3;
const SIZES: [(&str, [u32; 2]); 3] =
    [("640x480", [640, 480]), ("1080p", [1920, 1080]), ("2160p", [3840, 2160])];
const CASES: [(u32, &str); 3] = [(10, "NV12"), (12, "RGB24"), (10, "YUYV")];

/// The results for a size, format and number of threads.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Size, raw bits and format.
    name: String,
    /// Threads.
    threads: usize,
    /// Time of a frame in seconds: the best round, and the median.
    best_seconds: f64,
    median_seconds: f64,
    /// The best time of a megapixel.
    seconds_per_megapixel: f64,
    /// Time of memcpy for the output frame, in its best round.
    memcpy_seconds: f64,
    /// Whether the goal was met, if there is one.
    goal_met: Option<bool>,
}

/// A frame in memory, by planes and lines: threads write different ones.
type Frame = Vec<Vec<Mutex<Vec<u8>>>>;

pub(crate) fn run() -> Result<Vec<Figures>, Box<dyn Error>> {
    println!("The ISP with {}, all of it, with statistics; best of {ROUNDS} rounds", Level::best().name());
    println!(
        "{:<22}{:>8}{:>12}{:>8}{:>9}{:>11}",
        "", "threads", "ms a frame", "median", "ms a MP", "memcpy ms"
    );
    let all = thread::available_parallelism()?.get();
    let mut figures = Vec::new();
    for (size_name, size) in SIZES {
        for (bits, format) in CASES {
            let format = FORMATS.iter().find(|other| other.name == format).ok_or("no such format")?;
            for threads in if all > 1 { vec![1, all] } else { vec![1] } {
                let name = format!("{size_name} RAW{bits} {}", format.name);
                figures.push(measure(name, size, bits, format, threads)?);
            }
        }
    }
    Ok(figures)
}

fn measure(
    name: String,
    size: [u32; 2],
    bits: u32,
    format: &'static Format,
    threads: usize,
) -> Result<Figures, Box<dyn Error>> {
    let [width, height] = size;
    let input = Input { size, phase: Phase::Rggb, bits };
    let output = Output { crop: Rect { left: 0, top: 0, width, height }, size, format };
    let mut params = Params::default_for(&sensor::colour(), size);
    let mut isp = Isp::new(input, output, &params, threads)?;
    let raw = raw(size, bits);
    let frame = || -> Frame {
        let plane = |shape: &PlaneShape| {
            let line = || Mutex::new(vec![0; shape.line_bytes(width) as usize]);
            (0..height / shape.subsampling).map(|_| line()).collect()
        };
        format.planes.iter().map(plane).collect()
    };
    let (from, to) = (frame(), frame());
    let copy = |plane: usize, y: u32, bytes: &[u8]| {
        to[plane][y as usize].lock().unwrap_or_else(PoisonError::into_inner).copy_from_slice(bytes);
    };
    let read = |y: u32, samples: &mut [u16]| {
        samples.copy_from_slice(&raw[(y * width) as usize..][..width as usize]);
    };
    let mut statistics = Statistics::default();
    let (mut times, mut copies) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (taken, begun) = (allocations(), Instant::now());
        // The statistics are computed as for an automatic white balance.
        params.white_balance[0] ^= 1;
        isp.set_params(&params)?;
        isp.process(&read, &copy, &mut statistics, &AtomicBool::new(false));
        let (seconds, taken) = (begun.elapsed().as_secs_f64(), allocations() - taken);
        // The first round is a warm-up, in which threads begin their lives.
        if round > 0 && taken > 0 {
            return Err(format!("a frame of {name} with {threads} threads took memory {taken} times").into());
        }
        let begun = Instant::now();
        for (plane, lines) in from.iter().enumerate() {
            for (line, y) in lines.iter().zip(0..) {
                copy(plane, y, &line.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }
        if round > 0 {
            times.push(seconds);
            copies.push(begun.elapsed().as_secs_f64());
        }
    }
    let quads: u32 = statistics.histogram.iter().sum();
    if quads != width * height / 4 {
        return Err(format!("the histogram of {name} has {quads} quads").into());
    }
    let best = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let best_seconds = best(&times);
    let seconds_per_megapixel = best_seconds / (f64::from(width * height) / 1e6);
    let has_goal = format.name == "NV12" && threads == 1;
    let figures = Figures {
        name,
        threads,
        best_seconds,
        median_seconds: median(times),
        seconds_per_megapixel,
        memcpy_seconds: best(&copies),
        goal_met: has_goal.then_some(seconds_per_megapixel <= GOAL),
    };
    println!(
        "{:<22}{:>8}{:>12.3}{:>8.3}{:>9.3}{:>11.3}  {}",
        figures.name,
        threads,
        figures.best_seconds * 1e3,
        figures.median_seconds * 1e3,
        figures.seconds_per_megapixel * 1e3,
        figures.memcpy_seconds * 1e3,
        figures.goal_met.map_or("", verdict)
    );
    Ok(figures)
}

/// A gradient with noise of a sixteenth of the range.
fn raw([width, height]: [u32; 2], bits: u32) -> Vec<u16> {
    let max = (1_u32 << bits) - 1;
    let sample = |at: u32| {
        let noise = (at.wrapping_mul(0x9e37_79b1) >> 20) * max / 4096 / 16;
        let slope = at % width * (max * 3 / 4) / width;
        u16::try_from(max / 16 + slope + noise).unwrap_or(u16::MAX)
    };
    (0..width * height).map(sample).collect()
}
