//! The image sensor Sony IMX219 at I2C address 0x10, which Linux's driver `drivers/media/i2c/imx219.c` drives.
//!
//! A message begins with the address of a register, two bytes, high byte first. The bytes that follow go to the registers from
//! there on, or come from them. Every register can be written at any time. `registers` has them, `readout` makes an
//! [`Output`] of them.

mod readout;
mod registers;
#[cfg(test)]
mod tests;

use std::fmt::{Debug, Formatter};

pub use readout::{ARRAY, EXTERNAL_CLOCK};

use super::output::{ImageSensor, Output};
use crate::i2c::Chip;
use registers::Registers;

/// Its 7-bit address on the bus.
pub const ADDRESS: u8 = 0x10;

/// The chip.
pub struct Imx219 {
    registers: Registers,
    /// The address of the register that the next byte is for.
    index: u16,
    /// Bytes of that address that the message has yet to bring.
    missing: u8,
}

impl Imx219 {
    /// A chip after power-on: in standby.
    pub fn new() -> Self {
        Self { registers: Registers::new(), index: 0, missing: 0 }
    }

    /// The index, which moves on to the next register.
    fn advance(&mut self) -> u16 {
        let index = self.index;
        self.index = index.wrapping_add(1);
        index
    }
}

impl Default for Imx219 {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for Imx219 {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Imx219").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Chip for Imx219 {
    fn start(&mut self, read: bool) {
        self.missing = if read { 0 } else { 2 };
    }

    fn write(&mut self, byte: u8) -> bool {
        if self.missing > 0 {
            self.missing -= 1;
            self.index = self.index << 8 | u16::from(byte);
        } else {
            let index = self.advance();
            self.registers.write(index, byte);
        }
        true
    }

    fn read(&mut self) -> u8 {
        let index = self.advance();
        self.registers.read(index)
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

impl ImageSensor for Imx219 {
    fn array(&self) -> [u32; 2] {
        ARRAY
    }

    fn output(&self) -> Option<Output> {
        readout::output(&self.registers)
    }
}
