//! The one door to guest memory: a device reaches it through a [`DmaPort`] and through nothing else.
//!
//! A port knows the device's DMA mask and the windows it may touch. It implements [`GuestMemory`], vm-memory's
//! trait for memory behind an IOMMU: virtio queues and `Bytes` accesses work through it unchanged, and every
//! access passes [`DmaPort::check`] first. It is where what was written is recorded.

use std::{
    ops::Range,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
};

use vm_memory::{
    GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap, Permissions,
    VolatileSlice, bitmap::BS, guest_memory::GuestMemorySliceIterator,
};

/// The unit of the record of writes, in bytes.
pub const RECORD_UNIT: u64 = 4096;

/// A transfer that the port refused: the guest sees it as a bus error.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("DMA of {len} bytes at {address:#x} was refused: {reason}")]
pub struct DmaError {
    /// First address of the transfer that the port does not permit.
    pub address: u64,
    /// Length of the whole transfer, in bytes.
    pub len: u64,
    /// Why.
    pub reason: DmaRefusal,
}

/// Why a transfer was refused.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum DmaRefusal {
    /// The last address does not fit in 64 bits or in the device's address lines.
    #[error("it reaches beyond the device's DMA mask")]
    Mask,
    /// Not inside one of the port's windows.
    #[error("it lies outside the windows that the device may touch")]
    Window,
    /// There is no RAM at that address.
    #[error("there is no memory")]
    NoMemory,
}

/// One stretch of guest memory that a device may touch, with a record of the pages written.
#[derive(Debug)]
struct Window {
    range: Range<u64>,
    /// One bit a page, set when the port handed the page out for writing.
    written: Vec<AtomicU64>,
}

impl Window {
    fn new(range: Range<u64>) -> Self {
        let pages = (range.end - range.start).div_ceil(RECORD_UNIT);
        let written = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { range, written }
    }

    fn record(&self, start: u64, end: u64) {
        let first = (start - self.range.start) / RECORD_UNIT;
        let last = (end - 1 - self.range.start) / RECORD_UNIT;
        for word in first / 64..=last / 64 {
            let low = first.max(word * 64) - word * 64;
            let high = last.min(word * 64 + 63) - word * 64;
            let mask = (u64::MAX >> (63 - high)) & (u64::MAX << low);
            if let Some(bits) = usize::try_from(word).ok().and_then(|word| self.written.get(word)) {
                bits.fetch_or(mask, Ordering::Relaxed);
            }
        }
    }
}

/// A device's access to guest memory.
///
/// Clones share the record of writes.
#[derive(Debug, Clone)]
pub struct DmaPort {
    memory: GuestMemoryMmap,
    /// Highest address that the device's address lines can carry.
    mask: u64,
    /// What the device may touch; empty: all of RAM below the mask.
    windows: Arc<[Window]>,
    /// What takes bytes of this process from its caches to memory, where the guest goes around the caches.
    clean: Option<CleanCaches>,
}

/// Cleans the caches of this many bytes from this address on, and forgets what they have of these.
pub type CleanCaches = fn(*const u8, usize);

impl DmaPort {
    /// A port with `address_bits` address lines that may touch only `windows`.
    ///
    /// # Panics
    /// If `address_bits` is not in 1..=64.
    pub fn new(memory: GuestMemoryMmap, address_bits: u32, windows: &[Range<u64>]) -> Self {
        assert!((1..=64).contains(&address_bits), "a device has 1 to 64 address lines, not {address_bits}");
        Self {
            memory,
            mask: u64::MAX >> (64 - address_bits),
            windows: windows.iter().cloned().map(Window::new).collect(),
            clean: None,
        }
    }

    /// The port of a device that the guest takes for not coherent: what it wrote goes all the way to memory, by `clean`.
    #[must_use]
    pub fn not_coherent(self, clean: CleanCaches) -> Self {
        Self { clean: Some(clean), ..self }
    }

