//! A tiny guest that makes a system call.

use std::arch::global_asm;

use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use vm_memory::{Bytes, GuestAddress};

use super::vcpu;
use crate::{
    arch::{create::create_vm, fitness::accept},
    boot::memory,
};

/// The mode that a kernel runs in, its level, and the instruction that leads to it.
pub const KERNEL_MODE: &str = "EL1";
/// See [`KERNEL_MODE`].
pub const KERNEL_LEVEL: u8 = 1;
/// See [`KERNEL_MODE`].
pub const SYSCALL: &str = "SVC";

/// Where the guest's code is; nothing else is in its memory, and a store elsewhere leaves it.
const CODE: u64 = 0x1_0000;
const MEMORY: u64 = 0x20_0000;
/// The vectors: VBAR_EL1 is a multiple of 2 KiB.
const VECTORS: u64 = 0x2_0000;
const RESULT: u64 = MEMORY;

// The vector of a synchronous exception from a lower level that uses AArch64 is at 0x400.
global_asm!(
    ".pushsection .rodata.minivmm_probe, \"a\"",
    ".balign 4",
    ".global minivmm_probe_syscall, minivmm_probe_vector, minivmm_probe_end",
    "minivmm_probe_syscall:",
    "mov x1, #{vectors}",
    "msr vbar_el1, x1",
    "adr x1, 3f",
    "msr elr_el1, x1",
    // To EL0, with interrupts masked.
    "mov x1, #0x3c0",
    "msr spsr_el1, x1",
    "eret",
    "3: svc #0",
    "minivmm_probe_vector:",
    "mrs x2, CurrentEL",
    "lsr x2, x2, #2",
    "mov x1, #{result}",
    "strb w2, [x1]",
    "minivmm_probe_end:",
    ".popsection",
    result = const RESULT,
    vectors = const VECTORS,
);

unsafe extern "C" {
    static minivmm_probe_syscall: u8;
    static minivmm_probe_vector: u8;
    static minivmm_probe_end: u8;
}

/// The guest's code, and the offset of its second part.
fn code() -> (&'static [u8], usize) {
    let start = &raw const minivmm_probe_syscall;
    let offset = |label: *const u8| label as usize - start as usize;
    let length = offset(&raw const minivmm_probe_end);
    // SAFETY: the labels enclose `length` bytes of this program's read-only data.
    let bytes = unsafe { std::slice::from_raw_parts(start, length) };
    (bytes, offset(&raw const minivmm_probe_vector))
}

/// Runs the tiny guest; takes milliseconds.
///
/// # Errors
/// Why Linux cannot run on this KVM, for a person to read.
pub fn probe(kvm: &Kvm) -> Result<(), String> {
    /// The vector for a synchronous exception from EL0 in AArch64.
    const LOWER_EL_SYNC: u64 = 0x400;
    let (bytes, vector) = code();
    let memory = memory::create(&[0..MEMORY], false).map_err(|error| error.to_string())?;
    memory
        .write_slice(bytes, GuestAddress(CODE))
        .and_then(|()| memory.write_slice(&bytes[vector..], GuestAddress(VECTORS + LOWER_EL_SYNC)))
        .map_err(|error| error.to_string())?;
    let ioctl = |error: kvm_ioctls::Error| format!("KVM refused a small virtual machine: {error}");
    let vm = create_vm(kvm).map_err(ioctl)?;
    memory::register(&vm, &memory).map_err(ioctl)?;
    let mut vcpu = vm.create_vcpu(0).map_err(ioctl)?;
    vcpu::init(&vm, &vcpu, 0).map_err(ioctl)?;

    vcpu::start_at(&vcpu, CODE, 0).map_err(ioctl)?;
    accept(run_to_result(&mut vcpu)?, KERNEL_LEVEL, SYSCALL)
}

fn run_to_result(vcpu: &mut VcpuFd) -> Result<u8, String> {
    loop {
        match vcpu.run() {
            Ok(VcpuExit::MmioWrite(RESULT, &[value])) => return Ok(value),
            Ok(VcpuExit::Intr) => {}
            Ok(exit) => return Err(format!("a tiny guest stopped with {exit:?}")),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(format!("a tiny guest could not run: {error}")),
        }
    }
}
