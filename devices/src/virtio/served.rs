//! A virtio device that a thread of its own serves, because it uses files or sockets of the host.

use std::sync::{Arc, Mutex, PoisonError};

use media::threads::Role;

use super::{VirtioDevice, event_thread::EventThread, mmio::MmioTransport};
use crate::platform::{BuildError, Counters, Doorbell, Parts, PlatformDevice};

/// The device and its thread. Dropping it ends the thread.
pub(super) struct Served<D> {
    transport: Arc<MmioTransport<D>>,
    thread: Mutex<Option<EventThread>>,
}

impl<D: VirtioDevice + 'static> Served<D> {
    /// Puts `device` on the bus and starts its thread, which uses the host as `role` says.
    ///
    /// # Errors
    /// If the host refuses a file descriptor or the thread.
    pub(super) fn new(device: D, role: Role, mut parts: Parts) -> Result<Self, BuildError> {
        let (dma, line) = (parts.dma()?, parts.interrupt()?);
        let failed = |error| BuildError::new(parts.id.as_str(), error);
        let transport = MmioTransport::new(device, dma, line).map_err(failed)?;
        let transport = Arc::new(transport.with_faults(parts.faults.clone()));
        let thread = EventThread::start(&parts.id, role, transport.clone()).map_err(failed)?;
        Ok(Self { transport, thread: Mutex::new(Some(thread)) })
    }
}

impl<D> Served<D> {
    fn end_thread(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread was printed when it happened.
            drop(thread.end().join());
        }
    }
}

impl<D: VirtioDevice + 'static> PlatformDevice for Served<D> {
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
        self.end_thread();
    }

    fn set(&self, key: &str, value: &str) -> Result<(), String> {
        self.transport.set(key, value)
    }

    fn counters(&self) -> Counters {
        self.transport.counters()
    }

    /// The device's own event loop serves them, and not the machine's.
    fn doorbells(&self) -> Vec<Doorbell<'_>> {
        self.transport.doorbells()
    }
}

impl<D> Drop for Served<D> {
    fn drop(&mut self) {
        self.end_thread();
    }
}
