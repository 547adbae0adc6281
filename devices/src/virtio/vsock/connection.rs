//! A connection between a program of the host and one of the guest: its data, its credit, and its end.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
};

use super::packet::{Header, NO_RECEIVE, NO_SEND, STREAM, op};

/// The room for data of a connection that the host's program has not taken yet, in bytes.
pub(super) const ROOM: u32 = 256 << 10;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The guest is to be asked.
    Asks,
    /// The guest was asked.
    Asked,
    /// The guest is to be answered.
    Answers,
    /// Data flows.
    Open,
}

/// A connection. Its methods never wait.
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) guest_port: u32,
    pub(super) host_port: u32,
    pub(super) stage: Stage,
    socket: UnixStream,
    /// There may be data in the socket, and room in it. An edge of the poll sets them.
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// Data that the socket did not take yet.
    to_host: VecDeque<u8>,
    /// How much the socket took; what the guest was told of that.
    passed_on: u32,
    told: u32,
    /// How much went to the guest, and what it said of its room.
    sent: u32,
    guest_room: u32,
    guest_passed_on: u32,
    /// What the guest does no more.
    guest_ends: u32,
    /// The host's program knows that the guest sends no more.
    is_shut_down: bool,
    /// What the host's program does no more, and what the guest was told of that.
    host_ends: u32,
    host_ends_told: u32,
    /// The guest asked for the credit.
    is_asked: bool,
    /// The guest was asked for its credit.
    has_asked: bool,
}

impl Connection {
    pub(super) fn new(id: u64, guest_port: u32, host_port: u32, stage: Stage, socket: UnixStream) -> Self {
        Self {
            id,
            guest_port,
            host_port,
            stage,
            socket,
            is_readable: true,
            is_writable: true,
            to_host: VecDeque::new(),
            passed_on: 0,
            told: 0,
            sent: 0,
            guest_room: 0,
            guest_passed_on: 0,
            guest_ends: 0,
            is_shut_down: false,
            host_ends: 0,
            host_ends_told: 0,
            is_asked: false,
            has_asked: false,
        }
    }

    /// Takes the guest's credit from a packet.
    pub(super) fn heed_credit(&mut self, header: &Header) {
        self.guest_room = header.room;
        self.guest_passed_on = header.passed_on;
        // A guest that answers at once, and has no room, would be asked for ever.
        self.has_asked &= self.credit() == 0;
    }

    /// The guest has answered. Tells the host's program.
    pub(super) fn open(&mut self) -> io::Result<()> {
        self.stage = Stage::Open;
        // A socket that was just connected has room for a line.
        self.socket.write_all(format!("OK {}\n", self.host_port).as_bytes())
    }

    /// Takes data from the guest; false if the guest had no credit for it.
    pub(super) fn take(&mut self, data: &[u8]) -> bool {
        if self.to_host.len() + data.len() > ROOM as usize || self.guest_ends & NO_SEND != 0 {
            return false;
        }
        let written = if self.to_host.is_empty() { self.write(data) } else { 0 };
        self.to_host.extend(&data[written..]);
        true
    }

