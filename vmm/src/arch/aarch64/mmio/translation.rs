//! A walk of the guest's page tables, as the MMU does it (Arm Architecture Reference Manual, D8, "The AArch64 Virtual Memory
//! System Architecture"), for addresses of up to 48 bits of guest memory.

use kvm_bindings::{KVM_REG_ARM64, KVM_REG_ARM64_SYSREG, KVM_REG_SIZE_U64};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::arch::aarch64::vcpu;

/// The register with [`SCTLR_M`].
pub(in crate::arch::aarch64) const SCTLR_EL1: u64 = system_register(1, 0, 0);
const TTBR0_EL1: u64 = system_register(2, 0, 0);
const TTBR1_EL1: u64 = system_register(2, 0, 1);
const TCR_EL1: u64 = system_register(2, 0, 2);

/// Whether the MMU is on, in SCTLR_EL1.
const SCTLR_M: u64 = 1;
/// The bit of a virtual address that selects the table of the upper half.
const UPPER_HALF: u32 = 55;
/// The bits of a table's entry, or of a TTBR, that hold an address.
pub(in crate::arch::aarch64) const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// As [`ADDRESS`], of a TTBR: a first table may be smaller than a page.
const FIRST_TABLE: u64 = 0x0000_ffff_ffff_fffe;

/// The name that KVM_GET_ONE_REG has for the system register with op0 3, op1 0 and these.
pub(in crate::arch::aarch64) const fn system_register(crn: u64, crm: u64, op2: u64) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | 3 << 14 | crn << 7 | crm << 3 | op2
}

/// A vCPU's registers of address translation.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch::aarch64) struct Translation {
    sctlr: u64,
    tcr: u64,
    lower: u64,
    upper: u64,
}

impl Translation {
    /// As `vcpu` has it now.
    pub(in crate::arch::aarch64) fn of(vcpu: &VcpuFd) -> Result<Self, kvm_ioctls::Error> {
        let read = |register| vcpu::one_register(vcpu, register);
        Ok(Self {
            sctlr: read(SCTLR_EL1)?,
            tcr: read(TCR_EL1)?,
            lower: read(TTBR0_EL1)?,
            upper: read(TTBR1_EL1)?,
        })
    }

    /// For addresses in the upper half of `address_bits` bits alone, with a first table at the physical address `tables`.
    pub(in crate::arch::aarch64) fn of_kernel(
        tables: u64,
        address_bits: u32,
        page_bits: u32,
    ) -> Option<Self> {
        let granule: u64 = [(12, 2), (14, 1), (16, 3)].iter().find(|(bits, _)| *bits == page_bits)?.1;
        let unused_bits = u64::from(64_u32.checked_sub(address_bits)?) & 0x3f;
        Some(Self { sctlr: SCTLR_M, tcr: granule << 30 | unused_bits << 16, lower: 0, upper: tables })
    }

    /// The guest-physical address of a virtual one, if it is mapped.
    pub(in crate::arch::aarch64) fn physical(&self, memory: &GuestMemoryMmap, address: u64) -> Option<u64> {
        if self.sctlr & SCTLR_M == 0 {
            return Some(address);
        }
        let is_upper = address >> UPPER_HALF & 1 == 1;
        // TCR_EL1: T0SZ and TG0, T1SZ and TG1. The granules are numbered differently.
        let (base, unused_bits, page_bits) = if is_upper {
            (
                self.upper,
                self.tcr >> 16 & 0x3f,
                [None, Some(14), Some(12), Some(16)][(self.tcr >> 30 & 3) as usize],
            )
        } else {
            (self.lower, self.tcr & 0x3f, [Some(12), Some(16), Some(14), None][(self.tcr >> 14 & 3) as usize])
        };
        let page_bits: u64 = page_bits?;
        let table_bits = page_bits - 3;
        let mapped_bits = (64 - unused_bits).checked_sub(page_bits)?;
        let mut table = base & FIRST_TABLE;
        for level in (0..mapped_bits.div_ceil(table_bits)).rev() {
            let below = page_bits + level * table_bits;
            let index_bits = table_bits.min(page_bits + mapped_bits - below);
            let index = address >> below & ((1 << index_bits) - 1);
            let at = GuestAddress(table.checked_add(index * 8)?);
            let entry = u64::from_le(memory.read_obj(at).ok()?);
            let offset = (1 << below) - 1;
            match (entry & 3, level) {
                (0b11, 0) | (0b01, 1..) => return Some(entry & ADDRESS & !offset | address & offset),
                (0b11, _) => table = entry & ADDRESS & !((1 << page_bits) - 1),
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T48: u64 = 16;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap()
    }

    fn put(memory: &GuestMemoryMmap, table: u64, index: u64, entry: u64) {
        memory.write_obj(entry.to_le(), GuestAddress(table + index * 8)).unwrap();
    }

    #[test]
    fn without_an_mmu_addresses_are_physical() {
        let off = Translation { sctlr: 0, tcr: 0, lower: 0, upper: 0 };
        assert_eq!(off.physical(&memory(), 0x1234), Some(0x1234));
    }

    #[test]
    fn four_levels_of_4k_end_in_a_page_or_a_block() {
        let memory = memory();
        let upper =
            Translation { sctlr: SCTLR_M, tcr: 2 << 30 | T48 << 16, lower: 0, upper: 0x1000 | 5 << 48 | 1 };
        let address = 0xffff_8000_4020_1234_u64;
        let index = |level: u64| address >> (12 + 9 * level) & 511;
        put(&memory, 0x1000, index(3), 0x2003);
        put(&memory, 0x2000, index(2), 0x3003);
        assert_eq!(upper.physical(&memory, address), None);
        put(&memory, 0x3000, index(1), 0x60_0000 | 0x701);
        assert_eq!(upper.physical(&memory, address), Some(0x60_1234));
        put(&memory, 0x3000, index(1), 0x4003);
        put(&memory, 0x4000, index(0), 0x0040_0000_0007_7703);
        assert_eq!(upper.physical(&memory, address), Some(0x7_7234));
    }

    #[test]
    fn a_table_may_lie_outside_memory() {
        let wild = Translation { sctlr: SCTLR_M, tcr: T48, lower: FIRST_TABLE, upper: 0 };
        assert_eq!(wild.physical(&memory(), u64::MAX >> 16), None);
        let tiny = Translation { tcr: 63, ..wild };
        assert_eq!(tiny.physical(&memory(), 0), None);
    }

    #[test]
    fn pages_of_64k_have_tables_of_8192_entries() {
        let memory = memory();
        let lower = Translation { sctlr: SCTLR_M, tcr: 1 << 14 | T48, lower: 0x1_0000, upper: 0 };
        let address = 0x1234_5678_9abc_u64;
        put(&memory, 0x1_0000, address >> 42 & 63, 0x2_0003);
        put(&memory, 0x2_0000, address >> 29 & 8191, 0x3_0003);
        put(&memory, 0x3_0000, address >> 16 & 8191, 0x5_0003);
        assert_eq!(lower.physical(&memory, address), Some(0x5_9abc));
    }
}
