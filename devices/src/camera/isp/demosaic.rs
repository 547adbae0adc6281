//! Kernels that give each pixel the two colours that its filter kept out, and make of the sensor's colours those of the
//! picture.
//!
//! The interpolation is linear, over 5x5 pixels, with the gradients of the pixel's own colour (Malvar, He, Cutler,
//! "High-quality linear interpolation for demosaicing of Bayer-patterned color images", ICASSP 2004). On a line there is
//! green, and one of the other colours; here that one is "colour", and the one of the lines above and below is "other".

use super::{
    arith::{add, clamp_linear, mean, scale, sub},
    level::kernel,
    lines::{LANES, at},
};

/// A colour matrix as the kernels want it: what red, green and blue have of a pixel's colour, green and other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Matrix {
    /// In steps of 2^-14, after division by `2^shift`: no sum of a row then exceeds 16 bits.
    parts: [[i16; 3]; 3],
    offset: [i16; 3],
    shift: u32,
}

impl Matrix {
    /// Of coefficients in steps of 1/4096, for lines whose colour is red.
    pub(super) fn new(coefficients: [[i16; 3]; 3], offset: [i16; 3]) -> Self {
        let sum = |row: [i16; 3]| row.iter().map(|&part| u32::from(part.unsigned_abs())).sum::<u32>();
        let most = coefficients.map(sum).into_iter().max().unwrap_or(0);
        // The steps of a half leave room for the rounding of three products.
        let shift = (0..5).find(|shift| most << 2 >> shift <= 0x7ff0).unwrap_or(5);
        let part = |coefficient: i16| {
            let fine = i32::from(coefficient) << 2;
            let rounded = if shift == 0 { fine } else { (fine + (1 << (shift - 1))) >> shift };
            i16::try_from(rounded).unwrap_or(if rounded < 0 { -i16::MAX } else { i16::MAX })
        };
        Self { parts: coefficients.map(|row| row.map(part)), offset, shift }
    }

    /// The same for lines whose colour is blue.
    pub(super) fn swapped(self) -> Self {
        Self { parts: self.parts.map(|[red, green, blue]| [blue, green, red]), ..self }
    }

    #[inline(always)]
    fn row(&self, row: usize, pixel: [i16; 3]) -> i16 {
        let parts = self.parts[row];
        // Twice 14 bits, times steps of 2^-14, cut by 2^-15.
        let product = |i: usize| scale(pixel[i] << 1, parts[i]);
        let sum = add(add(product(0), product(1)), product(2));
        let limit = i16::MAX >> self.shift;
        let value = sum.max(-limit).min(limit) << self.shift;
        clamp_linear(value.saturating_add(self.offset[row]))
    }
}

kernel! {
    /// The pixels of a line that have its colour, in the even columns if `parity` is 0 and in the odd ones if it is 1.
    /// `colour` has the lines two above, itself, and two below; `green` and `other` the line above, itself (green), and
    /// below, of which the green above and below lies in the colour's columns, and the other beside them.
    fn at_colour(
        colour: [&[i16]; 3],
        green: [&[i16]; 3],
        other: [&[i16]; 2],
        parity: isize,
        matrix: &Matrix,
        red_out: &mut [i16],
        green_out: &mut [i16],
        blue_out: &mut [i16],
        count: usize,
    ) {
        let (left, right) = (parity - 1, parity);
        let [cn, c, cs] = colour.map(|line| at(line, 0, count));
        let [cw, ce] = [-1, 1].map(|x| at(colour[1], x, count));
        let [gn, gs] = [green[0], green[2]].map(|line| at(line, 0, count));
        let [gw, ge] = [left, right].map(|x| at(green[1], x, count));
        let [nw, ne, sw, se] =
            [(0, left), (0, right), (1, left), (1, right)].map(|(y, x)| at(other[y], x, count));
        let [red_out, green_out, blue_out] =
            [red_out, green_out, blue_out].map(|out| &mut out[LANES..][..count]);
        let matrix = *matrix;
        for i in 0..count {
            let gradient = sub(c[i], mean(mean(cn[i], cs[i]), mean(cw[i], ce[i])));
            let half = gradient >> 1;
            let green = clamp_linear(add(mean(mean(gn[i], gs[i]), mean(gw[i], ge[i])), half));
            let diagonal = mean(mean(nw[i], se[i]), mean(ne[i], sw[i]));
            let other = clamp_linear(add(diagonal, add(half, gradient >> 2)));
            let pixel = [c[i], green, other];
            red_out[i] = matrix.row(0, pixel);
            green_out[i] = matrix.row(1, pixel);
            blue_out[i] = matrix.row(2, pixel);
        }
    }
}

