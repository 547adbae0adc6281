//! The controller's counters.

use crate::platform::Counters;

/// The names, in the order of [`Count::report`].
pub(super) const COUNTERS: [&str; 8] =
    ["frames", "flips", "late", "underruns", "bus_errors", "abandoned", "irqs", "bytes"];

/// What happened since the controller was built.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    /// Frames that ended.
    pub(super) frames: u64,
    /// Frames at whose end `CUR_BUF` changed.
    pub(super) flips: u64,
    /// Frames of the panel that passed while the host was busy.
    pub(super) late: u64,
    /// Frames for which memory was too slow.
    pub(super) underruns: u64,
    /// Frames of which the bus refused an address.
    pub(super) bus_errors: u64,
    /// Frames that were abandoned, because the controller was switched off.
    pub(super) abandoned: u64,
    /// Interrupts.
    pub(super) irqs: u64,
    /// Bytes that frames read.
    pub(super) bytes: u64,
}

impl Count {
    pub(super) fn report(&self) -> Counters {
        let Self { frames, flips, late, underruns, bus_errors, abandoned, irqs, bytes } = *self;
        let values = [frames, flips, late, underruns, bus_errors, abandoned, irqs, bytes];
        COUNTERS.into_iter().zip(values).collect()
    }
}
