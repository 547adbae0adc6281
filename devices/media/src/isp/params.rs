//! The parameters of the ISP: integers, and their ranges.
//!
//! Linear values have 14 bits, and 16383 is a saturated sample. Coded values, after the tone curve, are 8-bit codes
//! in units of 1/64, up to 16320. Blocks and fields have the names of the kernel's uapi headers rkisp1-config.h and
//! mali-c55-config.h, where these have them.

use super::arith::{CODED_MAX, LINEAR_MAX};
use crate::{
    sensor::{self, Colour},
    yuv::Encoding,
};

/// The number of points of the lens-shading mesh in each direction. The first and the last lie on the edges of the frame.
pub const MESH: usize = 17;

/// A gain for each channel at each point of the lens-shading mesh, line by line.
pub type LensMesh = [[[u16; 4]; MESH]; MESH];

/// The number of points of the tone curve.
pub const TONE_POINTS: usize = 60;

/// A gain of 1.
pub const GAIN_ONE: u16 = 1 << 14;

/// A digital gain of 1.
pub const DIGITAL_GAIN_ONE: u16 = 1 << 8;

/// The largest digital gain.
pub const DIGITAL_GAIN_MAX: u16 = 4 * DIGITAL_GAIN_ONE;

/// A coefficient of 1 in the colour matrix.
pub const MATRIX_ONE: i16 = 1 << 12;

/// The parameters for a frame. Arrays with four elements are for red, green on lines with red, green on lines with blue, and
/// blue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// The black level, which is subtracted from a sample first, as a linear value.
    pub black_level: [u16; 4],
    /// The detection of defect pixels.
    pub defect_pixel: DefectPixel,
    /// The correction of the lens: a gain at each point of a mesh, in units of 1/16384. Gains are linear between the points.
    pub lens_shading: Option<Box<LensMesh>>,
    /// The linear values between which all samples of a quad must lie to count for white balance.
    pub awb_range: [u16; 2],
    /// The gain of each channel, in units of 1/16384.
    pub white_balance: [u16; 4],
    /// The gain of all colours, in units of 1/256, up to 4. It is for scenes that are too dark for exposure and gains of the
    /// sensor. The product with a coefficient of the matrix is limited to 8.
    pub digital_gain: u16,
    /// The weights of the sensor's red, green and blue in red, green and blue, in units of 1/4096.
    pub colour_matrix: [[i16; 3]; 3],
    /// The linear values that are added after the colour matrix.
    pub colour_offset: [i16; 3],
    /// The tone curve.
    pub tone_curve: ToneCurve,
    /// Smoothing and sharpening.
    pub detail: Detail,
    /// The encoding of Y'CbCr formats.
    pub encoding: Encoding,
}

/// The detection of defect pixels. A sample that is more than `threshold` above the largest of its eight neighbours of the same
/// colour, or below the smallest, is replaced by that neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefectPixel {
    /// A linear value before white balance. 16383 and more switch the detection off.
    pub threshold: u16,
}

/// The tone curve, as coded values at given linear values, with straight lines between them. The points are 32 apart up to 512,
/// then 128 apart up to 2560, then 512 apart up to 16384. They are dense in the dark, where sRGB is steepest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToneCurve {
    /// Coded values, at most 16320, which is white.
    pub points: [u16; TONE_POINTS],
}

/// Noise reduction and sharpening. They change the difference between the luma of a pixel and that of its surroundings (3x3
/// pixels with the weights 1 2 1 in each direction). The part of the difference within the threshold counts as noise, and the
/// part beyond it as detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detail {
    /// A coded value, up to 16320.
    pub threshold: u16,
    /// The part of the noise that is removed, in units of 1/32768, up to 32767.
    pub denoise: u16,
    /// The amount of detail that is added, in units of 1/16384, up to 32767.
    pub sharpen: u16,
    /// The largest change of a pixel, as a coded value, up to 16320.
    pub limit: u16,
}

/// A field that is out of its range.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("{field} is {value}; it is at most {max}")]
pub struct ParamsError {
    /// Its path in [`Params`].
    pub field: &'static str,
    /// Its value.
    pub value: u16,
    /// Its largest valid value.
    pub max: u16,
}

