//! Signals that end the machine in order: SIGINT, SIGTERM, SIGHUP; and SIGWINCH, which resizes its terminal.

use std::{
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};

/// The process' signals as an event source; their default action is restored by nobody, so one per process.
#[derive(Debug)]
pub struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// Takes over the signals.
    ///
    /// # Errors
    /// If the host refuses a socket or a handler.
    pub fn take_over() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        SignalDelivery::with_pipe(read, write, SignalOnly, [SIGINT, SIGTERM, SIGHUP, SIGWINCH]).map(Self)
    }

    /// Reads what has come: the signal that ends the machine, if there was one, and whether the terminal changed.
    pub fn pending(&mut self) -> (Option<i32>, bool) {
        let mut end = None;
        let mut resized = false;
        for signal in self.0.pending() {
            if signal == SIGWINCH {
                resized = true;
            } else {
                end = end.or(Some(signal));
            }
        }
        (end, resized)
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.get_read().as_raw_fd()
    }
}
