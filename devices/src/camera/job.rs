//! A frame that the worker makes for the registers, and how it ended.

use std::time::Duration;

use super::{
    channels::CHANNELS, frame_config::FrameConfig, sensor_registers::SensorRegisters, transfer::Refusal,
    uapi::ParamsFault,
};
use media::{Exposure, SceneSettings};

/// A frame to make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Job {
    /// The configuration of each channel. None for a channel that does not take part.
    pub(super) configs: [Option<FrameConfig>; CHANNELS],
    pub(super) scene: SceneSettings,
    /// The registers of the sensor, if the camera has one.
    pub(super) sensor: Option<SensorRegisters>,
    pub(super) sequence: u32,
    /// The sequence number of the frame that took the last parameters, if there was one.
    pub(super) params_sequence: Option<u32>,
    /// The number of resets of the camera so far.
    pub(super) resets: u32,
    /// Start of frame, since the sensor started.
    pub(super) time: Duration,
    /// The time from one frame to the next.
    pub(super) interval: Duration,
    /// A fault that affects all channels.
    pub(super) wrong: Option<FrameFault>,
}

/// A fault of a whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameFault {
    /// The link to the sensor is lost. The guest is notified at the first frame.
    LinkLost { first: bool },
    /// The frame never ends.
    Stuck,
}

impl Job {
    /// The start of frame in nanoseconds.
    pub(super) fn nanoseconds(&self) -> u64 {
        u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// How a channel's frame ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FrameOutcome {
    /// It was written.
    Written {
        /// Visible bytes.
        bytes: u64,
        /// Bytes with the padding between the lines.
        span: u32,
        /// The exposure that automatic exposure chose for the next frame.
        exposure: Option<Exposure>,
    },
    /// This number of bytes of metadata was transferred.
    Transferred(u32),
    /// Its parameters were wrong.
    BadParams(ParamsFault),
    /// Its configuration was refused.
    Refused(Refusal),
    /// A fault lost it on the way. The guest is notified of these events.
    Lost(u32),
    /// It was abandoned because the camera was reset.
    Abandoned,
}
