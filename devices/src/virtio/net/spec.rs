//! `--device net`: its keys, its resources, its node, and its line in the registry.

use std::{os::unix::net::UnixStream, path::PathBuf, str::FromStr, sync::Arc};

use media::threads::Role;

use super::{
    device::{COUNTERS, Net},
    link::Link,
    passt::{self, Forward, Passt},
    stream::Stream,
    tap::{NAME_MAX, Tap},
};
use crate::{
    platform::{
        BuildError, DeviceSpec, Key, Node, Parts, PlatformDevice, Registration, Resources, Specification,
        options::{self, Given, OptionError},
    },
    virtio::{faults::NET_FAULTS, platform, served::Served},
};

/// The device in the registry.
pub static REGISTRATION: Registration = Registration {
    name: NAME,
    summary: "network device on the host's network or a tap device (virtio-net)",
    most: 8,
    keys: &[KEYS],
    changeable: &[],
    parse: |text| match text.parse::<NetSpec>() {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(error) => Err(error.to_string()),
    },
    faults: &NET_FAULTS,
    counters: &COUNTERS,
};

const NAME: &str = "net";

const USER: &str = "user";

const KEYS: &[Key] = &[
    Key {
        name: USER,
        value: "yes",
        meaning: "the network of the user who runs minivmm, by the program passt; `user` alone means yes. The guest is\n\
                  10.0.2.15, and TCP and UDP to 10.0.2.2 reach this host's 127.0.0.1. Ping needs a group in the range\n\
                  of the host's net.ipv4.ping_group_range; Debian 12's passt does not answer it for 10.0.2.2",
    },
    Key {
        name: "socket",
        value: "FILE",
        meaning: "the Unix socket of a program that sends each frame behind its length in four bytes, as passt does",
    },
    Key { name: "tap", value: "NAME", meaning: "a tap device of this host" },
    Key {
        name: "forward",
        value: "HOST:GUEST",
        meaning: "with `user`: connections to this port of 127.0.0.1 reach that port of the guest; several are\n\
                  joined by +, and one of UDP begins with udp:, as in 2222:22+udp:5353:53",
    },
    Key {
        name: "mac",
        value: "MAC",
        meaning: "its Ethernet address (default 52:54:00:6d:6e:00 for net0, ...:01 for net1)",
    },
    Key {
        name: "mtu",
        value: "N",
        meaning: "its largest packet in bytes, 68 to 65520 (default: 65520 with `user`, else 1500)",
    },
];

/// The address of the first device by default. The last byte is the device's number.
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x6d, 0x6e, 0x00];

/// A network of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// That of the user, with ports that lead to the guest.
    User(Vec<Forward>),
    /// That of the program which listens at this socket.
    Socket(PathBuf),
    /// A tap device.
    Tap(String),
}

/// The specification of a network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetSpec {
    /// The network.
    pub network: Network,
    /// Its Ethernet address, if the user named one.
    pub mac: Option<[u8; 6]>,
    /// Its MTU, if the user named one.
    pub mtu: Option<u16>,
}

/// What is wrong with the options of a network device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    /// A key or a value.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// There is no network, or there are two.
    #[error("a net needs one network; write user, socket=FILE or tap=NAME")]
    Network,
    /// Ports of a tap device.
    #[error("the net's forward needs user; other networks have the guest's own address")]
    Forward,
}

impl FromStr for NetSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let parts = text.split(',').map(|part| match part.trim() {
            USER => "user=yes",
            part => part,
        });
        let text = parts.collect::<Vec<_>>().join(",");
        let (mut is_user, mut socket, mut tap, mut forwards, mut mac, mut mtu) =
            (false, None, None, None, None, None);
        for (key, value) in options::read(NAME, REGISTRATION.keys, &text)? {
            let given = Given { device: NAME, key, value };
            match key {
                USER => is_user = given.flag()?,
                "socket" if value.is_empty() => return Err(given.invalid("the path of a socket").into()),
                "socket" => socket = Some(PathBuf::from(value)),
                "tap" => {
                    let is_name = (1..=NAME_MAX).contains(&value.len())
                        && value.bytes().all(|byte| byte.is_ascii_graphic() && !b"/%:".contains(&byte));
                    let valid = "the name of an interface, of at most 15 letters and digits";
                    tap = Some(if is_name {
                        value.to_owned()
                    } else {
                        return Err(given.invalid(valid).into());
                    });
                }
                "forward" => {
                    let valid = "HOST:GUEST, two ports from 1 to 65535, or udp:HOST:GUEST";
                    let read: Option<Vec<Forward>> = value.split('+').map(forward).collect();
                    forwards = Some(read.ok_or_else(|| given.invalid(valid))?);
                }
                "mac" => {
                    let valid = "six bytes as in 52:54:00:6d:6e:00, of which the first is even";
                    mac = Some(address(value).ok_or_else(|| given.invalid(valid))?);
                }
                _ => mtu = Some(given.number(|mtu| (68..=65520).contains(mtu), "a number from 68 to 65520")?),
            }
        }
        let network = match (is_user, socket, tap) {
            (true, None, None) => Network::User(forwards.unwrap_or_default()),
            (false, ..) if forwards.is_some() => return Err(SpecError::Forward),
            (false, Some(path), None) => Network::Socket(path),
            (false, None, Some(name)) => Network::Tap(name),
            _ => return Err(SpecError::Network),
        };
        Ok(Self { network, mac, mtu })
    }
}

