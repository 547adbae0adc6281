//! The faults of virtio devices.

use crate::{
    dma::{ReadFault, WriteFault},
    faults::{FaultPoint as _, Ids, Table, fault_point},
};

/// The faults of the devices that every machine has.
pub(crate) static FAULTS: Table = table("Virtio devices", Ids::Named(&["console", "entropy"]));

/// The faults of disks.
pub(super) static DISK_FAULTS: Table = table("Disks", Ids::Numbered("disk"));

/// The faults of network devices.
pub(super) static NET_FAULTS: Table = table("Network devices", Ids::Numbered("net"));

/// The faults of socket devices.
pub(super) static VSOCK_FAULTS: Table = table("Socket devices", Ids::Numbered("vsock"));

/// The faults of balloons, which read their requests and write to no buffer.
pub(super) static BALLOON_FAULTS: Table = Table {
    channels: 5,
    channel_names: &["inflate", "deflate", "statistics"],
    points: &[Queue::POINT, ReadFault::POINT],
    ..table("Balloons", Ids::Numbered("balloon"))
};

/// The points of a virtio device. The transfers are those of the buffers of requests; the rings have no faults. The registers
/// have none either: KVM takes the notifications, and the rest is set-up.
const fn table(title: &'static str, ids: Ids) -> Table {
    let points = &[Queue::POINT, ReadFault::POINT, WriteFault::POINT];
    Table { title, ids, windows: false, channels: 16, channel_names: &[], points }
}

fault_point! {
    /// The device is about to give a request back to the guest's driver.
    pub(super) enum Queue = "queue" [channel, moment("given back")] {
        /// The request is given back, and no interrupt reports it.
        Lose = "lose",
        /// The request is never given back: the driver has it again after it resets the device.
        Stall = "stall",
    }
}
