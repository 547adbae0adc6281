//! Stages that run as soon as the stages that they need have passed, side by side.

use std::{
    any::Any,
    collections::BTreeSet,
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, Scope},
    time::{Duration, Instant},
};

use super::commands;

/// A stage that has begun or will begin, and its result once it has ended.
#[derive(Debug)]
pub(crate) struct Stage<T>(Arc<OnceLock<Option<T>>>);

impl<T> Clone for Stage<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone> Stage<T> {
    /// Waits until it has ended, and returns its result if it passed.
    pub(crate) fn wait(&self) -> Option<T> {
        self.0.wait().clone()
    }
}

/// How a stage ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StageEnd {
    Passed,
    /// The error, and the first panics in its output.
    Failed(String),
    /// A stage that it needs has failed.
    NotRun,
}

/// A stage that has ended.
#[derive(Debug)]
pub(crate) struct Row {
    pub name: String,
    /// When it began, counted from the first stage's begin.
    pub begun: Duration,
    pub took: Duration,
    /// Time of CPUs that its commands used.
    pub cpus: Duration,
    pub end: StageEnd,
}

/// All stages.
#[derive(Debug)]
pub(crate) struct Stages {
    begun: Instant,
    rows: Mutex<Vec<Row>>,
    tests: Mutex<Vec<(String, Duration)>>,
    labs: Permits,
}

impl Stages {
    /// No stages yet; there will be at most as many labs at a time as this machine has CPUs.
    pub(crate) fn new() -> Self {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        Self {
            begun: Instant::now(),
            rows: Mutex::default(),
            tests: Mutex::default(),
            labs: Permits::new(cpus),
        }
    }

    /// Begins the stage `name`, which does `work` with the result of `needs`: `needs` waits for other stages, and returns
    /// none if one of them failed.
    pub(crate) fn begin<'scope, N, T, E: Display>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        name: impl Into<String>,
        needs: impl FnOnce() -> Option<N> + Send + 'scope,
        work: impl FnOnce(N) -> Result<T, E> + Send + 'scope,
    ) -> Stage<T>
    where
        T: Send + Sync + 'scope,
    {
        let stage = Stage(Arc::default());
        let (name, made) = (name.into(), stage.0.clone());
        scope.spawn(move || {
            // Whatever happens, who waits for this stage goes on.
            let ended = catch_unwind(AssertUnwindSafe(|| self.run(&name, needs, work)));
            let ended = ended.unwrap_or_else(|panic| {
                self.end(&name, Instant::now(), Some(&panicked(panic.as_ref())));
                None
            });
            let _ = made.set(ended);
        });
        stage
    }

    fn run<N, T, E: Display>(
        &self,
        name: &str,
        needs: impl FnOnce() -> Option<N>,
        work: impl FnOnce(N) -> Result<T, E>,
    ) -> Option<T> {
        let Some(needed) = needs() else {
            eprintln!("verify: {name} is not run: a stage that it needs has failed");
            lock(&self.rows).push(Row {
                name: name.to_owned(),
                begun: self.begun.elapsed(),
                took: Duration::ZERO,
                cpus: Duration::ZERO,
                end: StageEnd::NotRun,
            });
            return None;
        };
        eprintln!("verify: {name}");
        let start = Instant::now();
        match work(needed) {
            Ok(made) => {
                self.end(name, start, None);
                Some(made)
            }
            Err(error) => {
                self.end(name, start, Some(&error.to_string()));
                None
            }
        }
    }

    fn end(&self, name: &str, start: Instant, error: Option<&str>) {
        let took = start.elapsed();
        match error {
            None => eprintln!("verify: {name} passed in {} s", took.as_secs()),
            Some(error) => eprintln!("verify: {name} FAILED in {} s: {error}", took.as_secs()),
        }
        let panics = commands::panics();
        let end = error.map_or(StageEnd::Passed, |error| {
            StageEnd::Failed([error.to_owned()].into_iter().chain(panics).collect::<Vec<_>>().join("\n"))
        });
        let cpus = commands::cpu_time();
        lock(&self.rows).push(Row { name: name.to_owned(), begun: start - self.begun, took, cpus, end });
    }

    /// Waits until one more lab may run. The lab may run until the result is dropped. The waiting caller with the smallest
    /// `turn` is next.
    pub(crate) fn lab(&self, turn: usize) -> Permit<'_> {
        self.labs.take(turn)
    }

    /// Keeps the time of the test `name`.
    pub(crate) fn test_took(&self, name: String, took: Duration) {
        lock(&self.tests).push((name, took));
    }

    /// The ended stages in the order of their start, and the times of tests, the longest first.
    pub(crate) fn finish(self) -> (Vec<Row>, Vec<(String, Duration)>) {
        let mut rows = self.rows.into_inner().unwrap_or_else(PoisonError::into_inner);
        rows.sort_by_key(|row| row.begun);
        let mut tests = self.tests.into_inner().unwrap_or_else(PoisonError::into_inner);
        tests.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        (rows, tests)
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref().copied());
    format!("it panicked: {}", text.unwrap_or("see above"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number of permits, and those who wait for one, by their turn and the order in which they came.
#[derive(Debug)]
struct Permits {
    state: Mutex<(usize, BTreeSet<(usize, usize)>)>,
    came: std::sync::atomic::AtomicUsize,
    changed: Condvar,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Permits);

impl Permits {
    fn new(count: usize) -> Self {
        Self { state: Mutex::new((count, BTreeSet::new())), came: 0.into(), changed: Condvar::new() }
    }

    fn take(&self, turn: usize) -> Permit<'_> {
        let mine = (turn, self.came.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let mut state = lock(&self.state);
        state.1.insert(mine);
        while state.0 == 0 || state.1.first() != Some(&mine) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.0 -= 1;
        state.1.remove(&mine);
        self.changed.notify_all();
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).0 += 1;
        self.0.changed.notify_all();
    }
}
