//! The guest's accesses to the registers, and what follows at once.

use super::{
    paths::{MAIN, PATHS, Shadow},
    state::{Registers, WEIGHTS},
};
use crate::{register_table::Access, rkisp1::regs::*};

impl Registers {
    /// The guest reads the word at `offset`.
    pub(in crate::rkisp1) fn guest_reads(&mut self, offset: u32) -> u32 {
        if offset == MI_MIS {
            self.note_handler();
        }
        let value = match ACCESS.get(offset as usize / 4) {
            Some(Some(Access::Wo) | None) | None => 0,
            Some(Some(_)) => match offset {
                ISP_MIS => self.get(ISP_RIS) & self.get(ISP_IMSC),
                MI_MIS => self.get(MI_RIS) & self.get(MI_IMSC),
                MIPI_MIS => self.get(MIPI_RIS) & self.get(MIPI_IMSC),
                MRSZ_SCALE_LUT => self.weight(MAIN, MRSZ_SCALE_LUT_ADDR),
                SRSZ_SCALE_LUT => self.weight(1, SRSZ_SCALE_LUT_ADDR),
                ISP_LSC_STATUS => {
                    if self.lens.active == 1 {
                        LSC_ACTIVE_TABLE
                    } else {
                        0
                    }
                }
                _ => self.get(offset),
            },
        };
        self.faults.read_register(offset, value)
    }

    fn weight(&self, path: usize, address: u32) -> u32 {
        u32::from(self.weights[path][self.get(address) as usize % WEIGHTS])
    }

    /// The guest writes the word at `offset`. True if the worker has to look at the registers.
    pub(in crate::rkisp1) fn guest_writes(&mut self, offset: u32, value: u32) -> bool {
        self.clock.note_store();
        let written = self.faults.write_register(offset, value);
        let wakes = written.value.is_some_and(|value| self.write(offset, value));
        self.update_line();
        if written.spurious {
            self.line.raise();
        }
        wakes
    }

    fn write(&mut self, offset: u32, value: u32) -> bool {
        match ACCESS.get(offset as usize / 4) {
            Some(Some(Access::Rw | Access::Wo | Access::W1c)) => {}
            Some(Some(Access::Ro) | None) | None => return false,
        }
        match offset {
            ISP_ICR => self.clear(ISP_RIS, value),
            MI_ICR => self.clear(MI_RIS, value),
            MIPI_ICR => self.clear(MIPI_RIS, value & !self.held),
            ISP_ERR_CLR => self.clear(ISP_ERR, value),
            MI_STATUS_CLR => self.clear(MI_STATUS, value),
            ISP_ISR => self.raise(ISP_RIS, value),
            MI_ISR => self.raise(MI_RIS, value),
            MIPI_ISR => self.raise(MIPI_RIS, value),
            ISP_CTRL => self.write_control(value),
            MI_INIT => {
                if value & MI_SOFT_UPD != 0 {
                    self.latch_paths([true; PATHS]);
                }
            }
            VI_IRCL => self.reset_blocks(value),
            ISP_LSC_R_TABLE_DATA => self.lens.write(&mut self.words, 0, value),
            ISP_LSC_GR_TABLE_DATA => self.lens.write(&mut self.words, 1, value),
            ISP_LSC_GB_TABLE_DATA => self.lens.write(&mut self.words, 2, value),
            ISP_LSC_B_TABLE_DATA => self.lens.write(&mut self.words, 3, value),
            MRSZ_SCALE_LUT => self.set_weight(MAIN, MRSZ_SCALE_LUT_ADDR, value),
            SRSZ_SCALE_LUT => self.set_weight(1, SRSZ_SCALE_LUT_ADDR, value),
            DUAL_CROP_CTRL => self.put(offset, value & !(DUAL_CROP_CFG_UPD | DUAL_CROP_GEN_CFG_UPD)),
            MRSZ_CTRL | SRSZ_CTRL => self.put(offset, value & !RSZ_CFG_UPD),
            _ => self.put(offset, value),
        }
        // The worker waits for these: a reset and its end, an acknowledged frame, an input that is switched on.
        matches!(
            offset,
            ISP_ICR
                | MI_ICR
                | ISP_CTRL
                | MIPI_CTRL
                | VI_ICCL
                | VI_IRCL
                | VI_CCL
                | VI_DPCL
                | ISP_IMSC
                | MI_IMSC
        )
    }

    fn set_weight(&mut self, path: usize, address: u32, value: u32) {
        let index = self.get(address) as usize % WEIGHTS;
        self.weights[path][index] = (value & 0x3f) as u8;
    }

    fn write_control(&mut self, value: u32) {
        self.put(ISP_CTRL, value & !(ISP_CFG_UPD | ISP_GEN_CFG_UPD));
        if value & (ISP_CFG_UPD | ISP_GEN_CFG_UPD) != 0 {
            self.latch_enable();
        }
    }

    /// Takes `ISP_ENABLE` and `ISP_INFORM` over. An ISP that is switched off abandons its frame.
    fn latch_enable(&mut self) {
        let both = ISP_ENABLE | ISP_INFORM;
        let enabled = self.get(ISP_CTRL) & both == both;
        let flags = if enabled { 3 } else { 0 };
        self.put(ISP_FLAGS_SHD, flags);
        if self.enabled && !enabled {
            self.switch_off();
            self.raise(ISP_RIS, ISP_OFF);
        } else if enabled && !self.enabled {
            self.put(ISP_FRAME_COUNT, 0);
        }
        self.enabled = enabled;
    }

    /// `VI_IRCL`: a block whose bit is set has its reset values.
    fn reset_blocks(&mut self, value: u32) {
        self.put(VI_IRCL, value);
        let all = value & IRCL_CIF != 0;
        let mut ranges: Vec<std::ops::Range<u32>> = Vec::new();
        if all || value & ICCL_ISP != 0 {
            self.switch_off();
            ranges.extend([ISP_CTRL..C_PROC_CTRL, ISP_AFM_CTRL..SIZE]);
        }
        if all || value & ICCL_MRSZ != 0 {
            ranges.push(MRSZ_CTRL..SRSZ_CTRL);
        }
        if all || value & ICCL_SRSZ != 0 {
            ranges.push(SRSZ_CTRL..MI_CTRL);
        }
        if all || value & ICCL_MI != 0 {
            self.shadows = [Shadow::default(); PATHS];
            ranges.push(MI_CTRL..MIPI_CTRL);
        }
        if all || value & ICCL_MIPI != 0 {
            ranges.push(MIPI_CTRL..ISP_AFM_CTRL);
        }
        for register in REGISTERS {
            if ranges.iter().any(|range| range.contains(&register.offset)) {
                self.put(register.offset, register.reset);
            }
        }
    }
}
