//! The camera's counters.

use crate::platform::Counters;

/// The names, in the order of [`Count::report`].
pub(super) const COUNTERS: [&str; 7] =
    ["frames", "late", "unreceived", "abandoned", "bus_errors", "irqs", "bytes"];

/// What happened since the camera was built.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    /// Frames that ended.
    pub(super) frames: u64,
    /// Frames of the sensor that passed while the frame before them was in work or not acknowledged.
    pub(super) late: u64,
    /// Frames of the sensor for which receiver or ISP were not set up.
    pub(super) unreceived: u64,
    /// Frames that were abandoned, because the ISP was switched off.
    pub(super) abandoned: u64,
    /// Frames with a transfer that failed.
    pub(super) bus_errors: u64,
    /// Interrupts of the ISP.
    pub(super) irqs: u64,
    /// Bytes that frames wrote.
    pub(super) bytes: u64,
}

impl Count {
    pub(super) fn report(&self) -> Counters {
        let Self { frames, late, unreceived, abandoned, bus_errors, irqs, bytes } = *self;
        COUNTERS.into_iter().zip([frames, late, unreceived, abandoned, bus_errors, irqs, bytes]).collect()
    }
}
