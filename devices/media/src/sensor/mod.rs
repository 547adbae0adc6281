//! The image sensor: it turns the light on it into lines of raw samples.
//!
//! A pixel goes through these steps: binning, exposure and gains, shot and read noise, black level, quantisation, defects. A
//! line depends only on the settings, the seed, the number of the frame and the number of the line. So lines can be read out in
//! any order, by several threads.

mod light;
mod noise;

pub use light::{Colour, Light, colour, shading};

use super::{
    phase::Phase,
    random::split_mix,
    simd::{Level, kernel},
};
use noise::Noise;

/// The number of bits of a sample. Formats with fewer bits drop the lowest.
pub const BITS: u32 = 12;

/// The usual sample without light, of [`BITS`] bits.
pub const BLACK: u16 = 256;

/// The largest sample.
pub const WHITE: u16 = (1 << BITS) - 1;

/// The number of electrons that fill a pixel. At a gain of 1 they make the largest sample.
const FULL_WELL: f32 = 10_000.0;

/// The standard deviation of the read noise, in electrons.
const READ_NOISE: f32 = 3.0;

/// The exposure time in nanoseconds at which a white scene makes 0.9 of the largest sample, at gains of 1.
pub const REFERENCE_NS: u32 = 10_000_000;
const REFERENCE_LEVEL: f32 = 0.9;

/// The settings of the sensor. Positions are in pixels of the whole array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The left and the upper edge of the part that is read out, both even.
    pub crop: [u32; 2],
    /// Width and height of a frame, both even.
    pub size: [u32; 2],
    /// The number of pixels of a colour, in each direction, that are combined to one: 1, 2 or 4.
    pub binning: u32,
    /// Lines are read from right to left.
    pub flip_x: bool,
    /// The lowest line is read first.
    pub flip_y: bool,
    /// Exposure time in nanoseconds.
    pub exposure_ns: u32,
    /// Gain before quantisation, in 1/256.
    pub analogue_gain: u32,
    /// Gain after quantisation, in 1/256.
    pub digital_gain: u32,
    /// The sample without light, of [`BITS`] bits.
    pub black: u16,
}

impl Settings {
    /// The phase of the frames of a sensor whose array has the phase `of`, and the phase of the array whose frames have it. A flip
    /// reads lines of even length from the other end, so that they begin with the other colour.
    pub fn phase(&self, of: Phase) -> Phase {
        let [x, y] = of.shift();
        match (x ^ self.flip_x, y ^ self.flip_y) {
            (false, false) => Phase::Rggb,
            (true, false) => Phase::Grbg,
            (false, true) => Phase::Gbrg,
            (true, true) => Phase::Bggr,
        }
    }
}

/// The number of samples that are processed together, so that they stay in registers and cache. It is even.
const CHUNK: usize = 256;

/// An image sensor.
#[derive(Debug)]
pub struct Sensor {
    noise: Option<Noise>,
    seed: u64,
    /// Defect pixels in a million.
    defects: u32,
    level: Level,
}

impl Sensor {
    /// A sensor in which `defects` in a million pixels always show black or white. It has noise if it is `noisy`. Defects and
    /// noise are a function of `seed`.
    pub fn new(seed: u64, noisy: bool, defects: u32) -> Self {
        Self { noise: noisy.then(|| Noise::new(seed)), seed, defects, level: Level::best() }
    }

    /// Reads line `y` of frame `sequence` into `samples`, of [`BITS`] bits each.
    ///
    /// # Panics
    /// If `settings` reach beyond the light, or if the length of `samples` is not that of a line.
    pub fn read_line(&self, light: &Light, settings: &Settings, sequence: u32, y: u32, samples: &mut [u16]) {
        assert_eq!(samples.len(), settings.size[0] as usize, "the samples of a line");
        let row = if settings.flip_y { settings.size[1] - 1 - y } else { y };
        let noise = self.noise.as_ref().map(|noise| noise.line(sequence, y));
        let gain = settings.analogue_gain as f32 * settings.digital_gain as f32 / 65_536.0;
        let exposure = settings.exposure_ns as f32 / REFERENCE_NS as f32 * REFERENCE_LEVEL * gain / 65_535.0;
        // The variance of N electrons is N. Binned pixels have more electrons together.
        let shot = gain / (FULL_WELL * (settings.binning * settings.binning) as f32);
        let read = (READ_NOISE * gain / FULL_WELL).powi(2);
        let black = f32::from(settings.black);
        for (chunk, samples) in samples.chunks_mut(CHUNK).enumerate() {
            let start = chunk * CHUNK;
            let mut values = [0.0; CHUNK];
            let values = &mut values[..samples.len()];
            collect(self.level, light, settings, row, start, values);
            match noise {
                Some(noise) => {
                    let variance = [shot, read];
                    sample_noisily(self.level, values, exposure, black, &noise[start..], variance, samples);
                }
                None => sample(self.level, values, exposure, black, samples),
            }
        }
        self.spoil(row, settings.black, samples);
        if settings.flip_x {
            samples.reverse();
        }
    }

