//! The threads that carry out the requests of a disk, and the requests on their way to and from them.
//!
//! The transport hands requests over in [`Pool::add`], a worker carries one out at a time, and the transport takes those that are done
//! by [`Pool::take_done`]. No lock is held while a worker is at a request.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    limits::{CHUNK, QUEUE_SIZE},
    media::Media,
};
use crate::{dma::DmaPort, virtio::request::Request};

/// A request and the number of its queue.
pub(super) struct Job {
    pub(super) queue: usize,
    pub(super) request: Request,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    done: Vec<Job>,
    /// The number of requests that workers are at.
    in_work: usize,
    /// For each queue the number of requests that were handed over and not taken back.
    taken: Vec<usize>,
    /// The number of workers that have not ended.
    workers: usize,
    ends: bool,
}

/// The requests of a disk that its workers share.
pub(super) struct Pool {
    state: Mutex<State>,
    /// A request waits, or the workers end.
    wake: Condvar,
    /// No worker is at a request.
    idle: Condvar,
}

impl Pool {
    /// For this number of queues and of workers.
    pub(super) fn new(queues: usize, workers: usize) -> Self {
        let state = State { taken: vec![0; queues], workers, ..State::default() };
        Self { state: Mutex::new(state), wake: Condvar::new(), idle: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether as many requests of `queue` are here as it has entries. A driver has no more in a queue, unless it is hostile.
    pub(super) fn is_full(&self, queue: usize) -> bool {
        self.state().taken[queue] >= usize::from(QUEUE_SIZE)
    }

    /// Hands a request over to the workers.
    pub(super) fn add(&self, queue: usize, request: Request) {
        let mut state = self.state();
        state.taken[queue] += 1;
        state.waiting.push_back(Job { queue, request });
        drop(state);
        self.wake.notify_one();
    }

    /// Takes the requests that are done.
    pub(super) fn take_done(&self) -> Vec<Job> {
        let mut state = self.state();
        let done = mem::take(&mut state.done);
        for job in &done {
            state.taken[job.queue] -= 1;
        }
        done
    }

    /// Drops all requests. When this returns, no worker is at one.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        state.waiting.clear();
        while state.in_work > 0 {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.done.clear();
        state.taken.fill(0);
    }

    /// Ends the workers after the requests that they are at.
    pub(super) fn end(&self) {
        self.state().ends = true;
        self.wake.notify_all();
    }

    /// The work of a worker, which reaches the guest's buffers through `memory`, until [`end`](Self::end). It calls `announce`
    /// after each request. The last worker completes the file.
    pub(super) fn work(&self, media: &Media, memory: &DmaPort, announce: impl Fn()) {
        let mut buffer = vec![0; CHUNK];
        while let Some(mut job) = self.next() {
            media.carry_out(&mut job.request, memory, &mut buffer);
            let mut state = self.state();
            state.done.push(job);
            state.in_work -= 1;
            if state.in_work == 0 {
                self.idle.notify_all();
            }
            drop(state);
            announce();
        }
        let mut state = self.state();
        state.workers -= 1;
        let is_last = state.workers == 0;
        drop(state);
        if is_last {
            media.close();
        }
    }

    /// The next request for a worker, which is at it from now on; none if the worker has to end.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.ends {
                return None;
            }
            if let Some(job) = state.waiting.pop_front() {
                state.in_work += 1;
                return Some(job);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
