//! Scaling: each outgoing pixel is the exact mean of the area that it covers, for any ratio.

use super::lines::{Ring, at};
use crate::simd::{LANES, Level, kernel};

/// Scales the lines of a picture to a smaller size.
#[derive(Debug, Default)]
pub(super) struct Resizer {
    /// Columns and lines of incoming and of outgoing frames.
    from: [u32; 2],
    to: [u32; 2],
    /// The sums of the columns of the current outgoing line, even and odd ones of red, green and blue.
    sums: [Vec<u32>; 6],
    /// The right edge of each outgoing column: the incoming column that contains it, and the position in that column.
    edges: Vec<[u32; 2]>,
    /// A line of one colour, with its columns in order.
    line: Vec<u32>,
    /// The sum of all columns to the left of a column, and the column itself.
    sums_left: Vec<[u32; 2]>,
    /// The sums of the areas of outgoing columns.
    areas: Vec<u32>,
    /// The last finished line.
    out: Ring<6>,
}

impl Resizer {
    /// A resizer from one size to another. It does nothing if they are the same.
    pub(super) fn new(from: [u32; 2], to: [u32; 2]) -> Self {
        if from == to {
            return Self::default();
        }
        let half = (from[0] / 2) as usize;
        Self {
            from,
            to,
            sums: std::array::from_fn(|_| vec![0; half]),
            edges: (1..=to[0]).map(|x| [x * from[0] / to[0], x * from[0] % to[0]]).collect(),
            line: vec![0; 2 * half],
            sums_left: vec![[0; 2]; 2 * half + 1],
            areas: vec![0; to[0] as usize],
            out: Ring::new(1, to[0] as usize / 2),
        }
    }

    /// The incoming lines that outgoing line `y` is made from.
    pub(super) fn lines(from: [u32; 2], to: [u32; 2], y: u32) -> std::ops::Range<u32> {
        y * from[1] / to[1]..((y + 1) * from[1]).div_ceil(to[1])
    }

    /// Adds the incoming `line`, whose columns begin at `offset`, to outgoing line `y`. A line that contributes to two outgoing
    /// lines is added to each.
    pub(super) fn add(&mut self, level: Level, y: u32, line: u32, halves: [&[i16]; 6], offset: isize) {
        let [from, to] = [self.from[1], self.to[1]];
        // The unit is a part of a line: an incoming line has `to` parts, and an outgoing line has `from`.
        let part = ((line + 1) * to).min((y + 1) * from) - (line * to).max(y * from);
        let is_first = line * to <= y * from;
        for (sums, half) in self.sums.iter_mut().zip(halves) {
            accumulate(level, half, offset, part, is_first, sums);
        }
    }

    /// Finishes the outgoing line.
    pub(super) fn finish(&mut self, level: Level) -> [&[i16]; 6] {
        let from = self.from[1];
        let [wide, narrow] = [self.from[0], self.to[0]];
        let [er, or, eg, og, eb, ob] = self.out.planes_mut(0);
        for (sums, (even, odd)) in self.sums.as_chunks::<2>().0.iter().zip([(er, or), (eg, og), (eb, ob)]) {
            interleave(level, &sums[0], &sums[1], 1.0 / from as f32, &mut self.line);
            let mut sum = 0_u32;
            for (left, &value) in self.sums_left.iter_mut().zip(&self.line) {
                *left = [sum, value];
                sum = sum.wrapping_add(value);
            }
            if let Some(end) = self.sums_left.last_mut() {
                *end = [sum, 0];
            }
            // The sum to the left of an edge is in parts of a column, which has `narrow` parts. It can exceed 32 bits, but the
            // difference between the edges of an outgoing column does not.
            let mut left = 0_u32;
            for (area, &[column, part]) in self.areas.iter_mut().zip(&self.edges) {
                let [sum, value] = self.sums_left[column as usize];
                let right = sum.wrapping_mul(narrow).wrapping_add(value.wrapping_mul(part));
                *area = right.wrapping_sub(left);
                left = right;
            }
            split(level, &self.areas, 1.0 / wide as f32, &mut even[LANES..], &mut odd[LANES..]);
        }
        self.out.planes(0)
    }
}

