//! What a sensor sends, as plain data.

use std::{fmt::Debug, time::Duration};

use media::{Phase, sensor::Settings};

use super::test_pattern::TestPattern;
use crate::i2c::Chip;

/// The data type of samples of 8 bits (MIPI CSI-2, RAW8).
pub const RAW8: u8 = 0x2a;

/// The data type of samples of 10 bits (MIPI CSI-2, RAW10).
pub const RAW10: u8 = 0x2b;

/// The data type of samples of 12 bits (MIPI CSI-2, RAW12).
pub const RAW12: u8 = 0x2c;

/// Frames that follow each other faster than this are beyond any of the chips. The bound keeps a hostile guest from faster ones.
pub(super) const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// An image sensor on an I2C bus.
pub trait ImageSensor: Chip + Debug {
    /// What it sends now. None in standby, and while its registers describe no frame. A change takes effect with the frame that
    /// begins next, and a change of the exposure time with the one after that.
    fn output(&self) -> Option<Output>;
}

/// The frames that a sensor sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Width and height in pixels, both even: those of [`Settings::size`].
    pub size: [u32; 2],
    /// Bits of a sample.
    pub bits: u32,
    /// The phase of the frame, after flips.
    pub phase: Phase,
    /// The data type on the CSI-2 link: [`RAW8`], [`RAW10`] or [`RAW12`].
    pub data_type: u8,
    /// The data lanes of the link.
    pub lanes: u8,
    /// From the start of one frame to that of the next.
    pub interval: Duration,
    /// The readout of the array. Crop and size lie within [`Model::array`](super::Model::array).
    pub settings: Settings,
    /// The pattern that takes the place of the picture.
    pub test_pattern: Option<TestPattern>,
}