/// `[udp:]HOST:GUEST`.
fn forward(text: &str) -> Option<Forward> {
    let (is_udp, ports) = match text.strip_prefix("udp:") {
        Some(ports) => (true, ports),
        None => (false, text.strip_prefix("tcp:").unwrap_or(text)),
    };
    let (host, guest) = ports.split_once(':')?;
    let port = |text: &str| text.parse().ok().filter(|port| *port > 0);
    Some(Forward { is_udp, host: port(host)?, guest: port(guest)? })
}

/// The address of one interface: the lowest bit of the first byte is that of groups.
fn address(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| if byte.len() == 2 { u8::from_str_radix(byte, 16).ok() } else { None })
        .collect();
    let bytes: [u8; 6] = bytes?.try_into().ok()?;
    (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(bytes)
}

impl Specification for NetSpec {
    fn resources(&self) -> Resources {
        platform::resources()
    }

    fn node(&self, _id: &str) -> Node {
        platform::node()
    }
}

impl DeviceSpec for NetSpec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        let mac = self.mac.unwrap_or_else(|| {
            let number = parts.id.trim_start_matches(|letter: char| !letter.is_ascii_digit());
            let [a, b, c, d, e, _] = MAC;
            [a, b, c, d, e, number.parse().unwrap_or(0)]
        });
        let failed = |error: String| BuildError::new(parts.id.as_str(), error);
        let wrong = |error: String| BuildError::request(parts.id.as_str(), error);
        let (link, passt): (Box<dyn Link>, _) = match &self.network {
            Network::User(forwards) => {
                let (passt, socket) =
                    Passt::start(mac, forwards).map_err(|error| failed(error.to_string()))?;
                (Box::new(Stream::new(socket).map_err(|error| failed(error.to_string()))?), Some(passt))
            }
            Network::Socket(path) => {
                let socket = UnixStream::connect(path).map_err(|error| {
                    wrong(format!("there is no connection to {}: {error}", path.display()))
                })?;
                (Box::new(Stream::new(socket).map_err(|error| failed(error.to_string()))?), None)
            }
            Network::Tap(name) => {
                let tap = Tap::open(name)
                    .map_err(|error| wrong(format!("the tap device {name} cannot be used: {error}")))?;
                (Box::new(tap), None)
            }
        };
        let net = Net::new(link, mac, self.mtu, passt).map_err(|error| failed(error.to_string()))?;
        Ok(Arc::new(Served::new(net, Role::Network, parts)?))
    }

    fn reserve(&self) -> Result<Option<Box<dyn Send>>, String> {
        match &self.network {
            Network::User(forwards) => {
                let checked = passt::find().and_then(|_| forwards.iter().try_for_each(Forward::check));
                checked.map(|()| None).map_err(|error| error.to_string())
            }
            Network::Socket(_) | Network::Tap(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_its_keys_say() {
        let spec: NetSpec =
            "user,forward=2222:22+udp:5353:53,mac=02:00:00:00:00:7f,mtu=1500".parse().unwrap();
        let forward = |is_udp, host, guest| Forward { is_udp, host, guest };
        let network = Network::User(vec![forward(false, 2222, 22), forward(true, 5353, 53)]);
        let mac = Some([2, 0, 0, 0, 0, 0x7f]);
        assert_eq!(spec, NetSpec { network, mac, mtu: Some(1500) });
        let network = Network::Tap("tap0".to_owned());
        assert_eq!("tap=tap0".parse(), Ok(NetSpec { network, mac: None, mtu: None }));
        for (text, wrong) in [
            ("", "a net needs one network; write user, socket=FILE or tap=NAME"),
            ("user,tap=x", "a net needs one network; write user, socket=FILE or tap=NAME"),
            ("user=no", "a net needs one network; write user, socket=FILE or tap=NAME"),
            (
                "tap=x,forward=1:1",
                "the net's forward needs user; other networks have the guest's own address",
            ),
        ] {
            assert_eq!(text.parse::<NetSpec>().unwrap_err().to_string(), wrong);
        }
        for value in [
            "socket=",
            "tap=0123456789abcdef",
            "tap=a/b",
            "tap=",
            "user,forward=22",
            "user,forward=0:22",
            "user,forward=22:70000",
            "user,forward=icmp:1:1",
            "user,mac=01:00:00:00:00:00",
            "user,mac=02:00:00:00:00",
            "user,mac=2:0:0:0:0:0",
            "user,mtu=67",
        ] {
            let error = value.parse::<NetSpec>().unwrap_err().to_string();
            assert!(error.contains(" cannot be '") && error.contains("; valid is "), "{value}: {error}");
        }
    }
}
