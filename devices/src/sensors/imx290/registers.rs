//! The registers of the chip that have an effect.
//!
//! Addresses and values are those of the driver, which has them from the data sheet. The reset values of registers that the driver
//! always writes are those that it writes for 1920x1080 with four lanes and 12 bits.

use crate::sensors::registers::registers;

registers! {
    STANDBY = 0x3000, 1, 1, "Bit 0: the chip is in standby.";
    REGHOLD = 0x3001, 1, 0, "Bit 0: what is written has its effect when this is 0 again.";
    XMSTA = 0x3002, 1, 1, "Bit 0: the chip sends no frames.";
    ADBIT = 0x3005, 1, 1, "Bit 0: samples have 12 bits, not 10.";
    CTRL_07 = 0x3007, 1, 0, "Bit 0: the lowest line is read first. Bit 1: lines are read from right to left. Bits 4 to 6: the window.";
    BLKLEVEL = 0x300a, 2, 0xf0, "The sample without light, 9 bits.";
    GAIN = 0x3014, 1, 0, "Gain in 0.3 dB. What is above 30 dB is digital. At most 240.";
    VMAX = 0x3018, 3, 1125, "Lines from one frame to the next, 18 bits.";
    HMAX = 0x301c, 2, 2200, "Periods of 148.5 MHz from one line to the next.";
    SHS1 = 0x3020, 3, 0, "Lines of a frame before the exposure begins, less one, 18 bits.";
    OUT_CTRL = 0x3046, 1, 1, "Bit 0: samples have 12 bits on the link, not 10.";
    PGCTRL = 0x308c, 1, 0, "Bits 0 and 1: a test pattern takes the place of the picture. Bits 4 to 7: which.";
    PHY_LANE_NUM = 0x3407, 1, 3, "Data lanes of the CSI-2 link, less one: 1 or 3.";
    Y_OUT_SIZE = 0x3418, 2, 1080, "Height of a frame.";
    CSI_DT_FMT = 0x3441, 2, 0x0c0c, "Bits of a sample before and after compression: 0x0a0a or 0x0c0c.";
    CSI_LANE_MODE = 0x3443, 1, 3, "Must be PHY_LANE_NUM.";
    X_OUT_SIZE = 0x3472, 2, 1920, "Width of a frame.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensors::registers::{Order, assert_is_table};

    #[test]
    fn registers_do_not_overlap_and_have_their_reset_values() {
        assert_is_table(ALL, Order::LowestFirst);
    }
}
