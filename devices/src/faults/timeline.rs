//! What happened at the points of a plan, and when: for a picture of a run. It is kept only on request.

use std::{sync::Arc, time::Instant};

use super::{
    event::Event,
    table::{Point, Shown},
};

/// The most moments that are kept: the first ones, an hour of a camera at 60 frames a second.
const MOST_MOMENTS: usize = 1 << 20;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Moment {
    /// When.
    pub at: Instant,
    /// What happened.
    pub happening: Happening,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Happening {
    /// A device consulted the plan.
    Event(Occurrence),
    /// A rule fired.
    Fired {
        /// The event.
        at: Occurrence,
        /// The rule's name.
        rule: String,
        /// The number of the event among those that the rule counts.
        number: u64,
    },
    /// The guest made a mark.
    Mark(String),
    /// The device with this id raised its interrupt.
    Interrupt(Arc<str>),
}

/// An event with its place.
#[derive(Debug, Clone)]
pub struct Occurrence {
    /// The id of the device; none where the event is of a CMA window.
    pub device: Option<Arc<str>>,
    /// The point.
    pub point: &'static Point,
    /// What the device says of it.
    pub event: Event,
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

    pub(super) fn note(&mut self, happening: Happening) {
        let is_shown = !matches!(&happening, Happening::Event(Occurrence { point, .. }) if point.scope.shown == Shown::Not);
        if is_shown && self.moments.len() < MOST_MOMENTS {
            self.moments.push(Moment { at: Instant::now(), happening });
        }
    }
}
