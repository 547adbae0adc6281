//! The registers of the ISP: offsets, bits and reset values.
//!
//! Names and offsets are those of Linux's `drivers/media/platform/rockchip/rkisp1/rkisp1-regs.h`, without the prefix `RKISP1_CIF_`
//! and for version 10, which the RK3399 has.

use crate::register_table::{Access, Register, constants, manual_page, registers};

/// The size of the register region in bytes.
pub const SIZE: u32 = 0x4000;

registers! {
    VI_CCL = 0x0000, Rw, 0x0, "clock of the whole module: bit 2 stops it";
    VI_ID = 0x0008, Ro, 0x10000, "revision of the module";
    VI_ICCL = 0x0010, Rw, 0x0, "clocks of the blocks, a bit each";
    VI_IRCL = 0x0014, Rw, 0x0, "resets of the blocks, a bit each";
    VI_DPCL = 0x0018, Rw, 0x0, "data path: bits 8 and 9 select the input, 2 is MIPI";
    IMG_EFF_CTRL = 0x0200, Rw, 0x0, "image effects: bit 0 enables, bits 3:1 are the effect, bit 4 latches, bit 5 is the full range";
    IMG_EFF_COLOR_SEL = 0x0204, Rw, 0x0, "colour selection: bits 2:0 the colours blue, green and red, bits 15:8 the threshold";
    IMG_EFF_MAT_1 = 0x0208, Rw, 0x0, "coefficients of emboss and sketch, part 1";
    IMG_EFF_MAT_2 = 0x020c, Rw, 0x0, "coefficients of emboss and sketch, part 2";
    IMG_EFF_MAT_3 = 0x0210, Rw, 0x0, "coefficients of emboss and sketch, part 3";
    IMG_EFF_MAT_4 = 0x0214, Rw, 0x0, "coefficients of emboss and sketch, part 4";
    IMG_EFF_MAT_5 = 0x0218, Rw, 0x0, "coefficients of emboss and sketch, part 5";
    IMG_EFF_TINT = 0x021c, Rw, 0x0, "tint of sepia: Cb in bits 7:0, Cr in bits 15:8, sign and magnitude";
    IMG_EFF_CTRL_SHD = 0x0220, Ro, 0x0, "IMG_EFF_CTRL of the present frame";
    IMG_EFF_SHARPEN = 0x0224, Rw, 0x0, "sharpening factor and threshold";
    ISP_CTRL = 0x0400, Rw, 0x0, "control: enables, input mode, latches";
    ISP_ACQ_PROP = 0x0404, Rw, 0x0, "acquisition: Bayer phase in bits 4:3";
    ISP_ACQ_H_OFFS = 0x0408, Rw, 0x0, "left edge of the acquisition window, in pixels";
    ISP_ACQ_V_OFFS = 0x040c, Rw, 0x0, "upper edge of the acquisition window, in lines";
    ISP_ACQ_H_SIZE = 0x0410, Rw, 0x0, "width of the acquisition window, in samples";
    ISP_ACQ_V_SIZE = 0x0414, Rw, 0x0, "height of the acquisition window, in lines";
    ISP_ACQ_NR_FRAMES = 0x0418, Rw, 0x0, "frames to take; 0 takes them without end";
    ISP_GAMMA_DX_LO = 0x041c, Rw, 0x44444444, "sensor degamma: intervals 1 to 8, 4 bits each; an interval is 2^(value+4)";
    ISP_GAMMA_DX_HI = 0x0420, Rw, 0x44444444, "sensor degamma: intervals 9 to 16";
    ISP_GAMMA_R_Y0 = 0x0424, Rw, 0x0, "sensor degamma: value of red at point 0";
    ISP_GAMMA_R_Y1 = 0x0428, Rw, 0x100, "sensor degamma: value of red at point 1";
    ISP_GAMMA_R_Y2 = 0x042c, Rw, 0x200, "sensor degamma: value of red at point 2";
    ISP_GAMMA_R_Y3 = 0x0430, Rw, 0x300, "sensor degamma: value of red at point 3";
    ISP_GAMMA_R_Y4 = 0x0434, Rw, 0x400, "sensor degamma: value of red at point 4";
    ISP_GAMMA_R_Y5 = 0x0438, Rw, 0x500, "sensor degamma: value of red at point 5";
    ISP_GAMMA_R_Y6 = 0x043c, Rw, 0x600, "sensor degamma: value of red at point 6";
    ISP_GAMMA_R_Y7 = 0x0440, Rw, 0x700, "sensor degamma: value of red at point 7";
    ISP_GAMMA_R_Y8 = 0x0444, Rw, 0x800, "sensor degamma: value of red at point 8";
    ISP_GAMMA_R_Y9 = 0x0448, Rw, 0x900, "sensor degamma: value of red at point 9";
    ISP_GAMMA_R_Y10 = 0x044c, Rw, 0xa00, "sensor degamma: value of red at point 10";
    ISP_GAMMA_R_Y11 = 0x0450, Rw, 0xb00, "sensor degamma: value of red at point 11";
    ISP_GAMMA_R_Y12 = 0x0454, Rw, 0xc00, "sensor degamma: value of red at point 12";
    ISP_GAMMA_R_Y13 = 0x0458, Rw, 0xd00, "sensor degamma: value of red at point 13";
    ISP_GAMMA_R_Y14 = 0x045c, Rw, 0xe00, "sensor degamma: value of red at point 14";
    ISP_GAMMA_R_Y15 = 0x0460, Rw, 0xf00, "sensor degamma: value of red at point 15";
    ISP_GAMMA_R_Y16 = 0x0464, Rw, 0xfff, "sensor degamma: value of red at point 16";
    ISP_GAMMA_G_Y0 = 0x0468, Rw, 0x0, "sensor degamma: value of green at point 0";
    ISP_GAMMA_G_Y1 = 0x046c, Rw, 0x100, "sensor degamma: value of green at point 1";
    ISP_GAMMA_G_Y2 = 0x0470, Rw, 0x200, "sensor degamma: value of green at point 2";
    ISP_GAMMA_G_Y3 = 0x0474, Rw, 0x300, "sensor degamma: value of green at point 3";
    ISP_GAMMA_G_Y4 = 0x0478, Rw, 0x400, "sensor degamma: value of green at point 4";
    ISP_GAMMA_G_Y5 = 0x047c, Rw, 0x500, "sensor degamma: value of green at point 5";
    ISP_GAMMA_G_Y6 = 0x0480, Rw, 0x600, "sensor degamma: value of green at point 6";
    ISP_GAMMA_G_Y7 = 0x0484, Rw, 0x700, "sensor degamma: value of green at point 7";
    ISP_GAMMA_G_Y8 = 0x0488, Rw, 0x800, "sensor degamma: value of green at point 8";
    ISP_GAMMA_G_Y9 = 0x048c, Rw, 0x900, "sensor degamma: value of green at point 9";
    ISP_GAMMA_G_Y10 = 0x0490, Rw, 0xa00, "sensor degamma: value of green at point 10";
    ISP_GAMMA_G_Y11 = 0x0494, Rw, 0xb00, "sensor degamma: value of green at point 11";
    ISP_GAMMA_G_Y12 = 0x0498, Rw, 0xc00, "sensor degamma: value of green at point 12";
    ISP_GAMMA_G_Y13 = 0x049c, Rw, 0xd00, "sensor degamma: value of green at point 13";
    ISP_GAMMA_G_Y14 = 0x04a0, Rw, 0xe00, "sensor degamma: value of green at point 14";
    ISP_GAMMA_G_Y15 = 0x04a4, Rw, 0xf00, "sensor degamma: value of green at point 15";
    ISP_GAMMA_G_Y16 = 0x04a8, Rw, 0xfff, "sensor degamma: value of green at point 16";
    ISP_GAMMA_B_Y0 = 0x04ac, Rw, 0x0, "sensor degamma: value of blue at point 0";
    ISP_GAMMA_B_Y1 = 0x04b0, Rw, 0x100, "sensor degamma: value of blue at point 1";
    ISP_GAMMA_B_Y2 = 0x04b4, Rw, 0x200, "sensor degamma: value of blue at point 2";
    ISP_GAMMA_B_Y3 = 0x04b8, Rw, 0x300, "sensor degamma: value of blue at point 3";
    ISP_GAMMA_B_Y4 = 0x04bc, Rw, 0x400, "sensor degamma: value of blue at point 4";
    ISP_GAMMA_B_Y5 = 0x04c0, Rw, 0x500, "sensor degamma: value of blue at point 5";
    ISP_GAMMA_B_Y6 = 0x04c4, Rw, 0x600, "sensor degamma: value of blue at point 6";
    ISP_GAMMA_B_Y7 = 0x04c8, Rw, 0x700, "sensor degamma: value of blue at point 7";
    ISP_GAMMA_B_Y8 = 0x04cc, Rw, 0x800, "sensor degamma: value of blue at point 8";
    ISP_GAMMA_B_Y9 = 0x04d0, Rw, 0x900, "sensor degamma: value of blue at point 9";
    ISP_GAMMA_B_Y10 = 0x04d4, Rw, 0xa00, "sensor degamma: value of blue at point 10";
    ISP_GAMMA_B_Y11 = 0x04d8, Rw, 0xb00, "sensor degamma: value of blue at point 11";
    ISP_GAMMA_B_Y12 = 0x04dc, Rw, 0xc00, "sensor degamma: value of blue at point 12";
    ISP_GAMMA_B_Y13 = 0x04e0, Rw, 0xd00, "sensor degamma: value of blue at point 13";
    ISP_GAMMA_B_Y14 = 0x04e4, Rw, 0xe00, "sensor degamma: value of blue at point 14";
    ISP_GAMMA_B_Y15 = 0x04e8, Rw, 0xf00, "sensor degamma: value of blue at point 15";
    ISP_GAMMA_B_Y16 = 0x04ec, Rw, 0xfff, "sensor degamma: value of blue at point 16";
    ISP_AWB_PROP = 0x0510, Rw, 0x0, "white balance: bits 1:0 = 2 measure, bit 31 in RGB, bit 2 compares with the maximum of Y";
    ISP_AWB_WND_H_OFFS = 0x0514, Rw, 0x0, "white balance window: left edge";
    ISP_AWB_WND_V_OFFS = 0x0518, Rw, 0x0, "white balance window: upper edge";
    ISP_AWB_WND_H_SIZE = 0x051c, Rw, 0x0, "white balance window: width";
    ISP_AWB_WND_V_SIZE = 0x0520, Rw, 0x0, "white balance window: height";
    ISP_AWB_FRAMES = 0x0524, Rw, 0x0, "frames of a mean, less 1";
    ISP_AWB_REF = 0x0528, Rw, 0x0, "reference: Cb or maximum of blue in bits 7:0, Cr or maximum of red in bits 15:8";
    ISP_AWB_THRESH = 0x052c, Rw, 0xe9c01010, "thresholds: minimum of Cb and Cr, maximum of their sum, minimum and maximum of Y, 8 bits each from bit 0";
    ISP_AWB_GAIN_G = 0x0538, Rw, 0x1000100, "gains in 1/256: green in lines with blue in bits 9:0, in lines with red in bits 25:16";
    ISP_AWB_GAIN_RB = 0x053c, Rw, 0x1000100, "gains in 1/256: blue in bits 9:0, red in bits 25:16";
    ISP_AWB_WHITE_CNT = 0x0540, Ro, 0x0, "pixels that counted as white";
    ISP_AWB_MEAN = 0x0544, Ro, 0x0, "means: Cr or red in bits 7:0, Cb or blue in bits 15:8, Y or green in bits 23:16";
    ISP_CC_COEFF_0 = 0x0570, Rw, 0x21, "colour conversion: coefficient 0, signed, in 1/128";
    ISP_CC_COEFF_1 = 0x0574, Rw, 0x40, "colour conversion: coefficient 1, signed, in 1/128";
    ISP_CC_COEFF_2 = 0x0578, Rw, 0xd, "colour conversion: coefficient 2, signed, in 1/128";
    ISP_CC_COEFF_3 = 0x057c, Rw, 0x1ed, "colour conversion: coefficient 3, signed, in 1/128";
    ISP_CC_COEFF_4 = 0x0580, Rw, 0x1db, "colour conversion: coefficient 4, signed, in 1/128";
    ISP_CC_COEFF_5 = 0x0584, Rw, 0x38, "colour conversion: coefficient 5, signed, in 1/128";
    ISP_CC_COEFF_6 = 0x0588, Rw, 0x38, "colour conversion: coefficient 6, signed, in 1/128";
    ISP_CC_COEFF_7 = 0x058c, Rw, 0x1d1, "colour conversion: coefficient 7, signed, in 1/128";
    ISP_CC_COEFF_8 = 0x0590, Rw, 0x1f7, "colour conversion: coefficient 8, signed, in 1/128";
    ISP_OUT_H_OFFS = 0x0594, Rw, 0x0, "output window: left edge";
    ISP_OUT_V_OFFS = 0x0598, Rw, 0x0, "output window: upper edge";
    ISP_OUT_H_SIZE = 0x059c, Rw, 0x0, "output window: width";
    ISP_OUT_V_SIZE = 0x05a0, Rw, 0x0, "output window: height";
    ISP_DEMOSAIC = 0x05a4, Rw, 0x0, "demosaicing: bits 7:0 the threshold, bit 10 bypasses it";
    ISP_FLAGS_SHD = 0x05a8, Ro, 0x0, "enables of the present frame: bit 0 the ISP, bit 1 its input";
    ISP_OUT_H_OFFS_SHD = 0x05ac, Ro, 0x0, "output window: left edge, of the present frame";
    ISP_OUT_V_OFFS_SHD = 0x05b0, Ro, 0x0, "output window: upper edge, of the present frame";
    ISP_OUT_H_SIZE_SHD = 0x05b4, Ro, 0x0, "output window: width, of the present frame";
    ISP_OUT_V_SIZE_SHD = 0x05b8, Ro, 0x0, "output window: height, of the present frame";
    ISP_IMSC = 0x05bc, Rw, 0x0, "interrupts of the ISP that reach the line";
    ISP_RIS = 0x05c0, Ro, 0x0, "interrupts of the ISP";
    ISP_MIS = 0x05c4, Ro, 0x0, "ISP_RIS and ISP_IMSC";
    ISP_ICR = 0x05c8, Wo, 0x0, "writing 1 clears a bit of ISP_RIS";
    ISP_ISR = 0x05cc, Wo, 0x0, "writing 1 sets a bit of ISP_RIS";
    ISP_CT_COEFF_0 = 0x05d0, Rw, 0x80, "cross-talk: coefficient 0, signed, in 1/128";
    ISP_CT_COEFF_1 = 0x05d4, Rw, 0x0, "cross-talk: coefficient 1, signed, in 1/128";
    ISP_CT_COEFF_2 = 0x05d8, Rw, 0x0, "cross-talk: coefficient 2, signed, in 1/128";
    ISP_CT_COEFF_3 = 0x05dc, Rw, 0x0, "cross-talk: coefficient 3, signed, in 1/128";
    ISP_CT_COEFF_4 = 0x05e0, Rw, 0x80, "cross-talk: coefficient 4, signed, in 1/128";
    ISP_CT_COEFF_5 = 0x05e4, Rw, 0x0, "cross-talk: coefficient 5, signed, in 1/128";
    ISP_CT_COEFF_6 = 0x05e8, Rw, 0x0, "cross-talk: coefficient 6, signed, in 1/128";
    ISP_CT_COEFF_7 = 0x05ec, Rw, 0x0, "cross-talk: coefficient 7, signed, in 1/128";
    ISP_CT_COEFF_8 = 0x05f0, Rw, 0x80, "cross-talk: coefficient 8, signed, in 1/128";
    ISP_GAMMA_OUT_MODE = 0x05f4, Rw, 0x0, "gamma out: bit 0 makes the intervals equal";
    ISP_GAMMA_OUT_Y_0 = 0x05f8, Rw, 0x0, "gamma out: value at point 0, of 10 bits";
    ISP_GAMMA_OUT_Y_1 = 0x05fc, Rw, 0x0, "gamma out: value at point 1, of 10 bits";
    ISP_GAMMA_OUT_Y_2 = 0x0600, Rw, 0x0, "gamma out: value at point 2, of 10 bits";
    ISP_GAMMA_OUT_Y_3 = 0x0604, Rw, 0x0, "gamma out: value at point 3, of 10 bits";
    ISP_GAMMA_OUT_Y_4 = 0x0608, Rw, 0x0, "gamma out: value at point 4, of 10 bits";
    ISP_GAMMA_OUT_Y_5 = 0x060c, Rw, 0x0, "gamma out: value at point 5, of 10 bits";
    ISP_GAMMA_OUT_Y_6 = 0x0610, Rw, 0x0, "gamma out: value at point 6, of 10 bits";
    ISP_GAMMA_OUT_Y_7 = 0x0614, Rw, 0x0, "gamma out: value at point 7, of 10 bits";
    ISP_GAMMA_OUT_Y_8 = 0x0618, Rw, 0x0, "gamma out: value at point 8, of 10 bits";
    ISP_GAMMA_OUT_Y_9 = 0x061c, Rw, 0x0, "gamma out: value at point 9, of 10 bits";
    ISP_GAMMA_OUT_Y_10 = 0x0620, Rw, 0x0, "gamma out: value at point 10, of 10 bits";
    ISP_GAMMA_OUT_Y_11 = 0x0624, Rw, 0x0, "gamma out: value at point 11, of 10 bits";
    ISP_GAMMA_OUT_Y_12 = 0x0628, Rw, 0x0, "gamma out: value at point 12, of 10 bits";
    ISP_GAMMA_OUT_Y_13 = 0x062c, Rw, 0x0, "gamma out: value at point 13, of 10 bits";
    ISP_GAMMA_OUT_Y_14 = 0x0630, Rw, 0x0, "gamma out: value at point 14, of 10 bits";
    ISP_GAMMA_OUT_Y_15 = 0x0634, Rw, 0x0, "gamma out: value at point 15, of 10 bits";
    ISP_GAMMA_OUT_Y_16 = 0x0638, Rw, 0x0, "gamma out: value at point 16, of 10 bits";
    ISP_ERR = 0x063c, Ro, 0x0, "errors: sizes of input, stabiliser and output";
    ISP_ERR_CLR = 0x0640, Wo, 0x0, "writing 1 clears a bit of ISP_ERR";
    ISP_FRAME_COUNT = 0x0644, Ro, 0x0, "frames since the ISP was enabled";
    ISP_CT_OFFSET_R = 0x0648, Rw, 0x0, "cross-talk: offset, signed";
    ISP_CT_OFFSET_G = 0x064c, Rw, 0x0, "cross-talk: offset, signed";
    ISP_CT_OFFSET_B = 0x0650, Rw, 0x0, "cross-talk: offset, signed";
    C_PROC_CTRL = 0x0800, Rw, 0x0, "colour processing: bit 0 enables, bits 1 to 3 are the ranges";
    C_PROC_CONTRAST = 0x0804, Rw, 0x80, "contrast, in 1/128";
    C_PROC_BRIGHTNESS = 0x0808, Rw, 0x0, "brightness, signed";
    C_PROC_SATURATION = 0x080c, Rw, 0x80, "saturation, in 1/128";
    C_PROC_HUE = 0x0810, Rw, 0x0, "hue, signed, in 90/128 degrees";
    DUAL_CROP_CTRL = 0x0880, Rw, 0x0, "crop of both paths: modes in bits 1:0 and 3:2, latches in bits 4 to 6";
    DUAL_CROP_M_H_OFFS = 0x0884, Rw, 0x0, "crop of the main path: left edge";
    DUAL_CROP_M_V_OFFS = 0x0888, Rw, 0x0, "crop of the main path: upper edge";
    DUAL_CROP_M_H_SIZE = 0x088c, Rw, 0x0, "crop of the main path: width";
    DUAL_CROP_M_V_SIZE = 0x0890, Rw, 0x0, "crop of the main path: height";
    DUAL_CROP_S_H_OFFS = 0x0894, Rw, 0x0, "crop of the self path: left edge";
    DUAL_CROP_S_V_OFFS = 0x0898, Rw, 0x0, "crop of the self path: upper edge";
    DUAL_CROP_S_H_SIZE = 0x089c, Rw, 0x0, "crop of the self path: width";
    DUAL_CROP_S_V_SIZE = 0x08a0, Rw, 0x0, "crop of the self path: height";
    DUAL_CROP_M_H_OFFS_SHD = 0x08a4, Ro, 0x0, "crop of the main path: left edge, of the present frame";
    DUAL_CROP_M_V_OFFS_SHD = 0x08a8, Ro, 0x0, "crop of the main path: upper edge, of the present frame";
    DUAL_CROP_M_H_SIZE_SHD = 0x08ac, Ro, 0x0, "crop of the main path: width, of the present frame";
    DUAL_CROP_M_V_SIZE_SHD = 0x08b0, Ro, 0x0, "crop of the main path: height, of the present frame";
    DUAL_CROP_S_H_OFFS_SHD = 0x08b4, Ro, 0x0, "crop of the self path: left edge, of the present frame";
    DUAL_CROP_S_V_OFFS_SHD = 0x08b8, Ro, 0x0, "crop of the self path: upper edge, of the present frame";
    DUAL_CROP_S_H_SIZE_SHD = 0x08bc, Ro, 0x0, "crop of the self path: width, of the present frame";
    DUAL_CROP_S_V_SIZE_SHD = 0x08c0, Ro, 0x0, "crop of the self path: height, of the present frame";
    MRSZ_CTRL = 0x0c00, Rw, 0x0, "resizer of the main path: enables and directions";
    MRSZ_SCALE_HY = 0x0c04, Rw, 0x0, "resizer of the main path: horizontal factor of luma";
    MRSZ_SCALE_HCB = 0x0c08, Rw, 0x0, "resizer of the main path: horizontal factor of Cb";
    MRSZ_SCALE_HCR = 0x0c0c, Rw, 0x0, "resizer of the main path: horizontal factor of Cr";
    MRSZ_SCALE_VY = 0x0c10, Rw, 0x0, "resizer of the main path: vertical factor of luma";
    MRSZ_SCALE_VC = 0x0c14, Rw, 0x0, "resizer of the main path: vertical factor of chroma";
    MRSZ_PHASE_HY = 0x0c18, Rw, 0x0, "resizer of the main path: horizontal phase of luma";
    MRSZ_PHASE_HC = 0x0c1c, Rw, 0x0, "resizer of the main path: horizontal phase of chroma";
    MRSZ_PHASE_VY = 0x0c20, Rw, 0x0, "resizer of the main path: vertical phase of luma";
    MRSZ_PHASE_VC = 0x0c24, Rw, 0x0, "resizer of the main path: vertical phase of chroma";
    MRSZ_SCALE_LUT_ADDR = 0x0c28, Rw, 0x0, "resizer of the main path: index into the table of weights";
    MRSZ_SCALE_LUT = 0x0c2c, Rw, 0x0, "resizer of the main path: weight at that index";
    MRSZ_CTRL_SHD = 0x0c30, Ro, 0x0, "resizer of the main path: enables and directions, of the present frame";
    MRSZ_SCALE_HY_SHD = 0x0c34, Ro, 0x0, "resizer of the main path: horizontal factor of luma, of the present frame";
    MRSZ_SCALE_HCB_SHD = 0x0c38, Ro, 0x0, "resizer of the main path: horizontal factor of Cb, of the present frame";
    MRSZ_SCALE_HCR_SHD = 0x0c3c, Ro, 0x0, "resizer of the main path: horizontal factor of Cr, of the present frame";
    MRSZ_SCALE_VY_SHD = 0x0c40, Ro, 0x0, "resizer of the main path: vertical factor of luma, of the present frame";
    MRSZ_SCALE_VC_SHD = 0x0c44, Ro, 0x0, "resizer of the main path: vertical factor of chroma, of the present frame";
    MRSZ_PHASE_HY_SHD = 0x0c48, Ro, 0x0, "resizer of the main path: horizontal phase of luma, of the present frame";
    MRSZ_PHASE_HC_SHD = 0x0c4c, Ro, 0x0, "resizer of the main path: horizontal phase of chroma, of the present frame";
    MRSZ_PHASE_VY_SHD = 0x0c50, Ro, 0x0, "resizer of the main path: vertical phase of luma, of the present frame";
    MRSZ_PHASE_VC_SHD = 0x0c54, Ro, 0x0, "resizer of the main path: vertical phase of chroma, of the present frame";
    SRSZ_CTRL = 0x1000, Rw, 0x0, "resizer of the self path: enables and directions";
    SRSZ_SCALE_HY = 0x1004, Rw, 0x0, "resizer of the self path: horizontal factor of luma";
    SRSZ_SCALE_HCB = 0x1008, Rw, 0x0, "resizer of the self path: horizontal factor of Cb";
    SRSZ_SCALE_HCR = 0x100c, Rw, 0x0, "resizer of the self path: horizontal factor of Cr";
    SRSZ_SCALE_VY = 0x1010, Rw, 0x0, "resizer of the self path: vertical factor of luma";
    SRSZ_SCALE_VC = 0x1014, Rw, 0x0, "resizer of the self path: vertical factor of chroma";
    SRSZ_PHASE_HY = 0x1018, Rw, 0x0, "resizer of the self path: horizontal phase of luma";
    SRSZ_PHASE_HC = 0x101c, Rw, 0x0, "resizer of the self path: horizontal phase of chroma";
    SRSZ_PHASE_VY = 0x1020, Rw, 0x0, "resizer of the self path: vertical phase of luma";
    SRSZ_PHASE_VC = 0x1024, Rw, 0x0, "resizer of the self path: vertical phase of chroma";
    SRSZ_SCALE_LUT_ADDR = 0x1028, Rw, 0x0, "resizer of the self path: index into the table of weights";
    SRSZ_SCALE_LUT = 0x102c, Rw, 0x0, "resizer of the self path: weight at that index";
    SRSZ_CTRL_SHD = 0x1030, Ro, 0x0, "resizer of the self path: enables and directions, of the present frame";
    SRSZ_SCALE_HY_SHD = 0x1034, Ro, 0x0, "resizer of the self path: horizontal factor of luma, of the present frame";
    SRSZ_SCALE_HCB_SHD = 0x1038, Ro, 0x0, "resizer of the self path: horizontal factor of Cb, of the present frame";
    SRSZ_SCALE_HCR_SHD = 0x103c, Ro, 0x0, "resizer of the self path: horizontal factor of Cr, of the present frame";
    SRSZ_SCALE_VY_SHD = 0x1040, Ro, 0x0, "resizer of the self path: vertical factor of luma, of the present frame";
    SRSZ_SCALE_VC_SHD = 0x1044, Ro, 0x0, "resizer of the self path: vertical factor of chroma, of the present frame";
    SRSZ_PHASE_HY_SHD = 0x1048, Ro, 0x0, "resizer of the self path: horizontal phase of luma, of the present frame";
    SRSZ_PHASE_HC_SHD = 0x104c, Ro, 0x0, "resizer of the self path: horizontal phase of chroma, of the present frame";
    SRSZ_PHASE_VY_SHD = 0x1050, Ro, 0x0, "resizer of the self path: vertical phase of luma, of the present frame";
    SRSZ_PHASE_VC_SHD = 0x1054, Ro, 0x0, "resizer of the self path: vertical phase of chroma, of the present frame";
    MI_CTRL = 0x1400, Rw, 0x0, "memory interface: enables, formats, automatic update";
    MI_INIT = 0x1404, Wo, 0x0, "bit 4 latches MI_CTRL and the addresses at once";
    MI_MP_Y_BASE_AD_INIT = 0x1408, Rw, 0x0, "main path, luma: address";
    MI_MP_Y_SIZE_INIT = 0x140c, Rw, 0x0, "main path, luma: size in bytes";
    MI_MP_Y_OFFS_CNT_INIT = 0x1410, Rw, 0x0, "main path, luma: offset of the first byte";
    MI_MP_Y_OFFS_CNT_START = 0x1414, Ro, 0x0, "main path, luma: offset at which the frame began";
    MI_MP_Y_IRQ_OFFS_INIT = 0x1418, Rw, 0x0, "main path, luma: offset for the fill interrupt";
    MI_MP_CB_BASE_AD_INIT = 0x141c, Rw, 0x0, "main path, Cb: address";
    MI_MP_CB_SIZE_INIT = 0x1420, Rw, 0x0, "main path, Cb: size in bytes";
    MI_MP_CB_OFFS_CNT_INIT = 0x1424, Rw, 0x0, "main path, Cb: offset of the first byte";
    MI_MP_CB_OFFS_CNT_START = 0x1428, Ro, 0x0, "main path, Cb: offset at which the frame began";
    MI_MP_CR_BASE_AD_INIT = 0x142c, Rw, 0x0, "main path, Cr: address";
    MI_MP_CR_SIZE_INIT = 0x1430, Rw, 0x0, "main path, Cr: size in bytes";
    MI_MP_CR_OFFS_CNT_INIT = 0x1434, Rw, 0x0, "main path, Cr: offset of the first byte";
    MI_MP_CR_OFFS_CNT_START = 0x1438, Ro, 0x0, "main path, Cr: offset at which the frame began";
    MI_SP_Y_BASE_AD_INIT = 0x143c, Rw, 0x0, "self path, luma: address";
    MI_SP_Y_SIZE_INIT = 0x1440, Rw, 0x0, "self path, luma: size in bytes";
    MI_SP_Y_OFFS_CNT_INIT = 0x1444, Rw, 0x0, "self path, luma: offset of the first byte";
    MI_SP_Y_OFFS_CNT_START = 0x1448, Ro, 0x0, "self path, luma: offset at which the frame began";
    MI_SP_Y_LLENGTH = 0x144c, Rw, 0x0, "line of the self path in memory, in pixels";
    MI_SP_CB_BASE_AD_INIT = 0x1450, Rw, 0x0, "self path, Cb: address";
    MI_SP_CB_SIZE_INIT = 0x1454, Rw, 0x0, "self path, Cb: size in bytes";
    MI_SP_CB_OFFS_CNT_INIT = 0x1458, Rw, 0x0, "self path, Cb: offset of the first byte";
    MI_SP_CB_OFFS_CNT_START = 0x145c, Ro, 0x0, "self path, Cb: offset at which the frame began";
    MI_SP_CR_BASE_AD_INIT = 0x1460, Rw, 0x0, "self path, Cr: address";
    MI_SP_CR_SIZE_INIT = 0x1464, Rw, 0x0, "self path, Cr: size in bytes";
    MI_SP_CR_OFFS_CNT_INIT = 0x1468, Rw, 0x0, "self path, Cr: offset of the first byte";
    MI_SP_CR_OFFS_CNT_START = 0x146c, Ro, 0x0, "self path, Cr: offset at which the frame began";
    MI_BYTE_CNT = 0x1470, Ro, 0x0, "bytes of the last frame";
    MI_CTRL_SHD = 0x1474, Ro, 0x0, "enables of the present frame";
    MI_MP_Y_BASE_AD_SHD = 0x1478, Ro, 0x0, "main path, luma: address for the present frame";
    MI_MP_Y_SIZE_SHD = 0x147c, Ro, 0x0, "main path, luma: size for the present frame";
    MI_MP_Y_OFFS_CNT_SHD = 0x1480, Ro, 0x0, "main path, luma: offset in the present frame";
    MI_MP_Y_IRQ_OFFS_SHD = 0x1484, Ro, 0x0, "main path, luma: offset for the fill interrupt of the present frame";
    MI_MP_CB_BASE_AD_SHD = 0x1488, Ro, 0x0, "main path, Cb: address for the present frame";
    MI_MP_CB_SIZE_SHD = 0x148c, Ro, 0x0, "main path, Cb: size for the present frame";
    MI_MP_CB_OFFS_CNT_SHD = 0x1490, Ro, 0x0, "main path, Cb: offset in the present frame";
    MI_MP_CR_BASE_AD_SHD = 0x1494, Ro, 0x0, "main path, Cr: address for the present frame";
    MI_MP_CR_SIZE_SHD = 0x1498, Ro, 0x0, "main path, Cr: size for the present frame";
    MI_MP_CR_OFFS_CNT_SHD = 0x149c, Ro, 0x0, "main path, Cr: offset in the present frame";
    MI_SP_Y_BASE_AD_SHD = 0x14a0, Ro, 0x0, "self path, luma: address for the present frame";
    MI_SP_Y_SIZE_SHD = 0x14a4, Ro, 0x0, "self path, luma: size for the present frame";
    MI_SP_Y_OFFS_CNT_SHD = 0x14a8, Ro, 0x0, "self path, luma: offset in the present frame";
    MI_SP_CB_BASE_AD_SHD = 0x14b0, Ro, 0x0, "self path, Cb: address for the present frame";
    MI_SP_CB_SIZE_SHD = 0x14b4, Ro, 0x0, "self path, Cb: size for the present frame";
    MI_SP_CB_OFFS_CNT_SHD = 0x14b8, Ro, 0x0, "self path, Cb: offset in the present frame";
    MI_SP_CR_BASE_AD_SHD = 0x14bc, Ro, 0x0, "self path, Cr: address for the present frame";
    MI_SP_CR_SIZE_SHD = 0x14c0, Ro, 0x0, "self path, Cr: size for the present frame";
    MI_SP_CR_OFFS_CNT_SHD = 0x14c4, Ro, 0x0, "self path, Cr: offset in the present frame";
    MI_IMSC = 0x14f8, Rw, 0x0, "interrupts of the memory interface that reach the line";
    MI_RIS = 0x14fc, Ro, 0x0, "interrupts of the memory interface";
    MI_MIS = 0x1500, Ro, 0x0, "MI_RIS and MI_IMSC";
    MI_ICR = 0x1504, Wo, 0x0, "writing 1 clears a bit of MI_RIS";
    MI_ISR = 0x1508, Wo, 0x0, "writing 1 sets a bit of MI_RIS";
    MI_STATUS = 0x150c, Ro, 0x0, "FIFOs that were full";
    MI_STATUS_CLR = 0x1510, Wo, 0x0, "writing 1 clears a bit of MI_STATUS";
    MI_SP_Y_PIC_WIDTH = 0x1514, Rw, 0x0, "width of the self path, in pixels";
    MI_SP_Y_PIC_HEIGHT = 0x1518, Rw, 0x0, "height of the self path, in lines";
    MI_SP_Y_PIC_SIZE = 0x151c, Rw, 0x0, "pixels of the self path";
    MI_PIXEL_COUNT = 0x152c, Ro, 0x0, "pixels of the last frame";
    MI_XTD_FORMAT_CTRL = 0x1548, Rw, 0x0, "bits 0 and 1 exchange Cb and Cr of the main and the self path";
    MIPI_CTRL = 0x1c00, Rw, 0x0, "CSI-2 receiver: bit 0 puts data out, bits 13:12 the lanes less 1";
    MIPI_STATUS = 0x1c04, Ro, 0x0, "state of the lanes";
    MIPI_IMSC = 0x1c08, Rw, 0x0, "interrupts of the receiver that reach the line";
    MIPI_RIS = 0x1c0c, Ro, 0x0, "interrupts of the receiver";
    MIPI_MIS = 0x1c10, Ro, 0x0, "MIPI_RIS and MIPI_IMSC";
    MIPI_ICR = 0x1c14, Wo, 0x0, "writing 1 clears a bit of MIPI_RIS";
    MIPI_ISR = 0x1c18, Wo, 0x0, "writing 1 sets a bit of MIPI_RIS";
    MIPI_CUR_DATA_ID = 0x1c1c, Ro, 0x0, "data type of the last long packet";
    MIPI_IMG_DATA_SEL = 0x1c20, Rw, 0x0, "data type of the picture in bits 5:0, virtual channel in bits 7:6";
    ISP_AFM_CTRL = 0x2000, Rw, 0x0, "focus: bit 0 measures";
    ISP_AFM_LT_A = 0x2004, Rw, 0x0, "focus, window A: left (bits 28:16) and upper edge (bits 12:0)";
    ISP_AFM_RB_A = 0x2008, Rw, 0x0, "focus, window A: right and lower edge";
    ISP_AFM_LT_B = 0x200c, Rw, 0x0, "focus, window B: left (bits 28:16) and upper edge (bits 12:0)";
    ISP_AFM_RB_B = 0x2010, Rw, 0x0, "focus, window B: right and lower edge";
    ISP_AFM_LT_C = 0x2014, Rw, 0x0, "focus, window C: left (bits 28:16) and upper edge (bits 12:0)";
    ISP_AFM_RB_C = 0x2018, Rw, 0x0, "focus, window C: right and lower edge";
    ISP_AFM_THRES = 0x201c, Rw, 0x0, "focus: threshold against noise";
    ISP_AFM_VAR_SHIFT = 0x2020, Rw, 0x0, "focus: shifts of the sums (bits 2:0) and of the luminance (bits 18:16)";
    ISP_AFM_SUM_A = 0x2024, Ro, 0x0, "focus, window A: sharpness";
    ISP_AFM_SUM_B = 0x2028, Ro, 0x0, "focus, window B: sharpness";
    ISP_AFM_SUM_C = 0x202c, Ro, 0x0, "focus, window C: sharpness";
    ISP_AFM_LUM_A = 0x2030, Ro, 0x0, "focus, window A: luminance";
    ISP_AFM_LUM_B = 0x2034, Ro, 0x0, "focus, window B: luminance";
    ISP_AFM_LUM_C = 0x2038, Ro, 0x0, "focus, window C: luminance";
    ISP_LSC_CTRL = 0x2200, Rw, 0x0, "lens shading: bit 0 corrects";
    ISP_LSC_R_TABLE_ADDR = 0x2204, Rw, 0x0, "lens shading, red: index into the tables";
    ISP_LSC_GR_TABLE_ADDR = 0x2208, Rw, 0x0, "lens shading, green in lines with red: index into the tables";
    ISP_LSC_B_TABLE_ADDR = 0x220c, Rw, 0x0, "lens shading, blue: index into the tables";
    ISP_LSC_GB_TABLE_ADDR = 0x2210, Rw, 0x0, "lens shading, green in lines with blue: index into the tables";
    ISP_LSC_R_TABLE_DATA = 0x2214, Wo, 0x0, "lens shading, red: two gains in 1/1024; the index goes on";
    ISP_LSC_GR_TABLE_DATA = 0x2218, Wo, 0x0, "lens shading, green in lines with red: two gains in 1/1024; the index goes on";
    ISP_LSC_B_TABLE_DATA = 0x221c, Wo, 0x0, "lens shading, blue: two gains in 1/1024; the index goes on";
    ISP_LSC_GB_TABLE_DATA = 0x2220, Wo, 0x0, "lens shading, green in lines with blue: two gains in 1/1024; the index goes on";
    ISP_LSC_XGRAD_0 = 0x2224, Rw, 0x0, "lens shading: gradients of sectors 0 and 1, across";
    ISP_LSC_XGRAD_1 = 0x2228, Rw, 0x0, "lens shading: gradients of sectors 2 and 3, across";
    ISP_LSC_XGRAD_2 = 0x222c, Rw, 0x0, "lens shading: gradients of sectors 4 and 5, across";
    ISP_LSC_XGRAD_3 = 0x2230, Rw, 0x0, "lens shading: gradients of sectors 6 and 7, across";
    ISP_LSC_YGRAD_0 = 0x2234, Rw, 0x0, "lens shading: gradients of sectors 0 and 1, down";
    ISP_LSC_YGRAD_1 = 0x2238, Rw, 0x0, "lens shading: gradients of sectors 2 and 3, down";
    ISP_LSC_YGRAD_2 = 0x223c, Rw, 0x0, "lens shading: gradients of sectors 4 and 5, down";
    ISP_LSC_YGRAD_3 = 0x2240, Rw, 0x0, "lens shading: gradients of sectors 6 and 7, down";
    ISP_LSC_XSIZE_0 = 0x2244, Rw, 0x0, "lens shading: sizes of sectors 0 and 1, across";
    ISP_LSC_XSIZE_1 = 0x2248, Rw, 0x0, "lens shading: sizes of sectors 2 and 3, across";
    ISP_LSC_XSIZE_2 = 0x224c, Rw, 0x0, "lens shading: sizes of sectors 4 and 5, across";
    ISP_LSC_XSIZE_3 = 0x2250, Rw, 0x0, "lens shading: sizes of sectors 6 and 7, across";
    ISP_LSC_YSIZE_0 = 0x2254, Rw, 0x0, "lens shading: sizes of sectors 0 and 1, down";
    ISP_LSC_YSIZE_1 = 0x2258, Rw, 0x0, "lens shading: sizes of sectors 2 and 3, down";
    ISP_LSC_YSIZE_2 = 0x225c, Rw, 0x0, "lens shading: sizes of sectors 4 and 5, down";
    ISP_LSC_YSIZE_3 = 0x2260, Rw, 0x0, "lens shading: sizes of sectors 6 and 7, down";
    ISP_LSC_TABLE_SEL = 0x2264, Rw, 0x0, "lens shading: the table for the next frame";
    ISP_LSC_STATUS = 0x2268, Ro, 0x0, "lens shading: bit 1 is the table of the present frame";
    ISP_IS_CTRL = 0x2300, Rw, 0x0, "image stabiliser: bit 0 enables";
    ISP_IS_RECENTER = 0x2304, Rw, 0x0, "image stabiliser: recentring";
    ISP_IS_H_OFFS = 0x2308, Rw, 0x0, "image stabiliser window: left edge";
    ISP_IS_V_OFFS = 0x230c, Rw, 0x0, "image stabiliser window: upper edge";
    ISP_IS_H_SIZE = 0x2310, Rw, 0x0, "image stabiliser window: width";
    ISP_IS_V_SIZE = 0x2314, Rw, 0x0, "image stabiliser window: height";
    ISP_IS_MAX_DX = 0x2318, Rw, 0x0, "image stabiliser: largest displacement";
    ISP_IS_MAX_DY = 0x231c, Rw, 0x0, "image stabiliser: largest displacement";
    ISP_IS_DISPLACE = 0x2320, Rw, 0x0, "image stabiliser: displacement";
    ISP_IS_H_OFFS_SHD = 0x2324, Ro, 0x0, "image stabiliser window: left edge, of the present frame";
    ISP_IS_V_OFFS_SHD = 0x2328, Ro, 0x0, "image stabiliser window: upper edge, of the present frame";
    ISP_IS_H_SIZE_SHD = 0x232c, Ro, 0x0, "image stabiliser window: width, of the present frame";
    ISP_IS_V_SIZE_SHD = 0x2330, Ro, 0x0, "image stabiliser window: height, of the present frame";
    ISP_HIST_PROP = 0x2400, Rw, 0x0, "histogram: mode in bits 2:0, step in bits 9:3";
    ISP_HIST_H_OFFS = 0x2404, Rw, 0x0, "histogram block: left edge";
    ISP_HIST_V_OFFS = 0x2408, Rw, 0x0, "histogram block: upper edge";
    ISP_HIST_H_SIZE = 0x240c, Rw, 0x0, "histogram block: width";
    ISP_HIST_V_SIZE = 0x2410, Rw, 0x0, "histogram block: height";
    ISP_HIST_BIN_0 = 0x2414, Ro, 0x0, "histogram: bin 0";
    ISP_HIST_BIN_1 = 0x2418, Ro, 0x0, "histogram: bin 1";
    ISP_HIST_BIN_2 = 0x241c, Ro, 0x0, "histogram: bin 2";
    ISP_HIST_BIN_3 = 0x2420, Ro, 0x0, "histogram: bin 3";
    ISP_HIST_BIN_4 = 0x2424, Ro, 0x0, "histogram: bin 4";
    ISP_HIST_BIN_5 = 0x2428, Ro, 0x0, "histogram: bin 5";
    ISP_HIST_BIN_6 = 0x242c, Ro, 0x0, "histogram: bin 6";
    ISP_HIST_BIN_7 = 0x2430, Ro, 0x0, "histogram: bin 7";
    ISP_HIST_BIN_8 = 0x2434, Ro, 0x0, "histogram: bin 8";
    ISP_HIST_BIN_9 = 0x2438, Ro, 0x0, "histogram: bin 9";
    ISP_HIST_BIN_10 = 0x243c, Ro, 0x0, "histogram: bin 10";
    ISP_HIST_BIN_11 = 0x2440, Ro, 0x0, "histogram: bin 11";
    ISP_HIST_BIN_12 = 0x2444, Ro, 0x0, "histogram: bin 12";
    ISP_HIST_BIN_13 = 0x2448, Ro, 0x0, "histogram: bin 13";
    ISP_HIST_BIN_14 = 0x244c, Ro, 0x0, "histogram: bin 14";
    ISP_HIST_BIN_15 = 0x2450, Ro, 0x0, "histogram: bin 15";
    ISP_HIST_WEIGHT_00TO30 = 0x2454, Rw, 0x0, "histogram: weights of up to four blocks";
    ISP_HIST_WEIGHT_40TO21 = 0x2458, Rw, 0x0, "histogram: weights of up to four blocks";
    ISP_HIST_WEIGHT_31TO12 = 0x245c, Rw, 0x0, "histogram: weights of up to four blocks";
    ISP_HIST_WEIGHT_22TO03 = 0x2460, Rw, 0x0, "histogram: weights of up to four blocks";
    ISP_HIST_WEIGHT_13TO43 = 0x2464, Rw, 0x0, "histogram: weights of up to four blocks";
    ISP_HIST_WEIGHT_04TO34 = 0x2468, Rw, 0x0, "histogram: weights of up to four blocks";
    ISP_HIST_WEIGHT_44 = 0x246c, Rw, 0x0, "histogram: weights of up to four blocks";
    ISP_FILT_MODE = 0x2500, Rw, 0x0, "filter: bit 0 enables, bit 1 is the dynamic mode, chroma modes in bits 5:4 and 7:6, first stage in bits 11:8";
    ISP_FILT_THRESH_BL0 = 0x2528, Rw, 0xd, "filter: threshold BL0";
    ISP_FILT_THRESH_BL1 = 0x252c, Rw, 0x5, "filter: threshold BL1";
    ISP_FILT_THRESH_SH0 = 0x2530, Rw, 0x1a, "filter: threshold SH0";
    ISP_FILT_THRESH_SH1 = 0x2534, Rw, 0x2c, "filter: threshold SH1";
    ISP_FILT_LUM_WEIGHT = 0x2538, Rw, 0x22040, "filter: weight by luminance";
    ISP_FILT_FAC_SH1 = 0x253c, Rw, 0x10, "filter: factor SH1";
    ISP_FILT_FAC_SH0 = 0x2540, Rw, 0xc, "filter: factor SH0";
    ISP_FILT_FAC_MID = 0x2544, Rw, 0xa, "filter: factor MID";
    ISP_FILT_FAC_BL0 = 0x2548, Rw, 0x6, "filter: factor BL0";
    ISP_FILT_FAC_BL1 = 0x254c, Rw, 0x2, "filter: factor BL1";
    ISP_EXP_CTRL = 0x2600, Rw, 0x0, "exposure: bit 0 measures, bit 1 stops after a frame, bit 31 weighs the colours equally";
    ISP_EXP_H_OFFSET = 0x2604, Rw, 0x0, "exposure block: left edge";
    ISP_EXP_V_OFFSET = 0x2608, Rw, 0x0, "exposure block: upper edge";
    ISP_EXP_H_SIZE = 0x260c, Rw, 0x0, "exposure block: width";
    ISP_EXP_V_SIZE = 0x2610, Rw, 0x0, "exposure block: height";
    ISP_EXP_MEAN_00 = 0x2614, Ro, 0x0, "exposure: mean of the block in column 0 and row 0";
    ISP_EXP_MEAN_10 = 0x2618, Ro, 0x0, "exposure: mean of the block in column 1 and row 0";
    ISP_EXP_MEAN_20 = 0x261c, Ro, 0x0, "exposure: mean of the block in column 2 and row 0";
    ISP_EXP_MEAN_30 = 0x2620, Ro, 0x0, "exposure: mean of the block in column 3 and row 0";
    ISP_EXP_MEAN_40 = 0x2624, Ro, 0x0, "exposure: mean of the block in column 4 and row 0";
    ISP_EXP_MEAN_01 = 0x2628, Ro, 0x0, "exposure: mean of the block in column 0 and row 1";
    ISP_EXP_MEAN_11 = 0x262c, Ro, 0x0, "exposure: mean of the block in column 1 and row 1";
    ISP_EXP_MEAN_21 = 0x2630, Ro, 0x0, "exposure: mean of the block in column 2 and row 1";
    ISP_EXP_MEAN_31 = 0x2634, Ro, 0x0, "exposure: mean of the block in column 3 and row 1";
    ISP_EXP_MEAN_41 = 0x2638, Ro, 0x0, "exposure: mean of the block in column 4 and row 1";
    ISP_EXP_MEAN_02 = 0x263c, Ro, 0x0, "exposure: mean of the block in column 0 and row 2";
    ISP_EXP_MEAN_12 = 0x2640, Ro, 0x0, "exposure: mean of the block in column 1 and row 2";
    ISP_EXP_MEAN_22 = 0x2644, Ro, 0x0, "exposure: mean of the block in column 2 and row 2";
    ISP_EXP_MEAN_32 = 0x2648, Ro, 0x0, "exposure: mean of the block in column 3 and row 2";
    ISP_EXP_MEAN_42 = 0x264c, Ro, 0x0, "exposure: mean of the block in column 4 and row 2";
    ISP_EXP_MEAN_03 = 0x2650, Ro, 0x0, "exposure: mean of the block in column 0 and row 3";
    ISP_EXP_MEAN_13 = 0x2654, Ro, 0x0, "exposure: mean of the block in column 1 and row 3";
    ISP_EXP_MEAN_23 = 0x2658, Ro, 0x0, "exposure: mean of the block in column 2 and row 3";
    ISP_EXP_MEAN_33 = 0x265c, Ro, 0x0, "exposure: mean of the block in column 3 and row 3";
    ISP_EXP_MEAN_43 = 0x2660, Ro, 0x0, "exposure: mean of the block in column 4 and row 3";
    ISP_EXP_MEAN_04 = 0x2664, Ro, 0x0, "exposure: mean of the block in column 0 and row 4";
    ISP_EXP_MEAN_14 = 0x2668, Ro, 0x0, "exposure: mean of the block in column 1 and row 4";
    ISP_EXP_MEAN_24 = 0x266c, Ro, 0x0, "exposure: mean of the block in column 2 and row 4";
    ISP_EXP_MEAN_34 = 0x2670, Ro, 0x0, "exposure: mean of the block in column 3 and row 4";
    ISP_EXP_MEAN_44 = 0x2674, Ro, 0x0, "exposure: mean of the block in column 4 and row 4";
    ISP_BLS_CTRL = 0x2700, Rw, 0x0, "black level: bit 0 subtracts, bit 1 measured values, bits 3:2 the windows";
    ISP_BLS_SAMPLES = 0x2704, Rw, 0x0, "black level: 2^n samples for each position";
    ISP_BLS_H1_START = 0x2708, Rw, 0x0, "black level, window 1: first column";
    ISP_BLS_H1_STOP = 0x270c, Rw, 0x0, "black level, window 1: last column";
    ISP_BLS_V1_START = 0x2710, Rw, 0x0, "black level, window 1: first line";
    ISP_BLS_V1_STOP = 0x2714, Rw, 0x0, "black level, window 1: last line";
    ISP_BLS_H2_START = 0x2718, Rw, 0x0, "black level, window 2: first column";
    ISP_BLS_H2_STOP = 0x271c, Rw, 0x0, "black level, window 2: last column";
    ISP_BLS_V2_START = 0x2720, Rw, 0x0, "black level, window 2: first line";
    ISP_BLS_V2_STOP = 0x2724, Rw, 0x0, "black level, window 2: last line";
    ISP_BLS_A_FIXED = 0x2728, Rw, 0x0, "black level, position A: the value to subtract, signed";
    ISP_BLS_B_FIXED = 0x272c, Rw, 0x0, "black level, position B: the value to subtract, signed";
    ISP_BLS_C_FIXED = 0x2730, Rw, 0x0, "black level, position C: the value to subtract, signed";
    ISP_BLS_D_FIXED = 0x2734, Rw, 0x0, "black level, position D: the value to subtract, signed";
    ISP_BLS_A_MEASURED = 0x2738, Ro, 0x0, "black level, position A: the measured value";
    ISP_BLS_B_MEASURED = 0x273c, Ro, 0x0, "black level, position B: the measured value";
    ISP_BLS_C_MEASURED = 0x2740, Ro, 0x0, "black level, position C: the measured value";
    ISP_BLS_D_MEASURED = 0x2744, Ro, 0x0, "black level, position D: the measured value";
    ISP_DPF_MODE = 0x2800, Rw, 0x0, "denoising pre-filter: bit 0 enables, the others are its modes";
    ISP_DPF_STRENGTH_R = 0x2804, Rw, 0x0, "denoising pre-filter: strength for red";
    ISP_DPF_STRENGTH_G = 0x2808, Rw, 0x0, "denoising pre-filter: strength for green";
    ISP_DPF_STRENGTH_B = 0x280c, Rw, 0x0, "denoising pre-filter: strength for blue";
    ISP_DPF_S_WEIGHT_G_1_4 = 0x2810, Rw, 0x0, "denoising pre-filter: spatial weights of green";
    ISP_DPF_S_WEIGHT_G_5_6 = 0x2814, Rw, 0x0, "denoising pre-filter: spatial weights of green";
    ISP_DPF_S_WEIGHT_RB_1_4 = 0x2818, Rw, 0x0, "denoising pre-filter: spatial weights of red and blue";
    ISP_DPF_S_WEIGHT_RB_5_6 = 0x281c, Rw, 0x0, "denoising pre-filter: spatial weights of red and blue";
    ISP_DPF_NULL_COEFF_0 = 0x2820, Rw, 0x0, "denoising pre-filter: noise level 0";
    ISP_DPF_NULL_COEFF_1 = 0x2824, Rw, 0x0, "denoising pre-filter: noise level 1";
    ISP_DPF_NULL_COEFF_2 = 0x2828, Rw, 0x0, "denoising pre-filter: noise level 2";
    ISP_DPF_NULL_COEFF_3 = 0x282c, Rw, 0x0, "denoising pre-filter: noise level 3";
    ISP_DPF_NULL_COEFF_4 = 0x2830, Rw, 0x0, "denoising pre-filter: noise level 4";
    ISP_DPF_NULL_COEFF_5 = 0x2834, Rw, 0x0, "denoising pre-filter: noise level 5";
    ISP_DPF_NULL_COEFF_6 = 0x2838, Rw, 0x0, "denoising pre-filter: noise level 6";
    ISP_DPF_NULL_COEFF_7 = 0x283c, Rw, 0x0, "denoising pre-filter: noise level 7";
    ISP_DPF_NULL_COEFF_8 = 0x2840, Rw, 0x0, "denoising pre-filter: noise level 8";
    ISP_DPF_NULL_COEFF_9 = 0x2844, Rw, 0x0, "denoising pre-filter: noise level 9";
    ISP_DPF_NULL_COEFF_10 = 0x2848, Rw, 0x0, "denoising pre-filter: noise level 10";
    ISP_DPF_NULL_COEFF_11 = 0x284c, Rw, 0x0, "denoising pre-filter: noise level 11";
    ISP_DPF_NULL_COEFF_12 = 0x2850, Rw, 0x0, "denoising pre-filter: noise level 12";
    ISP_DPF_NULL_COEFF_13 = 0x2854, Rw, 0x0, "denoising pre-filter: noise level 13";
    ISP_DPF_NULL_COEFF_14 = 0x2858, Rw, 0x0, "denoising pre-filter: noise level 14";
    ISP_DPF_NULL_COEFF_15 = 0x285c, Rw, 0x0, "denoising pre-filter: noise level 15";
    ISP_DPF_NULL_COEFF_16 = 0x2860, Rw, 0x0, "denoising pre-filter: noise level 16";
    ISP_DPF_NF_GAIN_R = 0x2864, Rw, 0x0, "denoising pre-filter: gain in the place of that of white balance";
    ISP_DPF_NF_GAIN_GR = 0x2868, Rw, 0x0, "denoising pre-filter: gain in the place of that of white balance";
    ISP_DPF_NF_GAIN_GB = 0x286c, Rw, 0x0, "denoising pre-filter: gain in the place of that of white balance";
    ISP_DPF_NF_GAIN_B = 0x2870, Rw, 0x0, "denoising pre-filter: gain in the place of that of white balance";
    ISP_DPCC_MODE = 0x2900, Rw, 0x0, "defect pixels: bit 0 corrects, bit 2 the first stage";
    ISP_DPCC_OUTPUT_MODE = 0x2904, Rw, 0x0, "defect pixels: the replacement";
    ISP_DPCC_SET_USE = 0x2908, Rw, 0x0, "defect pixels: the sets of methods in use";
    ISP_DPCC_METHODS_SET_1 = 0x290c, Rw, 0x0, "defect pixels, set 1: methods";
    ISP_DPCC_METHODS_SET_2 = 0x2910, Rw, 0x0, "defect pixels, set 2: methods";
    ISP_DPCC_METHODS_SET_3 = 0x2914, Rw, 0x0, "defect pixels, set 3: methods";
    ISP_DPCC_LINE_THRESH_1 = 0x2918, Rw, 0x0, "defect pixels, set 1: threshold of the line check";
    ISP_DPCC_LINE_MAD_FAC_1 = 0x291c, Rw, 0x0, "defect pixels, set 1: factor of the line check";
    ISP_DPCC_PG_FAC_1 = 0x2920, Rw, 0x0, "defect pixels, set 1: factor of the peak gradient";
    ISP_DPCC_RND_THRESH_1 = 0x2924, Rw, 0x0, "defect pixels, set 1: threshold of the rank neighbour difference";
    ISP_DPCC_RG_FAC_1 = 0x2928, Rw, 0x0, "defect pixels, set 1: factor of the rank gradient";
    ISP_DPCC_LINE_THRESH_2 = 0x292c, Rw, 0x0, "defect pixels, set 2: threshold of the line check";
    ISP_DPCC_LINE_MAD_FAC_2 = 0x2930, Rw, 0x0, "defect pixels, set 2: factor of the line check";
    ISP_DPCC_PG_FAC_2 = 0x2934, Rw, 0x0, "defect pixels, set 2: factor of the peak gradient";
    ISP_DPCC_RND_THRESH_2 = 0x2938, Rw, 0x0, "defect pixels, set 2: threshold of the rank neighbour difference";
    ISP_DPCC_RG_FAC_2 = 0x293c, Rw, 0x0, "defect pixels, set 2: factor of the rank gradient";
    ISP_DPCC_LINE_THRESH_3 = 0x2940, Rw, 0x0, "defect pixels, set 3: threshold of the line check";
    ISP_DPCC_LINE_MAD_FAC_3 = 0x2944, Rw, 0x0, "defect pixels, set 3: factor of the line check";
    ISP_DPCC_PG_FAC_3 = 0x2948, Rw, 0x0, "defect pixels, set 3: factor of the peak gradient";
    ISP_DPCC_RND_THRESH_3 = 0x294c, Rw, 0x0, "defect pixels, set 3: threshold of the rank neighbour difference";
    ISP_DPCC_RG_FAC_3 = 0x2950, Rw, 0x0, "defect pixels, set 3: factor of the rank gradient";
    ISP_DPCC_RO_LIMITS = 0x2954, Rw, 0x0, "defect pixels: limits of rank order";
    ISP_DPCC_RND_OFFS = 0x2958, Rw, 0x0, "defect pixels: offsets of rank neighbour difference";
}

