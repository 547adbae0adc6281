//! The faults of transfers of any device: the points `dma.read` and `dma.write`, and their effects on the
//! memory that a [`DmaPort`](super::DmaPort) hands out.

use std::{
    iter::FusedIterator,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use chacha20::rand_core::Rng as _;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap, MmapRegion, VolatileMemory,
    VolatileSlice,
    guest_memory::{GuestMemoryBackendSliceIterator, GuestMemorySliceIterator},
};

use crate::faults::{BITS, Change, Event, Fault, FaultHandle, FaultPoint, SIGNED, fault_point, flip_bits};

fault_point! {
    /// The device is about to read guest memory, which its DMA port permits: one event for each buffer.
    pub(crate) enum ReadFault = "dma.read" [] {
        /// The device reads this many bytes further up, or down if it is negative, anywhere in RAM.
        Offset { bytes: i64 in SIGNED } = "offset",
        /// The bus refuses the transfer.
        BusError = "bus-error",
        /// This number of bits are flipped on the way to the device; the buffer stays as it is.
        Flip { bits: u32 in BITS } = "flip",
        /// The device reads zeroes.
        Lost = "lost",
    }
}

fault_point! {
    /// The device is about to write guest memory, which its DMA port permits: one event for each buffer.
    pub(crate) enum WriteFault = "dma.write" [] {
        /// The device writes this many bytes further up, or down if it is negative, anywhere in RAM.
        Offset { bytes: i64 in SIGNED } = "offset",
        /// The bus refuses the transfer.
        BusError = "bus-error",
        /// This number of bits are flipped in memory before the device reports the transfer.
        Flip { bits: u32 in BITS } = "flip",
        /// The buffer stays as it was, but the device reports the transfer.
        Lost = "lost",
    }
}

/// The size of the memory that takes the place of a buffer: a longer buffer gets the same memory again and again.
const PIECE: usize = 64 << 10;

/// The memory for copies of buffers that are read with flipped bits. The oldest copy gives way to the next.
const COPIES: usize = 1 << 20;

/// The most writes whose bits wait to be flipped: those of one chain of buffers.
const MOST_PENDING: usize = 1024;

/// The faults of a port. Its clones share them.
#[derive(Debug)]
pub(super) struct PortFaults {
    handle: FaultHandle,
    /// Writes that are not finished, whose bits are flipped then.
    pending: Mutex<Vec<PendingFlip>>,
    /// Where lost writes go.
    sink: OnceLock<Option<MmapRegion>>,
    /// What lost reads get.
    zeroes: OnceLock<Option<MmapRegion>>,
    copies: OnceLock<Option<MmapRegion>>,
    next_copy: AtomicUsize,
}

/// A write whose bits are flipped when it is finished.
#[derive(Debug)]
pub(super) struct PendingFlip {
    fault: Fault<WriteFault>,
    bits: u32,
    address: u64,
    len: u64,
}

/// What becomes of a transfer that goes wrong.
pub(super) enum Wrong {
    /// It goes to this address.
    Elsewhere(u64),
    Refused,
    Lost,
    /// This number of its bits are flipped.
    Flipped(u32),
}

impl PortFaults {
    pub(super) fn new(handle: FaultHandle) -> Self {
        Self {
            handle,
            pending: Mutex::default(),
            sink: OnceLock::new(),
            zeroes: OnceLock::new(),
            copies: OnceLock::new(),
            next_copy: AtomicUsize::new(0),
        }
    }

    /// What goes wrong with a read at `address`.
    #[inline]
    pub(super) fn of_read(&self, address: u64) -> Option<(Wrong, Fault<ReadFault>)> {
        let fault = self.handle.consult::<ReadFault>(Event::PLAIN)?;
        let wrong = match fault.action {
            ReadFault::Offset { bytes } => Wrong::Elsewhere(address.wrapping_add_signed(bytes)),
            ReadFault::BusError => Wrong::Refused,
            ReadFault::Flip { bits } => Wrong::Flipped(bits),
            ReadFault::Lost => Wrong::Lost,
        };
        self.record_address(&fault, &wrong, address);
        Some((wrong, fault))
    }

