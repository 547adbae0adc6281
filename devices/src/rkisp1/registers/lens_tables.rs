//! The memory of the lens-shading gains.

use media::rkisp1::POINTS;

use super::fields::low;
use crate::rkisp1::regs::*;

/// Words of a table of gains: two gains a word, nine words for the 17 gains of a line (`rkisp1_lsc_matrix_config_v10`).
const TABLE_WORDS: usize = 9 * POINTS;

/// The words of a line of gains.
const LINE_WORDS: usize = 9;

/// The memory of the lens-shading gains: two tables for each channel, of which a frame uses one.
#[derive(Debug, Clone)]
pub(super) struct LensTables {
    /// Red, green in lines with red, green in lines with blue, and blue.
    words: Box<[[u32; 2 * TABLE_WORDS]; 4]>,
    /// The table of the present frame.
    pub(super) active: usize,
}

impl Default for LensTables {
    fn default() -> Self {
        Self { words: Box::new([[0; 2 * TABLE_WORDS]; 4]), active: 0 }
    }
}

/// The registers that address the memory, in the order of the channels.
const TABLE_ADDRESSES: [u32; 4] =
    [ISP_LSC_R_TABLE_ADDR, ISP_LSC_GR_TABLE_ADDR, ISP_LSC_GB_TABLE_ADDR, ISP_LSC_B_TABLE_ADDR];

impl LensTables {
    /// Writes the word of `channel` that its address register in `registers` says, and moves the address on.
    pub(super) fn write(&mut self, registers: &mut [u32], channel: usize, value: u32) {
        let address = &mut registers[TABLE_ADDRESSES[channel] as usize / 4];
        let index = *address as usize % (2 * TABLE_WORDS);
        self.words[channel][index] = value & 0x00ff_ffff;
        *address = u32::try_from(index + 1).unwrap_or(0);
    }

    /// Takes the table that `select`, the value of `ISP_LSC_TABLE_SEL`, chooses for a frame that begins.
    pub(super) fn latch(&mut self, select: u32) {
        self.active = (select & 1) as usize;
    }

    /// The gains of the table in use, of red, green in lines with red, green in lines with blue, and blue.
    pub(super) fn gains(&self) -> [[[u16; POINTS]; POINTS]; 4] {
        let table = |channel: usize| {
            let words = &self.words[channel][self.active * TABLE_WORDS..][..TABLE_WORDS];
            std::array::from_fn(|y| {
                std::array::from_fn(|x| low(words[y * LINE_WORDS + x / 2] >> (12 * (x % 2)), 12))
            })
        };
        std::array::from_fn(table)
    }
}
