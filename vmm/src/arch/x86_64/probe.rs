//! A tiny guest that makes a system call and does in ring 0 what Linux does there.

use std::{arch::global_asm, path::Path};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::{
    arch::{create::create_vm, fitness::accept},
    boot::memory,
};

/// The mode that a kernel runs in, its level, and the instruction that leads to it.
pub const KERNEL_MODE: &str = "ring 0";
/// See [`KERNEL_MODE`].
pub const KERNEL_LEVEL: u8 = 0;
/// See [`KERNEL_MODE`].
pub const SYSCALL: &str = "SYSCALL";

/// There where KVM is this module.
const PVM: &str = "/sys/module/kvm_pvm";
const PAGE_TABLES: u64 = 0x1000;
const GDT: u64 = 0x4000;
/// Where the code lies.
pub(super) const CODE: u64 = 0x5000;
const RESULT_PORT: u16 = 0x10;
/// Kernel code, kernel data, user code (32-bit, unused), user data, user code: SYSCALL takes the first two.
const DESCRIPTORS: [u64; 6] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
];

global_asm!(
    ".pushsection .rodata.minivmm_probe",
    ".global minivmm_probe_syscall, minivmm_probe_sse2, minivmm_probe_handler, minivmm_probe_end",
    "minivmm_probe_syscall:",
    "syscall",
    "hlt",
    "minivmm_probe_sse2:",
    "pxor xmm0, xmm0",
    "out 0x10, al",
    "hlt",
    "minivmm_probe_handler:",
    "mov eax, cs",
    "out 0x10, al",
    "hlt",
    "minivmm_probe_end:",
    ".popsection",
);

unsafe extern "C" {
    static minivmm_probe_syscall: u8;
    static minivmm_probe_sse2: u8;
    static minivmm_probe_handler: u8;
    static minivmm_probe_end: u8;
}

/// The guest's code, and the offsets of its second and third part.
fn code() -> (&'static [u8], u64, u64) {
    let start = &raw const minivmm_probe_syscall;
    let offset = |label: *const u8| label as usize - start as usize;
    let length = offset(&raw const minivmm_probe_end);
    // SAFETY: the labels enclose `length` bytes of this program's read-only data.
    let bytes = unsafe { std::slice::from_raw_parts(start, length) };
    let sse2 = offset(&raw const minivmm_probe_sse2) as u64;
    let handler = offset(&raw const minivmm_probe_handler) as u64;
    (bytes, sse2, handler)
}

/// Runs the tiny guest; takes milliseconds.
///
/// # Errors
/// Why Linux cannot run on this KVM, for a person to read.
pub fn probe(kvm: &Kvm) -> Result<(), String> {
    run(kvm).map_err(|reason| {
        // The guest's behaviour decides, the module explains it.
        let explained = Path::new(PVM).exists();
        reason + if explained { " (its module kvm_pvm works without hardware virtualization)" } else { "" }
    })
}

fn run(kvm: &Kvm) -> Result<(), String> {
    let (bytes, sse2, handler) = code();
    let memory = memory::create(&[0..0x20_0000], false).map_err(|error| error.to_string())?;
    write_memory(&memory, bytes).map_err(|error| error.to_string())?;
    let ioctl = |error: kvm_ioctls::Error| format!("KVM refused a small virtual machine: {error}");
    let vm = create_vm(kvm).map_err(ioctl)?;
    memory::register(&vm, &memory).map_err(ioctl)?;
    let mut vcpu = vm.create_vcpu(0).map_err(ioctl)?;
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(ioctl)?;
    vcpu.set_cpuid2(&cpuid).map_err(ioctl)?;
    set_msrs(&vcpu, CODE + handler).map_err(ioctl)?;

    set_registers(&vcpu, CODE, 3).map_err(ioctl)?;
    accept(run_to_result(&mut vcpu)? & 3, KERNEL_LEVEL, SYSCALL)?;

    // KVM does not emulate this instruction: where it interprets ring 0, it gives up with KVM_EXIT_INTERNAL_ERROR.
    set_registers(&vcpu, CODE + sse2, 0).map_err(ioctl)?;
    run_to_result(&mut vcpu)
        .map(drop)
        .map_err(|error| format!("its {KERNEL_MODE} does not run SSE2: {error}"))
}

