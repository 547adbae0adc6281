//! The parameters of the ISP: a block's fields with the units of `include/uapi/linux/rkisp1-config.h`, decoded from registers.
//!
//! Every value is valid: fields that are wider than the register's are clamped to it, and windows may lie anywhere.

/// The points of a curve, in both directions of the lens shading's grid, and of the noise function.
pub const POINTS: usize = 17;

/// The parameters of all blocks. The default is the state after a reset: every block is off or has the factor 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Params {
    /// Black level subtraction (BLS).
    pub black_level: Option<BlackLevel>,
    /// Sensor degamma (SDG).
    pub degamma: Option<Degamma>,
    /// Lens shading correction (LSC).
    pub lens_shading: Option<LensShading>,
    /// White balance gains of red, green on red lines, green on blue lines, and blue, in units of 1/256, with 10 bits.
    pub white_balance: Option<[u16; 4]>,
    /// Defect pixel cluster correction (DPCC).
    pub defects: Option<Defects>,
    /// Denoising pre-filter (DPF).
    pub denoise: Option<Denoise>,
    /// Demosaicing (BDM).
    pub demosaic: Demosaic,
    /// Denoising and sharpening (FLT).
    pub filter: Option<Filter>,
    /// Cross-talk correction (CTK).
    pub cross_talk: CrossTalk,
    /// Gamma out (GOC).
    pub gamma: Option<GammaOut>,
    /// Colour space matrix (CSM).
    pub colour_space: ColourSpace,
    /// Colour processing (CPROC).
    pub colour_processing: Option<ColourProcessing>,
    /// Image effect (IE).
    pub effect: Option<Effect>,
    /// White balance measurement (AWB).
    pub white: Option<WhiteMeasure>,
    /// Exposure measurement (AEC).
    pub exposure: Option<ExposureMeasure>,
    /// Histogram (HST).
    pub histogram: Option<HistogramMeasure>,
    /// Focus measurement (AFC).
    pub focus: Option<FocusMeasure>,
}

/// A measuring window. Pixels outside of the picture are not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// The first column.
    pub left: u16,
    /// The first line.
    pub top: u16,
    /// The number of columns.
    pub width: u16,
    /// The number of lines.
    pub height: u16,
}

/// Black level subtraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlackLevel {
    /// Subtracts the levels that were measured in the frame before, not `fixed`.
    pub measured: bool,
    /// The levels of the Bayer positions A, B, C and D: first line, then second line. 13 bits, signed.
    pub fixed: [i16; 4],
    /// The measuring windows. Their positions count from the corner of the incoming frame.
    pub windows: [Option<Window>; 2],
    /// The number of samples of each position is 2 to the power of this, which is at most 18.
    pub samples: u8,
}

/// Sensor degamma: a curve for each colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Degamma {
    /// The interval from each point to the next is 2 to the power of this plus 4. 3 bits.
    pub intervals: [u8; POINTS - 1],
    /// The points of red, green and blue, with 12 bits.
    pub curves: [[u16; POINTS]; 3],
}

/// Lens shading correction: gains at the corners of 16 x 16 sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LensShading {
    /// Gains in units of 1/1024 of red, green on red lines, green on blue lines, and blue, line by line. 12 bits.
    pub gains: [[[u16; POINTS]; POINTS]; 4],
    /// The sizes of the sectors of the left half; the right half has them mirrored.
    pub x_sizes: [u16; 8],
    /// The sizes of the sectors of the upper half; the lower half has them mirrored.
    pub y_sizes: [u16; 8],
    /// 32768 divided by each of `x_sizes`. 12 bits.
    pub x_gradients: [u16; 8],
    /// 32768 divided by each of `y_sizes`. 12 bits.
    pub y_gradients: [u16; 8],
}

/// Defect pixel correction. A pixel is defect if a set in use finds it, and a set finds it if all of its methods do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Defects {
    /// The sets in use, each with the methods of green pixels and of red and blue ones.
    pub sets: [Option<[DefectMethods; 2]>; 3],
    /// Also uses the fixed set.
    pub fixed_set: bool,
    /// The replacement is the median of the pixel too, not of its neighbours alone: for green, and for red and blue.
    pub with_centre: [bool; 2],
    /// The replacement is a median of eight neighbours, not of the four nearest: for green, and for red and blue.
    pub eight: [bool; 2],
}

