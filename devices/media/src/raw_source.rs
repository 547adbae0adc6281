//! A scene on the array of an image sensor, of which its registers choose the part that is read out: raw lines, without an ISP.

use std::sync::atomic::AtomicBool;

use super::{
    phase::Phase,
    pipeline::SensorSpec,
    rect::Rect,
    scene::{Pattern, Scene, SceneSettings},
    scene_file::{SceneFile, SceneFileError},
    sensor::{Light, Sensor, Settings},
};

/// What the light of a frame depends on.
#[derive(Debug, PartialEq, Eq)]
struct LightKey {
    part: Rect,
    /// The phase of the array.
    phase: Phase,
    /// The number of the picture in the scene file.
    picture: usize,
}

/// A scene behind a lens, on the whole array of a sensor.
#[derive(Debug)]
pub struct RawSource {
    lamp: [f64; 3],
    seed: u64,
    array: [u32; 2],
    scene: SceneSettings,
    scene_file: Option<SceneFile>,
    sensor: Sensor,
    /// The light on a part of the array.
    light: Option<(LightKey, Light)>,
}

impl RawSource {
    /// A sensor with an array of this width and height that looks at `pattern`, or at the scene file of `spec`.
    ///
    /// # Errors
    /// If the scene file cannot be used.
    pub fn new(
        spec: &SensorSpec,
        pattern: Pattern,
        array: [u32; 2],
        seed: u64,
    ) -> Result<Self, SceneFileError> {
        Ok(Self {
            lamp: relative(spec.lamp),
            seed,
            array,
            scene: SceneSettings { pattern, ..SceneSettings::default() },
            scene_file: spec.scene_file.as_deref().map(SceneFile::open).transpose()?,
            sensor: Sensor::new(seed, spec.noise, spec.defects),
            light: None,
        })
    }

    /// Changes the colour of the light on the scene, in thousandths of daylight, from the frame on that is exposed next.
    pub fn set_lamp(&mut self, lamp: [u32; 3]) {
        self.lamp = relative(lamp);
        self.light = None;
    }

    /// Lets the light of frame `number` fall on the part of the array that `settings` read out. The frame has this phase. False if
    /// `abort` was set meanwhile.
    ///
    /// # Panics
    /// If that part reaches beyond the array.
    pub fn expose(&mut self, settings: &Settings, phase: Phase, number: u32, abort: &AtomicBool) -> bool {
        let [left, top] = settings.crop;
        let [width, height] = settings.size.map(|pixels| pixels * settings.binning);
        let part = Rect { left, top, width, height };
        let picture = self.scene_file.as_ref().map_or(0, |file| number as usize % file.count());
        let key = LightKey { part, phase: settings.phase(phase), picture };
        if self.light.as_ref().is_some_and(|(of, _)| *of == key) {
            return true;
        }
        let scene = match &self.scene_file {
            Some(file) => {
                let Some(picture) = file.scaled(picture, self.array, abort) else { return false };
                Scene::picture(self.scene, self.array, picture)
            }
            None => Scene::drawn(self.scene, self.array, self.seed),
        };
        let draw = |y: u32, line: &mut [u8]| scene.line(y, line);
        let light = Light::on_part(self.array, part, key.phase, self.lamp, true, draw, abort);
        self.light = light.map(|light| (key, light));
        self.light.is_some()
    }

    /// Reads line `y` of frame `number` into `samples`, of [`sensor::BITS`](super::sensor::BITS) bits each. [`expose`](Self::expose)
    /// was called with the same settings.
    ///
    /// # Panics
    /// If the length of `samples` is not that of a line.
    pub fn read_line(&self, settings: &Settings, number: u32, y: u32, samples: &mut [u16]) {
        if let Some((_, light)) = &self.light {
            self.sensor.read_line(light, &Settings { crop: [0, 0], ..*settings }, number, y, samples);
        }
    }
}

/// Thousandths of daylight as factors.
fn relative(lamp: [u32; 3]) -> [f64; 3] {
    lamp.map(|thousandths| f64::from(thousandths) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::BLACK;

    const ARRAY: [u32; 2] = [128, 96];

    fn frame(source: &mut RawSource, settings: &Settings) -> Vec<Vec<u16>> {
        assert!(source.expose(settings, settings.phase(Phase::Rggb), 0, &AtomicBool::new(false)));
        let line = |y| {
            let mut samples = vec![0; settings.size[0] as usize];
            source.read_line(settings, 0, y, &mut samples);
            samples
        };
        (0..settings.size[1]).map(line).collect()
    }

    #[test]
    fn a_crop_is_the_part_of_the_whole_array() {
        let spec = SensorSpec { noise: false, ..SensorSpec::default() };
        let mut source = RawSource::new(&spec, Pattern::Gradient, ARRAY, 1).unwrap();
        let whole = Settings {
            crop: [0, 0],
            size: ARRAY,
            binning: 1,
            flip_x: false,
            flip_y: false,
            exposure_ns: 10_000_000,
            analogue_gain: 256,
            digital_gain: 256,
            black: BLACK,
        };
        let all = frame(&mut source, &whole);
        let part = Settings { crop: [32, 16], size: [64, 48], ..whole };
        let cropped = frame(&mut source, &part);
        for (line, y) in cropped.iter().zip(16..) {
            assert_eq!(line[..], all[y][32..96]);
        }
        let turned = frame(&mut source, &Settings { flip_x: true, flip_y: true, ..part });
        assert!(turned.iter().rev().zip(&cropped).all(|(line, plain)| line.iter().rev().eq(plain)));
        let binned = frame(&mut source, &Settings { size: [32, 24], binning: 2, ..part });
        assert_eq!((binned.len(), binned[0].len()), (24, 32));
    }

    #[test]
    fn another_lamp_lights_the_next_frame() {
        let settings = Settings {
            crop: [0, 0],
            size: ARRAY,
            binning: 1,
            flip_x: false,
            flip_y: false,
            exposure_ns: 5_000_000,
            analogue_gain: 256,
            digital_gain: 256,
            black: BLACK,
        };
        let lit = |lamp| SensorSpec { noise: false, lamp, ..SensorSpec::default() };
        let mut source = RawSource::new(&lit([1000; 3]), Pattern::Gradient, ARRAY, 1).unwrap();
        let before = frame(&mut source, &settings);
        source.set_lamp([500, 1000, 2000]);
        let after = frame(&mut source, &settings);
        assert_ne!(after, before);
        let mut of_the_lamp = RawSource::new(&lit([500, 1000, 2000]), Pattern::Gradient, ARRAY, 1).unwrap();
        assert_eq!(after, frame(&mut of_the_lamp, &settings));
    }
}
