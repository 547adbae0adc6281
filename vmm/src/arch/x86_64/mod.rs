//! x86_64: a KVM guest with the in-kernel interrupt controllers, booted in 64-bit mode, described by a tree alone.

mod boot;
mod fdt;
mod layout;
mod probe;
mod vcpu;

pub use boot::{CMDLINE_MAX, KernelError, LoadedKernel, load_kernel, write_boot_data};
pub use fdt::{
    BUS_COMPATIBLE, INTERRUPT_PARENT, interrupt_specifier, write_cpus, write_interrupt_controllers,
};
pub use layout::{IRQS, MMIO_START, PAGEBLOCK, TREE_MAX_SIZE, ram, taken_before_linux};
pub use probe::{Probe, probe};
pub use vcpu::{create_interrupt_controllers, halted_for_good, pc, port_read, port_write, set_up_vcpu};

/// Name of the architecture, as in the cache of guest images and in rustc's targets.
pub const NAME: &str = "x86_64";

/// What the kernel command line says on this architecture: a triple fault is the reset that KVM reports.
pub const CMDLINE: &str = "reboot=t";
