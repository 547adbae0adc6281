//! Guest memory that a target uses again for each input.

use std::{cell::OnceCell, ops::Range};

use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

/// The memory at the addresses `range`, which a target always gives; as the last input left it.
///
/// # Panics
/// If the host has no memory left.
pub fn memory(range: Range<u64>) -> GuestMemoryMmap {
    thread_local! {
        static RAM: OnceCell<GuestMemoryMmap> = const { OnceCell::new() };
    }
    let size = (range.end - range.start) as usize;
    let make =
        || GuestMemoryMmap::from_ranges(&[(GuestAddress(range.start), size)]).expect("there is memory");
    RAM.with(|ram| ram.get_or_init(make).clone())
}

/// A stretch of guest memory from `BASE` on.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The memory.
    pub memory: GuestMemoryMmap,
    /// What it should have.
    expected: Vec<u8>,
}

impl Guest {
    /// The first address.
    pub const BASE: u64 = 0x1_0000;
    /// Its size in bytes.
    pub const SIZE: usize = 0x1_0000;
    /// The first address of memory for long buffers, which is not checked.
    pub const FAR: u64 = 0x1000_0000;
    /// Its size in bytes.
    pub const FAR_SIZE: usize = 64 << 20;

    /// Memory full of zeroes. It is this thread's: two of them are the same memory.
    pub fn new() -> Self {
        thread_local! {
            static MEMORY: OnceCell<GuestMemoryMmap> = const { OnceCell::new() };
        }
        let memory = MEMORY.with(|memory| {
            let ranges = [(Self::BASE, Self::SIZE), (Self::FAR, Self::FAR_SIZE)];
            let ranges = ranges.map(|(start, size)| (GuestAddress(start), size));
            memory.get_or_init(|| GuestMemoryMmap::from_ranges(&ranges).expect("there is memory")).clone()
        });
        let expected = vec![0; Self::SIZE];
        memory.write_slice(&expected, GuestAddress(Self::BASE)).expect("it is all of it");
        Self { memory, expected }
    }

    /// Writes as the driver does. What lies outside is not written.
    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        let at = address.checked_sub(Self::BASE).and_then(|at| usize::try_from(at).ok());
        if let Some(expected) = at.and_then(|at| self.expected.get_mut(at..at.checked_add(bytes.len())?)) {
            expected.copy_from_slice(bytes);
            self.memory.write_slice(bytes, GuestAddress(address)).expect("it is inside");
        }
    }

    /// Reads as the driver does.
    pub fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).expect("it is inside");
        bytes
    }

    /// Asserts that the memory is as the driver wrote it, but for the ranges `may_change` of addresses and lengths. If it
    /// `may_be_gone`, any of it may be zeroes.
    ///
    /// # Panics
    /// If it is not.
    pub fn check(&mut self, may_change: impl Iterator<Item = (u64, u64)>, may_be_gone: bool) {
        let mut found = vec![0; Self::SIZE];
        self.memory.read_slice(&mut found, GuestAddress(Self::BASE)).expect("it is all of it");
        let end = Self::BASE + Self::SIZE as u64;
        for (address, length) in may_change {
            let inside = |address: u64| (address.clamp(Self::BASE, end) - Self::BASE) as usize;
            let range = inside(address)..inside(address.saturating_add(length));
            self.expected[range.clone()].copy_from_slice(&found[range]);
        }
        let pages = found.chunks(4096).zip(self.expected.chunks(4096));
        for (number, (found, expected)) in pages.enumerate() {
            let is_wrong = |(found, expected): (&u8, &u8)| found != expected && !(may_be_gone && *found == 0);
            if found != expected
                && let Some(at) = found.iter().zip(expected).position(is_wrong)
            {
                let at = Self::BASE + 4096 * number as u64 + at as u64;
                panic!("the device wrote to {at:#x}, which is no buffer for it to write");
            }
        }
    }
}

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}
