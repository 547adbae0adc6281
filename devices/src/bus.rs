//! The address space of devices: which device answers at which address.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use crate::platform::PlatformDevice;

/// A device that answers to loads and stores of the guest.
///
/// Calls come from vCPU threads, several at a time: a device locks what it must, shortly, and leaves slow work to
/// another thread. Widths and offsets are the guest's, so any value can come; there is no error to return, as a
/// bus has none: an invalid access reads as zero, has no effect as a write, or raises an error of the device.
pub trait BusDevice: Send + Sync {
    /// The guest loads `data.len()` bytes at `offset` from the start of the device's range.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// The guest stores `data` at `offset` from the start of the device's range.
    fn write(&self, offset: u64, data: &[u8]);
}

/// Why a device was refused a place on the bus.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BusError {
    /// Two devices would answer at one address.
    #[error("{name} at {range:#x?} overlaps {other} at {other_range:#x?}; give it a range of its own")]
    Overlap {
        /// The device that was refused.
        name: String,
        /// Its range.
        range: Range<u64>,
        /// The device that is already there.
        other: String,
        /// Its range.
        other_range: Range<u64>,
    },
    /// A range that has no address in it.
    #[error("{name} was given the empty range {range:#x?}; a device needs at least one byte")]
    Empty {
        /// The device that was refused.
        name: String,
        /// Its range.
        range: Range<u64>,
    },
}

/// One register region of a platform device.
pub struct RegionDevice {
    /// The device.
    pub device: Arc<dyn PlatformDevice>,
    /// Index of the region.
    pub region: usize,
}

impl BusDevice for RegionDevice {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.device.load(self.region, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.device.store(self.region, offset, data);
    }
}

struct Entry {
    name: String,
    range: Range<u64>,
    device: Arc<dyn BusDevice>,
}

/// The devices of one address space (MMIO or port I/O), sorted by address.
#[derive(Default)]
pub struct Bus {
    entries: BTreeMap<u64, Entry>,
}

impl Bus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Places `device` at `range`.
    ///
    /// # Errors
    /// If `range` is empty or shares an address with a device that is already there.
    pub fn insert(
        &mut self,
        name: impl Into<String>,
        range: Range<u64>,
        device: Arc<dyn BusDevice>,
    ) -> Result<(), BusError> {
        let name = name.into();
        if range.is_empty() {
            return Err(BusError::Empty { name, range });
        }
        // The last entry that starts before our end is the only one that can reach into our range.
        if let Some((_, below)) = self.entries.range(..range.end).next_back()
            && below.range.end > range.start
        {
            return Err(BusError::Overlap {
                name,
                range,
                other: below.name.clone(),
                other_range: below.range.clone(),
            });
        }
        self.entries.insert(range.start, Entry { name, range, device });
        Ok(())
    }

    /// Loads from the device at `address`; false if no device holds all of the bytes, and then they read as ones,
    /// as an undriven bus does.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        if let Some((offset, device)) = self.find(address, data.len()) {
            data.fill(0);
            device.read(offset, data);
            true
        } else {
            data.fill(0xff);
            false
        }
    }

    /// Stores to the device at `address`; false if no device holds all of the bytes, and then they are lost.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        if let Some((offset, device)) = self.find(address, data.len()) {
            device.write(offset, data);
            true
        } else {
            false
        }
    }

    fn find(&self, address: u64, len: usize) -> Option<(u64, &dyn BusDevice)> {
        let (_, entry) = self.entries.range(..=address).next_back()?;
        let end = address.checked_add(len as u64)?;
        (end <= entry.range.end).then(|| (address - entry.range.start, entry.device.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Cells(Mutex<[u8; 16]>);

    impl BusDevice for Cells {
        fn read(&self, offset: u64, data: &mut [u8]) {
            let start = usize::try_from(offset).unwrap();
            data.copy_from_slice(&self.0.lock().unwrap()[start..start + data.len()]);
        }
        fn write(&self, offset: u64, data: &[u8]) {
            let start = usize::try_from(offset).unwrap();
            self.0.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        }
    }

    fn bus() -> Bus {
        let mut bus = Bus::new();
        bus.insert("a", 0x100..0x110, Arc::new(Cells::default())).unwrap();
        bus.insert("b", 0x110..0x120, Arc::new(Cells::default())).unwrap();
        bus
    }

    #[test]
    fn each_device_has_its_own_range() {
        let bus = bus();
        assert!(bus.write(0x10e, &[1, 2]));
        assert!(bus.write(0x110, &[3]));
        let mut data = [0; 2];
        assert!(bus.read(0x10e, &mut data));
        assert_eq!(data, [1, 2]);
        assert!(bus.read(0x110, &mut data));
        assert_eq!(data, [3, 0]);
    }

    #[test]
    fn overlap_is_refused_from_every_side() {
        let mut bus = bus();
        for range in [0xff..0x101, 0x105..0x106, 0x10f..0x110, 0x11f..0x200, 0x0..0x1000, 0x100..0x110] {
            let error = bus.insert("c", range.clone(), Arc::new(Cells::default())).unwrap_err();
            assert!(matches!(error, BusError::Overlap { .. }), "{range:?}: {error}");
        }
        assert!(matches!(
            bus.insert("c", 0x130..0x130, Arc::new(Cells::default())),
            Err(BusError::Empty { .. })
        ));
        bus.insert("c", 0xf0..0x100, Arc::new(Cells::default())).unwrap();
    }

    #[test]
    fn what_no_device_holds_whole_reads_as_ones() {
        let bus = bus();
        for address in [0x0, 0xff, 0x10f, 0x11f, 0x120, u64::MAX] {
            let mut data = [0; 2];
            assert!(!bus.read(address, &mut data), "{address:#x}");
            assert_eq!(data, [0xff, 0xff]);
            assert!(!bus.write(address, &[0, 0]));
        }
    }
}
