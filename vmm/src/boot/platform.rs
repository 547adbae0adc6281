//! The list of devices: from each entry come its bus range, its interrupt and its node in the tree.

use std::ops::Range;

use cma::Window;
use devices::camera::CameraSpec;
use vm_fdt::{Error, FdtWriter};

use crate::{
    arch,
    boot::numa,
    machine::config::{CmaMode, Config},
};

/// What a device is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// 16550 UART: the kernel's log.
    Serial,
    /// Boot mark and exit status.
    Exit,
    /// Tells about a guest's panic.
    Pvpanic,
    /// Terminal and agent ports.
    Console,
    /// Entropy.
    Rng,
    /// A camera.
    Camera {
        /// What was asked for.
        spec: CameraSpec,
        /// Index of the CMA window that it uses.
        window: Option<usize>,
        /// The phandle of that window's node, where its driver is to be told of it.
        memory_region: Option<u32>,
    },
}

/// A device with its place.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Where it answers.
    pub range: Range<u64>,
    /// Its interrupt line.
    pub irq: Option<u32>,
}

/// Size of each device's range in bytes.
const DEVICE_SIZE: u64 = 0x1000;
/// From one device's range to the next: every device has a page of its own, also where a page has 64 KiB, so that a
/// guest can map each to a process by itself.
const DEVICE_STEP: u64 = 64 << 10;
/// Reference clock of the UART: 115200 baud times 16.
const UART_CLOCK: u32 = 1_843_200;
/// phandle of the exit device, which a `poweroff` node may write to.
pub const EXIT_PHANDLE: u32 = 2;
/// phandle of the first CMA window.
const WINDOW_PHANDLE: u32 = 0x10;

/// The phandle of CMA window `index`.
#[allow(clippy::cast_possible_truncation)] // at most MAX_CMA_AREAS of them
pub fn window_phandle(index: usize) -> u32 {
    WINDOW_PHANDLE + index as u32
}

/// Whether the tree has a node for `window`.
pub fn in_tree(config: &Config, window: &Window) -> bool {
    !window.default || config.cma_mode != CmaMode::Cmdline
}

/// Walks down the list of devices that `config` has and gives each its place. Of each camera `camera_windows` has the window.
pub fn plan(config: &Config, camera_windows: &[Option<usize>], windows: &[Window]) -> Vec<Entry> {
    let mut kinds = vec![Kind::Serial, Kind::Exit, Kind::Pvpanic, Kind::Console, Kind::Rng];
    for (spec, &window) in config.cameras.iter().zip(camera_windows) {
        let told = |index: &usize| {
            in_tree(config, &windows[*index])
                // A node that the command line overrules is no window, but the default window is there without it.
                && (spec.window.is_some() || config.cma_mode == CmaMode::Dt)
        };
        let memory_region = window.filter(told).map(window_phandle);
        kinds.push(Kind::Camera { spec: spec.clone(), window, memory_region });
    }
    let mut base = arch::MMIO_START;
    let mut irqs = arch::IRQS;
    kinds
        .into_iter()
        .map(|kind| {
            let range = base..base + DEVICE_SIZE;
            base += DEVICE_STEP;
            let irq = if matches!(kind, Kind::Exit | Kind::Pvpanic) { None } else { irqs.next() };
            Entry { kind, range, irq }
        })
        .collect()
}

impl Entry {
    /// Generic name of the node (Devicetree Specification, section 2.2.2).
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Serial => "serial",
            Kind::Exit => "exit",
            Kind::Pvpanic => "pvpanic",
            Kind::Console | Kind::Rng => "virtio",
            Kind::Camera { .. } => "camera",
        }
    }

    /// Path of the node.
    pub fn path(&self) -> String {
        format!("/soc/{}@{:x}", self.name(), self.range.start)
    }

    /// Writes the node.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_node(&self, fdt: &mut FdtWriter, config: &Config) -> Result<(), Error> {
        let node = fdt.begin_node(&format!("{}@{:x}", self.name(), self.range.start))?;
        let compatible: &[&str] = match self.kind {
            Kind::Serial => &["ns16550a"],
            Kind::Exit => &["minivmm,exit", "syscon"],
            Kind::Pvpanic => &["qemu,pvpanic-mmio"],
            Kind::Console | Kind::Rng => &["virtio,mmio"],
            Kind::Camera { .. } => &["minivmm,camera"],
        };
        fdt.property_string_list("compatible", compatible.iter().map(ToString::to_string).collect())?;
        fdt.property_array_u64("reg", &[self.range.start, self.range.end - self.range.start])?;
        if let Some(irq) = self.irq {
            fdt.property_array_u32("interrupts", &arch::interrupt_specifier(irq))?;
        }
        match &self.kind {
            Kind::Serial => fdt.property_u32("clock-frequency", UART_CLOCK)?,
            Kind::Exit => fdt.property_phandle(EXIT_PHANDLE)?,
            Kind::Camera { memory_region: Some(phandle), .. } => {
                fdt.property_u32("memory-region", *phandle)?;
            }
            _ => {}
        }
        if let Kind::Camera { spec: CameraSpec { node: Some(node), .. }, .. } = &self.kind {
            numa::write_id(fdt, config, *node)?;
        }
        // What a device writes goes through the host's caches, as the guest's own stores do.
        let coherent = match &self.kind {
            Kind::Camera { spec, .. } => spec.coherent,
            Kind::Console | Kind::Rng => true,
            Kind::Serial | Kind::Exit | Kind::Pvpanic => false,
        };
        if coherent {
            fdt.property_null("dma-coherent")?;
        }
        fdt.end_node(node)
    }
}
