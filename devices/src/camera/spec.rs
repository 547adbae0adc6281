//! The options of `--device camera`.

use std::str::FromStr;

use crate::{
    platform::{
        DmaNeeds, Key,
        options::{self, DMA_KEYS, Given, OptionError},
    },
    sensors::options::{DEFECTS_KEY, LAMP_KEY, NOISE_KEY, is_file, pattern, set_sensor},
};
use media::{Pattern, Recording, SensorSpec};

/// When a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timing {
    /// At each tick of the frame clock. Without a buffer the frame is dropped, as in hardware.
    #[default]
    Free,
    /// As soon as there is a buffer for it. This is reproducible, and no frame is dropped.
    Stall,
}

/// The specification of a camera, with any of the `CAMERA_KEYS`, [`DMA_KEYS`] and `SENSOR_KEYS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraSpec {
    /// The scene that the sensor looks at until the guest selects another.
    pub scene: Pattern,
    /// When a frame begins.
    pub timing: Timing,
    /// The frame clock's period in microseconds until the guest programs another.
    pub frame_interval: u32,
    /// The access to guest memory.
    pub dma: DmaNeeds,
    /// Seed of the noise. None: the machine's seed.
    pub seed: Option<u64>,
    /// Sensor and ISP. None: the generator of test patterns, which draws pixels in the format of the frame.
    pub sensor: Option<SensorSpec>,
    /// The recording of its processed frames.
    pub record: Option<Recording>,
}

impl Default for CameraSpec {
    fn default() -> Self {
        Self {
            scene: Pattern::default(),
            timing: Timing::default(),
            frame_interval: 33_333,
            dma: DmaNeeds::default(),
            seed: None,
            sensor: None,
            record: None,
        }
    }
}

/// The keys of every camera.
pub(super) const CAMERA_KEYS: &[Key] = &[
    Key {
        name: "scene",
        value: "NAME",
        meaning: "what the sensor looks at: bars (default), gradient, checker, box, zone-plate, noise, flat",
    },
    Key {
        name: "timing",
        value: "free|stall",
        meaning: "free (default): a frame clock starts frames, and a frame without a buffer is dropped;\n\
                  stall: a frame starts when the driver has committed a buffer, so runs are reproducible",
    },
    Key {
        name: "fps",
        value: "N",
        meaning: "frames per second of the frame clock, 0.1 to 1000 (default 30); at most 818 with a sensor",
    },
    Key { name: "seed", value: "N", meaning: "seed of everything random (default: the machine's)" },
    Key {
        name: "record",
        value: "FILE",
        meaning: "record the processed frames in guest memory: as a clip (.y4m), or as pictures (.png).\n\
                  %05d in FILE is replaced by the number of the picture, from 0; without it the number is inserted before\n\
                  .png. Frames of another size or rate begin another clip, FILE-2.y4m. With timing=stall the camera waits\n\
                  for the disk; with timing=free it omits frames while the disk is too slow",
    },
];

/// The keys of a camera with a sensor and an ISP. Each of them implies a sensor.
pub(super) const SENSOR_KEYS: &[Key] = &[
    Key {
        name: "sensor",
        value: "yes|no",
        meaning: "yes: frames come from models of an image sensor and an ISP; no (default): from a generator of test\n\
                  patterns. Each of the following keys, and a scene from a file, implies yes",
    },
    Key {
        name: "scene",
        value: "FILE",
        meaning: "what the sensor looks at: a .png, a .y4m clip, or frames of the raw node in NAME.640x480.RG10.raw",
    },
    NOISE_KEY,
    DEFECTS_KEY,
    LAMP_KEY,
    Key {
        name: "auto",
        value: "yes|no",
        meaning: "yes: exposure and white balance follow the scene;\n\
                  no (default): the guest controls the exposure (initially 10 ms), and the white balance is for daylight",
    },
    Key { name: "threads", value: "N", meaning: "threads of the ISP, 1 to 16 (default 1)" },
];

impl FromStr for CameraSpec {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let mut spec = Self::default();
        for (key, value) in options::read("camera", &[CAMERA_KEYS, DMA_KEYS, SENSOR_KEYS], text)? {
            spec.set(Given { device: "camera", key, value })?;
        }
        Ok(spec)
    }
}

impl CameraSpec {
    /// The sensor, which is created if there is none yet.
    fn sensor(&mut self) -> &mut SensorSpec {
        self.sensor.get_or_insert_default()
    }

