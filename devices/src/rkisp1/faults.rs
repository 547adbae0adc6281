//! The faults of the camera: its points and actions. `registers` and `worker` have the effects.

use crate::{
    dma::WriteFault,
    faults::{FaultPoint as _, Ids, MmioRead, MmioWrite, Table, UNSIGNED, fault_point},
    i2c::rk3x::Message,
};

/// The points of the camera.
pub(super) static FAULTS: Table = Table {
    title: "Camera rkisp1",
    ids: Ids::Numbered("rkisp1"),
    windows: true,
    channels: 0,
    channel_names: &[],
    points: &[
        Begin::POINT,
        End::POINT,
        Stop::POINT,
        Irq::POINT,
        Message::POINT,
        MmioRead::POINT,
        MmioWrite::POINT,
        WriteFault::POINT,
    ],
};

fault_point! {
    /// The receiver is about to take in a frame of the sensor.
    pub(super) enum Begin = "frame.begin" [tick, moment("frame")] {
        /// `ISP_V_START` is not set; the frame goes on.
        NoStart = "no-start",
        /// A packet header cannot be corrected: the frame is lost, and `MIPI_ERR_ECC2` is set.
        Ecc = "ecc",
        /// A checksum is wrong: `MIPI_ERR_CS` is set at the end of the frame.
        Checksum = "checksum",
        /// The receiver loses synchronisation after this number of lines: the rest is not written, and `MIPI_ERR_SOT_SYNC` and
        /// `ISP_PIC_SIZE_ERROR` are set.
        SyncLoss { lines: u32 in UNSIGNED } = "sync-loss",
        /// The FIFO of lane 0 overflows after this number of lines: the rest is not written, and `MIPI_FIFO_OVERFLOW` and
        /// `ISP_PIC_SIZE_ERROR` are set.
        Overflow { lines: u32 in UNSIGNED } = "overflow",
        /// The D-PHY reports an error of its lines: `MIPI_ERR_CTRL` is set until the frame ends, whatever the guest clears.
        LineError = "line-error",
    }
}

fault_point! {
    /// A frame is complete, and is about to be reported.
    pub(super) enum End = "frame.end" [] {
        /// `ISP_FRAME` is not set.
        LoseFrame = "lose-isp",
        /// `MI_FRAME_MP` and `MI_FRAME_SP` are not set.
        LoseMemory = "lose-mi",
        /// The end comes this number of milliseconds late. Frames of the sensor meanwhile are not received.
        Late { milliseconds: u32 in 1..=10_000 } = "late",
    }
}

fault_point! {
    /// A frame is complete, and the memory interface is about to take its configuration for the next one.
    pub(super) enum Stop = "mi.update" [] {
        /// It takes none: addresses stay, and a path that was switched off goes on.
        Stuck = "stuck",
    }
}

fault_point! {
    /// The ISP is about to raise its interrupt.
    pub(super) enum Irq = "irq" [] {
        /// The line stays low until the next event.
        Lose = "lose",
        /// The line stays high, with an event or without one, until the guest has read `MI_MIS` this number of times.
        Storm { count: u32 in 1..=1_000_000 } = "storm",
    }
}
