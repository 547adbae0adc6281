//! vCPUs of an x86_64 guest: CPUID, registers at the start, exits, and when a CPU has halted for good.

use std::ops::ControlFlow;

use devices::bus::Bus;
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED,
    KVM_MP_STATE_UNINITIALIZED, Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment,
};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::{layout, options::Options};
use crate::arch::exit::VcpuEnd;

/// The capabilities that minivmm needs of KVM.
pub const NEEDED: &[(Cap, &str)] = &[
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
];

/// Three pages that Intel's VMX needs somewhere in the gap below 4 GiB (KVM_SET_TSS_ADDR).
const TSS_ADDRESS: usize = 0xfffb_d000;

/// Null, null, code, data: flat, 64-bit (boot.rst wants __BOOT_CS 0x10 and __BOOT_DS 0x18).
pub(super) const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Sets up what belongs to the whole VM; before anything else.
///
/// # Errors
/// Those of the ioctl.
pub fn set_up_vm(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    vm.set_tss_address(TSS_ADDRESS)
}

/// The local APICs, the I/O APIC and the PICs, in the kernel.
#[derive(Debug)]
pub struct InterruptControllers;

impl InterruptControllers {
    /// Creates them; before the first vCPU.
    ///
    /// # Errors
    /// Those of the ioctls.
    pub fn create(vm: &VmFd, _cpus: u8, _options: &Options) -> Result<Self, kvm_ioctls::Error> {
        vm.create_irq_chip()?;
        Ok(Self)
    }

    /// Makes them ready for interrupts; after the last vCPU.
    ///
    /// # Errors
    /// None here.
    pub fn start(&self) -> Result<(), kvm_ioctls::Error> {
        Ok(())
    }
}

/// Sets up vCPU `index` of `cpus`: the first starts at `entry`, the others wait for its INIT and SIPI.
///
/// # Errors
/// Those of the ioctls.
pub fn set_up_vcpu(
    kvm: &Kvm,
    _: &VmFd,
    vcpu: &VcpuFd,
    index: u8,
    cpus: u8,
    entry: GuestAddress,
) -> Result<(), kvm_ioctls::Error> {
    vcpu.set_cpuid2(&cpuid(kvm, index, cpus)?)?;
    set_up_local_apic(vcpu)?;
    if index == 0 {
        set_up_registers(vcpu, entry)?;
    }
    Ok(())
}

fn cpuid(kvm: &Kvm, index: u8, cpus: u8) -> Result<CpuId, kvm_ioctls::Error> {
    const TSC_DEADLINE: u32 = 1 << 24;
    const HYPERVISOR: u32 = 1 << 31;
    const HTT: u32 = 1 << 28;
    let mut cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    let apic_id = u32::from(index);
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            0x1 => {
                // Without these two, Linux looks for a PIT and panics when there is none (setup_IO_APIC).
                entry.ecx |= HYPERVISOR | TSC_DEADLINE;
                entry.ebx = entry.ebx & 0x0000_ffff | u32::from(cpus) << 16 | apic_id << 24;
                if cpus > 1 {
                    entry.edx |= HTT;
                }
            }
            // Extended topology: every CPU a core of its own, one package.
            0xb | 0x1f => {
                entry.edx = apic_id;
                (entry.eax, entry.ebx, entry.ecx) = match entry.index {
                    0 => (0, 1, 1 << 8),
                    1 => (8, u32::from(cpus), 2 << 8 | 1),
                    level => (0, 0, level),
                };
            }
            _ => {}
        }
    }
    Ok(cpuid)
}

fn set_up_local_apic(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    const LVT_LINT0: usize = 0x350;
    const LVT_LINT1: usize = 0x360;
    const DELIVERY_NMI: u32 = 0b100 << 8;
    const DELIVERY_EXTINT: u32 = 0b111 << 8;
    let mut lapic = vcpu.get_lapic()?;
    for (register, value) in [(LVT_LINT0, DELIVERY_EXTINT), (LVT_LINT1, DELIVERY_NMI)] {
        for (at, byte) in value.to_le_bytes().into_iter().enumerate() {
            lapic.regs[register + at] = i8::from_ne_bytes([byte]);
        }
    }
    vcpu.set_lapic(&lapic)
}

