//! The engine as an object: its thread, and the guest's accesses on the bus.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
};

use media::threads::{self, Role};

use super::{
    registers::Registers,
    regs::{DESCRIPTOR, RESPONSE},
    spec::MsgdmaSpec,
    stepper::Stepper,
    worker::{self, Shared},
};
use crate::platform::{BuildError, Counters, DeviceSpec, Parts, PlatformDevice};

/// Stack of the worker's thread, in bytes.
const STACK: usize = 256 << 10;

/// The flat offset at which each register region begins, in the order of `reg`.
const REGIONS: [u32; 3] = [0, DESCRIPTOR, RESPONSE];

/// The engine. Dropping it stops it.
pub struct Msgdma {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Debug for Msgdma {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Msgdma").finish_non_exhaustive()
    }
}

impl Msgdma {
    /// An idle engine with a worker thread.
    ///
    /// # Errors
    /// If `parts` lacks the interrupt line or the DMA port, or the host refuses the thread.
    pub fn new(spec: &MsgdmaSpec, mut parts: Parts) -> Result<Self, BuildError> {
        let registers = Registers::new(spec, parts.interrupt()?, parts.faults.clone());
        let shared = Arc::new(Shared::new(registers));
        let (of_worker, dma) = (Arc::clone(&shared), parts.dma()?);
        let thread = Builder::new().name(parts.id.clone()).stack_size(STACK);
        let worker = threads::start(Role::Device, thread, move || worker::run(&of_worker, &dma))
            .map_err(|error| BuildError::new(parts.id.as_str(), error))?;
        Ok(Self { shared, worker: Mutex::new(Some(worker)) })
    }

    /// An engine without a thread: the [`Stepper`] copies. So it does the same in every run, and nothing waits.
    ///
    /// # Errors
    /// If `parts` lacks the interrupt line or the DMA port.
    pub fn stepped(spec: &MsgdmaSpec, mut parts: Parts) -> Result<(Self, Stepper), BuildError> {
        let registers = Registers::new(spec, parts.interrupt()?, parts.faults.clone());
        let shared = Arc::new(Shared::new(registers));
        let stepper = Stepper::new(Arc::clone(&shared), parts.dma()?);
        Ok((Self { shared, worker: Mutex::new(None) }, stepper))
    }

    fn registers(&self) -> MutexGuard<'_, Registers> {
        self.shared.registers()
    }
}

/// The part of an access that lies in one 32-bit word.
struct Word {
    /// The flat offset of the register.
    register: u32,
    /// The bytes of the access that belong to it.
    bytes: std::ops::Range<usize>,
    /// The first of its bytes that the access has.
    first: usize,
}

impl Word {
    fn is_whole(&self) -> bool {
        self.bytes.len() == 4
    }
}

/// The words that an access of `len` bytes at `offset` of a region touches, from the lowest on.
fn words(region: usize, offset: u64, len: usize) -> impl Iterator<Item = Word> {
    let base = REGIONS.get(region).copied();
    let mut at = 0;
    std::iter::from_fn(move || {
        let position = offset.checked_add(at as u64).filter(|_| at < len)?;
        let first = (position % 4) as usize;
        let count = (4 - first).min(len - at);
        let register = base?.checked_add(u32::try_from(position - first as u64).ok()?)?;
        at += count;
        Some(Word { register, bytes: at - count..at, first })
    })
}

impl DeviceSpec for MsgdmaSpec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        Ok(Arc::new(Msgdma::new(self, parts)?))
    }
}

impl PlatformDevice for Msgdma {
    fn load(&self, region: usize, offset: u64, data: &mut [u8]) {
        for word in words(region, offset, data.len()).filter(Word::is_whole) {
            let (value, wakes) = self.registers().guest_reads(word.register);
            data[word.bytes].copy_from_slice(&value.to_le_bytes());
            if wakes {
                self.shared.wake();
            }
        }
    }

    fn store(&self, region: usize, offset: u64, data: &[u8]) {
        for word in words(region, offset, data.len()) {
            let mut bytes = [0; 4];
            let lanes = word.first..word.first + word.bytes.len();
            bytes[lanes.clone()].copy_from_slice(&data[word.bytes]);
            if self.registers().guest_writes(word.register, u32::from_le_bytes(bytes), lanes) {
                self.shared.wake();
            }
        }
    }

    fn reset(&self) {
        self.registers().reset();
    }

    fn pause(&self) {
        self.registers().set_paused(true);
    }

    fn resume(&self) {
        self.registers().set_paused(false);
        self.shared.wake();
    }

    fn stop(&self) {
        self.registers().switch_off();
        self.shared.wake();
        if let Some(worker) = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic of the worker was printed when it happened.
            let _ = worker.join();
        }
    }

    fn counters(&self) -> Counters {
        self.registers().counters()
    }
}

impl Drop for Msgdma {
    fn drop(&mut self) {
        self.stop();
    }
}
