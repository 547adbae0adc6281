//! The points of every register file: the guest's loads and stores.

use super::{
    bits::flip_word,
    event::Event,
    handle::FaultHandle,
    table::{BITS, UNSIGNED, fault_point},
};

fault_point! {
    /// The guest reads a register.
    pub enum MmioRead = "mmio.read" [access] {
        /// The register reads as all ones, like a register behind a dead link.
        Ones = "ones",
        /// This number of bits of the value are flipped on the way.
        Flip { bits: u32 in BITS } = "flip",
        /// The guest reads this value instead.
        Value { value: u32 in UNSIGNED } = "value",
    }
}

fault_point! {
    /// The guest writes a register.
    pub enum MmioWrite = "mmio.write" [access] {
        /// The register keeps its value.
        Drop = "drop",
        /// This number of bits of the value are flipped on the way.
        Flip { bits: u32 in BITS } = "flip",
        /// This value is written instead.
        Value { value: u32 in UNSIGNED } = "value",
        /// The value is written, and the device's interrupt is raised after it with no event.
        Spurious = "spurious",
    }
}

/// What reaches a device of a write to a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterWrite {
    /// The value that is written; none: nothing is written.
    pub value: Option<u32>,
    /// The device raises its interrupt after it.
    pub spurious: bool,
}

impl FaultHandle {
    /// What the guest reads from a register that has this value.
    #[inline]
    pub fn read_register(&self, register: u32, value: u32) -> u32 {
        let Some(mut fault) = self.consult::<MmioRead>(Event::access(register, value)) else { return value };
        match fault.action {
            MmioRead::Ones => u32::MAX,
            MmioRead::Flip { bits } => flip_word(value, bits, &mut fault.random),
            MmioRead::Value { value } => value,
        }
    }

    /// What reaches the device when the guest writes this value to a register.
    #[inline]
    pub fn write_register(&self, register: u32, value: u32) -> RegisterWrite {
        let written = |value| RegisterWrite { value, spurious: false };
        let Some(mut fault) = self.consult::<MmioWrite>(Event::access(register, value)) else {
            return written(Some(value));
        };
        match fault.action {
            MmioWrite::Drop => written(None),
            MmioWrite::Flip { bits } => written(Some(flip_word(value, bits, &mut fault.random))),
            MmioWrite::Value { value } => written(Some(value)),
            MmioWrite::Spurious => RegisterWrite { value: Some(value), spurious: true },
        }
    }
}
