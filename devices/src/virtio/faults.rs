//! The faults of virtio devices.

use crate::{
    dma::{ReadFault, WriteFault},
    faults::{FaultPoint as _, Ids, Table, fault_point},
};

/// The points of a virtio device. The transfers are those of the buffers of requests; the rings have no faults. The registers
/// have none either: KVM takes the notifications, and the rest is set-up.
pub(crate) static FAULTS: Table = Table {
    title: "Virtio devices",
    ids: Ids::Named(&["console", "entropy"]),
    windows: false,
    channels: 16,
    channel_names: &[],
    points: &[Queue::POINT, ReadFault::POINT, WriteFault::POINT],
};

fault_point! {
    /// The device is about to give a request back to the guest's driver.
    pub(super) enum Queue = "queue" [channel, moment("given back")] {
        /// The request is given back, and no interrupt reports it.
        Lose = "lose",
        /// The request is never given back: the driver has it again after it resets the device.
        Stall = "stall",
    }
}
