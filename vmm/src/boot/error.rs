//! Why a machine cannot be made of a configuration.

use std::{io, path::PathBuf};

use cma::{place::PlaceError, size};

use super::{kernel_file::KernelError, memory::MemoryError, numa::NODES_MAX};
use crate::{
    arch::{self, MEMORY_MAX},
    machine::config::MEMORY_MIN,
};

/// Why a machine cannot be made of a configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `--memory` out of bounds.
    #[error(
        "guest memory of {} is {}; give --memory between {} and {}",
        size::format(*.0), if *.0 < MEMORY_MIN { "too small" } else { "too large" },
        size::format(MEMORY_MIN), size::format(MEMORY_MAX)
    )]
    MemorySize(u64),
    /// `--memory` not in pages.
    #[error("guest memory of {0} bytes is not a multiple of {1} bytes, the {2} size; round it up")]
    MemoryUnit(u64, u64, &'static str),
    /// `--cpus` out of bounds.
    #[error("{0} CPUs cannot be had; give --cpus between 1 and {1}")]
    Cpus(u8, u8),
    /// `--numa` out of bounds.
    #[error("{0} NUMA nodes cannot be had; give --numa between 1 and {NODES_MAX}")]
    Nodes(u8),
    /// `--numa` for memory that makes fewer nodes.
    #[error("guest memory of {} cannot be divided among {nodes} NUMA nodes; give more with --memory or fewer with --numa", size::format(*.memory))]
    NodeSize {
        /// Guest memory.
        memory: u64,
        /// How many nodes are asked for.
        nodes: u8,
    },
    /// `--pageblock` is no pageblock.
    #[error(
        "--pageblock {} is not possible: it is a power of two of at least {}, in pages of the guest's kernel",
        size::format(*.0), size::format(cma::PAGE_SIZE)
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
    /// Nothing that an initrd can be read from.
    #[error("the initrd {} is not a file with something in it; give the archive itself, not a folder or a pipe", .0.display())]
    NoInitrd(PathBuf),
    /// The initrd does not fit.
    #[error(
        "the initrd {} of {length} bytes does not fit above the kernel in guest memory of {}; give more with --memory",
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
    /// A CMA window.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A device's `window=`.
    #[error("the {kind}'s window \"{name}\" is none of the CMA windows ({}); add --cma size=...,name={name}", list(.windows))]
    DeviceWindow {
        /// The device's name.
        kind: &'static str,
        /// What the device asks for.
        name: String,
        /// What there is.
        windows: Vec<String>,
    },
    /// A rule of `--faults` for a device, or a window, that the machine does not have.
    #[error("{0}")]
    Faults(String),
    /// More devices of a kind than a machine takes.
    #[error("a machine has at most {most} {kind}s, not {count}; leave some out")]
    TooMany {
        /// The device's name.
        kind: &'static str,
        /// The limit.
        most: usize,
        /// How many are asked for.
        count: usize,
    },
    /// More devices than the interrupt controller has lines for.
    #[error("there is no interrupt line left for {device}: the machine has {lines}; leave some devices out")]
    NoLine {
        /// The first device without a line.
        device: String,
        /// How many lines there are.
        lines: usize,
    },
    /// A device's node refers to a node that no device describes.
    #[error(
        "the node of {device} refers to \"{label}\", and no node has this label; add the device that has"
    )]
    Reference {
        /// The device.
        device: String,
        /// The label.
        label: String,
    },
    /// A device's `node=`.
    #[error("the {kind}'s NUMA node {node} is none of the guest's, of which the last is {}; --numa gives it more", .nodes - 1)]
    DeviceNode {
        /// The device's name.
        kind: &'static str,
        /// What the device asks for.
        node: u32,
        /// How many nodes the guest has.
        nodes: u8,
    },
    /// `--cma-mode` without a window that it could be about.
    #[error("--cma-mode is about the default CMA window, and there is none; add one, as in --cma 256M")]
    NoDefaultWindow,
    /// The command line is too long.
    #[error("the kernel command line has {0} bytes; the kernel takes at most {max}", max = arch::CMDLINE_MAX)]
    Cmdline(usize),
    /// The tree cannot be written: a string in it holds a zero byte.
    #[error("the device tree cannot be made: {0}; is there a zero byte in --cmdline or --exec?")]
    Tree(#[from] vm_fdt::Error),
    /// The tree is too large.
    #[error("the device tree has {0} bytes; there is room for {max}: shorten --exec", max = arch::TREE_MAX_SIZE)]
    TreeTooLarge(usize),
    /// Guest memory refused a write.
    #[error("boot data does not fit in guest memory: {0}")]
    Write(#[from] vm_memory::GuestMemoryError),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "there are none".to_owned() } else { names.join(", ") }
}
