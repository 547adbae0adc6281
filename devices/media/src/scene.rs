//! Scenes that a sensor looks at: drawn patterns and pictures, in RGB, line by line.

use std::{f64::consts::TAU, fmt, str::FromStr};

use super::random::split_mix;

/// A scene that is drawn. Its number is part of the interface of the devices that can select one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u32)]
pub enum Pattern {
    /// Eight colour bars of 75 %, with a ruler: the first two of every sixteen lines are darker.
    #[default]
    Bars = 0,
    /// Red grows to the right and green downwards; blue counts diagonally, so that every line differs.
    Gradient = 1,
    /// Black and white squares of 32 pixels.
    Checker = 2,
    /// An orange box on a grey field.
    Box = 3,
    /// Rings that become finer, up to the limit of the resolution at the left and right edges.
    ZonePlate = 4,
    /// Noise from the seed.
    Noise = 5,
    /// A flat grey field.
    Flat = 6,
}

impl Pattern {
    /// The number of patterns.
    pub const COUNT: usize = 7;

    /// All patterns with their names, by number.
    const NAMES: [(Self, &str); Self::COUNT] = [
        (Self::Bars, "bars"),
        (Self::Gradient, "gradient"),
        (Self::Checker, "checker"),
        (Self::Box, "box"),
        (Self::ZonePlate, "zone-plate"),
        (Self::Noise, "noise"),
        (Self::Flat, "flat"),
    ];

    /// The pattern with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::NAMES.iter().find(|(pattern, _)| *pattern as u32 == number).map(|&(pattern, _)| pattern)
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

/// What the sensor looks at, and in which direction it is read out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SceneSettings {
    /// The pattern. A scene from a file takes its place.
    pub pattern: Pattern,
    /// Left and right are exchanged.
    pub flip_horizontal: bool,
    /// Top and bottom are exchanged.
    pub flip_vertical: bool,
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
    settings: SceneSettings,
    width: u32,
    height: u32,
    content: Content,
}

/// Where the lines of a scene come from.
enum Content {
    /// They are drawn.
    Drawn {
        seed: u64,
        /// One period of a cosine, from white to black and back.
        rings: Box<[u8; 256]>,
    },
    /// They are the lines of this picture, which has the size of the scene.
    Picture(Vec<u8>),
}

impl Scene {
    /// A scene that is drawn; `seed` is that of the noise pattern.
    pub(super) fn drawn(settings: SceneSettings, [width, height]: [u32; 2], seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0.0 to 255.0, rounded")]
        let ring = |step| (127.5 + 127.5 * (TAU * f64::from(step) / 256.0).cos()).round() as u8;
        let mut rings = Box::new([0; 256]);
        for (value, step) in rings.iter_mut().zip(0_u32..) {
            *value = ring(step);
        }
        Self { settings, width, height, content: Content::Drawn { seed, rings } }
    }

    /// A scene that is a picture of this size, of three bytes a pixel.
    pub(super) fn picture(settings: SceneSettings, [width, height]: [u32; 2], rgb: Vec<u8>) -> Self {
        Self { settings, width, height, content: Content::Picture(rgb) }
    }

    /// Writes line `y`, as the sensor is read out, into `line`: red, green and blue of each pixel, a byte each.
    pub(super) fn line(&self, y: u32, line: &mut [u8]) {
        let y = if self.settings.flip_vertical { self.height - 1 - y } else { y };
        match &self.content {
            Content::Drawn { seed, rings } => self.draw(y, *seed, rings, line),
            Content::Picture(rgb) => line.copy_from_slice(&rgb[y as usize * line.len()..][..line.len()]),
        }
        if self.settings.flip_horizontal {
            line.as_chunks_mut::<3>().0.reverse();
        }
    }

    fn draw(&self, y: u32, seed: u64, rings: &[u8; 256], line: &mut [u8]) {
        let (width, height) = (self.width, self.height);
        match self.settings.pattern {
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
                // A phase of r^2/(2 width) turns: half a turn a pixel, the finest possible, at r = width/2.
                let dy = u64::from(y.abs_diff(height / 2));
                fill(line, |x| {
                    let dx = u64::from(x.abs_diff(width / 2));
                    let phase = (dx * dx + dy * dy) * 128 / u64::from(width);
                    [rings[usize::from(phase.to_le_bytes()[0])]; 3]
                });
            }
            Pattern::Noise => {
                let start = u64::from(y) * u64::from(width);
                fill(line, |x| {
                    let [r, g, b, ..] = split_mix(seed, start + u64::from(x)).to_le_bytes();
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

/// The position `at` within `length`, as a part of 255.
fn part(at: u32, length: u32) -> u8 {
    u8::try_from(at * 255 / (length - 1)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(pattern: Pattern, seed: u64, x: usize, y: u32) -> [u8; 3] {
        let mut line = vec![0; 640 * 3];
        let settings = SceneSettings { pattern, ..SceneSettings::default() };
        Scene::drawn(settings, [640, 600], seed).line(y, &mut line);
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
    }

    #[test]
    fn names_and_numbers_agree() {
        for value in 0..7 {
            let pattern = Pattern::from_number(value).unwrap();
            assert_eq!(pattern as u32, value);
            assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
        assert_eq!(Pattern::from_number(7), None);
        assert!("stripes".parse::<Pattern>().is_err());
    }
}
