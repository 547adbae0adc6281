//! The source of the camera's frames: the test pattern generator, or a sensor with an ISP.

use std::sync::atomic::AtomicBool;

use super::{
    channels::FRAME_CHANNELS,
    error::CameraError,
    job::Job,
    spec::CameraSpec,
    transfer::Transfer,
    uapi::{self, Made, ParamsFault, STATISTICS_SIZE},
};
use media::{Exposure, FrameSettings, Pipeline, TestPattern, isp::Pool};

/// What frames are made from.
pub(super) enum Source {
    /// The test pattern generator, with the pattern of each channel's last frame.
    Patterns { seed: u64, patterns: Box<[Option<TestPattern>; FRAME_CHANNELS]> },
    /// A sensor and an ISP.
    Sensor {
        pipeline: Box<Pipeline>,
        /// The number of resets that the pipeline knows of.
        resets: u32,
    },
}

impl Source {
    /// The source of a camera that `spec` describes.
    pub(super) fn new(spec: &CameraSpec) -> Result<Self, CameraError> {
        let seed = spec.seed.unwrap_or_default();
        Ok(match &spec.sensor {
            Some(sensor) => {
                let pipeline = Pipeline::new(sensor, seed, Pool::new(sensor.threads)?)?;
                Self::Sensor { pipeline: Box::new(pipeline), resets: 0 }
            }
            None => Self::Patterns { seed, patterns: Box::new([const { None }; FRAME_CHANNELS]) },
        })
    }

    /// Makes the frame of `job` for `channel`, and writes it. False if it was abandoned because of `abort`.
    pub(super) fn make(
        &mut self,
        channel: usize,
        job: &Job,
        transfer: &Transfer,
        abort: &AtomicBool,
    ) -> bool {
        let layout = transfer.layout();
        match self {
            Self::Sensor { pipeline, .. } => {
                let Some(settings) = frame_settings(job, transfer) else { return false };
                let write = |plane: usize, y: u32, bytes: &[u8]| transfer.write_line(plane, y, bytes);
                pipeline.make(&settings, layout, &write, abort) && transfer.finish(job.sequence, abort)
            }
            Self::Patterns { seed, patterns } => {
                let pattern = &mut patterns[channel];
                // The old one is dropped first: two of the largest take 70 MB.
                pattern.take_if(|pattern| !pattern.is(job.scene, layout));
                if pattern.is_none() {
                    *pattern = TestPattern::render(job.scene, layout, *seed, abort);
                }
                pattern.as_mut().is_some_and(|pattern| transfer.write(&pattern.frame(job.sequence), abort))
            }
        }
    }

    /// The exposure that automatic exposure chose for the next frame, if it did.
    pub(super) fn next_exposure(&mut self) -> Option<Exposure> {
        match self {
            Self::Sensor { pipeline, .. } => pipeline.take_next_exposure(),
            Self::Patterns { .. } => None,
        }
    }

    /// A frame begins. After a reset of the camera, parameters that were set before it are dropped.
    pub(super) fn begin(&mut self, job: &Job) {
        if let Self::Sensor { pipeline, resets } = self
            && *resets != job.resets
        {
            *resets = job.resets;
            pipeline.reset_params();
        }
    }

    /// Takes a buffer of parameters for the frame that begins, and for those after it. Returns the number of bytes taken, or
    /// none if there is no ISP.
    ///
    /// # Errors
    /// What is wrong with the parameters; then none of them is taken.
    pub(super) fn take_params(&mut self, bytes: &[u8]) -> Result<Option<usize>, ParamsFault> {
        match self {
            Self::Sensor { pipeline, .. } => {
                pipeline.override_params(|overrides| uapi::take(overrides, bytes)).map(Some)
            }
            Self::Patterns { .. } => Ok(None),
        }
    }

    /// Writes the statistics of the last processed frame, which was that of `job`. False if there are none.
    pub(super) fn write_statistics(&self, job: &Job, buffer: &mut [u8; STATISTICS_SIZE]) -> bool {
        let Self::Sensor { pipeline, .. } = self else { return false };
        let Some((used, statistics)) = pipeline.measured() else { return false };
        let made = Made {
            sequence: job.sequence,
            params_sequence: job.params_sequence,
            time: job.nanoseconds(),
            used: *used,
        };
        uapi::write(&made, statistics, buffer);
        true
    }
}

/// How the frame of `job` is made for `transfer`, if the camera has a sensor.
fn frame_settings(job: &Job, transfer: &Transfer) -> Option<FrameSettings> {
    let sensor = job.sensor.as_ref()?;
    let input = transfer.input();
    Some(FrameSettings {
        sequence: job.sequence,
        scene: job.scene,
        size: input.size,
        crop: input.crop,
        binning: sensor.binning(input.size),
        exposure: sensor.exposure(),
        digital_gain: sensor.digital_gain(),
        interval: job.interval,
    })
}
