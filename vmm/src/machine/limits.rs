//! The time limits of a machine: of its whole run, and of the guest's way to its boot mark.

use std::time::{Duration, Instant};

/// A time limit that began when it was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    length: Duration,
    end: Instant,
}

impl Limit {
    /// A limit that begins now. None where the limit is beyond all times of the clock.
    pub(super) fn new(length: Duration) -> Option<Self> {
        Some(Self { length, end: Instant::now().checked_add(length)? })
    }

    /// Its length in seconds, if its time is over.
    pub(super) fn passed(self) -> Option<u64> {
        (Instant::now() >= self.end).then_some(self.length.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_passes_after_its_time() {
        assert_eq!(Limit::new(Duration::from_secs(3600)).unwrap().passed(), None);
        assert_eq!(Limit::new(Duration::ZERO).unwrap().passed(), Some(0));
    }
}
