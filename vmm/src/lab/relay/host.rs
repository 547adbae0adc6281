//! The host's side of a relay, in a thread of its own.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::Side;
use crate::api::server::Socket;

/// The host's end of the connections to a socket of the machine in the lab; dropping it waits for the stream's end.
pub(in crate::lab) struct Relay {
    thread: Option<JoinHandle<io::Result<()>>>,
    _socket: Socket,
}

impl Relay {
    pub(in crate::lab) fn begin(socket: Socket, port: UnixStream) -> io::Result<Self> {
        port.set_nonblocking(true)?;
        let port = File::from(OwnedFd::from(port));
        let listener = socket.listener.try_clone()?;
        let thread = thread::Builder::new().name("relay".into());
        #[expect(clippy::disallowed_methods, reason = "this process runs no machine")]
        let thread = thread.spawn(move || super::run(Side::Host(listener), port))?;
        Ok(Self { thread: Some(thread), _socket: socket })
    }

    /// Waits until the last answer is with its client, at most for `limit`.
    pub(in crate::lab) fn wait(&self, limit: Duration) {
        let begun = Instant::now();
        let is_finished = || self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        while !is_finished() && begun.elapsed() < limit {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A stream that broke ended with the emulator.
            let _ = thread.join();
        }
    }
}