impl ToneCurve {
    /// The linear value at a point.
    pub const fn at(point: usize) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "there are 60 points")]
        let point = point as u16;
        match point {
            0..16 => point * 32,
            16..32 => 512 + (point - 16) * 128,
            _ => 2560 + (point - 32) * 512,
        }
    }

    /// The curve of a function from linear to coded values, where 1 is white for both.
    pub fn new(curve: impl Fn(f64) -> f64) -> Self {
        let mut points = [0; TONE_POINTS];
        for (index, point) in points.iter_mut().enumerate() {
            let linear = (f64::from(Self::at(index)) / f64::from(LINEAR_MAX)).min(1.0);
            *point = rounded(curve(linear) * f64::from(CODED_MAX), CODED_MAX.unsigned_abs());
        }
        Self { points }
    }

    /// The linear curve: a code is the upper eight bits of a linear value.
    pub fn linear() -> Self {
        Self { points: std::array::from_fn(|point| Self::at(point).min(CODED_MAX.unsigned_abs())) }
    }

    /// The curve of sRGB (IEC 61966-2-1).
    pub fn srgb() -> Self {
        Self::new(
            |light| {
                if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
            },
        )
    }
}

impl Params {
    /// The parameters that change as little as possible: the ISP only interpolates colours, and reduces them to eight bits.
    pub fn neutral() -> Self {
        let one = |row| [0, 1, 2].map(|column| if row == column { MATRIX_ONE } else { 0 });
        Self {
            black_level: [0; 4],
            defect_pixel: DefectPixel { threshold: u16::MAX },
            lens_shading: None,
            awb_range: [0, u16::MAX],
            white_balance: [GAIN_ONE; 4],
            digital_gain: DIGITAL_GAIN_ONE,
            colour_matrix: [0, 1, 2].map(one),
            colour_offset: [0; 3],
            tone_curve: ToneCurve::linear(),
            detail: Detail { threshold: 0, denoise: 0, sharpen: 0, limit: 0 },
            encoding: Encoding::default(),
        }
    }

    /// The parameters for the simulated sensor in daylight: they correct the filters of `colour` and the lens of
    /// [`sensor::shading`], and put out sRGB.
    pub fn default_for(colour: &Colour, [width, height]: [u32; 2]) -> Self {
        let black = sensor::BLACK << 2;
        let full = f64::from(sensor::WHITE) / f64::from(sensor::WHITE - sensor::BLACK);
        let [red, green, blue] =
            colour.white_balance.map(|gain| rounded(gain * full * f64::from(GAIN_ONE), u16::MAX));
        let matrix = colour.matrix.map(|row| {
            #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
            let [r, g, b] = row.map(|part| (part * f64::from(MATRIX_ONE)).round() as i16);
            // Greys must stay grey: the rounding error of the sum is corrected in the largest coefficient.
            let rest = MATRIX_ONE - r - g - b;
            if r.max(g).max(b) == g {
                [r, g + rest, b]
            } else if r > b {
                [r + rest, g, b]
            } else {
                [r, g, b + rest]
            }
        });
        Self {
            black_level: [black; 4],
            defect_pixel: DefectPixel { threshold: 512 },
            lens_shading: Some(lens_mesh([width, height])),
            awb_range: [256, 14_000],
            white_balance: [red, green, green, blue],
            digital_gain: DIGITAL_GAIN_ONE,
            colour_matrix: matrix,
            colour_offset: [0; 3],
            tone_curve: ToneCurve::srgb(),
            detail: Detail { threshold: 2 << 6, denoise: 1 << 14, sharpen: 1 << 12, limit: 24 << 6 },
            encoding: Encoding::default(),
        }
    }

    /// The colour matrix times the digital gain.
    pub(super) fn gained_matrix(&self) -> [[i16; 3]; 3] {
        let gain = i32::from(self.digital_gain);
        self.colour_matrix.map(|row| {
            row.map(|part| {
                let part = (i32::from(part) * gain + i32::from(DIGITAL_GAIN_ONE / 2)) >> 8;
                i16::try_from(part).unwrap_or(if part < 0 { i16::MIN } else { i16::MAX })
            })
        })
    }

