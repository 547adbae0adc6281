//! The test patterns of sensors after SMIA and its successor, MIPI CCS: register `test_pattern_mode` at 0x0600.

use media::Phase;

/// The largest sample. Formats with fewer bits drop the lowest.
const WHITE: u16 = (1 << 10) - 1;

/// The sample to which all bars fade.
const GREY: u16 = 1 << 9;

/// The bits that samples have in the coarse half of a bar.
const COARSE: u16 = 0b11_1100_0000;

/// The number of bars.
const BARS: usize = 8;

/// The sample of 10 bits that begins at each bit of the sequence x^9 + x^5 + 1, whose first nine bits are ones. Bit n is the
/// exclusive or of bits n - 9 and n - 5.
const PN9: [u16; 511] = {
    let mut samples = [0; 511];
    let mut bits = 0x1ff;
    let mut at = 0;
    while at < samples.len() {
        samples[at] = bits << 1 | (bits >> 8 ^ bits >> 4) & 1;
        bits = samples[at] & 0x1ff;
        at += 1;
    }
    samples
};

/// A test pattern in a part of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestPattern {
    /// What it shows.
    pub pattern: Pattern,
    /// Where it shows it. It may reach beyond the frame.
    pub window: Window,
}

/// A part of a frame, in pixels of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its left and its upper edge.
    pub start: [u32; 2],
    /// Width and height.
    pub size: [u32; 2],
}

/// What a test pattern shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// One sample for each channel: red, green on lines with red, green on lines with blue, blue.
    Solid([u16; 4]),
    /// Eight bars from left to right: white, yellow, cyan, green, magenta, red, blue and black. Each component is 0 or 1023.
    Bars,
    /// The same bars from the top to the bottom.
    StackedBars,
    /// Grey from black on the left to white on the right.
    Ramp,
    /// Grey from black at the top to white at the bottom.
    StackedRamp,
    /// The bars from left to right, which fade from the top of the window to grey at its bottom. The right half of each bar has the upper 4 bits
    /// of the left half only. That the fade takes the whole height, and the number 4, are choices of this model.
    FadingBars,
    /// The bits of the sequence x^9 + x^5 + 1 (ITU-T O.150), from nine ones on, highest bit of a sample first. The sequence goes on
    /// from line to line and begins anew with each frame.
    Pn9,
}

impl TestPattern {
    /// Draws line `y` of a frame with this phase, in samples of 10 bits. Samples outside the window keep their values.
    pub fn line(&self, y: u32, phase: Phase, samples: &mut [u16]) {
        let Window { start: [left, top], size: [columns, rows] } = self.window;
        let Some(row) = y.checked_sub(top).filter(|row| *row < rows) else { return };
        let (left, columns) = (left as usize, columns as usize);
        let Some(samples) = samples.get_mut(left..) else { return };
        let samples = samples.iter_mut().take(columns).zip(0_usize..);
        let channel = |column| phase.channel(y, (left + column) % 2);
        match self.pattern {
            Pattern::Solid(colours) => {
                samples.for_each(|(sample, column)| *sample = colours[channel(column)]);
            }
            Pattern::Bars => samples.for_each(|(sample, column)| {
                *sample = bar(part(column, columns, BARS), channel(column));
            }),
            Pattern::StackedBars => samples.for_each(|(sample, column)| {
                *sample = bar(part(row as usize, rows as usize, BARS), channel(column));
            }),
            Pattern::Ramp => samples.for_each(|(sample, column)| *sample = ramp(column, columns)),
            Pattern::StackedRamp => {
                let level = ramp(row as usize, rows as usize);
                samples.for_each(|(sample, _)| *sample = level);
            }
            Pattern::FadingBars => samples.for_each(|(sample, column)| {
                let half = part(column, columns, 2 * BARS);
                let fine = fade(bar(half / 2, channel(column)), row, rows);
                *sample = if half.is_multiple_of(2) { fine } else { fine & COARSE };
            }),
            Pattern::Pn9 => {
                let start = (row as usize % PN9.len()) * (columns % PN9.len());
                samples.for_each(|(sample, column)| *sample = PN9[10 * (start + column) % PN9.len()]);
            }
        }
    }
}

