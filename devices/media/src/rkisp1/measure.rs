//! The measurements of a frame: white balance, exposure, histogram and focus, line by line.

use super::{
    arith::{W, distance, wide},
    encode::Planes,
    params::{
        ExposureMeasure, FocusMeasure, HistogramMeasure, HistogramValues, Params, WhiteLimits, WhiteMeasure,
        Window,
    },
    raw::mirror,
};
use crate::{
    isp::lines::{Ring, at},
    simd::{LANES, Level, kernel},
};

/// The rows and columns of cells of exposure and histogram.
const CELLS: usize = 5;

/// The largest value of a bin of the histogram: 20 bits.
const BIN_MOST: u64 = (1 << 20) - 1;

/// The measurements of a frame. None is a measurement that is off or not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// White balance.
    pub white: Option<WhiteMeans>,
    /// The mean luminance of the cells, line by line.
    pub exposure: Option<[u8; 25]>,
    /// The weighted numbers of values, in units of 1/16, of which the largest is the largest of 20 bits. Each bin has 1/16 of
    /// the range.
    pub histogram: Option<[u32; 16]>,
    /// The measurements of the focus windows A, B and C; a window that is off has 0.
    pub focus: Option<[Focus; 3]>,
    /// The black levels of the positions A to D that were measured; 0 without a window.
    pub black_level: [u16; 4],
}

/// The means of the pixels that count as white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WhiteMeans {
    /// The number of these pixels in all frames of the measurement.
    pub count: u32,
    /// Y, or green.
    pub y_or_g: u8,
    /// Cb, or blue.
    pub cb_or_b: u8,
    /// Cr, or red.
    pub cr_or_r: u8,
}

/// The measurements of a focus window. A value that overflows is the largest of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Focus {
    /// Sharpness.
    pub sum: u32,
    /// Luminance.
    pub luminance: u32,
}

/// Measures a frame.
#[derive(Debug, Default)]
pub(super) struct Collector {
    white: White,
    /// Red, green, blue and the number of pixels of each cell.
    exposure: [[u64; 4]; CELLS * CELLS],
    bins: [u64; 16],
    focus: [[u64; 2]; 3],
    /// The luminance of a line and of the one before.
    luminance: Ring<2>,
}

/// The sums of a white balance measurement, which goes on over several frames: the number of pixels, and of them Y, Cb and Cr
/// or green, blue and red.
#[derive(Debug, Default)]
struct White {
    of: Option<WhiteMeasure>,
    sums: [u64; 4],
    frames: u8,
}

impl Collector {
    /// Room for pictures with `half` even and as many odd columns.
    pub(super) fn new(half: usize) -> Self {
        Self { luminance: Ring::new(2, half), ..Self::default() }
    }

    /// Begins a frame. If the frame before was not finished, what it added to the white balance counts.
    pub(super) fn begin(&mut self, params: &Params) {
        self.exposure = Default::default();
        self.bins = [0; 16];
        self.focus = Default::default();
        if self.white.of != params.white {
            self.white = White { of: params.white, ..White::default() };
        }
    }

