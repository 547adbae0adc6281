//! Demosaicing and cross-talk correction.
//!
//! The interpolation is linear, over 5 x 5 pixels, with the gradient of the pixel's own colour as a correction (Malvar, He,
//! Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned color images", ICASSP 2004). The correction
//! counts as texture, and is used, where it exceeds the threshold. A line has green and one other colour. Here this colour is
//! called "colour", and the one of the lines above and below is called "other".

use super::arith::{MOST, W, sample, wide};
use crate::{isp::lines::at, simd::kernel};

/// A threshold's unit is a code of 10 bits, and samples have 12.
const THRESHOLD_SHIFT: u32 = 2;

/// The correction, in eighths of a code, if it is above the threshold.
#[inline(always)]
fn texture(eighths: W<i16>, threshold: i16) -> W<i16> {
    if eighths.0.wrapping_abs() >> 3 > threshold { eighths } else { W(0) }
}

/// A quarter of a sum of 16 bits, as a sample.
#[inline(always)]
fn quarter(sum: W<i16>) -> i16 {
    ((sum + W(2)) >> 2).0.clamp(0, MOST)
}

/// The threshold in codes of 12 bits.
pub(super) fn threshold(codes: u8) -> i16 {
    i16::from(codes) << THRESHOLD_SHIFT
}

kernel! {
    /// The pixels of a line at its colour, which are the even columns if `parity` is 0 and the odd ones if it is 1. `colour` is
    /// that colour in the line two above, in the line itself, and in the line two below. `green` is green in the line above, in
    /// the line itself and in the line below; above and below it lies in the columns of the colour. `other` is the other colour
    /// in the lines above and below, in the columns beside. `first` is the first column of a plane.
    fn at_colour(
        colour: [&[i16]; 3],
        green: [&[i16]; 3],
        other: [&[i16]; 2],
        parity: isize,
        first: isize,
        threshold: i16,
        colour_out: &mut [i16],
        green_out: &mut [i16],
        other_out: &mut [i16],
    ) {
        let count = colour_out.len();
        let (left, right) = (first + parity - 1, first + parity);
        let [cn, c, cs] = colour.map(|line| at(line, first, count));
        let (cw, ce) = (at(colour[1], first - 1, count), at(colour[1], first + 1, count));
        let (gn, gs) = (at(green[0], first, count), at(green[2], first, count));
        let (gw, ge) = (at(green[1], left, count), at(green[1], right, count));
        let [nw, sw] = other.map(|line| at(line, left, count));
        let [ne, se] = other.map(|line| at(line, right, count));
        let (green_out, other_out) = (&mut green_out[..count], &mut other_out[..count]);
        for i in 0..count {
            let own = W(c[i]) + W(c[i]) + W(c[i]) + W(c[i]);
            let gradient = texture(own - W(cn[i]) - W(cs[i]) - W(cw[i]) - W(ce[i]), threshold);
            let greens = W(gn[i]) + W(gs[i]) + W(gw[i]) + W(ge[i]);
            let others = W(nw[i]) + W(ne[i]) + W(sw[i]) + W(se[i]);
            colour_out[i] = c[i];
            // The paper's weights: a half of the gradient for green, and three quarters of it for the other colour.
            green_out[i] = quarter(greens + (gradient >> 1));
            other_out[i] = quarter(others + gradient - (gradient >> 2));
        }
    }
}

kernel! {
    /// The green pixels of a line. The colour of the line lies in the even columns if `parity` is 0, and in the odd ones if it
    /// is 1. `green` is green in the line two above, in the line itself, and in the line two below. `diagonal` is green in the
    /// lines above and below, in the columns of the colour. `colour` is the colour in the line itself, and `other` the other
    /// colour in the lines above and below.
    fn at_green(
        green: [&[i16]; 3],
        diagonal: [&[i16]; 2],
        colour: &[i16],
        other: [&[i16]; 2],
        parity: isize,
        first: isize,
        threshold: i16,
        colour_out: &mut [i16],
        green_out: &mut [i16],
        other_out: &mut [i16],
    ) {
        let count = colour_out.len();
        let (left, right) = (first - parity, first + 1 - parity);
        let [gn, g, gs] = green.map(|line| at(line, first, count));
        let (gw, ge) = (at(green[1], first - 1, count), at(green[1], first + 1, count));
        let [nw, sw] = diagonal.map(|line| at(line, left, count));
        let [ne, se] = diagonal.map(|line| at(line, right, count));
        let (cw, ce) = (at(colour, left, count), at(colour, right, count));
        let [on, os] = other.map(|line| at(line, first, count));
        let (green_out, other_out) = (&mut green_out[..count], &mut other_out[..count]);
        for i in 0..count {
            let corners = W(nw[i]) + W(ne[i]) + W(sw[i]) + W(se[i]);
            let own = W(g[i]) + W(g[i]) + W(g[i]) + W(g[i]) + W(g[i]) - corners;
            let (across, down) = (W(gw[i]) + W(ge[i]), W(gn[i]) + W(gs[i]));
            // The paper's weights: 5 for the pixel, -1 for the corners and along the line of the colour, and 1/2 across it.
            let of_colour = texture(own - across + (down >> 1), threshold);
            let of_other = texture(own - down + (across >> 1), threshold);
            let (colours, others) = (W(cw[i]) + W(ce[i]), W(on[i]) + W(os[i]));
            colour_out[i] = quarter(colours + colours + (of_colour >> 1));
            green_out[i] = g[i];
            other_out[i] = quarter(others + others + (of_other >> 1));
        }
    }
}

