//! What the guest's kernel knows of its CMA areas, read from guest memory without the guest's help: by the kernel's symbols, types and
//! page tables. The files are opened before the guest runs and read at the first question.

use std::{cell::OnceCell, fs::File, os::unix::fs::FileExt as _, path::Path};

use cma::{
    area::Area,
    live::{self, CmaLayout, LiveError, elf::Elf},
};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use crate::arch::{self, KernelMap};

/// The kernel's files, and what was found in them.
pub struct KernelMemory {
    /// Files that may have symbols, and types in a section.
    symbols: Vec<File>,
    /// The file with the types alone.
    types: Option<File>,
    /// Where the kernel lies in guest memory.
    start: u64,
    /// The bits of an address within one of its pages.
    page_bits: Option<u32>,
    found: OnceCell<Result<Found, LiveError>>,
}

/// The kernel's view of guest memory.
#[derive(Debug)]
pub struct KernelView {
    /// Its page tables.
    pub map: KernelMap,
    /// Its release, as `uname -r` prints it.
    pub release: String,
    /// The build ID that its linker made, in hexadecimal digits.
    pub build_id: Option<String>,
    /// The virtual address of its first page table.
    pub tables: u64,
    /// The first virtual address of its image.
    pub text: u64,
    /// The distance from a physical address in its image to the virtual address.
    pub offset: u64,
}

struct Found {
    areas: u64,
    count: u64,
    text: u64,
    tables: u64,
    layout: CmaLayout,
}

impl KernelMemory {
    /// The kernel in the file `path`: its symbols and types are in that file, or in `vmlinux.debug` and `vmlinux.btf` beside it, as
    /// in the folder of a guest image. It was loaded to `start` in `memory` and has not run.
    pub fn open(path: &Path, memory: &GuestMemoryMmap, start: u64) -> Self {
        let beside = |name| File::open(path.with_file_name(name));
        let symbols = [beside("vmlinux.debug"), File::open(path)].into_iter().flatten().collect();
        let (types, page_bits) = (beside("vmlinux.btf").ok(), arch::kernel_page_bits(memory, start));
        Self { symbols, types, start, page_bits, found: OnceCell::new() }
    }

    /// The size of the kernel's pages, and its areas in `memory`.
    ///
    /// # Errors
    /// If the kernel's symbols or types are unknown, or the memory is not as they say.
    pub fn areas(&self, memory: &GuestMemoryMmap, size: u64) -> Result<(u64, Vec<Area>), LiveError> {
        let found = self.found.get_or_init(|| self.find()).as_ref().map_err(Clone::clone)?;
        let map = self.map(found.text, found.tables).ok_or(LiveError::Memory(found.tables))?;
        let read = |address: u64, to: &mut [u8]| {
            let (mut at, mut rest) = (address, to);
            while !rest.is_empty() {
                // What is contiguous in virtual memory is so in physical memory within a page.
                let in_page =
                    usize::try_from(cma::PAGE_SIZE - at % cma::PAGE_SIZE).unwrap_or(1).min(rest.len());
                let (piece, behind) = std::mem::take(&mut rest).split_at_mut(in_page);
                let physical = map.physical(memory, at);
                if physical.is_none_or(|at| memory.read_slice(piece, GuestAddress(at)).is_err()) {
                    return false;
                }
                rest = behind;
                at = at.wrapping_add(in_page as u64);
            }
            true
        };
        let page_size = map.page_size();
        let areas = live::areas(&read, &found.layout, found.areas, found.count, size / page_size)?;
        if areas.iter().flat_map(Area::ranges).any(|range| range.end > u64::MAX / page_size) {
            return Err(LiveError::Number { what: "an area at page", number: u64::MAX / page_size });
        }
        Ok((page_size, areas))
    }

    /// The kernel's view of `memory`, if its symbols are known and fit.
    pub fn view(&self, memory: &GuestMemoryMmap) -> Option<KernelView> {
        self.symbols.iter().find_map(|file| self.view_by(file, memory))
    }

    fn map(&self, text: u64, tables: u64) -> Option<KernelMap> {
        KernelMap::of(self.page_bits?, self.start, text, tables)
    }

