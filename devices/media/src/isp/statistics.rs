//! The statistics of a frame, for exposure, white balance and focus, and their collection line by line.
//!
//! The ISP measures the corrected raw pixels: after black level, defect pixels and lens shading, before white balance. A quad is
//! a red, two green and a blue pixel. Its luma is (R + 2 G + B) / 4, with 14 bits. Sums are sums of integers, so they do not
//! depend on the order, the number of threads or the instructions.

use super::{arith::mean, lines::at};
use crate::simd::{LANES, Level, kernel};

/// The number of zones in each direction. They have the same size, except that those at the right and lower edges get the rest.
pub const ZONES: usize = 15;

/// The statistics of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// The number of quads by luma, in 256 bins of 64 values.
    pub histogram: [u32; 256],
    /// The zones of the whole frame, line by line.
    pub zones: [[Zone; ZONES]; ZONES],
}

/// The statistics of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Zone {
    /// The number of its quads.
    pub quads: u32,
    /// The sum of their luma.
    pub luma: u64,
    /// The number of quads whose four samples are within `awb_range`.
    pub balanced_quads: u32,
    /// The number of quads with a sample above `awb_range`.
    pub saturated_quads: u32,
    /// The sums of red, of the mean of the greens, and of blue of the balanced quads.
    pub balanced: [u64; 3],
    /// The sum of the squares of the horizontal luma differences between the two neighbours of a quad, in units of 16.
    pub focus: u64,
}

impl Default for Statistics {
    fn default() -> Self {
        Self { histogram: [0; 256], zones: [[Zone::default(); ZONES]; ZONES] }
    }
}

impl Statistics {
    /// Adds the statistics of another part of the frame.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, part) in self.histogram.iter_mut().zip(other.histogram) {
            *sum += part;
        }
        for (sum, part) in self.zones.as_flattened_mut().iter_mut().zip(other.zones.as_flattened()) {
            sum.quads += part.quads;
            sum.luma += part.luma;
            sum.balanced_quads += part.balanced_quads;
            sum.saturated_quads += part.saturated_quads;
            sum.balanced.iter_mut().zip(part.balanced).for_each(|(sum, part)| *sum += part);
            sum.focus += part.focus;
        }
    }
}

impl Zone {
    /// The mean luma of its quads, with 14 bits.
    pub fn luma_mean(&self) -> u64 {
        self.luma.checked_div(self.quads.into()).unwrap_or_default()
    }
}

/// Collects the statistics of a band of lines. It sums each column of quads, and adds the sums to the zones where a line of
/// zones ends.
#[derive(Debug)]
pub(super) struct Collector {
    sums: Statistics,
    /// The number of quads of a line, and of lines of quads in the frame.
    size: [usize; 2],
    luma: Vec<i16>,
    /// Luma, red, green, blue, both counts and focus of each column since the start of the line of zones.
    columns: [Vec<u32>; 7],
    /// The number of lines of quads since then.
    lines: u32,
    /// The histogram in four parts, by column. Neighbours are often alike, and an addition to the same counter would wait for the
    /// one before.
    histogram: [[u32; 256]; 4],
}

impl Default for Collector {
    fn default() -> Self {
        Self::new([0; 2])
    }
}

impl Collector {
    /// A collector for frames with `size` quads.
    pub(super) fn new(size: [usize; 2]) -> Self {
        let padded = size[0].next_multiple_of(LANES);
        Self {
            sums: Statistics::default(),
            size,
            luma: vec![0; padded + 2 * LANES],
            columns: std::array::from_fn(|_| vec![0; padded]),
            lines: 0,
            histogram: [[0; 256]; 4],
        }
    }

    /// Discards the sums of a frame that was not finished.
    pub(super) fn begin(&mut self) {
        self.sums = Statistics::default();
        self.columns.iter_mut().for_each(|column| column.fill(0));
        self.lines = 0;
        self.histogram.as_flattened_mut().fill(0);
    }

