//! The layouts of the ISP's metadata in memory. The parser, the C header for programs and the reference page are made from the
//! one `table`.
//!
#![doc = include_str!("uapi.md")]

mod documents;
mod params;
mod statistics;
mod table;

pub use documents::{c_header, reference};
pub use params::{PARAMS_MAX, ParamsFault, blocks, take};
pub use statistics::STATISTICS_SIZE;
pub(super) use statistics::{Made, write};
pub use table::{
    FLAG_DISABLE, FLAG_ENABLE, HEADER, PARAMS_FOURCC, PARAMS_VERSION, STATISTICS_FOURCC, STATISTICS_VERSION,
};
