//! A vCPU in the hands of a debugger: its registers, its stops, and its addresses.

use std::collections::BTreeSet;

use gdbstub_arch::x86::{
    X86_64_SSE,
    reg::{X86_64CoreRegs, X86SegmentRegs, X87FpuInternalRegs},
};
use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_INJECT_BP, KVM_GUESTDBG_SINGLESTEP,
    KVM_GUESTDBG_USE_HW_BP, KVM_GUESTDBG_USE_SW_BP, KVMIO, kvm_debug_exit_arch, kvm_fpu, kvm_guest_debug,
    kvm_guest_debug_arch, kvm_regs, kvm_sregs, kvm_translation,
};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::{ioctl_ior_nr, ioctl_iow_nr, ioctl_iowr_nr};

use super::{kernel_map, layout};
use crate::arch::stops::{Slot, SlotKind, Stop, Stops};

ioctl_iow_nr!(KVM_SET_REGS, KVMIO, 0x82, kvm_regs);
ioctl_ior_nr!(KVM_GET_SREGS, KVMIO, 0x83, kvm_sregs);
ioctl_iowr_nr!(KVM_TRANSLATE, KVMIO, 0x85, kvm_translation);
ioctl_ior_nr!(KVM_GET_FPU, KVMIO, 0x8c, kvm_fpu);
ioctl_iow_nr!(KVM_SET_FPU, KVMIO, 0x8d, kvm_fpu);
ioctl_iow_nr!(KVM_SET_GUEST_DEBUG, KVMIO, 0x9b, kvm_guest_debug);

/// The architecture, as gdb knows it.
pub type GdbArch = X86_64_SSE;
/// The registers, as gdb knows them.
pub type GdbRegisters = X86_64CoreRegs;
/// The state that a vCPU needs back after a step: none here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stepping;

/// INT3.
pub(super) const INT3: &[u8] = &[0xcc];
/// OUT DX, AL: KVM leaves the guest at it, for a device.
pub(super) const OUT: &[u8] = &[0xee];

/// The vector of debug exceptions.
const DEBUG_EXCEPTION: u32 = 1;
/// The vector of INT3.
const BREAKPOINT_EXCEPTION: u32 = 3;
/// DR6: one instruction was executed. The lowest bits are those of the four slots (Intel SDM, volume 3, "Debug registers").
const DR6_STEP: u64 = 1 << 14;

/// The requests that a vCPU's thread makes of KVM for a debugger.
pub fn debug_requests() -> Vec<u64> {
    vec![
        KVM_SET_REGS(),
        KVM_GET_SREGS(),
        KVM_TRANSLATE(),
        KVM_GET_FPU(),
        KVM_SET_FPU(),
        KVM_SET_GUEST_DEBUG(),
    ]
}

/// The registers of a vCPU that does not run.
///
/// # Errors
/// Those of the ioctls.
pub fn read_registers(vcpu: &VcpuFd) -> Result<GdbRegisters, kvm_ioctls::Error> {
    let (regs, sregs, fpu) = (vcpu.get_regs()?, vcpu.get_sregs()?, vcpu.get_fpu()?);
    let low = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default();
    let selector = |selector: u16| u32::from(selector);
    let mut registers = GdbRegisters {
        regs: [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8, regs.r9,
            regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ],
        eflags: low(regs.rflags),
        rip: regs.rip,
        segments: X86SegmentRegs {
            cs: selector(sregs.cs.selector),
            ss: selector(sregs.ss.selector),
            ds: selector(sregs.ds.selector),
            es: selector(sregs.es.selector),
            fs: selector(sregs.fs.selector),
            gs: selector(sregs.gs.selector),
        },
        fpu: X87FpuInternalRegs {
            fctrl: fpu.fcw.into(),
            fstat: fpu.fsw.into(),
            ftag: fpu.ftwx.into(),
            fop: fpu.last_opcode.into(),
            fioff: low(fpu.last_ip),
            fooff: low(fpu.last_dp),
            ..Default::default()
        },
        mxcsr: fpu.mxcsr,
        ..Default::default()
    };
    for (to, from) in registers.st.iter_mut().zip(&fpu.fpr) {
        to.copy_from_slice(&from[..10]);
    }
    for (to, from) in registers.xmm.iter_mut().zip(&fpu.xmm) {
        *to = u128::from_le_bytes(*from);
    }
    Ok(registers)
}

