//! A watch over the end of a machine. It names the part that does not end, and lets the process end without it.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::Builder,
    time::Duration,
};

use crate::sandbox::{self, Kind, violation};

/// The interval of the watch's looks. A process that was stopped (SIGSTOP) has no looks, so its pause does not count.
const INTERVAL: Duration = Duration::from_millis(250);
/// The number of looks at which a part that has not ended is stuck: 20 s.
pub const LOOKS: u32 = 80;

/// Stack of the thread, in bytes.
const STACK: usize = 128 << 10;

/// The watch. Clones share it. [`default`](Self::default) makes one that nobody keeps: then no wait has an end.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The part that has to end next.
    part: &'static str,
    /// Whether the part has a limit although nothing has stopped the machine.
    is_limited: bool,
    /// Number of looks at this part since it has its limit.
    looks: u32,
    has_ended: bool,
}

impl Watch {
    /// Starts a watch over a machine that runs. When `stopped` is set, a forbidden system call was made, or the part is
    /// [limited](Self::limit), and the part takes `looks` looks, it calls `stuck` with the part's name.
    ///
    /// # Errors
    /// If the host refuses a thread.
    pub fn start(
        stopped: Arc<AtomicBool>,
        looks: u32,
        stuck: impl FnOnce(&str) + Send + 'static,
    ) -> std::io::Result<Self> {
        let watch = Self::default();
        watch.wait_for("the event loop");
        let shared = watch.0.clone();
        let builder = Builder::new().name("watch".to_owned()).stack_size(STACK);
        sandbox::start(Kind::Watch, None, builder, move || {
            if let Some(part) = keep(&shared, &stopped, looks) {
                stuck(part);
            }
        })?;
        Ok(watch)
    }

    /// The machine waits for the end of `part`, which depends on others, for example on the reader of a stream. It has a limit only
    /// after something has stopped the machine.
    pub fn wait_for(&self, part: &'static str) {
        self.set(part, false);
    }

    /// The machine waits for the end of `part`, which depends on minivmm alone and has a limit.
    pub fn limit(&self, part: &'static str) {
        self.set(part, true);
    }

    fn set(&self, part: &'static str, is_limited: bool) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { part, is_limited, looks: 0, has_ended: state.has_ended };
    }

    /// Everything has ended.
    pub fn end(&self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).has_ended = true;
        self.0.changed.notify_all();
    }
}

/// Looks at intervals until the end. Returns the part that is stuck, if one is.
fn keep(shared: &Shared, stopped: &AtomicBool, looks: u32) -> Option<&'static str> {
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let waited = shared.changed.wait_timeout(state, INTERVAL).unwrap_or_else(PoisonError::into_inner);
        state = waited.0;
        if state.has_ended {
            return None;
        }
        if state.is_limited || stopped.load(Ordering::Relaxed) || violation::first().is_some() {
            state.looks += 1;
        }
        if state.looks >= looks {
            return Some(state.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use super::*;

    #[test]
    fn the_part_that_is_stuck_is_named() {
        let stopped = Arc::new(AtomicBool::new(false));
        let (sender, stuck) = channel();
        let watch =
            Watch::start(stopped.clone(), 2, move |part| sender.send(part.to_owned()).unwrap()).unwrap();
        watch.wait_for("a reader");
        assert_eq!(stuck.recv_timeout(4 * INTERVAL), Err(RecvTimeoutError::Timeout));
        stopped.store(true, Ordering::Relaxed);
        // A busy host takes longer than two looks.
        assert_eq!(stuck.recv_timeout(Duration::from_secs(20)).as_deref(), Ok("a reader"));
    }

    #[test]
    fn a_part_of_ours_has_a_limit_and_an_end_ends_the_watch() {
        for ends in [false, true] {
            let (sender, stuck) = channel();
            let stopped = Arc::new(AtomicBool::new(false));
            let watch = Watch::start(stopped, 2, move |part| sender.send(part.to_owned()).unwrap()).unwrap();
            watch.limit("the vCPUs");
            if ends {
                watch.end();
            }
            let expected = if ends { None } else { Some("the vCPUs".to_owned()) };
            assert_eq!(stuck.recv_timeout(Duration::from_secs(20)).ok(), expected);
        }
    }
}