constants! {
    ICCL_ISP = 1 << 0, "`VI_ICCL`, and `VI_IRCL` as a reset: the ISP";
    ICCL_MRSZ = 1 << 3, "`VI_ICCL`, `VI_IRCL`: the resizer of the main path";
    ICCL_SRSZ = 1 << 4, "`VI_ICCL`, `VI_IRCL`: the resizer of the self path";
    ICCL_MI = 1 << 6, "`VI_ICCL`, `VI_IRCL`: the memory interface";
    IRCL_CIF = 1 << 7, "`VI_IRCL`: the whole module";
    ICCL_MIPI = 1 << 11, "`VI_ICCL`, `VI_IRCL`: the CSI-2 receiver";
    CCL_OFF = 1 << 2, "`VI_CCL`: the clock of the module is off";
    DPCL_INPUT = 0x300, "`VI_DPCL`: the input";
    DPCL_MIPI = 0x200, "`VI_DPCL`, the input: the CSI-2 receiver";
    ISP_ENABLE = 1 << 0, "`ISP_CTRL`: the ISP is on";
    ISP_MODE = 0xe, "`ISP_CTRL`: the mode of the input";
    ISP_MODE_RAW = 0, "`ISP_CTRL`, the mode: raw samples go out as they come in";
    ISP_MODE_BAYER = 3 << 1, "`ISP_CTRL`, the mode: raw samples become Y'CbCr";
    ISP_INFORM = 1 << 4, "`ISP_CTRL`: the input formatter is on";
    ISP_GAMMA_IN = 1 << 6, "`ISP_CTRL`: sensor degamma is on";
    ISP_AWB = 1 << 7, "`ISP_CTRL`: the gains of white balance are on";
    ISP_CFG_UPD = 1 << 9, "`ISP_CTRL`: latches the configuration at once; reads as 0";
    ISP_GEN_CFG_UPD = 1 << 10, "`ISP_CTRL`: latches the configuration at the end of the frame; reads as 0";
    ISP_GAMMA_OUT = 1 << 11, "`ISP_CTRL`: gamma out is on";
    ISP_CSM_Y_FULL = 1 << 13, "`ISP_CTRL`: luma has the full range";
    ISP_CSM_C_FULL = 1 << 14, "`ISP_CTRL`: chroma has the full range";
    ISP_OFF = 1 << 0, "`ISP_RIS`: the ISP is off";
    ISP_FRAME = 1 << 1, "`ISP_RIS`: a frame is complete";
    ISP_DATA_LOSS = 1 << 2, "`ISP_RIS`: samples were lost";
    ISP_PIC_SIZE_ERROR = 1 << 3, "`ISP_RIS`: the size of a frame is wrong; `ISP_ERR` says where";
    ISP_AWB_DONE = 1 << 4, "`ISP_RIS`: the means of white balance are measured";
    ISP_FRAME_IN = 1 << 5, "`ISP_RIS`: a frame has come in";
    ISP_V_START = 1 << 6, "`ISP_RIS`: a frame begins";
    ISP_AFM_FIN = 1 << 14, "`ISP_RIS`: the focus is measured";
    ISP_HIST_READY = 1 << 15, "`ISP_RIS`: the histogram is measured";
    ISP_EXP_END = 1 << 18, "`ISP_RIS`: the exposure is measured";
    ERR_INPUT = 1 << 0, "`ISP_ERR`: the frame that came in is smaller than the acquisition window";
    ERR_STABILISER = 1 << 1, "`ISP_ERR`: the window of the stabiliser reaches beyond the output window";
    ERR_OUTPUT = 1 << 2, "`ISP_ERR`: the output window reaches beyond the acquisition window";
    DUAL_CROP_CFG_UPD = 1 << 5, "`DUAL_CROP_CTRL`: latches at once; reads as 0";
    DUAL_CROP_GEN_CFG_UPD = 1 << 6, "`DUAL_CROP_CTRL`: latches at the end of the frame; reads as 0";
    RSZ_HY = 1 << 0, "`MRSZ_CTRL`, `SRSZ_CTRL`: luma is scaled horizontally";
    RSZ_HC = 1 << 1, "`MRSZ_CTRL`, `SRSZ_CTRL`: chroma is scaled horizontally";
    RSZ_VY = 1 << 2, "`MRSZ_CTRL`, `SRSZ_CTRL`: luma is scaled vertically";
    RSZ_VC = 1 << 3, "`MRSZ_CTRL`, `SRSZ_CTRL`: chroma is scaled vertically";
    RSZ_UP = 4, "`MRSZ_CTRL`, `SRSZ_CTRL`: the distance from a scale bit to the bit that makes it enlarge";
    RSZ_CFG_UPD = 1 << 8, "`MRSZ_CTRL`, `SRSZ_CTRL`: latches at once; reads as 0";
    RSZ_CFG_UPD_AUTO = 1 << 9, "`MRSZ_CTRL`, `SRSZ_CTRL`: latches at the end of each frame";
    MI_MP_ENABLE = 1 << 0, "`MI_CTRL`: the main path writes Y'CbCr";
    MI_SP_ENABLE = 1 << 1, "`MI_CTRL`: the self path writes";
    MI_RAW_ENABLE = 1 << 3, "`MI_CTRL`: the main path writes raw samples";
    MI_SP_Y_FULL = 1 << 8, "`MI_CTRL`: luma that the self path makes RGB of has the full range";
    MI_SP_C_FULL = 1 << 9, "`MI_CTRL`: chroma that the self path makes RGB of has the full range";
    MI_INIT_BASE = 1 << 20, "`MI_CTRL`: an update takes addresses and sizes";
    MI_INIT_OFFSET = 1 << 21, "`MI_CTRL`: an update takes offsets";
    MI_MP_FORMAT = 3 << 22, "`MI_CTRL`: how the main path writes: 0 planar or 8-bit samples, 1 semi-planar, 2 interleaved or 16-bit samples";
    MI_SP_FORMAT = 3 << 24, "`MI_CTRL`: how the self path writes: 0 planar, 1 semi-planar, 2 interleaved";
    MI_SP_OUTPUT = 7 << 28, "`MI_CTRL`: what the self path writes: 0 to 3 Y'CbCr, 4 RGB565, 6 RGB888";
    MI_MP_AUTOUPDATE = 1 << 13, "`MI_CTRL`: the main path takes its configuration at the end of each frame";
    MI_SP_AUTOUPDATE = 1 << 14, "`MI_CTRL`: the self path takes its configuration at the end of each frame";
    MI_SOFT_UPD = 1 << 4, "`MI_INIT`: both paths take their configuration at once";
    MI_FRAME_MP = 1 << 0, "`MI_RIS`: the main path has written a frame";
    MI_FRAME_SP = 1 << 1, "`MI_RIS`: the self path has written a frame";
    MI_WRAP_MP_Y = 1 << 4, "`MI_RIS`: a plane of the main path is full; the bits for Cb and Cr follow";
    MI_WRAP_SP_Y = 1 << 7, "`MI_RIS`: a plane of the self path is full; the bits for Cb and Cr follow";
    MI_BUS_ERROR = 1 << 10, "`MI_RIS`: a transfer failed";
    MI_SHD_OUT = 16, "`MI_CTRL_SHD`: the distance from the enables of inputs to those of outputs";
    XTD_MP_SWAP = 1 << 0, "`MI_XTD_FORMAT_CTRL`: the main path exchanges Cb and Cr";
    XTD_SP_SWAP = 1 << 1, "`MI_XTD_FORMAT_CTRL`: the self path exchanges Cb and Cr";
    MIPI_OUTPUT = 1 << 0, "`MIPI_CTRL`: the receiver puts out what it receives";
    MIPI_LANES = 3 << 12, "`MIPI_CTRL`: the lanes less 1";
    MIPI_FRAME_END = 1 << 24, "`MIPI_RIS`: the end of a frame was received";
    MIPI_FIFO_OVERFLOW = 1 << 0, "`MIPI_RIS`: the FIFO of lane 0 overflowed";
    MIPI_ERR_SOT_SYNC = 1 << 8, "`MIPI_RIS`: lane 0 lost its synchronisation";
    MIPI_ERR_CTRL = 1 << 16, "`MIPI_RIS`: the D-PHY reports that lane 0 is in a wrong state";
    MIPI_ERR_ECC2 = 1 << 22, "`MIPI_RIS`: a packet header has an error that cannot be corrected";
    MIPI_ERR_CS = 1 << 23, "`MIPI_RIS`: the checksum of a packet is wrong";
    LSC_ENABLE = 1 << 0, "`ISP_LSC_CTRL`: lens shading is corrected";
    LSC_ACTIVE_TABLE = 1 << 1, "`ISP_LSC_STATUS`: the second table is in use";
}

