//! The scenes that the sensor looks at, in RGB, line by line.

use std::{f64::consts::TAU, fmt, str::FromStr};

use super::regs;

/// What the sensor looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u32)]
pub enum Pattern {
    /// Eight colour bars of 75 %, with a ruler: of every sixteen lines two are darker.
    #[default]
    Bars = regs::PATTERN_BARS,
    /// Red grows to the right and green downwards; blue counts diagonally, so that every line differs.
    Gradient = regs::PATTERN_GRADIENT,
    /// Black and white squares of 32 pixels.
    Checker = regs::PATTERN_CHECKER,
    /// An orange box over a grey field.
    Box = regs::PATTERN_BOX,
    /// Rings that grow finer up to the limit of the resolution at the left and right edge.
    ZonePlate = regs::PATTERN_ZONE_PLATE,
    /// Noise from the seed.
    Noise = regs::PATTERN_NOISE,
    /// A flat grey field.
    Flat = regs::PATTERN_FLAT,
}

impl Pattern {
    /// All patterns with their names, in the order of their values in the PATTERN register.
    const NAMES: [(Self, &str); regs::PATTERN_COUNT as usize] = [
        (Self::Bars, "bars"),
        (Self::Gradient, "gradient"),
        (Self::Checker, "checker"),
        (Self::Box, "box"),
        (Self::ZonePlate, "zone-plate"),
        (Self::Noise, "noise"),
        (Self::Flat, "flat"),
    ];

    /// The pattern with that value in the PATTERN register.
    pub fn from_register(value: u32) -> Option<Self> {
        Self::NAMES.iter().find(|(pattern, _)| *pattern as u32 == value).map(|&(pattern, _)| pattern)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize].1)
    }
}

impl FromStr for Pattern {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|&(pattern, _)| pattern).ok_or(())
    }
}

const BARS: [[u8; 3]; 8] = [
    [191, 191, 191],
    [191, 191, 0],
    [0, 191, 191],
    [0, 191, 0],
    [191, 0, 191],
    [191, 0, 0],
    [0, 0, 191],
    [0, 0, 0],
];
const GREY: [u8; 3] = [128; 3];
const ORANGE: [u8; 3] = [235, 128, 16];

/// A scene of a given size.
pub(super) struct Scene {
    pattern: Pattern,
    width: u32,
    height: u32,
    seed: u64,
    /// One period of a cosine, from white to black and back.
    rings: [u8; 256],
}

impl Scene {
    pub(super) fn new(pattern: Pattern, width: u32, height: u32, seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0.0 to 255.0, rounded")]
        let ring = |step| (127.5 + 127.5 * (TAU * f64::from(step) / 256.0).cos()).round() as u8;
        let mut rings = [0; 256];
        for (value, step) in rings.iter_mut().zip(0_u32..) {
            *value = ring(step);
        }
        Self { pattern, width, height, seed, rings }
    }

    /// Draws line `y` into `line`, three bytes a pixel: red, green, blue.
    pub(super) fn draw(&self, y: u32, line: &mut [u8]) {
        let (width, height) = (self.width, self.height);
        match self.pattern {
            Pattern::Bars => {
                let dark = u8::from(y % 16 < 2);
                fill(line, |x| BARS[(x * 8 / width) as usize].map(|component| component >> dark));
            }
            Pattern::Gradient => {
                fill(line, |x| [part(x, width), part(y, height), ((x + y) & 0xff).to_le_bytes()[0]]);
            }
            Pattern::Checker => fill(line, |x| [if (x ^ y) & 32 == 0 { 255 } else { 0 }; 3]),
            Pattern::Box => {
                let half = width / 8;
                let inside_y = y.abs_diff(height / 2) < half;
                fill(line, |x| if inside_y && x.abs_diff(width / 2) < half { ORANGE } else { GREY });
            }
            Pattern::ZonePlate => {
                // A phase of r^2/(2 width) turns: half a turn a pixel, the finest there is, at r = width/2.
                let dy = u64::from(y.abs_diff(height / 2));
                fill(line, |x| {
                    let dx = u64::from(x.abs_diff(width / 2));
                    let phase = (dx * dx + dy * dy) * 128 / u64::from(width);
                    [self.rings[usize::from(phase.to_le_bytes()[0])]; 3]
                });
            }
            Pattern::Noise => {
                let start = u64::from(y) * u64::from(width);
                fill(line, |x| {
                    let [r, g, b, ..] = split_mix(self.seed, start + u64::from(x)).to_le_bytes();
                    [r, g, b]
                });
            }
            Pattern::Flat => fill(line, |_| GREY),
        }
    }
}

fn fill(line: &mut [u8], pixel: impl Fn(u32) -> [u8; 3]) {
    for (rgb, x) in line.as_chunks_mut().0.iter_mut().zip(0..) {
        *rgb = pixel(x);
    }
}

/// How far `at` is on the way through `length`, of 255.
fn part(at: u32, length: u32) -> u8 {
    u8::try_from(at * 255 / (length - 1)).unwrap_or(u8::MAX)
}

/// The `index`th value of Vigna's SplitMix64 from `seed`.
pub(super) fn split_mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(pattern: Pattern, seed: u64, x: usize, y: u32) -> [u8; 3] {
        let mut line = vec![0; 640 * 3];
        Scene::new(pattern, 640, 600, seed).draw(y, &mut line);
        line.as_chunks().0[x]
    }

    #[test]
    fn pixels_where_they_are_known() {
        for (pattern, x, y, rgb) in [
            (Pattern::Bars, 0, 5, [191, 191, 191]),
            (Pattern::Bars, 79, 5, [191, 191, 191]),
            (Pattern::Bars, 80, 5, [191, 191, 0]),
            (Pattern::Bars, 639, 5, [0, 0, 0]),
            (Pattern::Bars, 160, 17, [0, 95, 95]),
            (Pattern::Gradient, 0, 0, [0, 0, 0]),
            (Pattern::Gradient, 639, 599, [255, 255, (1238 & 0xff) as u8]),
            (Pattern::Checker, 31, 31, [255; 3]),
            (Pattern::Checker, 32, 31, [0; 3]),
            (Pattern::Checker, 32, 32, [255; 3]),
            (Pattern::Box, 320, 300, ORANGE),
            (Pattern::Box, 320, 220, GREY),
            (Pattern::Box, 241, 221, ORANGE),
            (Pattern::Box, 240, 300, GREY),
            (Pattern::ZonePlate, 320, 300, [255; 3]),
            (Pattern::Flat, 17, 17, GREY),
        ] {
            assert_eq!(pixel(pattern, 0, x, y), rgb, "{pattern} at {x},{y}");
        }
    }

    #[test]
    fn noise_is_the_seeds() {
        assert_eq!(pixel(Pattern::Noise, 7, 3, 4), pixel(Pattern::Noise, 7, 3, 4));
        assert_ne!(pixel(Pattern::Noise, 7, 3, 4), pixel(Pattern::Noise, 8, 3, 4));
        // The first value of SplitMix64 from the seed 0, as its author publishes it.
        assert_eq!(split_mix(0, 0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn names_and_registers_agree() {
        for value in 0..regs::PATTERN_COUNT {
            let pattern = Pattern::from_register(value).unwrap();
            assert_eq!(pattern as u32, value);
            assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
        assert_eq!(Pattern::from_register(regs::PATTERN_COUNT), None);
        assert!("stripes".parse::<Pattern>().is_err());
    }
}
