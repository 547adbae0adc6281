//! From a configuration to guest memory that is ready to run: RAM, kernel, initrd, windows, devices' places, tree.
//!
//! Needs no KVM: `minivmm dtb` ends here.

use std::{
    fmt::Write as _,
    hash::{BuildHasher as _, RandomState},
    ops::Range,
    path::Path,
};

use cma::{Window, place::PlacementLimits, size};
use devices::faults::{Faults, MachineDevice};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::{
    arch::{self, LoadedKernel, MEMORY_MAX},
    boot::{
        error::LoadError,
        fdt, initrd,
        kernel_file::KernelError,
        kernel_options::{self, Compression},
        memory,
        numa::{NODES_MAX, Nodes},
        platform::{self, Entry, Platform},
        tree_faults::fault_tables,
    },
    machine::config::{CmaMode, Config, MEMORY_MIN},
};

/// Guest memory, ready to run.
#[derive(Debug)]
pub struct Loaded {
    /// RAM with everything in it.
    pub memory: GuestMemoryMmap,
    /// The kernel; absent when only the tree is wanted.
    pub kernel: Option<LoadedKernel>,
    /// The compression of the initrd, if it is compressed.
    pub compression: Option<&'static Compression>,
    /// The CMA windows.
    pub windows: Vec<Window>,
    /// The devices.
    pub devices: Vec<Entry>,
    /// The flattened tree.
    pub tree: Vec<u8>,
    /// Fault injection; without a plan it has no rules.
    pub faults: Faults,
}

/// Loads everything, with the kernel of the configuration.
///
/// # Errors
/// The first thing that does not fit, in one sentence.
pub fn load(config: &Config) -> Result<Loaded, LoadError> {
    load_with(config, Some(&config.kernel))
}

/// As [`load`], but with `kernel` instead of the configuration's; without one for looking at the tree alone.
///
/// # Errors
/// As [`load`].
pub fn load_with(config: &Config, kernel: Option<&Path>) -> Result<Loaded, LoadError> {
    check_size(config)?;
    let ram = arch::ram(config.memory);
    let nodes = nodes(config, &ram)?;
    // A machine that does not run takes no huge pages from the pool.
    let memory = memory::create(&ram, config.hugepages && kernel.is_some())?;
    let kernel = kernel.map(|path| arch::load_kernel(&memory, path)).transpose()?;
    let kernel_end = kernel.as_ref().map_or(ram[0].start, |kernel| kernel.range.end);
    if let (Some(kernel), true) = (&kernel, kernel_end > ram[0].end) {
        tracing::debug!("kernel at {:#x?}, RAM {:#x?}", kernel.range, ram);
        return Err(KernelError::DoesNotFit(config.kernel.clone()).into());
    }
    let initrd = initrd::load(&memory, config, kernel_end..ram[0].end.min(arch::INITRD_LIMIT))?;

    let compression = initrd.as_ref().and_then(|initrd| {
        let start = memory.read_obj::<[u8; 8]>(GuestAddress(initrd.start)).ok()?;
        kernel_options::compression(&start)
    });

    let mut taken = vec![arch::taken_before_linux()];
    taken.extend(kernel.as_ref().map(|kernel| ("the kernel", kernel.range.clone())));
    taken.extend(initrd.clone().map(|range| ("the initrd", range)));
    let top = initrd.as_ref().map_or(ram[0].end, |initrd| initrd.start);
    let (below, margin) = windows_end(config, top);
    let limits = PlacementLimits { ram: &nodes, taken: &taken, pageblock: config.pageblock, below, margin };
    let windows = cma::place::place(&config.windows, &limits)?;

    let platform = platform::place(config, &windows)?;
    let faults = faults(config, &platform, &windows)?;
    let cmdline = cmdline(config, &windows)?;
    if cmdline.len() > arch::CMDLINE_MAX {
        return Err(LoadError::Cmdline(cmdline.len()));
    }
    let tree = fdt::generate(config, &cmdline, &nodes, initrd.as_ref(), &windows, &platform, &faults)?;
    if tree.len() > arch::TREE_MAX_SIZE {
        return Err(LoadError::TreeTooLarge(tree.len()));
    }
    if let Some(kernel) = &kernel {
        arch::write_boot_data(&memory, &ram, kernel, initrd.as_ref(), &cmdline, &tree)?;
    }
    Ok(Loaded { memory, kernel, compression, windows, devices: platform.devices, tree, faults })
}

