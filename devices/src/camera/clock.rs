//! The frame clock: ticks at absolute deadlines, so that it does not drift, whenever it is looked at.
//!
//! The first tick comes one interval after the start: a sensor has to expose before there is a frame to read out.

use std::time::{Duration, Instant};

/// A clock that ticks once in each interval.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameClock {
    start: Instant,
    last: Option<Instant>,
}

impl FrameClock {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, last: None }
    }

    /// When it ticks next.
    pub(super) fn next(&self, interval: Duration) -> Instant {
        self.last.unwrap_or(self.start) + interval
    }

    /// How often it ticked since the last call, up to `now`.
    pub(super) fn ticks(&mut self, now: Instant, interval: Duration) -> u32 {
        let next = self.next(interval);
        if next > now {
            return 0;
        }
        let more = u32::try_from((now - next).as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX - 1);
        self.last = Some(next + interval * more);
        more + 1
    }

    /// When it ticked last, counted from its start.
    pub(super) fn last_tick(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |last| last - self.start)
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
        let mut clock = FrameClock::new(start);
        assert_eq!(clock.ticks(start, ms(10)), 0);
        assert_eq!(clock.ticks(start + ms(10), ms(10)), 1);
        assert_eq!(clock.ticks(start + ms(19), ms(10)), 0);
        assert_eq!(clock.ticks(start + ms(24), ms(10)), 1);
        assert_eq!(clock.next(ms(10)), start + ms(30));
        assert_eq!(clock.ticks(start + ms(59), ms(10)), 3);
        assert_eq!(clock.last_tick(), ms(50));
        assert_eq!(clock.next(ms(20)), start + ms(70), "a new interval counts from the last tick");
    }
}
