//! The messages of vhost-user, as the front end sends them (QEMU's docs/interop/vhost-user.rst): the backend's offer, the start of the
//! rings, and their end.

use std::os::{fd::AsRawFd as _, unix::net::UnixStream};

use vhost::{
    VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{
        Frontend, VhostUserFrontend as _,
        message::{
            VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
        },
    },
};
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{
    GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _, MemoryRegionAddress,
};
use vmm_sys_util::eventfd::EventFd;

use crate::helper::Ending;

/// Why a device has no backend, or cannot be started.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Failure {
    /// It closed the connection. How it ended, if it is ours.
    #[error("its backend has ended{}", .0.as_ref().map_or_else(String::new, |ending| format!(" {ending}")))]
    Ended(Option<Ending>),
    /// It takes too long.
    #[error("its backend does not answer")]
    Silent,
    /// It breaks the protocol, or reports an error.
    #[error("its backend failed: {0}")]
    Protocol(String),
    /// It has too few queues.
    #[error("its backend has {has} queues, and {needed} are needed")]
    Queues {
        /// How many it has.
        has: u64,
        /// How many the device has.
        needed: u16,
    },
    /// It cannot be asked for the configuration space.
    #[error("its backend has no configuration space of {0} bytes; give the size that it has, or config=0")]
    Config(u32),
    /// A ring is where no other program finds it.
    #[error("queue {0} is not in one piece of guest memory")]
    Ring(usize),
    /// The memory has no file.
    #[error("guest memory has no file that another program could map")]
    Memory,
}

impl From<vhost::Error> for Failure {
    fn from(error: vhost::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// What a backend offers.
pub(super) struct Offer {
    pub(super) features: u64,
    pub(super) config: Vec<u8>,
}

/// A ring that the driver has set up, with addresses of this process.
pub(super) struct Ring {
    index: usize,
    config: VringConfigData,
}

/// What the front end and the backend signal.
pub(super) struct Signals {
    /// The driver has made buffers available, for each queue.
    pub(super) kicks: Vec<EventFd>,
    /// The backend has used buffers.
    pub(super) call: EventFd,
    /// The backend cannot go on with a queue.
    pub(super) error: EventFd,
}

/// The connection to a backend.
pub(super) struct Protocol {
    frontend: Frontend,
    /// The backend has the part of the protocol that can be negotiated.
    has_protocol_features: bool,
    /// The rings that the backend serves.
    started: Vec<usize>,
}

impl Protocol {
    pub(super) fn new(socket: UnixStream, queues: u16) -> Self {
        let frontend = Frontend::from_stream(socket, queues.into());
        Self { frontend, has_protocol_features: false, started: Vec::new() }
    }

    /// Asks the backend for its features, for this number of queues, and for a configuration space of this size.
    pub(super) fn open(&mut self, queues: u16, config: u32) -> Result<Offer, Failure> {
        let features = self.frontend.get_features()?;
        self.has_protocol_features = features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0;
        let mut known = VhostUserProtocolFeatures::empty();
        if self.has_protocol_features {
            known = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
            known.set(VhostUserProtocolFeatures::CONFIG, config > 0);
            known &= self.frontend.get_protocol_features()?;
            self.frontend.set_protocol_features(known)?;
        }
        if known.contains(VhostUserProtocolFeatures::REPLY_ACK) {
            self.frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        if known.contains(VhostUserProtocolFeatures::MQ) {
            let has = self.frontend.get_queue_num()?;
            if has < queues.into() {
                return Err(Failure::Queues { has, needed: queues });
            }
        }
        self.frontend.set_owner()?;
        let mut space = Vec::new();
        if config > 0 {
            if !known.contains(VhostUserProtocolFeatures::CONFIG) {
                return Err(Failure::Config(config));
            }
            let asked = vec![0; usize::try_from(config).unwrap_or(0)];
            let answer = self.frontend.get_config(0, config, VhostUserConfigFlags::empty(), &asked);
            (_, space) = answer.map_err(|_| Failure::Config(config))?;
        }
        Ok(Offer { features, config: space })
    }

    /// Has the backend serve `rings` in `memory`.
    pub(super) fn start(
        &mut self,
        features: u64,
        memory: &GuestMemoryMmap,
        rings: &[Ring],
        signals: &Signals,
    ) -> Result<(), Failure> {
        let own =
            if self.has_protocol_features { VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() } else { 0 };
        self.frontend.set_features(features | own)?;
        let regions: Option<Vec<_>> = memory.iter().map(region).collect();
        self.frontend.set_mem_table(&regions.ok_or(Failure::Memory)?)?;
        for (Ring { index, config }, kick) in
            rings.iter().filter_map(|ring| Some((ring, signals.kicks.get(ring.index)?)))
        {
            self.frontend.set_vring_num(*index, config.queue_size)?;
            self.frontend.set_vring_addr(*index, config)?;
            self.frontend.set_vring_base(*index, 0)?;
            self.frontend.set_vring_call(*index, &signals.call)?;
            self.frontend.set_vring_err(*index, &signals.error)?;
            self.started.push(*index);
            self.frontend.set_vring_kick(*index, kick)?;
            if self.has_protocol_features {
                self.frontend.set_vring_enable(*index, true)?;
            }
        }
        Ok(())
    }

    /// Has the backend leave the rings: when this returns, it uses them no more.
    pub(super) fn stop(&mut self) -> Result<(), Failure> {
        for index in std::mem::take(&mut self.started) {
            self.frontend.get_vring_base(index)?;
        }
        Ok(())
    }

    /// Whether the backend serves rings.
    pub(super) fn is_running(&self) -> bool {
        !self.started.is_empty()
    }
}

fn region(region: &vm_memory::GuestRegionMmap) -> Option<VhostUserMemoryRegionInfo> {
    let file = region.file_offset()?;
    Some(VhostUserMemoryRegionInfo {
        guest_phys_addr: region.start_addr().0,
        memory_size: region.len(),
        userspace_addr: region.get_host_address(MemoryRegionAddress(0)).ok()? as u64,
        mmap_offset: file.start(),
        mmap_handle: file.file().as_raw_fd(),
    })
}

/// The rings of the `queues` that the driver has set up.
pub(super) fn rings(memory: &GuestMemoryMmap, queues: &[Queue]) -> Result<Vec<Ring>, Failure> {
    let ready = queues.iter().enumerate().filter(|(_, queue)| queue.ready());
    let ring = |(index, queue): (usize, &Queue)| {
        let refuse = || Failure::Ring(index);
        let size = u64::from(queue.size());
        // Each part of the ring lies in one mapping, as the backend translates only its address (virtio 1.2, section 2.7).
        let address = |address: u64, length: u64| {
            let start = GuestAddress(address);
            let region = memory.find_region(start).ok_or_else(refuse)?;
            let offset = address - region.start_addr().0;
            if length > region.len() - offset {
                return Err(refuse());
            }
            region.get_host_address(MemoryRegionAddress(offset)).map(|host| host as u64).map_err(|_| refuse())
        };
        let config = VringConfigData {
            queue_max_size: queue.max_size(),
            queue_size: queue.size(),
            flags: 0,
            desc_table_addr: address(queue.desc_table(), 16 * size)?,
            avail_ring_addr: address(queue.avail_ring(), 6 + 2 * size)?,
            used_ring_addr: address(queue.used_ring(), 6 + 8 * size)?,
            log_addr: None,
        };
        Ok(Ring { index, config })
    };
    ready.map(ring).collect()
}