/// The methods of a set; None is off. A set without methods finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DefectMethods {
    /// Peak gradient: factor.
    pub peak_gradient: Option<u8>,
    /// Line check: threshold, and factor of the mean absolute difference.
    pub line: Option<[u8; 2]>,
    /// Rank order: limit, 2 bits.
    pub rank_order: Option<u8>,
    /// Rank neighbour difference: rank offset, 2 bits, and threshold.
    pub rank_difference: Option<[u8; 2]>,
    /// Rank gradient: factor.
    pub rank_gradient: Option<u8>,
}

/// The denoising pre-filter, a bilateral filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denoise {
    /// Whether red, green on red lines, green on blue lines, and blue are filtered.
    pub channels: [bool; 4],
    /// Spatial weights of green, in units of 1/16, by distance. 5 bits.
    pub green: [u8; 6],
    /// Spatial weights of red and blue.
    pub red_blue: [u8; 6],
    /// The kernel of red and blue has 9 x 9 pixels, not 13 x 9.
    pub narrow: bool,
    /// The inverse noise level at each point of the axis of samples. 10 bits.
    pub noise: [u16; POINTS],
    /// The points lie as those of the logarithmic gamma curve, not equidistant.
    pub logarithmic: bool,
    /// 64 divided by the strength of red, green and blue.
    pub inverse_strength: [u8; 3],
    /// The gains before the filter that raise the noise level.
    pub gains: NoiseGains,
}

/// The gains that raise the noise level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoiseGains {
    /// The gains of the channels.
    pub channels: ChannelGains,
    /// The gains of the lens shading correction count too.
    pub lens: bool,
}

/// The gains of the channels that raise the noise level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelGains {
    /// None.
    #[default]
    One,
    /// Those of the white balance.
    WhiteBalance,
    /// These, in units of 1/256, in the order of [`Params::white_balance`]. 12 bits.
    Fixed([u16; 4]),
}

/// Demosaicing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demosaic {
    /// The sample of a pixel is its red, its green and its blue.
    pub bypass: bool,
    /// The threshold of the detection of texture.
    pub threshold: u8,
}

/// Denoising and sharpening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// The factor depends on the gradient. Otherwise it is `mid`.
    pub dynamic: bool,
    /// Green filter stage 1: from 0, the most blurring, to 8, none.
    pub green_stage: u8,
    /// Chroma filter, horizontal, from 0 to 3.
    pub chroma_across: u8,
    /// Chroma filter, vertical, from 0 to 3.
    pub chroma_down: u8,
    /// The gradients, with 10 bits, below which the factor is `blur_1` and `blur_0`.
    pub blur_thresholds: [u16; 2],
    /// The gradients, with 10 bits, above which the factor is `sharp_0` and `sharp_1`.
    pub sharp_thresholds: [u16; 2],
    /// The weight of gradients by luminance: minimum, kink and gain.
    pub weight: [u8; 3],
    /// The factor below the first of `blur_thresholds`. All factors have 6 bits.
    pub blur_1: u8,
    /// The factor below the second of `blur_thresholds`.
    pub blur_0: u8,
    /// The factor between the thresholds.
    pub mid: u8,
    /// The factor above the first of `sharp_thresholds`.
    pub sharp_0: u8,
    /// The factor above the second of `sharp_thresholds`.
    pub sharp_1: u8,
}

/// Cross-talk correction: a matrix for red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrossTalk {
    /// The coefficients in units of 1/128, with 11 bits, signed.
    pub matrix: [[i16; 3]; 3],
    /// The offsets, with 12 bits, signed.
    pub offset: [i16; 3],
}

impl Default for CrossTalk {
    fn default() -> Self {
        Self { matrix: [[128, 0, 0], [0, 128, 0], [0, 0, 128]], offset: [0; 3] }
    }
}

/// Gamma out: one curve for all colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GammaOut {
    /// The segments are 4 x 64, 4 x 128, 3 x 256 and 5 x 512 of 4096, not 16 x 256.
    pub logarithmic: bool,
    /// The points, with 10 bits.
    pub points: [u16; POINTS],
}

/// The colour space matrix, from red, green and blue with 10 bits to 8-bit YCbCr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColourSpace {
    /// The coefficients in units of 1/128, with 9 bits, signed.
    pub matrix: [[i16; 3]; 3],
    /// Y is from 0 to 255, not from 16 to 235.
    pub full_luma: bool,
    /// Cb and Cr are from 0 to 255, not from 16 to 240.
    pub full_chroma: bool,
}

impl Default for ColourSpace {
    /// BT.601 in limited range, which the driver programs.
    fn default() -> Self {
        Self { matrix: [[33, 66, 13], [-19, -37, 56], [56, -47, -9]], full_luma: false, full_chroma: false }
    }
}

