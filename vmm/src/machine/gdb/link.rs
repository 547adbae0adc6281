//! The socket of `--gdb`, and the one debugger that is connected to it. A debugger that sends or reads nothing delays nobody.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener},
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex},
};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use gdbstub::conn::Connection;

use crate::{
    api::server::{Socket, SocketError},
    guest::whole_file::folder_of,
    machine::lock::lock,
};

/// The most bytes that are read from a debugger before they are handled.
const PIECE: usize = 4096;

/// The value of `--gdb`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GdbOption {
    /// Where a debugger connects.
    pub place: GdbPlace,
    /// Whether the guest waits for the debugger before its first instruction.
    pub waits: bool,
}

/// Where a debugger connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GdbPlace {
    /// A Unix socket.
    Unix(PathBuf),
    /// This port of 127.0.0.1.
    Tcp(u16),
}

impl FromStr for GdbOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, waits) = match text.strip_suffix(",nowait") {
            Some(place) => (place, false),
            None => (text, true),
        };
        if place.is_empty() || place.contains(',') {
            return Err(format!("'{text}' is no place for a debugger; write FILE, tcp:PORT or FILE,nowait"));
        }
        let place = match place.strip_prefix("tcp:") {
            None => GdbPlace::Unix(place.into()),
            Some(port) => {
                let number = port.parse().ok().filter(|port| *port > 0);
                GdbPlace::Tcp(number.ok_or_else(|| {
                    format!("'{port}' is no TCP port; write a number from 1 to 65535, as in tcp:1234")
                })?)
            }
        };
        Ok(Self { place, waits })
    }
}

/// Why the socket cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The Unix socket.
    #[error(transparent)]
    Unix(#[from] SocketError),
    /// The TCP port.
    #[error("the TCP port {port} for the debugger cannot be used: {source}; choose another port")]
    Tcp {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
}

enum Listener {
    Unix(Socket),
    Tcp(TcpListener),
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Unix(socket) => socket.listener.as_raw_fd(),
            Self::Tcp(listener) => listener.as_raw_fd(),
        }
    }
}

trait Stream: Read + Write + AsRawFd + Send {}

impl<T: Read + Write + AsRawFd + Send> Stream for T {}

/// What the debugger has not taken yet.
#[derive(Clone, Default)]
pub(super) struct Replies(pub(super) Arc<Mutex<Vec<u8>>>);

impl Connection for Replies {
    type Error = Infallible;

    fn write(&mut self, byte: u8) -> Result<(), Infallible> {
        lock(&self.0).push(byte);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// The socket and its client. Dropping it removes the file of a Unix socket.
pub struct Link {
    listener: Listener,
    client: Option<Box<dyn Stream>>,
    /// The bytes that came and are not handled yet.
    input: VecDeque<u8>,
    replies: Replies,
    /// Whether the client is dropped when it has taken the replies.
    ends: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("has_client", &self.client.is_some()).finish_non_exhaustive()
    }
}

impl Link {
    /// Creates the socket, for this user alone, or listens to the port.
    ///
    /// # Errors
    /// If the place is taken, or the host refuses it.
    pub fn bind(place: &GdbPlace) -> Result<Self, LinkError> {
        let listener = match place {
            GdbPlace::Unix(path) => Listener::Unix(Socket::bind("socket of --gdb", path)?),
            GdbPlace::Tcp(port) => {
                let tcp = |source| LinkError::Tcp { port: *port, source };
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).map_err(tcp)?;
                listener.set_nonblocking(true).map_err(tcp)?;
                // Connections get it from their listener (net/ipv4/tcp.c, tcp_create_openreq_child).
                rustix::net::sockopt::set_tcp_nodelay(&listener, true).map_err(|error| tcp(error.into()))?;
                Listener::Tcp(listener)
            }
        };
        let (client, input, replies) = (None, VecDeque::new(), Replies::default());
        Ok(Self { listener, client, input, replies, ends: false })
    }

    /// The folder from which the socket's file is removed at the end.
    pub fn folder(&self) -> Option<&Path> {
        match &self.listener {
            Listener::Unix(socket) => Some(folder_of(socket.path())),
            Listener::Tcp(_) => None,
        }
    }

