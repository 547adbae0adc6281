//! The block device on its transport: its configuration space, and the way of requests from and to its queues.

use std::sync::Arc;

use virtio_bindings::{
    virtio_blk::{
        VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
        VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
    },
    virtio_ids::VIRTIO_ID_BLOCK,
};

use super::{
    limits::{CHUNK, QUEUE_SIZE, SECTOR, SEGMENT_BYTES, SEGMENTS},
    media::{Media, RANGE_SECTORS},
    open::DiskFile,
    pool::{Job, Pool},
};
use crate::virtio::{
    device::VirtioDevice,
    queue::{QueueError, Queues},
};

/// The features of every disk.
const FEATURES: u64 = 1 << VIRTIO_BLK_F_SIZE_MAX
    | 1 << VIRTIO_BLK_F_SEG_MAX
    | 1 << VIRTIO_BLK_F_BLK_SIZE
    | 1 << VIRTIO_BLK_F_FLUSH;
/// Those of a disk that can be written.
pub(super) const WRITABLE: u64 = 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;

/// The block device.
pub struct Block {
    pub(super) media: Arc<Media>,
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

    /// A disk whose requests the workers of `pool` carry out.
    pub(super) fn pooled(media: Arc<Media>, queues: u16, pool: Arc<Pool>) -> Self {
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
