//! The keys for what a sensor looks at and how good it is, which devices with a sensor share.

use media::{Pattern, SensorSpec};

use crate::platform::{
    Key,
    options::{Given, OptionError},
};

/// The keys of [`SceneOptions`].
pub const SCENE_KEYS: &[Key] = &[
    Key {
        name: "scene",
        value: "NAME|FILE",
        meaning: "what the sensor looks at: bars (default), gradient, checker, box, zone-plate, noise, flat;\n\
                  or a .png, a .y4m clip, or frames of a raw node in NAME.640x480.RG10.raw",
    },
    NOISE_KEY,
    DEFECTS_KEY,
    LAMP_KEY,
];

/// The key for the noise of a sensor.
pub const NOISE_KEY: Key =
    Key { name: "noise", value: "yes|no", meaning: "shot and read noise (default yes)" };

/// The key for the defect pixels of a sensor.
pub const DEFECTS_KEY: Key =
    Key { name: "defects", value: "N", meaning: "defect pixels in a million (default 0)" };

/// The key for the light on the scene.
pub const LAMP_KEY: Key = Key {
    name: "lamp",
    value: "R:G:B",
    meaning: "colour of the light on the scene, relative to daylight (default 1:1:1)",
};

/// What a sensor looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SceneOptions {
    /// The pattern, if there is no scene file.
    pub pattern: Pattern,
    /// The scene file, and the properties of the sensor.
    pub sensor: SensorSpec,
}

impl SceneOptions {
    /// Takes one of the [`SCENE_KEYS`]; false for another key.
    ///
    /// # Errors
    /// For a value that the key cannot have.
    pub fn set(&mut self, given: Given<'_>) -> Result<bool, OptionError> {
        if given.key != "scene" {
            return set_sensor(&mut self.sensor, given);
        }
        if is_file(given.value) {
            self.sensor.scene_file = Some(given.value.into());
        } else {
            self.pattern = pattern(given)?;
        }
        Ok(true)
    }
}

/// Whether the value of `scene` names a file.
pub fn is_file(value: &str) -> bool {
    value.contains('.')
}

/// The pattern that the value of `scene` names.
///
/// # Errors
/// For an unknown name.
pub fn pattern(given: Given<'_>) -> Result<Pattern, OptionError> {
    given.value.parse().map_err(|()| {
        given.invalid("bars, gradient, checker, box, zone-plate, noise, flat, or a file .png, .y4m or .raw")
    })
}

/// Takes `noise`, `defects` or `lamp` into `spec`; false for another key.
///
/// # Errors
/// For a value that the key cannot have.
pub fn set_sensor(spec: &mut SensorSpec, given: Given<'_>) -> Result<bool, OptionError> {
    match given.key {
        "noise" => spec.noise = given.flag()?,
        "defects" => {
            spec.defects = given.number(|defects| *defects <= 100_000, "a number up to 100000")?;
        }
        "lamp" => spec.lamp = lamp(given)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The value of `lamp`, in thousandths.
///
/// # Errors
/// For a value that the key cannot have.
pub fn lamp(given: Given<'_>) -> Result<[u32; 3], OptionError> {
    let part = |part: &str| {
        let part: f64 = part.parse().ok()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "10 to 10000")]
        (0.01..=10.0).contains(&part).then_some((part * 1000.0).round() as u32)
    };
    let parts: Option<Vec<u32>> = given.value.split(':').map(part).collect();
    parts
        .and_then(|parts| parts.try_into().ok())
        .ok_or_else(|| given.invalid("three numbers from 0.01 to 10, as in 1.4:1:0.6"))
}
