//! What the guest told its machine: that it booted, that it is done, that it panicked.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What was told so far. Each is recorded once: what the guest says again changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// When the guest's init marked that it runs.
    pub booted: Option<Instant>,
    /// The status with which the guest asked the machine to end.
    pub exit: Option<u8>,
    /// The guest's kernel panicked.
    pub panicked: bool,
}

/// The way from the devices by which a guest speaks to its machine to the event loop: a record, and an eventfd
/// that wakes the loop when the record has changed.
#[derive(Debug)]
pub struct MachineEvents {
    told: Mutex<Told>,
    event: EventFd,
}

impl MachineEvents {
    /// Nothing was told yet.
    ///
    /// # Errors
    /// The error of eventfd(2), when the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { told: Mutex::default(), event: EventFd::new(EFD_NONBLOCK)? })
    }

    /// What was told so far.
    pub fn told(&self) -> Told {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes readable when the record has changed; the event loop reads it, then [`told`](Self::told).
    pub fn eventfd(&self) -> &EventFd {
        &self.event
    }

    pub(crate) fn booted(&self) {
        self.record(|told| Told { booted: told.booted.or_else(|| Some(Instant::now())), ..told });
    }

    pub(crate) fn exit(&self, status: u8) {
        self.record(|told| Told { exit: told.exit.or(Some(status)), ..told });
    }

    pub(crate) fn panicked(&self) {
        self.record(|told| Told { panicked: true, ..told });
    }

    fn record(&self, change: impl FnOnce(Told) -> Told) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(*told);
        if changed != *told {
            *told = changed;
            // The only error is EAGAIN at a full counter, and then the loop is awake.
            let _ = self.event.write(1);
        }
    }
}
