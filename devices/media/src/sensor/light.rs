//! The light on a sensor: a scene in linear light, behind the lens and the colour filters.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::{phase::Phase, rect::Rect};

/// The transmission of the red, green and blue filters for red, green and blue of linear sRGB. As on silicon, each filter passes
/// some of the other colours, and red and blue pass less in all. [`colour`] is the inverse.
const FILTERS: [[f64; 3]; 3] = [[0.4125, 0.1144, 0.0231], [0.1340, 0.7120, 0.1540], [0.0300, 0.1820, 0.4380]];

/// The part of the light that the lens loses in the corners.
const SHADING: f64 = 0.3;

/// The light on a sensor: a value for each pixel. 65535 is the light of a white scene behind the green filter in the middle of
/// the lens.
#[derive(Debug)]
pub struct Light {
    width: usize,
    samples: Vec<u16>,
}

/// The conversion from the light behind the filters to colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Colour {
    /// The factors of red, green and blue that make the three equal for white.
    pub white_balance: [f64; 3],
    /// The matrix from the balanced values to linear sRGB. The sum of each row is 1.
    pub matrix: [[f64; 3]; 3],
}

/// The conversion from the light behind the filters to the colours of the scene.
pub fn colour() -> Colour {
    let white_balance = FILTERS.map(|filter| filter.iter().sum::<f64>().recip());
    let [[a, b, c], [d, e, f], [g, h, i]] =
        [0, 1, 2].map(|channel| FILTERS[channel].map(|part| part * white_balance[channel]));
    let determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
    let adjugate = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ];
    Colour { white_balance, matrix: adjugate.map(|row| row.map(|part| part / determinant)) }
}

/// The part of the light that the lens passes. `distance` is the square of the distance from the middle, where 1 is a corner.
pub fn shading(distance: f64) -> f64 {
    1.0 / (1.0 + SHADING / (1.0 - SHADING) * distance)
}

