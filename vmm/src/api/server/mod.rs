//! The socket of `--api-socket`, which the event loop serves: takes lines from clients, and hands answers and events back. No client
//! can make it wait or grow.

use std::{
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::Path,
    time::Instant,
};

pub use devices::socket::{Socket, SocketError};

use super::{Answer, Event, REQUEST_MAX, Request};
use crate::{guest::whole_file::folder_of, observe::process::since_process_start};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

/// The name of the socket in messages.
pub const WHAT: &str = "API socket";

/// The most clients at a time. A further client takes the place of the one that was silent for the longest time.
const CLIENTS_MAX: usize = 16;

/// The most bytes of events that wait for a client. Further events are lost to it.
const EVENTS_MAX: usize = 64 << 10;

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientId(u64);

#[derive(Debug)]
struct Client {
    id: ClientId,
    stream: UnixStream,
    /// Bytes that came and are not parsed yet.
    input: Vec<u8>,
    /// The part of the answer that the client has not taken yet.
    output: Vec<u8>,
    /// Whether its request was handed out and not answered.
    waits: bool,
    /// Whether it gets events, and the number of those that it missed since its last line.
    listens: Option<u64>,
    /// Whether no more is read from it.
    ends: bool,
    /// When it last sent something.
    heard: Instant,
}

impl Client {
    /// The end of its next line, if it has one and its last request is finished.
    fn line(&self) -> Option<usize> {
        let free = !self.waits && self.output.is_empty() && self.listens.is_none();
        self.input.iter().position(|&byte| byte == b'\n').filter(|_| free)
    }

    /// The events to wait for. A client that waits for an answer is not read from: further requests stay in its socket. Nor is one that
    /// gets events: it sends no more requests, and its end is an event that needs no interest (epoll_ctl(2), EPOLLHUP).
    fn interest(&self) -> EventSet {
        if !self.output.is_empty() {
            EventSet::OUT
        } else if self.waits || self.ends || self.listens.is_some() || self.line().is_some() {
            EventSet::empty()
        } else {
            EventSet::IN
        }
    }

    /// Reads a piece of its input. Returns false if the connection broke.
    fn read(&mut self) -> bool {
        let mut piece = [0; REQUEST_MAX];
        match self.stream.read(&mut piece) {
            Ok(0) => self.ends = true,
            Ok(count) => self.input.extend_from_slice(&piece[..count]),
            Err(error) => return may_go_on(&error),
        }
        self.heard = Instant::now();
        let line = self.input.iter().position(|&byte| byte == b'\n');
        if line.unwrap_or(self.input.len()) >= REQUEST_MAX {
            self.refuse(format!(
                "the request is too long; a request has at most {REQUEST_MAX} bytes with its newline"
            ));
            // The start of the next request is unknown.
            self.input.clear();
            self.ends = true;
        }
        true
    }

    fn refuse(&mut self, sentence: String) {
        self.output = line_of(&Answer::Error(sentence));
    }

    /// Writes as much of the answer, or of the events, as it takes. Returns false if the connection broke.
    fn write(&mut self) -> bool {
        loop {
            while !self.output.is_empty() {
                match self.stream.write(&self.output) {
                    Ok(count) => drop(self.output.drain(..count)),
                    Err(error) => return may_go_on(&error),
                }
            }
            // It has caught up: it learns what it missed.
            let Some(lost @ 1..) = &mut self.listens else { return true };
            let seconds = since_process_start().unwrap_or_default().as_secs_f64();
            let count = std::mem::take(lost);
            self.output = line_of(&Answer::Event(Event::Lost { seconds, count }));
        }
    }

    /// Puts the line of an event behind the others, unless too many bytes wait already. An event after a lost one is lost, too, so
    /// there is one gap.
    fn tell(&mut self, line: &[u8]) {
        if self.output.len() + line.len() > EVENTS_MAX {
            // If the connection broke, its next write notices that, too.
            self.write();
        }
        let Some(lost) = &mut self.listens else { return };
        if *lost == 0 && self.output.len() + line.len() <= EVENTS_MAX {
            self.output.extend_from_slice(line);
        } else {
            *lost += 1;
        }
    }
}

fn may_go_on(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn line_of(answer: &Answer) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).unwrap_or_else(|error| {
        format!("{{\"error\":\"the answer cannot be written as JSON, which is a bug of minivmm: {error}\"}}")
            .into()
    });
    line.push(b'\n');
    line
}

/// The socket and its clients. Dropping it removes the file.
#[derive(Debug)]
pub struct Server {
    socket: Socket,
    clients: Vec<Client>,
    next: u64,
}

