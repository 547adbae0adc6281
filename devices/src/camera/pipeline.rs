//! The way of a frame through lens, sensor and ISP, for a camera that has them instead of its test pattern generator.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    auto::{self, Exposure},
    channel::Transfer,
    face::{FRAME_CHANNELS, Job},
    format::{Bayer, Pixels},
    isp::{Input, Isp, IspError, Output, Params, Statistics},
    meta::{self, Made, ParamsFault, STATISTICS_SIZE},
    picture::SensorSettings,
    pictures::{Pictures, PicturesError},
    readout::Readout,
    scene::Scene,
    sensor::{self, Light, Phase, Sensor, Settings},
    spec::SensorSpec,
};

/// Lens, sensor and ISP of a camera. Of the sensor's array so much is used as what it is to put out takes, and all of the scene
/// falls there.
#[derive(Debug)]
pub(super) struct Pipeline {
    lamp: [f64; 3],
    automatic: bool,
    threads: usize,
    seed: u64,
    pictures: Option<Pictures>,
    sensor: Sensor,
    /// What falls on the sensor, for each channel's frames.
    lights: [Option<(View, Light)>; FRAME_CHANNELS],
    /// By the statistics of the last frame, if the device itself exposes.
    pub(super) next_exposure: Option<Exposure>,
    isp: Option<Processor>,
    /// What the guest set of the ISP's parameters since the last reset.
    settings: meta::Settings,
    resets: u32,
    /// Samples of a raw line, and how they are written.
    line: (Vec<u16>, Vec<u8>),
}

