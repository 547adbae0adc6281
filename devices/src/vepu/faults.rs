//! The faults of the encoder: its points and actions. `registers` and `worker` have the effects.

use crate::{
    dma::{ReadFault, WriteFault},
    faults::{FaultPoint as _, Ids, MmioRead, MmioWrite, Table, UNSIGNED, fault_point},
};

/// The points of the encoder.
pub(super) static FAULTS: Table = Table {
    title: "JPEG encoder vepu",
    ids: Ids::Numbered("vepu"),
    windows: true,
    channels: 0,
    channel_names: &[],
    points: &[
        Encode::POINT,
        End::POINT,
        MmioRead::POINT,
        MmioWrite::POINT,
        ReadFault::POINT,
        WriteFault::POINT,
    ],
};

fault_point! {
    /// The encoder is about to encode a picture.
    pub(super) enum Encode = "encode" [tick, moment("picture")] {
        /// It never ends.
        Stuck = "stuck",
        /// It ends with `INTERRUPT_TIMEOUT`, and writes nothing.
        Timeout = "timeout",
        /// The scan may have this number of bytes, if the guest permits more.
        Limit { bytes: u32 in UNSIGNED } = "limit",
    }
}

fault_point! {
    /// A picture is encoded, and is about to be reported.
    pub(super) enum End = "end" [] {
        /// `INTERRUPT_PENDING` is not set.
        Lose = "lose",
        /// The report comes this number of milliseconds late.
        Late { milliseconds: u32 in 1..=10_000 } = "late",
        /// `STR_BUF_LIMIT` says this number of bytes.
        Length { bytes: u32 in 0..=0x1fff_ffff } = "length",
    }
}
