//! An interrupt line: an eventfd that the machine connects to an interrupt controller's input (irqfd).

use std::io;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// An edge-triggered interrupt line. Each [`raise`](IrqLine::raise) is one edge; edges that come faster than
/// the interrupt controller takes them merge, as on a wire.
#[derive(Debug)]
pub struct IrqLine(EventFd);

impl IrqLine {
    /// A line that nobody listens to yet.
    ///
    /// # Errors
    /// The error of eventfd(2), when the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        EventFd::new(EFD_NONBLOCK).map(Self)
    }

    /// Raises one edge. Nothing waits: a line whose counter is full stays raised.
    pub fn raise(&self) {
        // The only error is EAGAIN at 2^64-2 pending edges: the line is raised already.
        let _ = self.0.write(1);
    }

    /// Takes what was raised since the last call, as an interrupt controller would: true if there was an edge.
    pub fn take(&self) -> bool {
        self.0.read().is_ok()
    }

    /// The eventfd behind the line, for the machine to connect (KVM_IRQFD).
    pub fn eventfd(&self) -> &EventFd {
        &self.0
    }

    /// A second handle to the same line.
    ///
    /// # Errors
    /// The error of dup(2).
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl vm_superio::Trigger for IrqLine {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.raise();
        Ok(())
    }
}
