//! The exit device: the guest marks that its init runs, and ends the machine with a status.

use std::sync::Arc;

use crate::{
    machine_events::MachineEvents,
    platform::{BuildError, DeviceSpec, Node, Parts, PlatformDevice, Region, Resources, Specification},
};

/// The size of the device's range, in bytes.
pub const SIZE: u64 = 0x1000;

/// The label of the device's node, for the node that powers the machine off through it (syscon-poweroff).
pub const LABEL: &str = "exit";

/// Write 1: init is running.
pub const BOOT_MARK: u64 = 0x0;
/// Write [`EXIT_NOW`] with a status in the low eight bits: the machine ends with that status.
pub const EXIT: u64 = 0x4;
/// What makes a write to [`EXIT`] a request to end.
pub const EXIT_NOW: u32 = 0x100;

/// Two 32-bit registers, accessed whole. Both read as zero, so that a syscon-poweroff node, which reads before it
/// writes, always has something to change.
#[derive(Debug)]
pub struct ExitDevice(Arc<MachineEvents>);

impl ExitDevice {
    /// A device that tells `events`.
    pub fn new(events: Arc<MachineEvents>) -> Self {
        Self(events)
    }
}

/// The device of a machine.
#[derive(Debug)]
pub struct ExitSpec;

impl Specification for ExitSpec {
    fn resources(&self) -> Resources {
        Resources { regions: vec![Region::unnamed(SIZE)], ..Resources::default() }
    }

    fn node(&self, _id: &str) -> Node {
        Node::new("exit").label(LABEL).compatible(&["minivmm,exit", "syscon"])
    }
}

impl DeviceSpec for ExitSpec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        Ok(Arc::new(ExitDevice::new(parts.events)))
    }
}

impl PlatformDevice for ExitDevice {
    fn load(&self, _region: usize, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn store(&self, _region: usize, offset: u64, data: &[u8]) {
        let Ok(value) = data.try_into().map(u32::from_le_bytes) else { return };
        match (offset, value & 0xff, value & !0xff) {
            (BOOT_MARK, 1, 0) => self.0.booted(),
            (EXIT, status, EXIT_NOW) => self.0.exit(status.to_le_bytes()[0]),
            _ => {}
        }
    }

    fn reset(&self) {}

    fn stop(&self) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn device() -> (ExitDevice, Arc<MachineEvents>) {
        let events = Arc::new(MachineEvents::new().unwrap());
        (ExitDevice::new(events.clone()), events)
    }

    #[test]
    fn the_first_mark_and_the_first_status_count() {
        let (device, events) = device();
        assert!(events.eventfd().read().is_err());
        device.store(0, BOOT_MARK, &1_u32.to_le_bytes());
        let booted = events.reported().booted;
        assert!(booted.is_some());
        assert_eq!(events.eventfd().read().unwrap(), 1);
        device.store(0, BOOT_MARK, &1_u32.to_le_bytes());
        assert_eq!(events.reported().booted, booted);
        assert!(events.eventfd().read().is_err());

        device.store(0, EXIT, &0x107_u32.to_le_bytes());
        device.store(0, EXIT, &0x100_u32.to_le_bytes());
        assert_eq!(events.reported().exit, Some(7));
        assert_eq!(events.eventfd().read().unwrap(), 1);
    }

    #[test]
    fn everything_reads_as_zero() {
        let (device, _) = device();
        device.store(0, EXIT, &0x107_u32.to_le_bytes());
        let mut data = [0xff; 4];
        device.load(0, EXIT, &mut data);
        assert_eq!(data, [0; 4]);
    }

    proptest! {
        #[test]
        fn only_what_is_defined_is_told(offset in 0_u64..16, data in prop::collection::vec(0_u8..3, 0..9)) {
            let (device, events) = device();
            device.store(0, offset, &data);
            let told = events.reported();
            let value = data.try_into().map(u32::from_le_bytes).ok();
            prop_assert_eq!(told.booted.is_some(), offset == BOOT_MARK && value == Some(1));
            prop_assert_eq!(told.exit.is_some(), offset == EXIT && value.is_some_and(|value| value >> 8 == 1));
        }
    }
}
