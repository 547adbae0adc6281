//! The nodes of the tree that only x86 has: CPUs by APIC id, local and I/O APIC (arch/x86/kernel/devicetree.c).

use devices::platform::Trigger;
use vm_fdt::{Error, FdtWriter};

use super::options::Options;
use crate::boot::numa;

/// The phandle of the interrupt controller that devices' interrupts go to.
pub const INTERRUPT_PARENT: u32 = 1;

/// What the bus node is compatible with: the first name makes Linux create devices for its children (ce4100_ids in
/// arch/x86/kernel/devicetree.c).
pub const BUS_COMPATIBLE: &[&str] = &["intel,ce4100-cp", "simple-bus"];

const LAPIC_ADDRESS: u64 = 0xfee0_0000;
const IOAPIC_ADDRESS: u64 = 0xfec0_0000;
/// Second cell of an interrupt: rising edge (ioapic_type in arch/x86/kernel/devicetree.c, 6.1).
const EDGE_RISING: u32 = 3;
/// High level, in the same table.
const LEVEL_HIGH: u32 = 1;

/// What a node is compatible with whose children are clocks or regulators. On x86 nothing calls of_clk_init(): a clock's driver binds to a device,
/// and of_platform_default_populate_init() creates devices for the children of such a node (drivers/of/platform.c).
pub const SHARED_COMPATIBLE: Option<&str> = Some("simple-mfd");

/// The cells of a device's `interrupts` property for interrupt line `irq`.
pub fn interrupt_specifier(irq: u32, trigger: Trigger) -> [u32; 2] {
    let trigger = match trigger {
        Trigger::Edge => EDGE_RISING,
        Trigger::Level => LEVEL_HIGH,
    };
    [irq, trigger]
}

/// Writes /cpus.
///
/// # Errors
/// Those of the writer.
pub fn write_cpus(fdt: &mut FdtWriter, cpus: u8, numa: u8) -> Result<(), Error> {
    let parent = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for index in 0..cpus {
        let apic_id = u32::from(index);
        let node = fdt.begin_node(&format!("cpu@{apic_id:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", "intel,ce4100")?;
        fdt.property_u32("reg", apic_id)?;
        numa::write_id(fdt, numa, numa::node_of_cpu(cpus, numa, index))?;
        fdt.end_node(node)?;
    }
    fdt.end_node(parent)
}

/// Writes what only this architecture has below the root: its interrupt controllers, and how to power off by the node with
/// the phandle `exit`.
///
/// # Errors
/// Those of the writer.
pub fn write_root_nodes(fdt: &mut FdtWriter, _cpus: u8, _options: &Options, exit: u32) -> Result<(), Error> {
    let lapic = fdt.begin_node(&format!("interrupt-controller@{LAPIC_ADDRESS:x}"))?;
    fdt.property_string("compatible", "intel,ce4100-lapic")?;
    fdt.property_array_u64("reg", &[LAPIC_ADDRESS, 0x1000])?;
    fdt.end_node(lapic)?;

    let ioapic = fdt.begin_node(&format!("interrupt-controller@{IOAPIC_ADDRESS:x}"))?;
    fdt.property_string("compatible", "intel,ce4100-ioapic")?;
    fdt.property_array_u64("reg", &[IOAPIC_ADDRESS, 0x1000])?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#address-cells", 0)?;
    fdt.property_u32("#interrupt-cells", 2)?;
    fdt.property_phandle(INTERRUPT_PARENT)?;
    fdt.end_node(ioapic)?;

    // `poweroff` in the guest writes the exit device's EXIT register, with status 0.
    let poweroff = fdt.begin_node("poweroff")?;
    fdt.property_string("compatible", "syscon-poweroff")?;
    fdt.property_u32("regmap", exit)?;
    fdt.property_u32("offset", 4)?;
    fdt.property_u32("value", 0x100)?;
    fdt.property_u32("mask", 0x1ff)?;
    fdt.end_node(poweroff)
}
