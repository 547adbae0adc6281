//! The block device (virtio 1.2, section 5.2): a disk in a file of the host.
//!
//! A [`Disk`] serves its queue on a thread of its own, so that a slow file stops neither a vCPU nor the other devices. A reset by the
//! guest waits for the requests that the thread has begun.

use std::{
    fs::File,
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use event_manager::{EventManager, RemoteEndpoint, SubscriberOps as _};
use tracing::error;
use virtio_bindings::{
    virtio_blk::{
        VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_SEG_MAX,
        VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
    },
    virtio_ids::VIRTIO_ID_BLOCK,
};

use super::{
    VirtioDevice,
    mmio::MmioTransport,
    platform,
    queue::{MAX_CHAIN_BYTES, QueueError, Queues},
};
use crate::{
    media::threads::{self, Role},
    platform::{BuildError, Doorbell, Node, Parts, PlatformDevice, Resources, Specification},
};

mod request;
#[cfg(test)]
mod tests;

use request::{Media, RANGE_SECTORS};

/// The unit of addresses and lengths, in bytes.
pub const SECTOR: u64 = 512;

const QUEUE_SIZE: u16 = 256;
/// The most buffers with data in a request: beside them are the header and the status.
const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// The largest buffer in bytes, so that no request is longer than a chain may be.
const SEGMENT_BYTES: u32 = 1 << 16;
const _: () = assert!(SEGMENTS as u64 * (SEGMENT_BYTES as u64) + SECTOR <= MAX_CHAIN_BYTES);

const FEATURES: u64 = 1 << VIRTIO_BLK_F_SIZE_MAX
    | 1 << VIRTIO_BLK_F_SEG_MAX
    | 1 << VIRTIO_BLK_F_BLK_SIZE
    | 1 << VIRTIO_BLK_F_FLUSH
    | 1 << VIRTIO_BLK_F_DISCARD
    | 1 << VIRTIO_BLK_F_WRITE_ZEROES;

/// A disk of a machine, which builds it itself: the machine has its file.
#[derive(Debug)]
pub struct BlockSpec;

impl Specification for BlockSpec {
    fn resources(&self) -> Resources {
        platform::resources()
    }

    fn node(&self, _id: &str) -> Node {
        platform::node()
    }
}

/// The block device.
pub struct Block(Media);

impl Block {
    /// A disk of `size` bytes in `file`, which has that length. The guest sees the name `serial`, of at most 20 bytes.
    pub fn new(file: File, size: u64, serial: &str) -> Self {
        Self(Media::new(file, size, serial))
    }
}

impl VirtioDevice for Block {
    fn id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    /// struct virtio_blk_config.
    fn config(&self) -> Vec<u8> {
        let mut config = self.0.sectors().to_le_bytes().to_vec();
        config.extend([SEGMENT_BYTES, SEGMENTS].map(u32::to_le_bytes).concat());
        // The geometry; the size of a block; the topology, the cache's mode and the number of queues.
        config.extend([0; 4]);
        config.extend(u32::try_from(SECTOR).unwrap_or(u32::MAX).to_le_bytes());
        config.extend([0; 12]);
        // Discarding, then writing zeroes: the longest range, the number of ranges, the alignment of discarded ranges.
        config.extend([RANGE_SECTORS, 1, 1, RANGE_SECTORS, 1].map(u32::to_le_bytes).concat());
        // Zeroed ranges may be holes in the file.
        config.extend([1, 0, 0, 0]);
        config
    }

    fn start(&mut self, features: u64) {
        self.0.set_write_through(features & 1 << VIRTIO_BLK_F_FLUSH == 0);
    }

    fn process_queue(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        while let Some(mut chain) = queues.pop(index)? {
            // The last byte is the status.
            let Some(room) = chain.writer.available_bytes().checked_sub(1) else {
                return Err(queues.too_small(index, 1));
            };
            self.0
                .serve(&mut chain.reader, &mut chain.writer, room)
                .map_err(|_| queues.too_small(index, 1))?;
            queues.push(index, &chain)?;
        }
        Ok(())
    }
}

/// A disk in its machine: the device, and the thread that serves its queue.
pub struct Disk {
    transport: Arc<MmioTransport<Block>>,
    worker: Mutex<Option<Worker>>,
    failure: Arc<OnceLock<io::Error>>,
}

struct Worker {
    thread: JoinHandle<()>,
    ends: Arc<AtomicBool>,
    endpoint: RemoteEndpoint<Arc<MmioTransport<Block>>>,
}

impl Disk {
    /// A disk of `size` bytes in `file`, which has that length. The guest sees the name `serial`, of at most 20 bytes. No plan of
    /// faults applies to it.
    ///
    /// # Errors
    /// If the host refuses a file descriptor or a thread.
    pub fn new(file: File, size: u64, serial: &str, mut parts: Parts) -> Result<Self, BuildError> {
        let (dma, line) = (parts.dma()?.without_faults(), parts.interrupt()?);
        let block = Block::new(file, size, serial);
        let failure = block.0.failure();
        let failed = |error: io::Error| BuildError::new(parts.id.as_str(), error);
        let transport = MmioTransport::new(block, dma, line).map_err(failed)?;
        let transport = Arc::new(transport);
        let mut manager = EventManager::new().map_err(|error| failed(io::Error::other(error.to_string())))?;
        manager.add_subscriber(transport.clone());
        let (endpoint, ends) = (manager.remote_endpoint(), Arc::new(AtomicBool::new(false)));
        let ends_there = ends.clone();
        let thread = threads::start(Role::Disk, thread::Builder::new().name(parts.id.clone()), move || {
            while !ends_there.load(Ordering::Acquire) {
                if let Err(error) = manager.run() {
                    error!("a disk is not served any more: {error}");
                    return;
                }
            }
        });
        let worker = Worker { thread: thread.map_err(failed)?, ends, endpoint };
        Ok(Self { transport, worker: Mutex::new(Some(worker)), failure })
    }

    /// The first error of the file. The guest has seen an I/O error, and can have lost data that its programs took for written.
    pub fn failure(&self) -> Option<&io::Error> {
        self.failure.get()
    }
}

impl PlatformDevice for Disk {
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
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Worker { thread, ends, endpoint }) = worker {
            ends.store(true, Ordering::Release);
            // The eventfd takes a count of one.
            let _ = endpoint.kick();
            let _ = thread.join();
        }
        self.transport.reset();
    }

    /// The thread serves them, and not the machine's event loop.
    fn doorbells(&self) -> Vec<Doorbell<'_>> {
        self.transport.doorbells()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop();
    }
}
