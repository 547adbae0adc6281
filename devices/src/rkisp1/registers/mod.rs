//! The register file of the ISP as a state machine, without threads and without memory.
//!
//! `state` has the registers, `accesses` the guest's reads and writes. `frames` says when a frame begins by `clock` and what its end does,
//! `memory_interface` holds the shadows of the two `paths`, and `params` decodes the blocks of the picture pipeline.

mod accesses;
mod clock;
mod fields;
mod frames;
mod lens_tables;
mod memory_interface;
mod params;
mod paths;
mod state;

pub(super) use frames::{Ending, Job, Outcome, Task};
pub(super) use paths::{MAIN, PATHS, PathConfig, Write};
pub(super) use state::Registers;