    /// What was written to `slice` is where the guest looks for it. A device calls this before it says so.
    pub fn publish(&self, slice: &VolatileSlice) {
        if let Some(clean) = self.clean {
            clean(slice.ptr_guard().as_ptr(), slice.len());
        }
    }

    /// A port that may touch all of RAM, as the virtio devices' may.
    pub fn unrestricted(memory: GuestMemoryMmap) -> Self {
        Self::new(memory, 64, &[])
    }

    /// A port of the same memory that permits all of it: what a fault that a plan asks for goes by.
    #[must_use]
    pub fn all_memory(&self) -> Self {
        Self { mask: u64::MAX, windows: Arc::new([]), ..self.clone() }
    }

    /// Whether the port lets a transfer of `len` bytes at `address` pass; nothing is touched.
    ///
    /// # Errors
    /// Says which address is the first that it does not permit, and why.
    pub fn check(&self, address: u64, len: u64) -> Result<(), DmaError> {
        self.check_windowed(address, len).map(|_| ())
    }

    /// As [`check`](Self::check), with the window that holds the transfer, if there are windows.
    fn check_windowed(&self, address: u64, len: u64) -> Result<Option<&Window>, DmaError> {
        let refuse = |at, reason| Err(DmaError { address: at, len, reason });
        if len == 0 {
            return Ok(None);
        }
        // A transfer goes upwards, so the first address refused is the lowest: its start, the window's end, or the
        // first that the lines cannot carry.
        if address > self.mask {
            return refuse(address, DmaRefusal::Mask);
        }
        let window = self.windows.iter().find(|window| window.range.contains(&address));
        if window.is_none() && !self.windows.is_empty() {
            return refuse(address, DmaRefusal::Window);
        }
        let last = address.checked_add(len - 1);
        if let Some(window) = window
            && window.range.end - 1 < self.mask
            && last.is_none_or(|last| last >= window.range.end)
        {
            return refuse(window.range.end, DmaRefusal::Window);
        }
        let Some(last) = last.filter(|last| *last <= self.mask) else {
            return refuse(self.mask.saturating_add(1), DmaRefusal::Mask);
        };
        let mut at = address;
        while at <= last {
            let Some(region) = self.memory.find_region(GuestAddress(at)) else {
                return refuse(at, DmaRefusal::NoMemory);
            };
            match vm_memory::GuestMemoryRegion::last_addr(region).0.checked_add(1) {
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(window)
    }

    /// One stretch of guest memory to write to in place, without a staging copy. The pages count as written.
    ///
    /// # Errors
    /// As [`check`](Self::check); also if the stretch spans two regions of RAM, which no window does.
    pub fn slice_for_writing(&self, address: u64, len: u64) -> Result<VolatileSlice<'_>, DmaError> {
        let refused = DmaError { address, len, reason: DmaRefusal::NoMemory };
        let window = self.check_windowed(address, len)?;
        let count = usize::try_from(len).map_err(|_| refused)?;
        let slice = self.memory.get_slice(GuestAddress(address), count).map_err(|_| refused)?;
        if let Some(window) = window {
            window.record(address, address + len);
        }
        Ok(slice)
    }

    /// Copies guest memory as it is now: what the guest changes meanwhile is seen or not.
    ///
    /// # Errors
    /// As [`slice_for_writing`](Self::slice_for_writing); nothing was copied then.
    pub fn read_into(&self, address: u64, bytes: &mut [u8]) -> Result<(), DmaError> {
        let refused = DmaError { address, len: bytes.len() as u64, reason: DmaRefusal::NoMemory };
        self.check(address, bytes.len() as u64)?;
        let slice = self.memory.get_slice(GuestAddress(address), bytes.len()).map_err(|_| refused)?;
        // What the guest wrote around the caches may be older in them.
        self.publish(&slice);
        slice.copy_to(bytes);
        Ok(())
    }

    /// What the port may touch, with a bitmap of the pages written since the start (bit 0 of word 0 is the
    /// window's first page). Empty for a port without windows.
    pub fn written(&self) -> Vec<(Range<u64>, Vec<u64>)> {
        self.windows
            .iter()
            .map(|window| {
                let bits = window.written.iter().map(|word| word.load(Ordering::Relaxed)).collect();
                (window.range.clone(), bits)
            })
            .collect()
    }
}

impl GuestMemory for DmaPort {
    type PhysicalMemory = GuestMemoryMmap;
    type Bitmap = <GuestMemoryMmap as GuestMemory>::Bitmap;