impl Server {
    /// Creates the socket, for this user alone. It replaces a socket that has no listener.
    ///
    /// # Errors
    /// If the path is taken, or the host refuses it.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        Ok(Self { socket: Socket::bind(WHAT, path)?, clients: Vec::new(), next: 0 })
    }

    /// The folder of the socket, from which it is removed at the end.
    pub fn folder(&self) -> &Path {
        folder_of(self.socket.path())
    }

    /// The next request, with its client. The client's next request comes after the [`answer`](Self::answer) to this one. A line
    /// that is not a request is answered here.
    pub fn next_request(&mut self, ops: &mut EventOps<'_>) -> Option<(ClientId, Request)> {
        loop {
            let (client, line) =
                self.clients.iter_mut().find_map(|client| client.line().map(|end| (client, end)))?;
            let line: Vec<u8> = client.input.drain(..=line).collect();
            let id = client.id;
            match serde_json::from_slice(&line) {
                Ok(request) => {
                    client.waits = true;
                    self.settle(id, ops);
                    return Some((id, request));
                }
                Err(error) => {
                    client.refuse(format!(
                        "invalid request: {error}; a request is a line like {{\"verb\": \"status\"}}"
                    ));
                    self.settle(id, ops);
                }
            }
        }
    }

    /// Answers the request of a client, if it is still there.
    pub fn answer(&mut self, id: ClientId, answer: &Answer, ops: &mut EventOps<'_>) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.id == id) {
            client.waits = false;
            client.output = line_of(answer);
            self.settle(id, ops);
        }
    }

    /// Answers the request of a client by a stream of events that begins with `answer`, if the client is still there.
    pub fn begin_events(&mut self, id: ClientId, answer: &Answer, ops: &mut EventOps<'_>) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.id == id) {
            client.listens = Some(0);
            client.input = Vec::new();
            self.answer(id, answer, ops);
        }
    }

    /// Whether a client gets events.
    pub fn has_listeners(&self) -> bool {
        self.clients.iter().any(|client| client.listens.is_some())
    }

    /// Sends events to the clients that get events.
    pub fn tell(&mut self, events: Vec<Event>, ops: &mut EventOps<'_>) {
        self.queue(events);
        let listeners: Vec<ClientId> = self.listeners().map(|client| client.id).collect();
        for id in listeners {
            self.settle(id, ops);
        }
    }

    /// Sends the last events. The event loop has ended: a client that does not take all of them at once misses the rest.
    pub fn tell_the_end(&mut self, events: Vec<Event>) {
        self.queue(events);
        for client in self.listeners() {
            client.write();
        }
    }

    /// Puts events behind the others of each client that gets events.
    fn queue(&mut self, events: Vec<Event>) {
        for event in events {
            let line = line_of(&Answer::Event(event));
            self.listeners().for_each(|client| client.tell(&line));
        }
    }

    fn listeners(&mut self) -> impl Iterator<Item = &mut Client> {
        self.clients.iter_mut().filter(|client| client.listens.is_some())
    }

    /// Writes what the client takes, and waits for its next event. Drops a client that is finished.
    fn settle(&mut self, id: ClientId, ops: &mut EventOps<'_>) {
        let Some(index) = self.clients.iter().position(|client| client.id == id) else { return };
        let client = &mut self.clients[index];
        let whole = client.write();
        let is_free = !client.waits && client.listens.is_none() && client.output.is_empty();
        let done = client.ends && is_free && client.line().is_none();
        let heard = whole && !done && ops.modify(Events::new(&client.stream, client.interest())).is_ok();
        if !heard {
            self.let_go(index, ops);
        }
    }

    fn let_go(&mut self, index: usize, ops: &mut EventOps<'_>) {
        let client = self.clients.remove(index);
        let _ = ops.remove(Events::empty(&client.stream));
    }

    fn accept(&mut self, ops: &mut EventOps<'_>) {
        let stream = match self.socket.accept() {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!("the API socket takes no more clients: {error}");
                let _ = ops.remove(Events::empty(&self.socket.listener));
                return;
            }
        };
        if self.clients.len() >= CLIENTS_MAX {
            let silent = self
                .clients
                .iter()
                .enumerate()
                .min_by_key(|(_, client)| (client.waits || client.listens.is_some(), client.heard));
            if let Some((index, _)) = silent {
                self.let_go(index, ops);
            }
        }
        if ops.add(Events::new(&stream, EventSet::IN)).is_ok() {
            let id = ClientId(self.next);
            self.next += 1;
            let (input, output) = (Vec::new(), Vec::new());
            let heard = Instant::now();
            self.clients.push(Client {
                id,
                stream,
                input,
                output,
                waits: false,
                listens: None,
                ends: false,
                heard,
            });
        }
    }
}

impl MutEventSubscriber for Server {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        if events.fd() == self.socket.listener.as_raw_fd() {
            return self.accept(ops);
        }
        let Some(index) = self.clients.iter().position(|client| client.stream.as_raw_fd() == events.fd())
        else {
            return;
        };
        let client = &mut self.clients[index];
        let set = events.event_set();
        let whole = if set.contains(EventSet::IN) {
            client.read()
        } else {
            // A client that hung up takes no answer.
            !set.intersects(EventSet::HANG_UP | EventSet::ERROR)
        };
        if whole {
            self.settle(self.clients[index].id, ops);
        } else {
            self.let_go(index, ops);
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(&self.socket.listener, EventSet::IN)) {
            tracing::warn!("cannot listen to the API socket: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
