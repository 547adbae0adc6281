//! The frame clock. It ticks at absolute times, so that it does not drift when it is read late.
//!
//! The first tick comes one interval after the start, because a sensor exposes a frame before it is read out.

use std::time::{Duration, Instant};

/// A clock that ticks once in every interval.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameClock {
    start: Instant,
    last: Instant,
    next: Instant,
}

impl FrameClock {
    pub(super) fn new(start: Instant, interval: Duration) -> Self {
        Self { start, last: start, next: start + interval }
    }

    /// The time of the next tick.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// The number of ticks since the last call, up to `now`.
    pub(super) fn ticks(&mut self, now: Instant, interval: Duration) -> u32 {
        if self.next > now {
            return 0;
        }
        let more = u32::try_from((now - self.next).as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX - 1);
        self.last = self.next + interval * more;
        self.next = self.last + interval;
        more + 1
    }

    /// Changes the interval at `now`. The new interval counts from the last tick, and at most one tick is due at once.
    pub(super) fn change(&mut self, now: Instant, interval: Duration) {
        if self.next > now {
            self.next = (self.last + interval).max(now);
        }
    }

    /// Continues after a pause until `now`, without ticks for the time of the pause.
    pub(super) fn go_on(&mut self, now: Instant, interval: Duration) {
        self.last = now;
        self.next = now + interval;
    }

    /// The time of the last tick since the start.
    pub(super) fn last_tick(&self) -> Duration {
        self.last - self.start
    }

    /// The time since the start.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_do_not_drift_and_none_is_lost() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut clock = FrameClock::new(start, ms(10));
        assert_eq!(clock.ticks(start, ms(10)), 0);
        assert_eq!(clock.ticks(start + ms(10), ms(10)), 1);
        assert_eq!(clock.ticks(start + ms(19), ms(10)), 0);
        assert_eq!(clock.ticks(start + ms(24), ms(10)), 1);
        assert_eq!(clock.next(), start + ms(30));
        assert_eq!(clock.ticks(start + ms(59), ms(10)), 3);
        assert_eq!(clock.last_tick(), ms(50));
        clock.change(start + ms(59), ms(20));
        assert_eq!(clock.next(), start + ms(70), "a new interval counts from the last tick");
        clock.change(start + ms(69), ms(1));
        assert_eq!(clock.ticks(start + ms(69), ms(1)), 1, "there were no ticks of the new interval before");
        assert_eq!(clock.ticks(start + ms(71), ms(1)), 2);
        clock.go_on(start + ms(100), ms(10));
        assert_eq!((clock.ticks(start + ms(109), ms(10)), clock.ticks(start + ms(110), ms(10))), (0, 1));
    }
}
