//! Tables for tests: a table of CMA windows, followed by those of the devices.

use super::{FaultPoint as _, Ids, Plan, Table, fault_point};
use crate::{camera, virtio};

fault_point! {
    /// A CMA window is advertised.
    pub(crate) enum Tree = "tree" [moment("window")] {
        /// It has `no-map`.
        NoMap = "no-map",
    }
}

/// The tables; the camera's is the second.
pub(crate) const TABLES: &[&Table] = &[&WINDOWS, camera::REGISTRATION.faults, &virtio::FAULTS];

static WINDOWS: Table = Table {
    title: "Windows",
    ids: Ids::Windows,
    windows: true,
    channels: 0,
    channel_names: &[],
    points: &[Tree::POINT],
};

/// Reads a plan that is right.
#[track_caller]
pub(crate) fn plan(text: &str) -> Plan {
    Plan::read(text, TABLES).unwrap()
}