    /// Inserts the defect pixels of a line.
    fn spoil(&self, row: u32, black: u16, samples: &mut [u16]) {
        if self.defects == 0 || samples.is_empty() {
            return;
        }
        // A line has the expected number, rounded down, and one more with the probability that makes the mean right.
        let random = |index: u64| split_mix(self.seed ^ 0x00de_fec7, u64::from(row) << 32 | index);
        let expected = samples.len() as u64 * u64::from(self.defects);
        let count = expected / 1_000_000 + u64::from(random(0) % 1_000_000 < expected % 1_000_000);
        for index in 1..=count {
            let value = random(index);
            let at = usize::try_from((value >> 1) % samples.len() as u64).unwrap_or(0);
            samples[at] = if value & 1 == 0 { black } else { WHITE };
        }
    }
}

/// The sample of a value, where 1 is white and `black` the sample of 0.
#[inline(always)]
fn finish(value: f32, black: f32) -> u16 {
    let white = f32::from(WHITE);
    let value = (black + value * (white - black)).clamp(0.0, white);
    // When this is added, the low bits of the float are the nearest integer. Vectors can do that on every machine.
    const WHOLE: f32 = (1 << 23) as f32;
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are the sample")]
    let sample = (value + WHOLE).to_bits() as u16;
    sample
}

kernel! {
    fn sample(light: &[f32], exposure: f32, black: f32, samples: &mut [u16]) {
        for (sample, light) in samples.iter_mut().zip(light) {
            *sample = finish(*light * exposure, black);
        }
    }
}

kernel! {
    /// Samples with noise. Its variance is `variance[0]` times the value, plus `variance[1]`.
    fn sample_noisily(
        light: &[f32],
        exposure: f32,
        black: f32,
        noise: &[f32],
        variance: [f32; 2],
        samples: &mut [u16],
    ) {
        for ((sample, light), noise) in samples.iter_mut().zip(light).zip(noise) {
            let value = *light * exposure;
            *sample = finish(value + noise * (value * variance[0] + variance[1]).sqrt(), black);
        }
    }
}

kernel! {
    fn widen(values: &[u16], out: &mut [f32]) {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = f32::from(value);
        }
    }
}

