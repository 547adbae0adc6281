//! Does the work of the engine's thread, one step at a time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    registers::{Job, Task},
    worker::{Shared, carry_out},
};
use crate::dma::DmaPort;

/// Copies for an engine that [`Msgdma::stepped`](super::Msgdma::stepped) built.
pub struct Stepper {
    shared: Arc<Shared>,
    dma: DmaPort,
    breaks: Arc<AtomicBool>,
    /// The descriptor in work.
    job: Option<Job>,
}

impl Stepper {
    pub(super) fn new(shared: Arc<Shared>, dma: DmaPort) -> Self {
        let breaks = shared.registers().breaks();
        Self { shared, dma, breaks, job: None }
    }

    /// Takes the next descriptor, if the engine runs and none is in work. Returns whether one is in work: what the guest does now,
    /// it does while the engine copies.
    pub fn begin(&mut self) -> bool {
        if self.job.is_none() {
            self.job = match self.shared.registers().next_task() {
                Task::Job(job) => Some(job),
                Task::Wait | Task::Off => None,
            };
        }
        self.job.is_some()
    }

    /// Copies at most `pieces` pieces of the descriptor in work, if there is one. What is left is in work again after the next
    /// [`begin`](Self::begin).
    pub fn finish(&mut self, pieces: u32) {
        if let Some(mut job) = self.job.take() {
            let mut left = pieces;
            let mut breaks = || {
                let is_over = left == 0 || self.breaks.load(Ordering::Relaxed);
                left = left.saturating_sub(1);
                is_over
            };
            let outcome = carry_out(&mut job, &self.dma, &mut breaks);
            self.shared.registers().finished(job, outcome);
        }
    }
}