    /// Checks that all fields are in their ranges.
    ///
    /// # Errors
    /// The first field that is not.
    pub fn check(&self) -> Result<(), ParamsError> {
        let coded = CODED_MAX.unsigned_abs();
        let Detail { threshold, denoise, sharpen, limit } = self.detail;
        let points = self.tone_curve.points.iter().map(|&point| ("tone_curve.points", point, coded));
        let rest = [
            ("digital_gain", self.digital_gain, DIGITAL_GAIN_MAX),
            ("detail.threshold", threshold, coded),
            ("detail.denoise", denoise, 0x7fff),
            ("detail.sharpen", sharpen, 0x7fff),
            ("detail.limit", limit, coded),
        ];
        match points.chain(rest).find(|(_, value, max)| value > max) {
            Some((field, value, max)) => Err(ParamsError { field, value, max }),
            None => Ok(()),
        }
    }
}

/// The mesh that corrects [`sensor::shading`] in frames of this size.
fn lens_mesh([width, height]: [u32; 2]) -> Box<LensMesh> {
    let square = |point: usize, length: u32| {
        let middle = 2.0 * point as f64 / (MESH - 1) as f64 - 1.0;
        (middle * f64::from(length)).powi(2)
    };
    let corner = f64::from(width).powi(2) + f64::from(height).powi(2);
    let mut mesh = Box::new([[[0; 4]; MESH]; MESH]);
    for (y, line) in mesh.iter_mut().enumerate() {
        for (x, gains) in line.iter_mut().enumerate() {
            let gain = 1.0 / sensor::shading((square(x, width) + square(y, height)) / corner);
            gains.fill(rounded(gain * f64::from(GAIN_ONE), u16::MAX));
        }
    }
    mesh
}

fn rounded(value: f64, max: u16) -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the limits")]
    let rounded = value.round().clamp(0.0, f64::from(max)) as u16;
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_points_of_the_curve_are_in_order() {
        assert_eq!(
            [0, 1, 16, 17, 31, 32, 33, 59].map(ToneCurve::at),
            [0, 32, 512, 640, 2432, 2560, 3072, 16_384]
        );
        let srgb = ToneCurve::srgb();
        assert_eq!((srgb.points[0], srgb.points[TONE_POINTS - 1]), (0, 16_320));
        assert!(srgb.points.is_sorted());
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let colour = sensor::colour();
        assert_eq!(Params::neutral().check(), Ok(()));
        let good = Params::default_for(&colour, [640, 480]);
        assert_eq!(good.check(), Ok(()));
        let mut bad = good.clone();
        bad.tone_curve.points[7] = 16_321;
        assert_eq!(bad.check().unwrap_err().to_string(), "tone_curve.points is 16321; it is at most 16320");
        let bad = Params { detail: Detail { sharpen: 0x8000, ..good.detail }, ..good };
        assert_eq!(bad.check().unwrap_err().field, "detail.sharpen");
    }

    #[test]
    fn the_digital_gain_is_applied_to_the_matrix() {
        let params =
            Params { digital_gain: DIGITAL_GAIN_ONE, ..Params::default_for(&sensor::colour(), [640, 480]) };
        assert_eq!(params.gained_matrix(), params.colour_matrix);
        let four = Params { digital_gain: DIGITAL_GAIN_MAX, ..params.clone() };
        assert_eq!(four.gained_matrix(), params.colour_matrix.map(|row| row.map(|part| 4 * part)));
        let most = Params { colour_matrix: [[i16::MAX, i16::MIN, 1]; 3], ..four };
        assert_eq!(most.gained_matrix()[0], [i16::MAX, i16::MIN, 4]);
    }

    #[test]
    fn rows_of_the_matrix_keep_greys() {
        let params = Params::default_for(&sensor::colour(), [640, 480]);
        assert!(params.colour_matrix.iter().all(|row| row.iter().sum::<i16>() == MATRIX_ONE), "{params:?}");
    }
}
