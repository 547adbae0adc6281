//! The host's side of the console: input with back-pressure, which ports are open, the terminal's size.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// How much input a port holds until the guest takes it, in bytes.
const CAPACITY: usize = 64 << 10;

#[derive(Default)]
struct Port {
    /// The guest has it open.
    open: bool,
    input: VecDeque<u8>,
    /// The host sends no more input.
    closed: bool,
    /// The host was told to come again.
    refused: bool,
}

struct State {
    /// The guest has a driver for the device.
    driven: bool,
    ports: Vec<Port>,
    size: (u16, u16),
}

/// What the device and the host's side of it share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// For the device: there is input, or its end, or another size, or room for output.
    wake: EventFd,
    /// For the host: there is room, or a port was opened or closed.
    changed: EventFd,
}

impl Shared {
    pub(super) fn new(ports: usize) -> io::Result<Self> {
        let state =
            State { driven: false, ports: (0..ports).map(|_| Port::default()).collect(), size: (0, 0) };
        Ok(Self {
            state: Mutex::new(state),
            wake: EventFd::new(EFD_NONBLOCK)?,
            changed: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    pub(super) fn wake(&self) -> &EventFd {
        &self.wake
    }

    pub(super) fn size(&self) -> (u16, u16) {
        self.state().size
    }

    pub(super) fn set_driven(&self, driven: bool) {
        self.state().driven = driven;
    }

    pub(super) fn set_open(&self, port: usize, open: bool) {
        let port = &mut self.state().ports[port];
        if port.open != open {
            port.open = open;
            port.refused = false;
            // Output that was not read before the port was closed is not for the next user.
            port.input.clear();
            notify(&self.changed);
        }
    }

    /// Lets `send` take input of `port` that goes to the guest.
    pub(super) fn feed<E>(
        &self,
        port: usize,
        send: impl FnOnce(&mut VecDeque<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let port = &mut self.state().ports[port];
        let result = send(&mut port.input);
        if port.refused && port.input.is_empty() {
            port.refused = false;
            notify(&self.changed);
        }
        result
    }

    /// Whether the host has closed `port` and the guest has taken all its input.
    pub(super) fn has_ended(&self, port: usize) -> bool {
        let port = &self.state().ports[port];
        port.closed && port.input.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host's side of a console, for any thread. Ports are numbered from 0, the terminal.
#[derive(Clone)]
pub struct ConsoleHandle(pub(super) Arc<Shared>);

impl ConsoleHandle {
    /// Sends `input` to the guest by `port`, as much of it as there is room for; returns how many bytes were
    /// taken, none if the guest has not opened the port. If not all were, [`event`](Self::event) tells when to
    /// come again.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn send(&self, port: usize, input: &[u8]) -> usize {
        let mut state = self.0.state();
        let port = &mut state.ports[port];
        let room = if port.open { CAPACITY - port.input.len() } else { 0 };
        let taken = &input[..input.len().min(room)];
        port.input.extend(taken);
        port.refused |= taken.len() < input.len();
        if !taken.is_empty() {
            notify(&self.0.wake);
        }
        taken.len()
    }

    /// Ends the input of `port`: when the guest has taken what was sent, it reads the end of the stream.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn close(&self, port: usize) {
        self.0.state().ports[port].closed = true;
        notify(&self.0.wake);
    }

    /// Takes output again that waits in the guest because a sink had no room.
    pub fn resume_output(&self) {
        notify(&self.0.wake);
    }

    /// Whether the guest has a driver for the device, so that it may open a port.
    pub fn is_driven(&self) -> bool {
        self.0.state().driven
    }

    /// Whether the guest has `port` open: whether something reads what is sent there.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn is_open(&self, port: usize) -> bool {
        self.0.state().ports[port].open
    }

    /// Becomes readable when the guest opened or closed a port, or took all input of a port that had refused some.
    pub fn event(&self) -> &EventFd {
        &self.0.changed
    }

    /// Tells the guest the size of the terminal.
    pub fn set_size(&self, columns: u16, rows: u16) {
        self.0.state().size = (columns, rows);
        notify(&self.0.wake);
    }
}

fn notify(event: &EventFd) {
    // The only error is EAGAIN at a full counter, and then the event is pending.
    let _ = event.write(1);
}
