//! The nodes of the tree that only Arm has: CPUs by MPIDR, PSCI, the architected timer, the GIC.

use devices::platform::Trigger;
use vm_fdt::{Error, FdtWriter};

use super::{
    layout::{
        GIC_CPU_INTERFACE, GIC_CPU_INTERFACE_SIZE, GIC_DISTRIBUTOR, GIC_DISTRIBUTOR_SIZE,
        GIC_REDISTRIBUTOR_SIZE, GIC_REDISTRIBUTORS,
    },
    options::{Gic, Options},
};
use crate::boot::numa;

/// The phandle of the interrupt controller that devices' interrupts go to.
pub const INTERRUPT_PARENT: u32 = 1;

/// What the bus node is compatible with.
pub const BUS_COMPATIBLE: &[&str] = &["simple-bus"];

/// First cell of an interrupt: shared between CPUs, or each CPU's own (include/dt-bindings/interrupt-controller/arm-gic.h).
const GIC_SPI: u32 = 0;
const GIC_PPI: u32 = 1;
/// Third cell (include/dt-bindings/interrupt-controller/irq.h).
const IRQ_TYPE_EDGE_RISING: u32 = 1;
const IRQ_TYPE_LEVEL_HIGH: u32 = 4;

/// What a node is compatible with whose children are clocks or regulators: they lie below the root, where of_clk_init() finds clocks.
pub const SHARED_COMPATIBLE: Option<&str> = None;

/// The cells of a device's `interrupts` property for interrupt line `irq`.
pub fn interrupt_specifier(irq: u32, trigger: Trigger) -> [u32; 3] {
    let trigger = match trigger {
        Trigger::Edge => IRQ_TYPE_EDGE_RISING,
        Trigger::Level => IRQ_TYPE_LEVEL_HIGH,
    };
    [GIC_SPI, irq, trigger]
}

/// The affinity of vCPU `index`, as KVM numbers them (reset_mpidr in arch/arm64/kvm/sys_regs.c): 16 in a cluster, which
/// is what a GICv3 can reach with one software-generated interrupt.
fn affinity(index: u8) -> u32 {
    u32::from(index & 0xf) | u32::from(index >> 4) << 8
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
        let affinity = affinity(index);
        let node = fdt.begin_node(&format!("cpu@{affinity:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", "arm,armv8")?;
        fdt.property_string("enable-method", "psci")?;
        fdt.property_u32("reg", affinity)?;
        numa::write_id(fdt, numa, numa::node_of_cpu(cpus, numa, index))?;
        fdt.end_node(node)?;
    }
    fdt.end_node(parent)
}

/// Writes what only this architecture has below the root: power by PSCI, the timer, the interrupt controller.
///
/// # Errors
/// Those of the writer.
pub fn write_root_nodes(fdt: &mut FdtWriter, cpus: u8, options: &Options, _exit: u32) -> Result<(), Error> {
    let psci = fdt.begin_node("psci")?;
    let versions = ["arm,psci-1.0", "arm,psci-0.2"];
    fdt.property_string_list("compatible", versions.iter().map(ToString::to_string).collect())?;
    fdt.property_string("method", "hvc")?;
    fdt.end_node(psci)?;

    let gic = options.gic();
    write_timer(fdt, cpus, gic)?;

    let controller = fdt.begin_node(&format!("interrupt-controller@{GIC_DISTRIBUTOR:x}"))?;
    let (compatible, second, second_size) = match gic {
        Gic::V2 => ("arm,cortex-a15-gic", GIC_CPU_INTERFACE, GIC_CPU_INTERFACE_SIZE),
        Gic::V3 => {
            let size = GIC_REDISTRIBUTOR_SIZE * u64::from(cpus);
            ("arm,gic-v3", GIC_REDISTRIBUTORS, size)
        }
    };
    fdt.property_string("compatible", compatible)?;
    fdt.property_array_u64("reg", &[GIC_DISTRIBUTOR, GIC_DISTRIBUTOR_SIZE, second, second_size])?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#address-cells", 0)?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_phandle(INTERRUPT_PARENT)?;
    fdt.end_node(controller)
}

/// The four timers' interrupts (Documentation/devicetree/bindings/timer/arm,arch_timer.yaml): secure and non-secure
/// physical, virtual, hypervisor.
fn write_timer(fdt: &mut FdtWriter, cpus: u8, gic: Gic) -> Result<(), Error> {
    const TIMERS: [u32; 4] = [13, 14, 11, 10];
    // A GICv2's third cell also says which CPUs have it.
    let flags = match gic {
        Gic::V2 => IRQ_TYPE_LEVEL_HIGH | ((1 << cpus) - 1) << 8,
        Gic::V3 => IRQ_TYPE_LEVEL_HIGH,
    };
    let interrupts: Vec<u32> = TIMERS.into_iter().flat_map(|timer| [GIC_PPI, timer, flags]).collect();
    let timer = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    fdt.property_array_u32("interrupts", &interrupts)?;
    fdt.property_null("always-on")?;
    fdt.end_node(timer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_have_sixteen_cpus_in_a_cluster() {
        assert_eq!([0, 15, 16, 253].map(affinity), [0, 15, 0x100, 0xf0d]);
    }
}
