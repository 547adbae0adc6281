//! The faults of devices that another program serves. It transfers the data, so the faults of transfers do not apply.

use crate::faults::{FaultPoint as _, Ids, Table, fault_point};

/// The faults of shared folders.
pub(super) static SHARE_FAULTS: Table = table("Shared folders", Ids::Numbered("share"));

/// The faults of other devices.
pub(super) static FAULTS: Table = table("Devices of vhost-user backends", Ids::Numbered("vhost-user"));

const fn table(title: &'static str, ids: Ids) -> Table {
    Table { title, ids, windows: false, channels: 0, channel_names: &[], points: &[Irq::POINT] }
}

fault_point! {
    /// The device's backend has used buffers and asks for an interrupt. Several requests can share one.
    pub(super) enum Irq = "irq" [moment("used buffers")] {
        /// The interrupt is not raised.
        Lose = "lose",
    }
}
