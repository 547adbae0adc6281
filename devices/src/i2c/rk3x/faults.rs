//! The faults of the controller. The device that owns it lists the point in its table.

use crate::faults::{BITS, fault_point};

fault_point! {
    /// The I2C controller is about to send the address byte of a message. A read that MOD_REGISTER_TX begins with the address of a
    /// register is one event.
    pub enum Message = "i2c" [] {
        /// The address byte is not acknowledged.
        Nack = "nack",
        /// The bus hangs: nothing is transferred and no flag is set until the guest generates STOP or disables the controller.
        Stuck = "stuck",
        /// This number of bits of the message's data, at most of its first 32 bytes, are flipped on the way.
        Flip { bits: u32 in BITS } = "flip",
        /// The data is transferred, but the flag that says so is not set.
        Lose = "lose",
    }
}