    /// Writes what the socket takes now; the number of bytes.
    fn write(&mut self, data: &[u8]) -> usize {
        let mut written = 0;
        while self.is_writable && written < data.len() {
            match self.socket.write(&data[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_writable = false,
                Err(_) => {
                    // The program is gone: nobody misses the data.
                    self.host_ends |= NO_RECEIVE;
                    break;
                }
            }
        }
        if self.host_ends & NO_RECEIVE != 0 {
            written = data.len();
        }
        // Shorter than ROOM.
        self.passed_on = self.passed_on.wrapping_add(u32::try_from(written).unwrap_or(0));
        written
    }

    /// Passes on what the socket did not take yet.
    pub(super) fn flush(&mut self) {
        while !self.to_host.is_empty() && self.is_writable {
            let mut waiting = std::mem::take(&mut self.to_host);
            let written = self.write(waiting.as_slices().0);
            waiting.drain(..written);
            self.to_host = waiting;
        }
        // Each call makes an event of the poll.
        if self.guest_ends & NO_SEND != 0 && self.to_host.is_empty() && !self.is_shut_down {
            self.is_shut_down = true;
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// The guest sends or receives no more.
    pub(super) fn end_guest(&mut self, flags: u32) {
        self.guest_ends |= flags & (NO_RECEIVE | NO_SEND);
    }

    /// The program at the other end of the socket has closed it.
    pub(super) fn hang_up(&mut self) {
        self.host_ends |= NO_RECEIVE;
        self.passed_on = self.passed_on.wrapping_add(u32::try_from(self.to_host.len()).unwrap_or(0));
        self.to_host.clear();
    }

    pub(super) fn ask_for_credit(&mut self) {
        self.is_asked = true;
    }

    /// Whether the guest is done with it and all data is passed on.
    pub(super) fn is_finished(&self) -> bool {
        self.guest_ends == NO_RECEIVE | NO_SEND && self.to_host.is_empty()
    }

    /// How much the guest has room for, in bytes.
    fn credit(&self) -> u32 {
        self.guest_room.saturating_sub(self.sent.wrapping_sub(self.guest_passed_on))
    }

    fn has_data(&self) -> bool {
        let flows = self.guest_ends & NO_RECEIVE == 0 && self.host_ends & NO_SEND == 0;
        self.stage == Stage::Open && self.is_readable && flows
    }

    /// Whether the guest believes that half of the room is taken, while less is.
    fn has_news_of_credit(&self) -> bool {
        let freed = self.passed_on.wrapping_sub(self.told);
        freed > 0 && self.to_host.len() as u64 + u64::from(freed) > u64::from(ROOM / 2)
    }

    /// Whether [`next_packet`](Self::next_packet) may have one.
    pub(super) fn has_packet(&self) -> bool {
        match self.stage {
            Stage::Asks | Stage::Answers => true,
            Stage::Asked => false,
            Stage::Open => {
                self.has_data() && (self.credit() > 0 || !self.has_asked)
                    || self.host_ends != self.host_ends_told
                    || self.is_asked
                    || self.has_news_of_credit()
            }
        }
    }

    /// The next packet for the guest. Its data is at the beginning of `room`.
    pub(super) fn next_packet(&mut self, room: &mut [u8]) -> Option<Header> {
        let (mut kind, mut flags, mut length) = (op::CREDIT_UPDATE, 0, 0);
        match self.stage {
            Stage::Asks => (self.stage, kind) = (Stage::Asked, op::REQUEST),
            Stage::Answers => (self.stage, kind) = (Stage::Open, op::RESPONSE),
            Stage::Asked => return None,
            Stage::Open => {
                if self.has_data() && self.credit() > 0 && !room.is_empty() {
                    let most =
                        usize::try_from(self.credit()).map_or(room.len(), |credit| credit.min(room.len()));
                    length = self.read(&mut room[..most]);
                }
                if length > 0 {
                    kind = op::DATA;
                } else if self.host_ends != self.host_ends_told {
                    self.host_ends_told = self.host_ends;
                    (kind, flags) = (op::SHUTDOWN, self.host_ends);
                } else if self.has_data() && self.credit() == 0 && !self.has_asked {
                    self.has_asked = true;
                    kind = op::CREDIT_REQUEST;
                } else if !self.is_asked && !self.has_news_of_credit() {
                    return None;
                }
            }
        }
        self.is_asked &= kind != op::CREDIT_UPDATE;
        self.told = self.passed_on;
        // Shorter than `room`, and so than ROOM.
        let length = u32::try_from(length).unwrap_or(0);
        self.sent = self.sent.wrapping_add(length);
        Some(Header {
            from_port: self.host_port,
            to_port: self.guest_port,
            length,
            kind: STREAM,
            op: kind,
            flags,
            room: ROOM,
            passed_on: self.passed_on,
            ..Header::default()
        })
    }

    /// Reads what the socket has now; the number of bytes.
    fn read(&mut self, room: &mut [u8]) -> usize {
        loop {
            match self.socket.read(room) {
                Ok(0) => self.host_ends |= NO_SEND,
                Ok(count) => return count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.host_ends |= NO_SEND | NO_RECEIVE,
            }
            self.is_readable = false;
            return 0;
        }
    }
}
