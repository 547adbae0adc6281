//! The controller's thread: waits for the panel's clock and the guest, scans frames out, and shows them to those who look.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicBool, mpsc::Sender},
    time::Instant,
};

use media::{Captured, Recorder};

use super::{
    registers::{Job, Registers, Task},
    scan::Scanner,
};
use crate::dma::DmaPort;

/// What the vCPU threads and the worker share.
pub(super) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

/// Everything that the guest programs, and who waits for a picture.
pub(super) struct State {
    pub(super) registers: Registers,
    /// The receivers of the next picture.
    pub(super) viewers: Vec<Sender<Captured>>,
}

impl Shared {
    pub(super) fn new(registers: Registers) -> Self {
        Self { state: Mutex::new(State { registers, viewers: Vec::new() }), wake: Condvar::new() }
    }

    /// The state. The caller holds the lock for a short time only.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the worker look at the state.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a frame to scan out; none if the controller was switched off.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            state = match state.registers.poll(now) {
                Task::Scan(job) => return Some(job),
                Task::Off => return None,
                Task::Wait => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Task::WaitUntil(then) => {
                    let wait = then.saturating_duration_since(now);
                    self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// What scans frames out.
pub(super) struct Worker {
    dma: DmaPort,
    scanner: Scanner,
    recorder: Option<Recorder>,
    /// Whether pictures that equal the one before are recorded, too.
    records_all: bool,
    /// The checksum of the picture that was recorded last.
    recorded: Option<u32>,
    abandon: Arc<AtomicBool>,
}

impl Worker {
    /// A worker whose recorder gets every frame if it `records_all`, else every frame that differs from the one before.
    pub(super) fn new(
        dma: DmaPort,
        recorder: Option<Recorder>,
        records_all: bool,
        abandon: Arc<AtomicBool>,
    ) -> Self {
        Self { dma, scanner: Scanner::default(), recorder, records_all, recorded: None, abandon }
    }

    /// Scans frames out until the controller is switched off.
    pub(super) fn run(mut self, shared: &Shared) {
        while let Some(job) = shared.next_job() {
            self.scan(shared, &job, Instant::now);
        }
    }

    /// Scans out the frame of `job`, and reports it at the time that `now` says then. It holds no lock meanwhile.
    pub(super) fn scan(&mut self, shared: &Shared, job: &Job, now: impl FnOnce() -> Instant) {
        let is_kept = self.recorder.is_some() || !shared.state().viewers.is_empty();
        let outcome = self.scanner.scan(job, &self.dma, is_kept, &self.abandon);
        let mut state = shared.state();
        if !state.registers.finished(outcome, now()) {
            return;
        }
        let Some(picture) = self.scanner.picture() else { return };
        let viewers = std::mem::take(&mut state.viewers);
        drop(state);
        for viewer in viewers {
            // A receiver that is gone does not matter.
            let _ = viewer.send(picture.captured(job.number, Vec::new()));
        }
        if let Some(recorder) = &mut self.recorder
            && (self.records_all || self.recorded != outcome.crc)
            && recorder.record(job.interval, &self.abandon, |memory| picture.captured(job.number, memory))
        {
            self.recorded = outcome.crc;
        }
    }
}
