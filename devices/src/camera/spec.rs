//! What `--camera` asks for.

use std::str::FromStr;

use crate::media::{Pattern, Recording, SensorSpec};

/// When a frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timing {
    /// At each tick of the frame clock; without a buffer the frame is dropped, as hardware does.
    #[default]
    Free,
    /// As soon as there is a buffer for it: reproducible, nothing is dropped.
    Stall,
}

/// A camera, as `--camera` describes it: any of the fields of [`CameraSpec::HELP`], separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraSpec {
    /// The scene that the sensor looks at until the guest selects another.
    pub scene: Pattern,
    /// When a frame begins.
    pub timing: Timing,
    /// The frame clock's period in microseconds until the guest programs another.
    pub frame_interval: u32,
    /// Name of the CMA window that the camera's buffers come from, or [`CameraSpec::NO_WINDOW`]; none: the default window.
    pub window: Option<String>,
    /// The NUMA node that the guest is told it belongs to.
    pub node: Option<u32>,
    /// Address lines of the camera's DMA.
    pub address_bits: u32,
    /// Whether the guest is told that the camera's DMA is coherent with its caches; where it is not, an arm64 guest maps
    /// the buffers uncached.
    pub coherent: bool,
    /// Seed of the noise; none: the machine's.
    pub seed: Option<u64>,
    /// Sensor and ISP; none: the test pattern generator, which draws pixels as they go out.
    pub sensor: Option<SensorSpec>,
    /// Where its processed frames are recorded.
    pub record: Option<Recording>,
}

impl Default for CameraSpec {
    fn default() -> Self {
        Self {
            scene: Pattern::default(),
            timing: Timing::default(),
            frame_interval: 33_333,
            window: None,
            node: None,
            address_bits: 32,
            coherent: true,
            seed: None,
            sensor: None,
            record: None,
        }
    }
}

/// Why a camera cannot be as asked for.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum CameraSpecError {
    /// A field that does not exist.
    #[error(
        "a camera has no '{0}'; it has scene, timing, fps, window, node, address-bits, coherent, seed, record, sensor, \
         noise, defects, lamp, auto and threads, each as NAME=VALUE"
    )]
    Field(String),
    /// A field given twice.
    #[error("the camera's {0} is given more than once; give it once")]
    Repeated(String),
    /// A value that the field cannot have.
    #[error("the camera's {field} cannot be '{value}'; valid is {valid}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it can be.
        valid: &'static str,
    },
}

impl CameraSpec {
    /// `window=` of a camera that has none: its driver is told of no window, and it reaches all memory.
    pub const NO_WINDOW: &str = "none";

    /// The fields, for a command's help.
    pub const HELP: &str = "\
scene=NAME         what the sensor looks at: bars (default), gradient, checker, box, zone-plate, noise, flat
timing=free|stall  free (default): the frame clock runs, a frame without a buffer is dropped;
                   stall: a frame is made as soon as there is a buffer, so that runs can be repeated
fps=N              frames a second of the frame clock, 0.1 to 1000 (default 30); a sensor makes at most 818
window=NAME        CMA window that the buffers come from (default: the default window);
                   none: wherever the guest's kernel takes them from, and the camera writes to all memory
node=N             NUMA node that the guest is told it belongs to (default: it is told of none)
address-bits=N     address lines of the camera's DMA, 1 to 64 (default 32)
coherent=yes|no    whether the guest is told that this DMA goes through its caches (default yes)
seed=N             seed of everything random (default: the machine's)
record=FILE        record the processed frames that were written to guest memory: as a clip .y4m, or as pictures .png,
                   whose number, counted from 0, stands for a %05d in FILE, or before .png where there is none. Frames
                   of another size or rate begin another clip, FILE-2.y4m. With timing=stall the camera waits for the
                   disk; with timing=free a frame that the disk has no time for is left out
sensor=yes|no      yes: frames come from a model of an image sensor by way of an ISP; no (default, but for a scene
                   from a file): from a generator of test patterns. What follows is of the sensor, and makes it yes
scene=FILE         a .png, a .y4m clip, or a raw node's frames in NAME.640x480.RG10.raw, for it to look at
noise=yes|no       shot and read noise (default yes)
defects=N          defect pixels in a million (default 0)
lamp=R:G:B         light on the scene, in parts of daylight (default 1:1:1)
auto=yes|no        yes: exposure and white balance follow the scene;
                   no (default): the exposure is the guest's to control, 10 ms at first, and the balance for daylight
threads=N          threads of the ISP, 1 to 16 (default 1)";
}

impl FromStr for CameraSpec {
    type Err = CameraSpecError;

