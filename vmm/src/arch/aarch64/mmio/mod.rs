//! Accesses of the guest to devices that KVM cannot decode, and their emulation.
//!
//! KVM emulates an access to a device with what the CPU says of it in its syndrome register (ESR_EL2). For a load or store of
//! two registers, and for one that changes its base register, the CPU says nothing there: ISV is 0. Drivers that copy to a
//! device with memcpy(), as altera-msgdma does with its descriptors, make such accesses. KVM hands them to us
//! (KVM_CAP_ARM_NISV_TO_USER): we fetch the instruction at the program counter, carry it out, and go on behind it.

mod instruction;
pub(super) mod translation;

use devices::bus::Bus;
use kvm_bindings::{KVM_CAP_ARM_NISV_TO_USER, KVM_EXIT_ARM_NISV, kvm_enable_cap};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use self::{
    instruction::{Access, Direction},
    translation::Translation,
};
use super::vcpu;

/// Bytes of an instruction.
const INSTRUCTION_SIZE: u64 = 4;
/// The number of the zero register where an instruction moves data.
const ZERO_REGISTER: u8 = 31;
/// Bits of an address that every size of page leaves as they are.
const PAGE_OFFSET: u64 = 0xfff;

/// Sets up what belongs to the whole VM; before anything else.
///
/// KVM before Linux 5.5 cannot hand over accesses that it does not decode: there a guest ends at the first one.
///
/// # Errors
/// None here.
pub fn set_up_vm(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    let capability = kvm_enable_cap { cap: KVM_CAP_ARM_NISV_TO_USER, ..Default::default() };
    if let Err(error) = vm.enable_cap(&capability) {
        tracing::debug!("KVM does not hand over accesses that it does not decode: {error}");
    }
    Ok(())
}

/// Handles an exit that kvm-ioctls does not name. Only an access without a syndrome is expected.
///
/// # Errors
/// Why the guest cannot go on.
pub fn handle_unnamed_exit(
    reason: u32,
    vcpu: &mut VcpuFd,
    memory: &GuestMemoryMmap,
    bus: &Bus,
) -> Result<(), String> {
    if reason != KVM_EXIT_ARM_NISV {
        return Err(format!("exit reason {reason}"));
    }
    // SAFETY: with this exit reason KVM has filled this member of the union (Documentation/virt/kvm/api.rst, 5).
    let address = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.arm_nisv.fault_ipa };
    let failed = |error: kvm_ioctls::Error| format!("KVM_GET_ONE_REG or KVM_SET_ONE_REG: {error}");
    let pc = vcpu::pc(vcpu).map_err(failed)?;
    let access = fetch(vcpu, memory, pc)
        .map_err(failed)?
        .and_then(Access::decode)
        .ok_or_else(|| format!("an access to {address:#x} with an instruction that is not emulated"))?;
    let base = vcpu::register(vcpu, access.base).map_err(failed)?;
    if (access.first_address(base) ^ address) & PAGE_OFFSET != 0 {
        return Err(format!("an access to {address:#x} that begins in another page"));
    }
    carry_out(&access, vcpu, address, bus).map_err(failed)?;
    if let Some(base) = access.base_after(base) {
        vcpu::set_register(vcpu, access.base, base).map_err(failed)?;
    }
    vcpu::set_pc(vcpu, pc.wrapping_add(INSTRUCTION_SIZE)).map_err(failed)
}

/// The instruction at `pc`, if there is one in RAM.
fn fetch(vcpu: &VcpuFd, memory: &GuestMemoryMmap, pc: u64) -> Result<Option<u32>, kvm_ioctls::Error> {
    let address = Translation::of(vcpu)?.physical(memory, pc);
    Ok(address.and_then(|address| memory.read_obj(GuestAddress(address)).ok()).map(u32::from_le))
}

fn carry_out(access: &Access, vcpu: &VcpuFd, address: u64, bus: &Bus) -> Result<(), kvm_ioctls::Error> {
    let size = access.size;
    for (register, address) in access.registers().zip((address..).step_by(size)) {
        let mut bytes = [0; 8];
        match access.direction {
            Direction::Store => {
                if register != ZERO_REGISTER {
                    bytes = vcpu::register(vcpu, register)?.to_le_bytes();
                }
                bus.write(address, &bytes[..size]);
            }
            Direction::Load => {
                bus.read(address, &mut bytes[..size]);
                if register != ZERO_REGISTER {
                    vcpu::set_register(vcpu, register, access.extended(u64::from_le_bytes(bytes)))?;
                }
            }
        }
    }
    Ok(())
}
