//! Why a machine cannot be made of a configuration.

use std::{io, path::PathBuf};

use cma::{place::PlaceError, size};

use super::{additions::AddError, kernel_file::KernelError, memory::MemoryError, numa::NODES_MAX};
use crate::{
    arch::{self, MEMORY_MAX},
    machine::config::MEMORY_MIN,
};

/// Why a machine cannot be made of a configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `--memory` out of bounds.
    #[error(
        "--memory must be {} to {}, not {}{}",
        size::format(MEMORY_MIN), size::format(MEMORY_MAX), size::format(*.0), question(*.0)
    )]
    MemorySize(u64),
    /// `--memory` not in pages.
    #[error("--memory must be a multiple of {1} bytes, the {2} size, not {0} bytes")]
    MemoryUnit(u64, u64, &'static str),
    /// `--cpus` out of bounds.
    #[error("--cpus must be 1 to {0}")]
    Cpus(u8),
    /// `--numa` out of bounds.
    #[error("--numa must be 1 to {NODES_MAX}")]
    Nodes,
    /// `--numa` for memory that makes fewer nodes.
    #[error("guest memory of {} is too small for {nodes} NUMA nodes; increase --memory or decrease --numa", size::format(*.memory))]
    NodeSize {
        /// Guest memory.
        memory: u64,
        /// The number of nodes.
        nodes: u8,
    },
    /// `--pageblock` is not a pageblock.
    #[error(
        "--pageblock must be a power of two of at least {}, not {}",
        size::format(cma::PAGE_SIZE), size::format(*.0)
    )]
    Pageblock(u64),
    /// The host has no such memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The initrd cannot be read.
    #[error("the initrd {} cannot be read: {source}", path.display())]
    Initrd {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The initrd is empty, or not a regular file.
    #[error("the initrd {} is empty or not a regular file; name the archive itself", .0.display())]
    NoInitrd(PathBuf),
    /// The initrd does not fit.
    #[error(
        "the initrd {} of {length} bytes does not fit above the kernel in guest memory of {}; increase --memory",
        path.display(), size::format(*.memory)
    )]
    InitrdTooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
        /// Guest memory.
        memory: u64,
    },
    /// A file of `--add` or `--module`.
    #[error(transparent)]
    Added(#[from] AddError),
    /// A CMA window.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A device's `window=`.
    #[error("the {kind} uses the window \"{name}\", but the CMA windows are {}; add --cma size=...,name={name}", list(.windows))]
    DeviceWindow {
        /// The device's name.
        kind: &'static str,
        /// The window that the device uses.
        name: String,
        /// The names of the windows.
        windows: Vec<String>,
    },
    /// A rule of `--faults` for a device, or a window, that the machine does not have.
    #[error("{0}")]
    Faults(String),
    /// More devices of a kind than a machine takes.
    #[error("a machine has at most {most} {kind}s, not {count}; omit some")]
    TooMany {
        /// The device's name.
        kind: &'static str,
        /// The limit.
        most: usize,
        /// The number in the request.
        count: usize,
    },
    /// Two devices with one name in the guest.
    #[error("{second} has {name}, which {first} has; give one of them another")]
    SameName {
        /// The first device.
        first: String,
        /// The second.
        second: String,
        /// What they have in common.
        name: String,
    },
    /// More devices than the interrupt controller has lines for.
    #[error(
        "no interrupt line is left for {device}, because the machine has {lines} lines; omit some devices"
    )]
    NoLine {
        /// The first device without a line.
        device: String,
        /// The number of lines.
        lines: usize,
    },
    /// A device's node refers to a node that no device describes.
    #[error(
        "the node of {device} refers to \"{label}\", but no node has this label; add the device with this label"
    )]
    Reference {
        /// The device.
        device: String,
        /// The label.
        label: String,
    },
    /// A device's `node=`.
    #[error("the {kind} uses NUMA node {node}, but the guest's last node is {}; increase --numa", .nodes - 1)]
    DeviceNode {
        /// The device's name.
        kind: &'static str,
        /// The node that the device uses.
        node: u32,
        /// The number of the guest's nodes.
        nodes: u8,
    },
    /// `--cma-mode` without a default window.
    #[error("--cma-mode needs a CMA window; add one, as in --cma 256M")]
    NoDefaultWindow,
    /// The command line is too long.
    #[error("the kernel command line has {0} bytes, but the kernel takes at most {max}; shorten --cmdline", max = arch::CMDLINE_MAX)]
    Cmdline(usize),
    /// The tree cannot be written: a string in it holds a zero byte.
    #[error("the device tree cannot be written: {0}; remove zero bytes from --cmdline and --exec")]
    Tree(#[from] vm_fdt::Error),
    /// The tree is too large.
    #[error("the device tree has {0} bytes, but the guest takes at most {max}; shorten --exec", max = arch::TREE_MAX_SIZE)]
    TreeTooLarge(usize),
    /// Guest memory refused a write.
    #[error("boot data does not fit in guest memory: {0}")]
    Write(#[from] vm_memory::GuestMemoryError),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The size that was probably meant by a number of bytes that is too small for any: `256M` by `256`.
pub fn likely_size(bytes: u64) -> Option<String> {
    (1..cma::PAGE_SIZE).contains(&bytes).then(|| format!("{bytes}M"))
}

fn question(bytes: u64) -> String {
    likely_size(bytes).map_or_else(String::new, |likely| format!("; did you mean {likely}?"))
}
