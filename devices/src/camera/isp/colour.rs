//! Kernels on pixels: the tone curve, luma and chroma.

use super::{
    arith::{CODED_MAX, LINEAR_MAX, add, scale},
    level::{Level, kernel},
    lines::{LANES, at},
    params::{TONE_POINTS, ToneCurve},
};
use crate::camera::yuv::{Encoding, coefficients};

/// A tone curve as the kernels want it.
#[derive(Debug, Clone)]
pub(super) struct Tone {
    /// The curve's points.
    base: [i16; 64],
    /// The way from each to the next.
    step: [i16; 64],
    /// All of its values.
    table: Vec<i16>,
}

impl Tone {
    pub(super) fn new() -> Self {
        Self { base: [0; 64], step: [0; 64], table: vec![0; 1 << 14] }
    }

    /// Becomes `curve`.
    pub(super) fn set(&mut self, curve: &ToneCurve) {
        let coded = |point: u16| point.cast_signed().clamp(0, CODED_MAX);
        let points = curve.points.map(coded);
        if self.base[..TONE_POINTS] == points {
            return;
        }
        self.base[..TONE_POINTS].copy_from_slice(&points);
        for (step, pair) in self.step.iter_mut().zip(points.windows(2)) {
            *step = pair[1] - pair[0];
        }
        for (value, coded) in (0..).zip(&mut self.table) {
            let (segment, fraction) = segment(value);
            *coded = add(self.base[segment as usize], scale(self.step[segment as usize], fraction));
        }
    }
}

/// Where a linear value lies on the curve: behind which point, and how far on the way to the next, in steps of 2^-15.
#[inline(always)]
fn segment(value: i16) -> (i16, i16) {
    if value < 512 {
        (value >> 5, (value & 31) << 10)
    } else if value < 2560 {
        (add(value >> 7, 12), (value & 127) << 8)
    } else {
        (add(value >> 9, 27), (value & 511) << 6)
    }
}

/// Sends `count` values of a padded line through the curve; they are at most 14 bits.
pub(super) fn tone(level: Level, curve: &Tone, line: &mut [i16], count: usize) {
    let line = &mut line[LANES..][..count];
    #[cfg(target_arch = "x86_64")]
    if level.0 == super::level::Kind::Avx512 {
        // SAFETY: there is such a level only where the machine has it.
        return unsafe { tone_avx512(curve, line) };
    }
    let _ = level;
    let table: &[i16; 1 << 14] = curve.table.as_slice().try_into().expect("it has as many values");
    for value in line {
        *value = table[(*value & LINEAR_MAX).cast_unsigned() as usize];
    }
}

/// Without a table in memory: the curve's points are in two registers, and so are the ways between them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
fn tone_avx512(curve: &Tone, line: &mut [i16]) {
    use std::arch::x86_64::*;

    let load = |values: &[i16]| {
        let values: &[i16; 32] = values.try_into().expect("half of 64");
        // SAFETY: it reads 64 bytes, as many as these are.
        unsafe { _mm512_loadu_epi16(values.as_ptr()) }
    };
    let (base_low, base_high) = (load(&curve.base[..32]), load(&curve.base[32..]));
    let (step_low, step_high) = (load(&curve.step[..32]), load(&curve.step[32..]));
    let (chunks, rest) = line.as_chunks_mut::<32>();
    for chunk in chunks {
        let value = load(chunk);
        let segment = |shift: __m512i, first: i16, mask: i16, up: __m512i| {
            let index = _mm512_add_epi16(_mm512_srlv_epi16(value, shift), _mm512_set1_epi16(first));
            (index, _mm512_sllv_epi16(_mm512_and_si512(value, _mm512_set1_epi16(mask)), up))
        };
        let word = |value: i16| _mm512_set1_epi16(value);
        let (dark, dark_fraction) = segment(word(5), 0, 31, word(10));
        let (middle, middle_fraction) = segment(word(7), 12, 127, word(8));
        let (light, light_fraction) = segment(word(9), 27, 511, word(6));
        let is_light = _mm512_cmpge_epi16_mask(value, word(2560));
        let is_dark = _mm512_cmplt_epi16_mask(value, word(512));
        let pick = |dark, middle, light| {
            _mm512_mask_mov_epi16(_mm512_mask_mov_epi16(middle, is_dark, dark), is_light, light)
        };
        let index = pick(dark, middle, light);
        let fraction = pick(dark_fraction, middle_fraction, light_fraction);
        let base = _mm512_permutex2var_epi16(base_low, index, base_high);
        let step = _mm512_permutex2var_epi16(step_low, index, step_high);
        let value = _mm512_add_epi16(base, _mm512_mulhrs_epi16(step, fraction));
        // SAFETY: it writes 64 bytes, as many as the chunk has.
        unsafe { _mm512_storeu_epi16(chunk.as_mut_ptr(), value) };
    }
    for value in rest {
        *value = curve.table[(*value & LINEAR_MAX).cast_unsigned() as usize];
    }
}

