//! passt (<https://passt.top>): a program of the host that gives the guest the host's network. It needs no rights.
//!
//! passt ends when its socket is closed. As root it changes to the user nobody by itself.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::pipe::{PipeFlags, pipe_with};

use super::link::FRAME_MAX;
use crate::helper::{self, Ending, Helper, Messages};

/// The name of the program, and of Debian's package.
const PROGRAM: &str = "passt";

/// The guest's address, which passt tells by DHCP, and that of the host, which is the gateway. A connection to it reaches the host's
/// own address 127.0.0.1.
const GUEST: [u8; 4] = [10, 0, 2, 15];
const HOST: [u8; 4] = [10, 0, 2, 2];

/// The longest that passt takes to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no passt.
#[derive(Debug, thiserror::Error)]
pub(super) enum PasstError {
    /// It is not installed.
    #[error(
        "a network of the user needs the program {PROGRAM}, which is not installed; `apt-get install {PROGRAM}` installs it"
    )]
    Missing,
    /// The host refused the program or a descriptor.
    #[error("{PROGRAM} cannot be started: {0}")]
    Start(#[from] io::Error),
    /// It ended, or did not answer.
    #[error("{PROGRAM} did not start: {0}")]
    Failed(String),
    /// A port of the host is taken.
    #[error(
        "the {protocol} port {port} of 127.0.0.1 cannot be used: {source}; name another port in forward=HOST:GUEST"
    )]
    Port {
        /// Its protocol.
        protocol: &'static str,
        /// Its number.
        port: u16,
        /// Why.
        source: io::Error,
    },
}

/// A port of this host's address 127.0.0.1 that leads to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Whether it is one of UDP; else of TCP.
    pub is_udp: bool,
    /// The port on the host.
    pub host: u16,
    /// The port in the guest.
    pub guest: u16,
}

impl Forward {
    /// Checks that the port of the host is free.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn check(&self) -> Result<(), PasstError> {
        let address = (Ipv4Addr::LOCALHOST, self.host);
        let (protocol, bound) = if self.is_udp {
            ("UDP", UdpSocket::bind(address).map(drop))
        } else {
            ("TCP", TcpListener::bind(address).map(drop))
        };
        bound.map_err(|source| PasstError::Port { protocol, port: self.host, source })
    }
}

/// A running passt. Dropping it ends it.
pub(super) struct Passt {
    _helper: Helper,
    messages: Messages,
}

/// The program's path.
///
/// # Errors
/// If it is in no folder of PATH.
pub(super) fn find() -> Result<PathBuf, PasstError> {
    helper::find(PROGRAM).ok_or(PasstError::Missing)
}

impl Passt {
    /// Starts passt for a guest with the address `mac`. Returns it with the socket for the guest's frames when it works.
    ///
    /// # Errors
    /// If it does not work: why.
    pub(super) fn start(mac: [u8; 6], forwards: &[Forward]) -> Result<(Self, UnixStream), PasstError> {
        let mut command = Command::new(find()?);
        let (ours, theirs) = UnixStream::pair()?;
        // Nobody reads what it says while it works, so it must not wait for a reader.
        let (errors, their_errors) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(io::Error::from)?;
        let address = |[a, b, c, d]: [u8; 4]| format!("{a}.{b}.{c}.{d}");
        command.args(["--foreground", "--quiet", "--fd", &theirs.as_raw_fd().to_string()]);
        command.args(["--address", &address(GUEST), "--netmask", "24", "--gateway", &address(HOST)]);
        command.args(["--tcp-ports", &ports(forwards, false), "--udp-ports", &ports(forwards, true)]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(their_errors));
        let helper = Helper::start(command, vec![theirs.into()])?;
        let mut messages = helper.messages(errors)?;
        match wait_for_answer(&ours, mac) {
            Ok(()) => {
                messages.forget();
                Ok((Self { _helper: helper, messages }, ours))
            }
            Err(error) => Err(PasstError::Failed(
                messages.ending().map_or_else(|| error.to_string(), |ending| format!("it ended {ending}")),
            )),
        }
    }

    /// How it has ended, which it is about to do. None if it goes on.
    pub(super) fn ending(&mut self) -> Option<Ending> {
        self.messages.ending()
    }
}

/// The value of passt's option for the ports of one protocol.
fn ports(forwards: &[Forward], is_udp: bool) -> String {
    let chosen = forwards.iter().filter(|forward| forward.is_udp == is_udp);
    let ports: Vec<String> = chosen.map(|forward| format!("{}:{}", forward.host, forward.guest)).collect();
    if ports.is_empty() { "none".to_owned() } else { format!("127.0.0.1/{}", ports.join(",")) }
}

/// Asks for the gateway's Ethernet address, as a guest does (RFC 826), and waits for the answer: passt works then.
fn wait_for_answer(mut socket: &UnixStream, mac: [u8; 6]) -> io::Result<()> {
    const ARP: [u8; 2] = [8, 6];
    let mut request = [&[0xff; 6][..], &mac, &ARP].concat();
    // Ethernet and IPv4 with their lengths, a request, the two addresses of the guest, and those of the host.
    request.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    request.extend([&mac[..], &GUEST, &[0; 6], &HOST].concat());
    let length = u32::try_from(request.len()).unwrap_or(0);
    socket.write_all(&[&length.to_be_bytes()[..], &request].concat())?;
    let end = Instant::now() + PATIENCE;
    let mut frame = vec![0; FRAME_MAX];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let too_long = || io::Error::other("it sent a frame that is too long");
        let frame = frame.get_mut(..length).ok_or_else(too_long)?;
        socket.read_exact(frame)?;
        if frame.get(12..14) == Some(&ARP) {
            return socket.set_read_timeout(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn ports_are_those_of_the_loopback() {
        let forward = |is_udp, host, guest| Forward { is_udp, host, guest };
        let forwards = [forward(false, 2222, 22), forward(true, 53, 5353), forward(false, 8080, 80)];
        assert_eq!(ports(&forwards, false), "127.0.0.1/2222:22,8080:80");
        assert_eq!(ports(&forwards, true), "127.0.0.1/53:5353");
        assert_eq!(ports(&[], true), "none");
    }

    #[test]
    fn frames_before_the_answer_are_ignored() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let peer = thread::spawn(move || {
            let mut request = [0; 46];
            theirs.read_exact(&mut request).unwrap();
            for frame in [[&[1; 12][..], &[0x86, 0xdd, 3]].concat(), [&[2; 12][..], &[8, 6, 0]].concat()] {
                theirs.write_all(&u32::try_from(frame.len()).unwrap().to_be_bytes()).unwrap();
                theirs.write_all(&frame).unwrap();
            }
            theirs.write_all(b"rest").unwrap();
            request
        });
        wait_for_answer(&ours, [2, 0, 0, 0, 0, 7]).unwrap();
        let request = peer.join().unwrap();
        assert_eq!(&request[..4], &42_u32.to_be_bytes());
        assert_eq!(&request[26..36], &[2, 0, 0, 0, 0, 7, 10, 0, 2, 15], "{request:?}");
        let mut rest = [0; 4];
        (&ours).read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"rest");
        drop(ours);
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(wait_for_answer(&ours, [0; 6]).is_err());
    }
}