    fn check_range(&self, address: GuestAddress, count: usize, _access: Permissions) -> bool {
        self.check(address.0, count as u64).is_ok()
    }

    fn get_slices<'a>(
        &'a self,
        address: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, BS<'a, Self::Bitmap>>, GuestMemoryError> {
        let window = self
            .check_windowed(address.0, count as u64)
            .map_err(|refused| GuestMemoryError::InvalidGuestAddress(GuestAddress(refused.address)))?;
        if let Some(window) = window
            && access.has_write()
        {
            window.record(address.0, address.0 + count as u64);
        }
        Ok(GuestMemoryBackend::get_slices(&self.memory, address, count))
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000), (GuestAddress(0x1_0000_0000), 0x1_0000)])
            .unwrap()
    }

    #[test]
    fn a_window_is_kept() {
        let port = DmaPort::new(memory(), 32, &[0x4000..0x8000]);
        port.write_slice(&[7; 0x1000], GuestAddress(0x7000)).unwrap();
        for (address, len, at, reason) in [
            (0x3fff, 2, 0x3fff, DmaRefusal::Window),
            (0x7fff, 2, 0x8000, DmaRefusal::Window),
            (0x7000, 1 << 33, 0x8000, DmaRefusal::Window),
            (0xffff_ffff, 2, 0xffff_ffff, DmaRefusal::Window),
            (u64::MAX, 2, u64::MAX, DmaRefusal::Mask),
        ] {
            assert_eq!(port.check(address, len), Err(DmaError { address: at, len, reason }), "{address:#x}");
            assert!(port.slice_for_writing(address, len).is_err());
        }
        assert_eq!(memory_byte(&port, 0x7fff), 7);
    }

    fn memory_byte(port: &DmaPort, address: u64) -> u8 {
        port.read_obj(GuestAddress(address)).unwrap()
    }

    #[test]
    fn without_windows_ram_and_the_mask_are_the_limit() {
        let port = DmaPort::unrestricted(memory());
        assert_eq!(port.check(0x1_0000_0000, 0x1_0000), Ok(()));
        assert_eq!(port.check(0xf_ffff, 2).unwrap_err().reason, DmaRefusal::NoMemory);
        assert_eq!(port.check(0xf_ffff, 2).unwrap_err().address, 0x10_0000);
        let port = DmaPort::new(memory(), 32, &[]);
        assert_eq!(port.check(0x1_0000_0000, 1).unwrap_err().reason, DmaRefusal::Mask);
        // A window that the lines do not reach the end of.
        let port = DmaPort::new(memory(), 15, &[0x4000..0x9000]);
        assert_eq!(port.check(0x7fff, 1), Ok(()));
        let refused = port.check(0x7fff, 0x10_0000).unwrap_err();
        assert_eq!((refused.address, refused.reason), (0x8000, DmaRefusal::Mask));
    }

    #[test]
    fn written_pages_are_recorded_and_read_ones_are_not() {
        let port = DmaPort::new(memory(), 32, &[0x4000..0x9_0000]);
        let _: u32 = port.read_obj(GuestAddress(0x4000)).unwrap();
        port.write_obj(1_u32, GuestAddress(0x4fff)).unwrap();
        port.slice_for_writing(0x4000 + 62 * RECORD_UNIT, 4 * RECORD_UNIT).unwrap();
        let (range, bits) = port.written().remove(0);
        assert_eq!(range, 0x4000..0x9_0000);
        assert_eq!(bits, [0b11 | 0b11 << 62, 0b11, 0]);
    }
}
