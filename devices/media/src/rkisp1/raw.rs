//! The first stage of raw lines: black level, its measurement, white balance without lens shading, and mirrored edges.

use super::{
    arith::{MOST, W, sample, wide},
    params::{BlackLevel, Window},
};
use crate::simd::{LANES, kernel};

/// The columns beyond an edge that a stage reads, in each plane.
const EDGE: usize = 3;

kernel! {
    /// Separates the even and the odd columns of a line, and subtracts their black levels. Samples have 12 bits.
    fn split(samples: &[u16], black: [i16; 2], even: &mut [i16], odd: &mut [i16]) {
        let pairs = samples.as_chunks::<2>().0;
        for ((pair, even), odd) in pairs.iter().zip(even).zip(odd) {
            let of = |at: usize| {
                let sample = pair[at].min(MOST.cast_unsigned()).cast_signed();
                sample.wrapping_sub(black[at]).clamp(0, MOST)
            };
            (*even, *odd) = (of(0), of(1));
        }
    }
}

kernel! {
    /// Applies a gain in units of 1/256, as the UAPI has it: `(gain * in + 128) >> 8`.
    fn amplify(gain: i16, line: &mut [i16]) {
        for value in line {
            *value = sample((wide(gain) * wide(*value) + W(128)) >> 8);
        }
    }
}

/// Mirrors a line at its first and last column, so that colours stay. `even` and `odd` are padded and have `half` columns each.
pub(super) fn mirror([even, odd]: [&mut [i16]; 2], half: usize) {
    let (first, end) = (LANES, LANES + half);
    for away in 1..=EDGE.min(half - 1) {
        even[first - away] = even[first + away];
        odd[first - away] = odd[first + away - 1];
        even[end - 1 + away] = even[end - away];
        odd[end - 1 + away] = odd[end - 1 - away];
    }
}

/// The measurement of the black level: sums and numbers of the samples of the positions A to D.
#[derive(Debug, Default)]
pub(super) struct BlackMeter {
    sums: [u32; 4],
    counts: [u32; 4],
}

impl BlackMeter {
    /// Whether there is a window to measure.
    pub(super) fn is_on(black: Option<&BlackLevel>) -> bool {
        black.is_some_and(|black| black.windows.iter().any(Option::is_some))
    }

    /// Adds the samples of line `y` that lie in a window.
    pub(super) fn add(&mut self, black: &BlackLevel, y: u32, samples: &[u16]) {
        let most = 1 << black.samples.min(18);
        let of_line = |window: &Window| {
            let top = u32::from(window.top);
            (top..top + u32::from(window.height)).contains(&y).then(|| {
                let left = usize::from(window.left).min(samples.len());
                left..(left + usize::from(window.width)).min(samples.len())
            })
        };
        let mut end = 0;
        let mut ranges = black.windows.each_ref().map(|window| window.as_ref().and_then(of_line));
        ranges.sort_by_key(|range| range.as_ref().map(|range| range.start));
        for range in ranges.into_iter().flatten() {
            // A pixel in both windows counts once.
            let start = range.start.max(end).min(range.end);
            for (x, &sample) in (start..range.end).zip(&samples[start..]) {
                let position = (y % 2) as usize * 2 + x % 2;
                if self.counts[position] < most {
                    self.counts[position] += 1;
                    self.sums[position] += u32::from(sample.min(MOST.cast_unsigned()));
                }
            }
            end = end.max(range.end);
        }
    }

    /// The levels. The sums are divided by the number of samples in the setting, even if fewer were measured.
    pub(super) fn finish(&mut self, black: Option<&BlackLevel>) -> [u16; 4] {
        let shift = black.map_or(0, |black| black.samples.min(18));
        let levels = self.sums.map(|sum| u16::try_from(sum >> shift).unwrap_or(u16::MAX));
        *self = Self::default();
        levels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    #[test]
    fn lines_are_mirrored() {
        let mut planes = [0, 1].map(|odd| {
            let mut plane = vec![-1; 2 * LANES + 5];
            (0..5).for_each(|at| plane[LANES + at] = i16::try_from(2 * at + odd).unwrap());
            plane
        });
        let [even, odd] = &mut planes;
        mirror([even, odd], 5);
        let column = |x: i16| {
            planes[usize::from(x.rem_euclid(2) == 1)][LANES.wrapping_add_signed(x.div_euclid(2).into())]
        };
        let columns: Vec<i16> = (-6..16).map(column).collect();
        let expected: Vec<i16> = (-6..16).map(|x: i16| if x < 10 { x.abs() } else { 18 - x }).collect();
        assert_eq!(columns, expected);
    }

    #[test]
    fn a_negative_black_level_adds() {
        for level in Level::all() {
            let (mut even, mut odd) = ([0; 3], [0; 3]);
            split(level, &[0, 100, 4095, 4095, 60_000, 300], [-20, 256], &mut even, &mut odd);
            assert_eq!((even, odd), ([20, 4095, 4095], [0, 3839, 44]));
        }
    }

    #[test]
    fn the_black_level_is_the_sum_of_the_first_samples() {
        let window = |left, width| Some(Window { left, top: 2, width, height: 1000 });
        let black =
            BlackLevel { windows: [window(60_000, 9), window(1, 3)], samples: 2, ..Default::default() };
        let mut meter = BlackMeter::default();
        for y in 0..6 {
            let samples: Vec<u16> = (0..8).map(|x| 100 * x + 10 * u16::try_from(y).unwrap()).collect();
            meter.add(&black, y, &samples);
        }
        // Position A is columns 2 of lines 2 and 4, which is too few; B is columns 1 and 3 of these lines.
        let a = (220 + 240) / 4;
        let b = (120 + 320 + 140 + 340) / 4;
        assert_eq!(meter.finish(Some(&black)), [a, b, (230 + 250) / 4, (130 + 330 + 150 + 350) / 4]);
        assert_eq!(meter.finish(Some(&black)), [0; 4]);
        let both = BlackLevel { windows: [window(0, 4), window(2, 4)], samples: 1, ..black };
        meter.add(&both, 2, &[10, 0, 20, 0, 30, 0, 40, 0]);
        assert_eq!(meter.finish(Some(&both))[0], 15, "30 comes too late");
    }
}
