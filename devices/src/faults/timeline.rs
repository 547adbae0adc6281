//! What happened at the points of a plan, and when: for a picture of a run, and for those who listen meanwhile. It is kept only on
//! request.

use std::{sync::Arc, time::Instant};

use super::{
    event::Event,
    table::{Point, Shown},
};

/// The most moments that are kept: the first ones, an hour of a camera at 60 frames a second.
const MOST_MOMENTS: usize = 1 << 20;

/// The most text of marks that is kept, in bytes. The guest chooses the length of a mark.
const MOST_TEXT: usize = 4 << 20;

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
        /// The CMA window, where the event is of a window and of no device.
        window: Option<Arc<str>>,
        /// The name of the action.
        action: String,
    },
    /// The guest made a mark.
    Mark(String),
    /// The device with this id raised its interrupt.
    Interrupt(Arc<str>),
    /// The guest reset the device with this id.
    Reset(Arc<str>),
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
pub struct Timeline {
    /// When the run began.
    pub begun: Instant,
    /// The moments, in their order.
    pub moments: Vec<Moment>,
    /// Number of moments that found no room.
    pub lost: u64,
    /// The text of all marks, in bytes.
    text: usize,
}

impl Timeline {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), moments: Vec::new(), lost: 0, text: 0 }
    }

    pub(super) fn note(&mut self, happening: Happening) {
        let text = match &happening {
            Happening::Event(Occurrence { point, .. }) if point.scope.shown == Shown::Not => return,
            Happening::Mark(text) => text.len(),
            _ => 0,
        };
        if self.moments.len() < MOST_MOMENTS && self.text + text <= MOST_TEXT {
            self.text += text;
            self.moments.push(Moment { at: Instant::now(), happening });
        } else {
            self.lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_marks_has_a_limit() {
        let mut timeline = Timeline::new();
        let mark = "x".repeat(4096);
        (0..MOST_TEXT / 4096 + 3).for_each(|_| timeline.note(Happening::Mark(mark.clone())));
        timeline.note(Happening::Interrupt("camera0".into()));
        assert_eq!((timeline.moments.len(), timeline.lost), (MOST_TEXT / 4096 + 1, 3));
    }
}