/// What the light on a sensor depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct View {
    /// In pixels of the array.
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
    /// That of what comes in.
    size: [u32; 2],
    output: Output,
    params: Params,
    statistics: Box<Statistics>,
    /// What the last frame was made with, as far as it is known here.
    made: Made,
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
            lights: [const { None }; FRAME_CHANNELS],
            next_exposure: None,
            isp: None,
            settings: meta::Settings::default(),
            resets: 0,
            line: (Vec::new(), Vec::new()),
        })
    }

    /// A frame begins: after a reset of the camera nothing is in force that was set before.
    pub(super) fn begin(&mut self, job: &Job) {
        if self.resets != job.resets {
            self.resets = job.resets;
            self.settings = meta::Settings::default();
            if let Some(processor) = &mut self.isp {
                processor.params = default_params(processor.size);
                processor.set_params();
            }
        }
    }

    /// Takes a buffer of parameters; how many of its bytes that were.
    ///
    /// # Errors
    /// What is wrong with it; then nothing has changed.
    pub(super) fn take_params(&mut self, bytes: &[u8]) -> Result<usize, ParamsFault> {
        let length = self.settings.take(bytes)?;
        if let Some(processor) = &mut self.isp {
            self.settings.apply(&mut processor.params);
            processor.set_params();
        }
        Ok(length)
    }

    /// Writes down the statistics of the last frame, which was that of `job`; false if there was none.
    pub(super) fn write_statistics(&self, job: &Job, buffer: &mut [u8; STATISTICS_SIZE]) -> bool {
        let Some(Processor { statistics, made, .. }) = &self.isp else { return false };
        let made = Made {
            sequence: job.sequence,
            params_sequence: job.params_sequence,
            time: job.nanoseconds(),
            ..*made
        };
        meta::write(&made, statistics, buffer);
        true
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
            Pixels::Bayer(bayer) => Phase::of(&bayer.filters),
            _ => Phase::Rggb,
        };
        let size = transfer.input().size;
        let binning = job.readout.as_ref().map_or(1, |readout| readout.binning(size));
        let view = View {
            size: size.map(|pixels| pixels * binning),
            phase,
            scene: job.sensor,
            picture: self.pictures.as_ref().map_or(0, |pictures| job.sequence as usize % pictures.count()),
        };
        if !self.expose(channel, view, abort) {
            return false;
        }
        let made = match &layout.format().pixels {
            Pixels::Bayer(bayer) => self.read_raw(channel, job, bayer, transfer, abort),
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

    /// Writes what the sensor sees; false if it was abandoned.
    fn read_raw(
        &mut self,
        channel: usize,
        job: &Job,
        bayer: &Bayer,
        transfer: &Transfer<'_>,
        abort: &AtomicBool,
    ) -> bool {
        let Some((_, light)) = &self.lights[channel] else { return false };
        let Some(readout) = &job.readout else { return false };
        let size = transfer.input().size;
        let settings = settings(size, readout);
        let lines = transfer.lines();
        let Bayer { bits, packing, .. } = *bayer;
        let (samples, bytes) = &mut self.line;
        samples.resize(size[0] as usize, 0);
        bytes.resize(transfer.layout().planes().map(|plane| plane.line_bytes as usize).sum(), 0);
        for y in 0..size[1] {
            if abort.load(Ordering::Relaxed) {
                return false;
            }
            self.sensor.read_line(light, &settings, job.sequence, y, samples);
            samples.iter_mut().for_each(|sample| *sample >>= sensor::BITS - bits);
            packing.pack(samples, bits, bytes);
            lines.write(0, y, bytes);
        }
        true
    }

    /// Writes what the ISP makes of what the sensor sees; false if it was abandoned.
    fn process(&mut self, channel: usize, job: &Job, transfer: &Transfer<'_>, abort: &AtomicBool) -> bool {
        let Some((View { phase, .. }, light)) = &self.lights[channel] else { return false };
        let Some(readout) = &job.readout else { return false };
        let size = transfer.input().size;
        let settings = settings(size, readout);
        let layout = transfer.layout();
        let output = Output {
            crop: transfer.input().crop,
            size: [layout.width(), layout.height()],
            format: layout.format(),
        };
        let before = self.isp.take();
        let processor = match Processor::ready(before, size, *phase, output, &self.settings, self.threads) {
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
        processor.made = Made {
            exposure: settings.exposure_ns,
            analogue_gain: settings.analogue_gain,
            digital_gain: settings.digital_gain,
            white_balance: processor.params.white_balance,
            ..Made::default()
        };
        if self.automatic {
            self.next_exposure = Some(readout.exposure().next(&processor.statistics, job.interval));
            if !self.settings.has_white_balance()
                && auto::balance(&mut processor.params, &processor.statistics)
            {
                processor.set_params();
            }
        }
        !is_aborted()
    }
}

impl Processor {
    /// An ISP for such frames from a sensor of this size and phase: the one before, if there was one, set to it.
    fn ready(
        before: Option<Self>,
        size: [u32; 2],
        phase: Phase,
        output: Output,
        settings: &meta::Settings,
        threads: usize,
    ) -> Result<Self, IspError> {
        let before = match before {
            Some(before) if before.size == size && before.output == output => return Ok(before),
            before => before,
        };
        let mut params = default_params(size);
        if let Some(before) = before {
            params.white_balance = before.params.white_balance;
        }
        settings.apply(&mut params);
        let input = Input { size, phase, bits: sensor::BITS };
        let isp = Isp::new(input, output, &params, threads)?;
        Ok(Self { isp, size, output, params, statistics: Box::default(), made: Made::default() })
    }

    /// Has the ISP take its parameters, which are of the right ranges, as all that change them see to.
    fn set_params(&mut self) {
        self.isp.set_params(&self.params).expect("no parameter is out of its range");
    }
}

/// How the sensor is read out for frames of `size`.
fn settings(size: [u32; 2], readout: &Readout) -> Settings {
    let Exposure { time_ns, gain } = readout.exposure();
    Settings {
        crop: [0, 0],
        size,
        binning: readout.binning(size),
        flip_x: false,
        flip_y: false,
        exposure_ns: time_ns,
        analogue_gain: gain,
        digital_gain: readout.digital_gain(),
    }
}

/// What the ISP does unless it is told otherwise.
fn default_params(size: [u32; 2]) -> Params {
    Params::default_for(&sensor::colour(), size)
}
