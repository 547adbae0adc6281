//! Decodes the registers of the blocks of the picture pipeline.
//!
//! Fields are those that `rkisp1-params.c` of Linux writes. A field that is wider in the register than in the hardware is cut to it.

use media::rkisp1::{
    Axis, BlackLevel, ChannelGains, ColourProcessing, ColourSpace, CrossTalk, DefectMethods, Defects,
    Degamma, Demosaic, Denoise, Effect, EffectKind, ExposureMeasure, Filter, FocusMeasure, GammaOut,
    HistogramMeasure, HistogramValues, LensShading, NoiseGains, Params, Plane, Scale, Statistics,
    WhiteLimits, WhiteMeasure, Window, effect_coefficient,
};

use super::{
    fields::{byte, low, signed},
    state::Registers,
};
use crate::rkisp1::regs::*;

impl Registers {
    /// The word of a register that is one of several in a row.
    fn nth(&self, first: u32, index: usize) -> u32 {
        self.words[first as usize / 4 + index]
    }

    fn bit(&self, register: u32, bit: u32) -> bool {
        self.get(register) & bit != 0
    }

    /// Decodes all blocks into `params`.
    pub(super) fn decode_params(&self, params: &mut Params) {
        *params = Params {
            black_level: self.bit(ISP_BLS_CTRL, 1).then(|| self.black_level()),
            degamma: self.bit(ISP_CTRL, ISP_GAMMA_IN).then(|| self.degamma()),
            lens_shading: self.bit(ISP_LSC_CTRL, LSC_ENABLE).then(|| self.lens_shading()),
            white_balance: self.bit(ISP_CTRL, ISP_AWB).then(|| self.white_balance()),
            defects: self.bit(ISP_DPCC_MODE, 1).then(|| self.defects()),
            denoise: self.bit(ISP_DPF_MODE, 1).then(|| self.denoise()),
            demosaic: Demosaic {
                bypass: self.bit(ISP_DEMOSAIC, 1 << 10),
                threshold: byte(self.get(ISP_DEMOSAIC)),
            },
            filter: self.bit(ISP_FILT_MODE, 1).then(|| self.filter()),
            cross_talk: CrossTalk {
                matrix: self.matrix(ISP_CT_COEFF_0, 11),
                offset: std::array::from_fn(|colour| signed(self.nth(ISP_CT_OFFSET_R, colour), 12)),
            },
            gamma: self.bit(ISP_CTRL, ISP_GAMMA_OUT).then(|| GammaOut {
                logarithmic: !self.bit(ISP_GAMMA_OUT_MODE, 1),
                points: std::array::from_fn(|point| low(self.nth(ISP_GAMMA_OUT_Y_0, point), 10)),
            }),
            colour_space: ColourSpace {
                matrix: self.matrix(ISP_CC_COEFF_0, 9),
                full_luma: self.bit(ISP_CTRL, ISP_CSM_Y_FULL),
                full_chroma: self.bit(ISP_CTRL, ISP_CSM_C_FULL),
            },
            colour_processing: self.bit(C_PROC_CTRL, 1).then(|| self.colour_processing()),
            effect: self.bit(IMG_EFF_CTRL, 1).then(|| self.effect()).flatten(),
            white: (self.get(ISP_AWB_PROP) & 3 == 2).then(|| self.white()),
            exposure: self.bit(ISP_EXP_CTRL, 1).then(|| ExposureMeasure {
                sum: self.bit(ISP_EXP_CTRL, 1 << 31),
                corner: [low(self.get(ISP_EXP_H_OFFSET), 13), low(self.get(ISP_EXP_V_OFFSET), 13)],
                // The registers have the size less 1.
                cell: [low(self.get(ISP_EXP_H_SIZE), 11) + 1, low(self.get(ISP_EXP_V_SIZE), 11) + 1],
            }),
            histogram: self.histogram(),
            focus: self.bit(ISP_AFM_CTRL, 1).then(|| self.focus()),
        };
    }

    /// The resizer whose registers begin at `base`.
    pub(super) fn decode_scale(&self, base: u32, table: &[u8; 64]) -> Scale {
        let control = self.get(base);
        let get = |register: u32| self.get(base + (register - MRSZ_CTRL));
        let axis = |bit: u32, ratio: u32, phase: u32| {
            (control & bit != 0).then(|| Axis {
                ratio: get(ratio) & 0x1_ffff,
                up: control & (bit << RSZ_UP) != 0,
                phase: low(get(phase), 16),
            })
        };
        Scale {
            luma: Plane {
                across: axis(RSZ_HY, MRSZ_SCALE_HY, MRSZ_PHASE_HY),
                down: axis(RSZ_VY, MRSZ_SCALE_VY, MRSZ_PHASE_VY),
            },
            // Cr has a factor of its own, which drivers set like that of Cb.
            chroma: Plane {
                across: axis(RSZ_HC, MRSZ_SCALE_HCB, MRSZ_PHASE_HC),
                down: axis(RSZ_VC, MRSZ_SCALE_VC, MRSZ_PHASE_VC),
            },
            table: *table,
        }
    }

