//! A walk of a kernel's page tables in guest memory: the runs of memory that they map. The guest wrote them, so nothing in them is
//! trusted, and a walk has an end even if tables contain themselves.

use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion};

/// The most entries that a walk reads: those of 4 KiB pages for 128 GiB. Nor are there more than fit into the memory.
const ENTRIES_MAX: u64 = 1 << 25;

/// The meaning of an entry of a page table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It maps nothing.
    Nothing,
    /// The table of the next level is at this address. Bits below the size of a table do not count.
    Table(u64),
    /// It maps memory from this address. Bits below the size of the mapping do not count.
    Memory(u64),
}

/// The page tables of a kernel.
#[derive(Debug, Clone, Copy)]
pub struct Tables {
    /// The physical address of the first table.
    pub first: u64,
    /// The bits of an address within a page. A table is as long as a page.
    pub page_bits: u32,
    /// The bits of a virtual address that the tables translate. All bits above are set.
    pub address_bits: u32,
    /// The meaning of an entry at a level. Level 0 has single pages.
    pub entry: fn(u64, u32) -> Entry,
}

/// Virtual memory that is contiguous in physical memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The first virtual address.
    pub address: u64,
    /// The first physical address.
    pub physical: u64,
    /// The length in bytes.
    pub length: u64,
}

struct Walk {
    runs: Vec<Run>,
    runs_max: usize,
    entries_left: u64,
}

impl Tables {
    /// The runs that the tables map, in the order of their virtual addresses, and at most `max` of them.
    pub fn runs(&self, memory: &GuestMemoryMmap, max: usize) -> Vec<Run> {
        let room: u64 = memory.iter().map(GuestMemoryRegion::len).sum::<u64>() / size_of::<u64>() as u64;
        let mut walk = Walk { runs: Vec::new(), runs_max: max, entries_left: room.min(ENTRIES_MAX) };
        let levels = self.address_bits.saturating_sub(self.page_bits).div_ceil(self.page_bits - 3);
        let start = u64::MAX.checked_shl(self.address_bits).unwrap_or(0);
        if let Some(level) = levels.checked_sub(1) {
            self.walk(memory, self.first, level, start, &mut walk);
        }
        walk.runs
    }

    fn walk(&self, memory: &GuestMemoryMmap, table: u64, level: u32, start: u64, walk: &mut Walk) {
        let below = self.page_bits + level * (self.page_bits - 3);
        let count = 1_usize << (self.page_bits - 3).min(self.address_bits - below);
        let Some(left) = walk.entries_left.checked_sub(count as u64) else { return };
        walk.entries_left = left;
        let mut entries = vec![0; count * size_of::<u64>()];
        // A table outside of memory maps nothing.
        if memory.read_slice(&mut entries, GuestAddress(table)).is_err() {
            return;
        }
        for (index, entry) in (0..).zip(entries.as_chunks().0) {
            let address = start.wrapping_add(index << below);
            match ((self.entry)(u64::from_le_bytes(*entry), level), level.checked_sub(1)) {
                (Entry::Table(next), Some(level)) => {
                    self.walk(memory, next >> self.page_bits << self.page_bits, level, address, walk);
                }
                (Entry::Memory(physical), _) => {
                    if !walk.add(Run { address, physical: physical >> below << below, length: 1 << below }) {
                        return;
                    }
                }
                (Entry::Nothing | Entry::Table(_), _) => {}
            }
        }
    }
}

impl Walk {
    /// Adds a run, to the last one if it continues that. Returns whether there was room.
    fn add(&mut self, run: Run) -> bool {
        if let Some(last) = self.runs.last_mut()
            && last.address.wrapping_add(last.length) == run.address
            && last.physical.wrapping_add(last.length) == run.physical
        {
            last.length += run.length;
        } else if self.runs.len() < self.runs_max {
            self.runs.push(run);
        } else {
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of our own: bit 0 is a table, bit 1 memory.
    fn entry(entry: u64, _: u32) -> Entry {
        match entry & 3 {
            1 => Entry::Table(entry),
            2 => Entry::Memory(entry),
            _ => Entry::Nothing,
        }
    }

    fn tables() -> (GuestMemoryMmap, Tables) {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
        (memory, Tables { first: 0x1000, page_bits: 12, address_bits: 39, entry })
    }

    fn put(memory: &GuestMemoryMmap, table: u64, index: u64, entry: u64) {
        memory.write_obj(entry.to_le(), GuestAddress(table + index * 8)).unwrap();
    }

    #[test]
    fn pages_and_blocks_make_runs() {
        let (memory, tables) = tables();
        put(&memory, 0x1000, 0, 0x2001);
        put(&memory, 0x2000, 1, 0x3001);
        for (index, page) in [(511, 0x80_0000), (510, 0x7f_f000), (7, 0x1000)] {
            put(&memory, 0x3000, index, page | 2);
        }
        // It continues the last page of the table before, and its low bits do not count.
        put(&memory, 0x2000, 2, 0x80_1fff & !3 | 2);
        put(&memory, 0x1000, 511, 0x4000_0002);
        // A table outside of memory.
        put(&memory, 0x1000, 5, 0x7fff_f001);
        let run = |address, physical, length| Run { address, physical, length };
        let start = 0xffff_ff80_0000_0000;
        assert_eq!(
            tables.runs(&memory, 10),
            [
                run(start + 0x20_7000, 0x1000, 0x1000),
                run(start + 0x3f_e000, 0x7f_f000, 0x2000),
                run(start + 0x40_0000, 0x80_0000, 0x20_0000),
                run(0xffff_ffff_c000_0000, 0x4000_0000, 1 << 30),
            ]
        );
        assert_eq!(tables.runs(&memory, 2).len(), 2);
        let others = Tables { first: 0x2000, address_bits: 30, ..tables };
        assert_eq!(others.runs(&memory, 1), [run(0xffff_ffff_c020_7000, 0x1000, 0x1000)]);
    }

    #[test]
    fn tables_that_contain_themselves_have_an_end() {
        let (memory, tables) = tables();
        for index in 0..512 {
            put(&memory, 0x1000, index, 0x1001);
        }
        let tables = Tables { address_bits: 48, ..tables };
        assert!(tables.runs(&memory, 10).is_empty());
    }
}
