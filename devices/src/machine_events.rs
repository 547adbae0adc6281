//! What the guest reported to its machine: it booted, it is done, or it panicked.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What the guest reported so far. Only the first boot mark and the first status count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
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
    reported: Mutex<Reported>,
    event: EventFd,
}

impl MachineEvents {
    /// A record of a guest that reported nothing yet.
    ///
    /// # Errors
    /// The error of eventfd(2), when the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { reported: Mutex::default(), event: EventFd::new(EFD_NONBLOCK)? })
    }

    /// What the guest reported so far.
    pub fn reported(&self) -> Reported {
        *self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes readable when the record has changed; the event loop reads it, then [`reported`](Self::reported).
    pub fn eventfd(&self) -> &EventFd {
        &self.event
    }

    pub(crate) fn booted(&self) {
        self.record(|reported| Reported {
            booted: reported.booted.or_else(|| Some(Instant::now())),
            ..reported
        });
    }

    pub(crate) fn exit(&self, status: u8) {
        self.record(|reported| Reported { exit: reported.exit.or(Some(status)), ..reported });
    }

    pub(crate) fn panicked(&self) {
        self.record(|reported| Reported { panicked: true, ..reported });
    }

    fn record(&self, change: impl FnOnce(Reported) -> Reported) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(*reported);
        if changed != *reported {
            *reported = changed;
            // The only error is EAGAIN at a full counter, and then the loop is awake.
            let _ = self.event.write(1);
        }
    }
}
