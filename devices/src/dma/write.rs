//! A write that a device has begun: the port has checked it, and the device fills it piece by piece, in any order.

use std::sync::{Mutex, PoisonError};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use super::{
    faults::{PendingFlip, Wrong},
    port::{DmaError, DmaPort, DmaRefusal},
};

/// A stretch of guest memory that a device writes. Threads may share it.
#[derive(Debug)]
pub struct DmaWrite<'a> {
    port: &'a DmaPort,
    /// Where the bytes go.
    address: u64,
    len: usize,
    /// By a fault they go nowhere.
    lost: bool,
    /// Bits that are flipped when it is published.
    flip: Option<Box<Mutex<Option<PendingFlip>>>>,
}

impl DmaPort {
    /// Begins a write of `len` bytes at `address`. The pages count as written.
    ///
    /// # Errors
    /// As [`check`](Self::check); also if the stretch spans two regions of RAM, which no window does.
    pub fn begin_write(&self, address: u64, len: u64) -> Result<DmaWrite<'_>, DmaError> {
        self.check(address, len)?;
        let refused = |reason| DmaError { address, len, reason };
        let count = usize::try_from(len).map_err(|_| refused(DmaRefusal::NoMemory))?;
        let mut write = DmaWrite { port: self, address, len: count, lost: false, flip: None };
        if len > 0
            && let Some(faults) = &self.faults
            && let Some((wrong, fault)) = faults.of_write(address)
        {
            match wrong {
                Wrong::Refused => return Err(refused(DmaRefusal::Fault)),
                Wrong::Elsewhere(there) => write.address = there,
                Wrong::Lost => write.lost = true,
                Wrong::Flipped(bits) => {
                    let pending = PendingFlip::new(fault, bits, address, len);
                    write.flip = Some(Box::new(Mutex::new(Some(pending))));
                }
            }
        }
        if !write.lost {
            let there = GuestAddress(write.address);
            self.memory.get_slice(there, count).map_err(|_| DmaError {
                address: write.address,
                len,
                reason: DmaRefusal::NoMemory,
            })?;
            self.record(write.address, len);
        }
        Ok(write)
    }
}

impl DmaWrite<'_> {
    /// The memory, to write it in place and to read it back; none if the write is lost.
    pub fn memory(&self) -> Option<VolatileSlice<'_>> {
        if self.lost {
            return None;
        }
        self.port.memory.get_slice(GuestAddress(self.address), self.len).ok()
    }

    /// Writes `bytes` at this offset of the stretch.
    ///
    /// # Panics
    /// If they lie outside it.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.len), "a device writes within what it has begun to write");
        if !self.lost {
            let address = GuestAddress(self.address + offset as u64);
            self.port.memory.write_slice(bytes, address).expect("the stretch is memory");
        }
    }

    /// Ends the write and makes the data visible to the guest. A device calls this before it reports the write.
    pub fn publish(&self) {
        if let (Some(flip), Some(faults)) = (&self.flip, &self.port.faults)
            && let Some(pending) = flip.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            faults.flip(pending, &self.port.memory);
        }
        if let Some(memory) = self.memory() {
            self.port.publish(&memory);
        }
    }
}
