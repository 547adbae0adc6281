//! The faults of the controller: its points and actions. `registers` and `scan` have the effects.

use crate::{
    dma::ReadFault,
    faults::{BITS, FaultPoint as _, Ids, MmioRead, MmioWrite, Table, UNSIGNED, fault_point},
};

/// The points of the controller.
pub(super) static FAULTS: Table = Table {
    title: "Display controller lcdif",
    ids: Ids::Numbered("lcdif"),
    windows: true,
    channels: 0,
    channel_names: &[],
    points: &[
        Scan::POINT,
        Checksum::POINT,
        Flip::POINT,
        Vsync::POINT,
        MmioRead::POINT,
        MmioWrite::POINT,
        ReadFault::POINT,
    ],
};

fault_point! {
    /// The controller is about to scan out a frame.
    pub(super) enum Scan = "scan-out" [tick, moment("frame")] {
        /// Memory is too slow after this number of lines: the others are black, and `CTRL1_UNDERFLOW_IRQ` is set.
        Underrun { lines: u32 in UNSIGNED } = "underrun",
    }
}

fault_point! {
    /// A frame was scanned out, and its checksum is about to go into `CRC_STAT`.
    pub(super) enum Checksum = "crc" [] {
        /// This number of bits of the checksum are flipped.
        Flip { bits: u32 in BITS } = "flip",
    }
}

fault_point! {
    /// A frame was scanned out, and `CUR_BUF` is about to become `NEXT_BUF`.
    pub(super) enum Flip = "buffer" [] {
        /// It keeps its address.
        Stuck = "stuck",
    }
}

fault_point! {
    /// A frame was scanned out, and is about to be reported.
    pub(super) enum Vsync = "vsync" [] {
        /// `CTRL1_VSYNC_EDGE_IRQ` and `CTRL1_CUR_FRAME_DONE_IRQ` are not set.
        Lose = "lose",
        /// The report comes this number of milliseconds late, `CUR_BUF` changes then, and the next frame begins after it.
        Late { milliseconds: u32 in 1..=10_000 } = "late",
    }
}