/// Colour processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColourProcessing {
    /// In units of 1/128.
    pub contrast: u8,
    /// In units of half a code of Y.
    pub brightness: i8,
    /// In units of 1/128.
    pub saturation: u8,
    /// In units of 90/128 degrees.
    pub hue: i8,
    /// Y comes without an offset. Otherwise black is 16.
    pub full_luma_in: bool,
    /// Y goes out from 0 to 255, not from 16 to 235.
    pub full_luma_out: bool,
    /// Cb and Cr go out from 0 to 255, not from 16 to 240.
    pub full_chroma_out: bool,
}

/// An image effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Which one.
    pub kind: EffectKind,
    /// Y, Cb and Cr have the full range.
    pub full: bool,
}

/// The image effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectKind {
    /// Black and white.
    BlackWhite,
    /// Negative.
    Negative,
    /// Sepia: the increments of Cb and Cr.
    Sepia([i8; 2]),
    /// Black and white except for some colours.
    ColourSelection {
        /// Bit 0 for blue, 1 for green, 2 for red.
        colours: u8,
        /// The threshold of these components.
        threshold: u8,
    },
    /// Emboss: a 3 x 3 filter, around grey.
    Emboss([[i8; 3]; 3]),
    /// Sketch: a 3 x 3 filter, dark on white.
    Sketch([[i8; 3]; 3]),
}

/// The coefficient of a matrix of an effect in a register's four bits. Bit 3 is set if it is used, bit 2 is its sign, and its
/// value is 2 to the power of bits 1 and 0.
pub fn effect_coefficient(bits: u8) -> i8 {
    let value = 1 << (bits & 3);
    match bits & 0xc {
        8 => value,
        0xc => -value,
        _ => 0,
    }
}

/// White balance measurement. Positions of windows count from the corner of the outgoing picture, here and below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WhiteMeasure {
    /// The window.
    pub window: Window,
    /// The pixels that count.
    pub limits: WhiteLimits,
    /// The number of frames minus 1, up to 7, of a measurement.
    pub frames: u8,
}

/// The pixels that count as white, and what of them is measured. The values have 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhiteLimits {
    /// Y, Cb and Cr.
    Ycbcr {
        /// Y is larger than this.
        min_y: u8,
        /// Y is smaller than this. None if it is not compared.
        max_y: Option<u8>,
        /// Cb and Cr are each larger than this.
        min_c: u8,
        /// The sum of the distances of Cb and Cr from the reference is smaller than this.
        max_sum: u8,
        /// The reference of Cb and Cr.
        reference: [u8; 2],
    },
    /// Red, green and blue, each not larger than this.
    Rgb([u8; 3]),
}

/// Exposure measurement: the mean luminance of 5 x 5 cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExposureMeasure {
    /// Luminance is (R + G + B) 85/256, not 16 + R/4 + G/2 + 7/64 B.
    pub sum: bool,
    /// The first column and the first line of the first cell.
    pub corner: [u16; 2],
    /// The number of columns and lines of a cell.
    pub cell: [u16; 2],
}

/// The histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramMeasure {
    /// The values that are counted.
    pub values: HistogramValues,
    /// The distance from each pixel that is counted to the next, horizontally and vertically. 0 is as 1.
    pub step: u8,
    /// The first column and the first line of the first of 5 x 5 cells.
    pub corner: [u16; 2],
    /// The number of columns and lines of a cell.
    pub cell: [u16; 2],
    /// The weights of the cells, line by line, in units of 1/16. 5 bits.
    pub weights: [u8; 25],
}

/// The values of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistogramValues {
    /// Red, green and blue together, after the cross-talk correction.
    Rgb,
    /// One of red (0), green (1) and blue (2), after the cross-talk correction.
    Component(u8),
    /// Y, behind the colour space matrix.
    Luma,
}

/// Focus measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FocusMeasure {
    /// The windows A, B and C.
    pub windows: [Option<Window>; 3],
    /// The smallest value that is added.
    pub threshold: u16,
    /// The bits by which the sum of sharpness, and that of luminance, are shifted right. 3 bits.
    pub shifts: [u8; 2],
}

#[cfg(test)]
mod tests {
    use super::effect_coefficient;

    #[test]
    fn coefficients_of_effects_are_powers_of_two() {
        let all: Vec<i8> = (0..16).map(effect_coefficient).collect();
        assert_eq!(all, [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, -1, -2, -4, -8]);
    }
}
