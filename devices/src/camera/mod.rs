//! The camera: a memory-mapped platform device that writes frames to addresses which the guest's driver programs.
//!
//! This is a register interface to [`media`]. [`regs`] is the table of the registers, and `registers` implements
//! them, with `channel_registers` and `sensor_registers` for those of a channel and of the sensor. The worker thread takes a
//! job from the registers, so that a vCPU never waits for a frame. `transfer` checks the configuration of the frame,
//! `source` makes the frame, and the frame goes to guest memory through the [`DmaPort`](crate::dma::DmaPort). The ISP's statistics and parameters
//! ([`uapi`]) are transferred together with the frames.

mod channel_registers;
mod channels;
mod clock;
mod counters;
mod device;
mod error;
mod faults;
mod frame_config;
mod job;
mod metadata;
mod platform;
mod registers;
pub mod regs;
mod sensor_registers;
mod source;
mod spec;
mod stepper;
mod transfer;
pub mod uapi;
mod worker;

pub use counters::Counters;
pub use device::Camera;
pub use error::CameraError;
pub use platform::REGISTRATION;
pub use spec::{CameraSpec, Timing};
pub use stepper::Stepper;

#[cfg(test)]
mod tests;