/// The light of line `row` of a frame, from its sample `start` on, after binning.
fn collect(level: Level, light: &Light, settings: &Settings, row: u32, start: usize, out: &mut [f32]) {
    let Settings { crop, size, binning, .. } = *settings;
    let [x, y] = crop.map(|edge| edge as usize);
    let (row, binning) = (row as usize, binning as usize);
    let [width, height] = light.size();
    assert!(x + size[0] as usize * binning <= width && y + size[1] as usize * binning <= height);
    let x = x + start * binning;
    if binning == 1 {
        return widen(level, &light.line(y + row)[x..], out);
    }
    // Pixels of a colour are two apart, so a group of both colours is twice the binning wide.
    for line in 0..binning {
        let line = &light.line(y + row / 2 * 2 * binning + row % 2 + 2 * line)[x..];
        for (pair, group) in out.as_chunks_mut::<2>().0.iter_mut().zip(line.chunks_exact(2 * binning)) {
            for &[even, odd] in group.as_chunks().0 {
                pair[0] += f32::from(even);
                pair[1] += f32::from(odd);
            }
        }
    }
    let part = ((binning * binning) as f32).recip();
    out.iter_mut().for_each(|sum| *sum *= part);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    const SIZE: [u32; 2] = [64, 48];
    const PLAIN: Settings = Settings {
        crop: [0, 0],
        size: SIZE,
        binning: 1,
        flip_x: false,
        flip_y: false,
        exposure_ns: 10_000_000,
        analogue_gain: 256,
        digital_gain: 256,
        black: BLACK,
    };

    fn light(draw: impl Fn(u32, &mut [u8])) -> Light {
        Light::new(SIZE, Phase::Rggb, [1.0; 3], false, draw, &AtomicBool::new(false)).unwrap()
    }

    fn grey(value: u8) -> Light {
        light(|_, line| line.fill(value))
    }

    fn frame(sensor: &Sensor, light: &Light, settings: &Settings, sequence: u32) -> Vec<Vec<u16>> {
        let width = settings.size[0] as usize;
        let line = |y| {
            let mut samples = vec![0; width];
            sensor.read_line(light, settings, sequence, y, &mut samples);
            samples
        };
        (0..settings.size[1]).map(line).collect()
    }

    fn quiet() -> Sensor {
        Sensor::new(0, false, 0)
    }

    #[test]
    fn exposure_and_gains_multiply_the_light_above_black() {
        let white = |settings: Settings| frame(&quiet(), &grey(255), &settings, 0)[0][1];
        let level = |thousandths: u32| u16::try_from(256 + (3839 * thousandths + 500) / 1000).unwrap();
        assert_eq!(white(PLAIN), level(900));
        assert_eq!(white(Settings { exposure_ns: 5_000_000, ..PLAIN }), level(450));
        assert_eq!(white(Settings { exposure_ns: 2_500_000, analogue_gain: 512, ..PLAIN }), level(450));
        assert_eq!(white(Settings { digital_gain: 1024, ..PLAIN }), WHITE);
        assert_eq!(white(Settings { exposure_ns: 0, ..PLAIN }), BLACK);
    }

    #[test]
    fn noise_grows_with_the_light() {
        let deviation = |value, settings: Settings| {
            let lines = frame(&Sensor::new(1, true, 0), &grey(value), &settings, 3);
            // Only green pixels: the others are darker.
            let green = lines.iter().zip(0..).flat_map(|(line, y)| line.iter().skip(1 - y % 2).step_by(2));
            let green: Vec<f64> = green.map(|&sample| f64::from(sample)).collect();
            let mean = green.iter().sum::<f64>() / green.len() as f64;
            (green.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / green.len() as f64).sqrt()
        };
        // 9000 of 10000 electrons have a deviation of 95, which is 36.4 samples. Without light there is only read noise.
        assert!((deviation(255, PLAIN) - 36.4).abs() < 2.0, "{}", deviation(255, PLAIN));
        let dark = deviation(0, PLAIN);
        assert!((dark - 1.15).abs() < 0.15, "{dark}");
        let amplified = Settings { exposure_ns: 2_500_000, analogue_gain: 1024, ..PLAIN };
        assert!((deviation(255, amplified) - 72.8).abs() < 4.0, "{}", deviation(255, amplified));
    }

    #[test]
    fn the_same_seed_and_frame_have_the_same_noise() {
        let noisy = |seed, sequence| frame(&Sensor::new(seed, true, 100), &grey(99), &PLAIN, sequence);
        assert_eq!(noisy(1, 5), noisy(1, 5));
        assert_ne!(noisy(1, 5), noisy(1, 6));
        assert_ne!(noisy(1, 5), noisy(2, 5));
    }

    #[test]
    fn flips_turn_the_picture_and_the_phase() {
        let light = light(|y, line| {
            for (pixel, x) in line.as_chunks_mut::<3>().0.iter_mut().zip(0_u32..) {
                pixel.fill((x * 2 + y).to_le_bytes()[0]);
            }
        });
        let plain = frame(&quiet(), &light, &PLAIN, 0);
        let turned = Settings { flip_x: true, flip_y: true, ..PLAIN };
        let mut back = frame(&quiet(), &light, &turned, 0);
        back.reverse();
        back.iter_mut().for_each(|line| line.reverse());
        assert_eq!(back, plain);
        let phase = |settings: Settings| settings.phase(Phase::Rggb);
        assert_eq!((phase(PLAIN), phase(turned)), (Phase::Rggb, Phase::Bggr));
        assert_eq!(phase(Settings { flip_x: true, ..PLAIN }), Phase::Grbg);
        assert_eq!(turned.phase(Phase::Gbrg), Phase::Grbg);
    }

    #[test]
    fn binned_pixels_are_means_of_their_colour() {
        let binned = Settings { size: [32, 24], binning: 2, ..PLAIN };
        let lines = frame(&quiet(), &grey(255), &binned, 0);
        let plain = frame(&quiet(), &grey(255), &PLAIN, 0);
        for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert_eq!(lines[y][x], plain[y][x]);
        }
        // Columns 0 to 3 are white, the others black. They are the first group of two pixels of each colour.
        let edge = light(|_, line| {
            for (pixel, x) in line.as_chunks_mut::<3>().0.iter_mut().zip(0..) {
                pixel.fill(if x < 4 { 255 } else { 0 });
            }
        });
        let lines = frame(&quiet(), &edge, &binned, 0);
        assert_eq!(lines[0][..4], [plain[0][0], plain[0][1], BLACK, BLACK]);
        let cropped = Settings { crop: [4, 2], size: [16, 16], ..PLAIN };
        assert_eq!(frame(&quiet(), &edge, &cropped, 0)[0][0], BLACK);
    }

    #[test]
    fn defects_stay_where_they_are() {
        let spoiled = |sequence| frame(&Sensor::new(7, false, 10_000), &grey(128), &PLAIN, sequence);
        let good = frame(&quiet(), &grey(128), &PLAIN, 0);
        assert_eq!(spoiled(0), spoiled(1));
        let bad =
            spoiled(0).iter().flatten().zip(good.iter().flatten()).filter(|(bad, good)| bad != good).count();
        assert!((15..50).contains(&bad), "{bad} of 3072");
    }
}
