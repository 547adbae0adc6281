//! vCPUs of an aarch64 guest: registers at the start, exits, and when a CPU is off.

use std::{mem::offset_of, ops::ControlFlow};

use kvm_bindings::{
    KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2, KVM_MP_STATE_STOPPED, KVM_REG_ARM_CORE, KVM_REG_ARM64,
    KVM_REG_SIZE_U64, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_vcpu_init, user_pt_regs,
};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::GuestAddress;

use super::layout;
use crate::arch::exit::VcpuEnd;

/// The capabilities that minivmm needs of KVM.
pub const NEEDED: &[(Cap, &str)] = &[
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::DeviceCtrl, "KVM_CAP_DEVICE_CTRL"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::OneReg, "KVM_CAP_ONE_REG"),
    (Cap::ArmPsci02, "KVM_CAP_ARM_PSCI_0_2"),
];

/// The name that KVM_GET_ONE_REG and KVM_SET_ONE_REG have for a core register at this offset of user_pt_regs
/// (Documentation/virt/kvm/api.rst, 4.68: in units of 32 bits).
pub(super) const fn core(offset: usize) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | (offset / 4) as u64
}

/// The name of general register `number`.
const fn general(number: u8) -> u64 {
    core(offset_of!(user_pt_regs, regs) + number as usize * size_of::<u64>())
}

pub(super) const X0: u64 = general(0);
const PC: u64 = core(offset_of!(user_pt_regs, pc));
const PSTATE: u64 = core(offset_of!(user_pt_regs, pstate));
/// EL1 with its own stack pointer; debug, SError, IRQ and FIQ masked (booting.rst, "CPU mode").
const PSTATE_EL1H_MASKED: u64 = 0x3c5;

/// Sets up vCPU `index` of `cpus`: the first starts at `entry`, the others are off until PSCI's CPU_ON.
///
/// # Errors
/// Those of the ioctls.
pub fn set_up_vcpu(
    _: &Kvm,
    vm: &VmFd,
    vcpu: &VcpuFd,
    index: u8,
    _: u8,
    entry: GuestAddress,
) -> Result<(), kvm_ioctls::Error> {
    let features = 1 << KVM_ARM_VCPU_PSCI_0_2 | u32::from(index != 0) << KVM_ARM_VCPU_POWER_OFF;
    init(vm, vcpu, features)?;
    if index == 0 {
        start_at(vcpu, entry.0, layout::TREE)?;
    }
    Ok(())
}

/// Makes it a CPU like the host's, with `features`.
pub(super) fn init(vm: &VmFd, vcpu: &VcpuFd, features: u32) -> Result<(), kvm_ioctls::Error> {
    let mut target = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut target)?;
    target.features[0] |= features;
    vcpu.vcpu_init(&target)
}

/// Lets it start at `pc`, at EL1, with `x0` in its first register.
pub(super) fn start_at(vcpu: &VcpuFd, pc: u64, x0: u64) -> Result<(), kvm_ioctls::Error> {
    for (register, value) in [(PSTATE, PSTATE_EL1H_MASKED), (PC, pc), (X0, x0)] {
        vcpu.set_one_reg(register, &value.to_le_bytes())?;
    }
    Ok(())
}

/// Whether the vCPU can never run again by itself: it is off (PSCI's CPU_OFF), or was never turned on.
///
/// # Errors
/// Those of the ioctls.
pub fn halted_for_good(vcpu: &VcpuFd) -> Result<bool, kvm_ioctls::Error> {
    Ok(vcpu.get_mp_state()?.mp_state == KVM_MP_STATE_STOPPED)
}

/// The program counter.
///
/// # Errors
/// Those of the ioctl.
pub fn pc(vcpu: &VcpuFd) -> Result<u64, kvm_ioctls::Error> {
    one_register(vcpu, PC)
}

/// Lets the vCPU go on at `pc`.
pub(super) fn set_pc(vcpu: &VcpuFd, pc: u64) -> Result<(), kvm_ioctls::Error> {
    set_one_register(vcpu, PC, pc)
}

/// General register `number`, 0 to 30.
pub(super) fn register(vcpu: &VcpuFd, number: u8) -> Result<u64, kvm_ioctls::Error> {
    one_register(vcpu, general(number))
}

/// Puts `value` into general register `number`, 0 to 30.
pub(super) fn set_register(vcpu: &VcpuFd, number: u8, value: u64) -> Result<(), kvm_ioctls::Error> {
    set_one_register(vcpu, general(number), value)
}

/// The register of 64 bits that KVM_GET_ONE_REG calls `name`.
pub(super) fn one_register(vcpu: &VcpuFd, name: u64) -> Result<u64, kvm_ioctls::Error> {
    let mut bytes = [0; 8];
    vcpu.get_one_reg(name, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Puts `value` into the register of 64 bits that KVM_SET_ONE_REG calls `name`.
pub(super) fn set_one_register(vcpu: &VcpuFd, name: u64, value: u64) -> Result<(), kvm_ioctls::Error> {
    vcpu.set_one_reg(name, &value.to_le_bytes()).map(drop)
}

/// Handles this architecture's own exits: the guest goes on, or it ends, or KVM cannot run it any further (then the exit, for a
/// person to read).
pub fn handle_exit(exit: VcpuExit) -> ControlFlow<Result<VcpuEnd, String>> {
    ControlFlow::Break(match exit {
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => Ok(VcpuEnd::PoweredOff),
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => Ok(VcpuEnd::Reset),
        exit => Err(format!("{exit:?}")),
    })
}
