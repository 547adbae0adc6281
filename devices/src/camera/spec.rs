//! What `--camera` asks for.

use std::str::FromStr;

use super::scene::Pattern;

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
        }
    }
}

/// Why a camera cannot be as asked for.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum CameraSpecError {
    /// A field that does not exist.
    #[error(
        "a camera has no '{0}'; it has scene, timing, fps, window, node, address-bits, coherent and seed, each as NAME=VALUE"
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
fps=N              frames a second of the frame clock, 0.1 to 1000 (default 30)
window=NAME        CMA window that the buffers come from (default: the default window);
                   none: wherever the guest's kernel takes them from, and the camera writes to all memory
node=N             NUMA node that the guest is told it belongs to (default: it is told of none)
address-bits=N     address lines of the camera's DMA, 1 to 64 (default 32)
coherent=yes|no    whether the guest is told that this DMA goes through its caches (default yes)
seed=N             seed of the noise scene (default: the machine's)";
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

impl CameraSpec {
    fn set(&mut self, field: &str, value: &str) -> Result<(), CameraSpecError> {
        let invalid = |field, valid| CameraSpecError::Value { field, value: value.into(), valid };
        match field {
            "scene" => {
                self.scene = value.parse().map_err(|()| {
                    invalid("scene", "bars, gradient, checker, box, zone-plate, noise or flat")
                })?;
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
            "coherent" => {
                self.coherent = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(invalid("coherent", "yes or no")),
                };
            }
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
            })
        );
        assert_eq!("fps=30".parse(), Ok(CameraSpec::default()));
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
