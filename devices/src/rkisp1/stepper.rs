//! Does the work of a camera's thread and clock, one step at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    registers::{Job, Task},
    worker::{Shared, Worker},
};

/// Passes the time of a camera that [`Rkisp1::stepped`](super::Rkisp1::stepped) built, and makes its frames.
pub struct Stepper {
    shared: Arc<Shared>,
    worker: Worker,
    now: Instant,
    /// The frame in work.
    job: Option<Job>,
}

impl Stepper {
    pub(super) fn new(shared: Arc<Shared>, worker: Worker) -> Self {
        Self { shared, worker, now: Instant::now(), job: None }
    }

    /// Lets this time pass. No frame begins yet.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Begins the next frame, if one is due and none is in work. Whether a frame is in work: what the guest does now, it does while
    /// the camera makes it.
    pub fn begin(&mut self) -> bool {
        if self.job.is_none()
            && let Task::Frame(job) = self.shared.state().poll(self.now, &mut self.worker.params)
        {
            self.job = Some(job);
        }
        self.job.is_some()
    }

    /// The number of pixels of the sensor's array that the current frame reads, which decides how long it takes; 0 without a frame.
    pub fn pixels(&self) -> u64 {
        self.job.as_ref().map_or(0, |job| {
            let [width, height] = job.sensor.settings.size.map(|pixels| pixels * job.sensor.settings.binning);
            u64::from(width) * u64::from(height)
        })
    }

    /// Makes the frame in work, if there is one.
    pub fn finish(&mut self) {
        if let Some(job) = self.job.take() {
            let outcome = self.worker.make(&job);
            let ending = self.shared.state().registers.written();
            self.now += ending.delay();
            self.worker.report(&self.shared, &job, outcome, &ending);
        }
    }
}
