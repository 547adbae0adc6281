//! A camera as on Rockchip's RK3399: the ISP `rockchip,rk3399-cif-isp` with its CSI-2 receiver and D-PHY, and an image sensor on an I2C
//! bus. Linux drives all of it with its own drivers: rkisp1, phy-rockchip-dphy-rx0, i2c-rk3x and the sensor's.
//!
//! The guest programs the [sensor](crate::sensors) through the [I2C controller](crate::i2c::rk3x). The sensor's clock begins frames. A
//! frame that receiver and ISP are set up for is exposed and processed by [`media::rkisp1`] on the camera's thread, and its two paths
//! write it through the DMA port. [`regs`] has the registers of the ISP, `RKISP1.md` the manual.
//!
//! `registers` is the state machine, `worker` makes frames, `writer` writes a path's lines, `grf` is the register file of the D-PHY.
//! [`setup`] has the stores of a driver.

mod counters;
mod device;
mod faults;
mod grf;
mod registers;
pub mod regs;
pub mod setup;
mod spec;
mod stepper;
#[cfg(test)]
mod tests;
mod worker;
mod writer;

pub use device::Rkisp1;
pub use spec::{REGISTRATION, Rkisp1Spec};
pub use stepper::Stepper;
