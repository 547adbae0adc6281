//! The contract of a device: its specification, before the machine exists, and its methods, after it is built.
//!
//! A [`Specification`] is plain data from the command line. It names the [`Resources`] that the device needs and writes the
//! device's [`Node`] for the tree. It needs no KVM, so that `minivmm dtb` works anywhere. The machine allocates addresses,
//! interrupt lines and phandles for it; then [`DeviceSpec::build`] makes a [`PlatformDevice`] of it.
//!
//! A [`Registration`] is a device's line in [`crate::REGISTRY`]: by it `--device NAME` finds the device.
//!
//! A small device, whole: a bell with one register and one interrupt. A store of 1 rings it, a store of 0 stills it.
//!
//! ```
//! use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
//! use devices::{
//!     faults::{Event, FaultHandle, FaultPoint as _, Ids, MmioRead, MmioWrite, Table, fault_point},
//!     irq::IrqLine,
//!     machine_events::MachineEvents,
//!     platform::{
//!         BuildError, Counters, DeviceSpec, Interrupt, Node, Parts, PlatformDevice, Region, Registration, Resources,
//!         Specification, Trigger, options,
//!     },
//! };
//!
//! /// The specification of a bell. It has no keys.
//! #[derive(Debug)]
//! struct BellSpec;
//!
//! impl Specification for BellSpec {
//!     fn resources(&self) -> Resources {
//!         Resources {
//!             regions: vec![Region::unnamed(4)],
//!             interrupts: vec![Interrupt::unnamed(Trigger::Level)],
//!             ..Resources::default()
//!         }
//!     }
//!
//!     fn node(&self, _id: &str) -> Node {
//!         Node::new("bell").compatible(&["example,bell"])
//!     }
//! }
//!
//! impl DeviceSpec for BellSpec {
//!     fn build(&self, mut parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
//!         let line = parts.interrupt()?;
//!         Ok(Arc::new(Bell { rings: AtomicU32::new(0), line, faults: parts.faults }))
//!     }
//! }
//!
//! fault_point! {
//!     /// The bell is about to ring.
//!     enum Ring = "ring" [] {
//!         /// It does not ring.
//!         Mute = "mute",
//!     }
//! }
//!
//! static FAULTS: Table = Table {
//!     title: "Bell",
//!     ids: Ids::Numbered("bell"),
//!     windows: false,
//!     channels: 0,
//!     channel_names: &[],
//!     points: &[Ring::POINT, MmioRead::POINT, MmioWrite::POINT],
//! };
//!
//! /// The line that goes into `REGISTRY`.
//! static REGISTRATION: Registration = Registration {
//!     name: "bell",
//!     summary: "rings when the guest stores 1",
//!     most: 8,
//!     keys: &[],
//!     changeable: &[],
//!     parse: |text| match options::read("bell", &[], text) {
//!         Ok(_) => Ok(Arc::new(BellSpec)),
//!         Err(error) => Err(error.to_string()),
//!     },
//!     faults: &FAULTS,
//!     counters: &["rings"],
//! };
//!
//! struct Bell {
//!     rings: AtomicU32,
//!     line: IrqLine,
//!     faults: FaultHandle,
//! }
//!
//! impl Bell {
//!     fn ring(&self) {
//!         match self.faults.consult(Event::PLAIN).map(|fault| fault.action) {
//!             Some(Ring::Mute) => return,
//!             None => {}
//!         }
//!         self.rings.fetch_add(1, Ordering::Relaxed);
//!         self.line.raise();
//!         self.faults.interrupted();
//!     }
//! }
//!
//! impl PlatformDevice for Bell {
//!     fn load(&self, _region: usize, offset: u64, data: &mut [u8]) {
//!         if offset == 0 && data.len() == 4 {
//!             let value = self.faults.read_register(0, self.rings.load(Ordering::Relaxed));
//!             data.copy_from_slice(&value.to_le_bytes());
//!         }
//!     }
//!
//!     fn store(&self, _region: usize, offset: u64, data: &[u8]) {
//!         let (0, Ok(bytes)) = (offset, data.try_into()) else { return };
//!         let written = self.faults.write_register(0, u32::from_le_bytes(bytes));
//!         match written.value {
//!             Some(0) => self.line.lower(),
//!             Some(1) => self.ring(),
//!             _ => {}
//!         }
//!         if written.spurious {
//!             self.line.raise();
//!         }
//!     }
//!
//!     fn reset(&self) {
//!         self.line.lower();
//!     }
//!
//!     fn stop(&self) {}
//!
//!     fn counters(&self) -> Counters {
//!         vec![("rings", self.rings.load(Ordering::Relaxed).into())]
//!     }
//! }
//!
//! // As a test does it.
//! let line = IrqLine::with_trigger(Trigger::Level)?;
//! let parts = Parts {
//!     id: "bell0".into(),
//!     interrupts: vec![line.clone()],
//!     dma: None,
//!     seed: None,
//!     faults: FaultHandle::none(),
//!     events: Arc::new(MachineEvents::new()?),
//! };
//! let bell = (REGISTRATION.parse)("")?.build(parts)?;
//! bell.store(0, 0, &1_u32.to_le_bytes());
//! assert!(line.take());
//! assert_eq!(bell.counters(), [("rings", 1)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{fmt::Debug, path::Path, sync::Arc};

use event_manager::EventSubscriber;
use vmm_sys_util::eventfd::EventFd;

