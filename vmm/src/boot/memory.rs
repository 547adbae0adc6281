//! Guest memory: one memfd, mapped shared, so that the kernel counts its pages apart from the VMM's own (RssShmem).

use std::{
    fs::File,
    io,
    ops::Range,
    os::fd::{AsRawFd, FromRawFd},
};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress,
};

/// Why guest memory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The host refused a memfd of this size.
    #[error("the host refused {} of guest memory{}: {source}", cma::size::format(*.size), hint(*.hugepages))]
    Create {
        /// Its size in bytes.
        size: u64,
        /// Whether in huge pages.
        hugepages: bool,
        /// Why.
        source: io::Error,
    },
    /// The host refused the mapping.
    #[error("the host refused to map {} of guest memory{}: {source}", cma::size::format(*.size), hint(*.hugepages))]
    Map {
        /// Its size in bytes.
        size: u64,
        /// Whether in huge pages.
        hugepages: bool,
        /// Why.
        source: vm_memory::mmap::FromRangesError,
    },
}

fn hint(hugepages: bool) -> &'static str {
    if hugepages { " in huge pages (/proc/sys/vm/nr_hugepages sets their number)" } else { "" }
}

/// Size of a huge page that `--hugepages` uses, in bytes.
pub const HUGE_PAGE: u64 = 2 << 20;

/// Makes the guest's RAM.
///
/// # Errors
/// If the host lacks the memory.
pub fn create(ram: &[Range<u64>], hugepages: bool) -> Result<GuestMemoryMmap, MemoryError> {
    let size: u64 = ram.iter().map(|range| range.end - range.start).sum();
    let flags = libc::MFD_CLOEXEC | if hugepages { libc::MFD_HUGETLB | libc::MFD_HUGE_2MB } else { 0 };
    // SAFETY: the name is a C string; the call touches no other memory.
    let fd = unsafe { libc::memfd_create(c"guest-memory".as_ptr(), flags) };
    if fd < 0 {
        return Err(MemoryError::Create { size, hugepages, source: io::Error::last_os_error() });
    }
    // SAFETY: the call above opened the descriptor, and nothing else owns it.
    let file = unsafe { File::from_raw_fd(fd) };
    let create = |source| MemoryError::Create { size, hugepages, source };
    file.set_len(size).map_err(create)?;
    if hugepages {
        // Takes the pages from the pool now. If too few are left, a later touch would end the process (SIGBUS).
        // SAFETY: the call touches no memory of ours.
        let failed = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, size.cast_signed()) } != 0;
        if failed {
            return Err(create(io::Error::last_os_error()));
        }
    }

    let mut offset = 0;
    let mut ranges = Vec::new();
    for range in ram {
        let length = range.end - range.start;
        let file = file.try_clone().map_err(create)?;
        let length_here = usize::try_from(length).unwrap_or(usize::MAX);
        ranges.push((GuestAddress(range.start), length_here, Some(FileOffset::new(file, offset))));
        offset += length;
    }
    GuestMemoryMmap::from_ranges_with_files(ranges).map_err(|source| MemoryError::Map {
        size,
        hugepages,
        source,
    })
}

/// Gives the guest its RAM.
///
/// # Errors
/// Those of KVM_SET_USER_MEMORY_REGION.
pub fn register(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<(), kvm_ioctls::Error> {
    for (slot, region) in (0..).zip(memory.iter()) {
        // A region of ours is a mapping: it has a host address for its first byte.
        let Ok(host) = region.get_host_address(MemoryRegionAddress(0)) else { continue };
        let mapping = kvm_userspace_memory_region {
            slot,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: host as u64,
            flags: 0,
        };
        // SAFETY: the range is a mapping that `memory` owns, and the machine keeps `memory` longer than the VM.
        unsafe { vm.set_user_memory_region(mapping) }?;
    }
    Ok(())
}