    fn matrix(&self, first: u32, bits: u32) -> [[i16; 3]; 3] {
        std::array::from_fn(|row| {
            std::array::from_fn(|column| signed(self.nth(first, 3 * row + column), bits))
        })
    }

    fn black_level(&self) -> BlackLevel {
        let control = self.get(ISP_BLS_CTRL);
        let window = |index: usize| {
            // Start and stop of a line, then of the lines.
            let [left, right, top, bottom] =
                std::array::from_fn(|edge| low(self.nth(ISP_BLS_H1_START, 4 * index + edge), 14));
            Window { left, top, width: right.saturating_sub(left), height: bottom.saturating_sub(top) }
        };
        BlackLevel {
            measured: control & 2 != 0,
            fixed: std::array::from_fn(|position| signed(self.nth(ISP_BLS_A_FIXED, position), 13)),
            windows: std::array::from_fn(|index| (control & (4 << index) != 0).then(|| window(index))),
            samples: byte(self.get(ISP_BLS_SAMPLES)) & 0x1f,
        }
    }

    fn degamma(&self) -> Degamma {
        let [first, second] = [ISP_GAMMA_DX_LO, ISP_GAMMA_DX_HI].map(|register| self.get(register));
        Degamma {
            intervals: std::array::from_fn(|index| {
                let word = if index < 8 { first } else { second };
                byte(word >> (4 * (index % 8))) & 7
            }),
            curves: [ISP_GAMMA_R_Y0, ISP_GAMMA_G_Y0, ISP_GAMMA_B_Y0]
                .map(|first| std::array::from_fn(|point| low(self.nth(first, point), 12))),
        }
    }

    fn lens_shading(&self) -> LensShading {
        let pairs = |first: u32, bits: u32| {
            std::array::from_fn(|sector| low(self.nth(first, sector / 2) >> (16 * (sector % 2)), bits))
        };
        LensShading {
            gains: self.lens.gains(),
            x_sizes: pairs(ISP_LSC_XSIZE_0, 10),
            y_sizes: pairs(ISP_LSC_YSIZE_0, 10),
            x_gradients: pairs(ISP_LSC_XGRAD_0, 12),
            y_gradients: pairs(ISP_LSC_YGRAD_0, 12),
        }
    }

    /// Gains of red, green on red lines, green on blue lines, and blue.
    fn white_balance(&self) -> [u16; 4] {
        let [green, red_blue] = [ISP_AWB_GAIN_G, ISP_AWB_GAIN_RB].map(|register| self.get(register));
        [low(red_blue >> 16, 10), low(green >> 16, 10), low(green, 10), low(red_blue, 10)]
    }

    fn defects(&self) -> Defects {
        let output = self.get(ISP_DPCC_OUTPUT_MODE);
        let used = self.get(ISP_DPCC_SET_USE);
        let (limits, offsets) = (self.get(ISP_DPCC_RO_LIMITS), self.get(ISP_DPCC_RND_OFFS));
        // Green has the lower half of each register, red and blue have the upper one.
        let methods = |set: usize, colour: usize| {
            let enabled = self.nth(ISP_DPCC_METHODS_SET_1, set) >> (8 * colour);
            let field =
                |index: usize| byte(self.nth(ISP_DPCC_LINE_THRESH_1, 5 * set + index) >> (8 * colour));
            let shift = 4 * set + 2 * colour;
            let [threshold, factor, peak, rank_threshold, rank] = std::array::from_fn(field);
            DefectMethods {
                peak_gradient: (enabled & 1 != 0).then_some(peak & 0x3f),
                line: (enabled & 2 != 0).then_some([threshold, factor & 0x3f]),
                rank_order: (enabled & 4 != 0).then_some(byte(limits >> shift) & 3),
                rank_difference: (enabled & 8 != 0).then_some([byte(offsets >> shift) & 3, rank_threshold]),
                rank_gradient: (enabled & 0x10 != 0).then_some(rank & 0x3f),
            }
        };
        Defects {
            sets: std::array::from_fn(|set| {
                (used & (1 << set) != 0).then(|| std::array::from_fn(|colour| methods(set, colour)))
            }),
            fixed_set: used & 8 != 0,
            with_centre: [output & 1 != 0, output & 2 != 0],
            eight: [output & 4 != 0, output & 8 != 0],
        }
    }

