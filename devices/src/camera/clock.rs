//! The frame clock: ticks at absolute deadlines, so that it does not drift, whenever it is looked at.
//!
//! The first tick comes one interval after the start: a sensor has to expose before there is a frame to read out.

use std::time::{Duration, Instant};

/// A clock that ticks once in each interval.
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

    /// When it ticks next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// How often it ticked since the last call, up to `now`.
    pub(super) fn ticks(&mut self, now: Instant, interval: Duration) -> u32 {
        if self.next > now {
            return 0;
        }
        let more = u32::try_from((now - self.next).as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX - 1);
        self.last = self.next + interval * more;
        self.next = self.last + interval;
        more + 1
    }

    /// The interval is another from `now` on: it counts from the last tick, but what has passed of it makes no more
    /// than one.
    pub(super) fn change(&mut self, now: Instant, interval: Duration) {
        if self.next > now {
            self.next = (self.last + interval).max(now);
        }
    }

    /// It stood still until `now`: no tick of that time counts.
    pub(super) fn go_on(&mut self, now: Instant, interval: Duration) {
        self.last = now;
        self.next = now + interval;
    }

    /// When it ticked last, counted from its start.
    pub(super) fn last_tick(&self) -> Duration {
        self.last - self.start
    }

    /// Its age.
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
