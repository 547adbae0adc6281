//! The faults of the engine: its points and actions. `worker` and `registers` have the effects.

use crate::{
    dma::{ReadFault, WriteFault},
    faults::{FaultPoint as _, Ids, MmioRead, MmioWrite, Table, UNSIGNED, fault_point},
};

/// The points of the engine.
pub(super) static FAULTS: Table = Table {
    title: "DMA engine msgdma",
    ids: Ids::Numbered("msgdma"),
    windows: true,
    channels: 0,
    channel_names: &[],
    points: &[
        Transfer::POINT,
        Respond::POINT,
        Irq::POINT,
        MmioRead::POINT,
        MmioWrite::POINT,
        ReadFault::POINT,
        WriteFault::POINT,
    ],
};

fault_point! {
    /// The engine is about to carry out a descriptor.
    pub(super) enum Transfer = "descriptor" [tick, moment("descriptor")] {
        /// The transfer ends after this number of bytes, and the response has `RESP_EARLY`.
        Early { bytes: u32 in UNSIGNED } = "early",
        /// Only this number of bytes are written, and nothing reports it; 0 leaves the destination as it was.
        Torn { bytes: u32 in UNSIGNED } = "torn",
        /// The descriptor stays in work until the engine is reset.
        Stuck = "stuck",
    }
}

fault_point! {
    /// A descriptor is done, and the engine is about to put its response into the response FIFO.
    pub(super) enum Respond = "response" [] {
        /// There is no response.
        Lose = "lose",
        /// The response comes twice, if the FIFO has room.
        Duplicate = "duplicate",
    }
}

fault_point! {
    /// A descriptor that asks for an interrupt is done, and `STATUS_IRQ` is about to be set.
    pub(super) enum Irq = "irq" [] {
        /// `STATUS_IRQ` is not set.
        Lose = "lose",
        /// `STATUS_IRQ` is set a second time after the guest clears it.
        Duplicate = "duplicate",
    }
}

/// The handle of an engine with this plan. An empty text means no plan.
#[cfg(test)]
pub(super) fn handle(plan: &str) -> crate::faults::FaultHandle {
    use crate::faults::{FaultHandle, Faults, Plan};
    if plan.is_empty() {
        return FaultHandle::none();
    }
    let plan = Plan::read(plan, &[&FAULTS]).unwrap();
    FaultHandle::new(Faults::new(plan, 1), "msgdma0")
}
