//! The guest memory that the guest or minivmm has touched. Reading the rest through the mapping would take host memory for it.

use std::{fs::File, io};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _};

/// The smallest page of every architecture.
const PAGE: u64 = 4096;

/// Calls `run` with the runs of whole pages that are touched, ascending: the place of each in the order of all memory, its address, and its
/// length in bytes.
///
/// # Errors
/// Those of `run`, and those of guest memory's file.
pub fn for_each_run(
    memory: &GuestMemoryMmap,
    mut run: impl FnMut(u64, GuestAddress, u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut before = 0;
    for region in memory.iter() {
        let file = region.file_offset().ok_or_else(|| io::Error::other("guest memory is not in a file"))?;
        let (source, first) = (file.file(), file.start());
        let (mut next, end) = (first, first + region.len());
        while next < end {
            let Some(data) = look_for(source, SeekFrom::Data(next))?.filter(|data| *data < end) else {
                break;
            };
            let hole = look_for(source, SeekFrom::Hole(data))?
                .map_or(end, |hole| hole.next_multiple_of(PAGE).min(end));
            let start = data / PAGE * PAGE;
            let offset = start - first;
            run(before + offset, GuestAddress(region.start_addr().0 + offset), hole - start)?;
            next = hole;
        }
        before += region.len();
    }
    Ok(())
}

/// The next data or hole of a file. None if there is no data.
fn look_for(file: &File, what: SeekFrom) -> io::Result<Option<u64>> {
    match seek(file, what) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
