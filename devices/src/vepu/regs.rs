//! The encoder's registers: the table from which the register file and the manual are made.
//!
//! Offsets and bits are those of Linux's driver (`drivers/media/platform/verisilicon/rockchip_vpu2_regs.h`), for JPEG alone.

use crate::register_table::{constants, manual_page, registers};

registers! {
    LUMA_QUANT = 0x000, Rw, 0, "Divisors of luma: 16 words of four, in the encoder's order, the first in the uppermost byte.";
    CHROMA_QUANT = 0x040, Rw, 0, "Divisors of chroma, likewise.";
    IN_PLANE_0 = 0x0c0, Rw, 0, "Address of the picture, or of its luma.";
    IN_PLANE_1 = 0x0c4, Rw, 0, "Address of Cb, or of Cb and Cr.";
    IN_PLANE_2 = 0x0c8, Rw, 0, "Address of Cr.";
    STR_BUF_LIMIT = 0x0d4, Rw, 0, "Before a picture: bytes that the scan may have. After it: bits that it has.";
    AXI_CTRL = 0x0d8, Rw, 0, "Length of bursts and identifiers on the bus. It has no effect here.";
    OVER_FILL = 0x0f0, Rw, 0, "How much of the last blocks does not count: OVER_FILL_* bits.";
    LUMA_INFO = 0x0f4, Rw, 0, "Pixels from one line to the next, bits 13:0.";
    ENC_CTRL1 = 0x128, Rw, 0, "Format of the picture, bits 7:4: ENC_FMT_* values.";
    OUTPUT_STREAM = 0x134, Rw, 0, "Address of the scan.";
    ENCODE_START = 0x19c, Rw, 0, "START_* bits.";
    DATA_ENDIAN = 0x1a4, Rw, 0, "Order of bytes in memory. It has no effect here: the order is that of increasing addresses.";
    INTERRUPT = 0x1b4, Rw, 0, "INTERRUPT_* bits.";
}

constants! {
    QUANT_WORDS = 16, "Words of a table of divisors.";
    OVER_FILL_RIGHT = 0x3 << 4, "OVER_FILL: columns of the last blocks, in units of four pixels.";
    OVER_FILL_BOTTOM = 0xf, "OVER_FILL: lines of the last blocks.";
    LUMA_INFO_ROW = 0x3fff, "LUMA_INFO: the distance of lines in pixels.";
    ENC_FMT = 0xf << 4, "ENC_CTRL1: the format.";
    ENC_FMT_PLANAR = 0 << 4, "ENC_CTRL1: 4:2:0 in three planes (YUV420M).";
    ENC_FMT_SEMI_PLANAR = 1 << 4, "ENC_CTRL1: 4:2:0 in two planes (NV12M).";
    ENC_FMT_YUYV = 2 << 4, "ENC_CTRL1: 4:2:2 in one plane, luma first. The chroma of two lines is averaged.";
    ENC_FMT_UYVY = 3 << 4, "ENC_CTRL1: 4:2:2 in one plane, chroma first.";
    START_ENABLE = 1 << 0, "ENCODE_START: encodes a picture. Clears itself. Clearing it ends the picture in work without a report.";
    START_FORMAT = 3 << 4, "ENCODE_START: the codec.";
    START_FORMAT_JPEG = 2 << 4, "ENCODE_START: JPEG.";
    START_INTRA = 1 << 6, "ENCODE_START: a picture that depends on no other. All are here.";
    START_WIDTH = 0x1ff << 8, "ENCODE_START: blocks of 16 pixels in a line.";
    START_HEIGHT = 0x1ff << 20, "ENCODE_START: lines of blocks.";
    INTERRUPT_PENDING = 1 << 0, "INTERRUPT: the line is high, if INTERRUPT_DISABLE is not set.";
    INTERRUPT_FRAME_READY = 1 << 1, "INTERRUPT: the scan is complete.";
    INTERRUPT_FUSE = 1 << 3, "INTERRUPT: this encoder does not have the codec or the format.";
    INTERRUPT_BUS_ERROR = 1 << 4, "INTERRUPT: the bus refused an address.";
    INTERRUPT_BUFFER_FULL = 1 << 5, "INTERRUPT: the scan does not fit.";
    INTERRUPT_TIMEOUT = 1 << 6, "INTERRUPT: the encoder took too long.";
    INTERRUPT_DISABLE = 1 << 8, "INTERRUPT: the line stays low. Cleared when a picture begins.";
    INTERRUPT_STATUS = 0x7f, "INTERRUPT: the bits that a write clears where it has a 0. A write sets none of them.";
    SIZE = 0x800, "Bytes of the register region.";
}

/// The manual, as a page in Markdown.
pub fn reference() -> String {
    manual_page("The JPEG encoder `vepu`", include_str!("manual.md"), REGISTERS, CONSTANTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register_table::is_in_file;

    #[test]
    fn the_manual_is_this_table() {
        is_in_file("src/vepu/VEPU.md", &reference());
    }

    #[test]
    fn offsets_are_ascending() {
        assert!(REGISTERS.is_sorted_by(|a, b| a.offset < b.offset));
        assert!(REGISTERS.iter().all(|register| register.offset.is_multiple_of(4) && register.offset < SIZE));
    }
}
