//! What happens in a machine, on its way to those who listen while it runs. Without listeners a happening costs one branch.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::timeline::{Happening, Moment};
use crate::machine_events::MachineEvents;

/// The most moments that wait for the event loop.
const MOST_MOMENTS: usize = 1024;

/// The most text of marks among them, in bytes. The guest chooses the length of a mark.
const MOST_TEXT: usize = 256 << 10;

/// The moments since the event loop last took them.
#[derive(Debug, Default)]
pub struct Fed {
    /// The moments, in their order.
    pub moments: Vec<Moment>,
    /// The number of later moments that found no room.
    pub lost: u64,
    /// The text of all marks, in bytes.
    text: usize,
}

/// The moments that wait for the event loop: firings, marks and resets.
#[derive(Debug, Default)]
pub(super) struct Feed {
    has_listeners: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    fed: Fed,
    /// The event loop to wake.
    wakes: Option<Arc<MachineEvents>>,
}

impl Feed {
    /// Somebody listens from now on, until [`end`](Self::end): each first moment wakes the event loop by `wakes`.
    pub(super) fn begin(&self, wakes: Arc<MachineEvents>) {
        self.state().wakes = Some(wakes);
        self.has_listeners.store(true, Ordering::Relaxed);
    }

    /// Nobody listens any more.
    pub(super) fn end(&self) {
        self.has_listeners.store(false, Ordering::Relaxed);
        *self.state() = State::default();
    }

    /// Keeps what happens, if somebody listens.
    #[inline]
    pub(super) fn note(&self, happening: impl FnOnce() -> Happening) {
        if self.has_listeners.load(Ordering::Relaxed) {
            self.keep(happening());
        }
    }

    fn keep(&self, happening: Happening) {
        let text = if let Happening::Mark(text) = &happening { text.len() } else { 0 };
        let mut state = self.state();
        let State { fed, wakes } = &mut *state;
        let was_empty = fed.moments.is_empty();
        // What comes after a lost moment is lost, too: there is one gap.
        if fed.lost == 0 && fed.moments.len() < MOST_MOMENTS && fed.text + text <= MOST_TEXT {
            fed.text += text;
            fed.moments.push(Moment { at: Instant::now(), happening });
        } else {
            fed.lost += 1;
        }
        if let Some(wakes) = wakes.as_ref().filter(|_| was_empty) {
            // The only error is EAGAIN at a full counter, and then the loop is awake.
            let _ = wakes.eventfd().write(1);
        }
    }

    /// Takes what was kept.
    pub(super) fn take(&self) -> Fed {
        std::mem::take(&mut self.state().fed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_kept_for_listeners_and_have_a_limit() {
        let feed = Feed::default();
        let events = Arc::new(MachineEvents::new().unwrap());
        let mark = || Happening::Mark("x".repeat(100));
        feed.note(mark);
        assert!(feed.take().moments.is_empty() && events.eventfd().read().is_err());

        feed.begin(events.clone());
        (0..MOST_MOMENTS + 5).for_each(|_| feed.note(mark));
        // One wakeup for all.
        assert_eq!(events.eventfd().read().unwrap(), 1);
        let fed = feed.take();
        assert_eq!((fed.moments.len(), fed.lost), (MOST_MOMENTS, 5));

        let long = "x".repeat(MOST_TEXT / 2 + 1);
        for _ in 0..2 {
            feed.note(|| Happening::Mark(long.clone()));
        }
        feed.note(mark);
        assert_eq!(events.eventfd().read().unwrap(), 1);
        let fed = feed.take();
        assert_eq!((fed.moments.len(), fed.lost), (1, 2));

        feed.note(mark);
        feed.end();
        feed.note(mark);
        assert!(feed.take().moments.is_empty());
    }
}
