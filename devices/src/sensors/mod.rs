//! Image sensor chips: a folder each, and the face that they have for the receiver of their frames.
//!
//! A chip is an [`i2c::Chip`](crate::i2c::Chip) with registers. What it sends follows from them as plain data, an [`Output`]. The
//! receiver renders the frames by it, with [`media::sensor`] or with a [`TestPattern`].

pub mod imx219;
pub mod imx290;
mod model;
pub mod options;
mod output;
mod registers;
mod test_pattern;

pub use model::Model;
pub use output::{ImageSensor, Output, RAW8, RAW10, RAW12};
pub use test_pattern::{Pattern, TestPattern, Window};