kernel! {
    /// The pixels of a line that are green; `parity` is that of the colour's columns. `green` has the lines two above, itself,
    /// and two below; `diagonal` the green above and below, which lies in the colour's columns.
    fn at_green(
        green: [&[i16]; 3],
        diagonal: [&[i16]; 2],
        colour: &[i16],
        other: [&[i16]; 2],
        parity: isize,
        matrix: &Matrix,
        red_out: &mut [i16],
        green_out: &mut [i16],
        blue_out: &mut [i16],
        count: usize,
    ) {
        let (left, right) = (-parity, 1 - parity);
        let [gn, g, gs] = green.map(|line| at(line, 0, count));
        let [gw, ge] = [-1, 1].map(|x| at(green[1], x, count));
        let [nw, ne, sw, se] =
            [(0, left), (0, right), (1, left), (1, right)].map(|(y, x)| at(diagonal[y], x, count));
        let [cw, ce] = [left, right].map(|x| at(colour, x, count));
        let [on, os] = other.map(|line| at(line, 0, count));
        let [red_out, green_out, blue_out] =
            [red_out, green_out, blue_out].map(|out| &mut out[LANES..][..count]);
        let matrix = *matrix;
        for i in 0..count {
            let gradient = sub(g[i], mean(mean(nw[i], se[i]), mean(ne[i], sw[i]))) >> 1;
            // Eighths of 2 g - 2 h + (v - g), with the signs that make of it the paper's 5, -1 and 1/2.
            let (h, v) = (mean(gw[i], ge[i]), mean(gn[i], gs[i]));
            let across = add(gradient, add(sub(g[i], h), sub(v, h)) >> 3);
            let down = add(gradient, add(sub(g[i], v), sub(h, v)) >> 3);
            let pixel = [
                clamp_linear(add(mean(cw[i], ce[i]), across)),
                g[i],
                clamp_linear(add(mean(on[i], os[i]), down)),
            ];
            red_out[i] = matrix.row(0, pixel);
            green_out[i] = matrix.row(1, pixel);
            blue_out[i] = matrix.row(2, pixel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::isp::{level::Level, params::MATRIX_ONE};

    const IDENTITY: [[i16; 3]; 3] = [[MATRIX_ONE, 0, 0], [0, MATRIX_ONE, 0], [0, 0, MATRIX_ONE]];

    fn line(values: impl Fn(i16) -> i16) -> Vec<i16> {
        let lanes = i16::try_from(LANES).unwrap();
        (-lanes..3 * lanes).map(values).collect()
    }

    /// The filters of the paper's figure 2 on an impulse of 8 at each place, at a height where nothing is cut off.
    #[test]
    fn weights_are_the_papers() {
        let flat = line(|_| 4000);
        let spot = |x| line(move |i| if i == x { 4800 } else { 4000 });
        let mut out = [line(|_| 0), line(|_| 0), line(|_| 0)];
        let matrix = Matrix::new(IDENTITY, [0; 3]);
        let mut run = |colour: [&[i16]; 3], green: [&[i16]; 3], other: [&[i16]; 2]| {
            let [r, g, b] = &mut out;
            at_colour(Level::BASELINE, colour, green, other, 0, &matrix, r, g, b, LANES);
            [g[LANES + 4] - 4000, b[LANES + 4] - 4000]
        };
        let (flat, here, left) = (&flat[..], &spot(4), &spot(3));
        assert_eq!(run([flat, here, flat], [flat; 3], [flat; 2]), [400, 600]);
        assert_eq!(run([flat, left, flat], [flat; 3], [flat; 2]), [-100, -150]);
        assert_eq!(run([here, flat, flat], [flat; 3], [flat; 2]), [-100, -150]);
        assert_eq!(run([flat; 3], [here, flat, flat], [flat; 2]), [200, 0]);
        assert_eq!(run([flat; 3], [flat, left, flat], [flat; 2]), [200, 0]);
        assert_eq!(run([flat; 3], [flat; 3], [flat, here]), [0, 200]);

        let mut run = |green: [&[i16]; 3], diagonal: [&[i16]; 2], colour: &[i16], other: [&[i16]; 2]| {
            let [r, g, b] = &mut out;
            at_green(Level::BASELINE, green, diagonal, colour, other, 0, &matrix, r, g, b, LANES);
            [r[LANES + 4] - 4000, b[LANES + 4] - 4000]
        };
        assert_eq!(run([flat, here, flat], [flat; 2], flat, [flat; 2]), [500, 500]);
        assert_eq!(run([flat, left, flat], [flat; 2], flat, [flat; 2]), [-100, 50]);
        assert_eq!(run([here, flat, flat], [flat; 2], flat, [flat; 2]), [50, -100]);
        assert_eq!(run([flat; 3], [here, flat], flat, [flat; 2]), [-100, -100]);
        assert_eq!(run([flat; 3], [flat; 2], here, [flat; 2]), [400, 0]);
        assert_eq!(run([flat; 3], [flat; 2], flat, [here, flat]), [0, 400]);
    }

    #[test]
    fn a_matrix_of_any_size_stays_within_16_bits() {
        let identity = Matrix::new(IDENTITY, [0; 3]);
        for pixel in [[0, 1, 16_383], [77, 16_000, 5]] {
            assert_eq!([0, 1, 2].map(|row| identity.row(row, pixel)), pixel);
        }
        assert_eq!(identity.swapped().row(0, [1, 2, 3]), 3);
        for [a, b, c] in [
            [i16::MIN; 3],
            [i16::MAX; 3],
            [i16::MAX, i16::MIN, 0],
            [9000, -3000, -1904],
            [12_000, -9000, 1096],
        ] {
            let matrix = Matrix::new([[a, b, c]; 3], [5; 3]);
            for pixel in [[16_383; 3], [16_383, 0, 0], [0, 16_383, 9000], [3000, 3000, 3000], [100, 90, 80]] {
                let exact: i64 = [a, b, c].iter().zip(pixel).map(|(&a, b)| i64::from(a) * i64::from(b)).sum();
                let exact = (exact as f64 / 4096.0 + 5.0).clamp(0.0, 16_383.0);
                let error = (f64::from(matrix.row(0, pixel)) - exact).abs();
                assert!(error <= 0.6 * f64::from(3 << matrix.shift), "{error} with {a} {b} {c}, {pixel:?}");
            }
        }
    }
}
