//! The kernel's addresses, by its own page tables in guest memory (Intel SDM, volume 3, "4-level paging").

use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use crate::arch::tables::{Entry, Tables};

/// The symbol of the kernel's first page table (arch/x86/kernel/head_64.S).
pub const KERNEL_TABLES: &str = "init_top_pgt";

/// Where Linux maps its image, from physical address 0 (arch/x86/include/asm/page_64_types.h, __START_KERNEL_map).
pub(super) const START: u64 = 0xffff_ffff_8000_0000;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;

/// The bits of an address within a page, of every kernel.
pub fn kernel_page_bits(_: &GuestMemoryMmap, _: u64) -> Option<u32> {
    Some(12)
}

/// The bits of an address within a section of the memory map (arch/x86/include/asm/sparsemem.h, SECTION_SIZE_BITS).
pub fn section_bits(_: u32) -> u32 {
    27
}

/// How far a kernel's image is above its physical address. One that is started as ELF does not move itself.
pub fn image_offset(_: u64, _: u64) -> u64 {
    START
}

/// The same by the kernel's own numbers in VMCOREINFO. A bzImage can move itself.
pub fn image_offset_by(number: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    Some(START.wrapping_sub(number("NUMBER(phys_base)")?))
}

/// The map of a kernel's addresses.
#[derive(Debug, Clone, Copy)]
pub struct KernelMap {
    tables: u64,
}

impl KernelMap {
    /// For a kernel whose first page table is at the virtual address `tables`, in an image that is `offset` above its physical address.
    pub fn of(_: u32, tables: u64, offset: u64) -> Option<Self> {
        Some(Self { tables: tables.checked_sub(offset)? })
    }

    /// The size of a page in bytes.
    pub fn page_size(&self) -> u64 {
        4096
    }

    /// The tables of the kernel's half of the addresses.
    pub fn tables(&self) -> Tables {
        const UPPER_HALF: u64 = 256 * 8;
        Tables { first: self.tables + UPPER_HALF, page_bits: 12, address_bits: 47, entry }
    }

    /// The guest-physical address of a virtual one, if it is mapped.
    pub fn physical(&self, memory: &GuestMemoryMmap, address: u64) -> Option<u64> {
        let mut table = self.tables;
        for level in (0..4).rev() {
            let shift = 12 + 9 * level;
            let entry: u64 = memory.read_obj(GuestAddress(table + (address >> shift & 0x1ff) * 8)).ok()?;
            if entry & PRESENT == 0 {
                return None;
            }
            let offset = (1 << shift) - 1;
            if level == 0 || (level < 3 && entry & LARGE != 0) {
                return Some(entry & ADDRESS & !offset | address & offset);
            }
            table = entry & ADDRESS;
        }
        None
    }
}

/// The meaning of an entry.
fn entry(entry: u64, level: u32) -> Entry {
    match (entry & PRESENT, level) {
        (0, _) => Entry::Nothing,
        (_, 1 | 2) if entry & LARGE == 0 => Entry::Table(entry & ADDRESS),
        (_, 3..) => Entry::Table(entry & ADDRESS),
        _ => Entry::Memory(entry & ADDRESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_each_size_are_found() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let put = |table: u64, index: u64, entry: u64| {
            memory.write_obj(entry, GuestAddress(table + index * 8)).unwrap();
        };
        let map = KernelMap::of(12, START + 0x1000, START).unwrap();
        let address = START + 0x0100_2345;
        assert_eq!(map.physical(&memory, address), None);
        put(0x1000, 511, 0x2003);
        put(0x2000, 510, 0x3003);
        put(0x3000, 8, 0x0120_0000 | LARGE | PRESENT);
        assert_eq!(map.physical(&memory, address), Some(0x0120_2345));
        put(0x3000, 8, 0x4003);
        put(0x4000, 2, 0x8000_0000_0000_7003);
        assert_eq!(map.physical(&memory, address), Some(0x7345));
        put(0x2000, 510, 0x4000_0000 | LARGE | PRESENT);
        assert_eq!(map.physical(&memory, address), Some(0x4100_2345));
        // A table outside memory, and a symbol outside the image.
        put(0x1000, 511, 0x7fff_f003);
        assert_eq!(map.physical(&memory, address), None);
        assert!(KernelMap::of(12, 0x1000, START).is_none());
    }
}
