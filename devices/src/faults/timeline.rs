//! What happened at the points of a plan, and when: for a picture of a run. Only kept where it is asked for.

use std::time::Instant;

use super::{engine::Event, plan::Point};

/// Most moments that are kept, the first ones: an hour of a camera at 60 frames a second.
const MOST_MOMENTS: usize = 1 << 20;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Instant,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A device consulted the plan.
    Event(Event),
    /// A rule fired.
    Fired {
        /// At what.
        event: Event,
        /// Its name.
        rule: String,
        /// Number of the event among those that it counts.
        number: u64,
    },
    /// The guest made a mark.
    Mark(String),
    /// A camera raised its interrupt.
    Interrupt {
        /// Its number.
        camera: u32,
    },
}

/// The moments of a run.
#[derive(Debug)]
pub(super) struct Timeline {
    pub(super) begun: Instant,
    pub(super) moments: Vec<Moment>,
}

impl Timeline {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), moments: Vec::new() }
    }

    pub(super) fn note(&mut self, what: What) {
        // Of these there are too many to be looked at, or others tell the same.
        let is_left_out = matches!(
            what,
            What::Event(Event {
                point: Point::SensorLink | Point::FrameLine | Point::Irq | Point::MmioRead | Point::MmioWrite,
                ..
            })
        );
        if !is_left_out && self.moments.len() < MOST_MOMENTS {
            self.moments.push(Moment { at: Instant::now(), what });
        }
    }
}