    fn denoise(&self) -> Denoise {
        let mode = self.get(ISP_DPF_MODE);
        // The bits of the mode switch channels off: blue, green on blue lines, green on red lines, red.
        let weights = |first: u32| {
            std::array::from_fn(|index| byte(self.nth(first, index / 4) >> (8 * (index % 4))) & 0x1f)
        };
        let fixed = [ISP_DPF_NF_GAIN_R, ISP_DPF_NF_GAIN_GR, ISP_DPF_NF_GAIN_GB, ISP_DPF_NF_GAIN_B]
            .map(|register| low(self.get(register), 12));
        let channels = match (mode & (1 << 9) != 0, mode & (1 << 7) != 0) {
            (true, true) => ChannelGains::Fixed(fixed),
            (false, true) => ChannelGains::WhiteBalance,
            (_, false) => ChannelGains::One,
        };
        Denoise {
            channels: [4, 3, 2, 1].map(|off| mode & (1 << off) == 0),
            green: weights(ISP_DPF_S_WEIGHT_G_1_4),
            red_blue: weights(ISP_DPF_S_WEIGHT_RB_1_4),
            narrow: mode & (1 << 5) != 0,
            noise: std::array::from_fn(|point| low(self.nth(ISP_DPF_NULL_COEFF_0, point), 10)),
            logarithmic: mode & (1 << 6) != 0,
            inverse_strength: std::array::from_fn(|colour| byte(self.nth(ISP_DPF_STRENGTH_R, colour))),
            gains: NoiseGains { channels, lens: mode & (1 << 8) != 0 },
        }
    }

    fn filter(&self) -> Filter {
        let mode = self.get(ISP_FILT_MODE);
        let threshold = |register| low(self.get(register), 10);
        let factor = |register| byte(self.get(register)) & 0x3f;
        let weight = self.get(ISP_FILT_LUM_WEIGHT);
        Filter {
            dynamic: mode & 2 != 0,
            green_stage: byte(mode >> 8) & 0xf,
            chroma_across: byte(mode >> 6) & 3,
            chroma_down: byte(mode >> 4) & 3,
            blur_thresholds: [threshold(ISP_FILT_THRESH_BL1), threshold(ISP_FILT_THRESH_BL0)],
            sharp_thresholds: [threshold(ISP_FILT_THRESH_SH0), threshold(ISP_FILT_THRESH_SH1)],
            weight: [byte(weight), byte(weight >> 8), byte(weight >> 16) & 7],
            blur_1: factor(ISP_FILT_FAC_BL1),
            blur_0: factor(ISP_FILT_FAC_BL0),
            mid: factor(ISP_FILT_FAC_MID),
            sharp_0: factor(ISP_FILT_FAC_SH0),
            sharp_1: factor(ISP_FILT_FAC_SH1),
        }
    }

    fn colour_processing(&self) -> ColourProcessing {
        let control = self.get(C_PROC_CTRL);
        ColourProcessing {
            contrast: byte(self.get(C_PROC_CONTRAST)),
            brightness: byte(self.get(C_PROC_BRIGHTNESS)).cast_signed(),
            saturation: byte(self.get(C_PROC_SATURATION)),
            hue: byte(self.get(C_PROC_HUE)).cast_signed(),
            full_luma_in: control & 4 != 0,
            full_luma_out: control & 2 != 0,
            full_chroma_out: control & 8 != 0,
        }
    }

    fn effect(&self) -> Option<Effect> {
        let control = self.get(IMG_EFF_CTRL);
        // A matrix has nine coefficients of four bits, one after the other; a register has four of them.
        let matrix = |first: usize| {
            std::array::from_fn(|row| {
                std::array::from_fn(|column| {
                    let index = first + 3 * row + column;
                    let word = self.nth(IMG_EFF_MAT_1, index / 4);
                    effect_coefficient(byte(word >> (4 * (index % 4))) & 0xf)
                })
            })
        };
        let kind = match (control >> 1) & 7 {
            0 => EffectKind::BlackWhite,
            1 => EffectKind::Negative,
            2 => {
                let tint = self.get(IMG_EFF_TINT);
                EffectKind::Sepia([increment(byte(tint)), increment(byte(tint >> 8))])
            }
            3 => {
                let select = self.get(IMG_EFF_COLOR_SEL);
                EffectKind::ColourSelection { colours: byte(select) & 7, threshold: byte(select >> 8) }
            }
            4 => EffectKind::Emboss(matrix(0)),
            5 => EffectKind::Sketch(matrix(9)),
            _ => return None,
        };
        Some(Effect { kind, full: control & (1 << 5) != 0 })
    }