    /// Measures line `y` of the picture after the cross-talk correction.
    pub(super) fn line(&mut self, level: Level, params: &Params, y: u32, planes: Planes<'_>) {
        let [er, or, eg, og, eb, ob] = planes;
        let halves = [[er, eg, eb], [or, og, ob]];
        if let Some(measure) = &params.white
            && let Some(columns) = columns(&measure.window, y, er.len() * 2)
        {
            for (parity, planes) in halves.iter().enumerate() {
                let [r, g, b] = planes.map(|plane| &plane[half(&columns, parity)]);
                let mut sums = [0; 4];
                match measure.limits {
                    WhiteLimits::Ycbcr { min_y, max_y, min_c, max_sum, reference } => {
                        let limits =
                            [min_y, max_y.unwrap_or(u8::MAX), min_c, max_sum, reference[0], reference[1]];
                        // Y never exceeds 235, so that 255 compares nothing.
                        ycbcr(level, r, g, b, limits.map(i16::from), &mut sums);
                    }
                    WhiteLimits::Rgb(limits) => rgb(level, r, g, b, limits.map(i16::from), &mut sums),
                }
                self.white.sums.iter_mut().zip(sums).for_each(|(sum, part)| *sum += u64::from(part));
            }
        }
        if let Some(measure) = &params.exposure {
            self.expose(level, measure, y, halves);
        }
        if let Some(measure) = &params.histogram {
            let component = |index: u8| match index {
                0 => [er, or],
                1 => [eg, og],
                _ => [eb, ob],
            };
            match measure.values {
                HistogramValues::Rgb => {
                    for planes in [0, 1, 2].map(component) {
                        self.count(measure, y, er.len() * 2, |x| bin(planes[x % 2][x / 2]));
                    }
                }
                HistogramValues::Component(index) => {
                    let planes = component(index);
                    self.count(measure, y, er.len() * 2, |x| bin(planes[x % 2][x / 2]));
                }
                HistogramValues::Luma => {}
            }
        }
        if let Some(measure) = &params.focus {
            self.focus(level, measure, y, halves);
        }
    }

    /// Measures luma of line `y` behind the colour space matrix.
    pub(super) fn luma(&mut self, params: &Params, y: u32, line: &[u8]) {
        if let Some(measure) = &params.histogram
            && measure.values == HistogramValues::Luma
        {
            self.count(measure, y, line.len(), |x| usize::from(line[x] >> 4));
        }
    }

    /// Adds a line to the cells of the exposure.
    fn expose(&mut self, level: Level, measure: &ExposureMeasure, y: u32, halves: [[&[i16]; 3]; 2]) {
        let Some(row) = cell(y, measure.corner[1], measure.cell[1]) else { return };
        for (column, sums) in self.exposure[row * CELLS..][..CELLS].iter_mut().enumerate() {
            let columns = cell_columns(measure.corner[0], measure.cell[0], column, halves[0][0].len() * 2);
            for (parity, planes) in halves.iter().enumerate() {
                let [r, g, b] = planes.map(|plane| &plane[half(&columns, parity)]);
                let mut line = [0; 4];
                add(level, r, g, b, &mut line);
                sums.iter_mut().zip(line).for_each(|(sum, part)| *sum += u64::from(part));
            }
        }
    }

    /// Adds a line of `width` pixels to the histogram.
    fn count(&mut self, measure: &HistogramMeasure, y: u32, width: usize, bin: impl Fn(usize) -> usize) {
        let Some(row) = cell(y, measure.corner[1], measure.cell[1]) else { return };
        let step = measure.step.max(1);
        if !(y - u32::from(measure.corner[1])).is_multiple_of(step.into()) {
            return;
        }
        let left = usize::from(measure.corner[0]);
        let mut x = left;
        for (column, &weight) in measure.weights[row * CELLS..][..CELLS].iter().enumerate() {
            let end = cell_columns(measure.corner[0], measure.cell[0], column, width).end;
            while x < end {
                self.bins[bin(x) % 16] += u64::from(weight.min(31));
                x += usize::from(step);
            }
        }
    }

    /// Adds a line to the focus windows.
    fn focus(&mut self, level: Level, measure: &FocusMeasure, y: u32, halves: [[&[i16]; 3]; 2]) {
        let half_width = halves[0][0].len();
        let mut planes = self.luminance.planes_mut(y);
        for ([r, g, b], out) in halves.into_iter().zip(&mut planes) {
            luminance(level, r, g, b, &mut out[LANES..][..half_width]);
        }
        mirror(planes, half_width);
        let [even, odd] = self.luminance.planes(y);
        let above = self.luminance.planes(y.saturating_sub(1));
        for (window, sums) in measure.windows.iter().zip(&mut self.focus) {
            let Some(columns) = window.as_ref().and_then(|window| columns(window, y, half_width * 2)) else {
                continue;
            };
            for (parity, (here, left)) in
                [(even, at(odd, -1, half_width)), (odd, at(even, 0, half_width))].into_iter().enumerate()
            {
                let range = half(&columns, parity);
                let [here, above] = [here, above[parity]].map(|line| &at(line, 0, half_width)[range.clone()]);
                let mut line = [0; 2];
                sharpness(level, here, &left[range], above, measure.threshold, &mut line);
                sums.iter_mut().zip(line).for_each(|(sum, part)| *sum += u64::from(part));
            }
        }
    }

