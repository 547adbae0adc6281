//! What a device needs from its machine, as plain data.

use crate::irq::Trigger;

/// Everything that a device needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Its register regions, in the order of `reg`.
    pub regions: Vec<Region>,
    /// Its interrupts, in the order of `interrupts`.
    pub interrupts: Vec<Interrupt>,
    /// Its clocks, in the order of `clocks`.
    pub clocks: Vec<Clock>,
    /// Its access to guest memory, if it has any.
    pub dma: Option<DmaNeeds>,
}

/// A range of registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its name in `reg-names`; empty for a device without that property.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: u64,
}

impl Region {
    /// The one region of a device that does not name it.
    pub const fn unnamed(size: u64) -> Self {
        Self { name: "", size }
    }
}

/// An interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupt {
    /// Its name in `interrupt-names`; empty for a device without that property.
    pub name: &'static str,
    /// How it is signalled.
    pub trigger: Trigger,
}

impl Interrupt {
    /// The one interrupt of a device that does not name it.
    pub const fn unnamed(trigger: Trigger) -> Self {
        Self { name: "", trigger }
    }
}

/// A clock that the device's driver asks for. Devices that ask for the same frequency share one `fixed-clock` node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Its name in `clock-names`; empty for a device without that property.
    pub name: &'static str,
    /// Its frequency in hertz.
    pub frequency: u32,
}

/// A device's access to guest memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DmaNeeds {
    /// Address lines, 1 to 64.
    pub address_bits: u32,
    /// Whether the guest is told that DMA goes through the CPU's caches. Where it does not, an arm64 guest maps the buffers
    /// uncached.
    pub coherent: bool,
    /// The CMA window that the device's buffers come from.
    pub window: WindowChoice,
    /// The NUMA node that the guest is told the device belongs to.
    pub numa_node: Option<u32>,
}

impl Default for DmaNeeds {
    /// 32 address lines, coherent, in the default window.
    fn default() -> Self {
        Self { address_bits: 32, coherent: true, window: WindowChoice::Default, numa_node: None }
    }
}

/// Which CMA window a device uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum WindowChoice {
    /// The default window. Without one, the device may reach all of memory.
    #[default]
    Default,
    /// The window of this name.
    Named(String),
    /// No window: the device may reach all of memory, and the guest is told of no window.
    Anywhere,
}