/// Changes the registers of a vCPU that does not run, but for those of segments.
///
/// # Errors
/// Those of the ioctls.
pub fn write_registers(vcpu: &VcpuFd, registers: &GdbRegisters) -> Result<(), kvm_ioctls::Error> {
    let [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15] = registers.regs;
    vcpu.set_regs(&kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rbp,
        rsp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip: registers.rip,
        rflags: registers.eflags.into(),
    })?;
    let mut fpu = vcpu.get_fpu()?;
    for (to, from) in fpu.fpr.iter_mut().zip(&registers.st) {
        to[..10].copy_from_slice(from);
    }
    for (to, from) in fpu.xmm.iter_mut().zip(&registers.xmm) {
        *to = from.to_le_bytes();
    }
    fpu.mxcsr = registers.mxcsr;
    vcpu.set_fpu(&fpu)
}

/// Lets the vCPU stop at `stops`, and after one instruction if it `steps`. Without either it runs as without a debugger.
///
/// # Errors
/// Those of the ioctl.
pub fn set_stops(
    vcpu: &VcpuFd,
    _: &GuestMemoryMmap,
    stops: &Stops,
    steps: bool,
) -> Result<Stepping, kvm_ioctls::Error> {
    let mut debug = kvm_guest_debug {
        control: 0,
        pad: 0,
        arch: kvm_guest_debug_arch { debugreg: debug_registers(&stops.slots) },
    };
    if stops.software {
        debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
    }
    if !stops.slots.is_empty() {
        debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
    }
    if !steps {
        return vcpu.set_guest_debug(&debug).map(|()| Stepping);
    }
    debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    // Otherwise a step would end in the handler of an interrupt. Before Linux 5.16 KVM cannot do it.
    let blocked = kvm_guest_debug { control: debug.control | KVM_GUESTDBG_BLOCKIRQ, ..debug };
    match vcpu.set_guest_debug(&blocked) {
        Err(error) if error.errno() == libc::EINVAL => vcpu.set_guest_debug(&debug)?,
        result => result?,
    }
    Ok(Stepping)
}

/// The debug registers for these slots. The CPU has four.
fn debug_registers(slots: &[Slot]) -> [u64; 8] {
    // Exact matches of data accesses, for both GE and LE.
    const DR7_FIXED: u64 = 0x0700;
    let mut registers = [0; 8];
    for (index, slot) in slots.iter().take(4).enumerate() {
        registers[index] = slot.address;
        let length = match slot.length {
            _ if slot.kind == SlotKind::Execute => 0,
            8 => 0b10,
            length => u64::from(length) - 1,
        };
        let access = match slot.kind {
            SlotKind::Execute => 0b00,
            SlotKind::Write => 0b01,
            // The CPU cannot watch loads alone.
            SlotKind::Read | SlotKind::Access => 0b11,
        };
        registers[7] |= DR7_FIXED | 0b10 << (2 * index) | (length << 2 | access) << (16 + 4 * index);
    }
    registers
}

/// Restores the state that a step needs back.
///
/// # Errors
/// None here.
pub fn end_step(_: &VcpuFd, _: Stepping) -> Result<(), kvm_ioctls::Error> {
    Ok(())
}

/// Whether a vCPU may have stopped at a breakpoint instruction that KVM does not report.
pub fn may_be_trap(exit: &VcpuExit<'_>) -> bool {
    matches!(exit, VcpuExit::IoOut(_, [_]))
}

/// If a vCPU stopped at such an instruction, which is one of `traps`, lets it stand there, as if it had not been executed. Returns
/// whether it does.
///
/// # Errors
/// Those of the ioctls.
pub fn stand_at_trap(vcpu: &mut VcpuFd, traps: &BTreeSet<u64>) -> Result<bool, kvm_ioctls::Error> {
    let pc = vcpu.get_regs()?.rip;
    // Where KVM interprets the guest, the vCPU is behind the instruction already (x86_emulate_instruction, arch/x86/kvm/x86.c).
    let Some(trap) = [pc, pc.wrapping_sub(1)].into_iter().find(|at| traps.contains(at)) else {
        return Ok(false);
    };
    // KVM finishes the access when the vCPU runs next.
    vcpu.set_kvm_immediate_exit(1);
    let ran = vcpu.run().map(drop);
    vcpu.set_kvm_immediate_exit(0);
    match ran {
        Err(error) if error.errno() != libc::EINTR => return Err(error),
        _ => {}
    }
    let mut regs = vcpu.get_regs()?;
    regs.rip = trap;
    vcpu.set_regs(&regs)?;
    Ok(true)
}