    fn from_str(text: &str) -> Result<Self, CameraSpecError> {
        let mut spec = Self::default();
        let mut seen = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (field, value) = part.split_once('=').ok_or_else(|| CameraSpecError::Field(part.into()))?;
            if seen.contains(&field) {
                return Err(CameraSpecError::Repeated(field.into()));
            }
            seen.push(field);
            spec.set(field, value)?;
        }
        Ok(spec)
    }
}

/// `R:G:B` in thousandths.
fn lamp(value: &str) -> Option<[u32; 3]> {
    let part = |part: &str| {
        let part: f64 = part.parse().ok()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "10 to 10000")]
        (0.01..=10.0).contains(&part).then_some((part * 1000.0).round() as u32)
    };
    let parts: Vec<u32> = value.split(':').map(part).collect::<Option<_>>()?;
    parts.try_into().ok()
}

impl CameraSpec {
    /// The sensor, which there is from now on.
    fn sensor(&mut self) -> &mut SensorSpec {
        self.sensor.get_or_insert_default()
    }

    fn set(&mut self, field: &str, value: &str) -> Result<(), CameraSpecError> {
        let invalid = |field, valid| CameraSpecError::Value { field, value: value.into(), valid };
        let flag = |field| match value {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(invalid(field, "yes or no")),
        };
        match field {
            "scene" if value.contains('.') => self.sensor().scene_file = Some(value.into()),
            "scene" => {
                self.scene = value.parse().map_err(|()| {
                    invalid(
                        "scene",
                        "bars, gradient, checker, box, zone-plate, noise, flat, or a file .png, .y4m or .raw",
                    )
                })?;
            }
            "sensor" if flag("sensor")? => drop(self.sensor()),
            "sensor" => self.sensor = None,
            "noise" => self.sensor().noise = flag("noise")?,
            "auto" => self.sensor().automatic = flag("auto")?,
            "defects" => {
                let defects = value.parse().ok().filter(|defects| *defects <= 100_000);
                self.sensor().defects = defects.ok_or_else(|| invalid("defects", "a number up to 100000"))?;
            }
            "lamp" => {
                let lamp = lamp(value)
                    .ok_or_else(|| invalid("lamp", "three numbers from 0.01 to 10, as in 1.4:1:0.6"))?;
                self.sensor().lamp = lamp;
            }
            "threads" => {
                let threads = value.parse().ok().filter(|threads| (1..=16).contains(threads));
                self.sensor().threads = threads.ok_or_else(|| invalid("threads", "a number from 1 to 16"))?;
            }
            "timing" => {
                self.timing = match value {
                    "free" => Timing::Free,
                    "stall" => Timing::Stall,
                    _ => return Err(invalid("timing", "free or stall")),
                };
            }
            "fps" => {
                let fps = value.parse().ok().filter(|fps| (0.1..=1000.0).contains(fps));
                let fps: f64 = fps.ok_or_else(|| invalid("fps", "a number from 0.1 to 1000"))?;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "1000 to 10000000"
                )]
                let interval = (1e6 / fps).round() as u32;
                self.frame_interval = interval;
            }
            "window" if value.is_empty() => return Err(invalid("window", "the name of a CMA window")),
            "window" => self.window = Some(value.into()),
            "node" => {
                let node = value.parse().ok();
                self.node = Some(node.ok_or_else(|| invalid("node", "the number of a NUMA node"))?);
            }
            "address-bits" => {
                let bits = value.parse().ok().filter(|bits| (1..=64).contains(bits));
                self.address_bits = bits.ok_or_else(|| invalid("address-bits", "a number from 1 to 64"))?;
            }
            "record" => {
                let recording = Recording::named(value);
                self.record = Some(recording.ok_or_else(|| {
                    invalid("record", "a file .y4m, or .png with at most one %d or, for N digits, %0Nd")
                })?);
            }
            "coherent" => self.coherent = flag("coherent")?,
            "seed" => {
                let seed = value.parse().ok();
                self.seed = Some(seed.ok_or_else(|| invalid("seed", "a whole number below 2^64"))?);
            }
            _ => return Err(CameraSpecError::Field(field.into())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                window: Some("isp".into()),
                node: Some(1),
                address_bits: 36,
                coherent: false,
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
