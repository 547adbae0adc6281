//! Does the work of a controller's thread and clock, one step at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    registers::{Job, Task},
    worker::{Shared, Worker},
};

/// Passes the time of a controller that [`Lcdif::stepped`](super::Lcdif::stepped) built, and scans its frames out.
pub struct Stepper {
    shared: Arc<Shared>,
    worker: Worker,
    now: Instant,
    /// The frame that is being read.
    job: Option<Job>,
}

impl Stepper {
    pub(super) fn new(shared: Arc<Shared>, worker: Worker) -> Self {
        Self { shared, worker, now: Instant::now(), job: None }
    }

    /// Lets this time pass. No frame ends yet.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Takes the next frame, if one is at its end and none is being read. Returns whether one is being read: what the guest does now, it
    /// does meanwhile.
    pub fn begin(&mut self) -> bool {
        if self.job.is_none()
            && let Task::Scan(job) = self.shared.state().registers.poll(self.now)
        {
            self.job = Some(job);
        }
        self.job.is_some()
    }

    /// Scans out the frame that is being read, if there is one, and reports it.
    pub fn finish(&mut self) {
        if let Some(job) = self.job.take() {
            let now = self.now;
            self.worker.scan(&self.shared, &job, || now);
        }
    }
}
