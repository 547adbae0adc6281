//! The counters of a camera.

use serde::{Deserialize, Serialize};

/// The counters of a camera since it was built. The names are stable in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Frames written.
    pub frames: u64,
    /// Frames dropped, for whatever reason.
    pub drops: u64,
    /// Overflows of the line buffer.
    pub overflows: u64,
    /// Frames, and buffers of metadata, refused because of an address that the DMA port does not permit.
    pub bus_errors: u64,
    /// Losses of the sensor link.
    pub sync_losses: u64,
    /// Frames, and buffers of metadata, refused because of their format, size, stride or length.
    pub config_errors: u64,
    /// Interrupt edges raised.
    pub irqs: u64,
    /// Ticks of the frame clock that found the last frame not acknowledged.
    pub irqs_late: u64,
    /// Bytes of pixels written to guest memory, padding of lines not counted.
    pub bytes: u64,
}