/// What Y', Cb and Cr have of red, green and blue, in steps of 2^-15, and what is added, in coded values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Yuv {
    parts: [[i16; 3]; 3],
    black: i16,
}

impl Yuv {
    pub(super) fn new(encoding: Encoding) -> Self {
        // Half as fine as the table: none exceeds 1/2 by much, and what rounding adds is far below a code.
        let part = |part: i32| i16::try_from((part + 1) >> 1).unwrap_or(i16::MAX);
        Self {
            parts: coefficients(encoding).map(|row| row.map(part)),
            black: i16::from(encoding.black()) << 6,
        }
    }

    #[inline(always)]
    fn sum(parts: [i16; 3], pixel: [i16; 3]) -> i16 {
        add(add(scale(pixel[0], parts[0]), scale(pixel[1], parts[1])), scale(pixel[2], parts[2]))
    }

    /// Y' of a pixel, as a coded value.
    #[inline(always)]
    pub(super) fn luma(&self, pixel: [i16; 3]) -> i16 {
        add(Self::sum(self.parts[0], pixel), self.black)
    }

    /// Cb and Cr of a pixel, as coded values.
    #[inline(always)]
    pub(super) fn chroma(&self, pixel: [i16; 3]) -> [i16; 2] {
        let centred = |parts| add(Self::sum(parts, pixel), 128 << 6).min(CODED_MAX);
        [centred(self.parts[1]), centred(self.parts[2])]
    }
}

kernel! {
    /// Luma of half a line, in coded values.
    fn luma(pixels: [&[i16]; 3], yuv: &Yuv, out: &mut [i16], count: usize) {
        let [r, g, b] = pixels.map(|plane| at(plane, 0, count));
        let (out, yuv) = (&mut out[LANES..][..count], *yuv);
        for i in 0..count {
            out[i] = yuv.luma([r[i], g[i], b[i]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_on_the_curve_at_every_level() {
        let srgb = ToneCurve::srgb();
        let mut curve = Tone::new();
        curve.set(&srgb);
        for point in 0..TONE_POINTS - 1 {
            assert_eq!(curve.table[usize::from(ToneCurve::at(point))], srgb.points[point].cast_signed());
        }
        assert!(curve.table.is_sorted());
        for (value, &coded) in (0_u16..).zip(&curve.table) {
            let light = f64::from(value) / 16_383.0;
            let exact =
                if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 };
            let error = (f64::from(coded) / 64.0 - exact * 255.0).abs();
            assert!(error < 0.35, "{error} codes at {value}");
        }
        for level in Level::all() {
            let mut line: Vec<i16> = (0..64).chain(0..=LINEAR_MAX).chain(0..77).collect();
            let expected: Vec<i16> =
                line[LANES..].iter().map(|&value| curve.table[usize::try_from(value).unwrap()]).collect();
            let count = expected.len();
            tone(level, &curve, &mut line, count);
            assert_eq!(line[LANES..], expected, "{}", level.name());
        }
    }

    #[test]
    fn white_and_greys() {
        use crate::camera::yuv::{Quantization, YcbcrEncoding};
        for ycbcr in [YcbcrEncoding::Bt601, YcbcrEncoding::Bt709] {
            for (quantization, white) in [(Quantization::Limited, 235), (Quantization::Full, 255)] {
                let encoding = Encoding { ycbcr, quantization };
                let yuv = Yuv::new(encoding);
                let code = |value: i16| super::super::arith::code(value);
                assert_eq!(code(yuv.luma([CODED_MAX; 3])), white);
                assert_eq!(code(yuv.luma([0; 3])), u16::from(encoding.black()));
                for grey in 0..=CODED_MAX {
                    assert_eq!(yuv.chroma([grey; 3]).map(code), [128; 2]);
                }
                assert_eq!(code(yuv.chroma([0, 0, CODED_MAX])[0]), if white == 235 { 240 } else { 255 });
            }
        }
    }
}
