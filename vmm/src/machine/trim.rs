//! Gives back the memory that only the start of a machine needed: its code and its freed heap.

use std::ffi::c_void;

use cma::PAGE_SIZE;

/// Drops the pages of all read-only segments of the program and its libraries, and the heap's free pages. Code that runs on is mapped
/// again from the page cache, page by page.
pub(super) fn give_back() {
    // SAFETY: the callback has the type that dl_iterate_phdr(3) calls, and needs no data.
    unsafe { libc::dl_iterate_phdr(Some(drop_segments), std::ptr::null_mut()) };
    // SAFETY: malloc_trim(3) gives back only memory that is free.
    unsafe { libc::malloc_trim(0) };
}

/// Drops the read-only segments of one object. It is called for each object, and goes on to the next by returning 0.
unsafe extern "C" fn drop_segments(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> libc::c_int {
    // SAFETY: dl_iterate_phdr(3) passes a valid object.
    let object = unsafe { &*object };
    // SAFETY: these are its program headers, which stay while it is loaded.
    let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
    // What is writable, or was during relocation, would be lost. Everything else is as in the file.
    let is_read_only =
        |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
    for segment in headers.iter().filter(is_read_only) {
        let start = (object.dlpi_addr + segment.p_vaddr).next_multiple_of(PAGE_SIZE);
        let end = (object.dlpi_addr + segment.p_vaddr + segment.p_memsz) / PAGE_SIZE * PAGE_SIZE;
        let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) else { continue };
        if start < end {
            let first = std::ptr::with_exposed_provenance_mut::<c_void>(start);
            // SAFETY: the pages are a read-only segment's, which the kernel reads from its file again. An error changes nothing.
            unsafe { libc::madvise(first, end - start, libc::MADV_DONTNEED) };
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _};

    use super::*;

    const PAGES: usize = 256;
    static TABLE: [u8; PAGES * 4096] = [7; PAGES * 4096];

    /// How many pages of the table this process has mapped (Documentation/admin-guide/mm/pagemap.rst, bit 63).
    fn mapped() -> usize {
        let mut entries = [0; PAGES * 8];
        let first = TABLE.as_ptr().addr() as u64 / PAGE_SIZE;
        File::open("/proc/self/pagemap").unwrap().read_exact_at(&mut entries, first * 8).unwrap();
        entries.chunks(8).filter(|entry| entry[7] >> 7 == 1).count()
    }

    #[test]
    fn read_only_pages_go_and_come_back() {
        let sum =
            || TABLE.iter().step_by(4096).map(|byte| u64::from(*std::hint::black_box(byte))).sum::<u64>();
        assert_eq!((sum(), mapped()), (7 * PAGES as u64, PAGES));
        give_back();
        // Neighbours are mapped again around what is used.
        let after = mapped();
        assert!(after < PAGES / 2, "{after}");
        assert_eq!((sum(), mapped()), (7 * PAGES as u64, PAGES));
    }
}
