//! The way of a frame through lens, sensor and ISP: what a camera with `sensor=yes` does instead of drawing test patterns.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    CameraSpec, Pictures, PicturesError,
    auto::{self, Exposure},
    channel::Transfer,
    face::{CHANNELS, Job},
    format::{Layout, Pixels},
    isp::{Input, Isp, IspError, Output, Params, Rect, Statistics},
    picture::SensorSettings,
    scene::Scene,
    sensor::{self, Light, Packing, Phase, Sensor, Settings},
};

/// The part of a pixel's bits that is lost where a raw format has eight.
const EIGHT_BITS: u32 = sensor::BITS;

/// Lens, sensor and ISP of a camera.
#[derive(Debug)]
pub(super) struct Pipeline {
    lamp: [f64; 3],
    automatic: bool,
    threads: usize,
    seed: u64,
    pictures: Option<Pictures>,
    sensor: Sensor,
    /// What falls on the sensor, for each channel's frames.
    lights: [Option<Lit>; CHANNELS],
    exposure: Exposure,
    params: Params,
    isp: Option<Isp>,
    /// What the ISP is set to.
    made: Option<(Input, Output)>,
    statistics: Box<Statistics>,
    /// A line of raw samples, and packed.
    line: (Vec<u16>, Vec<u8>),
}

/// Light, and what it is of.
#[derive(Debug)]
struct Lit {
    of: View,
    light: Light,
}

/// What the light on a sensor depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct View {
    size: [u32; 2],
    phase: Phase,
    scene: SensorSettings,
    /// Which of the pictures, if there are.
    picture: usize,
}

impl Pipeline {
    /// The pipeline of a camera that `spec` describes.
    ///
    /// # Errors
    /// If the scene's file has no pictures.
    pub(super) fn new(spec: &SensorSpec, seed: u64) -> Result<Self, PicturesError> {
        let pictures = spec.pictures.as_deref().map(Pictures::open).transpose()?;
        Ok(Self {
            lamp: spec.lamp.map(|thousandths| f64::from(thousandths) / 1000.0),
            automatic: spec.automatic,
            threads: spec.threads,
            seed,
            pictures,
            sensor: Sensor::new(seed, spec.noise, spec.defects),
            lights: [const { None }; CHANNELS],
            exposure: Exposure { time_ns: sensor::REFERENCE_NS, gain: 256 },
            params: Params::default_for(&sensor::colour(), [0; 2]),
            isp: None,
            made: None,
            statistics: Box::default(),
            line: (Vec::new(), Vec::new()),
        })
    }

    /// Makes the frame of `job` for `channel` and writes it to `transfer`; false if it was abandoned because of `abort`.
    pub(super) fn make(
        &mut self,
        channel: usize,
        job: &Job,
        transfer: &Transfer<'_>,
        abort: &AtomicBool,
    ) -> bool {
        let layout = *transfer.layout();
        let size = [layout.width(), layout.height()];
        let phase = match &layout.format().pixels {
            Pixels::Bayer(filters) => Phase::of(filters),
            _ => Phase::Rggb,
        };
        let picture = self.pictures.as_ref().map_or(0, |pictures| job.sequence as usize % pictures.count());
        if !self.expose(channel, View { size, phase, scene: job.sensor, picture }, abort) {
            return false;
        }
        match &layout.format().pixels {
            Pixels::Bayer(_) => self.read_raw(channel, job, transfer, &layout, abort),
            _ => self.process(channel, job, transfer, &layout, abort),
        }
        !abort.load(Ordering::Relaxed) && {
            transfer.finish(job.sequence);
            true
        }
    }
}