    /// What goes wrong with a write at `address`.
    #[inline]
    pub(super) fn of_write(&self, address: u64) -> Option<(Wrong, Fault<WriteFault>)> {
        let fault = self.handle.consult::<WriteFault>(Event::PLAIN)?;
        let wrong = match fault.action {
            WriteFault::Offset { bytes } => Wrong::Elsewhere(address.wrapping_add_signed(bytes)),
            WriteFault::BusError => Wrong::Refused,
            WriteFault::Flip { bits } => Wrong::Flipped(bits),
            WriteFault::Lost => Wrong::Lost,
        };
        self.record_address(&fault, &wrong, address);
        Some((wrong, fault))
    }

    fn record_address<P: FaultPoint>(&self, fault: &Fault<P>, wrong: &Wrong, address: u64) {
        let address = match wrong {
            Wrong::Elsewhere(there) => *there,
            Wrong::Refused | Wrong::Lost | Wrong::Flipped(_) => address,
        };
        self.handle.record(fault, |firing| firing.address = Some(address));
    }

    /// Flips bits of `bytes`, which the device read at `address`.
    fn flip_copy(&self, mut fault: Fault<ReadFault>, bits: u32, address: u64, bytes: &mut [u8]) {
        let changes = flip_bits(bytes, bits, &mut fault.random, Some(address));
        self.changed(&fault, changes);
    }

    /// Adds the bytes that a fault changed to the record.
    pub(super) fn changed<P>(&self, fault: &Fault<P>, changes: Vec<Change>) {
        self.handle.record(fault, |firing| firing.changes = changes);
    }

    /// Flips the bits of a write that is finished.
    pub(super) fn flip(&self, pending: PendingFlip, memory: &GuestMemoryMmap) {
        let PendingFlip { mut fault, bits, address, len } = pending;
        let mut changes = Vec::new();
        for _ in 0..bits {
            let at = fault.random.next_u64() % (8 * len);
            let address = GuestAddress(address + at / 8);
            let Ok(before) = memory.read_obj::<u8>(address) else { continue };
            let after = before ^ 1 << (at % 8);
            if memory.write_obj(after, address).is_ok() {
                changes.push(Change { address: address.0, before, after });
            }
        }
        self.changed(&fault, changes);
    }

    /// Flips the bits of all writes that wait for it.
    pub(super) fn flip_pending(&self, memory: &GuestMemoryMmap) {
        let pending = std::mem::take(&mut *self.pending());
        pending.into_iter().for_each(|pending| self.flip(pending, memory));
    }

