//! The block device (virtio 1.2, section 5.2): a disk in a file of the host.
//!
//! A request's way: the driver's notification wakes the disk's own event loop ([`Disk`]), [`Block`] takes the request from its queue
//! and hands it to the pool (`pool`), a worker carries it out on the file (`media`, `content`), and gives it back to the queue. Only
//! workers wait for the file, and they hold no lock then: a slow file stops neither a vCPU nor other requests. A reset by the guest
//! waits for the requests that workers are at.

use std::sync::Arc;

use virtio_bindings::{
    virtio_blk::{
        VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
        VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
    },
    virtio_ids::VIRTIO_ID_BLOCK,
};

use super::{
    VirtioDevice,
    queue::{MAX_CHAIN_BYTES, QueueError, Queues},
};

mod content;
mod disk;
mod host_file;
mod media;
mod open;
mod pool;
mod spec;
#[cfg(test)]
mod tests;

pub use content::Format;
pub use disk::Disk;
pub use open::{DiskFile, OpenError};
pub use spec::{BlockSpec, DiskSpec, REGISTRATION};

use content::Content;
use media::{Media, RANGE_SECTORS};
use pool::{Job, Pool};

/// The unit of addresses and lengths, in bytes.
pub const SECTOR: u64 = 512;

const QUEUE_SIZE: u16 = 256;
/// The most buffers with data in a request: beside them are the header and the status.
const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// The largest buffer in bytes, so that no request is longer than a chain may be.
const SEGMENT_BYTES: u32 = 1 << 16;
const _: () = assert!(SEGMENTS as u64 * (SEGMENT_BYTES as u64) + SECTOR <= MAX_CHAIN_BYTES);

/// How much is copied between the file and the guest at once, in bytes.
const CHUNK: usize = 256 << 10;

/// The features of every disk.
const FEATURES: u64 = 1 << VIRTIO_BLK_F_SIZE_MAX
    | 1 << VIRTIO_BLK_F_SEG_MAX
    | 1 << VIRTIO_BLK_F_BLK_SIZE
    | 1 << VIRTIO_BLK_F_FLUSH;
/// Those of a disk that can be written.
const WRITABLE: u64 = 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;

/// The block device.
pub struct Block {
    media: Arc<Media>,
    queues: u16,
    work: Work,
}

/// Who carries out requests.
enum Work {
    /// The workers of a [`Disk`].
    Pool(Arc<Pool>),
    /// The thread that processes the queue, which has a buffer for it. So a device does the same in every run, and nothing waits.
    Here(Vec<u8>),
}

impl Block {
    /// A disk without threads in `file`. The guest sees the name `serial`, of at most 20 bytes.
    pub fn stepped(file: DiskFile, serial: &str, queues: u16) -> Self {
        Self { media: Arc::new(file.into_media(serial)), queues, work: Work::Here(vec![0; CHUNK]) }
    }

    fn pooled(media: Arc<Media>, queues: u16, pool: Arc<Pool>) -> Self {
        Self { media, queues, work: Work::Pool(pool) }
    }
}

impl VirtioDevice for Block {
    fn id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; self.queues.into()]
    }

    fn features(&self) -> u64 {
        let writing = if self.media.is_read_only() { 1 << VIRTIO_BLK_F_RO } else { WRITABLE };
        let several = if self.queues > 1 { 1 << VIRTIO_BLK_F_MQ } else { 0 };
        FEATURES | writing | several
    }

    /// struct virtio_blk_config.
    fn config(&self) -> Vec<u8> {
        let mut config = self.media.sectors().to_le_bytes().to_vec();
        config.extend([SEGMENT_BYTES, SEGMENTS].map(u32::to_le_bytes).concat());
        // The geometry; the size of a block; the topology and the cache's mode; the number of queues.
        config.extend([0; 4]);
        config.extend(u32::try_from(SECTOR).unwrap_or(u32::MAX).to_le_bytes());
        config.extend([0; 10]);
        config.extend(self.queues.to_le_bytes());
        // Discarding, then writing zeroes: the longest range, the number of ranges, the alignment of discarded ranges.
        let unit = self.media.unit();
        config.extend([RANGE_SECTORS, 1, unit, RANGE_SECTORS, 1].map(u32::to_le_bytes).concat());
        // The space of zeroed ranges may be freed.
        config.extend([1, 0, 0, 0]);
        config
    }

    fn start(&mut self, features: u64) {
        self.media.set_write_through(features & 1 << VIRTIO_BLK_F_FLUSH == 0);
    }

    fn reset(&mut self) {
        if let Work::Pool(pool) = &self.work {
            pool.clear();
        }
    }

    fn process_queue(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        // What a full pool leaves in the queue is taken when it has given requests back.
        while !matches!(&self.work, Work::Pool(pool) if pool.is_full(index)) {
            let Some(mut request) = queues.pop_request(index)? else { break };
            // The last byte is the status.
            if request.writable.left() == 0 {
                return Err(queues.too_small(index, 1));
            }
            match &mut self.work {
                Work::Pool(pool) => pool.add(index, request),
                Work::Here(buffer) => {
                    self.media.carry_out(&mut request, queues.memory(), buffer);
                    queues.push_request(index, &request)?;
                }
            }
        }
        Ok(())
    }

    /// A worker has carried out requests.
    fn process_host_event(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        let Work::Pool(pool) = &self.work else { return Ok(()) };
        let full: Vec<usize> = (0..self.queues.into()).filter(|queue| pool.is_full(*queue)).collect();
        for Job { queue, request } in pool.take_done() {
            queues.push_request(queue, &request)?;
        }
        full.into_iter().try_for_each(|queue| self.process_queue(queue, queues))
    }
}