/// Page tables, descriptors and `code` at [`CODE`].
pub(super) fn write_memory(memory: &GuestMemoryMmap, code: &[u8]) -> Result<(), vm_memory::GuestMemoryError> {
    const PRESENT_WRITABLE_USER: u64 = 0b111;
    const LARGE: u64 = 1 << 7;
    memory.write_obj((PAGE_TABLES + 0x1000) | PRESENT_WRITABLE_USER, GuestAddress(PAGE_TABLES))?;
    memory.write_obj((PAGE_TABLES + 0x2000) | PRESENT_WRITABLE_USER, GuestAddress(PAGE_TABLES + 0x1000))?;
    memory.write_obj(PRESENT_WRITABLE_USER | LARGE, GuestAddress(PAGE_TABLES + 0x2000))?;
    for (index, descriptor) in (0..).zip(DESCRIPTORS) {
        memory.write_obj(descriptor, GuestAddress(GDT + 8 * index))?;
    }
    memory.write_slice(code, GuestAddress(CODE))
}

fn set_msrs(vcpu: &VcpuFd, handler: u64) -> Result<(), kvm_ioctls::Error> {
    const MSR_STAR: u32 = 0xc000_0081;
    const MSR_LSTAR: u32 = 0xc000_0082;
    /// Kernel selectors from 0x08, user selectors from 0x18.
    const STAR: u64 = 0x08 << 32 | 0x18 << 48;
    let entries = [
        kvm_msr_entry { index: MSR_STAR, data: STAR, ..Default::default() },
        kvm_msr_entry { index: MSR_LSTAR, data: handler, ..Default::default() },
    ];
    if let Ok(msrs) = Msrs::from_entries(&entries) {
        vcpu.set_msrs(&msrs)?;
    }
    Ok(())
}

/// Lets the vCPU start at `rip`, in ring `level`.
pub(super) fn set_registers(vcpu: &VcpuFd, rip: u64, level: u8) -> Result<(), kvm_ioctls::Error> {
    const CR0_PE_PG: u64 = 1 | 1 << 31;
    const CR4_PAE_OSFXSR: u64 = 1 << 5 | 1 << 9;
    const EFER_SCE_LME_LMA: u64 = 1 | 1 << 8 | 1 << 10;
    // Lets OUT work at every level.
    const RFLAGS_IOPL3: u64 = 3 << 12 | 2;
    let mut sregs = vcpu.get_sregs()?;
    let (code, data) = if level == 0 { (0x08, 0x10) } else { (0x28 | 3, 0x20 | 3) };
    let segment =
        kvm_segment { limit: 0xffff_ffff, present: 1, s: 1, g: 1, dpl: level, ..Default::default() };
    sregs.cs = kvm_segment { selector: code, type_: 0xb, l: 1, ..segment };
    let data = kvm_segment { selector: data, type_: 0x3, db: 1, ..segment };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.gdt.base = GDT;
    sregs.gdt.limit = 8 * 6 - 1;
    sregs.cr0 |= CR0_PE_PG;
    sregs.cr3 = PAGE_TABLES;
    sregs.cr4 |= CR4_PAE_OSFXSR;
    sregs.efer = EFER_SCE_LME_LMA;
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs { rip, rsp: 0x8000, rflags: RFLAGS_IOPL3, ..Default::default() })
}

fn run_to_result(vcpu: &mut VcpuFd) -> Result<u8, String> {
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(RESULT_PORT, &[value])) => return Ok(value),
            Ok(VcpuExit::Intr) => {}
            Ok(exit) => return Err(format!("a tiny guest stopped with {exit:?}")),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(format!("a tiny guest could not run: {error}")),
        }
    }
}