/// The linear light of an 8-bit value of sRGB (IEC 61966-2-1).
fn linear(value: u8) -> f64 {
    let value = f64::from(value) / 255.0;
    if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

impl Light {
    /// The light of a scene on a sensor of this size and phase. `draw` draws the scene line by line, in sRGB with three bytes a
    /// pixel. `lamp` has the red, green and blue of the light on the scene. If it is `shaded`, the lens loses light towards the
    /// corners. None if `abort` was set meanwhile.
    pub fn new(
        [width, height]: [u32; 2],
        phase: Phase,
        lamp: [f64; 3],
        shaded: bool,
        draw: impl Fn(u32, &mut [u8]),
        abort: &AtomicBool,
    ) -> Option<Self> {
        let whole = Rect { left: 0, top: 0, width, height };
        Self::on_part([width, height], whole, phase, lamp, shaded, draw, abort)
    }

    /// The light on `part` of a sensor, as [`new`](Self::new) has it on the whole. `part` lies within the sensor, and begins at even
    /// numbers.
    pub fn on_part(
        [width, height]: [u32; 2],
        part: Rect,
        phase: Phase,
        lamp: [f64; 3],
        shaded: bool,
        draw: impl Fn(u32, &mut [u8]),
        abort: &AtomicBool,
    ) -> Option<Self> {
        let decode: Vec<f64> = (0..=255).map(linear).collect();
        let filters =
            [0, 1, 2].map(|filter| [0, 1, 2].map(|channel| FILTERS[filter][channel] * lamp[channel]));
        let square = |at: u32, length: u32| (2.0 * f64::from(at) / f64::from(length - 1) - 1.0).powi(2);
        let columns = part.left as usize..(part.left + part.width) as usize;
        let across: Vec<f64> = (part.left..part.left + part.width).map(|x| square(x, width)).collect();
        let (wide, high) = (f64::from(width).powi(2), f64::from(height).powi(2));
        let mut rgb = vec![0; width as usize * 3];
        let mut samples = Vec::with_capacity(columns.len() * part.height as usize);
        for y in part.top..part.top + part.height {
            if abort.load(Ordering::Relaxed) {
                return None;
            }
            draw(y, &mut rgb);
            let down = square(y, height);
            let [right, below] = phase.shift().map(usize::from);
            let line = (y as usize + below) % 2;
            let filters = [right, 1 - right].map(|column| filters[column + line]);
            let seen = &rgb.as_chunks::<3>().0[columns.clone()];
            for ((rgb, across), filter) in seen.iter().zip(&across).zip(filters.iter().cycle()) {
                let passed: f64 =
                    rgb.iter().zip(filter).map(|(&value, part)| decode[usize::from(value)] * part).sum();
                let lens = if shaded { shading((across * wide + down * high) / (wide + high)) } else { 1.0 };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the cast saturates, as a sensor does"
                )]
                samples.push((passed * lens * 65_535.0).round() as u16);
            }
        }
        Some(Self { width: columns.len(), samples })
    }

    /// The values of line `y`.
    pub(super) fn line(&self, y: usize) -> &[u16] {
        &self.samples[y * self.width..][..self.width]
    }

    /// The number of values of a line, and the number of lines.
    pub(super) fn size(&self) -> [usize; 2] {
        [self.width, self.samples.len() / self.width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(rgb: [u8; 3], shaded: bool) -> Light {
        let draw = |_, line: &mut [u8]| line.as_chunks_mut().0.fill(rgb);
        Light::new([64, 48], Phase::Rggb, [1.0; 3], shaded, draw, &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn colours_come_back() {
        let Colour { white_balance, matrix } = colour();
        for row in matrix {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{matrix:?}");
        }
        for rgb in [[255, 255, 255], [200, 30, 90], [0, 128, 255]] {
            let light = flat(rgb, false);
            let seen = [light.line(0)[0], light.line(0)[1], light.line(1)[1]];
            let balanced =
                [0, 1, 2].map(|channel| f64::from(seen[channel]) / 65_535.0 * white_balance[channel]);
            for (row, value) in matrix.iter().zip(rgb) {
                let back: f64 = row.iter().zip(balanced).map(|(part, seen)| part * seen).sum();
                assert!((back - linear(value)).abs() < 1e-3, "{rgb:?}: {back} instead of {}", linear(value));
            }
        }
        assert_eq!(flat([255; 3], false).line(0)[1], 65_535);
    }

    #[test]
    fn corners_are_darker_and_the_middle_is_not() {
        let light = flat([128; 3], true);
        let green =
            |x: usize, y: usize| f64::from(light.line(y)[x]) / f64::from(flat([128; 3], false).line(y)[x]);
        assert!((green(1, 0) - (1.0 - SHADING)).abs() < 0.02, "{}", green(1, 0));
        assert!(green(33, 24) > 0.999);
    }

    #[test]
    fn a_part_has_the_light_of_the_whole() {
        let size = [64, 48];
        let draw = |y: u32, line: &mut [u8]| {
            line.iter_mut().zip(0_u32..).for_each(|(value, x)| *value = (x * 3 + y * 5).to_le_bytes()[0]);
        };
        let never = AtomicBool::new(false);
        let whole = Light::new(size, Phase::Grbg, [1.0, 0.9, 0.8], true, draw, &never).unwrap();
        let part = Rect { left: 10, top: 4, width: 32, height: 20 };
        let light = Light::on_part(size, part, Phase::Grbg, [1.0, 0.9, 0.8], true, draw, &never).unwrap();
        assert_eq!(light.size(), [32, 20]);
        for y in 0..20 {
            assert_eq!(light.line(y), &whole.line(y + 4)[10..42]);
        }
    }

    #[test]
    fn filters_lie_as_the_phase_says() {
        let draw = |_, line: &mut [u8]| line.as_chunks_mut().0.fill([255, 0, 0]);
        for (phase, red) in
            [(Phase::Rggb, [0, 0]), (Phase::Grbg, [1, 0]), (Phase::Gbrg, [0, 1]), (Phase::Bggr, [1, 1])]
        {
            let light = Light::new([64, 48], phase, [1.0; 3], false, draw, &AtomicBool::new(false)).unwrap();
            let most = [[0, 0], [1, 0], [0, 1], [1, 1]].into_iter().max_by_key(|&[x, y]| light.line(y)[x]);
            assert_eq!(most, Some(red), "{phase:?}");
        }
    }

    #[test]
    fn drawing_ends_when_aborted() {
        assert!(
            Light::new([64, 48], Phase::Rggb, [1.0; 3], false, |_, _| (), &AtomicBool::new(true)).is_none()
        );
    }
}
