//! From a configuration to guest memory that is ready to run: the list of devices, the tree, the kernel.

mod additions;
pub mod error;
pub mod fdt;
pub mod images;
mod initrd;
pub mod kernel_file;
pub mod kernel_option;
pub mod kernel_options;
pub mod load;
pub mod memory;
pub mod module;
pub mod numa;
pub mod platform;
pub mod shared_nodes;
pub mod tree_faults;
