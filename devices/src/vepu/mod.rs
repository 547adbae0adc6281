//! The JPEG encoder `rockchip,rk3568-vepu`: the video encoder of Rockchip's RK3568, which has JPEG alone. Linux's driver is
//! `drivers/media/platform/verisilicon` (hantro-vpu).
//!
//! The guest says where the planes of a picture lie in memory, which divisors its coefficients get, and where the scan goes. The encoder
//! reads and writes through the DMA port, and reports the scan's length with a level-triggered interrupt. [`regs`] has the registers,
//! `VEPU.md` the manual.
//!
//! `registers` is the state machine, `picture` reads what is encoded, `worker` is the thread that encodes with [`media::jpeg`]. `faults`
//! declares the faults. [`setup`] has the stores of a driver.

mod counters;
mod device;
mod faults;
mod picture;
mod registers;
pub mod regs;
pub mod setup;
mod spec;
mod stepper;
#[cfg(test)]
mod tests;
mod worker;

pub use device::Vepu;
pub use picture::Format;
pub use spec::{REGISTRATION, VepuSpec};
pub use stepper::Stepper;
