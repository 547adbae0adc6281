//! A frame of the camera rkisp1, from the light to NV12, beside one of our own camera with the same sensor, on one thread.
//!
//! Both expose the simulated sensor with noise in the same way and process all of it, with statistics. rkisp1 has the blocks that libcamera
//! uses: black level, lens shading, white balance, cross-talk, gamma, and all measurements. Rounds of the two alternate. A frame must not
//! allocate from the heap.

use std::{
    error::Error,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use devices::media::{
    Exposure, FORMATS, FrameSettings, Layout, Pattern, Phase, Pipeline, RawSource, SceneSettings, SensorSpec,
    isp::{Pool, Rect},
    rkisp1::{
        Axis, BlackLevel, ExposureMeasure, FocusMeasure, Frame, GammaOut, HistogramMeasure, HistogramValues,
        Isp, LensShading, Line, POINTS, Params, Plane, Resizer, Scale, Scaled, Statistics, WhiteLimits,
        WhiteMeasure, Window,
    },
    sensor::{BLACK, Settings},
};
use serde::Serialize;

use crate::{allocations, median, verdict};

/// Odd, for medians.
const ROUNDS: usize = 21;
const SIZES: [(&str, [u32; 2]); 2] = [("640x480", [640, 480]), ("1080p", [1920, 1080])];
/// The time of a frame of 1080p30: it has to fit on one CPU.
const INTERVAL: Duration = Duration::from_nanos(33_333_333);

/// The results for a size: the best rounds and the medians.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// The size.
    name: &'static str,
    /// Time of a frame of rkisp1 in seconds, with the sensor: the best round and the median.
    best_seconds: f64,
    median_seconds: f64,
    /// The same for our own camera.
    own_best_seconds: f64,
    own_median_seconds: f64,
    /// Whether a frame of 1080p30 fits on one CPU.
    goal_met: Option<bool>,
}

pub(crate) fn run() -> Result<Vec<Figures>, Box<dyn Error>> {
    println!("\nThe camera rkisp1 to NV12, with its sensor, on one thread; best of {ROUNDS} rounds");
    println!(
        "{:<12}{:>12}{:>8}{:>9}{:>13}{:>8}",
        "", "ms a frame", "median", "ms a MP", "own camera", "median"
    );
    SIZES.into_iter().map(|(name, size)| measure(name, size)).collect()
}

/// The blocks that libcamera uses.
fn params([width, height]: [u32; 2]) -> Params {
    let part = |length: u32, parts: u32| u16::try_from(length / parts).unwrap_or(u16::MAX);
    let gradient = |length: u32| u16::try_from(32_768 / (length / 16)).unwrap_or(u16::MAX);
    let window = Window { left: 0, top: 0, width: part(width, 1), height: part(height, 1) };
    let cell = [part(width, 5), part(height, 5)];
    Params {
        black_level: Some(BlackLevel { fixed: [256; 4], ..BlackLevel::default() }),
        lens_shading: Some(LensShading {
            gains: [[[1200; POINTS]; POINTS]; 4],
            x_sizes: [part(width, 16); 8],
            y_sizes: [part(height, 16); 8],
            x_gradients: [gradient(width); 8],
            y_gradients: [gradient(height); 8],
        }),
        white_balance: Some([460, 256, 256, 390]),
        gamma: Some(GammaOut {
            logarithmic: true,
            points: std::array::from_fn(|point| u16::try_from(point * 63).unwrap_or(1023)),
        }),
        white: Some(WhiteMeasure {
            window,
            limits: WhiteLimits::Ycbcr {
                min_y: 16,
                max_y: Some(250),
                min_c: 16,
                max_sum: 250,
                reference: [128; 2],
            },
            frames: 0,
        }),
        exposure: Some(ExposureMeasure { sum: true, corner: [0; 2], cell }),
        histogram: Some(HistogramMeasure {
            values: HistogramValues::Rgb,
            step: 3,
            corner: [0; 2],
            cell,
            weights: [16; 25],
        }),
        focus: Some(FocusMeasure { windows: [Some(window), None, None], threshold: 4, shifts: [4, 4] }),
        ..Params::default()
    }
}

