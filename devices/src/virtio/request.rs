//! A request that its device carries out later, on another thread: a copy of the chain's descriptors, and the way to its buffers.

use std::io;

use vm_memory::{Bytes as _, GuestAddress};

use crate::dma::DmaPort;

/// A request that the driver handed over. [`Queues::push_request`](super::queue::Queues::push_request) gives it back.
#[derive(Debug)]
pub struct Request {
    pub(super) head: u16,
    /// What the driver says.
    pub readable: Buffers,
    /// Where the device answers.
    pub writable: Buffers,
}

impl Request {
    pub(super) fn new(head: u16) -> Self {
        Self { head, readable: Buffers::default(), writable: Buffers::default() }
    }
}

/// The buffers of a request in one direction, and how far the device has used them.
#[derive(Debug, Default)]
pub struct Buffers {
    /// The addresses and lengths of those that are not used up.
    parts: Vec<(u64, u32)>,
    /// The first of them.
    first: usize,
    /// The bytes of the first that are used.
    used: u32,
    left: u64,
    total: u64,
}

impl Buffers {
    pub(super) fn add(&mut self, address: u64, length: u32) {
        if length > 0 {
            self.parts.push((address, length));
            self.left += u64::from(length);
            self.total += u64::from(length);
        }
    }

    /// The bytes that are not used yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The bytes that are used.
    pub fn used(&self) -> u64 {
        self.total - self.left
    }

    /// Fills as much of `bytes` as the buffers have; the number of bytes.
    ///
    /// # Errors
    /// If the memory cannot be read.
    pub fn read(&mut self, memory: &DmaPort, bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some((address, length)) = self.take(bytes.len() - done) {
            memory.read_slice(&mut bytes[done..done + length], address).map_err(io::Error::other)?;
            done += length;
        }
        Ok(done)
    }

    /// Writes as much of `bytes` as the buffers have room for; the number of bytes.
    ///
    /// # Errors
    /// If the memory cannot be written.
    pub fn write(&mut self, memory: &DmaPort, bytes: &[u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some((address, length)) = self.take(bytes.len() - done) {
            memory.write_slice(&bytes[done..done + length], address).map_err(io::Error::other)?;
            done += length;
        }
        Ok(done)
    }

    /// Uses the next piece, of at most `most` bytes; its address and length. None if all is used.
    pub fn take(&mut self, most: usize) -> Option<(GuestAddress, usize)> {
        let (address, length) = *self.parts.get(self.first).filter(|_| most > 0)?;
        let rest = length - self.used;
        let count = u32::try_from(most).map_or(rest, |most| rest.min(most));
        let at = GuestAddress(address + u64::from(self.used));
        self.used += count;
        if self.used == length {
            self.first += 1;
            self.used = 0;
        }
        self.left -= u64::from(count);
        Some((at, usize::try_from(count).unwrap_or(most)))
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestMemoryMmap;

    use super::*;

    #[test]
    fn buffers_are_used_piece_by_piece() {
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let port = DmaPort::unrestricted(ram);
        port.write_slice(b"0123456789", GuestAddress(0x100)).unwrap();
        let mut buffers = Buffers::default();
        for (address, length) in [(0x100, 3), (0x200, 0), (0x105, 4)] {
            buffers.add(address, length);
        }
        assert_eq!((buffers.left(), buffers.used()), (7, 0));
        let mut bytes = [0; 5];
        assert_eq!(buffers.read(&port, &mut bytes).unwrap(), 5);
        assert_eq!((&bytes, buffers.left(), buffers.used()), (b"01256", 2, 5));
        assert_eq!(buffers.write(&port, b"xyz").unwrap(), 2);
        assert_eq!((buffers.left(), buffers.write(&port, b"z").unwrap()), (0, 0));
        port.read_slice(&mut bytes, GuestAddress(0x106)).unwrap();
        assert_eq!(&bytes, b"6xy9\0");
        let mut outside = Buffers::default();
        outside.add(0xfff, 2);
        assert!(outside.read(&port, &mut bytes).is_err());
    }
}