use crate::{dma::DmaPort, faults::FaultHandle, irq::IrqLine, machine_events::MachineEvents};
use media::FrameSource;

mod node;
pub mod options;
mod resources;

pub use crate::irq::Trigger;
pub use node::{Cell, Node, Value};
pub use options::Key;
pub use resources::{Clock, DmaNeeds, Interrupt, Region, Resources, WindowChoice};

/// What a device needs and how it is described to the guest.
pub trait Specification: Debug + Send + Sync {
    /// The resources that the machine must provide.
    fn resources(&self) -> Resources;

    /// The device's node, with the parts that only the device knows: `compatible`, its own properties and its children. The machine
    /// adds the unit address and the properties that follow from the resources: `reg`, `interrupts`, `clocks`,
    /// `memory-region`, `numa-node-id` and `dma-coherent`.
    ///
    /// Labels are global in a tree: a device with labels of its own begins them with its `id`.
    fn node(&self, id: &str) -> Node;

    /// The further nodes of a device that the tree describes by several. The machine adds to each what it adds to
    /// [`node`](Self::node).
    fn companions(&self, _id: &str) -> Vec<Companion> {
        Vec::new()
    }
}

/// A further node of a device, beside its own.
///
/// Its register regions and interrupts are numbered after those of the device and of the companions before it. It has no DMA of its
/// own. One without register regions, as a panel, stands beside the bus, at the root of the tree: its name is its own there.
#[derive(Debug, Clone)]
pub struct Companion {
    /// What it needs.
    pub resources: Resources,
    /// Its node, as [`Specification::node`] gives it.
    pub node: Node,
}

/// A specification from which a device can be built.
pub trait DeviceSpec: Specification {
    /// Builds the device. It is idle until the guest programs it.
    ///
    /// # Errors
    /// A sentence for the user: which file, thread or value the host refused, and what would be right.
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError>;

    /// The folder from which the machine removes a socket of the device at its end.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Checks the files of the host that the device needs, and keeps others from them until the returned value is dropped. Without
    /// it the device can be built.
    ///
    /// # Errors
    /// A sentence for the user, as that of [`build`](Self::build).
    fn reserve(&self) -> Result<Option<Box<dyn Send>>, String> {
        Ok(None)
    }

    /// A name that the device has in the guest, and that no other device of the machine can have, as text for an error.
    fn name_in_guest(&self) -> Option<String> {
        None
    }
}

/// Why a device was not built.
#[derive(Debug, thiserror::Error)]
#[error("the device {id} cannot be built: {source}")]
pub struct BuildError {
    /// The device's id.
    pub id: String,
    /// Why.
    pub source: Box<dyn std::error::Error + Send + Sync>,
    /// Whether what an option of the device names is at fault, and not the host.
    pub is_request: bool,
}

impl BuildError {
    /// The device `id` cannot be built because of `source`.
    pub fn new(id: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { id: id.into(), source: source.into(), is_request: false }
    }

    /// The device `id` cannot be built because of `source`, which concerns what one of its options names: a file that is missing, a
    /// socket that another program has.
    pub fn request(
        id: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { is_request: true, ..Self::new(id, source) }
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
    /// The next interrupt line, in the order of the device's resources.
    ///
    /// # Errors
    /// If no line is left: the machine did not follow the device's resources.
    pub fn interrupt(&mut self) -> Result<IrqLine, BuildError> {
        if self.interrupts.is_empty() {
            return Err(BuildError::new(self.id.as_str(), "it was given no further interrupt line"));
        }
        Ok(self.interrupts.remove(0))
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

    /// Puts the device into the state that it has after power-on; a level-triggered line is low then. Counters go on.
    fn reset(&self);

    /// Holds the device: until [`resume`](Self::resume) it begins nothing new, and its clocks stand still.
    fn pause(&self) {}

    /// Lets a device that was held go on.
    fn resume(&self) {}

    /// Ends the device: work in progress is abandoned, threads end, and nothing is written to guest memory afterwards.
    fn stop(&self);

    /// Gives a key a new value while the machine runs: one of [`Registration::changeable`]. The caller is the event loop, so the
    /// device does not wait here.
    ///
    /// # Errors
    /// A sentence for the user, as that of [`Registration::parse`].
    fn set(&self, key: &str, _value: &str) -> Result<(), String> {
        Err(unchangeable(key))
    }

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

/// The error of [`PlatformDevice::set`] for a key that does not change.
pub(crate) fn unchangeable(key: &str) -> String {
    format!("'{key}' does not change while the machine runs; restart the machine")
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
    /// The keys that `--device NAME,KEY=VALUE` takes: the device's own table, and tables that devices share, as
    /// [`options::DMA_KEYS`].
    pub keys: &'static [&'static [Key]],
    /// Those of its keys whose values can change while the machine runs, by [`PlatformDevice::set`].
    pub changeable: &'static [&'static str],
    /// Reads the text behind the name.
    pub parse: fn(&str) -> Result<Arc<dyn DeviceSpec>, String>,
    /// The names of its counters, in the order of [`PlatformDevice::counters`]: an experiment that expects a counter is checked
    /// before a device is built.
    pub counters: &'static [&'static str],
    /// The points and actions of the device's faults.
    pub faults: &'static crate::faults::Table,
}

impl Debug for Registration {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Registration").field("name", &self.name).finish_non_exhaustive()
    }
}
