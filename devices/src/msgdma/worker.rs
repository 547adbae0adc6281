//! The engine's thread: copies what descriptors describe, in small pieces, and through the DMA port only.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering};

use super::{
    descriptor::Run,
    faults::Transfer,
    registers::{Job, Outcome, Registers, Task},
    regs,
};
use crate::dma::DmaPort;
/// The most bytes copied at once. A piece lies inside a page on both sides, so that the port permits all of it or nothing.
const PIECE: usize = 4096;

/// A page of guest memory: RAM and windows begin and end with one.
pub(super) const PAGE_SIZE: u64 = PIECE as u64;

/// What the vCPU threads and the worker share.
pub(super) struct Shared {
    registers: Mutex<Registers>,
    wake: Condvar,
}

impl Shared {
    pub(super) fn new(registers: Registers) -> Self {
        Self { registers: Mutex::new(registers), wake: Condvar::new() }
    }

    /// The registers. The caller holds the lock for a short time only.
    pub(super) fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the worker look at the registers.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until there is a job; none if the engine was switched off.
    fn next_job(&self) -> Option<Job> {
        let mut registers = self.registers();
        loop {
            match registers.next_task() {
                Task::Job(job) => return Some(job),
                Task::Off => return None,
                Task::Wait => registers = self.wake.wait(registers).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Carries out jobs until the engine is switched off. No lock is held while it does.
pub(super) fn run(shared: &Shared, dma: &DmaPort) {
    let breaks = shared.registers().breaks();
    while let Some(mut job) = shared.next_job() {
        let outcome = carry_out(&mut job, dma, &mut || breaks.load(Ordering::Relaxed));
        shared.registers().finished(job, outcome);
    }
}

/// Carries out `job` from where it is, rightly or with its fault. `breaks` is asked before each piece whether to break off.
pub(super) fn carry_out(job: &mut Job, dma: &DmaPort, breaks: &mut impl FnMut() -> bool) -> Outcome {
    let length = u64::from(job.descriptor.length);
    match job.fault {
        None => copy(job, length, dma, breaks),
        Some(Transfer::Early { bytes }) => match copy(job, length.min(bytes.into()), dma, breaks) {
            Outcome::Ended(status) => Outcome::Ended(status | regs::RESP_EARLY),
            Outcome::Held => Outcome::Held,
        },
        Some(Transfer::Torn { bytes }) => {
            let outcome = copy(job, length.min(bytes.into()), dma, breaks);
            if outcome == Outcome::Ended(0) {
                job.done = length;
            }
            outcome
        }
        // The registers keep such a job for themselves.
        Some(Transfer::Stuck) => Outcome::Held,
    }
}

/// Copies from where the job is to byte `end` of its data.
fn copy(job: &mut Job, end: u64, dma: &DmaPort, breaks: &mut impl FnMut() -> bool) -> Outcome {
    let mut buffer = [0; PIECE];
    while job.done < end {
        if breaks() {
            return Outcome::Held;
        }
        let Some(from) = job.descriptor.source.run(job.done) else {
            return Outcome::Ended(regs::RESP_ERROR_READ);
        };
        let Some(to) = job.descriptor.destination.run(job.done) else {
            return Outcome::Ended(regs::RESP_ERROR_WRITE);
        };
        let len = (end - job.done).min(in_page(from)).min(in_page(to));
        let piece = &mut buffer[..usize::try_from(len).map_or(PIECE, |len| len.min(PIECE))];
        if dma.read_into(from.address, piece).is_err() {
            return Outcome::Ended(regs::RESP_ERROR_READ);
        }
        let Ok(write) = dma.begin_write(to.address, piece.len() as u64) else {
            return Outcome::Ended(regs::RESP_ERROR_WRITE);
        };
        write.write(0, piece);
        write.publish();
        job.done += piece.len() as u64;
    }
    Outcome::Ended(0)
}

/// Bytes of `run` that lie in the page of its first one.
fn in_page(run: Run) -> u64 {
    (PAGE_SIZE - run.address % PAGE_SIZE).min(run.len.max(1))
}
