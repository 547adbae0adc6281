//! Demosaicing and colour correction: kernels that interpolate the two missing colours of each pixel, and apply the colour
//! matrix.
//!
//! The interpolation is linear, over 5x5 pixels, with the gradients of the pixel's own colour (Malvar, He, Cutler,
//! "High-quality linear interpolation for demosaicing of Bayer-patterned color images", ICASSP 2004). A line has green and one
//! other colour. Here this colour is called "colour", and the one of the lines above and below is called "other".

use super::{
    arith::LINEAR_MAX,
    lines::{vectors, vectors_mut},
};
use crate::simd::{LANES, Vector, kernel};

/// A colour matrix in the form that the kernels take: the weights of colour, green and other in red, green and blue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Matrix {
    /// In units of 2^-14, divided by `2^shift`, so that no sum of a row exceeds 16 bits.
    parts: [[i16; 3]; 3],
    offset: [i16; 3],
    shift: u32,
}

impl Matrix {
    /// The matrix for lines whose colour is red. The coefficients are in units of 1/4096.
    pub(super) fn new(coefficients: [[i16; 3]; 3], offset: [i16; 3]) -> Self {
        let sum = |row: [i16; 3]| row.iter().map(|&part| u32::from(part.unsigned_abs())).sum::<u32>();
        let most = coefficients.map(sum).into_iter().max().unwrap_or(0);
        // The limit leaves room for the rounding of three products, a half each.
        let shift = (0..5).find(|shift| most << 2 >> shift <= 0x7ff0).unwrap_or(5);
        let part = |coefficient: i16| {
            let fine = i32::from(coefficient) << 2;
            let rounded = if shift == 0 { fine } else { (fine + (1 << (shift - 1))) >> shift };
            i16::try_from(rounded).unwrap_or(if rounded < 0 { -i16::MAX } else { i16::MAX })
        };
        Self { parts: coefficients.map(|row| row.map(part)), offset, shift }
    }

    /// The matrix for lines whose colour is blue.
    pub(super) fn swapped(self) -> Self {
        Self { parts: self.parts.map(|[red, green, blue]| [blue, green, red]), ..self }
    }
}

/// A [`Matrix`] in vector registers.
#[derive(Clone, Copy)]
struct Rows<V> {
    parts: [[V; 3]; 3],
    offset: [V; 3],
    shift: u32,
}

impl<V: Vector> Rows<V> {
    #[inline(always)]
    fn new(matrix: &Matrix) -> Self {
        let Matrix { parts: [[a, b, c], [d, e, f], [g, h, i]], offset: [x, y, z], shift } = *matrix;
        let row = |a, b, c| [V::splat(a), V::splat(b), V::splat(c)];
        Self { parts: [row(a, b, c), row(d, e, f), row(g, h, i)], offset: row(x, y, z), shift }
    }

    /// Red, green or blue of pixels. Their colour, green and other are given doubled, as 15 bits, for the units of 2^-14.
    #[inline(always)]
    fn of(&self, row: usize, [colour, green, other]: [V; 3]) -> V {
        let [a, b, c] = self.parts[row];
        let sum = colour.scale(a).add(green.scale(b)).add(other.scale(c));
        let limit = i16::MAX >> self.shift;
        let value = sum.clamp(-limit, limit).shl(self.shift);
        value.saturating_add(self.offset[row]).clamp(0, LINEAR_MAX)
    }
}

kernel! {
    /// The pixels of a line at its colour, which are the even columns if `parity` is 0 and the odd ones if it is 1. `colour` is
    /// that colour in the line two above, in the line itself, and in the line two below. `green` is green in the line above, in
    /// the line itself and in the line below; above and below it lies in the columns of the colour. `other` is the other colour
    /// in the lines above and below, in the columns beside.
    fn at_colour<V>(
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
        let count = count / LANES;
        let (left, right) = (parity - 1, parity);
        let colours = |line: usize, x| vectors(colour[line], x, count);
        let (cn, c, cs, cw, ce) = (colours(0, 0), colours(1, 0), colours(2, 0), colours(1, -1), colours(1, 1));
        let greens = |line: usize, x| vectors(green[line], x, count);
        let (gn, gs, gw, ge) = (greens(0, 0), greens(2, 0), greens(1, left), greens(1, right));
        let others = |line: usize, x| vectors(other[line], x, count);
        let (nw, ne, sw, se) = (others(0, left), others(0, right), others(1, left), others(1, right));
        let (red_out, green_out, blue_out) =
            (vectors_mut(red_out, count), vectors_mut(green_out, count), vectors_mut(blue_out, count));
        let rows = Rows::<V>::new(matrix);
        for i in 0..count {
            for step in 0..V::STEPS {
                let load = |line: &[[i16; LANES]]| V::load(&line[i], step);
                let c = load(c);
                let gradient = c.sub(load(cn).mean(load(cs)).mean(load(cw).mean(load(ce))));
                let half = gradient.shr::<1>();
                let green = load(gn).mean(load(gs)).mean(load(gw).mean(load(ge)));
                let green = green.add(half).clamp(0, LINEAR_MAX);
                let other = load(nw).mean(load(se)).mean(load(ne).mean(load(sw)));
                let other = other.add(half).add(gradient.shr::<2>()).clamp(0, LINEAR_MAX);
                let pixel = [c.shl(1), green.shl(1), other.shl(1)];
                rows.of(0, pixel).store(&mut red_out[i], step);
                rows.of(1, pixel).store(&mut green_out[i], step);
                rows.of(2, pixel).store(&mut blue_out[i], step);
            }
        }
    }
}

