//! The encoding of pictures: the colour space matrix, and colour processing.

use super::{
    arith::{W, code, wide},
    params::{ColourProcessing, ColourSpace},
};
use crate::simd::{Level, kernel};

/// A line of a picture in 4:2:2. A sample of chroma belongs to two pixels, and has the position of the first.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Luma.
    pub y: &'a [u8],
    /// The blue difference, for each pair of pixels.
    pub cb: &'a [u8],
    /// The red difference, for each pair of pixels.
    pub cr: &'a [u8],
}

/// The smallest and the largest code of luma.
pub(super) const fn luma_range(full: bool) -> [u8; 2] {
    if full { [0, 255] } else { [16, 235] }
}

/// The smallest and the largest code of chroma.
pub(super) const fn chroma_range(full: bool) -> [u8; 2] {
    if full { [0, 255] } else { [16, 240] }
}

/// Red, green and blue, each as even and odd columns.
pub(super) type Planes<'a> = [&'a [i16]; 6];

/// Encodes a line of 10-bit red, green and blue. Chroma is that of the even columns.
pub(super) fn encode(
    level: Level,
    space: &ColourSpace,
    [er, or, eg, og, eb, ob]: Planes<'_>,
    y: &mut [u8],
    cb: &mut [u8],
    cr: &mut [u8],
) {
    let [least, most] = luma_range(space.full_luma);
    // Black is the smallest code.
    let offset = i16::from(least);
    luma(level, space.matrix[0], offset, [least, most], [er, eg, eb], [or, og, ob], y.as_chunks_mut().0);
    let range = chroma_range(space.full_chroma);
    chroma(level, space.matrix[1], range, er, eg, eb, cb);
    chroma(level, space.matrix[2], range, er, eg, eb, cr);
}

/// A row of the matrix, from 10 to 8 bits.
#[inline(always)]
fn row(weights: [i16; 3], rgb: [i16; 3], offset: i16) -> W<i32> {
    let [r, g, b] = rgb.map(wide);
    let [x, y, z] = weights.map(wide);
    ((x * r + y * g + z * b + W(256)) >> 9) + wide(offset)
}

kernel! {
    fn luma(
        weights: [i16; 3],
        offset: i16,
        range: [u8; 2],
        even: [&[i16]; 3],
        odd: [&[i16]; 3],
        out: &mut [[u8; 2]],
    ) {
        let count = out.len();
        let [even, odd] = [even, odd].map(|planes| planes.map(|plane| &plane[..count]));
        for i in 0..count {
            let of = |[r, g, b]: [&[i16]; 3]| code(row(weights, [r[i], g[i], b[i]], offset), range[0], range[1]);
            out[i] = [of(even), of(odd)];
        }
    }
}

kernel! {
    fn chroma(weights: [i16; 3], range: [u8; 2], red: &[i16], green: &[i16], blue: &[i16], out: &mut [u8]) {
        for (((out, &r), &g), &b) in out.iter_mut().zip(red).zip(green).zip(blue) {
            *out = code(row(weights, [r, g, b], 128), range[0], range[1]);
        }
    }
}

/// Colour processing in the form that the kernels take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Processing {
    contrast: i16,
    /// Brightness and the offset of black, in units of 1/128 of a code, and the offset that is subtracted.
    offset: i32,
    black: i16,
    luma: [u8; 2],
    /// The weights of Cb and Cr in Cb, and those of Cr and Cb in Cr, in units of 1/4096.
    rotation: [i16; 2],
    chroma: [u8; 2],
}

impl Processing {
    pub(super) fn new(params: &ColourProcessing) -> Self {
        let black = if params.full_luma_in { 0 } else { 16 };
        let angle = f64::from(params.hue) * std::f64::consts::FRAC_PI_2 / 128.0;
        let weight = |part: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "no weight exceeds 2")]
            let weight = (f64::from(params.saturation) * part * 32.0).round() as i16;
            weight
        };
        Self {
            contrast: i16::from(params.contrast),
            offset: i32::from(params.brightness) * 64 + i32::from(black) * 128,
            black,
            luma: luma_range(params.full_luma_out),
            rotation: [weight(angle.cos()), weight(angle.sin())],
            chroma: chroma_range(params.full_chroma_out),
        }
    }

    /// Processes a line. Positive hue turns red to magenta.
    pub(super) fn apply(&self, level: Level, y: &mut [u8], cb: &mut [u8], cr: &mut [u8]) {
        process_luma(level, self.contrast, self.offset, self.black, self.luma, y);
        process_chroma(level, self.rotation, self.chroma, cb, cr);
    }
}

kernel! {
    /// `Yout = Yin * contrast + brightness / 2`, where black is 0.
    fn process_luma(contrast: i16, offset: i32, black: i16, range: [u8; 2], line: &mut [u8]) {
        for y in line {
            let scaled = (wide(i16::from(*y)) - wide(black)) * wide(contrast);
            *y = code((scaled + W(offset) + W(64)) >> 7, range[0], range[1]);
        }
    }
}

kernel! {
    fn process_chroma(rotation: [i16; 2], range: [u8; 2], cb: &mut [u8], cr: &mut [u8]) {
        let [cosine, sine] = rotation.map(wide);
        for (cb, cr) in cb.iter_mut().zip(cr) {
            let [b, r] = [*cb, *cr].map(|value| wide(i16::from(value)) - W(128));
            let of = |sum: W<i32>| code(((sum + W(2048)) >> 12) + W(128), range[0], range[1]);
            (*cb, *cr) = (of(b * cosine + r * sine), of(r * cosine - b * sine));
        }
    }
}
