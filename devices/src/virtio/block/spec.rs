//! `--device disk`: its keys, its resources, its node, and its line in the registry.

use std::{path::PathBuf, str::FromStr, sync::Arc};

use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

use super::{
    content::Format,
    disk::Disk,
    media::COUNTERS,
    open::{DiskFile, OpenError},
};
use crate::{
    platform::{
        BuildError, DeviceSpec, Key, Node, Parts, PlatformDevice, Registration, Resources, Specification,
        Value,
        options::{self, Given, OptionError},
    },
    virtio::{faults::DISK_FAULTS, platform},
};

/// The device in the registry.
pub static REGISTRATION: Registration = Registration {
    name: NAME,
    summary: "disk in a file or block device of the host (virtio-blk)",
    most: 16,
    keys: &[KEYS],
    changeable: &[],
    parse: |text| match text.parse::<DiskSpec>() {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(error) => Err(error.to_string()),
    },
    faults: &DISK_FAULTS,
    counters: &COUNTERS,
};

const NAME: &str = "disk";

/// The short form of `ro=yes`.
const READ_ONLY: &str = "ro";

const KEYS: &[Key] = &[
    Key { name: "file", value: "FILE", meaning: "file or block device with the disk; it must exist" },
    Key {
        name: "format",
        value: "raw|qcow2",
        meaning: "raw: the file has the disk's bytes (default); qcow2: it is such an image, without a backing file",
    },
    Key {
        name: READ_ONLY,
        value: "yes|no",
        meaning: "whether the guest can only read it (default no); `ro` alone means yes",
    },
    Key {
        name: "root",
        value: "yes|no",
        meaning: "whether commands have its file system as root, with changes in the guest's memory (default no); then ro=yes",
    },
    Key {
        name: "queues",
        value: "N",
        meaning: "number of its queues, 1 to 16 (default 4); the guest uses one for each of its CPUs",
    },
];

/// The number of threads that carry out the requests of a disk: as many requests wait for the file at a time.
const WORKERS: usize = 4;

/// The disk of a machine's `--out`, which the machine builds itself: the machine has its file.
#[derive(Debug)]
pub struct BlockSpec;

impl Specification for BlockSpec {
    fn resources(&self) -> Resources {
        platform::resources()
    }

    fn node(&self, _id: &str) -> Node {
        platform::node()
    }
}

/// The specification of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// The file.
    pub file: PathBuf,
    /// The format that the user named.
    pub format: Option<Format>,
    /// The guest cannot write it.
    pub is_read_only: bool,
    /// Commands in the guest have its file system as their root, with changes in memory.
    pub is_root: bool,
    /// The number of queues.
    pub queues: u16,
}

impl DiskSpec {
    fn open(&self) -> Result<DiskFile, OpenError> {
        DiskFile::open(&self.file, self.format, self.is_read_only)
    }
}

/// What is wrong with the options of a disk.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// A key or a value.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// There is no file.
    #[error("a disk needs a file; write it as file=FILE")]
    NoFile,
}

impl FromStr for DiskSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut spec =
            Self { file: PathBuf::new(), format: None, is_read_only: false, is_root: false, queues: 4 };
        let text = options::spell_out(text, READ_ONLY);
        for (key, value) in options::read(NAME, REGISTRATION.keys, &text)? {
            let given = Given { device: NAME, key, value };
            match key {
                "file" => spec.file = value.into(),
                "format" => {
                    let known = Format::ALL.into_iter().find(|(name, _)| *name == value);
                    let (_, format) = known.ok_or_else(|| given.invalid("raw or qcow2"))?;
                    spec.format = Some(format);
                }
                READ_ONLY => spec.is_read_only = given.flag()?,
                "root" => spec.is_root = given.flag()?,
                _ => {
                    spec.queues = given.number(|count| (1..=16).contains(count), "a number from 1 to 16")?;
                }
            }
        }
        spec.is_read_only |= spec.is_root;
        if spec.file.as_os_str().is_empty() { Err(SpecError::NoFile) } else { Ok(spec) }
    }
}

impl Specification for DiskSpec {
    fn resources(&self) -> Resources {
        platform::resources()
    }

    /// The child is the device behind the transport (Documentation/devicetree/bindings/virtio/virtio-device.yaml). The guest's init
    /// reads its property.
    fn node(&self, _id: &str) -> Node {
        if !self.is_root {
            return platform::node();
        }
        let device = Node::new("disk").compatible(&[&format!("virtio,device{VIRTIO_ID_BLOCK:x}")]);
        platform::node().child(device.property("minivmm,root", Value::Empty))
    }
}

impl DeviceSpec for DiskSpec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        let file = self.open().map_err(|error| BuildError::request(parts.id.as_str(), error))?;
        let serial = parts.id.clone();
        Ok(Arc::new(Disk::new(file, &serial, self.queues, WORKERS, parts)?))
    }

    fn reserve(&self) -> Result<Option<Box<dyn Send>>, String> {
        match self.open() {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_its_keys_say() {
        let spec: DiskSpec = "file=a b.img,ro,format=qcow2,queues=2".parse().unwrap();
        let expected = DiskSpec {
            file: "a b.img".into(),
            format: Some(Format::Qcow2),
            is_read_only: true,
            is_root: false,
            queues: 2,
        };
        assert_eq!(spec, expected);
        let spec: DiskSpec = "file=a,root=yes,ro=no".parse().unwrap();
        assert!(spec.is_root && spec.is_read_only);
        let plain = DiskSpec { format: None, is_read_only: false, queues: 4, ..expected };
        assert_eq!("file=a b.img,ro=no".parse(), Ok(plain));
        for (text, wrong) in [
            ("", "a disk needs a file; write it as file=FILE"),
            ("file=,ro", "a disk needs a file; write it as file=FILE"),
            ("file=a,format=vmdk", "the disk's format cannot be 'vmdk'; valid is raw or qcow2"),
            ("file=a,queues=17", "the disk's queues cannot be '17'; valid is a number from 1 to 16"),
            ("file=a,ro,ro=no", "the disk's ro is given more than once; give it once"),
            (
                "file=a,fromat=raw",
                "a disk has no 'fromat'; it has file, format, ro, root, queues, each as KEY=VALUE; did you mean format?",
            ),
        ] {
            assert_eq!(text.parse::<DiskSpec>().unwrap_err().to_string(), wrong);
        }
    }
}
