//! The image sensor Sony IMX219, which Linux's driver `drivers/media/i2c/imx219.c` drives.
//!
//! Every register can be written at any time. `registers` has them, `readout` makes an [`Output`] of them.

mod readout;
mod registers;
#[cfg(test)]
mod tests;

use std::fmt::{Debug, Formatter};

pub use readout::ARRAY;

use super::{
    output::{ImageSensor, Output},
    registers::{Cursor, Order, Registers},
};
use crate::{
    i2c::Chip,
    platform::{Cell, Node, Value},
};

/// Its 7-bit address on the bus.
pub const ADDRESS: u8 = 0x10;

/// The data lanes of its link that the camera uses.
pub(super) const LANES: u32 = 2;

/// Addresses below this one are read only: SMIA's status registers.
const WRITABLE: u16 = 0x0100;

/// The properties of its node (Documentation/devicetree/bindings/media/i2c/imx219.yaml).
pub(super) fn properties(node: Node) -> Node {
    node.compatible(&["sony,imx219"])
        .cells("clocks", [Cell::Clock(readout::EXTERNAL_CLOCK)])
        .cells("VANA-supply", [Cell::Supply(2_800_000)])
        .cells("VDIG-supply", [Cell::Supply(1_800_000)])
        .cells("VDDL-supply", [Cell::Supply(1_200_000)])
}

/// The frequency of its link, in the only speed that the driver has.
pub(super) fn link_frequencies() -> Value {
    Value::Wide(vec![456_000_000])
}

/// The chip.
pub struct Imx219 {
    registers: Registers,
    cursor: Cursor,
}

impl Imx219 {
    /// A chip after power-on: in standby.
    pub fn new() -> Self {
        Self { registers: Registers::new(registers::ALL, Order::HighestFirst), cursor: Cursor::default() }
    }
}

impl Default for Imx219 {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for Imx219 {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Imx219").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl Chip for Imx219 {
    fn start(&mut self, read: bool) {
        self.cursor.start(read);
    }

    fn write(&mut self, byte: u8) -> bool {
        let Some(address) = self.cursor.take(byte) else { return true };
        if address == registers::SOFTWARE_RESET.address {
            if byte & 1 != 0 {
                self.registers = Self::new().registers;
            }
        } else if address >= WRITABLE {
            self.registers.write(address, byte);
        }
        true
    }

    fn read(&mut self) -> u8 {
        self.registers.read(self.cursor.advance())
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

impl ImageSensor for Imx219 {
    fn output(&self) -> Option<Output> {
        readout::output(&self.registers)
    }
}
