//! Kernels for colours: the tone curve, luma and chroma.

use super::{
    arith::{CODED_MAX, LINEAR_MAX},
    lines::{vectors, vectors_mut},
    params::{TONE_POINTS, ToneCurve},
};
#[cfg(target_arch = "x86_64")]
use crate::simd::Kind;
use crate::{
    simd::{LANES, Level, Vector, kernel},
    yuv::{Encoding, coefficients},
};

/// A tone curve in the form that the kernels take.
#[derive(Debug, Clone)]
pub(super) struct Tone {
    /// The points of the curve.
    base: [i16; 64],
    /// The difference from each point to the next.
    step: [i16; 64],
    /// The value of the curve at each linear value.
    table: Vec<i16>,
    /// The lower and the upper bytes of `base`, and those of `step`, in groups of 16.
    #[cfg(target_arch = "x86_64")]
    bytes: [[[u8; 16]; 4]; 4],
}

impl Tone {
    pub(super) fn new() -> Self {
        Self {
            base: [0; 64],
            step: [0; 64],
            table: vec![0; 1 << 14],
            #[cfg(target_arch = "x86_64")]
            bytes: [[[0; 16]; 4]; 4],
        }
    }

    /// Changes the curve.
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
            let step = i32::from(self.step[usize::from(segment)]) * i32::from(fraction);
            let step = i16::try_from((step + (1 << 14)) >> 15).unwrap_or(0);
            *coded = self.base[usize::from(segment)] + step;
        }
        #[cfg(target_arch = "x86_64")]
        for (values, [low, high]) in [self.base, self.step].iter().zip(self.bytes.as_chunks_mut().0) {
            let places = low.as_flattened_mut().iter_mut().zip(high.as_flattened_mut());
            for (value, (low, high)) in values.iter().zip(places) {
                [*low, *high] = value.to_le_bytes();
            }
        }
    }
}

/// The position of a linear value on the curve: the point before it, and the part of the way to the next, in units of 2^-15.
fn segment(value: u16) -> (u8, u16) {
    let (segment, fraction) = match value {
        0..512 => (value >> 5, (value & 31) << 10),
        512..2560 => ((value >> 7) + 12, (value & 127) << 8),
        _ => ((value >> 9) + 27, (value & 511) << 6),
    };
    (segment.to_le_bytes()[0], fraction)
}

/// Applies the curve to `count` values of a padded line. The values have at most 14 bits.
pub(super) fn tone(level: Level, curve: &Tone, line: &mut [i16], count: usize) {
    let line = &mut line[LANES..][..count];
    #[cfg(target_arch = "x86_64")]
    let line = match level.0 {
        // SAFETY: a level exists only where the machine has its instructions.
        Kind::Avx512 => unsafe { tone_avx512(curve, line) },
        // SAFETY: a level exists only where the machine has its instructions.
        Kind::Avx2 => unsafe { tone_avx2(curve, line) },
        Kind::Scalar => line,
    };
    #[cfg(not(target_arch = "x86_64"))]
    let _ = level;
    let table: &[i16; 1 << 14] =
        curve.table.as_slice().try_into().expect("the table has a value for each of 14 bits");
    for value in line {
        *value = table[(*value & LINEAR_MAX).cast_unsigned() as usize];
    }
}

/// Applies the curve without the table, which would fill a cache. The bytes of `base` and of `step` are in registers, and are
/// picked by shuffles. Returns the rest of the line, which is shorter than two registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn tone_avx2<'a>(curve: &Tone, line: &'a mut [i16]) -> &'a mut [i16] {
    use std::arch::x86_64::*;

    let sixteen = |bytes: &[u8; 16]| {
        // SAFETY: it reads 16 bytes, the length of the array.
        let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        _mm256_broadcastsi128_si256(bytes)
    };
    let tables = curve.bytes.each_ref().map(|table| table.each_ref().map(sixteen));
    let word = |value: i16| _mm256_set1_epi16(value);
    let segment = |value: __m256i| {
        let is_dark = _mm256_cmpgt_epi16(word(512), value);
        let is_light = _mm256_cmpgt_epi16(value, word(2559));
        let pick = |dark, middle, light| {
            _mm256_blendv_epi8(_mm256_blendv_epi8(middle, dark, is_dark), light, is_light)
        };
        let index = pick(
            _mm256_srli_epi16::<5>(value),
            _mm256_add_epi16(_mm256_srli_epi16::<7>(value), word(12)),
            _mm256_add_epi16(_mm256_srli_epi16::<9>(value), word(27)),
        );
        let fraction = pick(
            _mm256_slli_epi16::<10>(value),
            _mm256_slli_epi16::<8>(value),
            _mm256_slli_epi16::<6>(value),
        );
        (index, _mm256_and_si256(fraction, word(0x7fff)))
    };
    let (chunks, rest) = line.as_chunks_mut::<32>();
    for chunk in chunks {
        let [first, second]: &mut [[i16; 16]; 2] = chunk.as_chunks_mut().0.try_into().expect("two of 16");
        // SAFETY: it reads 32 bytes, the length of the array.
        let load = |values: &[i16; 16]| unsafe { _mm256_loadu_si256(values.as_ptr().cast()) };
        let ((index_a, fraction_a), (index_b, fraction_b)) = (segment(load(first)), segment(load(second)));
        let index = _mm256_packus_epi16(index_a, index_b);
        // A shuffle gives 0 where the upper bit is set. Here the upper bit is set where the index belongs to another group of 16.
        let of = |quarter: i8| {
            let from = _mm256_sub_epi8(index, _mm256_set1_epi8(16 * quarter));
            _mm256_adds_epu8(from, _mm256_set1_epi8(0x70))
        };
        let places = [of(0), of(1), of(2), of(3)];
        let look_up = |table: &[__m256i; 4]| {
            let [a, b, c, d] = std::array::from_fn(|at| _mm256_shuffle_epi8(table[at], places[at]));
            _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d))
        };
        let [base_low, base_high, step_low, step_high] = tables.each_ref().map(look_up);
        let value = |base, step, fraction| _mm256_add_epi16(base, _mm256_mulhrs_epi16(step, fraction));
        let a = value(
            _mm256_unpacklo_epi8(base_low, base_high),
            _mm256_unpacklo_epi8(step_low, step_high),
            fraction_a,
        );
        let b = value(
            _mm256_unpackhi_epi8(base_low, base_high),
            _mm256_unpackhi_epi8(step_low, step_high),
            fraction_b,
        );
        // SAFETY: it writes 32 bytes, the length of the array.
        let store =
            |values: &mut [i16; 16], value| unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), value) };
        store(first, a);
        store(second, b);
    }
    rest
}

