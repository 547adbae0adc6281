//! A disk in its machine: the device, the event loop that takes its requests, and the workers that carry them out.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
};

use super::{device::Block, media::Media, open::DiskFile, pool::Pool};
use crate::{
    platform::{BuildError, Counters, Doorbell, Parts, PlatformDevice},
    virtio::{event_thread::EventThread, mmio::MmioTransport},
};
use media::threads::{self, Role};

/// A disk in its machine. Dropping it stops it.
pub struct Disk {
    pub(super) transport: Arc<MmioTransport<Block>>,
    media: Arc<Media>,
    threads: Mutex<Option<Threads>>,
}

/// The threads of a disk.
struct Threads {
    pool: Arc<Pool>,
    workers: Vec<JoinHandle<()>>,
    event_loop: EventThread,
}

impl Disk {
    /// A disk in `file` with this number of queues and of workers. The guest sees the name `serial`, of at most 20 bytes.
    ///
    /// # Errors
    /// If the host refuses a file descriptor or a thread.
    pub fn new(
        file: DiskFile,
        serial: &str,
        queues: u16,
        workers: usize,
        mut parts: Parts,
    ) -> Result<Self, BuildError> {
        let (dma, line) = (parts.dma()?, parts.interrupt()?);
        let failed = |error: io::Error| BuildError::new(parts.id.as_str(), error);
        let media = Arc::new(file.into_media(serial));
        let pool = Arc::new(Pool::new(queues.into(), workers));
        let block = Block::pooled(media.clone(), queues, pool.clone());
        let transport = MmioTransport::new(block, dma.clone(), line).map_err(failed)?;
        let transport = Arc::new(transport.with_faults(parts.faults.clone()));
        let event_loop = EventThread::start(&parts.id, Role::Disk, transport.clone()).map_err(failed)?;
        let mut disk = Self {
            transport,
            media,
            threads: Mutex::new(Some(Threads { pool, workers: Vec::new(), event_loop })),
        };
        // A worker that does not start ends the others, as the disk is dropped then.
        for _ in 0..workers {
            let (transport, media) = (disk.transport.clone(), disk.media.clone());
            // The faults of one worker's transfers are apart from those of another's.
            let memory = dma.without_faults().with_faults(parts.faults.clone());
            let Some(running) = disk.threads.get_mut().unwrap_or_else(PoisonError::into_inner) else { break };
            let pool = running.pool.clone();
            let work = move || pool.work(&media, &memory, || give_back(&transport));
            let builder = thread::Builder::new().name(parts.id.clone());
            running.workers.push(threads::start(Role::Disk, builder, work).map_err(failed)?);
        }
        Ok(disk)
    }

    /// The first error of the file. The guest has seen an I/O error, and can have lost data that its programs took for written.
    pub fn failure(&self) -> Option<&io::Error> {
        OnceLock::get(self.media.failure())
    }
}

/// Gives requests back that are done.
fn give_back(transport: &MmioTransport<Block>) {
    if transport.process_host_event() {
        // More requests wait in queues than a pass takes.
        for event in transport.queue_events() {
            // The only error is EAGAIN at a full counter, and then the event is pending.
            let _ = event.write(1);
        }
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

    /// Requests that no worker has begun are dropped. The file has what was written.
    fn stop(&self) {
        self.transport.reset();
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Threads { pool, workers, event_loop }) = threads {
            let event_loop = event_loop.end();
            pool.end();
            // A panic of a thread was printed when it happened.
            workers.into_iter().chain([event_loop]).for_each(|thread| drop(thread.join()));
        }
    }

    fn counters(&self) -> Counters {
        self.media.counters()
    }

    /// The disk's own event loop serves them, and not the machine's.
    fn doorbells(&self) -> Vec<Doorbell<'_>> {
        self.transport.doorbells()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop();
    }
}
