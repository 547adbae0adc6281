//! The kernel's addresses, by its own page tables in guest memory.

use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::mmio::translation::{ADDRESS, Translation};
use crate::arch::tables::{Entry, Tables};

/// The symbol of the kernel's first page table.
pub const KERNEL_TABLES: &str = "swapper_pg_dir";

/// The place of the flags in a boot Image's header, and in them the size of a page (Documentation/arm64/booting.rst).
const FLAGS: u64 = 24;

/// The bits of an address within a page of the kernel that was loaded to `start` and has not run: Linux uses its header's memory for
/// other things (arch/arm64/mm/init.c, arm64_memblock_init).
pub fn kernel_page_bits(memory: &GuestMemoryMmap, start: u64) -> Option<u32> {
    let flags: u64 = memory.read_obj(GuestAddress(start.checked_add(FLAGS)?)).ok()?;
    [None, Some(12), Some(14), Some(16)][(flags >> 1 & 3) as usize]
}

/// The bits of an address within a section of the memory map, for pages of `page_bits` bits (arch/arm64/include/asm/sparsemem.h,
/// SECTION_SIZE_BITS).
pub fn section_bits(page_bits: u32) -> u32 {
    if page_bits == 16 { 29 } else { 27 }
}

/// How far the image of a kernel is above its physical address, if it begins at `start` in guest memory and at the virtual address `text`.
/// Without a seed in the tree, which a machine of ours lacks, it does not move itself.
pub fn image_offset(start: u64, text: u64) -> u64 {
    text.wrapping_sub(start)
}

/// The same by the kernel's own numbers in VMCOREINFO.
pub fn image_offset_by(number: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    number("NUMBER(kimage_voffset)")
}

/// The map of a kernel's addresses.
#[derive(Debug, Clone, Copy)]
pub struct KernelMap {
    translation: Translation,
    tables: Tables,
}

impl KernelMap {
    /// For a kernel with pages of `page_bits` bits whose first page table is at the virtual address `tables`, in an image that is `offset`
    /// above its physical address.
    pub fn of(page_bits: u32, tables: u64, offset: u64) -> Option<Self> {
        // The image is in the lower half of the kernel's addresses (arch/arm64/include/asm/memory.h, KIMAGE_VADDR).
        let address_bits = 65_u32.checked_sub(tables.leading_ones())?;
        let tables = tables.checked_sub(offset)?;
        let translation = Translation::of_kernel(tables, address_bits, page_bits)?;
        Some(Self { translation, tables: Tables { first: tables, page_bits, address_bits, entry } })
    }

    /// The size of a page in bytes.
    pub fn page_size(&self) -> u64 {
        1 << self.tables.page_bits
    }

    /// The tables of the kernel's half of the addresses.
    pub fn tables(&self) -> Tables {
        self.tables
    }

    /// The guest-physical address of a virtual one, if it is mapped.
    pub fn physical(&self, memory: &GuestMemoryMmap, address: u64) -> Option<u64> {
        self.translation.physical(memory, address)
    }
}

/// The meaning of an entry.
fn entry(entry: u64, level: u32) -> Entry {
    match (entry & 3, level) {
        (0b11, 0) | (0b01, 1..) => Entry::Memory(entry & ADDRESS),
        (0b11, _) => Entry::Table(entry & ADDRESS),
        _ => Entry::Nothing,
    }
}
