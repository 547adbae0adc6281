//! The encoder as an object: its thread, and the guest's accesses on the bus.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    thread::{Builder, JoinHandle},
};

use media::threads::{self, Role};

use super::{
    registers::Registers,
    spec::VepuSpec,
    stepper::Stepper,
    worker::{Shared, Worker},
};
use crate::{
    platform::{BuildError, Counters, DeviceSpec, Parts, PlatformDevice},
    register_table::word_offset,
};

/// The stack of the encoder's thread, in bytes.
const STACK: usize = 256 << 10;

/// The encoder. Dropping it stops it.
pub struct Vepu {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Debug for Vepu {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Vepu").finish_non_exhaustive()
    }
}

impl Vepu {
    /// An idle encoder with its thread.
    ///
    /// # Errors
    /// If `parts` lacks the interrupt line or the DMA port, or the host refuses a thread.
    pub fn new(parts: Parts) -> Result<Self, BuildError> {
        let id = parts.id.clone();
        let (shared, worker) = Self::build(parts)?;
        let (of_worker, thread) = (Arc::clone(&shared), Builder::new().name(id.clone()).stack_size(STACK));
        let worker = threads::start(Role::Device, thread, move || worker.run(&of_worker))
            .map_err(|error| BuildError::new(id, error))?;
        Ok(Self { shared, worker: Mutex::new(Some(worker)) })
    }

    /// An encoder without a thread: the [`Stepper`] encodes.
    ///
    /// # Errors
    /// If `parts` lacks the interrupt line or the DMA port.
    pub fn stepped(parts: Parts) -> Result<(Self, Stepper), BuildError> {
        let (shared, worker) = Self::build(parts)?;
        let stepper = Stepper::new(Arc::clone(&shared), worker);
        Ok((Self { shared, worker: Mutex::new(None) }, stepper))
    }

    fn build(mut parts: Parts) -> Result<(Arc<Shared>, Worker), BuildError> {
        let registers = Registers::new(parts.interrupt()?, parts.faults.clone());
        let worker = Worker::new(parts.dma()?, registers.abandon());
        Ok((Arc::new(Shared::new(registers)), worker))
    }
}

impl DeviceSpec for VepuSpec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        Ok(Arc::new(Vepu::new(parts)?))
    }
}

impl PlatformDevice for Vepu {
    /// Registers are 32-bit words. Other accesses reach none.
    fn load(&self, region: usize, offset: u64, data: &mut [u8]) {
        let (Some(offset), Ok(value)) =
            (word_offset(offset).filter(|_| region == 0), <&mut [u8; 4]>::try_from(data))
        else {
            return;
        };
        *value = self.shared.registers().guest_reads(offset).to_le_bytes();
    }

    fn store(&self, region: usize, offset: u64, data: &[u8]) {
        let (Some(offset), Ok(value)) = (word_offset(offset).filter(|_| region == 0), data.try_into()) else {
            return;
        };
        if self.shared.registers().guest_writes(offset, u32::from_le_bytes(value)) {
            self.shared.wake();
        }
    }

    fn reset(&self) {
        self.shared.registers().reset();
    }

    fn pause(&self) {
        self.shared.registers().set_paused(true);
    }

    fn resume(&self) {
        self.shared.registers().set_paused(false);
        self.shared.wake();
    }

    fn stop(&self) {
        self.shared.registers().shut_down();
        self.shared.wake();
        if let Some(worker) = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic of the worker was printed when it happened.
            let _ = worker.join();
        }
    }

    fn counters(&self) -> Counters {
        self.shared.registers().count.report()
    }
}

impl Drop for Vepu {
    fn drop(&mut self) {
        self.stop();
    }
}
