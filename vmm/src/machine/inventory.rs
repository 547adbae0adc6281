//! The devices of a machine as its records and requests see them: by their ids.

use devices::camera::{Camera, Counters};

use super::Devices;
use crate::observe::report::DeviceReport;

impl Devices {
    /// The counters of the devices, in the order in which the machine has them.
    pub(super) fn reports(&self) -> Vec<DeviceReport> {
        let report =
            |(id, camera): (String, &Camera)| DeviceReport::new(id, "camera", named(camera.counters()));
        self.frame_sources().into_iter().map(report).collect()
    }

    /// The devices that make frames, with their ids.
    pub(super) fn frame_sources(&self) -> Vec<(String, &Camera)> {
        self.cameras
            .iter()
            .enumerate()
            .map(|(number, (camera, _))| (format!("camera{number}"), &**camera))
            .collect()
    }
}

/// Counters with their names.
fn named(counters: Counters) -> [(&'static str, u64); 9] {
    let Counters { frames, drops, overflows, bus_errors, sync_losses, config_errors, irqs, irqs_late, bytes } =
        counters;
    [
        ("frames", frames),
        ("drops", drops),
        ("overflows", overflows),
        ("bus_errors", bus_errors),
        ("sync_losses", sync_losses),
        ("config_errors", config_errors),
        ("irqs", irqs),
        ("irqs_late", irqs_late),
        ("bytes", bytes),
    ]
}
