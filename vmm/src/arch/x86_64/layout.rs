//! The guest's physical address space: RAM, device memory, and the places of boot data.

use std::ops::Range;

/// Where device memory starts; RAM beyond continues above 4 GiB. The interrupt controllers are at their fixed
/// addresses further up in the same gap.
pub const MMIO_START: u64 = 0xd000_0000;
/// Where RAM goes on above the gap.
const HIGH_RAM_START: u64 = 1 << 32;
/// Largest guest memory in bytes: fits in the 40 address bits that every 64-bit CPU has.
pub const MEMORY_MAX: u64 = 1 << 39;
/// The initrd ends at most here: its address has 32 bits in the zero page.
pub const INITRD_LIMIT: u64 = MMIO_START;
/// Interrupt lines for devices: KVM's I/O APIC has 24 inputs, and those below 5 are the PC's timer, keyboard and serial.
pub const IRQS: Range<u32> = 5..24;
/// A pageblock without CONFIG_HUGETLB_PAGE: 2^(MAX_ORDER-1) pages (include/linux/pageblock-flags.h), the guest
/// kernel's unit for CMA windows.
pub const PAGEBLOCK: u64 = 4 << 20;

/// End of the memory below 640 KiB that boot data may use, as a PC's BIOS reports it.
pub(super) const LOW_RAM_END: u64 = 0x9_fc00;
/// Where memory above the legacy hole starts; no kernel loads below.
pub(super) const HIMEM_START: u64 = 0x10_0000;
/// Global descriptor table for the start in 64-bit mode.
pub(super) const GDT: u64 = 0x500;
/// The zero page, struct boot_params.
pub(super) const ZERO_PAGE: u64 = 0x7000;
/// Top of a small stack.
pub(super) const STACK_TOP: u64 = 0x8ff0;
/// Page tables: PML4, PDPT, and four page directories that map the first 4 GiB to themselves.
pub(super) const PAGE_TABLES: u64 = 0x9000;
/// Kernel command line.
pub(super) const CMDLINE: u64 = 0x2_0000;
/// Longest command line, with its final zero: COMMAND_LINE_SIZE (arch/x86/include/asm/setup.h).
pub(super) const CMDLINE_MAX: usize = 2048;
/// struct setup_data with the tree in it.
pub(super) const SETUP_DATA: u64 = 0x4_0000;
/// struct setup_data's fields before its data: next, type, len.
pub(super) const SETUP_DATA_HEADER: u64 = 16;
/// Largest tree, in bytes.
#[allow(clippy::cast_possible_truncation)] // a constant below 640 KiB
pub const TREE_MAX_SIZE: usize = (LOW_RAM_END - SETUP_DATA - SETUP_DATA_HEADER) as usize;

/// The RAM of a guest with `size` bytes of memory, ascending.
pub fn ram(size: u64) -> Vec<Range<u64>> {
    if size <= MMIO_START {
        vec![0..size]
    } else {
        vec![0..MMIO_START, HIGH_RAM_START..HIGH_RAM_START + (size - MMIO_START)]
    }
}

/// The memory that Linux takes before it reads /reserved-memory: the first MiB (trampoline, real-mode code), and the rest of the
/// DMA zone, which its own low allocations come from.
pub fn taken_before_linux() -> (&'static str, Range<u64>) {
    ("the DMA zone, which the kernel uses early,", 0..16 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_leaves_the_gap_free() {
        assert_eq!(ram(1 << 30), [0..1 << 30]);
        assert_eq!(ram(MMIO_START), [0..MMIO_START]);
        assert_eq!(ram(4 << 30), [0..MMIO_START, 1 << 32..(1 << 32) + (4 << 30) - MMIO_START]);
    }
}
