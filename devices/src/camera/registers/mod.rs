//! The register file: the behaviour of the registers of [`regs`](super::regs), as a state machine without threads and pixels.
//!
//! The guest's accesses come in by `guest_reads` and `guest_writes`. The worker takes frames to make by `poll`, and reports
//! them by `started` and `finished`. The caller passes the time in, and holds a lock during each call, so every call is short.

mod accesses;
mod frames;
mod state;

pub(super) use frames::Task;
pub(super) use state::RegisterFile;

#[cfg(test)]
mod tests;
