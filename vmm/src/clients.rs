//! The clients of a Unix socket in the event loop. No client can make the loop wait or the number of clients grow.

use std::{
    io,
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::Path,
    time::Instant,
};

use devices::socket::{Socket, SocketError};
use event_manager::{EventOps, EventSet, Events};

use crate::guest::whole_file::folder_of;

/// The most clients at a time. A further client takes the place of one that is there.
pub const CLIENTS_MAX: usize = 16;

/// A client.
pub trait Client {
    /// A client that has just come.
    fn new(stream: UnixStream) -> Self;

    /// Its connection.
    fn stream(&self) -> &UnixStream;

    /// The events to wait for.
    fn interest(&self) -> EventSet;

    /// Reads a piece of what it sends. Returns false if it is finished, or its connection broke.
    fn read(&mut self) -> bool;

    /// Writes as much as it takes. Returns false if it is finished, or its connection broke.
    fn write(&mut self) -> bool;

    /// Whether it waits for something, and when it last sent something. The smallest gives its place to a further client.
    fn claim(&self) -> (bool, Instant);
}

/// A socket and its clients. Dropping it removes the file.
#[derive(Debug)]
pub struct Clients<C> {
    /// The name of the socket in messages.
    what: &'static str,
    socket: Socket,
    all: Vec<C>,
}

impl<C: Client> Clients<C> {
    /// Creates the socket, for this user alone. It replaces a socket that has no listener.
    ///
    /// # Errors
    /// If the path is taken, or the host refuses it.
    pub fn bind(what: &'static str, path: &Path) -> Result<Self, SocketError> {
        Ok(Self { what, socket: Socket::bind(what, path)?, all: Vec::new() })
    }

    /// The folder of the socket, from which it is removed at the end.
    pub fn folder(&self) -> &Path {
        folder_of(self.socket.path())
    }

    /// The clients, in the order in which they came.
    pub fn all(&self) -> &[C] {
        &self.all
    }

    /// The same, to change them.
    pub fn all_mut(&mut self) -> &mut [C] {
        &mut self.all
    }

    /// Waits for clients.
    pub fn listen(&self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(&self.socket.listener, EventSet::IN)) {
            tracing::warn!("cannot listen to the {}: {error}", self.what);
        }
    }

    /// Handles an event of the socket or of a client.
    pub fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        if events.fd() == self.socket.listener.as_raw_fd() {
            return self.accept(ops);
        }
        let Some(index) = self.all.iter().position(|client| client.stream().as_raw_fd() == events.fd())
        else {
            return;
        };
        let set = events.event_set();
        let whole = if set.contains(EventSet::IN) {
            self.all[index].read()
        } else {
            // A client that hung up takes no answer.
            !set.intersects(EventSet::HANG_UP | EventSet::ERROR)
        };
        if whole {
            self.settle(index, ops);
        } else {
            self.let_go(index, ops);
        }
    }

    /// Writes what the client takes, and waits for its next event. Drops a client that is finished, or whose connection broke.
    pub fn settle(&mut self, index: usize, ops: &mut EventOps<'_>) {
        let client = &mut self.all[index];
        if !client.write() || ops.modify(Events::new(client.stream(), client.interest())).is_err() {
            self.let_go(index, ops);
        }
    }

    fn let_go(&mut self, index: usize, ops: &mut EventOps<'_>) {
        let client = self.all.remove(index);
        let _ = ops.remove(Events::empty(client.stream()));
    }

    fn accept(&mut self, ops: &mut EventOps<'_>) {
        let stream = match self.socket.accept() {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!("the {} takes no more clients: {error}", self.what);
                let _ = ops.remove(Events::empty(&self.socket.listener));
                return;
            }
        };
        if self.all.len() >= CLIENTS_MAX {
            let least = self.all.iter().enumerate().min_by_key(|(_, client)| client.claim());
            if let Some((index, _)) = least {
                self.let_go(index, ops);
            }
        }
        if ops.add(Events::new(&stream, EventSet::IN)).is_ok() {
            self.all.push(C::new(stream));
        }
    }
}

/// Whether a connection with this error is whole.
pub fn may_go_on(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