/// The number of 32-bit words of the region.
pub(super) const WORDS: usize = SIZE as usize / 4;

/// The access mode of each word; none where no register is.
pub(super) const ACCESS: [Option<Access>; WORDS] = {
    let mut modes = [None; WORDS];
    let mut index = 0;
    while index < REGISTERS.len() {
        modes[REGISTERS[index].offset as usize / 4] = Some(REGISTERS[index].access);
        index += 1;
    }
    modes
};

/// The values after power-on.
pub(super) fn reset_values() -> Box<[u32]> {
    let mut words = vec![0; WORDS].into_boxed_slice();
    for Register { offset, reset, .. } in REGISTERS {
        words[*offset as usize / 4] = *reset;
    }
    words
}

/// The manual, as a page in Markdown.
pub fn reference() -> String {
    manual_page("The camera `rkisp1`", include_str!("manual.md"), REGISTERS, CONSTANTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register_table::is_in_file;

    #[test]
    fn the_manual_is_this_table() {
        is_in_file("src/rkisp1/RKISP1.md", &reference());
    }

    #[test]
    fn offsets_are_aligned_ascending_and_inside_the_region() {
        assert!(REGISTERS.is_sorted_by(|a, b| a.offset < b.offset));
        assert!(REGISTERS.iter().all(|register| register.offset % 4 == 0 && register.offset < SIZE));
    }

    #[test]
    fn registers_in_a_row_are_in_a_row() {
        for (first, last, count) in [
            (ISP_GAMMA_R_Y0, ISP_GAMMA_R_Y16, 17),
            (ISP_GAMMA_OUT_Y_0, ISP_GAMMA_OUT_Y_16, 17),
            (ISP_CT_COEFF_0, ISP_CT_COEFF_8, 9),
            (ISP_CC_COEFF_0, ISP_CC_COEFF_8, 9),
            (ISP_EXP_MEAN_00, ISP_EXP_MEAN_44, 25),
            (ISP_HIST_BIN_0, ISP_HIST_BIN_15, 16),
            (ISP_HIST_WEIGHT_00TO30, ISP_HIST_WEIGHT_44, 7),
            (ISP_DPF_NULL_COEFF_0, ISP_DPF_NULL_COEFF_16, 17),
            (ISP_DPCC_LINE_THRESH_1, ISP_DPCC_RG_FAC_3, 15),
            (ISP_BLS_A_FIXED, ISP_BLS_D_FIXED, 4),
            (ISP_BLS_A_MEASURED, ISP_BLS_D_MEASURED, 4),
            (ISP_BLS_H1_START, ISP_BLS_V2_STOP, 8),
            (ISP_AFM_LT_A, ISP_AFM_RB_C, 6),
            (IMG_EFF_MAT_1, IMG_EFF_MAT_5, 5),
            (DUAL_CROP_M_H_OFFS_SHD, DUAL_CROP_S_V_SIZE_SHD, 8),
        ] {
            assert_eq!(last - first, 4 * (count - 1), "{first:#x}");
        }
    }
}
