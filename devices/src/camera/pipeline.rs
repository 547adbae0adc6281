//! The way of a frame through lens, sensor and ISP, for a camera that has them instead of its test pattern generator.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    auto::{self, Exposure},
    channel::Transfer,
    face::{CHANNELS, Job},
    format::{Format, Layout, Pixels},
    isp::{Input, Isp, IspError, Output, Params, Rect, Statistics},
    picture::SensorSettings,
    pictures::{Pictures, PicturesError},
    scene::Scene,
    sensor::{self, Light, Packing, Phase, Sensor, Settings},
    spec::SensorSpec,
};

/// Lens, sensor and ISP of a camera. The sensor's array is as large as the frames that are asked for.
#[derive(Debug)]
pub(super) struct Pipeline {
    lamp: [f64; 3],
    automatic: bool,
    threads: usize,
    seed: u64,
    pictures: Option<Pictures>,
    sensor: Sensor,
    /// What falls on the sensor, for each channel's frames.
    lights: [Option<(View, Light)>; CHANNELS],
    exposure: Exposure,
    isp: Option<Processor>,
    /// Samples of a raw line, and how they are written.
    line: (Vec<u16>, Vec<u8>),
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

/// An ISP, and what it is set to.
#[derive(Debug)]
struct Processor {
    isp: Isp,
    size: [u32; 2],
    format: &'static Format,
    params: Params,
    statistics: Box<Statistics>,
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
            isp: None,
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
        let phase = match &layout.format().pixels {
            Pixels::Bayer(filters) => Phase::of(filters),
            _ => Phase::Rggb,
        };
        let view = View {
            size: [layout.width(), layout.height()],
            phase,
            scene: job.sensor,
            picture: self.pictures.as_ref().map_or(0, |pictures| job.sequence as usize % pictures.count()),
        };
        if !self.expose(channel, view, abort) {
            return false;
        }
        let made = match &layout.format().pixels {
            Pixels::Bayer(_) => self.read_raw(channel, job, transfer, abort),
            _ => self.process(channel, job, transfer, abort),
        };
        if made {
            transfer.finish(job.sequence);
        }
        made
    }

    /// Lets the light of `view` fall on the sensor; false if `abort` was set meanwhile.
    fn expose(&mut self, channel: usize, view: View, abort: &AtomicBool) -> bool {
        let lit = &mut self.lights[channel];
        if lit.as_ref().is_some_and(|(of, _)| *of == view) {
            return true;
        }
        let [width, height] = view.size;
        let SensorSettings { pattern, flip_horizontal, flip_vertical } = view.scene;
        let line_of = |y: u32| if flip_vertical { height - 1 - y } else { y };
        let turn = |line: &mut [u8]| {
            if flip_horizontal {
                line.as_chunks_mut::<3>().0.reverse();
            }
        };
        let light = |draw: &dyn Fn(u32, &mut [u8])| {
            Light::new(view.size, view.phase, self.lamp, true, draw, abort).map(|light| (view, light))
        };
        *lit = match &self.pictures {
            Some(pictures) => {
                let picture = pictures.scaled(view.picture, view.size);
                light(&|y, line| {
                    line.copy_from_slice(&picture[line_of(y) as usize * line.len()..][..line.len()]);
                    turn(line);
                })
            }
            None => {
                let scene = Scene::new(pattern, width, height, self.seed);
                light(&|y, line| {
                    scene.draw(line_of(y), line);
                    turn(line);
                })
            }
        };
        lit.is_some()
    }

    fn settings(&self, size: [u32; 2]) -> Settings {
        Settings {
            crop: [0, 0],
            size,
            binning: 1,
            flip_x: false,
            flip_y: false,
            exposure_ns: self.exposure.time_ns,
            analogue_gain: self.exposure.gain,
            digital_gain: 256,
        }
    }

    /// Writes what the sensor sees; false if it was abandoned.
    fn read_raw(&mut self, channel: usize, job: &Job, transfer: &Transfer<'_>, abort: &AtomicBool) -> bool {
        let Some((View { size, .. }, light)) = &self.lights[channel] else { return false };
        let settings = self.settings(*size);
        let lines = transfer.lines();
        let (samples, bytes) = &mut self.line;
        samples.resize(size[0] as usize, 0);
        bytes.resize(Packing::Bytes.line_bytes(size[0], sensor::BITS) as usize, 0);
        for y in 0..size[1] {
            if abort.load(Ordering::Relaxed) {
                return false;
            }
            self.sensor.read_line(light, &settings, job.sequence, y, samples);
            Packing::Bytes.pack(samples, sensor::BITS, bytes);
            lines.write(0, y, bytes);
        }
        true
    }

    /// Writes what the ISP makes of what the sensor sees; false if it was abandoned.
    fn process(&mut self, channel: usize, job: &Job, transfer: &Transfer<'_>, abort: &AtomicBool) -> bool {
        let Some((View { size, phase, .. }, light)) = &self.lights[channel] else { return false };
        let settings = self.settings(*size);
        let layout = transfer.layout();
        let processor = match Processor::ready(self.isp.take(), *size, *phase, layout, self.threads) {
            Ok(processor) => self.isp.insert(processor),
            Err(error) => {
                tracing::error!("the camera has no ISP: {error}");
                return false;
            }
        };
        let lines = transfer.lines();
        let is_aborted = || abort.load(Ordering::Relaxed);
        let read = |y: u32, samples: &mut [u16]| {
            self.sensor.read_line(light, &settings, job.sequence, y, samples);
        };
        let write = |plane: usize, y: u32, bytes: &[u8]| {
            if !is_aborted() {
                lines.write(plane, y, bytes);
            }
        };
        processor.isp.process(&read, &write, &mut processor.statistics);
        if self.automatic {
            self.exposure = self.exposure.next(&processor.statistics, job.interval);
            if auto::balance(&mut processor.params, &processor.statistics) {
                processor.isp.set_params(&processor.params).expect("gains can have any value");
            }
        }
        !is_aborted()
    }
}

impl Processor {
    /// An ISP for frames of `layout` from a sensor of this size and phase: the one before, if there was one, set to it.
    fn ready(
        before: Option<Self>,
        size: [u32; 2],
        phase: Phase,
        layout: &Layout,
        threads: usize,
    ) -> Result<Self, IspError> {
        let format = layout.format();
        let before = match before {
            Some(before) if before.size == size && before.format == format => return Ok(before),
            before => before,
        };
        let mut params = Params::default_for(&sensor::colour(), size);
        if let Some(before) = before {
            params.white_balance = before.params.white_balance;
        }
        let input = Input { size, phase, bits: sensor::BITS };
        let crop = Rect { left: 0, top: 0, width: size[0], height: size[1] };
        let isp = Isp::new(input, Output { crop, size, format }, &params, threads)?;
        Ok(Self { isp, size, format, params, statistics: Box::default() })
    }
}
