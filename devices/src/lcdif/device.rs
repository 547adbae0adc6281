//! The controller as an object: its thread, and the guest's accesses on the bus.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    thread::{Builder, JoinHandle},
};

use media::{
    Captured, FrameSource, Recorder, Recording,
    threads::{self, Role},
};

use super::{
    registers::Registers,
    spec::LcdifSpec,
    stepper::Stepper,
    worker::{Shared, Worker},
};
use crate::{
    platform::{BuildError, Counters, DeviceSpec, Parts, PlatformDevice},
    register_table::word_offset,
};

/// The stack of the controller's thread, in bytes.
const STACK: usize = 256 << 10;

/// The controller. Dropping it stops it.
pub struct Lcdif {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Debug for Lcdif {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lcdif").finish_non_exhaustive()
    }
}

impl Lcdif {
    /// A controller after power-on, with its thread.
    ///
    /// # Errors
    /// If `parts` lacks the interrupt line or the DMA port, the recording cannot be written, or the host refuses a thread.
    pub fn new(spec: &LcdifSpec, parts: Parts) -> Result<Self, BuildError> {
        let id = parts.id.clone();
        let (shared, worker) = Self::build(spec, parts)?;
        let (of_worker, thread) = (Arc::clone(&shared), Builder::new().name(id.clone()).stack_size(STACK));
        let worker = threads::start(Role::Device, thread, move || worker.run(&of_worker))
            .map_err(|error| BuildError::new(id, error))?;
        Ok(Self { shared, worker: Mutex::new(Some(worker)) })
    }

    /// A controller without a thread, whose time passes and whose frames are scanned out by the [`Stepper`].
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn stepped(spec: &LcdifSpec, parts: Parts) -> Result<(Self, Stepper), BuildError> {
        let (shared, worker) = Self::build(spec, parts)?;
        let stepper = Stepper::new(Arc::clone(&shared), worker);
        Ok((Self { shared, worker: Mutex::new(None) }, stepper))
    }

    fn build(spec: &LcdifSpec, mut parts: Parts) -> Result<(Arc<Shared>, Worker), BuildError> {
        let recorder = spec.record.clone().map(|recording| Recorder::new(recording, false)).transpose();
        let recorder = recorder.map_err(|error| BuildError::new(parts.id.as_str(), error))?;
        let records_all = matches!(spec.record, Some(Recording::Clip(_)));
        let registers = Registers::new(spec.panel.clock(), parts.interrupt()?, parts.faults.clone());
        let worker = Worker::new(parts.dma()?, recorder, records_all, registers.abandon());
        Ok((Arc::new(Shared::new(registers)), worker))
    }
}

impl DeviceSpec for LcdifSpec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        Ok(Arc::new(Lcdif::new(self, parts)?))
    }
}

impl PlatformDevice for Lcdif {
    /// Registers are 32-bit words. Other accesses reach none.
    fn load(&self, region: usize, offset: u64, data: &mut [u8]) {
        let (Some(offset), Ok(value)) =
            (word_offset(offset).filter(|_| region == 0), <&mut [u8; 4]>::try_from(data))
        else {
            return;
        };
        *value = self.shared.state().registers.guest_reads(offset).to_le_bytes();
    }

    fn store(&self, region: usize, offset: u64, data: &[u8]) {
        let (Some(offset), Ok(value)) = (word_offset(offset).filter(|_| region == 0), data.try_into()) else {
            return;
        };
        if self.shared.state().registers.guest_writes(offset, u32::from_le_bytes(value)) {
            self.shared.wake();
        }
    }

    fn reset(&self) {
        self.shared.state().registers.reset();
        self.shared.wake();
    }

    fn pause(&self) {
        self.shared.state().registers.set_paused(true);
    }

    fn resume(&self) {
        self.shared.state().registers.set_paused(false);
        self.shared.wake();
    }

    fn stop(&self) {
        self.shared.state().registers.shut_down();
        self.shared.wake();
        if let Some(worker) = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic of the worker was printed when it happened.
            let _ = worker.join();
        }
    }

    fn counters(&self) -> Counters {
        self.shared.state().registers.count.report()
    }

    fn frames(&self) -> Option<&dyn FrameSource> {
        Some(self)
    }
}

impl FrameSource for Lcdif {
    fn step(&self, frames: Option<u32>) {
        self.shared.state().registers.step(frames);
        self.shared.wake();
    }

    fn capture(&self) -> Receiver<Captured> {
        let (viewer, frames) = mpsc::channel();
        self.shared.state().viewers.push(viewer);
        frames
    }
}

impl Drop for Lcdif {
    fn drop(&mut self) {
        self.stop();
    }
}