    fn set(&mut self, given: Given<'_>) -> Result<(), OptionError> {
        if self.dma.set(given)? {
            return Ok(());
        }
        let value = given.value;
        match given.key {
            "scene" if is_file(value) => self.sensor().scene_file = Some(value.into()),
            "scene" => self.scene = pattern(given)?,
            "sensor" if given.flag()? => drop(self.sensor()),
            "sensor" => self.sensor = None,
            "noise" | "defects" | "lamp" => drop(set_sensor(self.sensor(), given)?),
            "auto" => self.sensor().automatic = given.flag()?,
            "threads" => {
                self.sensor().threads =
                    given.number(|threads| (1..=16).contains(threads), "a number from 1 to 16")?;
            }
            "timing" => {
                self.timing = match value {
                    "free" => Timing::Free,
                    "stall" => Timing::Stall,
                    _ => return Err(given.invalid("free or stall")),
                };
            }
            "fps" => {
                let fps: f64 =
                    given.number(|fps| (0.1..=1000.0).contains(fps), "a number from 0.1 to 1000")?;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "1000 to 10000000"
                )]
                let interval = (1e6 / fps).round() as u32;
                self.frame_interval = interval;
            }
            "record" => self.record = Some(given.recording()?),
            "seed" => self.seed = Some(given.number(|_| true, "a whole number below 2^64")?),
            key => unreachable!("{key} is no key of a camera"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::WindowChoice;

    #[test]
    fn any_subset_of_fields() {
        assert_eq!("".parse(), Ok(CameraSpec::default()));
        assert_eq!(
            "scene=zone-plate,timing=stall,fps=29.97,window=isp,node=1,address-bits=36,coherent=no,seed=18446744073709551615"
                .parse(),
            Ok(CameraSpec {
                scene: Pattern::ZonePlate,
                timing: Timing::Stall,
                frame_interval: 33_367,
                dma: DmaNeeds {
                    window: WindowChoice::Named("isp".into()),
                    numa_node: Some(1),
                    address_bits: 36,
                    coherent: false,
                },
                seed: Some(u64::MAX),
                sensor: None,
                record: None,
            })
        );
        let sensor =
            SensorSpec { noise: false, defects: 50, lamp: [1400, 1000, 600], ..SensorSpec::default() };
        let spec = |text: &str| text.parse::<CameraSpec>().unwrap();
        assert_eq!(spec("noise=no,defects=50,lamp=1.4:1:0.6").sensor, Some(sensor));
        let film = SensorSpec { scene_file: Some("a/film.y4m".into()), ..SensorSpec::default() };
        assert_eq!(spec("scene=a/film.y4m").sensor, Some(film));
        assert_eq!(spec("sensor=yes").sensor, Some(SensorSpec::default()));
        let automatic = SensorSpec { automatic: true, threads: 4, ..SensorSpec::default() };
        assert_eq!(spec("auto=yes,threads=4").sensor, Some(automatic));
        assert_eq!("fps=30".parse(), Ok(CameraSpec::default()));
        assert_eq!(spec("record=a/b.y4m").record, Some(Recording::Clip("a/b.y4m".into())));
    }

    #[test]
    fn nonsense_is_refused_with_the_value_and_what_is_valid() {
        for (text, says) in [
            ("scene=stripes", "the camera's scene cannot be 'stripes'; valid is bars, gradient"),
            ("timing=slow", "the camera's timing cannot be 'slow'; valid is free or stall"),
            ("fps=0", "the camera's fps cannot be '0'; valid is a number from 0.1 to 1000"),
            ("fps=nan", "the camera's fps cannot be 'nan'"),
            ("fps=1001", "the camera's fps cannot be '1001'"),
            ("window=", "the camera's window cannot be ''"),
            ("node=two", "the camera's node cannot be 'two'; valid is the number of a NUMA node"),
            ("address-bits=65", "the camera's address-bits cannot be '65'; valid is a number from 1 to 64"),
            ("address-bits=0", "the camera's address-bits cannot be '0'"),
            ("coherent=maybe", "the camera's coherent cannot be 'maybe'; valid is yes or no"),
            ("sensor=ov5640", "the camera's sensor cannot be 'ov5640'; valid is yes or no"),
            ("lamp=1:1", "the camera's lamp cannot be '1:1'; valid is three numbers"),
            ("lamp=1:1:100", "the camera's lamp cannot be '1:1:100'"),
            ("threads=0", "the camera's threads cannot be '0'; valid is a number from 1 to 16"),
            ("defects=100001", "the camera's defects cannot be '100001'"),
            ("record=a.mp4", "the camera's record cannot be 'a.mp4'; valid is a file .y4m, or .png with"),
            ("record=%d-%d.png", "the camera's record cannot be '%d-%d.png'"),
            ("record=%5d.png", "the camera's record cannot be '%5d.png'"),
            ("record=.png", "the camera's record cannot be '.png'"),
            ("seed=-1", "the camera's seed cannot be '-1'"),
            ("size=640x480", "a camera has no 'size'; it has scene, timing"),
            ("bars", "a camera has no 'bars'"),
            ("fps=30,fps=60", "the camera's fps is given more than once"),
        ] {
            let error = text.parse::<CameraSpec>().unwrap_err().to_string();
            assert!(error.starts_with(says), "{text}: {error}");
        }
    }
}