    /// Measures line `y` of quads. `red`, the greens and `blue` are padded.
    pub(super) fn line(
        &mut self,
        level: Level,
        y: usize,
        [red, green, green2, blue]: [&[i16]; 4],
        range: [u16; 2],
    ) {
        let width = self.size[0];
        let [luma, r, g, b, balanced, saturated, focus] = &mut self.columns;
        let least = range[0].min(0x7fff).cast_signed();
        let most = range[1].min(0x7fff).cast_signed();
        let padded = luma.len();
        let range = [least, most];
        quads(
            level,
            red,
            green,
            green2,
            blue,
            range,
            &mut self.luma,
            luma,
            r,
            g,
            b,
            balanced,
            saturated,
            padded,
        );
        self.luma[LANES - 1] = self.luma[LANES];
        self.luma[LANES + width] = self.luma[LANES + width - 1];
        differences(level, &self.luma, focus, padded);
        let [one, two, three, four] = &mut self.histogram;
        let bin = |luma: i16| usize::from(luma.to_be_bytes()[0] << 2 | luma.to_le_bytes()[0] >> 6);
        let (fours, rest) = self.luma[LANES..][..width].as_chunks::<4>();
        for &[a, b, c, d] in fours {
            one[bin(a)] += 1;
            two[bin(b)] += 1;
            three[bin(c)] += 1;
            four[bin(d)] += 1;
        }
        rest.iter().for_each(|&luma| one[bin(luma)] += 1);
        self.lines += 1;
        if self.zone(y) != self.zone(y + 1) || y + 1 == self.size[1] {
            self.flush(y);
        }
    }

    /// The line of zones that contains line `y` of quads.
    fn zone(&self, y: usize) -> usize {
        (y / (self.size[1] / ZONES)).min(ZONES - 1)
    }

    /// Adds the sums of the columns to the zones of line `y` of quads.
    fn flush(&mut self, y: usize) {
        let across = self.size[0] / ZONES;
        let line = self.zone(y);
        for (x, zone) in self.sums.zones[line].iter_mut().enumerate() {
            let end = if x + 1 == ZONES { self.size[0] } else { (x + 1) * across };
            let [luma, red, green, blue, balanced, saturated, focus] = std::array::from_fn(|index| {
                let columns = &self.columns[index][x * across..end];
                columns.iter().map(|&sum| u64::from(sum)).sum::<u64>()
            });
            zone.quads += u32::try_from(end - x * across).unwrap_or(u32::MAX) * self.lines;
            zone.luma += luma;
            zone.balanced_quads += u32::try_from(balanced).unwrap_or(u32::MAX);
            zone.saturated_quads += u32::try_from(saturated).unwrap_or(u32::MAX);
            zone.balanced.iter_mut().zip([red, green, blue]).for_each(|(sum, part)| *sum += part);
            zone.focus += focus;
        }
        self.columns.iter_mut().for_each(|column| column.fill(0));
        self.lines = 0;
    }

    /// Adds all sums to `statistics`. `y` is the number of the line of quads after the last one.
    pub(super) fn finish(&mut self, y: usize, statistics: &mut Statistics) {
        if self.lines > 0 {
            self.flush(y - 1);
        }
        for part in &mut self.histogram {
            self.sums.histogram.iter_mut().zip(&*part).for_each(|(sum, part)| *sum += part);
            part.fill(0);
        }
        statistics.add(&self.sums);
        self.sums = Statistics::default();
    }
}

