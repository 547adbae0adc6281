//! The guest's physical address space: interrupt controller, device memory, RAM, and the places of boot data.

use std::ops::Range;

/// The GIC's distributor (GICD), 64 KiB of it.
pub const GIC_DISTRIBUTOR: u64 = 0x0800_0000;
/// GICv2's CPU interface (GICC).
pub const GIC_CPU_INTERFACE: u64 = 0x0801_0000;
/// GICv3's redistributors (GICR), one after the other.
pub const GIC_REDISTRIBUTORS: u64 = 0x0810_0000;
/// Size of the distributor's range in bytes (KVM_VGIC_V3_DIST_SIZE; GICv2's is shorter).
pub(super) const GIC_DISTRIBUTOR_SIZE: u64 = 0x1_0000;
/// Size of the CPU interface's range in bytes (KVM_VGIC_V2_CPU_SIZE).
pub(super) const GIC_CPU_INTERFACE_SIZE: u64 = 0x2000;
/// Size of one redistributor's range in bytes (KVM_VGIC_V3_REDIST_SIZE): two frames.
pub(super) const GIC_REDISTRIBUTOR_SIZE: u64 = 0x2_0000;

/// Where device memory starts.
pub const MMIO_START: u64 = 0x1000_0000;
/// Where RAM starts.
const RAM_START: u64 = 1 << 30;
/// Largest guest memory in bytes: fits, with what is below it, in the 40 address bits that KVM gives a guest by default.
pub const MEMORY_MAX: u64 = 1 << 39;
/// Interrupt lines for devices: shared peripheral interrupts (SPI). Their number is also KVM's gsi.
pub const IRQS: Range<u32> = 0..IRQ_LINES;
/// The number of these lines.
pub(super) const IRQ_LINES: u32 = 64;
/// A pageblock of 4 KiB pages without CONFIG_HUGETLB_PAGE: 2^(MAX_ORDER-1) pages (include/linux/pageblock-flags.h), the
/// guest kernel's unit for CMA windows. A kernel with HUGETLB_PAGE has 2 MiB, one with 64 KiB pages has 512 MiB.
pub const PAGEBLOCK: u64 = 4 << 20;

/// The tree: the first 2 MiB of RAM, which the kernel maps for it at once (Documentation/arm64/booting.rst, section 2).
pub(super) const TREE: u64 = RAM_START;
/// Largest tree, in bytes.
pub const TREE_MAX_SIZE: usize = 2 << 20;
/// The kernel's Image goes here, if it wants no offset: the next 2 MiB.
pub(super) const KERNEL: u64 = TREE + TREE_MAX_SIZE as u64;
/// The initrd ends at most here: its addresses have one cell in the tree (dt-schema, chosen.yaml), and with the kernel it
/// lies in one window of 32 GiB (booting.rst, section 3).
pub const INITRD_LIMIT: u64 = (1 << 32) - (64 << 10);

/// The RAM of a guest with `size` bytes of memory.
pub fn ram(size: u64) -> Vec<Range<u64>> {
    vec![RAM_START..RAM_START + size]
}

/// The memory that Linux takes before it reads /reserved-memory, apart from kernel and initrd (arm64_memblock_init).
pub fn taken_before_linux() -> (&'static str, Range<u64>) {
    ("the device tree", TREE..KERNEL)
}
