//! The faults of a camera. `points` declares the points and actions, `registers` has the effects on registers and
//! interrupts, `dma` has the effects on frames, statistics and parameters.

use crate::{
    dma::{ReadFault, WriteFault},
    faults::{FaultPoint as _, Ids, MmioRead, MmioWrite, Table},
};

mod dma;
mod points;
mod registers;

pub(super) use dma::DmaFaults;
pub(super) use points::FrameStart;
use points::{FrameDma, FrameEnd, FrameLine, Irq, Params, SensorLink, Stats};
pub(super) use registers::{Interrupt, RegisterFaults, whole_frame};

/// The points of a camera.
pub(crate) static FAULTS: Table = Table {
    title: "Camera",
    ids: Ids::Numbered("camera"),
    windows: true,
    channels: super::regs::CHANNELS,
    channel_names: &["processed", "raw", "statistics", "parameters"],
    points: &[
        SensorLink::POINT,
        FrameStart::POINT,
        Params::POINT,
        FrameDma::POINT,
        FrameLine::POINT,
        Stats::POINT,
        FrameEnd::POINT,
        Irq::POINT,
        MmioRead::POINT,
        MmioWrite::POINT,
        ReadFault::POINT,
        WriteFault::POINT,
    ],
};
