//! The registers of the chip that have an effect.
//!
//! Addresses and values are those of the driver, of the frame bank A and of SMIA, which the chip follows. The reset values of
//! registers that the driver always writes are those that it writes for the full array, with all four lanes of the chip.

use crate::sensors::registers::registers;

registers! {
    CHIP_ID = 0x0000, 2, 0x0219, "The number of the chip. Read only.";
    MODE_SELECT = 0x0100, 1, 0, "Bit 0: the chip streams. Otherwise it is in standby.";
    SOFTWARE_RESET = 0x0103, 1, 0, "Writing bit 0 puts all registers into the state after power-on.";
    CSI_LANES = 0x0114, 1, 3, "Data lanes of the CSI-2 link, less one: 1 or 3.";
    ANALOGUE_GAIN = 0x0157, 1, 0, "Gain before quantisation: 256 / (256 - this), at most 232.";
    DIGITAL_GAIN = 0x0158, 2, 0x0100, "Gain after quantisation, in 1/256, 12 bits.";
    EXPOSURE = 0x015a, 2, 0x0640, "Exposure time in lines.";
    FRAME_LENGTH = 0x0160, 2, 3526, "Lines from one frame to the next.";
    LINE_LENGTH = 0x0162, 2, 3448, "Pixels from one line to the next.";
    X_START = 0x0164, 2, 0, "The first column that is read out.";
    X_END = 0x0166, 2, 3279, "The last column that is read out.";
    Y_START = 0x0168, 2, 0, "The first line that is read out.";
    Y_END = 0x016a, 2, 2463, "The last line that is read out.";
    X_SIZE = 0x016c, 2, 3280, "Width of a frame.";
    Y_SIZE = 0x016e, 2, 2464, "Height of a frame.";
    X_ODD_INCREMENT = 0x0170, 1, 1, "1: every pair of columns is read out; 3: every second one.";
    Y_ODD_INCREMENT = 0x0171, 1, 1, "1: every pair of lines is read out; 3: every second one.";
    ORIENTATION = 0x0172, 1, 0, "Bit 0: lines are read from right to left. Bit 1: the lowest line is read first.";
    BINNING_X = 0x0174, 1, 0, "Columns of a colour that make one: 0: 1; 1: 2; 2: 4; 3: 2, analogue.";
    BINNING_Y = 0x0175, 1, 0, "Lines of a colour that make one, as in BINNING_X.";
    CSI_FORMAT = 0x018c, 2, 0x0a0a, "Bits of a sample before and after compression: 0x0808 or 0x0a0a.";
    VT_PIXEL_DIVISOR = 0x0301, 1, 5, "PLL: divides its frequency to that of pairs of pixels.";
    VT_SYSTEM_DIVISOR = 0x0303, 1, 1, "PLL: divides its frequency, too.";
    VT_PRE_DIVISOR = 0x0304, 1, 3, "PLL: divides the external clock: 1, 2 or 3.";
    VT_MULTIPLIER = 0x0306, 2, 57, "PLL: multiplies the divided clock, 11 bits.";
    TEST_PATTERN = 0x0600, 2, 0, "0: the picture; 1: a colour; 2: bars; 3: bars that fade to grey; 4: PN9.";
    TEST_RED = 0x0602, 2, 0, "The colour of red pixels, 10 bits.";
    TEST_GREEN_RED = 0x0604, 2, 0, "The colour of green pixels on lines with red.";
    TEST_BLUE = 0x0606, 2, 0, "The colour of blue pixels.";
    TEST_GREEN_BLUE = 0x0608, 2, 0, "The colour of green pixels on lines with blue.";
    TEST_X = 0x0620, 2, 0, "The first column of the frame that has the test pattern.";
    TEST_Y = 0x0622, 2, 0, "The first line of the frame that has the test pattern.";
    TEST_WIDTH = 0x0624, 2, 3280, "The columns that have the test pattern.";
    TEST_HEIGHT = 0x0626, 2, 2464, "The lines that have the test pattern.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensors::registers::{Order, assert_is_table};

    #[test]
    fn registers_do_not_overlap_and_have_their_reset_values() {
        assert_is_table(ALL, Order::HighestFirst);
    }
}
