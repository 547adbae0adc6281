//! `--device vhost-user`: its keys, its resources, its node, and its line in the registry.

use std::{
    fs, os::unix::fs::FileTypeExt as _, os::unix::net::UnixStream, path::PathBuf, str::FromStr, sync::Arc,
};

use virtio_bindings::virtio_ids::{
    VIRTIO_ID_BLOCK, VIRTIO_ID_FS, VIRTIO_ID_GPIO, VIRTIO_ID_NET, VIRTIO_ID_SCSI, VIRTIO_ID_SOUND,
    VIRTIO_ID_VSOCK,
};

use super::{
    device::{Backend, COUNTERS, ConfigSpace, Face, VhostUser},
    faults::FAULTS,
    share::{Tag, TagError},
};
use crate::{
    platform::{
        BuildError, DeviceSpec, Key, Node, Parts, PlatformDevice, Registration, Resources, Specification,
        options::{self, Given, OptionError},
    },
    virtio::platform,
};

/// The device in the registry.
pub static REGISTRATION: Registration = Registration {
    name: NAME,
    summary: "virtio device that another program serves by vhost-user",
    most: 16,
    keys: &[KEYS],
    changeable: &[],
    parse: |text| match text.parse::<BackendSpec>() {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(error) => Err(error.to_string()),
    },
    faults: &FAULTS,
    counters: &COUNTERS,
};

const NAME: &str = "vhost-user";

const KEYS: &[Key] = &[
    Key { name: "socket", value: "FILE", meaning: "socket on which the program listens; it must exist" },
    Key {
        name: "id",
        value: "N",
        meaning: "number of the kind of device in the virtio specification, as 2 for a block device",
    },
    Key { name: "queues", value: "N", meaning: "number of its queues, 1 to 64 (default 1)" },
    Key {
        name: "queue-size",
        value: "N",
        meaning: "size of each queue, a power of two up to 1024 (default 256)",
    },
    Key {
        name: "config",
        value: "N",
        meaning: "size of the configuration space that the program has, 0 to 256 bytes (default: that of the kind)",
    },
    Key {
        name: "tag",
        value: "NAME",
        meaning: "tag of a file system (id=26), whose configuration space minivmm has then",
    },
];

/// The sizes of configuration spaces in bytes (virtio 1.2, chapter 5). Each backend has as much.
const CONFIGS: [(u32, u32); 6] = [
    (VIRTIO_ID_NET, 12),
    (VIRTIO_ID_BLOCK, 60),
    (VIRTIO_ID_SCSI, 36),
    (VIRTIO_ID_VSOCK, 8),
    (VIRTIO_ID_SOUND, 12),
    (VIRTIO_ID_GPIO, 8),
];

/// The specification of a device that another program serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendSpec {
    /// The socket of the program.
    pub socket: PathBuf,
    /// What the guest sees.
    pub face: Face,
}

/// What is wrong with the options of such a device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// A key or a value.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// There is no socket.
    #[error("a vhost-user device needs a socket; write it as socket=FILE")]
    NoSocket,
    /// There is no id.
    #[error("a vhost-user device needs the number of its kind; write it as id=N")]
    NoId,
    /// The tag of a file system.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// A tag for another kind.
    #[error("only a file system (id=26) has a tag")]
    NoFileSystem,
}

impl FromStr for BackendSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (mut socket, mut tag, mut size) = (PathBuf::new(), None, None);
        let (mut id, mut queues, mut queue_size) = (None, 1_u16, 256);
        for (key, value) in options::read(NAME, REGISTRATION.keys, text)? {
            let given = Given { device: NAME, key, value };
            match key {
                "socket" => socket = value.into(),
                "id" => id = Some(given.number(|id| (1..=63).contains(id), "a number from 1 to 63")?),
                "queues" => {
                    queues = given.number(|count| (1..=64).contains(count), "a number from 1 to 64")?;
                }
                "queue-size" => {
                    let fits = |size: &u16| size.is_power_of_two() && *size <= 1024;
                    queue_size = given.number(fits, "a power of two up to 1024")?;
                }
                "config" => size = Some(given.number(|size| *size <= 256, "a number from 0 to 256")?),
                _ => tag = Some(Tag::new(value)?),
            }
        }
        if socket.as_os_str().is_empty() {
            return Err(SpecError::NoSocket);
        }
        let id = id.ok_or(SpecError::NoId)?;
        let config = match tag {
            Some(_) if id != VIRTIO_ID_FS => return Err(SpecError::NoFileSystem),
            Some(tag) => ConfigSpace::Known(tag.config(queues.saturating_sub(1))),
            None => {
                let usual = || CONFIGS.iter().find(|(known, _)| *known == id).map_or(0, |(_, size)| *size);
                ConfigSpace::OfBackend(size.unwrap_or_else(usual))
            }
        };
        Ok(Self { socket, face: Face { id, queues, queue_size, config } })
    }
}

impl Specification for BackendSpec {
    fn resources(&self) -> Resources {
        platform::resources()
    }

    fn node(&self, _id: &str) -> Node {
        platform::node()
    }
}

impl DeviceSpec for BackendSpec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        let socket = UnixStream::connect(&self.socket).map_err(|error| {
            let why = format!("no program answers on the socket {}: {error}", self.socket.display());
            BuildError::request(parts.id.as_str(), why)
        })?;
        let backend = Backend::open(socket, None, &self.face, &parts)
            .map_err(|failure| BuildError::new(parts.id.as_str(), failure))?;
        Ok(Arc::new(VhostUser::new(backend, self.face.clone(), parts)?))
    }

    fn reserve(&self) -> Result<Option<Box<dyn Send>>, String> {
        match fs::metadata(&self.socket) {
            Ok(there) if there.file_type().is_socket() => Ok(None),
            Ok(_) => Err(format!("{} is not a socket", self.socket.display())),
            Err(error) => Err(format!("the socket {} cannot be used: {error}", self.socket.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_its_keys_say() {
        let spec: BackendSpec = "socket=/run/disk.sock,id=2,queues=4,queue-size=128".parse().unwrap();
        let face = Face { id: 2, queues: 4, queue_size: 128, config: ConfigSpace::OfBackend(60) };
        assert_eq!(spec, BackendSpec { socket: "/run/disk.sock".into(), face });
        let spec: BackendSpec = "socket=s,id=26,tag=src,queues=2".parse().unwrap();
        let ConfigSpace::Known(config) = spec.face.config else { panic!("{spec:?}") };
        assert_eq!((&config[..4], &config[36..]), (&b"src\0"[..], &[1, 0, 0, 0, 0, 0, 0, 0][..]));
        for (text, wrong) in [
            ("", "a vhost-user device needs a socket; write it as socket=FILE"),
            ("socket=s", "a vhost-user device needs the number of its kind; write it as id=N"),
            ("socket=s,id=0", "the vhost-user's id cannot be '0'; valid is a number from 1 to 63"),
            ("socket=s,id=2,tag=x", "only a file system (id=26) has a tag"),
            (
                "socket=s,id=2,queue-size=100",
                "the vhost-user's queue-size cannot be '100'; valid is a power of two up to 1024",
            ),
            (
                "socket=s,id=2,config=257",
                "the vhost-user's config cannot be '257'; valid is a number from 0 to 256",
            ),
        ] {
            assert_eq!(text.parse::<BackendSpec>().unwrap_err().to_string(), wrong);
        }
    }
}
