//! The processes that allocated pages, as a running kernel's page_owner has them (mm/page_owner.c, CONFIG_PAGE_OWNER). It is read from the
//! kernel's memory, of which nothing is trusted. A kernel keeps these owners only if its command line has `page_owner=on`.

use std::ops::Range;

use super::{LiveError, Source, btf::Types, printable, word64};

/// The flags of a page that has an owner, and of one that is allocated (include/linux/page_ext.h, enum page_ext_flags).
const HAS_OWNER: u64 = 1 << 0;
const IS_ALLOCATED: u64 = 1 << 1;
/// The bit of a section's pointer while its table goes away (mm/page_ext.c, PAGE_EXT_INVALID).
const INVALID: u64 = 1;
/// The length of a task's name (include/linux/sched.h, TASK_COMM_LEN).
const COMM_LENGTH: usize = 16;
/// The most bytes of an entry: a kernel has less than 100.
const ENTRY_MAX: u64 = 1024;
/// The entries that are read at once.
const ENTRIES: u64 = 256;
/// The most runs: a guest that gives each page another owner takes no more memory.
const RUNS_MAX: usize = 1 << 16;

/// The symbols of a kernel with page_owner, in the order of [`OwnerTable::of`].
pub const SYMBOLS: [&str; 3] = ["mem_section", "page_ext_size", "page_owner_ops"];

/// Where a kernel keeps the owners of its pages: an entry for each page in tables of sections (CONFIG_SPARSEMEM_EXTREME).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerTable {
    /// The addresses of the symbols.
    symbols: [u64; 3],
    /// Pages of a section, as an order.
    section_order: u32,
    /// Size of struct mem_section, and the offset of the pointer to its entries.
    section_size: u64,
    section_entries: u64,
    /// The offset of the place within an entry in struct page_ext_operations.
    place: u64,
    /// The offsets in struct page_owner.
    comm: u64,
    pid: u64,
    tgid: u64,
}

/// The process that allocated a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The name of the task: the first 15 characters of its program's, if it did not change it.
    pub comm: String,
    /// Number of the task, in the first PID namespace.
    pub pid: u32,
    /// Number of its process.
    pub tgid: u32,
}

/// Runs of page frame numbers, each with the owner of its pages.
pub type Owners = Vec<(Range<u64>, Owner)>;

impl OwnerTable {
    /// For a kernel with these types, these addresses of [`SYMBOLS`] and sections of 2^`section_order` pages. None if the kernel is
    /// built without page_owner, or keeps its entries in another way.
    pub fn of(types: &[u8], symbols: [Option<u64>; 3], section_order: u32) -> Option<Self> {
        let [Some(sections), Some(size), Some(operations)] = symbols else { return None };
        let types = Types::read(types)?;
        let (section, owner) = (types.structure("mem_section")?, types.structure("page_owner")?);
        let operations_layout = types.structure("page_ext_operations")?;
        Some(Self {
            symbols: [sections, size, operations],
            section_order,
            section_size: Some(section.size).filter(|size| size.is_power_of_two())?,
            section_entries: section.offset("page_ext")?,
            place: operations_layout.offset("offset")?,
            comm: owner.offset("comm")?,
            pid: owner.offset("pid")?,
            tgid: owner.offset("tgid")?,
        })
    }

    /// The owners of the pages in `runs` of page frame numbers, of which a kernel with pages of `page_size` bytes has this table in
    /// `memory`. Neighbours with one owner are one run; pages without an owner are in none, as are those after the first
    /// 65,536 runs. None if the kernel runs without `page_owner=on`.
    ///
    /// # Errors
    /// If the memory is not that of such a kernel.
    pub fn owners(
        &self,
        memory: &dyn Source,
        page_size: u64,
        runs: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<Option<Owners>, LiveError> {
        let [_, size, operations] = self.symbols;
        let place = word64(memory, operations.wrapping_add(self.place))?;
        if place == 0 {
            return Ok(None);
        }
        let entry = word64(memory, size)?;
        let end =
            [self.comm + COMM_LENGTH as u64, self.pid + 4, self.tgid + 4].into_iter().max().unwrap_or(0);
        let is_small = entry <= ENTRY_MAX && place.checked_add(end).is_some_and(|end| end <= entry);
        if !is_small || place < 8 {
            return Err(LiveError::Number { what: "entries of page_owner whose bytes are", number: entry });
        }
        let mut found = Runs { place, table: self, last: Vec::new(), runs: Vec::new() };
        let mut bytes = vec![0; usize::try_from(ENTRIES * entry).unwrap_or(0)];
        for run in runs {
            let mut page = run.start;
            while page < run.end {
                let in_section = (1 << self.section_order) - (page & ((1 << self.section_order) - 1));
                let count = ENTRIES.min(in_section).min(run.end - page);
                let entries = self.entries_of(memory, page_size, page >> self.section_order)?;
                if entries & INVALID == 0 && entries != 0 {
                    // The pointer of a section is that of page 0 in the same array.
                    let at = entries.wrapping_add(page.wrapping_mul(entry));
                    let bytes = &mut bytes[..usize::try_from(count * entry).unwrap_or(0)];
                    if !memory.read(at, bytes) {
                        return Err(LiveError::Memory(at));
                    }
                    let one = usize::try_from(entry).unwrap_or(1);
                    (page..).zip(bytes.chunks_exact(one)).for_each(|(page, entry)| found.add(page, entry));
                }
                page += count;
            }
        }
        Ok(Some(found.runs))
    }

    /// The pointer to the entries of a section; 0 if the section has none.
    fn entries_of(&self, memory: &dyn Source, page_size: u64, section: u64) -> Result<u64, LiveError> {
        let [sections, ..] = self.symbols;
        let in_root = page_size / self.section_size;
        let roots = word64(memory, sections)?;
        let root = match section.checked_div(in_root) {
            Some(root) if roots != 0 => word64(memory, roots.wrapping_add(root.wrapping_mul(8)))?,
            _ => 0,
        };
        if root == 0 {
            return Ok(0);
        }
        let at = root.wrapping_add((section % in_root).wrapping_mul(self.section_size));
        word64(memory, at.wrapping_add(self.section_entries))
    }
}

/// The runs of pages with an owner, and the owner of the last one as its entry has it.
struct Runs<'a> {
    place: u64,
    table: &'a OwnerTable,
    last: Vec<u8>,
    runs: Owners,
}

impl Runs<'_> {
    fn add(&mut self, page: u64, entry: &[u8]) {
        let field = |offset: u64, length: usize| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            entry.get(start..start.saturating_add(length)).unwrap_or_default()
        };
        let number = |offset: u64| {
            let bytes = field(self.place + offset, 4).try_into();
            bytes.map_or(0, u32::from_le_bytes)
        };
        let flags = field(0, 8).try_into().map_or(0, u64::from_le_bytes);
        if flags & (HAS_OWNER | IS_ALLOCATED) != HAS_OWNER | IS_ALLOCATED || self.runs.len() == RUNS_MAX {
            return;
        }
        let comm = field(self.place + self.table.comm, COMM_LENGTH);
        let (pid, tgid) = (number(self.table.pid), number(self.table.tgid));
        match self.runs.last_mut() {
            Some((run, owner))
                if run.end == page && owner.pid == pid && owner.tgid == tgid && self.last == comm =>
            {
                run.end += 1;
            }
            _ => {
                self.last = comm.to_vec();
                self.runs.push((page..page + 1, Owner { comm: printable(comm), pid, tgid }));
            }
        }
    }
}