    pub(super) fn replies(&self) -> Replies {
        self.replies.clone()
    }

    pub(super) fn has_client(&self) -> bool {
        self.client.is_some() && !self.ends
    }

    /// The next byte of the client's, unless it has to take a reply first.
    pub(super) fn next_byte(&mut self) -> Option<u8> {
        if lock(&self.replies.0).len() < PIECE { self.input.pop_front() } else { None }
    }

    /// Drops the client, and listens to the next.
    fn close(&mut self, ops: &mut EventOps<'_>) {
        if let Some(client) = self.client.take() {
            let _ = ops.remove(Events::with_data_raw(client.as_raw_fd(), CLIENT, EventSet::empty()));
            let _ = ops.modify(self.listening(EventSet::IN));
        }
        self.input.clear();
        lock(&self.replies.0).clear();
        self.ends = false;
    }

    /// The events of the listening socket.
    fn listening(&self, interest: EventSet) -> Events {
        Events::with_data_raw(self.listener.as_raw_fd(), 0, interest)
    }

    /// Drops the client as soon as it has taken the replies.
    pub(super) fn end(&mut self) {
        self.ends = true;
        self.input.clear();
    }

    /// Writes what the client takes, and waits for its next event. Drops a client that is finished.
    pub(super) fn settle(&mut self, ops: &mut EventOps<'_>) {
        let Some(client) = &mut self.client else { return };
        let mut replies = lock(&self.replies.0);
        let mut whole = true;
        while whole && !replies.is_empty() {
            match client.write(&replies) {
                Ok(count) => drop(replies.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => whole = error.kind() == io::ErrorKind::Interrupted,
            }
        }
        let interest = match (replies.is_empty(), self.input.is_empty()) {
            (false, _) => EventSet::OUT,
            (true, true) => EventSet::IN,
            (true, false) => EventSet::empty(),
        };
        let is_done = self.ends && replies.is_empty();
        drop(replies);
        let client = Events::with_data_raw(client.as_raw_fd(), CLIENT, interest);
        if !whole || is_done || ops.modify(client).is_err() {
            self.close(ops);
        }
    }

    fn accept(&mut self, ops: &mut EventOps<'_>) {
        let accepted = match &self.listener {
            Listener::Unix(socket) => socket.listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
            Listener::Tcp(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
        };
        // The client may be gone already.
        let Ok(stream) = accepted else { return };
        if ops.add(Events::with_data_raw(stream.as_raw_fd(), CLIENT, EventSet::IN)).is_ok() {
            // The next debugger waits until this one leaves.
            let _ = ops.modify(self.listening(EventSet::empty()));
            self.client = Some(stream);
        }
    }

    /// Reads a piece of what the client sends. Returns false at its end.
    fn read(&mut self) -> bool {
        let Some(client) = &mut self.client else { return true };
        let mut piece = [0; PIECE];
        match client.read(&mut piece) {
            Ok(0) => false,
            Ok(count) => {
                self.input.extend(&piece[..count]);
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }
}

/// The data of the client's events.
const CLIENT: u32 = 1;

impl MutEventSubscriber for Link {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        if events.data() != CLIENT {
            return self.accept(ops);
        }
        let set = events.event_set();
        let whole = if set.contains(EventSet::IN) && self.input.is_empty() {
            self.read()
        } else {
            !set.intersects(EventSet::HANG_UP | EventSet::ERROR)
        };
        if !whole {
            self.close(ops);
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(self.listening(EventSet::IN)) {
            tracing::warn!("cannot listen to the socket of --gdb: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_files_or_ports() {
        let read = |text: &str| text.parse::<GdbOption>().map(|option| (option.place, option.waits));
        assert_eq!(read("a/b"), Ok((GdbPlace::Unix("a/b".into()), true)));
        assert_eq!(read("tcp:1234,nowait"), Ok((GdbPlace::Tcp(1234), false)));
        for (text, sentence) in [
            ("", "'' is no place for a debugger"),
            (",nowait", "',nowait' is no place"),
            ("a,wait", "'a,wait' is no place"),
            ("tcp:0", "'0' is no TCP port"),
            ("tcp:x", "'x' is no TCP port"),
        ] {
            assert!(read(text).unwrap_err().starts_with(sentence), "{text}");
        }
    }
}