/// The number of the part that has `position`, where `length` is divided into `parts` equal parts.
fn part(position: usize, length: usize, parts: usize) -> usize {
    parts * position / length
}

/// The sample of a ramp from black to white over `length` pixels.
fn ramp(position: usize, length: usize) -> u16 {
    u16::try_from(usize::from(WHITE) * position / (length - 1).max(1)).unwrap_or(WHITE)
}

/// The sample of a channel in a bar of full brightness.
fn bar(index: usize, channel: usize) -> u16 {
    let is_bright = match channel {
        0 => index % 4 < 2,
        3 => index.is_multiple_of(2),
        _ => index < BARS / 2,
    };
    if is_bright { WHITE } else { 0 }
}

/// The sample in this row of a bar that begins with the sample `from` and ends with grey.
fn fade(from: u16, row: u32, rows: u32) -> u16 {
    let last = u64::from(rows - 1).max(1);
    let part = u64::from(from.abs_diff(GREY)) * u64::from(row) / last;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a part of the distance, as the row is at most the last"
    )]
    let part = part as u16;
    if from < GREY { from + part } else { from - part }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Window = Window { start: [0, 0], size: [16, 5] };

    fn line(pattern: Pattern, window: Window, y: u32, phase: Phase) -> Vec<u16> {
        let mut samples = vec![7; 16];
        TestPattern { pattern, window }.line(y, phase, &mut samples);
        samples
    }

    #[test]
    fn a_solid_colour_follows_the_phase() {
        let solid = Pattern::Solid([1, 2, 3, 4]);
        let first = |y, phase| line(solid, FULL, y, phase)[..3].to_vec();
        assert_eq!([first(0, Phase::Rggb), first(1, Phase::Rggb)], [[1, 2, 1], [3, 4, 3]]);
        assert_eq!([first(0, Phase::Grbg), first(1, Phase::Grbg)], [[2, 1, 2], [4, 3, 4]]);
        assert_eq!([first(0, Phase::Gbrg), first(1, Phase::Gbrg)], [[3, 4, 3], [1, 2, 1]]);
        assert_eq!([first(0, Phase::Bggr), first(1, Phase::Bggr)], [[4, 3, 4], [2, 1, 2]]);
    }

    #[test]
    fn bars_are_white_yellow_cyan_green_magenta_red_blue_black() {
        // Bars are two pixels wide: one red and one green, or one green and one blue.
        let on = |bits: [u8; 8]| bits.map(|bit| u16::from(bit) * 1023);
        let even = line(Pattern::Bars, FULL, 0, Phase::Rggb);
        let odd = line(Pattern::Bars, FULL, 1, Phase::Rggb);
        let pick = |line: &[u16], parity| line.iter().skip(parity).step_by(2).copied().collect::<Vec<_>>();
        assert_eq!(pick(&even, 0), on([1, 1, 0, 0, 1, 1, 0, 0]));
        assert_eq!(pick(&even, 1), on([1, 1, 1, 1, 0, 0, 0, 0]));
        assert_eq!(pick(&odd, 0), pick(&even, 1));
        assert_eq!(pick(&odd, 1), on([1, 0, 1, 0, 1, 0, 1, 0]));
    }

    #[test]
    fn stacked_bars_and_ramps_follow_lines_and_columns() {
        let window = Window { size: [16, 8], ..FULL };
        for (y, index) in (0..8).zip(0..) {
            let stacked = line(Pattern::StackedBars, window, y, Phase::Rggb);
            let expected: Vec<u16> =
                (0..16).map(|column| bar(index, Phase::Rggb.channel(y, column % 2))).collect();
            assert_eq!(stacked, expected);
            let level = u16::try_from(1023 * y / 7).unwrap();
            assert_eq!(line(Pattern::StackedRamp, window, y, Phase::Rggb), [level; 16]);
            let ramp = line(Pattern::Ramp, window, y, Phase::Rggb);
            assert!(ramp.iter().zip(0..).all(|(sample, column)| *sample == 1023 * column / 15), "{ramp:?}");
        }
        assert_eq!(line(Pattern::StackedBars, window, 0, Phase::Rggb), [1023; 16]);
        assert_eq!(line(Pattern::StackedBars, window, 7, Phase::Rggb), [0; 16]);
        let single = Window { size: [16, 1], ..FULL };
        assert_eq!(line(Pattern::StackedRamp, single, 0, Phase::Rggb), [0; 16]);
    }

    #[test]
    fn bars_fade_to_grey_with_a_fine_and_a_coarse_half() {
        let rows: Vec<_> = (0..5).map(|y| line(Pattern::FadingBars, FULL, y, Phase::Rggb)).collect();
        assert_eq!(rows[0], [1023, 960, 1023, 960, 0, 960, 0, 960, 1023, 0, 1023, 0, 0, 0, 0, 0]);
        // A quarter of 511 and of 512 from the ends; 1023 - 255 and 256 in the middle.
        assert_eq!((rows[1][0], rows[1][12]), (1023 - 127, 128));
        assert_eq!((rows[2][0], rows[2][4], rows[2][3]), (768, 256, 768));
        assert_eq!(rows[4], [512; 16]);
        let single = Window { size: [16, 1], ..FULL };
        assert_eq!(line(Pattern::FadingBars, single, 0, Phase::Rggb), rows[0]);
    }

    #[test]
    fn pn9_is_the_sequence_of_its_polynomial() {
        // Bit by bit from the recurrence, without the table.
        let mut bits = vec![1_u16; 9];
        for n in 9..2 * 511 {
            bits.push(bits[n - 9] ^ bits[n - 5]);
        }
        assert_eq!(bits[..511], bits[511..]);
        // 2^8 ones and 2^8 - 1 zeros, as in every sequence of maximal length.
        assert_eq!(bits[..511].iter().sum::<u16>(), 256);
        let expected =
            |sample: usize| (0..10).fold(0, |value, bit| value << 1 | bits[(10 * sample + bit) % 511]);
        for y in 0..5 {
            let first = 16 * y as usize;
            let expected: Vec<u16> = (first..first + 16).map(expected).collect();
            assert_eq!(line(Pattern::Pn9, FULL, y, Phase::Rggb), expected);
        }
    }

    #[test]
    fn only_the_window_is_drawn() {
        let window = Window { start: [3, 1], size: [2, 1] };
        let solid = Pattern::Solid([1, 2, 3, 4]);
        let mut expected = [7; 16];
        assert_eq!(line(solid, window, 0, Phase::Rggb), expected);
        assert_eq!(line(solid, window, 2, Phase::Rggb), expected);
        expected[3..5].copy_from_slice(&[4, 3]);
        assert_eq!(line(solid, window, 1, Phase::Rggb), expected);
        let all = [Pattern::Bars, Pattern::FadingBars, Pattern::Pn9, solid];
        for pattern in all {
            let beyond = Window { start: [17, 0], size: [u32::MAX; 2] };
            assert_eq!(line(pattern, beyond, 0, Phase::Rggb), [7; 16]);
            assert_eq!(line(pattern, Window { size: [0, 5], ..FULL }, 0, Phase::Rggb), [7; 16]);
            let huge = Window { start: [15, 0], size: [u32::MAX; 2] };
            assert_eq!(line(pattern, huge, u32::MAX - 1, Phase::Rggb)[..15], [7; 15]);
        }
    }
}
