//! The display controller `fsl,imx28-lcdif` of NXP's i.MX28, with a panel. Linux's driver is `drivers/gpu/drm/mxsfb`; the panel's is
//! panel-simple.
//!
//! The guest says where a frame lies in memory, how large it is, and how long the panel takes for it. At the end of each such time the
//! controller reads the frame through the DMA port, reports it with a level-triggered interrupt, and goes on with the next address.
//! [`regs`] has the registers, `LCDIF.md` the manual.
//!
//! `registers` is the state machine, `scan` reads a frame, `worker` is the thread that waits for the panel's clock. `faults` declares the
//! faults. [`setup`] has the stores of a driver.

mod counters;
mod device;
mod faults;
mod panel;
mod registers;
pub mod regs;
mod scan;
pub mod setup;
mod spec;
mod stepper;
#[cfg(test)]
mod tests;
mod worker;

pub use device::Lcdif;
pub use panel::Panel;
pub use spec::{LcdifSpec, REGISTRATION};
pub use stepper::Stepper;
