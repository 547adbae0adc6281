//! Imaging without registers: scenes, an image sensor, an image signal processor (ISP), pixel formats, and files of frames.
//!
//! A device with a camera inside builds on this module and brings its own registers. A frame comes from one of two sources.
//! A [`TestPattern`] draws a scene in the frame's pixel format. A [`Pipeline`] exposes a [`sensor`] to the scene and has an
//! [`isp`] process what the sensor reads. Either way the frame carries a [`stamp`], by which its bytes can be checked later.
//!
//! Nothing here knows guest memory: a device passes in where the lines of a frame go.

// Such a thread is not confined.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod auto;
mod captured;
mod convert;
pub mod display;
mod format;
mod frame_source;
pub mod isp;
pub mod jpeg;
mod packing;
mod phase;
mod pipeline;
pub mod random;
mod raw_source;
mod recording;
mod rect;
pub mod rkisp1;
mod scene;
mod scene_file;
pub mod sensor;
mod simd;
pub mod stamp;
mod test_pattern;
pub mod threads;
pub mod yuv;

pub use auto::Exposure;
pub use captured::Captured;
pub use format::{
    FORMATS, Format, LARGEST_FRAME, Layout, LayoutError, MAX_PLANES, PlaneLayout, PlaneShape, SMALLEST_FRAME,
};
pub use frame_source::FrameSource;
pub use packing::Packing;
pub use phase::Phase;
pub use pipeline::{FrameSettings, Pipeline, SensorSpec, UsedSettings};
pub use raw_source::RawSource;
pub use recording::{Recorder, Recording, RecordingError};
pub use scene::{Pattern, SceneSettings};
pub use scene_file::{SceneFile, SceneFileError};
pub use simd::Level;
pub use test_pattern::{TestFrame, TestPattern};