kernel! {
    /// Adds a line of quads to the sums of the columns, and stores its luma.
    fn quads(
        red: &[i16],
        green: &[i16],
        green2: &[i16],
        blue: &[i16],
        range: [i16; 2],
        luma_out: &mut [i16],
        luma_sum: &mut [u32],
        red_sum: &mut [u32],
        green_sum: &mut [u32],
        blue_sum: &mut [u32],
        balanced: &mut [u32],
        saturated: &mut [u32],
        count: usize,
    ) {
        let (r, g, h, b) = (at(red, 0, count), at(green, 0, count), at(green2, 0, count), at(blue, 0, count));
        let luma_out = &mut luma_out[LANES..][..count];
        let luma_sum = &mut luma_sum[..count];
        let (balanced, saturated) = (&mut balanced[..count], &mut saturated[..count]);
        let (red_sum, green_sum, blue_sum) =
            (&mut red_sum[..count], &mut green_sum[..count], &mut blue_sum[..count]);
        let add = |sum: &mut u32, value: i16| *sum = sum.wrapping_add(u32::from(value.cast_unsigned()));
        for i in 0..count {
            let green = mean(g[i], h[i]);
            let luma = mean(mean(r[i], b[i]), green);
            let least = r[i].min(g[i]).min(h[i].min(b[i]));
            let most = r[i].max(g[i]).max(h[i].max(b[i]));
            let mask = if (least >= range[0]) & (most <= range[1]) { -1 } else { 0 };
            luma_out[i] = luma;
            add(&mut luma_sum[i], luma);
            add(&mut red_sum[i], r[i] & mask);
            add(&mut green_sum[i], green & mask);
            add(&mut blue_sum[i], b[i] & mask);
            add(&mut balanced[i], mask & 1);
            add(&mut saturated[i], i16::from(most > range[1]));
        }
    }
}

kernel! {
    /// Adds the squares of the differences between both neighbours to the sums of the columns.
    fn differences(luma: &[i16], sums: &mut [u32], count: usize) {
        let [left, right] = [-1, 1].map(|x| at(luma, x, count));
        let sums = &mut sums[..count];
        for i in 0..count {
            let difference = i32::from(right[i].wrapping_sub(left[i]) >> 4);
            sums[i] = sums[i].wrapping_add(difference.wrapping_mul(difference).cast_unsigned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_and_histogram_count_each_quad_once() {
        let size = [64, 49];
        let mut collector = Collector::new(size);
        let line = |level: i16| -> Vec<i16> {
            let lanes = i16::try_from(LANES).unwrap();
            (-lanes..64 + lanes).map(|x| level + x.rem_euclid(2) * 1600).collect()
        };
        let planes = [1000, 2000, 3000, 4000].map(line);
        let mut statistics = Statistics::default();
        for y in 0..size[1] {
            let [r, g, h, b] = &planes;
            let range = if y < 24 { [0, u16::MAX] } else { [1001, 16_383] };
            collector.line(Level::best(), y, [r, g, h, b], range);
        }
        collector.finish(size[1], &mut statistics);
        // Lines of quads: 14 zones of 3 and one of 7; columns: 14 of 4 and one of 8.
        let Statistics { histogram, zones } = &statistics;
        assert_eq!([zones[0][0], zones[0][14], zones[14][14]].map(|zone| zone.quads), [12, 24, 56]);
        assert_eq!(zones.as_flattened().iter().map(|zone| zone.quads).sum::<u32>(), 64 * 49);
        assert_eq!(zones[3][3].luma, 6 * (2500 + 4100));
        assert_eq!(zones[3][3].luma_mean(), 3300);
        assert_eq!((zones[3][3].balanced_quads, zones[3][3].balanced), (12, [21_600, 39_600, 57_600]));
        assert_eq!((zones[9][3].balanced_quads, zones[9][3].balanced), (6, [15_600, 24_600, 33_600]));
        assert_eq!((zones[3][3].saturated_quads, zones[14][3].saturated_quads), (0, 0));
        assert_eq!((histogram[2500 / 64], histogram[4100 / 64]), (32 * 49, 32 * 49));
        // Columns two apart are alike, but at the ends the quad itself is mirrored.
        assert_eq!((zones[3][3].focus, zones[3][0].focus), (0, 3 * 100 * 100));
        let first = statistics.clone();
        collector.finish(size[1], &mut statistics);
        assert_eq!(statistics, first, "collected once");
    }
}
