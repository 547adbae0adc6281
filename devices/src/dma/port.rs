//! The port of a device to guest memory: what it permits, and its record of writes.

use std::{
    ops::Range,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
};

use vm_memory::{
    GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap, Permissions,
    VolatileSlice, bitmap::BS, guest_memory::GuestMemorySliceIterator,
};

use super::faults::{PortFaults, Slices};
use crate::faults::FaultHandle;

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
    /// A plan of faults refuses it.
    #[error("a plan of faults refuses it")]
    Fault,
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
    pub(super) memory: GuestMemoryMmap,
    /// Highest address that the device's address lines can carry.
    pub(super) mask: u64,
    /// What the device may touch; empty: all of RAM below the mask.
    windows: Arc<[Window]>,
    /// What takes bytes of this process from its caches to memory, where the guest goes around the caches.
    pub(super) clean: Option<CleanCaches>,
    /// The faults of a plan, if there is one.
    pub(super) faults: Option<Arc<PortFaults>>,
}

/// Cleans and invalidates the caches for this number of bytes from this address on.
///
/// # Safety
/// These bytes are mapped and readable during the call.
pub type CleanCaches = unsafe fn(*const u8, usize);

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
            faults: None,
        }
    }

    /// The port of a device that is not coherent for the guest: `clean` writes its data from the caches to memory.
    #[must_use]
    pub fn not_coherent(self, clean: CleanCaches) -> Self {
        Self { clean: Some(clean), ..self }
    }

    /// The same port, with the faults of a plan at `dma.read` and `dma.write`.
    #[must_use]
    pub fn with_faults(self, handle: FaultHandle) -> Self {
        let faults = handle.is_some().then(|| Arc::new(PortFaults::new(handle)));
        Self { faults, ..self }
    }

    /// The same port without faults, for accesses that are not transfers of the device.
    #[must_use]
    pub fn without_faults(&self) -> Self {
        Self { faults: None, ..self.clone() }
    }

    /// What was written to `slice` goes to where the guest looks for it.
    pub(super) fn publish(&self, slice: &VolatileSlice) {
        if let Some(clean) = self.clean {
            let guard = slice.ptr_guard();
            // SAFETY: the slice is of guest memory, which stays mapped while the guard lives.
            unsafe { clean(guard.as_ptr(), slice.len()) };
        }
    }

    /// A port that may touch all of RAM, as the virtio devices' may.
    pub fn unrestricted(memory: GuestMemoryMmap) -> Self {
        Self::new(memory, 64, &[])
    }

    /// A port that permits the whole memory, without faults. A device uses it for the effects of its own faults.
    #[must_use]
    pub fn all_memory(&self) -> Self {
        Self { mask: u64::MAX, windows: Arc::new([]), faults: None, ..self.clone() }
    }

    /// The memory itself, for a device that another program serves: it maps all of it, and no access passes the port.
    #[must_use]
    pub fn memory_of_another_program(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Whether the port lets a transfer of `len` bytes at `address` pass; nothing is touched.
    ///
    /// # Errors
    /// Says which address is the first that it does not permit, and why.
    pub fn check(&self, address: u64, len: u64) -> Result<(), DmaError> {
        #[cfg(fuzzing)]
        super::fuzzing::accessed(&self.memory);
        let refuse = |at, reason| Err(DmaError { address: at, len, reason });
        if len == 0 {
            return Ok(());
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
        Ok(())
    }

    /// Counts the pages of a transfer that lie in windows as written.
    pub(super) fn record(&self, address: u64, len: u64) {
        let end = address.saturating_add(len);
        for window in &*self.windows {
            let (start, end) = (address.max(window.range.start), end.min(window.range.end));
            if start < end {
                window.record(start, end);
            }
        }
    }

    /// Ends the writes to the slices that the port handed out, for faults. A device that works on slices calls this before it
    /// reports them.
    pub fn finish_slices(&self) {
        if let Some(faults) = &self.faults {
            faults.flip_pending(&self.memory);
        }
    }

    /// What the port may touch, and whether something was written there since the start. Empty for a port without windows.
    pub fn touched(&self) -> impl Iterator<Item = (&Range<u64>, bool)> {
        let is_written =
            |window: &Window| window.written.iter().any(|word| word.load(Ordering::Relaxed) != 0);
        self.windows.iter().map(move |window| (&window.range, is_written(window)))
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
        self.check(address.0, count as u64)
            .map_err(|refused| GuestMemoryError::InvalidGuestAddress(GuestAddress(refused.address)))?;
        let faults = self.faults.as_ref().filter(|_| count > 0);
        let (slices, written) = match faults {
            None => (Slices::real(&self.memory, address, count), Some(address.0)),
            Some(faults) if access.has_write() => faults.slices_to_write(&self.memory, address, count)?,
            Some(faults) => (faults.slices_to_read(&self.memory, address, count)?, None),
        };
        if let Some(written) = written
            && access.has_write()
        {
            self.record(written, count as u64);
        }
        Ok(slices)
    }
}