kernel! {
    /// Adds `part` times a line to the sums, or sets them to that if it is the first line.
    fn accumulate(half: &[i16], offset: isize, part: u32, is_first: bool, sums: &mut [u32]) {
        let half = at(half, offset, sums.len());
        let keep = if is_first { 0 } else { u32::MAX };
        for (sum, &value) in sums.iter_mut().zip(half) {
            *sum = (*sum & keep).wrapping_add(u32::from(value.cast_unsigned()).wrapping_mul(part));
        }
    }
}

/// The product of a sum below 2^28 and `part`, which has 14 bits, rounded. The float's rounding of the sum changes the product by
/// less than 1. After the addition of 2^23 the lower bits of the float are the rounded integer.
#[inline(always)]
fn mean(sum: u32, part: f32) -> u32 {
    (sum.cast_signed() as f32 * part + 8_388_608.0).to_bits() & 0x7f_ffff
}

kernel! {
    /// The means of the sums, with the columns in order.
    fn interleave(even: &[u32], odd: &[u32], part: f32, line: &mut [u32]) {
        let pairs = line.as_chunks_mut::<2>().0.iter_mut();
        for (pair, (&even, &odd)) in pairs.zip(even.iter().zip(odd)) {
            *pair = [mean(even, part), mean(odd, part)];
        }
    }
}

kernel! {
    /// The means of the areas, with separate even and odd columns.
    fn split(areas: &[u32], part: f32, even: &mut [i16], odd: &mut [i16]) {
        #[expect(clippy::cast_possible_truncation, reason = "14 bits")]
        let mean = |sum| mean(sum, part) as i16;
        for (&[first, second], (even, odd)) in areas.as_chunks().0.iter().zip(even.iter_mut().zip(odd)) {
            (*even, *odd) = (mean(first), mean(second));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isp::arith::CODED_MAX;

    /// A picture of one colour, scaled.
    fn resized(from: [u32; 2], to: [u32; 2], picture: impl Fn(u32, u32) -> i16) -> Vec<Vec<i16>> {
        let mut resizer = Resizer::new(from, to);
        let mut made = Vec::new();
        for y in 0..to[1] {
            for line in Resizer::lines(from, to, y) {
                let half = |odd: u32| {
                    let mut half = vec![0; LANES];
                    half.extend((0..from[0] / 2).map(|x| picture(2 * x + odd, line)));
                    half
                };
                let (even, odd) = (half(0), half(1));
                resizer.add(Level::best(), y, line, [&even, &odd, &even, &odd, &even, &odd], 0);
            }
            let halves = resizer.finish(Level::best());
            assert_eq!((halves[0], halves[1]), (halves[4], halves[5]));
            let columns = (0..to[0] as usize).map(|x| halves[x % 2][LANES + x / 2]);
            made.push(columns.collect());
        }
        made
    }

    #[test]
    fn pixels_are_means_of_their_area() {
        let picture = |x: u32, y: u32| i16::try_from((x * 7919 + y * 104_729) % 16_320).unwrap();
        let (from, to) = ([46, 34], [28, 10]);
        let made = resized(from, to, picture);
        let overlap = |out: u32, of: [u32; 2], at: u32| {
            f64::from(((at + 1) * of[1]).min((out + 1) * of[0]).saturating_sub((at * of[1]).max(out * of[0])))
        };
        for (y, line) in (0..).zip(&made) {
            for (x, &value) in (0..).zip(line) {
                let mut sum = 0.0;
                for (v, u) in (0..from[1]).flat_map(|v| (0..from[0]).map(move |u| (v, u))) {
                    let area = overlap(x, [from[0], to[0]], u) * overlap(y, [from[1], to[1]], v);
                    sum += f64::from(picture(u, v)) * area;
                }
                let exact = sum / f64::from(from[0] * from[1]);
                assert!((f64::from(value) - exact).abs() <= 1.01, "{value} instead of {exact} at {x}, {y}");
            }
        }
    }

    #[test]
    fn white_stays_white_at_the_largest_ratio() {
        let made = resized([8192, 320], [32, 32], |_, _| CODED_MAX);
        assert!(made.iter().flatten().all(|&value| value == CODED_MAX));
    }
}