/// Fault injection by the plan, which begins now.
fn faults(config: &Config, platform: &Platform, windows: &[Window]) -> Result<Faults, LoadError> {
    let plan = config.faults.clone().unwrap_or_default();
    let window = |entry: &Entry| entry.window.map(|index| windows[index].name.clone());
    let devices = platform.devices.iter();
    let devices =
        devices.filter_map(|entry| MachineDevice::find(&fault_tables(), entry.id.clone(), window(entry)));
    let devices: Vec<MachineDevice> = devices.collect();
    let advertised = windows.iter().filter(|window| platform::in_tree(config, window));
    let advertised: Vec<&str> = advertised.map(|window| window.name.as_str()).collect();
    plan.check(&fault_tables(), &devices, Some(&advertised)).map_err(LoadError::Faults)?;
    // Without a seed, a random one.
    let seed = config.seed.unwrap_or_else(|| RandomState::new().hash_one(()));
    Ok(Faults::of_machine(plan, seed, devices, config.timeline))
}

fn check_size(config: &Config) -> Result<(), LoadError> {
    if !(MEMORY_MIN..=MEMORY_MAX).contains(&config.memory) {
        return Err(LoadError::MemorySize(config.memory));
    }
    let (unit, name) =
        if config.hugepages { (memory::HUGE_PAGE, "huge page") } else { (cma::PAGE_SIZE, "page") };
    if !config.memory.is_multiple_of(unit) {
        return Err(LoadError::MemoryUnit(config.memory, unit, name));
    }
    let cpus_max = config.arch.cpus_max();
    if config.cpus == 0 || config.cpus > cpus_max {
        return Err(LoadError::Cpus(cpus_max));
    }
    if config.numa == 0 || config.numa > NODES_MAX {
        return Err(LoadError::Nodes);
    }
    if !config.pageblock.is_power_of_two() || config.pageblock < cma::PAGE_SIZE {
        return Err(LoadError::Pageblock(config.pageblock));
    }
    Ok(())
}

/// The NUMA nodes that `ram` is divided into.
fn nodes(config: &Config, ram: &[Range<u64>]) -> Result<Nodes, LoadError> {
    let (memory, count) = (config.memory, config.numa);
    let nodes = arch::nodes(ram, count, config.pageblock);
    nodes.ok_or(LoadError::NodeSize { memory, nodes: count })
}

/// The highest end of windows without a base, and the size that they leave free at the end of each range of RAM. The end is within the
/// reach of 32-bit devices. The kernel learns of a window on the command line late. Before that it allocates from `top` and from
/// the end of each NUMA node down: its page structures, a 64th of memory (arm64's bootmem_init has sparse_init before
/// dma_contiguous_reserve), and some tables.
fn windows_end(config: &Config, top: u64) -> (u64, u64) {
    const TABLES: u64 = 8 << 20;
    match config.cma_mode {
        CmaMode::Dt => (1 << 32, 0),
        CmaMode::Cmdline | CmaMode::Both => {
            let margin = config.memory / 64 + TABLES;
            (top.saturating_sub(margin).min(1 << 32), margin)
        }
    }
}

/// The kernel command line: the options of every machine, those of this architecture, and those that the user adds.
fn cmdline(config: &Config, windows: &[Window]) -> Result<String, LoadError> {
    // A panic ends the machine at once (panic=-1 reboots without delay); a command's run needs no boot log.
    let mut cmdline = "console=ttyS0 panic=-1".to_owned();
    if !arch::CMDLINE.is_empty() {
        cmdline.push(' ');
        cmdline.push_str(arch::CMDLINE);
    }
    if let Some(numa) = arch::numa_cmdline(config.numa) {
        cmdline.push(' ');
        cmdline.push_str(&numa);
    }
    if config.cma_mode != CmaMode::Dt {
        let window = windows.iter().find(|window| window.default).ok_or(LoadError::NoDefaultWindow)?;
        let _ = write!(cmdline, " cma={}", size::format(window.size));
        if window.within.is_none() {
            let _ = write!(cmdline, "@{:#x}", window.base);
        }
    }
    if config.exec.is_some() && config.console_log.is_none() {
        cmdline.push_str(" quiet");
    }
    if !config.cmdline.is_empty() {
        cmdline.push(' ');
        cmdline.push_str(&config.cmdline);
    }
    Ok(cmdline)
}
