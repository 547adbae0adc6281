//! A read that a device has begun: the port has checked it, and the device copies it piece by piece, in any order.

use std::collections::BTreeMap;

use chacha20::rand_core::Rng as _;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend};

use super::{
    faults::{ReadFault, Wrong},
    port::{DmaError, DmaPort, DmaRefusal},
};
use crate::faults::{Change, Fault};

/// A stretch of guest memory that a device reads.
#[derive(Debug)]
pub struct DmaRead<'a> {
    port: &'a DmaPort,
    /// Where the bytes come from.
    address: u64,
    len: u64,
    /// By a fault they come from nowhere, and are zeroes.
    lost: bool,
    /// The bits that are flipped on the way, by the place of their byte in the stretch.
    flips: BTreeMap<u64, u8>,
}

impl DmaPort {
    /// Begins a read of `len` bytes at `address`. It is one event for the faults of a plan, in however many pieces the device copies it.
    ///
    /// # Errors
    /// As [`check`](Self::check); also if a fault moves the read to where there is no memory.
    pub fn begin_read(&self, address: u64, len: u64) -> Result<DmaRead<'_>, DmaError> {
        self.check(address, len)?;
        let mut read = DmaRead { port: self, address, len, lost: false, flips: BTreeMap::new() };
        if len > 0
            && let Some(faults) = &self.faults
            && let Some((wrong, mut fault)) = faults.of_read(address)
        {
            match wrong {
                Wrong::Refused => return Err(DmaError { address, len, reason: DmaRefusal::Fault }),
                Wrong::Elsewhere(there) => {
                    let refused = DmaError { address: there, len, reason: DmaRefusal::NoMemory };
                    let count = usize::try_from(len).map_err(|_| refused)?;
                    if !GuestMemoryBackend::check_range(&self.memory, GuestAddress(there), count) {
                        return Err(refused);
                    }
                    read.address = there;
                }
                Wrong::Lost => read.lost = true,
                Wrong::Flipped(bits) => {
                    let changes = read.flip(bits, &mut fault);
                    faults.changed(&fault, changes);
                }
            }
        }
        Ok(read)
    }

    /// Copies the present guest memory. A simultaneous change by the guest may or may not be seen.
    ///
    /// # Errors
    /// As [`begin_read`](Self::begin_read); nothing was copied then.
    pub fn read_into(&self, address: u64, bytes: &mut [u8]) -> Result<(), DmaError> {
        self.begin_read(address, bytes.len() as u64)?.read(0, bytes);
        Ok(())
    }
}

impl DmaRead<'_> {
    /// Chooses the bits that are flipped. Returns the changes.
    fn flip(&mut self, bits: u32, fault: &mut Fault<ReadFault>) -> Vec<Change> {
        let change = |_| {
            let bit = fault.random.next_u64() % (8 * self.len);
            let (at, mask) = (bit / 8, 1 << (bit % 8));
            let address = self.address + at;
            let in_memory: u8 = self.port.memory.read_obj(GuestAddress(address)).ok()?;
            let flipped = self.flips.entry(at).or_default();
            let before = in_memory ^ *flipped;
            *flipped ^= mask;
            Some(Change { address, before, after: before ^ mask })
        };
        (0..bits).filter_map(change).collect()
    }

    /// Copies the present guest memory at this offset of the stretch. A simultaneous change by the guest may or may not be seen.
    ///
    /// # Panics
    /// If the bytes lie outside the stretch.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        let end = offset.checked_add(bytes.len() as u64);
        let end =
            end.filter(|end| *end <= self.len).expect("a device reads within what it has begun to read");
        if self.lost {
            bytes.fill(0);
            return;
        }
        let (memory, start) = (&self.port.memory, GuestAddress(self.address + offset));
        let mut rest = &mut *bytes;
        for slice in GuestMemoryBackend::get_slices(memory, start, rest.len()) {
            let slice = slice.expect("the stretch is memory");
            // The host's caches may hold older bytes than a guest that goes around them wrote.
            self.port.publish(&slice);
            let (piece, after) = std::mem::take(&mut rest).split_at_mut(slice.len());
            slice.copy_to(piece);
            rest = after;
        }
        for (at, mask) in self.flips.range(offset..end) {
            if let Some(byte) = usize::try_from(at - offset).ok().and_then(|at| bytes.get_mut(at)) {
                *byte ^= mask;
            }
        }
    }
}
