//! Image effects, and the lines of the picture that they read.
//!
//! Colour selection keeps the chroma of a pixel if each selected component is above the threshold, and no other one is; a
//! selection of none or of all colours keeps all. Emboss is the sum of the filter around 128. Sketch is its absolute value
//! below white.

use super::{
    arith::{W, code, wide},
    encode::{Line, chroma_range, luma_range},
    params::{Effect, EffectKind},
};
use crate::{
    simd::{Level, kernel},
    yuv::{Encoding, Quantization, ToRgb},
};

/// The lines that the 3 x 3 filters read.
const LINES: usize = 3;

/// The last lines of the picture.
#[derive(Debug, Default)]
pub(super) struct Effects {
    width: usize,
    /// Luma with a column of padding on each side.
    luma: [Vec<u8>; LINES],
    chroma: [[Vec<u8>; 2]; LINES],
    /// A line of luma that goes out.
    out: Vec<u8>,
}

impl Effects {
    /// Room for lines of `width` pixels.
    pub(super) fn new(width: usize) -> Self {
        Self {
            width,
            luma: std::array::from_fn(|_| vec![0; width + 2]),
            chroma: std::array::from_fn(|_| std::array::from_fn(|_| vec![0; width / 2])),
            out: vec![0; width],
        }
    }

    /// Luma, Cb and Cr of line `y`, to be written.
    pub(super) fn line_mut(&mut self, y: u32) -> [&mut [u8]; 3] {
        let index = y as usize % LINES;
        let [cb, cr] = &mut self.chroma[index];
        [&mut self.luma[index][1..=self.width], cb, cr]
    }

    /// Applies the effect to line `y` of `height`, and writes the lines that are finished with it.
    pub(super) fn put(
        &mut self,
        level: Level,
        effect: Option<&Effect>,
        y: u32,
        height: u32,
        write: &mut dyn FnMut(u32, &Line<'_>),
    ) {
        if let Some(effect) = effect {
            let range = chroma_range(effect.full);
            match effect.kind {
                EffectKind::Emboss(matrix) => return self.filter(level, &matrix, None, y, height, write),
                EffectKind::Sketch(matrix) => {
                    let white = luma_range(effect.full)[1];
                    return self.filter(level, &matrix, Some(white), y, height, write);
                }
                EffectKind::BlackWhite => self.tint(y, [128; 2]),
                EffectKind::Sepia(increments) => {
                    let code = |increment: i8| (increment.cast_unsigned() ^ 0x80).clamp(range[0], range[1]);
                    self.tint(y, increments.map(code));
                }
                EffectKind::Negative => self.invert(effect.full, y),
                EffectKind::ColourSelection { colours, threshold } => {
                    self.select(effect.full, colours & 7, threshold, y);
                }
            }
        }
        let index = y as usize % LINES;
        let [cb, cr] = &self.chroma[index];
        write(y, &Line { y: &self.luma[index][1..=self.width], cb, cr });
    }

    /// Replaces chroma.
    fn tint(&mut self, y: u32, tint: [u8; 2]) {
        for (plane, value) in self.chroma[y as usize % LINES].iter_mut().zip(tint) {
            plane.fill(value);
        }
    }

    /// Inverts luma and chroma.
    fn invert(&mut self, full: bool, y: u32) {
        let [least, most] = luma_range(full);
        let [luma, cb, cr] = self.line_mut(y);
        let sum = u16::from(least) + u16::from(most);
        for value in luma {
            *value = u8::try_from(sum.saturating_sub((*value).into())).unwrap_or(u8::MAX);
        }
        for value in cb.iter_mut().chain(cr) {
            // The negative of 0 is 256: the largest code stands for it.
            *value = 0_u8.wrapping_sub((*value).max(1));
        }
    }

    /// Removes chroma from the pixels that do not have the selected colours.
    fn select(&mut self, full: bool, colours: u8, threshold: u8, y: u32) {
        if matches!(colours, 0 | 7) {
            return;
        }
        let quantization = if full { Quantization::Full } else { Quantization::Limited };
        let to_rgb = ToRgb::new(Encoding { quantization, ..Encoding::default() });
        let [luma, cb, cr] = self.line_mut(y);
        for ((cb, cr), luma) in cb.iter_mut().zip(cr).zip(luma.as_chunks::<2>().0) {
            let [r, g, b] = to_rgb.pixel(luma[0], *cb, *cr).map(|value| u8::from(value > threshold));
            if (r << 2 | g << 1 | b) != colours {
                (*cb, *cr) = (128, 128);
            }
        }
    }

    /// Filters luma of the line before line `y`, and of line `y` too if it is the last. A sketch has the code of white.
    fn filter(
        &mut self,
        level: Level,
        matrix: &[[i8; 3]; 3],
        white: Option<u8>,
        y: u32,
        height: u32,
        write: &mut dyn FnMut(u32, &Line<'_>),
    ) {
        let width = self.width;
        let line = &mut self.luma[y as usize % LINES];
        (line[0], line[width + 1]) = (line[1], line[width]);
        self.tint(y, [128; 2]);
        let end = if y + 1 == height { height } else { y };
        for y in y.saturating_sub(1)..end {
            let lines = [y.saturating_sub(1), y, (y + 1).min(height - 1)];
            let lines = lines.map(|y| &*self.luma[y as usize % LINES]);
            convolve(level, lines, matrix, white, &mut self.out);
            let [cb, cr] = &self.chroma[y as usize % LINES];
            write(y, &Line { y: &self.out, cb, cr });
        }
    }
}

kernel! {
    /// The sums of three padded lines with the weights of the matrix.
    fn convolve(lines: [&[u8]; 3], matrix: &[[i8; 3]; 3], white: Option<u8>, out: &mut [u8]) {
        let (base, is_sketch) = (white.map_or(W(128), |white| wide(i16::from(white))), white.is_some());
        let count = out.len();
        let lines = lines.map(|line| [0, 1, 2].map(|x| &line[x..][..count]));
        let matrix = matrix.map(|row| row.map(|weight| wide(i16::from(weight))));
        for i in 0..count {
            let mut sum = W(0);
            for (line, row) in lines.iter().zip(&matrix) {
                for (values, &weight) in line.iter().zip(row) {
                    sum += wide(i16::from(values[i])) * weight;
                }
            }
            let sum = if is_sketch { -W(sum.0.wrapping_abs()) } else { sum };
            out[i] = code(base + sum, 0, u8::MAX);
        }
    }
}
