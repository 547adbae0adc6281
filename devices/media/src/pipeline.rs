//! The pipeline of a camera with a sensor: the light of a scene falls on the sensor, and the ISP processes what it reads.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{
    auto::{self, Exposure},
    format::{Bayer, Layout, Pixels},
    isp::{Input, Isp, IspError, Output, Overrides, Params, Pool, Rect, Statistics},
    phase::Phase,
    scene::{Scene, SceneSettings},
    scene_file::{SceneFile, SceneFileError},
    sensor::{self, Light, Sensor, Settings},
};

/// The properties of a sensor and its ISP that are fixed for the life of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SensorSpec {
    /// A file that the sensor looks at (.png, .y4m or .raw) instead of a drawn scene.
    pub scene_file: Option<PathBuf>,
    /// Whether samples have noise.
    pub noise: bool,
    /// Defect pixels in a million.
    pub defects: u32,
    /// Red, green and blue of the light on the scene, in thousandths of daylight.
    pub lamp: [u32; 3],
    /// Whether exposure and white balance follow the scene.
    pub automatic: bool,
    /// Threads of the ISP.
    pub threads: usize,
}

impl Default for SensorSpec {
    fn default() -> Self {
        Self { scene_file: None, noise: true, defects: 0, lamp: [1000; 3], automatic: false, threads: 1 }
    }
}

/// How one frame is made. A device fills it from its registers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameSettings {
    /// The number of the frame. Noise depends on it, and so does the picture of a scene file with several.
    pub sequence: u32,
    /// What the sensor looks at.
    pub scene: SceneSettings,
    /// Width and height of the sensor's output, after binning.
    pub size: [u32; 2],
    /// The part of that which becomes the frame. A raw frame is all of it.
    pub crop: Rect,
    /// Pixels of the sensor's array in each direction that are binned to one: 1, 2 or 4.
    pub binning: u32,
    /// Exposure time and analogue gain.
    pub exposure: Exposure,
    /// Digital gain of the sensor, in 1/256.
    pub digital_gain: u32,
    /// The time from one frame to the next.
    pub interval: Duration,
}

/// What the last processed frame was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsedSettings {
    /// Exposure time and analogue gain.
    pub exposure: Exposure,
    /// Digital gain of the sensor, in 1/256.
    pub digital_gain: u32,
    /// Gains of the white balance, in 1/16384.
    pub white_balance: [u16; 4],
}

/// A lens, a sensor and an ISP. Frames use as much of the sensor's array as they need, and the whole scene falls on that part.
#[derive(Debug)]
pub struct Pipeline {
    lamp: [f64; 3],
    automatic: bool,
    /// The threads of the ISP, until there is one.
    pool: Pool,
    seed: u64,
    scene_file: Option<SceneFile>,
    sensor: Sensor,
    /// The light on the sensor for processed frames, and for raw ones.
    lights: [Option<(LightKey, Light)>; 2],
    next_exposure: Option<Exposure>,
    processor: Option<Processor>,
    overrides: Overrides,
    /// The samples of a raw line, and its bytes.
    line: (Vec<u16>, Vec<u8>),
}

/// What the light on a sensor depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct LightKey {
    /// Width and height in pixels of the array.
    size: [u32; 2],
    phase: Phase,
    scene: SceneSettings,
    /// The index of the picture in the scene file.
    picture: usize,
}

/// An ISP with its parameters and its last statistics.
#[derive(Debug)]
struct Processor {
    isp: Isp,
    /// Width and height of the input.
    size: [u32; 2],
    output: Output,
    params: Params,
    statistics: Box<Statistics>,
    used: UsedSettings,
}

/// Takes one line of a frame: its plane, its number in the plane, and its visible bytes. Several threads may call it.
type WriteLine<'a> = &'a (dyn Fn(usize, u32, &[u8]) + Sync);

