//! The encoder's counters.

use crate::platform::Counters;

/// The names, in the order of [`Count::report`].
pub(super) const COUNTERS: [&str; 8] =
    ["pictures", "bytes_read", "bytes_written", "bus_errors", "overflows", "refused", "abandoned", "irqs"];

/// What happened since the encoder was built.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    /// Pictures whose scan is complete.
    pub(super) pictures: u64,
    /// Bytes that pictures have in memory.
    pub(super) bytes_read: u64,
    /// Bytes of scans.
    pub(super) bytes_written: u64,
    /// Pictures of which the bus refused an address.
    pub(super) bus_errors: u64,
    /// Pictures whose scan did not fit.
    pub(super) overflows: u64,
    /// Pictures that this encoder cannot encode.
    pub(super) refused: u64,
    /// Pictures that the guest ended.
    pub(super) abandoned: u64,
    /// Interrupts.
    pub(super) irqs: u64,
}

impl Count {
    pub(super) fn report(&self) -> Counters {
        let Self { pictures, bytes_read, bytes_written, bus_errors, overflows, refused, abandoned, irqs } =
            *self;
        let values = [pictures, bytes_read, bytes_written, bus_errors, overflows, refused, abandoned, irqs];
        COUNTERS.into_iter().zip(values).collect()
    }
}
