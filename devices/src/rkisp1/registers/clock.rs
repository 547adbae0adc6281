//! The clock of the sensor's frames.

use std::time::Instant;

/// The clock of the sensor's frames.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// When the next frame begins; none while the sensor does not stream.
    pub(super) next: Option<Instant>,
    /// The number of the next frame of the sensor.
    pub(super) number: u32,
    /// A frame is in work.
    pub(super) is_busy: bool,
    /// The worker ends.
    pub(super) is_off: bool,
    pub(super) is_paused: bool,
    /// Frames that may still begin; none for all.
    pub(super) steps: Option<u32>,
    /// Until when the next frame waits for the guest's handler, if the handler stores nothing more.
    pub(super) handled_by: Option<Instant>,
}

impl Clock {
    pub(super) fn restart(&mut self) {
        self.next = None;
        self.number = 0;
    }

    pub(super) fn abandon(&mut self) {
        self.is_busy = false;
    }

    /// The guest has stored: its handler may go on.
    pub(super) fn note_store(&mut self) {
        self.handled_by = None;
    }
}
