//! The tree: the only description of the machine that the guest gets.

use std::ops::Range;

use cma::{Window, node::ReservedMemory};
use devices::{
    faults::Faults,
    platform::{Cell, Node, Value},
};
use vm_fdt::{Error, FdtWriter};

use crate::{
    arch,
    boot::{
        numa::{self, Nodes},
        platform::{self, Maker, Phandles, Platform},
        shared_nodes, tree_faults,
    },
    machine::config::Config,
};

/// Generates the flattened tree. `faults` can make the nodes of its windows wrong.
///
/// # Errors
/// Those of the writer, for a name or a value that no tree can hold.
pub fn generate(
    config: &Config,
    cmdline: &str,
    nodes: &Nodes,
    initrd: Option<&Range<u64>>,
    windows: &[Window],
    platform: &Platform,
    faults: &Faults,
) -> Result<Vec<u8>, Error> {
    let Platform { devices, shared, phandles } = platform;
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "minivmm,virt")?;
    fdt.property_string("model", "minivmm")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", arch::INTERRUPT_PARENT)?;

    let chosen = fdt.begin_node("chosen")?;
    fdt.property_string("bootargs", cmdline)?;
    if let Some(serial) = devices.iter().find(|entry| matches!(entry.maker, Maker::Serial)) {
        fdt.property_string("stdout-path", &serial.path())?;
    }
    if let Some(initrd) = initrd {
        fdt.property_u32("linux,initrd-start", cell(initrd.start))?;
        fdt.property_u32("linux,initrd-end", cell(initrd.end))?;
    }
    fdt.end_node(chosen)?;
    if let Some(command) = &config.exec {
        write_agent(&mut fdt, command, config.out.is_some())?;
    }

    arch::write_cpus(&mut fdt, config.cpus, config.numa)?;
    for (node, range) in nodes {
        let memory = fdt.begin_node(&format!("memory@{:x}", range.start))?;
        fdt.property_string("device_type", "memory")?;
        fdt.property_array_u64("reg", &[range.start, range.end - range.start])?;
        numa::write_id(&mut fdt, config.numa, *node)?;
        fdt.end_node(memory)?;
    }
    numa::write_distances(&mut fdt, config.numa)?;
    cma::node::write(&mut fdt, &reserved_memory(config, windows, phandles, faults))?;
    let exit = phandles.get(platform::EXIT_LABEL).unwrap_or_default();
    arch::write_root_nodes(&mut fdt, config.cpus, &config.arch, exit)?;
    // Nodes of a bus have an address (simple-bus.yaml of dt-schema).
    let of_devices = || devices.iter().flat_map(|entry| &entry.nodes);
    for node in shared.iter().chain(of_devices().filter(|node| !node.has_address())) {
        write_node(&mut fdt, node, phandles)?;
    }

    let soc = fdt.begin_node("soc")?;
    fdt.property_string_list("compatible", arch::BUS_COMPATIBLE.iter().map(ToString::to_string).collect())?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_null("ranges")?;
    for node in of_devices().filter(|node| node.has_address()) {
        write_node(&mut fdt, node, phandles)?;
    }
    fdt.end_node(soc)?;
    fdt.end_node(root)?;
    fdt.finish()
}

/// Writes a node and those below it.
fn write_node(fdt: &mut FdtWriter, node: &Node, phandles: &Phandles) -> Result<(), Error> {
    // The platform has looked at all labels before.
    let phandle = |label: &str| phandles.get(label).unwrap_or_default();
    let begun = fdt.begin_node(&node.name)?;
    for (name, value) in &node.properties {
        match value {
            Value::Empty => fdt.property_null(name)?,
            Value::Strings(strings) => fdt.property_string_list(name, strings.clone())?,
            Value::Wide(numbers) => fdt.property_array_u64(name, numbers)?,
            Value::Cells(cells) => {
                let cells = cells.iter().map(|cell| match cell {
                    Cell::Number(number) => *number,
                    Cell::Phandle(label) => phandle(label),
                    Cell::Clock(frequency) => phandle(&shared_nodes::clock_label(*frequency)),
                    Cell::Supply(microvolts) => phandle(&shared_nodes::supply_label(*microvolts)),
                });
                fdt.property_array_u32(name, &cells.collect::<Vec<_>>())?;
            }
        }
    }
    if let Some(label) = &node.label {
        fdt.property_phandle(phandle(label))?;
    }
    for child in &node.children {
        write_node(fdt, child, phandles)?;
    }
    fdt.end_node(begun)
}

/// The `windows` as the tree advertises them.
fn reserved_memory(
    config: &Config,
    windows: &[Window],
    phandles: &Phandles,
    faults: &Faults,
) -> ReservedMemory {
    let mut advertised = ReservedMemory { cells: 2, ranges: true, pages: Vec::new(), windows: Vec::new() };
    for window in windows {
        if !platform::in_tree(config, window) {
            continue;
        }
        let phandle = phandles.get(&platform::window_label(window)).unwrap_or_default();
        tree_faults::advertise(&mut advertised, phandle, window.clone(), faults);
    }
    advertised
}

/// An address in one cell: the initrd lies below 4 GiB ([`arch::INITRD_LIMIT`]).
fn cell(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}

/// Writes the node of the agent: the command that the guest's init runs.
fn write_agent(fdt: &mut FdtWriter, command: &str, out: bool) -> Result<(), Error> {
    let agent = fdt.begin_node("agent")?;
    fdt.property_string("compatible", "minivmm,agent")?;
    fdt.property_string("minivmm,exec", command)?;
    if out {
        fdt.property_null("minivmm,out")?;
    }
    fdt.end_node(agent)
}
