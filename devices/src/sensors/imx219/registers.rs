//! The registers of the chip: a table of those that have an effect, and the bytes behind all addresses.
//!
//! Addresses and values are those of the driver, of the frame bank A and of SMIA, which the chip follows. The reset values of
//! registers that the driver always writes are those that it writes for the full array, with all four lanes of the chip.

/// A register that has an effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Register {
    /// The address of its first byte, the highest.
    pub(super) address: u16,
    /// Its size in bytes, 1 or 2.
    pub(super) bytes: u16,
    /// Its value after power-on.
    pub(super) reset: u16,
}

/// Declares registers: a constant for each, and the table `ALL`.
macro_rules! table {
    ($($name:ident = $address:literal, $bytes:literal, $reset:literal, $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub(super) const $name: Register = Register { address: $address, bytes: $bytes, reset: $reset };
        )*

        /// All of them, by address.
        pub(super) const ALL: &[Register] = &[$($name),*];
    };
}

table! {
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

/// The number of addresses.
const ADDRESSES: usize = 1 << 16;

/// Addresses below this one are read only: SMIA's status registers.
const WRITABLE: u16 = 0x0100;

/// The bytes behind all addresses. Those of no register keep what is written.
pub(super) struct Registers(Vec<u8>);

impl Registers {
    /// The state after power-on.
    pub(super) fn new() -> Self {
        let mut bytes = vec![0; ADDRESSES];
        for register in ALL {
            let at = usize::from(register.address);
            let size = usize::from(register.bytes);
            bytes[at..at + size].copy_from_slice(&register.reset.to_be_bytes()[2 - size..]);
        }
        Self(bytes)
    }

    /// The byte at an address.
    pub(super) fn read(&self, address: u16) -> u8 {
        self.0[usize::from(address)]
    }

    /// The guest writes the byte at an address.
    pub(super) fn write(&mut self, address: u16, byte: u8) {
        if address == SOFTWARE_RESET.address {
            if byte & 1 != 0 {
                *self = Self::new();
            }
        } else if address >= WRITABLE {
            self.0[usize::from(address)] = byte;
        }
    }

    /// The value of a register.
    pub(super) fn get(&self, register: Register) -> u16 {
        let bytes = register.address..register.address + register.bytes;
        bytes.fold(0, |value, address| value << 8 | u16::from(self.read(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_do_not_overlap_and_have_their_reset_values() {
        assert!(ALL.is_sorted_by(|a, b| a.address + a.bytes <= b.address));
        let registers = Registers::new();
        assert!(ALL.iter().all(|register| registers.get(*register) == register.reset));
        let set = (0..=u16::MAX).filter(|address| registers.read(*address) != 0).count();
        let expected: usize = ALL
            .iter()
            .map(|register| register.reset.to_be_bytes().iter().filter(|byte| **byte != 0).count())
            .sum();
        assert_eq!(set, expected);
    }
}
