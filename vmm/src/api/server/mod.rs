//! The socket of `--api-socket`, which the event loop serves: takes lines from clients, and hands answers and events back. No client
//! can make it wait or grow.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

pub use devices::socket::{Socket, SocketError};

use super::{Answer, Event, REQUEST_MAX, Request};
use crate::{
    clients::{Client, Clients, may_go_on},
    observe::process::since_process_start,
};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

/// The name of the socket in messages.
pub const WHAT: &str = "API socket";

/// The most bytes of events that wait for a client. Further events are lost to it.
const EVENTS_MAX: usize = 64 << 10;

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientId(u64);

#[derive(Debug)]
struct Asker {
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

impl Asker {
    /// The end of its next line, if it has one and its last request is finished.
    fn line(&self) -> Option<usize> {
        let free = !self.waits && self.output.is_empty() && self.listens.is_none();
        self.input.iter().position(|&byte| byte == b'\n').filter(|_| free)
    }

    fn refuse(&mut self, sentence: String) {
        self.output = line_of(&Answer::Error(sentence));
    }

    /// Writes as much of the answer, or of the events, as it takes. Returns false if the connection broke.
    fn write_waiting(&mut self) -> bool {
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
            self.write_waiting();
        }
        let Some(lost) = &mut self.listens else { return };
        if *lost == 0 && self.output.len() + line.len() <= EVENTS_MAX {
            self.output.extend_from_slice(line);
        } else {
            *lost += 1;
        }
    }
}

impl Client for Asker {
    fn new(stream: UnixStream) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = ClientId(NEXT.fetch_add(1, Ordering::Relaxed));
        let (input, output, heard) = (Vec::new(), Vec::new(), Instant::now());
        Self { id, stream, input, output, waits: false, listens: None, ends: false, heard }
    }

    fn stream(&self) -> &UnixStream {
        &self.stream
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

    fn write(&mut self) -> bool {
        let whole = self.write_waiting();
        let is_free = !self.waits && self.listens.is_none() && self.output.is_empty();
        let is_finished = self.ends && is_free && self.line().is_none();
        whole && !is_finished
    }

    /// A client that waits for an answer or gets events stays before those that are silent.
    fn claim(&self) -> (bool, Instant) {
        (self.waits || self.listens.is_some(), self.heard)
    }
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
pub struct Server(Clients<Asker>);

impl Server {
    /// Creates the socket, for this user alone. It replaces a socket that has no listener.
    ///
    /// # Errors
    /// If the path is taken, or the host refuses it.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        Ok(Self(Clients::bind(WHAT, path)?))
    }

    /// The folder of the socket, from which it is removed at the end.
    pub fn folder(&self) -> &Path {
        self.0.folder()
    }

    /// The next request, with its client. The client's next request comes after the [`answer`](Self::answer) to this one. A line
    /// that is not a request is answered here.
    pub fn next_request(&mut self, ops: &mut EventOps<'_>) -> Option<(ClientId, Request)> {
        loop {
            let (client, line) =
                self.0.all_mut().iter_mut().find_map(|client| client.line().map(|end| (client, end)))?;
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
        if let Some(client) = self.0.all_mut().iter_mut().find(|client| client.id == id) {
            client.waits = false;
            client.output = line_of(answer);
            self.settle(id, ops);
        }
    }

    /// Answers the request of a client by a stream of events that begins with `answer`, if the client is still there.
    pub fn begin_events(&mut self, id: ClientId, answer: &Answer, ops: &mut EventOps<'_>) {
        if let Some(client) = self.0.all_mut().iter_mut().find(|client| client.id == id) {
            client.listens = Some(0);
            client.input = Vec::new();
            self.answer(id, answer, ops);
        }
    }

    /// Whether a client gets events.
    pub fn has_listeners(&self) -> bool {
        self.0.all().iter().any(|client| client.listens.is_some())
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
            client.write_waiting();
        }
    }

    /// Puts events behind the others of each client that gets events.
    fn queue(&mut self, events: Vec<Event>) {
        for event in events {
            let line = line_of(&Answer::Event(event));
            self.listeners().for_each(|client| client.tell(&line));
        }
    }

    fn listeners(&mut self) -> impl Iterator<Item = &mut Asker> {
        self.0.all_mut().iter_mut().filter(|client| client.listens.is_some())
    }

    fn settle(&mut self, id: ClientId, ops: &mut EventOps<'_>) {
        if let Some(index) = self.0.all().iter().position(|client| client.id == id) {
            self.0.settle(index, ops);
        }
    }
}

impl MutEventSubscriber for Server {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        self.0.process(events, ops);
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        self.0.listen(ops);
    }
}

#[cfg(test)]
mod tests;
