//! The file of `--dump-on-panic`: an ELF core with a guest's memory and registers, for gdb and drgn. Its memory is in the order of
//! physical addresses, and pages of zeroes are holes. Several segments can have the same memory: one for each run of virtual addresses.

mod elf;

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use vm_memory::{Address as _, Bytes as _, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _};

use self::elf::Load;
use super::{kernel_memory::KernelView, touched_memory::for_each_run, vmcoreinfo};
use crate::{
    arch::{self, tables::Run},
    guest::whole_file::{WholeFile, folder_of},
};

/// The smallest page of every architecture.
const PAGE: u64 = 4096;
const PAGE_BYTES: usize = 4096;
/// The memory that is read at a time.
const PIECE: usize = 1 << 20;
/// The most runs of virtual addresses. A kernel has some hundred.
const RUNS_MAX: usize = 8192;

/// A memory dump on its way. Dropping it leaves the file as it was.
#[derive(Debug)]
pub struct MemoryDump {
    file: WholeFile,
    path: PathBuf,
}

impl MemoryDump {
    /// A dump that is to appear at `path`, for this user alone.
    ///
    /// # Errors
    /// If there is something else than a file, or the folder cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(Self { file: WholeFile::beside(path, 0o600)?, path: path.to_owned() })
    }

    /// Lets a confined thread finish the file. Returns the folder in which it gets its name then.
    pub fn hand_over(&self) -> &Path {
        self.file.give_to_owner_of_folder();
        folder_of(&self.path)
    }

    /// Where it is to appear.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the memory and the registers of each vCPU of a guest that does not run, and the kernel's view of the memory if it is known.
    ///
    /// # Errors
    /// If the host has no room for it, for example.
    pub fn write(
        self,
        memory: &GuestMemoryMmap,
        registers: &[[u64; arch::CORE_REGISTERS]],
        view: Option<&KernelView>,
    ) -> io::Result<()> {
        let mut notes: Vec<u8> =
            (0..).zip(registers).flat_map(|(index, registers)| elf::status(index, registers)).collect();
        let info = match vmcoreinfo::find(memory)? {
            Some(info) => Some(info),
            None => view.map(|view| view.vmcoreinfo().into_bytes()),
        };
        notes.extend(info.map(|info| elf::vmcoreinfo(&info)).unwrap_or_default());
        let runs = view.map(|view| view.map.tables().runs(memory, RUNS_MAX)).unwrap_or_default();
        let ram: Vec<_> =
            memory.iter().map(|region| region.start_addr().0..region.start_addr().0 + region.len()).collect();
        let headers = elf::headers(&notes, &loads(&ram, &runs), PAGE);

        let file = self.file.file();
        file.write_all_at(&headers, 0)?;
        let (start, size) =
            (headers.len() as u64, ram.iter().map(|range| range.end - range.start).sum::<u64>());
        let mut written = 0;
        let mut bytes = vec![0; PIECE];
        for_each_run(memory, |place, address, length| {
            for offset in (0..length).step_by(PIECE) {
                let piece = &mut bytes[..usize::try_from(length - offset).unwrap_or(PIECE).min(PIECE)];
                memory.read_slice(piece, address.unchecked_add(offset)).map_err(io::Error::other)?;
                write_sparse(file, start + place + offset, piece)?;
            }
            written = place + length;
            Ok(())
        })?;
        if written < size {
            // The file has its full length.
            file.write_all_at(&[0], start + size - 1)?;
        }
        self.file.finish(self.path.file_name().unwrap_or_default())
    }
}

/// The segments of `ram`: the runs, and the memory that no run maps.
fn loads(ram: &[Range<u64>], runs: &[Run]) -> Vec<Load> {
    let mut loads = Vec::new();
    let mut before = 0;
    for range in ram {
        let place = |physical: u64| before + (physical - range.start);
        let first = loads.len();
        for run in runs {
            let (start, end) =
                (run.physical.max(range.start), run.physical.saturating_add(run.length).min(range.end));
            if start < end {
                let address = run.address.wrapping_add(start - run.physical);
                loads.push(Load { address, physical: start, length: end - start, place: place(start) });
            }
        }
        let mut mapped: Vec<_> =
            loads[first..].iter().map(|load| load.physical..load.physical + load.length).collect();
        mapped.sort_by_key(|mapped| mapped.start);
        let mut next = range.start;
        for mapped in mapped.into_iter().chain([range.end..range.end]) {
            if next < mapped.start {
                loads.push(Load {
                    address: 0,
                    physical: next,
                    length: mapped.start - next,
                    place: place(next),
                });
            }
            next = next.max(mapped.end);
        }
        before += range.end - range.start;
    }
    loads
}

/// Writes the pages of `piece` that are not all zeroes.
fn write_sparse(file: &File, at: u64, piece: &[u8]) -> io::Result<()> {
    let is_zero = |at: usize| piece[at..].iter().take(PAGE_BYTES).all(|byte| *byte == 0);
    let mut next = 0;
    while next < piece.len() {
        let start = next;
        while next < piece.len() && !is_zero(next) {
            next += PAGE_BYTES;
        }
        let end = next.min(piece.len());
        if start < end {
            file.write_all_at(&piece[start..end], at + start as u64)?;
        }
        next += PAGE_BYTES;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
