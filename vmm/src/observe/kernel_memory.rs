//! What the guest's kernel knows of its CMA areas, read from guest memory without the guest's help: by the kernel's symbols, types and
//! page tables. The files are opened before the guest runs and read at the first question. A kernel without such files, such as a
//! distribution's, has its types in memory, and VMCOREINFO names its page tables.

use std::{
    cell::{OnceCell, RefCell},
    fs::File,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use cma::{
    Window,
    area::Area,
    live::{
        self, Array, CmaLayout, Length, LiveError,
        elf::Elf,
        owners::{self, OwnerTable, Owners},
        search,
    },
};
use vm_memory::{Address as _, Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};

use super::vmcoreinfo;
use crate::arch::{self, KernelMap};

/// The kernel's files, and what was found in them and in its memory.
pub struct KernelMemory {
    /// Files that may have symbols, and types in a section.
    symbols: Vec<File>,
    /// The file with the types alone.
    types: Option<File>,
    /// The memory that the kernel was loaded to.
    kernel: Range<u64>,
    /// The bits of an address within one of its pages.
    page_bits: Option<u32>,
    /// The machine's windows.
    windows: Vec<Window>,
    in_files: OnceCell<Result<Found, LiveError>>,
    in_memory: RefCell<Search>,
}

/// The search in guest memory. A kernel that still starts, or has no VMCOREINFO, is searched again later.
#[derive(Debug)]
enum Search {
    Found(Found),
    /// The last search failed, and the next one is due then.
    Failed(LiveError, Instant),
    Never,
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

impl KernelView {
    /// The lines of VMCOREINFO for a kernel without such a note, as far as its symbols tell: its configuration lacks `CONFIG_VMCORE_INFO`.
    pub fn vmcoreinfo(&self) -> String {
        let Self { map, release, build_id, tables, text, offset } = self;
        let build_id = build_id.iter().map(|id| format!("BUILD-ID={id}\n")).collect::<String>();
        let page = map.page_size();
        format!(
            "OSRELEASE={release}\n{build_id}PAGESIZE={page}\nSYMBOL(_text)={text:x}\nSYMBOL(swapper_pg_dir)={tables:x}\n{}",
            arch::vmcoreinfo(map, *offset)
        )
    }
}

#[derive(Debug, Clone)]
struct Found {
    array: Array,
    map: KernelMap,
    layout: CmaLayout,
    owners: Option<OwnerTable>,
}

/// The areas of a kernel, in pages of its own.
#[derive(Debug, Default)]
pub struct KernelAreas {
    /// The size of a page in bytes.
    pub page_size: u64,
    /// The areas.
    pub areas: Vec<Area>,
    /// The owners of runs of their pages; None if they are unknown.
    pub owners: Option<Owners>,
}

impl KernelMemory {
    /// The kernel in the file `path`: its symbols and types are in that file, or in `vmlinux.debug` and `vmlinux.btf` beside it, as
    /// in the folder of a guest image. It was loaded to `kernel` in `memory` and has not run. The machine has these windows.
    pub fn open(path: &Path, memory: &GuestMemoryMmap, kernel: Range<u64>, windows: Vec<Window>) -> Self {
        let beside = |name| File::open(path.with_file_name(name));
        let symbols = [beside("vmlinux.debug"), File::open(path)].into_iter().flatten().collect();
        let (types, page_bits) = (beside("vmlinux.btf").ok(), arch::kernel_page_bits(memory, kernel.start));
        let (in_files, in_memory) = (OnceCell::new(), RefCell::new(Search::Never));
        Self { symbols, types, kernel, page_bits, windows, in_files, in_memory }
    }

    /// The kernel's areas in `memory`, with the owners of their pages if `with_owners`.
    ///
    /// # Errors
    /// If the kernel's symbols or types are unknown, or the memory is not as they say.
    pub fn areas(
        &self,
        memory: &GuestMemoryMmap,
        size: u64,
        with_owners: bool,
    ) -> Result<KernelAreas, LiveError> {
        let Found { array, map, layout, owners } = self.found(memory)?;
        let read = |address, to: &mut [u8]| read(memory, &map, address, to);
        let page_size = map.page_size();
        let areas = live::areas(&read, &layout, array, size / page_size)?;
        if areas.iter().flat_map(Area::ranges).any(|range| range.end > u64::MAX / page_size) {
            return Err(LiveError::Number { what: "an area at page", number: u64::MAX / page_size });
        }
        let owners = match owners.filter(|_| with_owners) {
            Some(table) => table.owners(&read, page_size, areas.iter().flat_map(allocated_pages))?,
            None => None,
        };
        Ok(KernelAreas { page_size, areas, owners })
    }

    /// The kernel's view of `memory`, if its symbols are known and fit.
    pub fn view(&self, memory: &GuestMemoryMmap) -> Option<KernelView> {
        self.symbols.iter().find_map(|file| self.view_by(file, memory))
    }

    fn map(&self, text: u64, tables: u64) -> Option<KernelMap> {
        KernelMap::of(self.page_bits?, tables, arch::image_offset(self.kernel.start, text))
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

    fn found(&self, memory: &GuestMemoryMmap) -> Result<Found, LiveError> {
        let in_files = self.in_files.get_or_init(|| self.find_in_files());
        let Err(error) = in_files else { return in_files.clone() };
        let mut search = self.in_memory.borrow_mut();
        let begun = Instant::now();
        match &*search {
            Search::Found(found) => return Ok(found.clone()),
            Search::Failed(error, due) if begun < *due => return Err(error.clone()),
            _ => {}
        }
        let result = self.find_in_memory(memory).map_err(|reason| match error {
            // Without symbols the kernel's memory is the only way.
            LiveError::Symbols(_) => reason,
            error => error.clone(),
        });
        *search = match &result {
            Ok(found) => Search::Found(found.clone()),
            // Searches take a hundredth of the time.
            Err(error) => Search::Failed(error.clone(), Instant::now() + 99 * begun.elapsed().max(PAUSE)),
        };
        result
    }

    /// Finds the areas of a kernel without a file of symbols.
    fn find_in_memory(&self, memory: &GuestMemoryMmap) -> Result<Found, LiveError> {
        let nothing = LiveError::Symbols(
            "there is no file with them beside the kernel, and its memory has no VMCOREINFO that names its page tables, which \
             CONFIG_VMCORE_INFO makes (before 6.9 CONFIG_CRASH_CORE)",
        );
        let info = vmcoreinfo::find(memory).ok().flatten().ok_or(nothing.clone())?;
        let info = String::from_utf8_lossy(&info);
        let number = |name: &str| vmcoreinfo::number(&info, name);
        let (page, offset) = (number("PAGESIZE"), arch::image_offset_by(number));
        let symbol = |name| vmcoreinfo::symbol(&info, name);
        let (Some(page), Some(offset), Some(tables), Some(start)) = (
            page.filter(|page| [4 << 10, 16 << 10, 64 << 10].contains(page)),
            offset,
            symbol("swapper_pg_dir"),
            symbol("_stext"),
        ) else {
            return Err(nothing);
        };
        let map = KernelMap::of(page.trailing_zeros(), tables, offset).ok_or(LiveError::Memory(tables))?;
        let image =
            |at: u64, to: &mut [u8]| memory.read_slice(to, GuestAddress(at.wrapping_sub(offset))).is_ok();
        // The kernel may have moved itself, but it is not larger than its place was.
        let range = start..start.saturating_add(self.kernel.end - self.kernel.start);
        let layout = search::layout(&image, range.clone())?;
        let end = memory.last_addr().raw_value() / page + 1;
        let is_window = |first: u64, count: u64| {
            let (start, size) = (first.checked_mul(page), count.checked_mul(page));
            self.windows.iter().any(|window| {
                let is_place = |start: u64| match &window.within {
                    Some(within) => within.contains(&start),
                    None => start == window.base,
                };
                size == Some(window.size) && start.is_some_and(is_place)
            })
        };
        let array = search::array(&image, &layout, range, end, is_window);
        let (start, length) = array.ok_or(LiveError::Symbols(
            "there is no file with them beside the kernel, and its memory has no area that is a window of this machine",
        ))?;
        Ok(Found { array: Array { start, length: Length::Found(length) }, map, layout, owners: None })
    }

    fn find_in_files(&self) -> Result<Found, LiveError> {
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
        let [sections, entry, operations] = owners::SYMBOLS;
        let names =
            ["cma_areas", "cma_area_count", "_text", arch::KERNEL_TABLES, sections, entry, operations];
        let symbols = elf.symbols(names)?;
        let symbol = |index: usize| symbols[index].ok_or(LiveError::Symbol(names[index]));
        let (areas, count, text, tables) = (symbol(0)?, symbol(1)?, symbol(2)?, symbol(3)?);
        let types = elf.section(".BTF").or_else(|| self.types.as_ref().and_then(whole));
        let types = types.ok_or(LiveError::Types(
            "there is neither a section .BTF in the kernel's ELF file (CONFIG_DEBUG_INFO_BTF) nor a file vmlinux.btf",
        ))?;
        let map = self.map(text, tables).ok_or(LiveError::Memory(tables))?;
        let page_bits = map.page_size().trailing_zeros();
        Ok(Found {
            array: Array { start: areas, length: Length::At(count) },
            map,
            layout: CmaLayout::of(&types)?,
            owners: OwnerTable::of(
                &types,
                [symbols[4], symbols[5], symbols[6]],
                arch::section_bits(page_bits) - page_bits,
            ),
        })
    }
}

/// The pages of an area that are allocated.
fn allocated_pages(area: &Area) -> impl Iterator<Item = Range<u64>> {
    area.range_bitmaps().flat_map(|(range, allocated)| {
        let runs: Vec<_> = allocated.runs().collect();
        runs.into_iter().map(move |run| range.start + run.start..range.start + run.end)
    })
}

/// Reads what the kernel has at a virtual address. False if it is not all mapped.
fn read(memory: &GuestMemoryMmap, map: &KernelMap, address: u64, to: &mut [u8]) -> bool {
    let (mut at, mut rest) = (address, to);
    while !rest.is_empty() {
        // What is contiguous in virtual memory is so in physical memory within a page.
        let in_page = usize::try_from(cma::PAGE_SIZE - at % cma::PAGE_SIZE).unwrap_or(1).min(rest.len());
        let (piece, behind) = std::mem::take(&mut rest).split_at_mut(in_page);
        let physical = map.physical(memory, at);
        if physical.is_none_or(|at| memory.read_slice(piece, GuestAddress(at)).is_err()) {
            return false;
        }
        rest = behind;
        at = at.wrapping_add(in_page as u64);
    }
    true
}

/// The shortest time that a search counts for.
const PAUSE: Duration = Duration::from_millis(10);

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
