//! Carries the connections of a Unix socket over one byte stream: clients of a socket on the host reach the socket of a machine in
//! the lab, and its answers come back.
//!
//! A message on the stream is two little-endian words, the number of a connection and the length of the data, and the
//! data. The host opens a connection with a first message of length 0; numbers ascend. After that, length 0 says that the side sends no
//! more on the connection; a second time, from the host, it says that the client takes no more either. Connection 0 is the end of the stream: the machine ends.

pub(super) mod host;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    net::Shutdown,
    os::unix::{
        fs::OpenOptionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::inside;
use crate::sandbox::{self, Kind};

/// The name of the API socket: that of the lab's port that has the stream.
pub const API: &str = "api";
/// The name of the debugger's socket.
pub const GDB: &str = "gdb";
/// The name of the metrics' socket.
pub const METRICS: &str = "metrics";
/// All sockets that a lab can have.
pub(super) const NAMES: [&str; 3] = [API, GDB, METRICS];

/// The most data of a message.
const PIECE: usize = 1 << 16;
/// While more than this waits for the stream, clients are not read from.
const ENOUGH: usize = 1 << 20;
/// A client for which more than this waits takes nothing, and is dropped. No answer of a machine is as long.
const TOO_MUCH: usize = 1 << 28;
/// How long a client on the host may take for an answer when the machine has ended.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most clients at a time; further ones wait for the end of another.
const CLIENTS_MAX: usize = 64;

/// Which end of the stream this is.
pub(super) enum Side {
    /// The host's: clients connect here.
    Host(UnixListener),
    /// The lab's: each client gets a connection to the socket, until `end` ends.
    Lab { socket: PathBuf, end: UnixStream },
}

/// Relays until the stream ends. The `port` does not wait: its file is in non-blocking mode.
///
/// # Errors
/// If the stream breaks.
pub(super) fn run(side: Side, port: File) -> io::Result<()> {
    let (received, sent) = (Vec::new(), Vec::new());
    let connections = BTreeMap::new();
    let mut relay = Relay { side, port, received, sent, connections, newest: 0, ended: None };
    while relay.turn()? {}
    Ok(())
}

struct Relay {
    side: Side,
    port: File,
    /// What came from the stream and is not a whole message yet.
    received: Vec<u8>,
    /// What the stream has not taken yet.
    sent: Vec<u8>,
    connections: BTreeMap<u32, Connection>,
    /// The number of the newest connection.
    newest: u32,
    /// When the machine ended, if it has. Data on the way still arrives.
    ended: Option<Instant>,
}

struct Connection {
    stream: UnixStream,
    /// What the stream has not taken yet.
    pending: Vec<u8>,
    /// Whether the stream sends no more.
    is_read: bool,
    /// Whether the other side sends no more.
    has_ended: bool,
}

impl Connection {
    fn interest(&self, may_read: bool) -> PollFlags {
        let read = if may_read && !self.is_read { PollFlags::IN } else { PollFlags::empty() };
        read | if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT }
    }

    /// Writes what it takes, and closes its end behind the last byte.
    fn write(&mut self) -> io::Result<()> {
        write_some(&mut &self.stream, &mut self.pending)?;
        if self.has_ended && self.pending.is_empty() { self.stream.shutdown(Shutdown::Write) } else { Ok(()) }
    }
}

/// What a wait was for.
#[derive(Clone, Copy)]
enum Source {
    Port,
    Listener,
    End,
    Connection(u32),
}