impl Pipeline {
    /// The pipeline of a camera that `spec` describes, whose ISP has the threads of `pool`.
    ///
    /// # Errors
    /// If the scene file cannot be used.
    pub fn new(spec: &SensorSpec, seed: u64, pool: Pool) -> Result<Self, SceneFileError> {
        let scene_file = spec.scene_file.as_deref().map(SceneFile::open).transpose()?;
        Ok(Self {
            lamp: spec.lamp.map(|thousandths| f64::from(thousandths) / 1000.0),
            automatic: spec.automatic,
            pool,
            seed,
            scene_file,
            sensor: Sensor::new(seed, spec.noise, spec.defects),
            lights: [None, None],
            next_exposure: None,
            processor: None,
            overrides: Overrides::default(),
            line: (Vec::new(), Vec::new()),
        })
    }

    /// Drops all overrides: the parameters become the default ones.
    pub fn reset_params(&mut self) {
        self.overrides = Overrides::default();
        if let Some(processor) = &mut self.processor {
            processor.params = default_params(processor.size);
            processor.set_params();
        }
    }

    /// Changes the overrides by `change`, for the frames that are made from now on.
    ///
    /// # Errors
    /// The error of `change`, which must leave the overrides as they were.
    pub fn override_params<T, E>(
        &mut self,
        change: impl FnOnce(&mut Overrides) -> Result<T, E>,
    ) -> Result<T, E> {
        let changed = change(&mut self.overrides)?;
        if let Some(processor) = &mut self.processor {
            self.overrides.apply(&mut processor.params);
            processor.set_params();
        }
        Ok(changed)
    }

    /// What the last processed frame was made with, and its statistics. None before the first one.
    pub fn measured(&self) -> Option<(&UsedSettings, &Statistics)> {
        self.processor.as_ref().map(|processor| (&processor.used, &*processor.statistics))
    }

    /// The exposure that automatic exposure chose for the next frame, if it did since the last call.
    pub fn take_next_exposure(&mut self) -> Option<Exposure> {
        self.next_exposure.take()
    }

    /// Makes a frame with the format and size of `layout`, and writes its lines by `write`. False if it was abandoned because
    /// `abort` was set; then no line is written any more.
    pub fn make(
        &mut self,
        frame: &FrameSettings,
        layout: &Layout,
        write: WriteLine<'_>,
        abort: &AtomicBool,
    ) -> bool {
        let phase = match &layout.format().pixels {
            Pixels::Bayer(bayer) => bayer.phase(),
            _ => Phase::Rggb,
        };
        let key = LightKey {
            size: frame.size.map(|pixels| pixels * frame.binning),
            phase,
            scene: frame.scene,
            picture: self.scene_file.as_ref().map_or(0, |file| frame.sequence as usize % file.count()),
        };
        let channel = usize::from(layout.format().is_raw());
        if !self.expose(channel, key, abort) {
            return false;
        }
        match &layout.format().pixels {
            Pixels::Bayer(bayer) => self.read_raw(channel, frame, layout, bayer, write, abort),
            _ => self.process(channel, frame, layout, write, abort),
        }
    }

    /// Lets the light of `key` fall on the sensor. False if `abort` was set meanwhile.
    fn expose(&mut self, channel: usize, key: LightKey, abort: &AtomicBool) -> bool {
        let light = &mut self.lights[channel];
        if light.as_ref().is_some_and(|(of, _)| *of == key) {
            return true;
        }
        let scene = match &self.scene_file {
            Some(file) => {
                let Some(picture) = file.scaled(key.picture, key.size, abort) else { return false };
                Scene::picture(key.scene, key.size, picture)
            }
            None => Scene::drawn(key.scene, key.size, self.seed),
        };
        let draw = |y: u32, line: &mut [u8]| scene.line(y, line);
        *light = Light::new(key.size, key.phase, self.lamp, true, draw, abort).map(|light| (key, light));
        light.is_some()
    }

