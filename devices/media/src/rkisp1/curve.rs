//! Curves with 17 points, as tables with a value for each 12-bit sample.

use super::params::POINTS;

/// The number of 12-bit samples.
const SAMPLES: usize = 1 << 12;

/// The binary logarithms of the widths of the segments of the logarithmic gamma curve. The equidistant one has 8 for all.
pub(super) const LOGARITHMIC: [u8; POINTS - 1] = [6, 6, 6, 6, 7, 7, 7, 7, 8, 8, 8, 9, 9, 9, 9, 9];
pub(super) const EQUIDISTANT: [u8; POINTS - 1] = [8; POINTS - 1];

/// The value of a curve for each sample.
#[derive(Debug, Clone)]
pub(super) struct Table(Box<[i16; SAMPLES]>);

impl Default for Table {
    fn default() -> Self {
        Self(Box::new([0; SAMPLES]))
    }
}

impl Table {
    /// Changes the curve. The first point is at 0, and `widths` are the binary logarithms of the distances to the next ones.
    /// Points are limited to `most`. Behind the last point its value stays.
    pub(super) fn set(&mut self, widths: [u8; POINTS - 1], points: [u16; POINTS], most: u16) {
        let points = points.map(|point| i32::from(point.min(most)));
        let mut values = self.0.iter_mut();
        for (ends, width) in points.windows(2).zip(widths) {
            let width = width.min(12);
            for (at, value) in (0..1 << width).zip(&mut values) {
                let way = ((ends[1] - ends[0]) * at) >> width;
                *value = i16::try_from(ends[0] + way).unwrap_or(i16::MAX);
            }
        }
        let last = i16::try_from(points[POINTS - 1]).unwrap_or(i16::MAX);
        values.for_each(|value| *value = last);
    }

    /// Sets each value to `of` its sample.
    pub(super) fn fill(&mut self, of: impl Fn(i16) -> i16) {
        self.0.iter_mut().zip(0..).for_each(|(value, sample)| *value = of(sample));
    }

    /// The value for a sample, of which the lower 12 bits count.
    #[inline(always)]
    pub(super) fn at(&self, sample: i16) -> i16 {
        self.0[usize::from(sample.cast_unsigned()) % SAMPLES]
    }

    /// Replaces each sample by its value.
    pub(super) fn apply(&self, line: &mut [i16]) {
        let table = &*self.0;
        line.iter_mut().for_each(|sample| *sample = table[usize::from(sample.cast_unsigned()) % SAMPLES]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_linear_between_its_points() {
        let mut table = Table::default();
        // x of the points: 0, 64, 128, 192, 256, 384, ... as in the sum of the segments.
        let mut x = 0_u32;
        let mut points = [0_u16; POINTS];
        for (point, width) in points.iter_mut().zip(LOGARITHMIC.into_iter().chain([0])) {
            *point = u16::try_from(1023 * x / 4096).unwrap();
            x += if width == 0 { 0 } else { 1 << width };
        }
        assert_eq!(x, 4096);
        table.set(LOGARITHMIC, points, 1023);
        for sample in 0..4096_i16 {
            let exact = 1023.0 * f64::from(sample) / 4096.0;
            assert!((f64::from(table.at(sample)) - exact).abs() <= 2.0);
        }
        // Intervals of 16: the last point is at 256, and its value stays.
        let rising = std::array::from_fn(|point| u16::try_from(point * 100).unwrap());
        table.set([4; 16], rising, 4095);
        assert_eq!([0, 8, 16, 255, 256, 4095].map(|sample| table.at(sample)), [0, 50, 100, 1593, 1600, 1600]);
        // Points above the limit.
        table.set(EQUIDISTANT, [u16::MAX; POINTS], 4095);
        assert_eq!(table.at(7), 4095);
    }
}
