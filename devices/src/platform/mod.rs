//! The contract of a device: what it says of itself before there is a machine, and what it does once it is built.
//!
//! A [`Specification`] is plain data from the command line. It names the [`Resources`] that the device needs and writes the
//! device's [`Node`] for the tree. It needs no KVM, so that `minivmm dtb` works anywhere. The machine allocates addresses,
//! interrupt lines and phandles for it; then [`DeviceSpec::build`] makes a [`PlatformDevice`] of it.
//!
//! A [`Registration`] is a device's line in [`crate::REGISTRY`]: by it `--device NAME` finds the device.
//!
//! The smallest device has one register region and neither interrupt nor DMA:
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
//! use devices::platform::{
//!     BuildError, DeviceSpec, Node, Parts, PlatformDevice, Region, Resources, Specification,
//! };
//!
//! /// A latch, as it is asked for.
//! #[derive(Debug)]
//! struct LatchSpec;
//!
//! impl Specification for LatchSpec {
//!     fn resources(&self) -> Resources {
//!         Resources { regions: vec![Region::unnamed(4)], ..Resources::default() }
//!     }
//!
//!     fn node(&self, _id: &str) -> Node {
//!         Node::new("latch").compatible(&["example,latch"])
//!     }
//! }
//!
//! impl DeviceSpec for LatchSpec {
//!     fn build(&self, _parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
//!         Ok(Arc::new(Latch::default()))
//!     }
//! }
//!
//! /// One 32-bit register, which keeps what the guest stores.
//! #[derive(Default)]
//! struct Latch(AtomicU32);
//!
//! impl PlatformDevice for Latch {
//!     fn load(&self, _region: usize, offset: u64, data: &mut [u8]) {
//!         if offset == 0 && data.len() == 4 {
//!             data.copy_from_slice(&self.0.load(Ordering::Relaxed).to_le_bytes());
//!         }
//!     }
//!
//!     fn store(&self, _region: usize, offset: u64, data: &[u8]) {
//!         if let (0, Ok(bytes)) = (offset, data.try_into()) {
//!             self.0.store(u32::from_le_bytes(bytes), Ordering::Relaxed);
//!         }
//!     }
//!
//!     fn reset(&self) {
//!         self.0.store(0, Ordering::Relaxed);
//!     }
//!
//!     fn stop(&self) {}
//! }
//!
//! let latch = Latch::default();
//! latch.store(0, 0, &7_u32.to_le_bytes());
//! let mut data = [0; 4];
//! latch.load(0, 0, &mut data);
//! assert_eq!(data, [7, 0, 0, 0]);
//! ```

use std::{fmt::Debug, sync::Arc};

use event_manager::EventSubscriber;
use vmm_sys_util::eventfd::EventFd;

use crate::{
    dma::DmaPort, faults::FaultHandle, irq::IrqLine, machine_events::MachineEvents, media::FrameSource,
};

mod node;
pub mod options;
mod resources;

pub use crate::irq::Trigger;
pub use node::{Cell, Node, Value};
pub use options::Key;
pub use resources::{Clock, DmaNeeds, Interrupt, Region, Resources, WindowChoice};

/// What a device needs and how it is described to the guest.
pub trait Specification: Debug + Send + Sync {
    /// What the machine has to provide.
    fn resources(&self) -> Resources;

    /// The device's node, with what only the device knows: `compatible`, its own properties and its children. The machine
    /// adds the unit address and the properties that follow from the resources: `reg`, `interrupts`, `clocks`,
    /// `memory-region`, `numa-node-id` and `dma-coherent`.
    ///
    /// Labels are global in a tree: a device with labels of its own begins them with its `id`.
    fn node(&self, id: &str) -> Node;
}

/// A specification from which a device can be built.
pub trait DeviceSpec: Specification {
    /// Builds the device. It is idle until the guest programs it.
    ///
    /// # Errors
    /// A sentence for the user: which file, thread or value the host refused, and what would be right.
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError>;
}

