//! A vCPU in an ELF core, and what tools for cores need to know of the kernel's addresses.

use kvm_ioctls::VcpuFd;

use super::{debug::KVM_GET_SREGS, kernel_map::KernelMap};

/// EM_X86_64.
pub const ELF_MACHINE: u16 = 62;
/// The number of registers in the status of a vCPU.
pub const CORE_REGISTERS: usize = 27;

/// The requests that a vCPU's thread makes of KVM for a core, besides those of every vCPU.
pub fn core_requests() -> Vec<u64> {
    vec![KVM_GET_SREGS()]
}

/// The registers of a vCPU that does not run, in the order of Linux's user_regs_struct (arch/x86/include/asm/user_64.h).
///
/// # Errors
/// Those of the ioctls.
pub fn core_registers(vcpu: &VcpuFd) -> Result<[u64; CORE_REGISTERS], kvm_ioctls::Error> {
    let (regs, sregs) = (vcpu.get_regs()?, vcpu.get_sregs()?);
    Ok([
        regs.r15,
        regs.r14,
        regs.r13,
        regs.r12,
        regs.rbp,
        regs.rbx,
        regs.r11,
        regs.r10,
        regs.r9,
        regs.r8,
        regs.rax,
        regs.rcx,
        regs.rdx,
        regs.rsi,
        regs.rdi,
        // orig_rax: no system call.
        u64::MAX,
        regs.rip,
        sregs.cs.selector.into(),
        regs.rflags,
        regs.rsp,
        sregs.ss.selector.into(),
        sregs.fs.base,
        sregs.gs.base,
        sregs.ds.selector.into(),
        sregs.es.selector.into(),
        sregs.fs.selector.into(),
        sregs.gs.selector.into(),
    ])
}

/// This architecture's lines of VMCOREINFO (arch/x86/kernel/vmcore_info_64.c) for a kernel at the address where it was linked.
pub fn vmcoreinfo(_: &KernelMap, _: u64) -> String {
    "NUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\nKERNELOFFSET=0\n".to_owned()
}
