//! x86_64: a KVM guest with the in-kernel interrupt controllers, booted in 64-bit mode, described by a tree alone.

mod boot;
mod core;
mod debug;
mod debug_probe;
mod fdt;
mod kernel_map;
mod layout;
mod numa;
mod options;
mod probe;
mod sandbox;
mod vcpu;

use devices::dma::CleanCaches;

use crate::boot::kernel_option::KernelOption;

pub use boot::{CMDLINE_MAX, KERNEL_FORMATS, LoadedKernel, NAME, load_kernel, write_boot_data};
pub use core::{CORE_REGISTERS, ELF_MACHINE, core_registers, core_requests, vmcoreinfo};
pub use debug::{
    GdbArch, GdbRegisters, Stepping, breakpoint_of, debug_requests, end_step, inject_breakpoint, may_be_trap,
    physical, read_registers, set_stops, show_instructions, stand_at_trap, stop_of, write_registers,
};
pub use debug_probe::facilities;
pub use fdt::{
    BUS_COMPATIBLE, INTERRUPT_PARENT, SHARED_COMPATIBLE, interrupt_specifier, write_cpus, write_root_nodes,
};
pub use kernel_map::{
    KERNEL_TABLES, KernelMap, image_offset, image_offset_by, kernel_page_bits, section_bits,
};
pub use layout::{
    INITRD_LIMIT, IRQS, MEMORY_MAX, MMIO_START, PAGEBLOCK, TREE_MAX_SIZE, ram, taken_before_linux,
};
pub use numa::{NUMA_HELP, nodes, numa_cmdline};
pub use options::Options;
pub use probe::{KERNEL_LEVEL, KERNEL_MODE, SYSCALL, probe};
pub use sandbox::{OLDER_CALLS, return_from_call, vcpu_requests};
pub use vcpu::{
    InterruptControllers, NEEDED, halted_for_good, handle_exit, handle_unnamed_exit, pc, set_up_vcpu,
    set_up_vm,
};

/// The kernel in a guest image that this machine boots.
pub const KERNEL_FILE: &str = "vmlinux";

/// The kernels that a build of Linux leaves in its folder, the preferred one first.
pub const KERNELS_OF_TREE: &[&str] = &["vmlinux", "arch/x86/boot/bzImage"];

/// This architecture's part of the kernel command line: a reset by a triple fault, which KVM reports.
pub const CMDLINE: &str = "reboot=t";

/// The options that Linux needs on this machine besides those of every architecture.
pub const KERNEL_OPTIONS: &[KernelOption] = &[
    KernelOption::built_in("X86_LOCAL_APIC", "has the local interrupt controllers"),
    KernelOption::built_in("X86_IO_APIC", "has the devices' interrupt controller"),
    KernelOption::built_in(
        "OF_EARLY_FLATTREE",
        "takes the device tree; CONFIG_OF_UNITTEST or minivmm's patch selects it",
    ),
    KernelOption::built_in("KVM_GUEST", "has the clock, as the machine has no PIT"),
];

/// The change of Linux that CMA windows need, for the end of a list of options.
pub const KERNEL_PATCH: &str = ", and the patch 0001-x86-of-reserved-memory.patch of minivmm's guest images";

/// The function that takes device writes past the caches to memory. There is none, as all DMA is coherent here.
pub const CLEAN_CACHES: Option<CleanCaches> = None;

/// Advice for a host without /dev/kvm.
pub const WITHOUT_KVM: &str = "turn virtualization on in its firmware and load its kvm module";