/// Why a device was not built.
#[derive(Debug, thiserror::Error)]
#[error("the device {id} cannot be built: {source}")]
pub struct BuildError {
    /// The device's id.
    pub id: String,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl BuildError {
    /// The device `id` cannot be built because of `source`.
    pub fn new(id: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { id: id.into(), source: source.into() }
    }
}

/// What the machine hands to a device that is built.
#[derive(Debug)]
pub struct Parts {
    /// The device's name in reports, plans of faults and experiments: its kind and a number, as in `camera0`.
    pub id: String,
    /// One interrupt line for each of [`Resources::interrupts`], in their order.
    pub interrupts: Vec<IrqLine>,
    /// The way to guest memory, for a device whose resources ask for DMA.
    pub dma: Option<DmaPort>,
    /// Seed of everything random in the device. Devices of one machine have different seeds. None: the host's entropy.
    pub seed: Option<u64>,
    /// Where the device consults a plan of faults.
    pub faults: FaultHandle,
    /// Where a device reports what concerns the whole machine.
    pub events: Arc<MachineEvents>,
}

impl Parts {
    /// The interrupt line of a device that has one.
    ///
    /// # Errors
    /// If the machine provided none: the machine did not follow the device's resources.
    pub fn interrupt(&mut self) -> Result<IrqLine, BuildError> {
        self.interrupts
            .pop()
            .ok_or_else(|| BuildError::new(self.id.as_str(), "it was given no interrupt line"))
    }

    /// The DMA port of a device that asked for DMA.
    ///
    /// # Errors
    /// If the machine provided none: the machine did not follow the device's resources.
    pub fn dma(&mut self) -> Result<DmaPort, BuildError> {
        self.dma
            .take()
            .ok_or_else(|| BuildError::new(self.id.as_str(), "it was given no way to guest memory"))
    }
}

/// A device in a machine.
///
/// Register accesses come from vCPU threads, several at a time: a device holds locks for a short time only, and leaves slow
/// work to a thread of its own. Offsets, widths and values are the guest's, so that any can come.
pub trait PlatformDevice: Send + Sync {
    /// The guest loads `data.len()` bytes at `offset` in the register region with this index. `data` is zero before.
    fn load(&self, region: usize, offset: u64, data: &mut [u8]);

    /// The guest stores `data` at `offset` in the register region with this index.
    fn store(&self, region: usize, offset: u64, data: &[u8]);

    /// Puts the device into the state that it has after power-on. Counters go on.
    fn reset(&self);

    /// Holds the device: until [`resume`](Self::resume) it begins nothing new, and its clocks stand still.
    fn pause(&self) {}

    /// Lets a device that was held go on.
    fn resume(&self) {}

    /// Ends the device: work in progress is abandoned, threads end, and nothing is written to guest memory afterwards.
    fn stop(&self);

    /// What the device did since it was built: stable names, and numbers that only grow.
    fn counters(&self) -> Counters {
        Counters::new()
    }

    /// The device as a source of pictures, if it makes any.
    fn frames(&self) -> Option<&dyn FrameSource> {
        None
    }

    /// Writes of the guest that wake the event loop without a stop of the vCPU in user space (KVM's ioeventfd).
    fn doorbells(&self) -> Vec<Doorbell<'_>> {
        Vec::new()
    }

    /// What the device does on the event loop, if it does something there.
    fn subscriber(self: Arc<Self>) -> Option<Arc<dyn EventSubscriber + Send + Sync>> {
        None
    }
}

/// Names and values of a device's counters, in the order in which a report shows them.
pub type Counters = Vec<(&'static str, u64)>;

/// A register whose writes of one value signal an eventfd.
#[derive(Debug)]
pub struct Doorbell<'a> {
    /// Index of the register region.
    pub region: usize,
    /// Offset of the 32-bit register in the region.
    pub offset: u64,
    /// The value that the guest writes.
    pub value: u32,
    /// The eventfd.
    pub event: &'a EventFd,
}

/// A device that can be asked for by name: its line in [`crate::REGISTRY`].
pub struct Registration {
    /// Its name in `--device NAME`. Ids are made from it: `camera0`, `camera1`.
    pub name: &'static str,
    /// One line for `--device help`.
    pub summary: &'static str,
    /// Most devices of this name in a machine.
    pub most: usize,
    /// The keys that `--device NAME,KEY=VALUE` takes.
    pub keys: &'static [&'static [Key]],
    /// Reads the text behind the name.
    pub parse: fn(&str) -> Result<Arc<dyn DeviceSpec>, String>,
    /// The names of its counters, in the order of [`PlatformDevice::counters`].
    pub counters: &'static [&'static str],
    /// Where and how the device can go wrong on purpose.
    pub faults: &'static crate::faults::Table,
}

impl Debug for Registration {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Registration").field("name", &self.name).finish_non_exhaustive()
    }
}