    /// The kernel's view by the symbols in a file.
    fn view_by(&self, file: &File, memory: &GuestMemoryMmap) -> Option<KernelView> {
        const START: &str = "Linux version ";
        /// More than a release takes (include/uapi/linux/utsname.h, __NEW_UTS_LEN).
        const RELEASE_MAX: usize = 65;
        /// A kernel's notes have some hundred bytes.
        const NOTES_MAX: usize = 64 << 10;
        let read = |at: u64, to: &mut [u8]| file.read_exact_at(to, at).is_ok();
        let names = ["_text", arch::KERNEL_TABLES, "linux_banner", "_stext", "__start_notes", "__stop_notes"];
        let [Some(text), Some(tables), Some(banner), Some(code), notes, notes_end] =
            Elf::read(&read).ok()?.symbols(names).ok()?
        else {
            return None;
        };
        let map = self.map(text, tables)?;
        // The page at the very start may not be mapped (arch/arm64/mm/mmu.c, map_kernel).
        let offset = code.wrapping_sub(map.physical(memory, code)?);
        // A kernel of another build, or one that has moved itself, has something else there.
        let mut bytes = [0; START.len() + RELEASE_MAX];
        memory.read_slice(&mut bytes, GuestAddress(map.physical(memory, banner)?)).ok()?;
        let release = bytes.strip_prefix(START.as_bytes())?.split(|byte| !byte.is_ascii_graphic()).next()?;
        let release = String::from_utf8(release.to_vec()).ok().filter(|release| !release.is_empty())?;
        let build_id = notes.zip(notes_end).and_then(|(start, end)| {
            let mut notes =
                vec![0; usize::try_from(end.checked_sub(start)?).ok().filter(|size| *size <= NOTES_MAX)?];
            memory.read_slice(&mut notes, GuestAddress(map.physical(memory, start)?)).ok()?;
            build_id(&notes)
        });
        Some(KernelView { map, release, build_id, tables, text, offset })
    }

    fn find(&self) -> Result<Found, LiveError> {
        let mut error = LiveError::Symbols("there is no file with symbols");
        for file in &self.symbols {
            match self.find_in(file) {
                Ok(found) => return Ok(found),
                Err(reason) => error = reason,
            }
        }
        Err(error)
    }

    fn find_in(&self, file: &File) -> Result<Found, LiveError> {
        let read = |at: u64, to: &mut [u8]| file.read_exact_at(to, at).is_ok();
        let elf = Elf::read(&read)?;
        let names = ["cma_areas", "cma_area_count", "_text", arch::KERNEL_TABLES];
        let symbols = elf.symbols(names)?;
        let symbol = |index: usize| symbols[index].ok_or(LiveError::Symbol(names[index]));
        let (areas, count, text, tables) = (symbol(0)?, symbol(1)?, symbol(2)?, symbol(3)?);
        let types = elf.section(".BTF").or_else(|| self.types.as_ref().and_then(whole));
        let types = types.ok_or(LiveError::Types(
            "there is neither a section .BTF in the kernel's ELF file (CONFIG_DEBUG_INFO_BTF) nor a file vmlinux.btf",
        ))?;
        Ok(Found { areas, count, text, tables, layout: CmaLayout::of(&types)? })
    }
}

/// The build ID in the notes of an ELF file (System V ABI, chapter 5; GNU's note 3).
fn build_id(notes: &[u8]) -> Option<String> {
    const NT_GNU_BUILD_ID: usize = 3;
    /// The most bytes of an ID. SHA-1 has 20.
    const LENGTH_MAX: usize = 64;
    let mut rest = notes;
    loop {
        let word = |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?) as usize);
        let (name, length, kind) = (word(0)?, word(4)?, word(8)?);
        let start = 12 + name.next_multiple_of(4);
        if kind == NT_GNU_BUILD_ID && rest[12..].starts_with(b"GNU\0") {
            let id = rest.get(start..start + length).filter(|id| id.len() <= LENGTH_MAX)?;
            return Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        rest = rest.get((start + length).next_multiple_of(4)..)?;
    }
}

/// The content of a file, of at most [`TYPES_MAX`] bytes.
fn whole(file: &File) -> Option<Vec<u8>> {
    /// A kernel with all its drivers has some MiB.
    const TYPES_MAX: usize = 64 << 20;
    const PIECE: usize = 1 << 16;
    let mut content = Vec::new();
    while content.len() < TYPES_MAX {
        let done = content.len();
        content.resize(done + PIECE, 0);
        let count = file.read_at(&mut content[done..], done as u64).ok()?;
        content.truncate(done + count);
        if count == 0 {
            return Some(content);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_id_is_among_the_notes() {
        let note = |kind: u32, name: &[u8], content: &[u8]| {
            let lengths =
                [name.len(), content.len()].map(|length| u32::try_from(length).unwrap().to_le_bytes());
            let words = [&lengths.concat()[..], &kind.to_le_bytes()].concat();
            [&words[..], name, content].concat()
        };
        let other = note(0x100, b"Linux\0\0\0", &[1; 8]);
        let id = note(3, b"GNU\0", &[0xab, 0xcd, 0, 1]);
        assert_eq!(build_id(&[other.clone(), id.clone()].concat()).as_deref(), Some("abcd0001"));
        assert_eq!(build_id(&[other.clone(), id[..18].to_vec()].concat()), None);
        assert_eq!(build_id(&other), None);
        assert_eq!(build_id(&[0xff; 40]), None);
        assert_eq!(build_id(&note(3, b"GNU\0", &[0; 100])), None);
    }
}
