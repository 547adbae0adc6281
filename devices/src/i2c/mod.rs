//! I2C: a bus with emulated chips on it, and the controllers by which a guest reaches them.
//!
//! A device owns a controller, the controller owns its [`Bus`], and the bus owns the chips. None of them has a lock or a thread:
//! the device's lock covers them.

mod bus;
pub mod rk3x;

pub use bus::{Bus, Chip};