fn measure(name: &'static str, size: [u32; 2]) -> Result<Figures, Box<dyn Error>> {
    let [width, height] = size;
    let spec = SensorSpec::default();
    let never = AtomicBool::new(false);
    let settings = Settings {
        crop: [0, 0],
        size,
        binning: 1,
        flip_x: false,
        flip_y: false,
        exposure_ns: 10_000_000,
        analogue_gain: 256,
        digital_gain: 256,
        black: BLACK,
    };
    let mut source = RawSource::new(&spec, Pattern::ZonePlate, size, 1)?;
    let params = params(size);
    let mut isp = Isp::default();
    // 4:2:0, as the driver scales chroma.
    let half = Axis { ratio: ((height / 2 - 1) << 16) / (height - 1) + 1, up: false, phase: 0 };
    let scale = Scale { chroma: Plane { across: None, down: Some(half) }, ..Scale::default() };
    let mut resizer = Resizer::new(size, &scale);
    let window = Rect { left: 0, top: 0, width, height };
    let frame = Frame { size, phase: Phase::Rggb, window };
    let mut statistics = Statistics::default();
    let mut memory = vec![0_u8; (width * height * 3 / 2) as usize];
    let mut rkisp1 = |number: u32| {
        source.expose(&settings, Phase::Rggb, number, &never);
        let (luma, chroma) = memory.split_at_mut((width * height) as usize);
        let mut write = |y: u32, line: &Line<'_>| {
            resizer.put(y, line, &mut |scaled| match scaled {
                Scaled::Luma(y, line) => luma[(y * width) as usize..][..line.len()].copy_from_slice(line),
                Scaled::Chroma(y, [cb, cr]) => {
                    let line = &mut chroma[(y * width) as usize..][..width as usize];
                    for ((pair, &cb), &cr) in line.as_chunks_mut::<2>().0.iter_mut().zip(cb).zip(cr) {
                        *pair = [cb, cr];
                    }
                }
            });
        };
        let mut read = |y: u32, samples: &mut [u16]| source.read_line(&settings, number, y, samples);
        isp.process(&frame, &params, &mut read, &mut write, &mut statistics, &never);
    };

    let format = FORMATS.iter().find(|format| format.name == "NV12").ok_or("no such format")?;
    let layout = Layout::new(format.fourcc, width, height)?;
    let mut pipeline = Pipeline::new(&spec, 1, Pool::new(1)?)?;
    let picture = vec![0_u8; layout.span() as usize];
    let picture = std::sync::Mutex::new(picture);
    let mut own = |number: u32| {
        let settings = FrameSettings {
            sequence: number,
            scene: SceneSettings { pattern: Pattern::ZonePlate, ..SceneSettings::default() },
            size,
            crop: window,
            binning: 1,
            exposure: Exposure { time_ns: 10_000_000, gain: 256 },
            digital_gain: 256,
            interval: INTERVAL,
        };
        let write = |plane: usize, y: u32, bytes: &[u8]| {
            let start = if plane == 0 { y * width } else { width * height + y * width };
            let mut picture = picture.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            picture[start as usize..][..bytes.len()].copy_from_slice(bytes);
        };
        pipeline.make(&settings, &layout, &write, &never);
    };

    let (mut times, mut own_times) = (Vec::new(), Vec::new());
    for round in 0..=u32::try_from(ROUNDS)? {
        let (taken, begun) = (allocations(), Instant::now());
        rkisp1(round);
        let (seconds, taken) = (begun.elapsed().as_secs_f64(), allocations() - taken);
        if round > 0 && taken > 0 {
            return Err(format!("a frame of {name} took memory {taken} times").into());
        }
        let begun = Instant::now();
        own(round);
        // The first round is a warm-up, in which the light falls on the sensors.
        if round > 0 {
            times.push(seconds);
            own_times.push(begun.elapsed().as_secs_f64());
        }
    }
    let best = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let best_seconds = best(&times);
    let figures = Figures {
        name,
        best_seconds,
        median_seconds: median(times),
        own_best_seconds: best(&own_times),
        own_median_seconds: median(own_times),
        goal_met: (name == "1080p").then_some(best_seconds <= INTERVAL.as_secs_f64()),
    };
    println!(
        "{:<12}{:>12.3}{:>8.3}{:>9.3}{:>13.3}{:>8.3}  {}",
        name,
        figures.best_seconds * 1e3,
        figures.median_seconds * 1e3,
        figures.best_seconds * 1e3 / (f64::from(width * height) / 1e6),
        figures.own_best_seconds * 1e3,
        figures.own_median_seconds * 1e3,
        figures.goal_met.map_or("", verdict)
    );
    Ok(figures)
}
