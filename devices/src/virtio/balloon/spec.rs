//! `--device balloon`: its keys, its resources, its node, and its line in the registry.

use std::{str::FromStr, sync::Arc};

use media::threads::Role;

use super::{
    device::{Balloon, COUNTERS, Options},
    size::{self, NAME},
};
use crate::{
    dma::DmaPort,
    platform::{
        BuildError, DeviceSpec, Key, Node, Parts, PlatformDevice, Registration, Resources, Specification,
        options::{self, Given, OptionError},
    },
    virtio::{faults::BALLOON_FAULTS, platform, served::Served},
};

/// The device in the registry.
pub static REGISTRATION: Registration = Registration {
    name: NAME,
    summary: "takes memory from the guest, and gives what it does not use back to the host (virtio-balloon)",
    // Linux reports free pages to one device (mm/page_reporting.c, page_reporting_register).
    most: 1,
    keys: &[KEYS],
    changeable: &[size::KEY],
    parse: |text| match text.parse::<BalloonSpec>() {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(error) => Err(error.to_string()),
    },
    faults: &BALLOON_FAULTS,
    counters: &COUNTERS,
};

const KEYS: &[Key] = &[
    Key {
        name: size::KEY,
        value: "SIZE",
        meaning: "the memory that it takes from the guest, as in 64M (default 0)",
    },
    Key {
        name: "reporting",
        value: "yes|no",
        meaning: "whether the guest reports free memory, which goes back to the host (default yes)",
    },
    Key {
        name: "deflate-on-oom",
        value: "yes|no",
        meaning: "whether the guest takes memory back before it kills a program (default yes);\n\
                  no: Linux subtracts the balloon from MemTotal",
    },
    Key {
        name: "statistics",
        value: "N",
        meaning: "seconds from one report of the guest's memory to the next, up to 3600 (default 0: one at its start)",
    },
];

/// The most seconds from one report to the next.
const LONGEST: u32 = 3600;

/// The specification of a balloon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalloonSpec(pub Options);

/// Guest memory that does not go back to the host.
#[derive(Debug, thiserror::Error)]
#[error("guest memory in huge pages does not go back to the host; omit --hugepages, or the balloon")]
struct HugePages;

impl FromStr for BalloonSpec {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let mut chosen = Options { size: 0, deflates_on_oom: true, reports: true, interval: 0 };
        for (key, value) in options::read(NAME, REGISTRATION.keys, text)? {
            let given = Given { device: NAME, key, value };
            match key {
                size::KEY => chosen.size = size::read(value)?,
                "reporting" => chosen.reports = given.flag()?,
                "deflate-on-oom" => chosen.deflates_on_oom = given.flag()?,
                _ => {
                    chosen.interval =
                        given.number(|seconds| *seconds <= LONGEST, "a number from 0 to 3600")?;
                }
            }
        }
        Ok(Self(chosen))
    }
}

impl Specification for BalloonSpec {
    fn resources(&self) -> Resources {
        platform::resources()
    }

    fn node(&self, _id: &str) -> Node {
        platform::node()
    }
}

impl DeviceSpec for BalloonSpec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        let failed = |error| BuildError::new(parts.id.as_str(), error);
        let memory = parts.dma.as_ref();
        let ram = memory.map_or(0, DmaPort::ram_size);
        size::check(self.0.size, ram).map_err(|error| BuildError::request(parts.id.as_str(), error))?;
        if memory.map_or(Ok(false), DmaPort::is_in_huge_pages).map_err(failed)? {
            return Err(BuildError::request(parts.id.as_str(), HugePages));
        }
        let balloon = Balloon::new(self.0, ram).map_err(failed)?;
        Ok(Arc::new(Served::new(balloon, Role::Memory, parts)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_its_keys_say() {
        let plain = Options { size: 0, deflates_on_oom: true, reports: true, interval: 0 };
        let all = Options { size: 64 << 20, deflates_on_oom: false, reports: false, interval: 5 };
        for (text, options) in [("", plain), ("size=64M,reporting=no,deflate-on-oom=no,statistics=5", all)] {
            assert_eq!(text.parse(), Ok(BalloonSpec(options)), "{text}");
        }
        for (text, key, value, valid) in [
            ("reporting=maybe", "reporting", "maybe", "yes or no"),
            ("statistics=3601", "statistics", "3601", "a number from 0 to 3600"),
        ] {
            let expected = format!("the balloon's {key} cannot be '{value}'; valid is {valid}");
            assert_eq!(text.parse::<BalloonSpec>().unwrap_err().to_string(), expected);
        }
    }
}