    fn pending(&self) -> MutexGuard<'_, Vec<PendingFlip>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slices of a buffer of `count` bytes at `address`, which the device reads.
    pub(super) fn slices_to_read<'a>(
        &'a self,
        memory: &'a GuestMemoryMmap,
        address: GuestAddress,
        count: usize,
    ) -> Result<Slices<'a>, GuestMemoryError> {
        let Some((wrong, fault)) = self.of_read(address.0) else {
            return Ok(Slices::real(memory, address, count));
        };
        match wrong {
            Wrong::Elsewhere(there) => Slices::elsewhere(memory, there, count),
            Wrong::Refused => Err(GuestMemoryError::InvalidGuestAddress(address)),
            Wrong::Lost => Slices::instead(&self.zeroes, address, count),
            Wrong::Flipped(bits) => {
                // What lies behind the copy comes from memory.
                let copied = count.min(COPIES);
                let copy = self.copy(address, copied)?;
                let mut bytes = vec![0; copied];
                memory.read_slice(&mut bytes, address)?;
                self.flip_copy(fault, bits, address.0, &mut bytes);
                copy.copy_from(&bytes);
                let rest = GuestMemoryBackend::get_slices(
                    memory,
                    GuestAddress(address.0 + copied as u64),
                    count - copied,
                );
                Ok(Slices::Real { first: Some(copy), rest })
            }
        }
    }

    /// Memory for a copy of `count` bytes at most [`COPIES`] of the buffer at `address`.
    fn copy(&self, address: GuestAddress, count: usize) -> Result<VolatileSlice<'_>, GuestMemoryError> {
        let refused = GuestMemoryError::InvalidGuestAddress(address);
        let memory = self.copies.get_or_init(|| MmapRegion::new(COPIES).ok()).as_ref().ok_or(refused)?;
        let next = |at: usize| Some(if at + count > COPIES { count } else { at + count });
        let before = self.next_copy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(0);
        let start = if before + count > COPIES { 0 } else { before };
        memory.get_slice(start, count).map_err(|_| GuestMemoryError::InvalidGuestAddress(address))
    }

    /// The slices of a buffer of `count` bytes at `address`, which the device writes. The second is true if the buffer itself
    /// is written.
    pub(super) fn slices_to_write<'a>(
        &'a self,
        memory: &'a GuestMemoryMmap,
        address: GuestAddress,
        count: usize,
    ) -> Result<(Slices<'a>, Option<u64>), GuestMemoryError> {
        let Some((wrong, fault)) = self.of_write(address.0) else {
            return Ok((Slices::real(memory, address, count), Some(address.0)));
        };
        match wrong {
            Wrong::Elsewhere(there) => Ok((Slices::elsewhere(memory, there, count)?, Some(there))),
            Wrong::Refused => Err(GuestMemoryError::InvalidGuestAddress(address)),
            Wrong::Lost => Ok((Slices::instead(&self.sink, address, count)?, None)),
            Wrong::Flipped(bits) => {
                let mut pending = self.pending();
                if pending.len() < MOST_PENDING {
                    pending.push(PendingFlip::new(fault, bits, address.0, count as u64));
                }
                Ok((Slices::real(memory, address, count), Some(address.0)))
            }
        }
    }
}

impl PendingFlip {
    /// `len` is not 0.
    pub(super) fn new(fault: Fault<WriteFault>, bits: u32, address: u64, len: u64) -> Self {
        Self { fault, bits, address, len }
    }
}

/// The slices of a buffer: of guest memory, or of the copy that replaces it.
pub(super) enum Slices<'a> {
    Real {
        /// The copy that replaces the first bytes.
        first: Option<VolatileSlice<'a>>,
        rest: GuestMemoryBackendSliceIterator<'a, GuestMemoryMmap>,
    },
    /// The same piece again and again.
    Instead { piece: VolatileSlice<'a>, left: usize },
}

impl<'a> Slices<'a> {
    pub(super) fn real(memory: &'a GuestMemoryMmap, address: GuestAddress, count: usize) -> Self {
        Self::Real { first: None, rest: GuestMemoryBackend::get_slices(memory, address, count) }
    }

    /// Those at `address`, where the transfer does not belong.
    fn elsewhere(memory: &'a GuestMemoryMmap, address: u64, count: usize) -> Result<Self, GuestMemoryError> {
        let address = GuestAddress(address);
        if !GuestMemoryBackend::check_range(memory, address, count) {
            return Err(GuestMemoryError::InvalidGuestAddress(address));
        }
        Ok(Self::real(memory, address, count))
    }

    /// A piece of other memory instead of the buffer at `address`.
    fn instead(
        piece: &'a OnceLock<Option<MmapRegion>>,
        address: GuestAddress,
        count: usize,
    ) -> Result<Self, GuestMemoryError> {
        match piece.get_or_init(|| MmapRegion::new(PIECE).ok()) {
            Some(piece) => Ok(Self::Instead { piece: piece.as_volatile_slice(), left: count }),
            None => Err(GuestMemoryError::InvalidGuestAddress(address)),
        }
    }
}

impl<'a> Iterator for Slices<'a> {
    type Item = Result<VolatileSlice<'a>, GuestMemoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Real { first, rest } => match first.take() {
                Some(first) => Some(Ok(first)),
                None => rest.next(),
            },
            Self::Instead { left: 0, .. } => None,
            Self::Instead { piece, left } => {
                let count = piece.len().min(*left);
                *left -= count;
                Some(piece.subslice(0, count).map_err(GuestMemoryError::from))
            }
        }
    }
}

impl FusedIterator for Slices<'_> {}

impl<'a> GuestMemorySliceIterator<'a, ()> for Slices<'a> {}
