//! Threads that wait for the next frame. New threads for each frame would cost more time than a small frame, and memory.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
};

use crate::threads::{self, Role};

/// The work of a frame, which each thread does with its own number.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// A pool of threads for an [`Isp`](super::Isp). The caller is the first of them, and by default the only one.
#[derive(Debug, Default)]
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    begun: Condvar,
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// The current job. It is set for as long as a thread works on it.
    job: Option<Job<'static>>,
    /// The number of jobs so far, by which each thread does each job once.
    number: u64,
    /// The number of threads that have not finished the job.
    busy: usize,
    panicked: bool,
    is_over: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("number", &self.number)
            .field("busy", &self.busy)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads` threads, including the caller's.
    ///
    /// # Errors
    /// If a thread cannot start.
    pub fn new(threads: usize) -> io::Result<Self> {
        let mut pool = Self { shared: Arc::default(), threads: Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = Builder::new().name(format!("isp{index}"));
            pool.threads.push(threads::start(Role::Device, thread, move || work(&shared, index))?);
        }
        Ok(pool)
    }

    /// The number of threads, with the caller's.
    pub(super) fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs `job` on all threads, and waits for all of them.
    ///
    /// # Panics
    /// If the job panicked on a thread.
    pub(super) fn run(&mut self, job: Job<'_>) {
        if self.threads.is_empty() {
            return job(0);
        }
        // SAFETY: only the lifetime changes. No thread uses the job once `busy` is 0, and this function waits for that, even if
        // the job panics on this thread.
        let everlasting = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        {
            let mut state = self.shared.lock();
            state.job = Some(everlasting);
            state.number += 1;
            state.busy = self.threads.len();
            state.panicked = false;
        }
        self.shared.begun.notify_all();
        let own = panic::catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut state = self.shared.lock();
        while state.busy > 0 {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.job = None;
        let panicked = state.panicked;
        drop(state);
        if let Err(panic) = own {
            panic::resume_unwind(panic);
        }
        assert!(!panicked, "a thread of the ISP panicked");
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn work(shared: &Shared, index: usize) {
    let mut last = 0;
    loop {
        let mut state = shared.lock();
        while !state.is_over && state.number == last {
            state = shared.begun.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_over {
            return;
        }
        last = state.number;
        let job = state.job;
        drop(state);
        let done = panic::catch_unwind(AssertUnwindSafe(|| job.iter().for_each(|job| job(index))));
        let mut state = shared.lock();
        state.panicked |= done.is_err();
        state.busy -= 1;
        if state.busy == 0 {
            shared.done.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.begun.notify_all();
        for thread in self.threads.drain(..) {
            // The thread catches panics of its jobs, so there is no error.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_thread_does_each_job_once() {
        let mut pool = Pool::new(3).unwrap();
        for _ in 0..1000 {
            let counts = [const { AtomicUsize::new(0) }; 3];
            pool.run(&|index| {
                counts[index].fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(counts.map(AtomicUsize::into_inner), [1; 3]);
        }
    }

    #[test]
    fn a_panic_is_the_callers() {
        let mut pool = Pool::new(2).unwrap();
        for who in 0..2 {
            let result = panic::catch_unwind(AssertUnwindSafe(|| pool.run(&|index| assert!(index != who))));
            assert!(result.is_err());
        }
        let count = AtomicUsize::new(0);
        pool.run(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 2);
    }
}