fn set_up_registers(vcpu: &VcpuFd, entry: GuestAddress) -> Result<(), kvm_ioctls::Error> {
    const CR0_PE: u64 = 1;
    const CR0_ET: u64 = 1 << 4;
    const CR0_PG: u64 = 1 << 31;
    const CR4_PAE: u64 = 1 << 5;
    const EFER_LME: u64 = 1 << 8;
    const EFER_LMA: u64 = 1 << 10;
    const MSR_MISC_ENABLE: u32 = 0x1a0;
    const FAST_STRINGS: u64 = 1;

    let mut sregs = vcpu.get_sregs()?;
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = 8 * 4 - 1;
    let segment = kvm_segment { base: 0, limit: 0xffff_ffff, present: 1, s: 1, g: 1, ..Default::default() };
    sregs.cs = kvm_segment { selector: 0x10, type_: 0xb, l: 1, ..segment };
    let data = kvm_segment { selector: 0x18, type_: 0x3, db: 1, ..segment };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
    sregs.cr3 = layout::PAGE_TABLES;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
    vcpu.set_sregs(&sregs)?;

    vcpu.set_regs(&kvm_regs {
        rflags: 2,
        rip: entry.0,
        rsp: layout::STACK_TOP,
        rsi: layout::ZERO_PAGE,
        ..Default::default()
    })?;
    vcpu.set_fpu(&kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() })?;
    let fast_strings = kvm_msr_entry { index: MSR_MISC_ENABLE, data: FAST_STRINGS, ..Default::default() };
    if let Ok(msrs) = Msrs::from_entries(&[fast_strings]) {
        // A host that lacks the register sets none of the list; the guest only loses a hint.
        vcpu.set_msrs(&msrs)?;
    }
    Ok(())
}

/// Whether the vCPU can never run again by itself: halted with interrupts off, or never started.
///
/// # Errors
/// Those of the ioctls.
pub fn halted_for_good(vcpu: &VcpuFd) -> Result<bool, kvm_ioctls::Error> {
    const RFLAGS_IF: u64 = 1 << 9;
    Ok(match vcpu.get_mp_state()?.mp_state {
        KVM_MP_STATE_UNINITIALIZED | KVM_MP_STATE_INIT_RECEIVED => true,
        KVM_MP_STATE_HALTED => vcpu.get_regs()?.rflags & RFLAGS_IF == 0,
        _ => false,
    })
}

/// The program counter.
///
/// # Errors
/// Those of the ioctl.
pub fn pc(vcpu: &VcpuFd) -> Result<u64, kvm_ioctls::Error> {
    vcpu.get_regs().map(|regs| regs.rip)
}

/// Handles this architecture's own exits: the guest goes on, or it ends, or KVM cannot run it any further (then the exit, for a
/// person to read).
pub fn handle_exit(exit: VcpuExit) -> ControlFlow<Result<VcpuEnd, String>> {
    const I8042_COMMAND: u16 = 0x64;
    const I8042_RESET: u8 = 0xfe;
    match exit {
        // There are no I/O ports: they read as ones, as on a PC.
        VcpuExit::IoIn(_, data) => data.fill(0xff),
        // The keyboard controller's reset command, which Linux tries first without `reboot=t`.
        VcpuExit::IoOut(I8042_COMMAND, &[I8042_RESET]) => return ControlFlow::Break(Ok(VcpuEnd::Reset)),
        VcpuExit::IoOut(..) => {}
        // Only without interrupt controllers in the kernel.
        VcpuExit::Hlt => return ControlFlow::Break(Ok(VcpuEnd::Halted)),
        VcpuExit::Shutdown => return ControlFlow::Break(Ok(VcpuEnd::Reset)),
        exit => return ControlFlow::Break(Err(format!("{exit:?}"))),
    }
    ControlFlow::Continue(())
}

/// Handles an exit that kvm-ioctls does not name. None is expected.
///
/// # Errors
/// Always: the guest cannot go on.
pub fn handle_unnamed_exit(reason: u32, _: &mut VcpuFd, _: &GuestMemoryMmap, _: &Bus) -> Result<(), String> {
    Err(format!("exit reason {reason}"))
}