    /// Ends the frame.
    pub(super) fn finish(&mut self, params: &Params) -> Statistics {
        Statistics {
            white: params.white.as_ref().and_then(|measure| self.white.finish(measure)),
            exposure: params.exposure.as_ref().map(|measure| self.means(measure)),
            histogram: params
                .histogram
                .is_some()
                .then(|| self.bins.map(|bin| u32::try_from(bin.min(BIN_MOST)).unwrap_or(u32::MAX))),
            focus: params.focus.as_ref().map(|measure| {
                let shifted = |sum: u64, shift: u8| u32::try_from(sum >> (shift & 7)).unwrap_or(u32::MAX);
                self.focus.map(|[sum, luminance]| Focus {
                    sum: shifted(sum, measure.shifts[0]),
                    luminance: shifted(luminance, measure.shifts[1]),
                })
            }),
            black_level: [0; 4],
        }
    }

    /// The mean luminance of the cells; 0 for a cell outside of the picture.
    fn means(&self, measure: &ExposureMeasure) -> [u8; 25] {
        self.exposure.map(|[r, g, b, pixels]| {
            let mean = if measure.sum {
                ((r + g + b) * 85).checked_div(256 * 16 * pixels)
            } else {
                (16 * r + 32 * g + 7 * b).checked_div(64 * 16 * pixels).map(|mean| 16 + mean)
            };
            mean.map_or(0, |mean| u8::try_from(mean).unwrap_or(u8::MAX))
        })
    }
}

impl White {
    /// Ends a frame, and the measurement if the frame is its last one.
    fn finish(&mut self, measure: &WhiteMeasure) -> Option<WhiteMeans> {
        self.frames += 1;
        if self.frames <= measure.frames.min(7) {
            return None;
        }
        let [count, first, second, third] = std::mem::take(&mut self.sums);
        self.frames = 0;
        let mean = |sum: u64| sum.checked_div(count).map_or(0, |mean| mean.to_le_bytes()[0]);
        Some(WhiteMeans {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            y_or_g: mean(first),
            cb_or_b: mean(second),
            cr_or_r: mean(third),
        })
    }
}

/// The bin of a sample.
fn bin(sample: i16) -> usize {
    usize::from(sample.cast_unsigned() >> 8)
}

/// The columns of `width` that lie in a window, if line `y` does.
fn columns(window: &Window, y: u32, width: usize) -> Option<std::ops::Range<usize>> {
    let top = u32::from(window.top);
    let left = usize::from(window.left).min(width);
    let end = (usize::from(window.left) + usize::from(window.width)).min(width);
    (top..top + u32::from(window.height)).contains(&y).then_some(left..end)
}

/// The row of cells that contains line `y`.
fn cell(y: u32, top: u16, height: u16) -> Option<usize> {
    let row = y.checked_sub(top.into())?.checked_div(height.into())? as usize;
    (row < CELLS).then_some(row)
}

/// The columns of a column of cells.
fn cell_columns(left: u16, width: u16, column: usize, picture: usize) -> std::ops::Range<usize> {
    let start = usize::from(left) + usize::from(width) * column;
    start.min(picture)..(start + usize::from(width)).min(picture)
}

/// The even (0) or odd (1) columns of a range, as places in their plane.
fn half(columns: &std::ops::Range<usize>, parity: usize) -> std::ops::Range<usize> {
    let of = |x: usize| (x + 1 - parity) / 2;
    of(columns.start)..of(columns.end)
}

