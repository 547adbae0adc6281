//! The device in its transport: what the guest sees of it, and its backend's connection.

use std::{io, os::unix::net::UnixStream, sync::Arc};

use event_manager::{EventOps, EventSet, EventSubscriber, Events};
use tracing::error;
use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::{
    link::Link,
    protocol::{self, Failure, Ring},
};
use crate::{
    helper::Helper,
    platform::{BuildError, Counters, Doorbell, Parts, PlatformDevice},
    virtio::{
        device::{RING_FEATURES, VirtioDevice},
        mmio::MmioTransport,
        queue::{QueueError, Queues},
    },
};

/// The names of [`PlatformDevice::counters`].
pub(super) const COUNTERS: [&str; 3] = ["interrupts", "starts", "failures"];

/// The features of a kind of device; the others are those of rings and transports (virtio 1.2, section 2.2).
pub(super) const OF_THE_KIND: u64 = !(((1 << 50) - 1) & !((1 << 24) - 1));

/// What the guest sees of a device besides its features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Face {
    /// Its number in the virtio specification.
    pub id: u32,
    /// The number of its queues.
    pub queues: u16,
    /// The size of each, a power of two.
    pub queue_size: u16,
    /// Its configuration space.
    pub config: ConfigSpace,
}

/// Where the configuration space comes from. The guest cannot write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigSpace {
    /// It is this.
    Known(Vec<u8>),
    /// The backend has it, with this size in bytes. It is read once.
    OfBackend(u32),
}

/// The connection to a backend that has said what it offers.
pub struct Backend {
    link: Arc<Link>,
    pub(super) features: u64,
    pub(super) config: Vec<u8>,
}

impl Backend {
    /// Asks the backend at the other end of `socket` what it offers. If it is the `helper`, that ends with the device.
    ///
    /// # Errors
    /// If it is not fit for the device, or the host refuses a thread.
    pub fn open(
        socket: UnixStream,
        helper: Option<Helper>,
        face: &Face,
        parts: &Parts,
    ) -> Result<Self, Failure> {
        let link = Link::new(socket, helper, face.queues, &parts.id, parts.faults.clone());
        Self::ask(link.map_err(|error| Failure::Protocol(error.to_string()))?, face)
    }

    pub(super) fn ask(link: Link, face: &Face) -> Result<Self, Failure> {
        let size = match &face.config {
            ConfigSpace::Known(_) => 0,
            ConfigSpace::OfBackend(size) => *size,
        };
        let offer = link.open(face.queues, size)?;
        let config = match &face.config {
            ConfigSpace::Known(config) => config.clone(),
            ConfigSpace::OfBackend(_) => offer.config,
        };
        Ok(Self { link: Arc::new(link), features: offer.features, config })
    }
}

/// The device in its transport.
pub(super) struct Front {
    face: Face,
    features: u64,
    config: Vec<u8>,
    link: Arc<Link>,
    memory: GuestMemoryMmap,
    /// The rings that the driver has set up.
    rings: Result<Vec<Ring>, Failure>,
    is_started: bool,
}

impl VirtioDevice for Front {
    fn id(&self) -> u32 {
        self.face.id
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![self.face.queue_size; self.face.queues.into()]
    }

    fn features(&self) -> u64 {
        self.features & OF_THE_KIND
    }

    fn ring_features(&self) -> u64 {
        self.features & RING_FEATURES
    }

    fn config(&self) -> Vec<u8> {
        self.config.clone()
    }

    fn hand_over(&mut self, queues: &[Queue]) {
        self.rings = protocol::rings(&self.memory, queues);
    }

    fn start(&mut self, features: u64) {
        self.is_started = true;
        match std::mem::replace(&mut self.rings, Ok(Vec::new())) {
            Ok(rings) => {
                // The first failure of the link is reported where it occurs.
                let was_lost = self.link.is_lost();
                if let Err(failure) = self.link.start(features, self.memory.clone(), rings)
                    && was_lost
                {
                    self.link.report(failure);
                }
            }
            Err(failure) => self.link.report(failure),
        }
    }

    fn reset(&mut self) {
        if std::mem::take(&mut self.is_started) {
            self.link.stop();
        }
    }

    /// The backend does that.
    fn process_queue(&mut self, _index: usize, _queues: &mut Queues<'_>) -> Result<(), QueueError> {
        Ok(())
    }
}

/// A device that another program serves, in its machine.
pub struct VhostUser {
    id: String,
    pub(super) transport: Arc<MmioTransport<Front>>,
    pub(super) link: Arc<Link>,
}

impl VhostUser {
    /// The device of `backend` with this `face`.
    ///
    /// # Errors
    /// If the host refuses a file descriptor.
    pub fn new(backend: Backend, face: Face, mut parts: Parts) -> Result<Self, BuildError> {
        let (dma, line) = (parts.dma()?, parts.interrupt()?);
        let Backend { link, features, config } = backend;
        let memory = dma.memory_of_another_program().clone();
        let front = Front {
            face,
            features,
            config,
            link: link.clone(),
            memory,
            rings: Ok(Vec::new()),
            is_started: false,
        };
        let failed = |error: io::Error| BuildError::new(parts.id.as_str(), error);
        let transport = MmioTransport::new(front, dma, line).map_err(failed)?;
        let kicks = transport.queue_events().iter().map(EventFd::try_clone).collect::<io::Result<_>>();
        link.connect(transport.interrupt(), kicks.map_err(failed)?);
        Ok(Self { id: parts.id, transport: Arc::new(transport), link })
    }
}

impl PlatformDevice for VhostUser {
    fn load(&self, region: usize, offset: u64, data: &mut [u8]) {
        self.transport.load(region, offset, data);
    }

    fn store(&self, region: usize, offset: u64, data: &[u8]) {
        self.transport.store(region, offset, data);
    }

    fn reset(&self) {
        self.transport.reset();
    }

    fn stop(&self) {
        self.transport.reset();
        self.link.end();
    }

    fn counters(&self) -> Counters {
        COUNTERS.into_iter().zip(self.link.counts()).collect()
    }

    /// The backend waits for them.
    fn doorbells(&self) -> Vec<Doorbell<'_>> {
        self.transport.doorbells()
    }

    fn subscriber(self: Arc<Self>) -> Option<Arc<dyn EventSubscriber + Send + Sync>> {
        Some(self)
    }
}

/// Tells the driver that the device needs a reset.
impl EventSubscriber for VhostUser {
    fn init(&self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(self.link.failed(), EventSet::IN)) {
            error!("the driver of {} does not learn of failures: {error}", self.id);
        }
    }

    fn process(&self, _events: Events, _ops: &mut EventOps<'_>) {
        let _ = self.link.failed().read();
        for reason in self.link.take_reasons() {
            self.transport.fail(&format!("{}: {reason}", self.id));
        }
    }
}
