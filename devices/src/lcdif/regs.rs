//! The controller's registers: the table from which the register file and the manual are made.
//!
//! Offsets and bits are those of Linux's driver (`drivers/gpu/drm/mxsfb/mxsfb_regs.h`); the driver leaves interrupts out that it does
//! not use, and those are of the reference manual of the i.MX28, chapter "LCD Interface (LCDIF)".

use crate::register_table::{constants, manual_page, registers};

registers! {
    CTRL = 0x000, Rw, 0xc000_0000, "CTRL_* bits.";
    CTRL1 = 0x010, Rw, 0x000f_0000, "CTRL1_* bits.";
    CTRL2 = 0x020, Rw, 0x0020_0000, "Number of requests to memory at a time, bits 23:21. It has no effect here.";
    TRANSFER_COUNT = 0x030, Rw, 0x0001_0000, "Lines of a frame in bits 31:16, pixels of a line in 15:0.";
    CUR_BUF = 0x040, Rw, 0, "Address of the frame that is scanned out. At the end of a frame it becomes NEXT_BUF.";
    NEXT_BUF = 0x050, Rw, 0, "Address of the next frame.";
    VDCTRL0 = 0x070, Rw, 0, "VDCTRL0_* bits. The others, polarities and the length of the vertical synchronisation, have no effect here.";
    VDCTRL1 = 0x080, Rw, 0, "Period of the vertical synchronisation, in lines or in pixel clocks.";
    VDCTRL2 = 0x090, Rw, 0, "Period of a line in pixel clocks, bits 17:0.";
    VDCTRL3 = 0x0a0, Rw, 0, "From a synchronisation to the first pixel and the first line. It has no effect here.";
    VDCTRL4 = 0x0b0, Rw, 0, "Pixels of a line, and whether synchronisation signals are on. It has no effect here.";
    BM_ERROR_STAT = 0x190, Ro, 0, "The first address that the bus refused, of the last frame of which it refused one.";
    CRC_STAT = 0x1a0, Ro, 0, "Checksum of the last frame that was scanned out.";
}

constants! {
    CTRL_RUN = 1 << 0, "Frames are scanned out, if CTRL_DOTCLK_MODE is set, too.";
    CTRL_DATA_FORMAT_16 = 1 << 3, "Pixels of 16 bits are ARGB1555. Such pixels are not read here.";
    CTRL_MASTER = 1 << 5, "The controller reads memory by itself. Frames are not read without it.";
    CTRL_WORD_LENGTH = 3 << 8, "Bits of a pixel.";
    CTRL_WORD_LENGTH_16 = 0 << 8, "16 bits: RGB565.";
    CTRL_WORD_LENGTH_24 = 3 << 8, "24 bits: XRGB8888, with the CTRL1_BYTE_PACKING of 7.";
    CTRL_DOTCLK_MODE = 1 << 17, "The controller makes the synchronisation signals of a panel. Clearing it clears CTRL_RUN.";
    CTRL_CLKGATE = 1 << 30, "The clocks are off: the registers keep what they have.";
    CTRL_SFTRST = 1 << 31, "Writing 1 gives all registers their reset values. Other registers cannot be written while it is set.";
    CTRL1_VSYNC_EDGE_IRQ = 1 << 8, "A vertical synchronisation has begun.";
    CTRL1_CUR_FRAME_DONE_IRQ = 1 << 9, "A frame has ended.";
    CTRL1_UNDERFLOW_IRQ = 1 << 10, "Memory was too slow for the panel.";
    CTRL1_OVERFLOW_IRQ = 1 << 11, "Never set by the controller.";
    CTRL1_IRQ_ENABLES = 0xf << 12, "Each enables the interrupt four bits below.";
    CTRL1_CUR_FRAME_DONE_IRQ_EN = 1 << 13, "Enables CTRL1_CUR_FRAME_DONE_IRQ.";
    CTRL1_BYTE_PACKING = 0xf << 16, "The bytes of a word that are read, a bit each.";
    CTRL1_BYTE_PACKING_XRGB = 7 << 16, "All but the uppermost byte.";
    CTRL1_FIFO_CLEAR = 1 << 21, "Empties the FIFOs. It has no effect here.";
    CTRL1_RECOVER_ON_UNDERFLOW = 1 << 24, "The frame after an underrun is right. Here it always is.";
    CTRL1_BM_ERROR_IRQ = 1 << 25, "The bus refused an address.";
    CTRL1_BM_ERROR_IRQ_EN = 1 << 26, "Enables CTRL1_BM_ERROR_IRQ.";
    VDCTRL0_VSYNC_PERIOD_UNIT = 1 << 21, "VDCTRL1 counts lines, not pixel clocks.";
    VDCTRL2_HSYNC_PERIOD = 0x3_ffff, "The period in VDCTRL2.";
    SET = 0x4, "Offset of the register that sets the bits that are written as 1.";
    CLR = 0x8, "Offset of the one that clears them.";
    TOG = 0xc, "Offset of the one that inverts them.";
    SIZE = 0x2000, "Bytes of the register region.";
}

/// From one register to the next, with those that set, clear and invert its bits.
pub const SPACING: u32 = 0x10;

/// The manual, as a page in Markdown.
pub fn reference() -> String {
    manual_page("The display controller `lcdif`", include_str!("manual.md"), REGISTERS, CONSTANTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register_table::is_in_file;

    #[test]
    fn the_manual_is_this_table() {
        is_in_file("src/lcdif/LCDIF.md", &reference());
    }

    #[test]
    fn offsets_are_ascending_and_leave_room_for_three_more() {
        assert!(REGISTERS.is_sorted_by(|a, b| a.offset < b.offset));
        assert!(
            REGISTERS
                .iter()
                .all(|register| register.offset.is_multiple_of(SPACING) && register.offset < SIZE)
        );
    }
}