    fn white(&self) -> WhiteMeasure {
        let (properties, reference, limits) =
            (self.get(ISP_AWB_PROP), self.get(ISP_AWB_REF), self.get(ISP_AWB_THRESH));
        let [cb, cr] = [byte(reference), byte(reference >> 8)];
        let min_y = byte(limits >> 16);
        WhiteMeasure {
            window: Window {
                left: low(self.get(ISP_AWB_WND_H_OFFS), 12),
                top: low(self.get(ISP_AWB_WND_V_OFFS), 12),
                width: low(self.get(ISP_AWB_WND_H_SIZE), 13),
                height: low(self.get(ISP_AWB_WND_V_SIZE), 13),
            },
            limits: if properties & (1 << 31) != 0 {
                WhiteLimits::Rgb([cr, min_y, cb])
            } else {
                WhiteLimits::Ycbcr {
                    min_y,
                    max_y: (properties & 4 != 0).then_some(byte(limits >> 24)),
                    min_c: byte(limits),
                    max_sum: byte(limits >> 8),
                    reference: [cb, cr],
                }
            },
            frames: byte(self.get(ISP_AWB_FRAMES)) & 7,
        }
    }

    fn histogram(&self) -> Option<HistogramMeasure> {
        let properties = self.get(ISP_HIST_PROP);
        let values = match properties & 7 {
            1 => HistogramValues::Rgb,
            mode @ 2..=4 => HistogramValues::Component(byte(mode - 2)),
            5 => HistogramValues::Luma,
            _ => return None,
        };
        Some(HistogramMeasure {
            values,
            step: byte(properties >> 3) & 0x7f,
            corner: [low(self.get(ISP_HIST_H_OFFS), 12), low(self.get(ISP_HIST_V_OFFS), 12)],
            // The registers have the size less 1.
            cell: [low(self.get(ISP_HIST_H_SIZE), 11) + 1, low(self.get(ISP_HIST_V_SIZE), 11) + 1],
            weights: std::array::from_fn(|cell| {
                byte(self.nth(ISP_HIST_WEIGHT_00TO30, cell / 4) >> (8 * (cell % 4))) & 0x1f
            }),
        })
    }

    fn focus(&self) -> FocusMeasure {
        let window = |index: usize| {
            let [corner, end] = std::array::from_fn(|edge| self.nth(ISP_AFM_LT_A, 2 * index + edge));
            let [left, top, right, bottom] = [corner >> 16, corner, end >> 16, end].map(|word| low(word, 13));
            let window =
                Window { left, top, width: right.saturating_sub(left), height: bottom.saturating_sub(top) };
            (window.width > 0 && window.height > 0).then_some(window)
        };
        let shifts = self.get(ISP_AFM_VAR_SHIFT);
        FocusMeasure {
            windows: std::array::from_fn(window),
            threshold: low(self.get(ISP_AFM_THRES), 16),
            shifts: [byte(shifts) & 7, byte(shifts >> 16) & 7],
        }
    }

    /// Puts `statistics` into the registers of measured values. Returns the bits of `ISP_RIS` for those that were measured.
    pub(super) fn take_statistics(&mut self, statistics: &Statistics) -> u32 {
        let mut done = 0;
        for (register, level) in (ISP_BLS_A_MEASURED..).step_by(4).zip(statistics.black_level) {
            self.put(register, level.into());
        }
        if let Some(white) = &statistics.white {
            self.put(ISP_AWB_WHITE_CNT, white.count & 0x03ff_ffff);
            let mean = u32::from_le_bytes([white.cr_or_r, white.cb_or_b, white.y_or_g, 0]);
            self.put(ISP_AWB_MEAN, mean);
            done |= ISP_AWB_DONE;
        }
        if let Some(means) = &statistics.exposure {
            for (register, &mean) in (ISP_EXP_MEAN_00..).step_by(4).zip(means) {
                self.put(register, mean.into());
            }
            done |= ISP_EXP_END;
        }
        if let Some(bins) = &statistics.histogram {
            for (register, &bin) in (ISP_HIST_BIN_0..).step_by(4).zip(bins) {
                self.put(register, bin & 0x000f_ffff);
            }
            done |= ISP_HIST_READY;
        }
        if let Some(windows) = &statistics.focus {
            for (index, window) in (0..).zip(windows) {
                self.put(ISP_AFM_SUM_A + 4 * index, window.sum);
                self.put(ISP_AFM_LUM_A + 4 * index, window.luminance);
            }
            done |= ISP_AFM_FIN;
        }
        done
    }
}

/// An increment of sepia: bit 7 is the sign, and the others are the amount.
fn increment(bits: u8) -> i8 {
    let amount = (bits & 0x7f).cast_signed();
    if bits & 0x80 != 0 { -amount } else { amount }
}