impl Relay {
    /// Waits for something to do, and does it. Returns false at the end.
    fn turn(&mut self) -> io::Result<bool> {
        for (source, flags) in self.wait()? {
            match source {
                Source::Port => {
                    write_some(&mut self.port, &mut self.sent)?;
                    let read = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
                    if flags.intersects(read) && !self.read_port()? {
                        return Ok(false);
                    }
                }
                Source::Listener => self.accept(),
                Source::End => self.ended = Some(Instant::now()),
                Source::Connection(id) => self.move_client(id),
            }
        }
        let has_ended = self.ended.is_some();
        self.connections.retain(|_, connection| {
            let is_done = connection.is_read && (connection.has_ended || has_ended);
            !(is_done && connection.pending.is_empty())
        });
        let Some(ended) = self.ended else { return Ok(true) };
        match &self.side {
            Side::Host(_) => {
                let waits = self.connections.values().any(|connection| !connection.pending.is_empty());
                Ok(waits && ended.elapsed() < PATIENCE)
            }
            Side::Lab { .. } if self.connections.is_empty() => {
                self.send(0, &[]);
                while !self.sent.is_empty() {
                    poll(&mut [PollFd::new(&self.port, PollFlags::OUT)], None)?;
                    write_some(&mut self.port, &mut self.sent)?;
                }
                Ok(false)
            }
            Side::Lab { .. } => Ok(true),
        }
    }

    fn wait(&self) -> io::Result<Vec<(Source, PollFlags)>> {
        let out = if self.sent.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let (mut sources, mut fds) = (Vec::new(), Vec::new());
        let has_ended = self.ended.is_some();
        if !has_ended || matches!(self.side, Side::Lab { .. }) {
            sources.push(Source::Port);
            fds.push(PollFd::new(&self.port, PollFlags::IN | out));
        }
        match &self.side {
            Side::Host(listener) if !has_ended && self.connections.len() < CLIENTS_MAX => {
                sources.push(Source::Listener);
                fds.push(PollFd::new(listener, PollFlags::IN));
            }
            Side::Lab { end, .. } if !has_ended => {
                sources.push(Source::End);
                fds.push(PollFd::new(end, PollFlags::IN));
            }
            _ => {}
        }
        for (id, connection) in &self.connections {
            let interest = connection.interest(self.sent.len() < ENOUGH);
            if !interest.is_empty() {
                sources.push(Source::Connection(*id));
                fds.push(PollFd::new(&connection.stream, interest));
            }
        }
        let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
        match poll(&mut fds, has_ended.then_some(&patience)) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            polled => polled?,
        };
        let flags = fds.iter().map(PollFd::revents);
        Ok(sources.into_iter().zip(flags).filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn send(&mut self, id: u32, data: &[u8]) {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.sent.extend([id.to_le_bytes(), length.to_le_bytes()].concat());
        self.sent.extend(data);
    }

    /// Reads a piece of the stream. Returns false at its end.
    fn read_port(&mut self) -> io::Result<bool> {
        let mut piece = vec![0; PIECE];
        match self.port.read(&mut piece) {
            Ok(0) => return Ok(false),
            Ok(count) => self.received.extend_from_slice(&piece[..count]),
            Err(error) if may_go_on(&error) => {}
            Err(error) => return Err(error),
        }
        while let Some((id, data)) = take_message(&mut self.received) {
            if id == 0 {
                self.ended = Some(Instant::now());
                break;
            }
            self.take(id, &data);
        }
        Ok(true)
    }

    /// Takes what the other side sent on a connection.
    fn take(&mut self, id: u32, data: &[u8]) {
        if let Side::Lab { socket, .. } = &self.side
            && id > self.newest
        {
            self.newest = id;
            match connect(socket) {
                Ok(stream) => self.add(id, stream),
                Err(_) => self.send(id, &[]),
            }
            return;
        }
        // What comes for a client that is gone is dropped.
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.has_ended && data.is_empty() && matches!(self.side, Side::Lab { .. }) {
            // Without that, the machine would send events to a client that is gone.
            self.connections.remove(&id);
            return;
        }
        connection.has_ended |= data.is_empty();
        connection.pending.extend_from_slice(data);
        if connection.pending.len() > TOO_MUCH || connection.write().is_err() {
            self.drop_client(id);
        }
    }

    fn add(&mut self, id: u32, stream: UnixStream) {
        let (is_read, has_ended) = (false, false);
        self.connections.insert(id, Connection { stream, pending: Vec::new(), is_read, has_ended });
    }

    fn drop_client(&mut self, id: u32) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if !connection.is_read {
            self.send(id, &[]);
        }
        if let Side::Host(_) = self.side {
            self.send(id, &[]);
        }
    }

