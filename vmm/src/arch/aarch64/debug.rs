//! A vCPU in the hands of a debugger: its registers, its stops, and its addresses.

use std::{arch::asm, collections::BTreeSet, mem::offset_of};

use gdbstub_arch::aarch64::{AArch64, reg::AArch64CoreRegs};
use kvm_bindings::{
    KVM_CAP_GUEST_DEBUG_HW_BPS, KVM_CAP_GUEST_DEBUG_HW_WPS, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP,
    KVM_GUESTDBG_USE_HW, KVM_GUESTDBG_USE_SW_BP, KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_SIZE_U32,
    KVM_REG_SIZE_U128, KVMIO, kvm_debug_exit_arch, kvm_guest_debug, kvm_guest_debug_arch, kvm_regs,
    user_fpsimd_state, user_pt_regs,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::ioctl_iow_nr;

use super::{
    mmio::translation::{SCTLR_EL1, Translation, system_register},
    vcpu::{self, core, one_register, set_one_register},
};
use crate::arch::stops::{Facilities, Slot, SlotKind, Stop, Stops};

ioctl_iow_nr!(KVM_SET_GUEST_DEBUG, KVMIO, 0x9b, kvm_guest_debug);

/// The architecture, as gdb knows it.
pub type GdbArch = AArch64;
/// The registers, as gdb knows them.
pub type GdbRegisters = AArch64CoreRegs;
/// The state that a vCPU needs back after a step: the interrupt masks, if the step changed them.
pub type Stepping = Option<u64>;

/// BRK #0.
const TRAP: &[u8] = &0xd420_0000_u32.to_le_bytes();

const PSTATE: u64 = core(offset_of!(user_pt_regs, pstate));
const SP_EL0: u64 = core(offset_of!(user_pt_regs, sp));
const SP_EL1: u64 = core(offset_of!(kvm_regs, sp_el1));
const ELR_EL1: u64 = core(offset_of!(kvm_regs, elr_el1));
const SPSR_EL1: u64 = core(offset_of!(kvm_regs, spsr));
const ESR_EL1: u64 = system_register(5, 2, 0);
const VBAR_EL1: u64 = system_register(12, 0, 0);

/// PSTATE (Arm ARM, C5.2.19, SPSR_EL1): IRQ and FIQ masked, all of D, A, I and F, the mode, and what an exception keeps.
const MASKS: u64 = 0b11 << 6;
const DAIF: u64 = 0b1111 << 6;
const MODE: u64 = 0xf;
const EL1H: u64 = 0b0101;
const PAN: u64 = 1 << 22;
const FLAGS: u64 = 0xf << 28;
/// SCTLR_EL1: an exception leaves PAN as it is.
const SCTLR_SPAN: u64 = 1 << 23;
/// The size of the table of vectors.
const VECTORS: u64 = 0x800;

/// Exception classes (Arm ARM, D17.2.37, ESR_EL1), for exceptions from a lower level.
const BREAKPOINT: u32 = 0x30;
const STEP: u32 = 0x32;
const WATCHPOINT: u32 = 0x34;
const BRK: u32 = 0x3c;

/// A SIMD register.
const fn vector(number: usize) -> u64 {
    KVM_REG_ARM64
        | KVM_REG_SIZE_U128
        | KVM_REG_ARM_CORE as u64
        | ((offset_of!(kvm_regs, fp_regs) + offset_of!(user_fpsimd_state, vregs) + number * 16) / 4) as u64
}

/// A register of 32 bits at this offset of user_fpsimd_state.
const fn of_simd(offset: usize) -> u64 {
    KVM_REG_ARM64
        | KVM_REG_SIZE_U32
        | KVM_REG_ARM_CORE as u64
        | ((offset_of!(kvm_regs, fp_regs) + offset) / 4) as u64
}

const FPSR: u64 = of_simd(offset_of!(user_fpsimd_state, fpsr));
const FPCR: u64 = of_simd(offset_of!(user_fpsimd_state, fpcr));

/// The requests that a vCPU's thread makes of KVM for a debugger, besides those for accesses that KVM does not decode.
pub fn debug_requests() -> Vec<u64> {
    vec![KVM_SET_GUEST_DEBUG()]
}

/// What this KVM offers a debugger.
pub fn facilities(kvm: &Kvm) -> Facilities {
    let count = |capability: u32| usize::try_from(kvm.check_extension_raw(capability.into())).unwrap_or(0);
    let (execute, data) = (count(KVM_CAP_GUEST_DEBUG_HW_BPS), count(KVM_CAP_GUEST_DEBUG_HW_WPS));
    Facilities { trap: TRAP, reports_trap: true, execute, data, together: execute + data }
}

/// The stack pointer that is in use.
fn stack_pointer(pstate: u64) -> u64 {
    if pstate & MODE == EL1H { SP_EL1 } else { SP_EL0 }
}

fn read_u32(vcpu: &VcpuFd, name: u64) -> Result<u32, kvm_ioctls::Error> {
    let mut bytes = [0; 4];
    vcpu.get_one_reg(name, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// The registers of a vCPU that does not run.
///
/// # Errors
/// Those of the ioctls.
pub fn read_registers(vcpu: &VcpuFd) -> Result<GdbRegisters, kvm_ioctls::Error> {
    let pstate = one_register(vcpu, PSTATE)?;
    let mut registers = GdbRegisters {
        sp: one_register(vcpu, stack_pointer(pstate))?,
        pc: vcpu::pc(vcpu)?,
        cpsr: u32::try_from(pstate & u64::from(u32::MAX)).unwrap_or_default(),
        fpsr: read_u32(vcpu, FPSR)?,
        fpcr: read_u32(vcpu, FPCR)?,
        ..Default::default()
    };
    for (number, value) in (0..).zip(&mut registers.x) {
        *value = vcpu::register(vcpu, number)?;
    }
    for (number, value) in registers.v.iter_mut().enumerate() {
        let mut bytes = [0; 16];
        vcpu.get_one_reg(vector(number), &mut bytes)?;
        *value = u128::from_le_bytes(bytes);
    }
    Ok(registers)
}

/// Changes the registers of a vCPU that does not run.
///
/// # Errors
/// Those of the ioctls.
pub fn write_registers(vcpu: &VcpuFd, registers: &GdbRegisters) -> Result<(), kvm_ioctls::Error> {
    let pstate = u64::from(registers.cpsr);
    set_one_register(vcpu, PSTATE, pstate)?;
    set_one_register(vcpu, stack_pointer(pstate), registers.sp)?;
    vcpu::set_pc(vcpu, registers.pc)?;
    for (number, value) in (0..).zip(registers.x) {
        vcpu::set_register(vcpu, number, value)?;
    }
    for (number, value) in registers.v.iter().enumerate() {
        vcpu.set_one_reg(vector(number), &value.to_le_bytes())?;
    }
    vcpu.set_one_reg(FPSR, &registers.fpsr.to_le_bytes())?;
    vcpu.set_one_reg(FPCR, &registers.fpcr.to_le_bytes()).map(drop)
}

/// Lets the vCPU stop at `stops`, and after one instruction if it `steps`. Without either it runs as without a debugger.
///
/// A step would end in the handler of an interrupt, so interrupts are masked for it, unless the instruction reads or changes the
/// masks. [`end_step`] restores them.
///
/// # Errors
/// Those of the ioctls.
pub fn set_stops(
    vcpu: &VcpuFd,
    memory: &GuestMemoryMmap,
    stops: &Stops,
    steps: bool,
) -> Result<Stepping, kvm_ioctls::Error> {
    let mut debug = kvm_guest_debug { control: 0, pad: 0, arch: debug_registers(&stops.slots) };
    if stops.software {
        debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
    }
    if !stops.slots.is_empty() {
        debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW;
    }
    let mut changed = None;
    if steps {
        debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
        let pc = vcpu::pc(vcpu)?;
        let instruction = physical(vcpu, memory, pc)
            .and_then(|address| memory.read_obj::<u32>(GuestAddress(address)).ok())
            .map(u32::from_le);
        let pstate = one_register(vcpu, PSTATE)?;
        if pstate & MASKS != MASKS && !instruction.is_none_or(uses_masks) {
            set_one_register(vcpu, PSTATE, pstate | MASKS)?;
            changed = Some(pstate & MASKS);
        }
    }
    vcpu.set_guest_debug(&debug)?;
    Ok(changed)
}

/// Whether an instruction reads or writes PSTATE.I and PSTATE.F, or takes an exception that saves them: MRS and MSR of DAIF,
/// MSR DAIFSet and DAIFClr, ERET, SVC, HVC, SMC, BRK (Arm ARM, C6.2).
fn uses_masks(instruction: u32) -> bool {
    let daif = instruction & 0xffdf_ffe0 == 0xd51b_4220;
    let immediate = instruction & 0xffff_f0df == 0xd503_40df;
    let returns = instruction & 0xffff_f3e0 == 0xd69f_03e0;
    let exception = instruction >> 24 == 0xd4;
    daif || immediate || returns || exception
}

/// Restores the interrupt masks that a step changed. If it ended in an exception, that has saved them.
///
/// # Errors
/// Those of the ioctls.
pub fn end_step(vcpu: &VcpuFd, stepping: Stepping) -> Result<(), kvm_ioctls::Error> {
    let Some(masks) = stepping else { return Ok(()) };
    let (pc, vectors) = (vcpu::pc(vcpu)?, one_register(vcpu, VBAR_EL1)?);
    let name = if pc.wrapping_sub(vectors) < VECTORS { SPSR_EL1 } else { PSTATE };
    let pstate = one_register(vcpu, name)?;
    set_one_register(vcpu, name, pstate & !MASKS | masks)
}

/// The debug registers that make these slots (Arm ARM, D17.3, DBGBCR and DBGWCR). All levels of the guest count.
fn debug_registers(slots: &[Slot]) -> kvm_guest_debug_arch {
    const ENABLED_AT_EL0_AND_EL1: u64 = 1 | 0b11 << 1;
    const ALL_BYTES_OF_A_WORD: u64 = 0xf << 5;
    let mut registers = kvm_guest_debug_arch::default();
    let (mut execute, mut data) = (0, 0);
    for slot in slots {
        if slot.kind == SlotKind::Execute {
            let Some(control) = registers.dbg_bcr.get_mut(execute) else { continue };
            *control = ENABLED_AT_EL0_AND_EL1 | ALL_BYTES_OF_A_WORD;
            registers.dbg_bvr[execute] = slot.address & !3;
            execute += 1;
            continue;
        }
        let Some(control) = registers.dbg_wcr.get_mut(data) else { continue };
        let bytes = ((1_u64 << slot.length.min(8)) - 1) << (slot.address & 7) & 0xff;
        let access = match slot.kind {
            SlotKind::Read => 0b01,
            SlotKind::Write => 0b10,
            SlotKind::Access | SlotKind::Execute => 0b11,
        };
        *control = ENABLED_AT_EL0_AND_EL1 | access << 3 | bytes << 5;
        registers.dbg_wvr[data] = slot.address & !7;
        data += 1;
    }
    registers
}

/// Whether a vCPU may have stopped at a breakpoint instruction that KVM does not report. Here KVM reports all.
pub fn may_be_trap(_: &VcpuExit<'_>) -> bool {
    false
}

/// If a vCPU stopped at such an instruction, lets it stand there. Returns whether it does: never.
///
/// # Errors
/// None here.
pub fn stand_at_trap(_: &mut VcpuFd, _: &BTreeSet<u64>) -> Result<bool, kvm_ioctls::Error> {
    Ok(false)
}

fn class(exit: &kvm_debug_exit_arch) -> u32 {
    exit.hsr >> 26
}

/// The address of the breakpoint instruction, if one ended the vCPU's run.
///
/// # Errors
/// Those of the ioctl.
pub fn breakpoint_of(vcpu: &VcpuFd, exit: &kvm_debug_exit_arch) -> Result<Option<u64>, kvm_ioctls::Error> {
    if class(exit) == BRK { vcpu::pc(vcpu).map(Some) } else { Ok(None) }
}

/// Hands a breakpoint instruction of the guest's own to the guest, as WARN() has one: the exception is taken at EL1 (Arm ARM,
/// D1.3.4, "Exception entry").
///
/// # Errors
/// Those of the ioctls.
pub fn inject_breakpoint(
    vcpu: &VcpuFd,
    exit: &kvm_debug_exit_arch,
    _: &Stops,
) -> Result<(), kvm_ioctls::Error> {
    let (pstate, pc) = (one_register(vcpu, PSTATE)?, vcpu::pc(vcpu)?);
    let vector = match pstate & MODE {
        0 => 0x400,
        EL1H => 0x200,
        _ => 0,
    };
    let keeps_pan = one_register(vcpu, SCTLR_EL1)? & SCTLR_SPAN != 0;
    let pan = if keeps_pan { pstate & PAN } else { PAN };
    set_one_register(vcpu, ELR_EL1, pc)?;
    set_one_register(vcpu, SPSR_EL1, pstate)?;
    set_one_register(vcpu, ESR_EL1, exit.hsr.into())?;
    set_one_register(vcpu, PSTATE, pstate & FLAGS | pan | DAIF | EL1H)?;
    let vectors = one_register(vcpu, VBAR_EL1)?;
    vcpu::set_pc(vcpu, vectors.wrapping_add(vector))
}

/// Why a vCPU with these slots stopped.
pub fn stop_of(exit: &kvm_debug_exit_arch, slots: &[Slot]) -> Stop {
    /// The most bytes of an access before the watched one that FAR may name: those of LDP of two vector registers.
    const BEFORE: u64 = 32;
    match class(exit) {
        BREAKPOINT => Stop::Hardware,
        STEP => Stop::Step,
        WATCHPOINT => {
            let watched = slots.iter().filter(|slot| slot.kind != SlotKind::Execute);
            let distance = |slot: &&Slot| {
                let behind = exit.far.wrapping_sub(slot.address);
                if behind < slot.length.into() { 0 } else { slot.address.wrapping_sub(exit.far).min(behind) }
            };
            let nearest = watched.min_by_key(distance).filter(|slot| distance(slot) <= BEFORE);
            nearest.map_or(Stop::Step, |slot| Stop::Watch(*slot))
        }
        _ => Stop::Software,
    }
}

/// The guest-physical address of a virtual one, if it is mapped.
pub fn physical(vcpu: &VcpuFd, memory: &GuestMemoryMmap, address: u64) -> Option<u64> {
    Translation::of(vcpu).ok()?.physical(memory, address)
}

/// Lets the CPUs see instructions that were written to `length` bytes from `start`, which are mapped.
pub fn show_instructions(start: *const u8, length: usize) {
    // The smallest lines of caches that the architecture has are longer.
    const LINE: usize = 16;
    let first = start as usize & !(LINE - 1);
    for address in (first..start as usize + length).step_by(LINE) {
        // SAFETY: maintenance of caches changes no byte, and Linux lets user space do it (SCTLR_EL1.UCI).
        unsafe {
            asm!(
                "dc cvau, {0}", "dsb ish", "ic ivau, {0}", "dsb ish", "isb",
                in(reg) address, options(nostack, preserves_flags)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_become_debug_registers() {
        let slot = |address, length, kind| Slot { address, length, kind };
        let registers = debug_registers(&[
            slot(0x2004, 4, SlotKind::Write),
            slot(0x1000, 1, SlotKind::Execute),
            slot(0x3000, 8, SlotKind::Access),
        ]);
        assert_eq!((registers.dbg_bcr[0], registers.dbg_bvr[0]), (0x1e7, 0x1000));
        assert_eq!((registers.dbg_wcr[0], registers.dbg_wvr[0]), (0xf0 << 5 | 0b10 << 3 | 7, 0x2000));
        assert_eq!((registers.dbg_wcr[1], registers.dbg_wvr[1]), (0xff << 5 | 0b11 << 3 | 7, 0x3000));
    }

    #[test]
    fn exits_become_stops() {
        let slots = [
            Slot { address: 0x10, length: 4, kind: SlotKind::Execute },
            Slot { address: 0x2008, length: 4, kind: SlotKind::Write },
        ];
        let stop = |class: u32, far| {
            let exit = kvm_debug_exit_arch { hsr: class << 26, far, ..Default::default() };
            stop_of(&exit, &slots)
        };
        assert_eq!(stop(BRK, 0), Stop::Software);
        assert_eq!(stop(STEP, 0), Stop::Step);
        assert_eq!(stop(BREAKPOINT, 0), Stop::Hardware);
        // A store of 16 bytes that begins before the watched ones.
        assert_eq!(stop(WATCHPOINT, 0x2000), Stop::Watch(slots[1]));
        assert_eq!(stop(WATCHPOINT, 0x200b), Stop::Watch(slots[1]));
        assert_eq!(stop(WATCHPOINT, 0x9000), Stop::Step);
    }

    #[test]
    fn instructions_that_use_interrupt_masks_are_known() {
        // msr daifset, #2; msr daifclr, #2; mrs x0, daif; msr daif, x1; eret; svc #0; brk #0x800
        for instruction in
            [0xd503_42df, 0xd503_42ff, 0xd53b_4220, 0xd51b_4221, 0xd69f_03e0, 0xd400_0001, 0xd421_0000]
        {
            assert!(uses_masks(instruction), "{instruction:#x}");
        }
        // nop; ret; ldr x0, [x1]; mrs x0, sp_el0; b .
        for instruction in [0xd503_201f, 0xd65f_03c0, 0xf940_0020, 0xd538_4100, 0x1400_0000] {
            assert!(!uses_masks(instruction), "{instruction:#x}");
        }
    }
}
