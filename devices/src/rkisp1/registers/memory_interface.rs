//! The memory interface (MI): where the two paths write, and the shadows in which a frame keeps its configuration.

use media::yuv::Quantization;

use super::{
    paths::{PATHS, PathConfig, Shadow, Write},
    state::Registers,
};
use crate::rkisp1::regs::*;

/// The registers of a path.
struct PathRegisters {
    /// Its enables in `MI_CTRL`.
    enables: u32,
    /// Its bit for automatic updates in `MI_CTRL`.
    automatic: u32,
    /// Address, size and offset of each plane, and their shadows.
    planes: [[u32; 6]; 3],
}

const PATH_REGISTERS: [PathRegisters; PATHS] = [
    PathRegisters {
        enables: MI_MP_ENABLE | MI_RAW_ENABLE,
        automatic: MI_MP_AUTOUPDATE,
        planes: [
            [
                MI_MP_Y_BASE_AD_INIT,
                MI_MP_Y_SIZE_INIT,
                MI_MP_Y_OFFS_CNT_INIT,
                MI_MP_Y_BASE_AD_SHD,
                MI_MP_Y_SIZE_SHD,
                MI_MP_Y_OFFS_CNT_SHD,
            ],
            [
                MI_MP_CB_BASE_AD_INIT,
                MI_MP_CB_SIZE_INIT,
                MI_MP_CB_OFFS_CNT_INIT,
                MI_MP_CB_BASE_AD_SHD,
                MI_MP_CB_SIZE_SHD,
                MI_MP_CB_OFFS_CNT_SHD,
            ],
            [
                MI_MP_CR_BASE_AD_INIT,
                MI_MP_CR_SIZE_INIT,
                MI_MP_CR_OFFS_CNT_INIT,
                MI_MP_CR_BASE_AD_SHD,
                MI_MP_CR_SIZE_SHD,
                MI_MP_CR_OFFS_CNT_SHD,
            ],
        ],
    },
    PathRegisters {
        enables: MI_SP_ENABLE,
        automatic: MI_SP_AUTOUPDATE,
        planes: [
            [
                MI_SP_Y_BASE_AD_INIT,
                MI_SP_Y_SIZE_INIT,
                MI_SP_Y_OFFS_CNT_INIT,
                MI_SP_Y_BASE_AD_SHD,
                MI_SP_Y_SIZE_SHD,
                MI_SP_Y_OFFS_CNT_SHD,
            ],
            [
                MI_SP_CB_BASE_AD_INIT,
                MI_SP_CB_SIZE_INIT,
                MI_SP_CB_OFFS_CNT_INIT,
                MI_SP_CB_BASE_AD_SHD,
                MI_SP_CB_SIZE_SHD,
                MI_SP_CB_OFFS_CNT_SHD,
            ],
            [
                MI_SP_CR_BASE_AD_INIT,
                MI_SP_CR_SIZE_INIT,
                MI_SP_CR_OFFS_CNT_INIT,
                MI_SP_CR_BASE_AD_SHD,
                MI_SP_CR_SIZE_SHD,
                MI_SP_CR_OFFS_CNT_SHD,
            ],
        ],
    },
];

/// The bits of an address register: planes begin at multiples of 8 bytes.
const ADDRESS: u32 = !7;
/// The bits of a size or offset register: up to 512 MiB, in units of 8 bytes.
const LENGTH: u32 = 0x1fff_fff8;

impl Registers {
    /// Has the paths take `MI_CTRL`, addresses and sizes: each whose element is true, or all if the guest updates them at once.
    pub(super) fn latch_paths(&mut self, which: [bool; PATHS]) {
        let control = self.get(MI_CTRL);
        for (path, registers) in PATH_REGISTERS.iter().enumerate().filter(|(path, _)| which[*path]) {
            let mut planes = self.shadows[path].planes;
            for (plane, [base, size, offset, base_shadow, size_shadow, offset_shadow]) in
                planes.iter_mut().zip(registers.planes)
            {
                if control & MI_INIT_OFFSET != 0 {
                    self.put(offset_shadow, self.get(offset) & LENGTH);
                }
                if control & MI_INIT_BASE != 0 {
                    self.put(base_shadow, self.get(base) & ADDRESS);
                    self.put(size_shadow, self.get(size) & LENGTH);
                }
                // A frame begins at its offset, and fills the rest.
                let offset = self.get(offset_shadow);
                plane.address = self.get(base_shadow).wrapping_add(offset);
                plane.size = self.get(size_shadow).saturating_sub(offset);
            }
            self.shadows[path] = Shadow { enables: control & registers.enables, control, planes };
        }
        let enables = self.shadows.iter().fold(0, |all, shadow| all | shadow.enables);
        self.put(MI_CTRL_SHD, enables | enables << MI_SHD_OUT);
    }

    /// The paths that take their configuration at the end of a frame: those with automatic update.
    pub(super) fn automatic_paths(&self) -> [bool; PATHS] {
        let control = self.get(MI_CTRL);
        PATH_REGISTERS.each_ref().map(|path| control & path.automatic != 0)
    }

    /// What each path does with the next frame; none for a path that is off, or whose input is not of its kind.
    pub(super) fn path_configs(&self, is_raw: bool) -> [Option<PathConfig>; PATHS] {
        let swaps = self.get(MI_XTD_FORMAT_CTRL);
        let [main, second] = self.shadows;
        let format = (main.control & MI_MP_FORMAT) >> MI_MP_FORMAT.trailing_zeros();
        let write = match (is_raw, main.enables & MI_RAW_ENABLE != 0, main.enables & MI_MP_ENABLE != 0) {
            (true, true, _) => Some(if format == 2 { Write::Raw16 } else { Write::Raw8 }),
            (false, _, true) => Write::of_components(format),
            _ => None,
        };
        let main = write.map(|write| PathConfig {
            write,
            swap: swaps & XTD_MP_SWAP != 0,
            planes: main.planes,
            stride: None,
            range: Quantization::Limited,
        });
        let output = (second.control & MI_SP_OUTPUT) >> MI_SP_OUTPUT.trailing_zeros();
        let write = match output {
            _ if is_raw || second.enables == 0 => None,
            0..=3 => Write::of_components((second.control & MI_SP_FORMAT) >> MI_SP_FORMAT.trailing_zeros()),
            4 => Some(Write::Rgb565),
            // 5 is RGB666, which Linux does not use: it takes as many bytes.
            _ => Some(Write::Rgb888),
        };
        let full = MI_SP_Y_FULL | MI_SP_C_FULL;
        let second = write.map(|write| PathConfig {
            write,
            swap: swaps & XTD_SP_SWAP != 0,
            planes: second.planes,
            stride: Some(self.get(MI_SP_Y_LLENGTH) & 0x1fff),
            range: if second.control & full == full { Quantization::Full } else { Quantization::Limited },
        });
        [main, second]
    }
}
