//! The image sensor Sony IMX290, which Linux's driver `drivers/media/i2c/imx290.c` drives: samples of 10 and of 12 bits.
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
pub const ADDRESS: u8 = 0x1a;

/// The data lanes of its link.
pub(super) const LANES: u32 = 4;

/// The frequency of the external clock in hertz, one of the two with which the driver works.
const EXTERNAL_CLOCK: u32 = 37_125_000;

/// The properties of its node (Documentation/devicetree/bindings/media/i2c/imx290.txt).
pub(super) fn properties(node: Node) -> Node {
    node.compatible(&["sony,imx290"])
        .cells("clocks", [Cell::Clock(EXTERNAL_CLOCK)])
        .property("clock-names", Value::Strings(vec!["xclk".into()]))
        .number("clock-frequency", EXTERNAL_CLOCK)
        .cells("vdda-supply", [Cell::Supply(2_900_000)])
        .cells("vddd-supply", [Cell::Supply(1_200_000)])
        .cells("vdddo-supply", [Cell::Supply(1_800_000)])
}

/// The frequencies of its link: for 1920x1080 and for 1280x720.
pub(super) fn link_frequencies() -> Value {
    Value::Wide(vec![222_750_000, 148_500_000])
}

/// The chip.
pub struct Imx290 {
    registers: Registers,
    cursor: Cursor,
    /// The registers that have their effect while those that are written are held.
    effective: Option<Registers>,
}

impl Imx290 {
    /// A chip after power-on: in standby.
    pub fn new() -> Self {
        Self {
            registers: Registers::new(registers::ALL, Order::LowestFirst),
            cursor: Cursor::default(),
            effective: None,
        }
    }
}

impl Default for Imx290 {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for Imx290 {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Imx290").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl Chip for Imx290 {
    fn start(&mut self, read: bool) {
        self.cursor.start(read);
    }

    fn write(&mut self, byte: u8) -> bool {
        let Some(address) = self.cursor.take(byte) else { return true };
        if address == registers::REGHOLD.address {
            match (byte & 1 != 0, &self.effective) {
                (true, None) => self.effective = Some(self.registers.clone()),
                (false, Some(_)) => self.effective = None,
                _ => {}
            }
        }
        self.registers.write(address, byte);
        true
    }

    fn read(&mut self) -> u8 {
        self.registers.read(self.cursor.advance())
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}

impl ImageSensor for Imx290 {
    fn output(&self) -> Option<Output> {
        readout::output(self.effective.as_ref().unwrap_or(&self.registers))
    }
}