kernel! {
    /// The green pixels of a line. The colour of the line lies in the even columns if `parity` is 0, and in the odd ones if it
    /// is 1. `green` is green in the line two above, in the line itself, and in the line two below. `diagonal` is green in the
    /// lines above and below, in the columns of the colour. `colour` is the colour in the line itself, and `other` the other
    /// colour in the lines above and below.
    fn at_green<V>(
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
        let count = count / LANES;
        let (left, right) = (-parity, 1 - parity);
        let greens = |line: usize, x| vectors(green[line], x, count);
        let (gn, g, gs, gw, ge) = (greens(0, 0), greens(1, 0), greens(2, 0), greens(1, -1), greens(1, 1));
        let diagonals = |line: usize, x| vectors(diagonal[line], x, count);
        let (nw, ne, sw, se) =
            (diagonals(0, left), diagonals(0, right), diagonals(1, left), diagonals(1, right));
        let (cw, ce) = (vectors(colour, left, count), vectors(colour, right, count));
        let (on, os) = (vectors(other[0], 0, count), vectors(other[1], 0, count));
        let (red_out, green_out, blue_out) =
            (vectors_mut(red_out, count), vectors_mut(green_out, count), vectors_mut(blue_out, count));
        let rows = Rows::<V>::new(matrix);
        for i in 0..count {
            for step in 0..V::STEPS {
                let load = |line: &[[i16; LANES]]| V::load(&line[i], step);
                let g = load(g);
                let diagonal = load(nw).mean(load(se)).mean(load(ne).mean(load(sw)));
                let gradient = g.sub(diagonal).shr::<1>();
                // With h and v as the horizontal and vertical means of green, these sums have the paper's weights 5, -1 and 1/2 of 8.
                let (h, v) = (load(gw).mean(load(ge)), load(gn).mean(load(gs)));
                let across = gradient.add(g.sub(h).add(v.sub(h)).shr::<3>());
                let down = gradient.add(g.sub(v).add(h.sub(v)).shr::<3>());
                let colour = load(cw).mean(load(ce)).add(across).clamp(0, LINEAR_MAX);
                let other = load(on).mean(load(os)).add(down).clamp(0, LINEAR_MAX);
                let pixel = [colour.shl(1), g.shl(1), other.shl(1)];
                rows.of(0, pixel).store(&mut red_out[i], step);
                rows.of(1, pixel).store(&mut green_out[i], step);
                rows.of(2, pixel).store(&mut blue_out[i], step);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        isp::params::MATRIX_ONE,
        simd::{Level, vector::Scalar},
    };

    const IDENTITY: [[i16; 3]; 3] = [[MATRIX_ONE, 0, 0], [0, MATRIX_ONE, 0], [0, 0, MATRIX_ONE]];

    fn line(values: impl Fn(i16) -> i16) -> Vec<i16> {
        let lanes = i16::try_from(LANES).unwrap();
        (-lanes..3 * lanes).map(values).collect()
    }

    /// The filters of figure 2 of the paper, on an impulse of 800 at each place. The level of 4000 keeps the results in range.
    #[test]
    fn the_weights_are_those_of_the_paper() {
        let flat = line(|_| 4000);
        let spot = |x| line(move |i| if i == x { 4800 } else { 4000 });
        let mut out = [line(|_| 0), line(|_| 0), line(|_| 0)];
        let matrix = Matrix::new(IDENTITY, [0; 3]);
        let mut run = |colour: [&[i16]; 3], green: [&[i16]; 3], other: [&[i16]; 2]| {
            let [r, g, b] = &mut out;
            at_colour(Level::SCALAR, colour, green, other, 0, &matrix, r, g, b, LANES);
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
            at_green(Level::SCALAR, green, diagonal, colour, other, 0, &matrix, r, g, b, LANES);
            [r[LANES + 4] - 4000, b[LANES + 4] - 4000]
        };
        assert_eq!(run([flat, here, flat], [flat; 2], flat, [flat; 2]), [500, 500]);
        assert_eq!(run([flat, left, flat], [flat; 2], flat, [flat; 2]), [-100, 50]);
        assert_eq!(run([here, flat, flat], [flat; 2], flat, [flat; 2]), [50, -100]);
        assert_eq!(run([flat; 3], [here, flat], flat, [flat; 2]), [-100, -100]);
        assert_eq!(run([flat; 3], [flat; 2], here, [flat; 2]), [400, 0]);
        assert_eq!(run([flat; 3], [flat; 2], flat, [here, flat]), [0, 400]);
    }

    /// The red of a pixel.
    fn red(matrix: &Matrix, pixel: [i16; 3]) -> i16 {
        let mut out = [0; LANES];
        Rows::<Scalar>::new(matrix).of(0, pixel.map(|value| Scalar::splat(value << 1))).store(&mut out, 0);
        out[0]
    }

    #[test]
    fn a_matrix_of_any_size_stays_within_16_bits() {
        let identity = Matrix::new(IDENTITY, [0; 3]);
        for value in 0..=LINEAR_MAX {
            assert_eq!(red(&identity, [value, LINEAR_MAX, 5]), value);
        }
        assert_eq!(red(&identity.swapped(), [1, 2, 3]), 3);
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
                let error = (f64::from(red(&matrix, pixel)) - exact).abs();
                assert!(error <= 0.6 * f64::from(3 << matrix.shift), "{error} with {a} {b} {c}, {pixel:?}");
            }
        }
    }
}
