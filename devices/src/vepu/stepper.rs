//! Does the work of the encoder's thread, one step at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    registers::{Job, Task},
    worker::{Shared, Worker},
};

/// Encodes for an encoder that [`Vepu::stepped`](super::Vepu::stepped) built.
pub struct Stepper {
    shared: Arc<Shared>,
    worker: Worker,
    now: Instant,
    /// The picture in work.
    job: Option<Job>,
}

impl Stepper {
    pub(super) fn new(shared: Arc<Shared>, worker: Worker) -> Self {
        Self { shared, worker, now: Instant::now(), job: None }
    }

    /// Lets this time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Takes the next picture, if there is one and none is in work. Returns whether one is in work: what the guest does now, it does while
    /// the encoder encodes.
    pub fn begin(&mut self) -> bool {
        if self.job.is_none()
            && let Task::Encode(job) = self.shared.registers().poll(self.now)
        {
            self.job = Some(job);
        }
        self.job.is_some()
    }

    /// The pixels of the picture in work, which decide how long it takes; 0 without one.
    pub fn pixels(&self) -> u64 {
        self.job.map_or(0, |job| job.place.size.into_iter().map(u64::from).product())
    }

    /// Encodes the picture in work, if there is one, and reports it.
    pub fn finish(&mut self) {
        if let Some(job) = self.job.take() {
            let outcome = self.worker.encode(&job);
            self.shared.registers().finished(outcome, self.now);
        }
    }
}