kernel! {
    /// Applies the matrix, in units of 1/128, and the offsets.
    fn cross_talk(matrix: &[[i16; 3]; 3], offset: [i16; 3], red: &mut [i16], green: &mut [i16], blue: &mut [i16]) {
        for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
            let (r, g, b) = (wide(*red), wide(*green), wide(*blue));
            let row = |row: usize| {
                let [x, y, z] = matrix[row].map(wide);
                sample(((x * r + y * g + z * b + W(64)) >> 7) + wide(offset[row]))
            };
            (*red, *green, *blue) = (row(0), row(1), row(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{LANES, Level};

    fn line(values: impl Fn(i16) -> i16) -> Vec<i16> {
        let lanes = i16::try_from(LANES).unwrap();
        (-lanes..3 * lanes).map(values).collect()
    }

    /// The filters of figure 2 of the paper, on an impulse of 800 at each place, and without them below the threshold.
    #[test]
    fn the_weights_are_those_of_the_paper() {
        let flat = line(|_| 2000);
        let spot = |x| line(move |i| if i == x { 2800 } else { 2000 });
        let (flat, here, left) = (&flat[..], &spot(4), &spot(3));
        for level in Level::all() {
            let run = |colour: [&[i16]; 3], green: [&[i16]; 3], other: [&[i16]; 2], threshold| {
                let mut out = [[0; LANES]; 3];
                let [c, g, o] = &mut out;
                at_colour(level, colour, green, other, 0, 0, threshold, c, g, o);
                [g[4] - 2000, o[4] - 2000]
            };
            assert_eq!(run([flat, here, flat], [flat; 3], [flat; 2], 0), [400, 600]);
            assert_eq!(run([flat, left, flat], [flat; 3], [flat; 2], 0), [-100, -150]);
            assert_eq!(run([here, flat, flat], [flat; 3], [flat; 2], 99), [-100, -150]);
            assert_eq!(run([here, flat, flat], [flat; 3], [flat; 2], 100), [0, 0]);
            assert_eq!(run([flat; 3], [here, flat, flat], [flat; 2], 0), [200, 0]);
            assert_eq!(run([flat; 3], [flat, left, flat], [flat; 2], 0), [200, 0]);
            assert_eq!(run([flat; 3], [flat; 3], [flat, here], 0), [0, 200]);
            let run = |green: [&[i16]; 3], diagonal: [&[i16]; 2], colour: &[i16], other: [&[i16]; 2]| {
                let mut out = [[0; LANES]; 3];
                let [c, g, o] = &mut out;
                at_green(level, green, diagonal, colour, other, 0, 0, 0, c, g, o);
                [c[4] - 2000, o[4] - 2000]
            };
            assert_eq!(run([flat, here, flat], [flat; 2], flat, [flat; 2]), [500, 500]);
            assert_eq!(run([flat, left, flat], [flat; 2], flat, [flat; 2]), [-100, 50]);
            assert_eq!(run([here, flat, flat], [flat; 2], flat, [flat; 2]), [50, -100]);
            assert_eq!(run([flat; 3], [here, flat], flat, [flat; 2]), [-100, -100]);
            assert_eq!(run([flat; 3], [flat; 2], here, [flat; 2]), [400, 0]);
            assert_eq!(run([flat; 3], [flat; 2], flat, [here, flat]), [0, 400]);
        }
    }

    #[test]
    fn extreme_samples_stay_in_range() {
        let (black, white) = (line(|_| 0), line(|_| MOST));
        for (own, around) in [(&black, &white), (&white, &black)] {
            let mut out = [[0; LANES]; 3];
            let [c, g, o] = &mut out;
            at_colour(Level::best(), [around, own, around], [around; 3], [around; 2], 0, 0, 0, c, g, o);
            // The pixel of the same colour beside is as the pixel: half of the gradient remains.
            let limit = if own[0] == 0 { 0 } else { MOST };
            let near = |value: i16, eighths: i32| {
                let exact = i32::from(around[0]) + i32::from(own[0] - around[0]) * eighths / 8;
                (i32::from(value) - exact).abs() <= 1 || value == limit
            };
            assert!(near(g[3], 2) && near(o[3], 3), "{} {}", g[3], o[3]);
        }
    }

    #[test]
    fn the_matrix_has_seven_fractional_bits() {
        let matrix = [[205, -60, -17], [-1024, 1023, 1023], [0, 0, 128]];
        for level in Level::all() {
            let (mut red, mut green, mut blue) = ([1000, 4095], [2000, 4095], [3000, 4095]);
            cross_talk(level, &matrix, [100, 0, -2048], &mut red, &mut green, &mut blue);
            // (205000 - 120000 - 51000) / 128 + 100 = 365.6
            assert_eq!((red[0], green[0], blue[0]), (366, MOST, 952));
            assert_eq!((red[1], green[1], blue[1]), (MOST + 100 - 4095 + 4095 - 100, MOST, 2047));
        }
    }
}