/// The address of the breakpoint instruction, if one ended the vCPU's run.
///
/// # Errors
/// None here.
pub fn breakpoint_of(_: &VcpuFd, exit: &kvm_debug_exit_arch) -> Result<Option<u64>, kvm_ioctls::Error> {
    Ok((exit.exception == BREAKPOINT_EXCEPTION).then_some(exit.pc))
}

/// Hands a breakpoint instruction of the guest's own to the guest.
///
/// # Errors
/// Those of the ioctl.
pub fn inject_breakpoint(
    vcpu: &VcpuFd,
    _: &kvm_debug_exit_arch,
    stops: &Stops,
) -> Result<(), kvm_ioctls::Error> {
    let slots = if stops.slots.is_empty() { 0 } else { KVM_GUESTDBG_USE_HW_BP };
    vcpu.set_guest_debug(&kvm_guest_debug {
        control: KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP | slots | KVM_GUESTDBG_INJECT_BP,
        pad: 0,
        arch: kvm_guest_debug_arch { debugreg: debug_registers(&stops.slots) },
    })
}

/// Why a vCPU with these slots stopped.
pub fn stop_of(exit: &kvm_debug_exit_arch, slots: &[Slot]) -> Stop {
    if exit.exception != DEBUG_EXCEPTION {
        return Stop::Software;
    }
    let hit = slots.iter().take(4).enumerate().find(|(index, _)| exit.dr6 >> index & 1 == 1);
    match hit {
        _ if exit.dr6 & DR6_STEP != 0 => Stop::Step,
        Some((_, slot)) if slot.kind != SlotKind::Execute => Stop::Watch(*slot),
        Some(_) => Stop::Hardware,
        None => Stop::Step,
    }
}

/// The guest-physical address of a virtual one, if it is mapped. Before the kernel's first instruction its image counts as mapped, for
/// breakpoints there.
pub fn physical(vcpu: &VcpuFd, _: &GuestMemoryMmap, address: u64) -> Option<u64> {
    let translation = vcpu.translate_gva(address).ok()?;
    if translation.valid == 1 {
        return Some(translation.physical_address);
    }
    let is_at_start = vcpu.get_sregs().is_ok_and(|sregs| sregs.cr3 == layout::PAGE_TABLES);
    address.checked_sub(kernel_map::START).filter(|_| is_at_start)
}

/// Lets the CPUs see instructions that were written. This architecture needs nothing.
pub fn show_instructions(_: *const u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_become_debug_registers() {
        let slot = |address, length, kind| Slot { address, length, kind };
        let registers = debug_registers(&[
            slot(0x1000, 1, SlotKind::Execute),
            slot(0x2000, 8, SlotKind::Write),
            slot(0x3000, 4, SlotKind::Access),
            slot(0x4000, 2, SlotKind::Read),
        ]);
        assert_eq!(registers[..4], [0x1000, 0x2000, 0x3000, 0x4000]);
        // From the top: 2 bytes, 4 bytes, 8 bytes, an instruction; all four on.
        assert_eq!(registers[7], 0x7f90_07aa);
        assert_eq!(debug_registers(&[])[7], 0);
    }

    #[test]
    fn exits_become_stops() {
        let slots = [
            Slot { address: 0x10, length: 1, kind: SlotKind::Execute },
            Slot { address: 0x20, length: 4, kind: SlotKind::Write },
        ];
        let stop =
            |exception, dr6| stop_of(&kvm_debug_exit_arch { exception, dr6, ..Default::default() }, &slots);
        assert_eq!(stop(3, 0), Stop::Software);
        assert_eq!(stop(1, 0x4000), Stop::Step);
        assert_eq!(stop(1, 1), Stop::Hardware);
        assert_eq!(stop(1, 2), Stop::Watch(slots[1]));
        assert_eq!(stop(1, 0), Stop::Step);
    }
}
