//! aarch64: a KVM guest with the in-kernel GIC, started by Linux's boot protocol, powered by PSCI.

mod boot;
mod cache;
mod core;
mod debug;
mod fdt;
mod gic;
mod kernel_map;
mod layout;
mod mmio;
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
    GdbArch, GdbRegisters, Stepping, breakpoint_of, debug_requests, end_step, facilities, inject_breakpoint,
    may_be_trap, physical, read_registers, set_stops, show_instructions, stand_at_trap, stop_of,
    write_registers,
};
pub use fdt::{
    BUS_COMPATIBLE, INTERRUPT_PARENT, SHARED_COMPATIBLE, interrupt_specifier, write_cpus, write_root_nodes,
};
pub use gic::InterruptControllers;
pub use kernel_map::{
    KERNEL_TABLES, KernelMap, image_offset, image_offset_by, kernel_page_bits, section_bits,
};
pub use layout::{
    GIC_CPU_INTERFACE, GIC_DISTRIBUTOR, GIC_REDISTRIBUTORS, INITRD_LIMIT, IRQS, MEMORY_MAX, MMIO_START,
    PAGEBLOCK, TREE_MAX_SIZE, ram, taken_before_linux,
};
pub use mmio::{handle_unnamed_exit, set_up_vm};
pub use numa::{NUMA_HELP, nodes, numa_cmdline};
pub use options::{Gic, Options};
pub use probe::{KERNEL_LEVEL, KERNEL_MODE, SYSCALL, probe};
pub use sandbox::{OLDER_CALLS, return_from_call, vcpu_requests};
pub use vcpu::{NEEDED, halted_for_good, handle_exit, pc, set_up_vcpu};

/// The kernel in a guest image that this machine boots.
pub const KERNEL_FILE: &str = "Image";

/// The kernels that a build of Linux leaves in its folder.
pub const KERNELS_OF_TREE: &[&str] = &["arch/arm64/boot/Image"];

/// This architecture's part of the kernel command line.
pub const CMDLINE: &str = "";

/// The options that Linux needs on this machine besides those of every architecture: none, as CONFIG_ARM64 selects the drivers
/// of GIC, timer and PSCI.
pub const KERNEL_OPTIONS: &[KernelOption] = &[];

/// The change of Linux that CMA windows need, for the end of a list of options: none.
pub const KERNEL_PATCH: &str = "";

/// The function that takes device writes past the caches to memory.
pub const CLEAN_CACHES: Option<CleanCaches> = Some(cache::clean);

/// Advice for a host without /dev/kvm.
pub const WITHOUT_KVM: &str = "KVM needs a Linux that was started at EL2, and under another hypervisor one that \
                               gives EL2 to its guests (`dmesg | grep kvm` says what was found)";
