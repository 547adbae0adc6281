//! pvpanic: the guest's kernel tells that it panicked (QEMU's docs/specs/pvpanic).

use std::sync::Arc;

use crate::{
    machine_events::MachineEvents,
    platform::{BuildError, DeviceSpec, Node, Parts, PlatformDevice, Region, Resources, Specification},
};

/// The size of the device's range, in bytes: one register.
pub const SIZE: u64 = 1;

/// The kernel panicked, and nothing in the guest will handle it.
const PANICKED: u8 = 1 << 0;
/// The kernel panicked, and continues in its crash kernel. The machine ignores this event.
const CRASH_LOADED: u8 = 1 << 1;

/// One 8-bit register: it reads as the events that the machine understands, the guest writes the one that happened.
#[derive(Debug)]
pub struct PvPanic(Arc<MachineEvents>);

impl PvPanic {
    /// A device that tells `events`.
    pub fn new(events: Arc<MachineEvents>) -> Self {
        Self(events)
    }
}

/// The device of a machine.
#[derive(Debug)]
pub struct PvpanicSpec;

impl Specification for PvpanicSpec {
    fn resources(&self) -> Resources {
        Resources { regions: vec![Region::unnamed(SIZE.next_multiple_of(0x1000))], ..Resources::default() }
    }

    fn node(&self, _id: &str) -> Node {
        Node::new("pvpanic").compatible(&["qemu,pvpanic-mmio"])
    }
}

impl DeviceSpec for PvpanicSpec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        Ok(Arc::new(PvPanic::new(parts.events)))
    }
}

impl PlatformDevice for PvPanic {
    fn load(&self, _region: usize, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (0, [register]) = (offset, data) {
            *register = PANICKED | CRASH_LOADED;
        }
    }

    fn store(&self, _region: usize, offset: u64, data: &[u8]) {
        if let (0, [event]) = (offset, data)
            && event & PANICKED != 0
        {
            self.0.panicked();
        }
    }

    fn reset(&self) {}

    fn stop(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_and_a_crash_kernel_is_not() {
        let events = Arc::new(MachineEvents::new().unwrap());
        let device = PvPanic::new(events.clone());
        device.store(0, 0, &[CRASH_LOADED]);
        device.store(0, 1, &[PANICKED]);
        device.store(0, 0, &[PANICKED, 0]);
        device.store(0, 0, &[]);
        assert!(!events.reported().panicked);
        assert!(events.eventfd().read().is_err());
        device.store(0, 0, &[PANICKED]);
        assert!(events.reported().panicked);
        assert_eq!(events.eventfd().read().unwrap(), 1);
    }

    #[test]
    fn the_register_reads_as_the_events_understood() {
        let device = PvPanic::new(Arc::new(MachineEvents::new().unwrap()));
        let mut data = [0];
        device.load(0, 0, &mut data);
        assert_eq!(data, [0b11]);
        let mut data = [0xff; 2];
        device.load(0, 0, &mut data);
        assert_eq!(data, [0, 0]);
    }
}