    fn accept(&mut self) {
        let Side::Host(listener) = &self.side else { return };
        // The client may be gone already.
        let Ok((stream, _)) = listener.accept() else { return };
        if stream.set_nonblocking(true).is_ok() {
            self.newest += 1;
            self.add(self.newest, stream);
            self.send(self.newest, &[]);
        }
    }

    /// Writes and reads what a client takes and has.
    fn move_client(&mut self, id: u32) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut piece = vec![0; PIECE];
        let read = if connection.is_read { None } else { Some((&connection.stream).read(&mut piece)) };
        let written = connection.write();
        match read {
            None => {}
            Some(Ok(count)) => {
                connection.is_read = count == 0;
                self.send(id, &piece[..count]);
            }
            Some(Err(error)) if may_go_on(&error) => {}
            Some(Err(_)) => self.drop_client(id),
        }
        if written.is_err() {
            self.drop_client(id);
        }
    }
}

fn may_go_on(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Writes as much of `data` as `to` takes without waiting.
fn write_some(to: &mut impl io::Write, data: &mut Vec<u8>) -> io::Result<()> {
    let mut written = 0;
    while written < data.len() {
        match to.write(&data[written..]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if may_go_on(&error) => break,
            Err(error) => return Err(error),
        }
    }
    data.drain(..written);
    Ok(())
}

/// The first message in `received`, if it is whole.
fn take_message(received: &mut Vec<u8>) -> Option<(u32, Vec<u8>)> {
    let word = |at: usize| Some(u32::from_le_bytes(received.get(at..at + 4)?.try_into().ok()?));
    let (id, length) = (word(0)?, word(4)? as usize);
    let data = received.get(8..8usize.checked_add(length)?)?.to_vec();
    received.drain(..8 + length);
    Some((id, data))
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// In the lab: the relay to the host's socket. Dropping it hands out the answers that are on their way, and ends it; the
/// machine's socket has to be gone by then.
pub struct Bridge {
    device: PathBuf,
    /// The socket of the machine in the lab: at its own path there may be the host's, in a folder that both have.
    socket: PathBuf,
    end: Option<UnixStream>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Bridge {
    /// The relay of a lab whose host has a socket of this `name` for us; none elsewhere.
    pub fn find(name: &str) -> Option<Self> {
        let device = device(name).filter(|_| inside::has_socket(name))?;
        let socket = format!("/run/minivmm-{name}.sock").into();
        Some(Self { device, socket, end: None, thread: None })
    }

    /// Where the machine's own socket belongs.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Begins to relay. The machine listens on its socket already.
    ///
    /// # Errors
    /// If another machine in this lab does so.
    pub fn begin(&mut self) -> io::Result<()> {
        let non_blocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let port = File::options().read(true).write(true).custom_flags(non_blocking).open(&self.device)?;
        let (end, far) = UnixStream::pair()?;
        let side = Side::Lab { socket: self.socket.clone(), end: far };
        let builder = thread::Builder::new().name("relay".into());
        let folder = self.socket.parent();
        self.thread = Some(sandbox::start(Kind::Relay, folder, builder, move || run(side, port))?);
        self.end = Some(end);
        Ok(())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // Clients see that the stream broke.
            let _ = thread.join();
        }
    }
}

/// The device of the port of this `name`, if there is one.
fn device(wanted: &str) -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?.flatten();
    let is_ours = |port: &fs::DirEntry| {
        fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == wanted)
    };
    ports.into_iter().find(is_ours).map(|port| Path::new("/dev").join(port.file_name()))
}

#[cfg(test)]
mod tests;
