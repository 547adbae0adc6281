//! `--device vsock`: its keys, its resources, its node, and its line in the registry.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use media::threads::Role;

use super::device::{COUNTERS, Vsock};
use crate::{
    platform::{
        BuildError, DeviceSpec, Key, Node, Parts, PlatformDevice, Registration, Resources, Specification,
        options::{self, Given, OptionError},
    },
    socket::Socket,
    virtio::{faults::VSOCK_FAULTS, platform, served::Served},
};

/// The device in the registry.
pub static REGISTRATION: Registration = Registration {
    name: NAME,
    summary: "streams between programs of the guest and of the host (virtio-vsock)",
    // Linux has one (net/vmw_vsock/virtio_transport.c, virtio_vsock_probe).
    most: 1,
    keys: &[KEYS],
    changeable: &[],
    parse: |text| match text.parse::<VsockSpec>() {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(error) => Err(error.to_string()),
    },
    faults: &VSOCK_FAULTS,
    counters: &COUNTERS,
};

const NAME: &str = "vsock";

const KEYS: &[Key] = &[
    Key {
        name: "socket",
        value: "FILE",
        meaning: "the Unix socket for programs of the host, which minivmm creates; the guest's connections to port P of\n\
                  the host go to FILE_P",
    },
    Key { name: "cid", value: "N", meaning: "the guest's address, from 3 on (default 3)" },
];

/// The specification of a socket device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VsockSpec {
    /// The Unix socket.
    pub socket: PathBuf,
    /// The guest's address.
    pub cid: u32,
}

/// What is wrong with the options of a socket device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// A key or a value.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// There is no socket.
    #[error("a vsock needs a socket; write it as socket=FILE")]
    NoSocket,
}

impl FromStr for VsockSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut spec = Self { socket: PathBuf::new(), cid: 3 };
        for (key, value) in options::read(NAME, REGISTRATION.keys, text)? {
            let given = Given { device: NAME, key, value };
            match key {
                "socket" => spec.socket = value.into(),
                _ => {
                    let valid = "a number from 3 to 4294967294";
                    spec.cid = given.number(|cid| (3..u32::MAX).contains(cid), valid)?;
                }
            }
        }
        if spec.socket.as_os_str().is_empty() { Err(SpecError::NoSocket) } else { Ok(spec) }
    }
}

impl Specification for VsockSpec {
    fn resources(&self) -> Resources {
        platform::resources()
    }

    fn node(&self, _id: &str) -> Node {
        platform::node()
    }
}

impl DeviceSpec for VsockSpec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        let socket = Socket::bind("vsock socket", &self.socket)
            .map_err(|error| BuildError::request(parts.id.as_str(), error))?;
        let folder = self.folder().unwrap_or(Path::new("/")).to_owned();
        let vsock =
            Vsock::new(socket, self.cid).map_err(|error| BuildError::new(parts.id.as_str(), error))?;
        Ok(Arc::new(Served::new(vsock, Role::Sockets(folder), parts)?))
    }

    fn folder(&self) -> Option<&Path> {
        let parent = self.socket.parent()?;
        Some(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_its_keys_say() {
        assert_eq!("socket=/a/b,cid=9".parse(), Ok(VsockSpec { socket: "/a/b".into(), cid: 9 }));
        let plain: VsockSpec = "socket=b".parse().unwrap();
        assert_eq!((plain.cid, plain.folder()), (3, Some(Path::new("."))));
        for (text, wrong) in [
            ("", "a vsock needs a socket; write it as socket=FILE"),
            ("socket=a,cid=2", "the vsock's cid cannot be '2'; valid is a number from 3 to 4294967294"),
        ] {
            assert_eq!(text.parse::<VsockSpec>().unwrap_err().to_string(), wrong);
        }
    }
}