/// Applies the curve like `tone_avx2`, but with words: `base` is in two registers, and so is `step`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
fn tone_avx512<'a>(curve: &Tone, line: &'a mut [i16]) -> &'a mut [i16] {
    use std::arch::x86_64::*;

    let load = |values: &[i16]| {
        let values: &[i16; 32] = values.try_into().expect("half of 64");
        // SAFETY: it reads 64 bytes, the length of the array.
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
        // SAFETY: it writes 64 bytes, the length of the chunk.
        unsafe { _mm512_storeu_epi16(chunk.as_mut_ptr(), value) };
    }
    rest
}

/// The weights of red, green and blue in Y', Cb and Cr, in units of 2^-15, and the coded value of black.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Yuv {
    parts: [[i16; 3]; 3],
    black: i16,
}

impl Yuv {
    pub(super) fn new(encoding: Encoding) -> Self {
        // Units of 2^-15 suffice: the weights are below 1, and the rounding error is far below a code.
        let part = |part: i32| i16::try_from((part + 1) >> 1).unwrap_or(i16::MAX);
        Self {
            parts: coefficients(encoding).map(|row| row.map(part)),
            black: i16::from(encoding.black()) << 6,
        }
    }
}

/// [`Yuv`] in vector registers.
#[derive(Clone, Copy)]
pub(super) struct Parts<V> {
    parts: [[V; 3]; 3],
    black: V,
}

impl<V: Vector> Parts<V> {
    #[inline(always)]
    pub(super) fn new(yuv: &Yuv) -> Self {
        let [[a, b, c], [d, e, f], [g, h, i]] = yuv.parts;
        let row = |a, b, c| [V::splat(a), V::splat(b), V::splat(c)];
        Self { parts: [row(a, b, c), row(d, e, f), row(g, h, i)], black: V::splat(yuv.black) }
    }

    #[inline(always)]
    fn sum(&self, row: usize, red: V, green: V, blue: V) -> V {
        let [r, g, b] = self.parts[row];
        red.scale(r).add(green.scale(g)).add(blue.scale(b))
    }

    /// Y' as coded values.
    #[inline(always)]
    pub(super) fn luma(&self, red: V, green: V, blue: V) -> V {
        self.sum(0, red, green, blue).add(self.black)
    }

    /// Cb and Cr as coded values.
    #[inline(always)]
    pub(super) fn chroma(&self, red: V, green: V, blue: V) -> [V; 2] {
        let centred = |row| self.sum(row, red, green, blue).add(V::splat(128 << 6)).min(V::splat(CODED_MAX));
        [centred(1), centred(2)]
    }
}

kernel! {
    /// The luma of the even or the odd columns of a line, as coded values.
    fn luma<V>(pixels: [&[i16]; 3], yuv: &Yuv, out: &mut [i16], count: usize) {
        let count = count / LANES;
        let plane = |plane: usize| vectors(pixels[plane], 0, count);
        let (r, g, b, out) = (plane(0), plane(1), plane(2), vectors_mut(out, count));
        let parts = Parts::<V>::new(yuv);
        for i in 0..count {
            for step in 0..V::STEPS {
                let load = |line: &[[i16; LANES]]| V::load(&line[i], step);
                parts.luma(load(r), load(g), load(b)).store(&mut out[i], step);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::vector::Scalar;

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
        use crate::yuv::{Quantization, YcbcrEncoding};
        for ycbcr in [YcbcrEncoding::Bt601, YcbcrEncoding::Bt709] {
            for (quantization, white) in [(Quantization::Limited, 235), (Quantization::Full, 255)] {
                let encoding = Encoding { ycbcr, quantization };
                let yuv = Yuv::new(encoding);
                let parts = Parts::<Scalar>::new(&yuv);
                let code = |value: Scalar| {
                    let mut out = [0; LANES];
                    value.store(&mut out, 0);
                    u16::try_from((out[0] + 32) >> 6).unwrap()
                };
                let luma = |[r, g, b]: [i16; 3]| {
                    code(parts.luma(Scalar::splat(r), Scalar::splat(g), Scalar::splat(b)))
                };
                let chroma = |[r, g, b]: [i16; 3]| {
                    parts.chroma(Scalar::splat(r), Scalar::splat(g), Scalar::splat(b)).map(code)
                };
                assert_eq!(luma([CODED_MAX; 3]), white);
                assert_eq!(luma([0; 3]), u16::from(encoding.black()));
                for grey in 0..=CODED_MAX {
                    assert_eq!(chroma([grey; 3]), [128; 2]);
                }
                assert_eq!(chroma([0, 0, CODED_MAX])[0], if white == 235 { 240 } else { 255 });
            }
        }
    }
}
