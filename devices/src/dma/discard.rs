//! Gives guest memory that the guest does not use back to the host.

use std::{io, os::fd::AsFd as _};

use rustix::fs::{FsWord, fstatfs};
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _, MemoryRegionAddress};

use super::port::{DmaError, DmaPort, DmaRefusal};

/// The file system of huge pages (HUGETLBFS_MAGIC, include/uapi/linux/magic.h).
const HUGETLBFS: FsWord = 0x9584_58f6;

/// Why memory was not given back.
#[derive(Debug, thiserror::Error)]
pub enum DiscardError {
    /// The port does not permit it.
    #[error(transparent)]
    Refused(#[from] DmaError),
    /// The host's kernel does not take it.
    #[error("the host does not take back {len} bytes of guest memory at {address:#x}: {source}")]
    Host {
        /// The guest's address.
        address: u64,
        /// The length in bytes.
        len: u64,
        /// The error of madvise(2).
        source: io::Error,
    },
}

impl DmaPort {
    /// The size of the machine's RAM, in bytes.
    pub fn ram_size(&self) -> u64 {
        self.memory.iter().map(vm_memory::GuestMemoryRegion::len).sum()
    }

    /// Whether guest memory is in huge pages. Parts of them do not go back to the host.
    ///
    /// # Errors
    /// The error of fstatfs(2).
    pub fn is_in_huge_pages(&self) -> io::Result<bool> {
        for file in self.memory.iter().filter_map(|region| region.file_offset()) {
            if fstatfs(file.file().as_fd())?.f_type == HUGETLBFS {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives the pages of the host that lie whole in `len` bytes at `address` back to the host. They contain zeroes then, and take up
    /// memory of the host again when they are touched. Pages that lie there in part stay as they are. Programs that map the same
    /// memory see the same. Faults do not apply, as nothing is transferred.
    ///
    /// # Errors
    /// If the port does not permit all of these bytes, nothing is given back. If the host refuses, a part may be.
    pub fn discard(&self, address: u64, len: u64) -> Result<(), DiscardError> {
        self.check(address, len)?;
        self.record(address, len);
        let (mut at, mut left) = (address, len);
        while left > 0 {
            let refused = DmaError { address: at, len, reason: DmaRefusal::NoMemory };
            let region = self.memory.find_region(GuestAddress(at)).ok_or(refused)?;
            let offset = at - region.start_addr().0;
            let here = left.min(region.len() - offset);
            let host = region.get_host_address(MemoryRegionAddress(offset)).map_err(|_| refused)?;
            // Without its file, the mapping is private: only this process has the pages.
            let advice = region.file_offset().map_or(libc::MADV_DONTNEED, |_| libc::MADV_REMOVE);
            let length = usize::try_from(here).map_err(|_| refused)?;
            // SAFETY: the region has `here` bytes from `offset` on, and stays mapped while the port lives. All accesses to guest
            // memory expect that its content changes at any time.
            unsafe { advise(host, length, advice) }.map_err(|source| DiscardError::Host {
                address: at,
                len: here,
                source,
            })?;
            left -= here;
            // The last byte of a transfer has an address of 64 bits; the one after it need not.
            at = at.wrapping_add(here);
        }
        Ok(())
    }
}

/// The size of the host's pages, in bytes. glibc knows it from the start of the process: this is no system call, which a confined
/// thread could not make.
fn page_size() -> usize {
    // SAFETY: sysconf reads no memory of ours.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Gives `advice` for the whole pages in `length` bytes at `host`.
///
/// # Safety
/// The bytes are one mapping, whose content may become zeroes.
unsafe fn advise(host: *mut u8, length: usize, advice: libc::c_int) -> io::Result<()> {
    let before = host.align_offset(page_size());
    let whole = length.saturating_sub(before) / page_size() * page_size();
    if whole == 0 {
        return Ok(());
    }
    // SAFETY: `before` is at most `length`, so the pages lie in the caller's bytes.
    let first = unsafe { host.add(before) };
    // SAFETY: the caller permits that these pages become zeroes; no more than the mapping's content changes.
    let result = unsafe { libc::madvise(first.cast(), whole, advice) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::MetadataExt as _};

    use rustix::fs::{MemfdFlags, memfd_create};
    use vm_memory::{Bytes as _, FileOffset, GuestMemoryMmap};

    use super::*;

    const SIZE: usize = 1 << 20;
    /// A multiple of the pages that a host can have.
    const PAGE: u64 = 64 << 10;

    /// RAM in one file: a mebibyte at 0, one right after it, and one far away.
    fn port() -> (DmaPort, File) {
        let file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(3 * SIZE as u64).unwrap();
        let starts = [0, SIZE as u64, 1 << 32];
        let ranges = starts.iter().zip([0, SIZE, 2 * SIZE]).map(|(start, offset)| {
            let there = FileOffset::new(file.try_clone().unwrap(), offset as u64);
            (GuestAddress(*start), SIZE, Some(there))
        });
        let memory = GuestMemoryMmap::from_ranges_with_files(ranges.collect::<Vec<_>>()).unwrap();
        for start in starts {
            memory.write_slice(&[7; SIZE], GuestAddress(start)).unwrap();
        }
        (DmaPort::unrestricted(memory), file)
    }

    fn bytes(port: &DmaPort, address: u64) -> [u8; 2] {
        port.read_obj(GuestAddress(address)).unwrap()
    }

    #[test]
    fn whole_pages_go_back_to_the_host() {
        let (port, file) = port();
        let held = || file.metadata().unwrap().blocks() * 512;
        assert_eq!((port.ram_size(), held()), (3 * SIZE as u64, 3 * SIZE as u64));
        assert!(!port.is_in_huge_pages().unwrap());
        port.discard(PAGE - 1, PAGE + 2).unwrap();
        assert_eq!(held(), 3 * SIZE as u64 - PAGE);
        assert_eq!([PAGE - 2, PAGE, 2 * PAGE].map(|at| bytes(&port, at)), [[7, 7], [0, 0], [7, 7]]);
        // Parts of pages stay.
        port.discard(3 * PAGE + 1, page_size() as u64).unwrap();
        port.discard(5 * PAGE, 0).unwrap();
        assert_eq!(bytes(&port, 3 * PAGE + 2), [7, 7]);
        // From one region to the next.
        let before = held();
        port.discard(SIZE as u64 - PAGE, 2 * PAGE).unwrap();
        assert_eq!(held(), before - 2 * PAGE);
        // Twice is as good as once, and it is memory again.
        port.discard(SIZE as u64 - PAGE, 2 * PAGE).unwrap();
        port.write_slice(&[9; 2], GuestAddress(SIZE as u64)).unwrap();
        assert_eq!(bytes(&port, SIZE as u64), [9, 9]);
        port.discard(1 << 32, SIZE as u64).unwrap();
        assert_eq!(bytes(&port, 1 << 32), [0, 0]);
    }

    #[test]
    fn what_is_not_ram_is_refused_whole() {
        let (port, file) = port();
        let held = file.metadata().unwrap().blocks();
        for (address, len) in [
            (SIZE as u64, SIZE as u64 + 1),
            (2 * SIZE as u64, PAGE),
            (u64::MAX - PAGE + 1, PAGE),
            (0, u64::MAX),
            ((1 << 32) - PAGE, 2 * PAGE),
        ] {
            let refused = port.discard(address, len);
            assert!(matches!(refused, Err(DiscardError::Refused(_))), "{address:#x}: {refused:?}");
        }
        assert_eq!(file.metadata().unwrap().blocks(), held);
    }

    #[test]
    fn private_memory_goes_back_too() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), SIZE)]).unwrap();
        let port = DmaPort::unrestricted(memory);
        port.write_slice(&[7; SIZE], GuestAddress(0)).unwrap();
        port.discard(PAGE, PAGE).unwrap();
        assert_eq!([bytes(&port, PAGE - 2), bytes(&port, PAGE)], [[7, 7], [0, 0]]);
    }
}
