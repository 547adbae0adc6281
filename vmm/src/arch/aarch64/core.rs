//! A vCPU in an ELF core, and what tools for cores need to know of the kernel's addresses.

use kvm_ioctls::VcpuFd;

use super::{debug::read_registers, kernel_map::KernelMap};

/// EM_AARCH64.
pub const ELF_MACHINE: u16 = 183;
/// The number of registers in the status of a vCPU.
pub const CORE_REGISTERS: usize = 34;

/// The requests that a vCPU's thread makes of KVM for a core, besides those of every vCPU: none.
pub fn core_requests() -> Vec<u64> {
    Vec::new()
}

/// The registers of a vCPU that does not run, in the order of Linux's user_pt_regs (arch/arm64/include/uapi/asm/ptrace.h).
///
/// # Errors
/// Those of the ioctls.
pub fn core_registers(vcpu: &VcpuFd) -> Result<[u64; CORE_REGISTERS], kvm_ioctls::Error> {
    let read = read_registers(vcpu)?;
    let mut registers = [0; CORE_REGISTERS];
    let all = read.x.into_iter().chain([read.sp, read.pc, read.cpsr.into()]);
    registers.iter_mut().zip(all).for_each(|(to, from)| *to = from);
    Ok(registers)
}

/// This architecture's lines of VMCOREINFO (arch/arm64/kernel/vmcore_info.c) for a kernel whose image is `offset` above its
/// physical address.
pub fn vmcoreinfo(map: &KernelMap, offset: u64) -> String {
    let bits = map.tables().address_bits;
    format!("NUMBER(VA_BITS)={bits}\nNUMBER(kimage_voffset)={offset:#x}\nKERNELOFFSET=0\n")
}
