//! The socket device: moves packets between its queues and its connections.

use std::{
    collections::VecDeque,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::{
    connection::{Connection, ROOM, Stage},
    packet::{HEADER, Header, STREAM, op},
};
use crate::{
    platform::Counters,
    socket::Socket,
    virtio::{
        VirtioDevice,
        queue::{QueueError, Queues},
        request::Request,
    },
};

pub(super) const RECEIVE: usize = 0;
pub(super) const TRANSMIT: usize = 1;
const QUEUE_SIZE: u16 = 256;

/// The host's address (VMADDR_CID_HOST).
pub(super) const HOST: u64 = 2;

/// The most connections at a time, those included that a program of the host begins.
const CONNECTIONS: usize = 64;
/// The most programs of the host that have not sent their line. A further one takes the place of the oldest.
pub(super) const CLIENTS: usize = 16;
/// The longest line that such a program sends.
pub(super) const LINE_MAX: usize = 32;
/// The most refusals that wait for a buffer of the guest.
pub(super) const RESETS: usize = 64;
/// The first port of the host for connections that the host begins, as in Firecracker.
pub(super) const FIRST_PORT: u32 = 1 << 30;

/// What the poll says of the listening socket.
const LISTENER: u64 = 0;

/// The names of its counters.
pub(super) const COUNTERS: [&str; 5] = ["connections", "bytes_received", "bytes_sent", "resets", "refused"];

/// What the device did.
#[derive(Debug, Default)]
struct Done {
    connections: u64,
    received: u64,
    sent: u64,
    resets: u64,
    refused: u64,
}

/// A program of the host that has not sent its line yet.
struct Client {
    id: u64,
    socket: UnixStream,
    line: Vec<u8>,
    is_readable: bool,
}

/// The socket device.
pub struct Vsock {
    cid: u64,
    listener: Socket,
    /// All sockets, with edges.
    poll: Epoll,
    /// The listening socket may have a program.
    accepts: bool,
    clients: Vec<Client>,
    connections: Vec<Connection>,
    /// The connection that is served first in the next pass.
    turn: usize,
    next_id: u64,
    next_port: u32,
    /// Refusals for the guest.
    resets: VecDeque<Header>,
    /// A buffer of the guest that was taken and not used.
    spare: Option<Request>,
    is_driven: bool,
    buffer: Box<[u8]>,
    done: Done,
}

impl Vsock {
    /// The device of a guest with the address `cid`, whose programs of the host connect to `listener`.
    ///
    /// # Errors
    /// If the host refuses a file descriptor.
    pub fn new(listener: Socket, cid: u32) -> io::Result<Self> {
        let poll = Epoll::new()?;
        let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
        poll.ctl(ControlOperation::Add, listener.listener.as_raw_fd(), EpollEvent::new(events, LISTENER))?;
        Ok(Self {
            cid: cid.into(),
            listener,
            poll,
            accepts: true,
            clients: Vec::new(),
            connections: Vec::new(),
            turn: 0,
            next_id: LISTENER + 1,
            next_port: FIRST_PORT,
            resets: VecDeque::new(),
            spare: None,
            is_driven: false,
            buffer: vec![0; ROOM as usize].into(),
            done: Done::default(),
        })
    }

    fn process(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        self.look();
        self.accept();
        self.hear_clients();
        if !self.is_driven {
            return Ok(());
        }
        let result = self.take_packets(queues).and_then(|()| {
            self.connections.iter_mut().for_each(Connection::flush);
            self.end_finished();
            self.give_packets(queues)
        });
        self.end_finished();
        result
    }

    /// Notes what the poll says.
    fn look(&mut self) {
        loop {
            let mut events = [EpollEvent::default(); 32];
            let count = self.poll.wait(0, &mut events).unwrap_or(0);
            for event in &events[..count] {
                let set = event.event_set();
                let readable = set.intersects(EventSet::IN | EventSet::HANG_UP | EventSet::ERROR);
                self.accepts |= event.data() == LISTENER;
                if let Some(client) = self.clients.iter_mut().find(|client| client.id == event.data()) {
                    client.is_readable |= readable;
                }
                if let Some(connection) = self.connections.iter_mut().find(|known| known.id == event.data()) {
                    connection.is_readable |= readable;
                    connection.is_writable |= set.contains(EventSet::OUT);
                    if set.intersects(EventSet::HANG_UP | EventSet::ERROR) {
                        connection.hang_up();
                    }
                }
            }
            if count < events.len() {
                return;
            }
        }
    }

    /// Watches a socket by its new number, which is returned.
    fn watch(&mut self, socket: &UnixStream) -> io::Result<u64> {
        socket.set_nonblocking(true)?;
        let id = self.next_id;
        self.next_id += 1;
        let events = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
        self.poll.ctl(ControlOperation::Add, socket.as_raw_fd(), EpollEvent::new(events, id))?;
        Ok(id)
    }

    /// Takes programs that have connected.
    fn accept(&mut self) {
        while self.accepts {
            // Without a descriptor they wait until the next one comes.
            let Ok((socket, _)) = self.listener.listener.accept() else {
                self.accepts = false;
                return;
            };
            let Ok(id) = self.watch(&socket) else { continue };
            if self.clients.len() == CLIENTS {
                self.clients.remove(0);
            }
            self.clients.push(Client { id, socket, line: Vec::new(), is_readable: true });
        }
    }

    /// Reads the lines of programs that have connected, and begins their connections.
    fn hear_clients(&mut self) {
        for mut client in std::mem::take(&mut self.clients) {
            match client.hear() {
                None => self.clients.push(client),
                Some(Some(port)) if self.is_driven && self.connections.len() < CONNECTIONS => {
                    let Client { id, socket, .. } = client;
                    let host_port = self.free_port(port);
                    self.begin(Connection::new(id, port, host_port, Stage::Asks, socket));
                }
                Some(_) => self.done.refused += 1,
            }
        }
    }

    /// A port of the host that no connection to `guest_port` has.
    fn free_port(&mut self, guest_port: u32) -> u32 {
        loop {
            let port = self.next_port;
            self.next_port = FIRST_PORT | port.wrapping_add(1) & (FIRST_PORT - 1);
            if self.find(guest_port, port).is_none() {
                return port;
            }
        }
    }

    fn begin(&mut self, connection: Connection) {
        self.done.connections += 1;
        self.connections.push(connection);
    }

    fn find(&self, guest_port: u32, host_port: u32) -> Option<usize> {
        let is_it = |known: &Connection| (known.guest_port, known.host_port) == (guest_port, host_port);
        self.connections.iter().position(is_it)
    }

    /// Guest to host.
    fn take_packets(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        while let Some(mut request) = queues.pop_request(TRANSMIT)? {
            let mut bytes = [0; HEADER];
            let read = request.readable.read(queues.memory(), &mut bytes);
            let header = Header::read(&bytes);
            // What is no packet, or comes from another address, has nobody to answer to.
            if read.is_ok_and(|length| length == HEADER) && header.from == self.cid {
                let length = usize::try_from(header.length).unwrap_or(usize::MAX);
                let mut buffer = std::mem::take(&mut self.buffer);
                let data = buffer.get_mut(..length).filter(|_| header.op == op::DATA || length == 0);
                let whole = data.and_then(|data| {
                    let read = request.readable.read(queues.memory(), data);
                    read.is_ok_and(|read| read == length).then_some(&data[..])
                });
                self.heed(&header, whole);
                self.buffer = buffer;
            }
            queues.push_request(TRANSMIT, &request)?;
        }
        Ok(())
    }

    /// Acts on a packet of the guest. `data` is None if its length differs from the header's.
    fn heed(&mut self, header: &Header, data: Option<&[u8]>) {
        let known = self.find(header.from_port, header.to_port);
        let is_right = match (data, known) {
            _ if header.to != HOST || header.kind != STREAM => false,
            (None, _) => false,
            (Some(_), None) if header.op == op::REQUEST => return self.connect(header),
            // A reset needs no answer.
            (Some(_), None) if header.op == op::RESET => return,
            (Some(_), None) => false,
            (Some(data), Some(index)) => {
                let connection = &mut self.connections[index];
                connection.heed_credit(header);
                match (header.op, connection.stage) {
                    (op::RESET, _) => {
                        self.connections.swap_remove(index);
                        return;
                    }
                    (op::RESPONSE, Stage::Asked) => connection.open().is_ok(),
                    (op::DATA, Stage::Open) => {
                        self.done.sent += data.len() as u64;
                        connection.take(data)
                    }
                    (op::SHUTDOWN, Stage::Open) => {
                        connection.end_guest(header.flags);
                        true
                    }
                    (op::CREDIT_UPDATE, Stage::Open) => true,
                    (op::CREDIT_REQUEST, Stage::Open) => {
                        connection.ask_for_credit();
                        true
                    }
                    _ => false,
                }
            }
        };
        if !is_right {
            if let Some(index) = known {
                self.connections.swap_remove(index);
            }
            if header.op != op::RESET {
                self.refuse(header.from_port, header.to_port);
            }
        }
    }

    /// A program of the guest wants to connect.
    fn connect(&mut self, header: &Header) {
        let connected = if self.connections.len() < CONNECTIONS {
            self.connect_to(header.to_port)
        } else {
            Err(io::ErrorKind::QuotaExceeded.into())
        };
        match connected {
            Ok((id, socket)) => {
                let (guest, host) = (header.from_port, header.to_port);
                let mut connection = Connection::new(id, guest, host, Stage::Answers, socket);
                connection.heed_credit(header);
                self.begin(connection);
            }
            Err(error) => {
                tracing::debug!("the guest's connection to port {} is refused: {error}", header.to_port);
                self.done.refused += 1;
                self.refuse(header.from_port, header.to_port);
            }
        }
    }

    /// Connects to the program of the host that listens for `port`.
    fn connect_to(&mut self, port: u32) -> io::Result<(u64, UnixStream)> {
        let mut path = self.listener.path().as_os_str().to_owned();
        path.push(format!("_{port}"));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // A program that accepts too slowly is an error: the call does not wait.
        connect(&socket, &SocketAddrUnix::new(PathBuf::from(path))?)?;
        let socket = UnixStream::from(socket);
        Ok((self.watch(&socket)?, socket))
    }

    /// Tells the guest that these ports have no connection. At most [`RESETS`] such answers wait for the guest.
    fn refuse(&mut self, guest_port: u32, host_port: u32) {
        self.done.resets += 1;
        if self.resets.len() < RESETS {
            self.resets.push_back(Header {
                from_port: host_port,
                to_port: guest_port,
                kind: STREAM,
                op: op::RESET,
                ..Header::default()
            });
        }
    }

    /// Ends the connections that the guest has shut down.
    fn end_finished(&mut self) {
        while let Some(index) = self.connections.iter().position(Connection::is_finished) {
            let Connection { guest_port, host_port, .. } = self.connections.swap_remove(index);
            self.refuse(guest_port, host_port);
        }
    }

    /// Host to guest.
    fn give_packets(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        while let Some(from) = self.next_with_packet() {
            let taken = self.spare.take();
            let taken = if taken.is_some() { taken } else { queues.pop_request(RECEIVE)? };
            let Some(mut request) = taken else { return Ok(()) };
            let Some(room) = request.writable.left().checked_sub(HEADER as u64) else {
                return Err(queues.too_small(RECEIVE, HEADER));
            };
            let room = usize::try_from(room).map_or(self.buffer.len(), |room| room.min(self.buffer.len()));
            let packet = match from {
                None => self.resets.pop_front(),
                Some(index) => self.connections[index].next_packet(&mut self.buffer[..room]),
            };
            let Some(header) = packet else {
                if room == 0 {
                    return Err(queues.too_small(RECEIVE, HEADER + 1));
                }
                self.spare = Some(request);
                continue;
            };
            let header = Header { from: HOST, to: self.cid, ..header };
            let length = usize::try_from(header.length).unwrap_or(0);
            self.done.received += u64::from(header.length);
            // Memory that a plan of faults took away stays as it was.
            let _ = request.writable.write(queues.memory(), &header.bytes());
            let _ = request.writable.write(queues.memory(), &self.buffer[..length]);
            queues.push_request(RECEIVE, &request)?;
        }
        Ok(())
    }

    /// What has a packet for the guest: refusals come first, and then the connections in turn.
    fn next_with_packet(&mut self) -> Option<Option<usize>> {
        if !self.resets.is_empty() {
            return Some(None);
        }
        let count = self.connections.len();
        let mut order = (0..count).map(|step| (self.turn + step) % count);
        let index = order.find(|index| self.connections[*index].has_packet())?;
        self.turn = index + 1;
        Some(Some(index))
    }
}

impl Client {
    /// Reads the line: none until it is whole, and then the port, or none if it is malformed or the program is gone.
    fn hear(&mut self) -> Option<Option<u32>> {
        while self.is_readable {
            // One byte at a time: what follows the line is data.
            let mut byte = [0];
            match self.socket.read(&mut byte) {
                Ok(1) if byte == *b"\n" => {
                    let line = str::from_utf8(&self.line).ok();
                    let port = line.and_then(|line| line.strip_prefix("CONNECT "));
                    return Some(port.and_then(|port| port.trim_end().parse().ok()));
                }
                Ok(1) if self.line.len() < LINE_MAX => self.line.extend(byte),
                Ok(_) => return Some(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_readable = false,
                Err(_) => return Some(None),
            }
        }
        None
    }
}

impl VirtioDevice for Vsock {
    fn id(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    /// For packets to the guest, from the guest, and for events, of which the device has none.
    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 3]
    }

    /// struct virtio_vsock_config.
    fn config(&self) -> Vec<u8> {
        self.cid.to_le_bytes().to_vec()
    }

    fn start(&mut self, _features: u64) {
        self.is_driven = true;
    }

    fn reset(&mut self) {
        self.is_driven = false;
        self.connections.clear();
        self.resets.clear();
        self.spare = None;
    }

    fn process_queue(&mut self, _index: usize, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        self.process(queues)
    }

    fn host_poll(&self) -> Option<RawFd> {
        Some(self.poll.as_raw_fd())
    }

    fn process_host_event(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        self.process(queues)
    }

    fn counters(&self) -> Counters {
        let Done { connections, received, sent, resets, refused } = self.done;
        COUNTERS.into_iter().zip([connections, received, sent, resets, refused]).collect()
    }
}