kernel! {
    /// Adds the number of white pixels, and their Y, Cb and Cr, to `sums`. `limits` are the least Y, the largest Y, the least
    /// C, the largest sum, and the references of Cb and Cr.
    fn ycbcr(red: &[i16], green: &[i16], blue: &[i16], limits: [i16; 6], sums: &mut [u32; 4]) {
        let [min_y, max_y, min_c, max_sum, ref_cb, ref_cr] = limits;
        let [mut count, mut sum_y, mut sum_cb, mut sum_cr] = [W(0_i32); 4];
        for ((&r, &g), &b) in red.iter().zip(green).zip(blue) {
            let (r, g, b) = (W(r >> 4), W(g >> 4), W(b >> 4));
            // Weights in units of 1/64: 0.25, 0.5, 0.1094; -0.1406, -0.2969, 0.4375; 0.4375, -0.375, -0.0625.
            let y = (((r * W(16) + g * W(32) + b * W(7) + W(32)) >> 6) + W(16)).0;
            let cb = (((b * W(28) - r * W(9) - g * W(19) + W(32)) >> 6) + W(128)).0;
            let cr = (((r * W(28) - g * W(24) - b * W(4) + W(32)) >> 6) + W(128)).0;
            let near = distance(cb, ref_cb).wrapping_add(distance(cr, ref_cr)) < max_sum;
            let is_white = near & (y > min_y) & (y < max_y) & (cb > min_c) & (cr > min_c);
            let mask = if is_white { -1 } else { 0 };
            count -= wide(mask);
            sum_y += wide(y & mask);
            sum_cb += wide(cb & mask);
            sum_cr += wide(cr & mask);
        }
        *sums = [count, sum_y, sum_cb, sum_cr].map(|sum| sum.0.cast_unsigned());
    }
}

kernel! {
    /// Adds the number of white pixels, and their green, blue and red, to `sums`.
    fn rgb(red: &[i16], green: &[i16], blue: &[i16], limits: [i16; 3], sums: &mut [u32; 4]) {
        let [mut count, mut sum_g, mut sum_b, mut sum_r] = [W(0_i32); 4];
        for ((&r, &g), &b) in red.iter().zip(green).zip(blue) {
            let (r, g, b) = (r >> 4, g >> 4, b >> 4);
            let is_white = (r <= limits[0]) & (g <= limits[1]) & (b <= limits[2]);
            let mask = if is_white { -1 } else { 0 };
            count -= wide(mask);
            sum_g += wide(g & mask);
            sum_b += wide(b & mask);
            sum_r += wide(r & mask);
        }
        *sums = [count, sum_g, sum_b, sum_r].map(|sum| sum.0.cast_unsigned());
    }
}

kernel! {
    /// The sums of red, green and blue, and their number.
    fn add(red: &[i16], green: &[i16], blue: &[i16], sums: &mut [u32; 4]) {
        let [mut r, mut g, mut b, mut count] = [W(0_i32); 4];
        for ((&red, &green), &blue) in red.iter().zip(green).zip(blue) {
            r += wide(red);
            g += wide(green);
            b += wide(blue);
            count += W(1);
        }
        *sums = [r, g, b, count].map(|sum| sum.0.cast_unsigned());
    }
}

kernel! {
    /// Luminance with 8 bits: (R + 2 G + B) / 4.
    fn luminance(red: &[i16], green: &[i16], blue: &[i16], out: &mut [i16]) {
        for (((out, &r), &g), &b) in out.iter_mut().zip(red).zip(green).zip(blue) {
            *out = ((W(r) + W(g) + W(g) + W(b)) >> 6).0;
        }
    }
}

kernel! {
    /// The sum of the squares of the differences from the pixels to the left and above, where it is above the threshold, and
    /// that of luminance.
    fn sharpness(here: &[i16], left: &[i16], above: &[i16], threshold: u16, sums: &mut [u32; 2]) {
        let threshold = i32::from(threshold);
        let (mut sharp, mut bright) = (W(0_i32), W(0_i32));
        for ((&here, &left), &above) in here.iter().zip(left).zip(above) {
            let (across, down) = (wide(here) - wide(left), wide(here) - wide(above));
            let square = across * across + down * down;
            sharp += if square.0 > threshold { square } else { W(0) };
            bright += wide(here);
        }
        *sums = [sharp, bright].map(|sum| sum.0.cast_unsigned());
    }
}