    /// Writes the output of the sensor. False if it was abandoned.
    fn read_raw(
        &mut self,
        channel: usize,
        frame: &FrameSettings,
        layout: &Layout,
        bayer: &Bayer,
        write: WriteLine<'_>,
        abort: &AtomicBool,
    ) -> bool {
        let Some((_, light)) = &self.lights[channel] else { return false };
        let settings = frame.sensor();
        let Bayer { bits, packing, .. } = *bayer;
        let (samples, bytes) = &mut self.line;
        samples.resize(frame.size[0] as usize, 0);
        bytes.resize(layout.planes().map(|plane| plane.line_bytes as usize).sum(), 0);
        for y in 0..frame.size[1] {
            if abort.load(Ordering::Relaxed) {
                return false;
            }
            self.sensor.read_line(light, &settings, frame.sequence, y, samples);
            samples.iter_mut().for_each(|sample| *sample >>= sensor::BITS - bits);
            packing.pack(samples, bits, bytes);
            write(0, y, bytes);
        }
        true
    }

    /// Writes the output of the ISP. False if it was abandoned.
    fn process(
        &mut self,
        channel: usize,
        frame: &FrameSettings,
        layout: &Layout,
        write: WriteLine<'_>,
        abort: &AtomicBool,
    ) -> bool {
        let Some((LightKey { phase, .. }, light)) = &self.lights[channel] else { return false };
        let output =
            Output { crop: frame.crop, size: [layout.width(), layout.height()], format: layout.format() };
        let before = self.processor.take();
        let ready = Processor::ready(before, frame.size, *phase, output, &self.overrides, &mut self.pool);
        let processor = match ready {
            Ok(processor) => self.processor.insert(processor),
            Err(error) => {
                tracing::error!("the camera has no ISP: {error}");
                return false;
            }
        };
        let settings = frame.sensor();
        let read = |y: u32, samples: &mut [u16]| {
            self.sensor.read_line(light, &settings, frame.sequence, y, samples);
        };
        let write = |plane: usize, y: u32, bytes: &[u8]| {
            if !abort.load(Ordering::Relaxed) {
                write(plane, y, bytes);
            }
        };
        if !processor.isp.process(&read, &write, &mut processor.statistics, abort) {
            return false;
        }
        processor.used = UsedSettings {
            exposure: frame.exposure,
            digital_gain: frame.digital_gain,
            white_balance: processor.params.white_balance,
        };
        if self.automatic {
            self.next_exposure = Some(frame.exposure.next(&processor.statistics, frame.interval));
            if self.overrides.white_balance.is_none()
                && auto::balance(&mut processor.params, &processor.statistics)
            {
                processor.set_params();
            }
        }
        true
    }
}

impl FrameSettings {
    /// The settings of the sensor.
    fn sensor(&self) -> Settings {
        Settings {
            crop: [0, 0],
            size: self.size,
            binning: self.binning,
            // The scene is flipped, not the read-out: so the order of colour filters stays the format's.
            flip_x: false,
            flip_y: false,
            exposure_ns: self.exposure.time_ns,
            analogue_gain: self.exposure.gain,
            digital_gain: self.digital_gain,
            black: sensor::BLACK,
        }
    }
}

impl Processor {
    /// An ISP that makes `output` of frames of this size and phase: `before`, if it does that already, or else a new one with its
    /// threads or those of `pool`.
    fn ready(
        before: Option<Self>,
        size: [u32; 2],
        phase: Phase,
        output: Output,
        overrides: &Overrides,
        pool: &mut Pool,
    ) -> Result<Self, IspError> {
        let before = match before {
            Some(before) if before.size == size && before.output == output => return Ok(before),
            before => before,
        };
        let mut params = default_params(size);
        if let Some(before) = before {
            params.white_balance = before.params.white_balance;
            *pool = before.isp.into_pool();
        }
        overrides.apply(&mut params);
        let input = Input { size, phase, bits: sensor::BITS };
        let isp = Isp::with_pool(input, output, &params, std::mem::take(pool))?;
        let (statistics, used) = (Box::default(), UsedSettings::default());
        Ok(Self { isp, size, output, params, statistics, used })
    }

    /// Has the ISP take its parameters. All that change them keep them within their ranges.
    fn set_params(&mut self) {
        self.isp.set_params(&self.params).expect("no parameter is out of its range");
    }
}

/// The parameters of an ISP without overrides.
fn default_params(size: [u32; 2]) -> Params {
    Params::default_for(&sensor::colour(), size)
}
