//! The camera as an object: its thread, and the guest's accesses on the bus.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    thread::{Builder, JoinHandle},
};

use media::{
    Captured, FrameSource, RawSource,
    threads::{self, Role},
};

use super::{
    registers::Registers,
    spec::{LAMP, NAME, Rkisp1Spec},
    stepper::Stepper,
    worker::{Shared, State, Worker},
};
use crate::{
    i2c::{Bus, rk3x::Controller},
    platform::{BuildError, Counters, DeviceSpec, Parts, PlatformDevice, options::Given, unchangeable},
    register_table::word_offset,
    sensors::options,
};

/// The stack of the camera's thread, in bytes.
const STACK: usize = 256 << 10;

/// The register regions, in the order of the camera's node and its companions.
const ISP: usize = 0;
const GRF: usize = 1;
const I2C: usize = 2;

/// The camera. Dropping it stops it.
pub struct Rkisp1 {
    pub(super) shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Debug for Rkisp1 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rkisp1").finish_non_exhaustive()
    }
}

impl Rkisp1 {
    /// A camera after power-on, with its thread.
    ///
    /// # Errors
    /// If `parts` lacks an interrupt line or the DMA port, the scene file cannot be used, or the host refuses the thread.
    pub fn new(spec: &Rkisp1Spec, parts: Parts) -> Result<Self, BuildError> {
        let id = parts.id.clone();
        let (shared, worker) = Self::build(spec, parts)?;
        let (of_worker, thread) = (Arc::clone(&shared), Builder::new().name(id.clone()).stack_size(STACK));
        let worker = threads::start(Role::Device, thread, move || worker.run(&of_worker))
            .map_err(|error| BuildError::new(id, error))?;
        Ok(Self { shared, worker: Mutex::new(Some(worker)) })
    }

    /// A camera without a thread, whose time and frames the [`Stepper`] makes.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn stepped(spec: &Rkisp1Spec, parts: Parts) -> Result<(Self, Stepper), BuildError> {
        let (shared, worker) = Self::build(spec, parts)?;
        let stepper = Stepper::new(Arc::clone(&shared), worker);
        Ok((Self { shared, worker: Mutex::new(None) }, stepper))
    }

    fn build(spec: &Rkisp1Spec, mut parts: Parts) -> Result<(Arc<Shared>, Worker), BuildError> {
        let registers = Registers::new(parts.interrupt()?, parts.faults.clone());
        let seed = spec.seed.or(parts.seed).unwrap_or_default();
        let source = RawSource::new(&spec.scene.sensor, spec.scene.pattern, spec.sensor.array(), seed)
            .map_err(|error| BuildError::request(parts.id.as_str(), error))?;
        let sensor = spec.sensor.address();
        let bus = Bus::new(vec![(sensor, spec.sensor.chip())]);
        let i2c = Controller::new(bus, parts.faults.clone());
        let state = State::new(registers, i2c, sensor, parts.interrupt()?);
        let worker = Worker::new(source, parts.dma()?, state.registers.abandon());
        Ok((Arc::new(Shared::new(state)), worker))
    }
}

impl DeviceSpec for Rkisp1Spec {
    fn build(&self, parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        Ok(Arc::new(Rkisp1::new(self, parts)?))
    }
}

impl PlatformDevice for Rkisp1 {
    /// Registers are 32-bit words. Other accesses reach none.
    fn load(&self, region: usize, offset: u64, data: &mut [u8]) {
        let (Some(offset), Ok(word)) = (word_offset(offset), <&mut [u8; 4]>::try_from(data)) else { return };
        let mut state = self.shared.state();
        *word = match region {
            ISP => state.registers.guest_reads(offset),
            GRF => state.grf.load(offset),
            I2C => state.i2c.load(offset),
            _ => return,
        }
        .to_le_bytes();
    }

    fn store(&self, region: usize, offset: u64, data: &[u8]) {
        let (Some(offset), Ok(word)) = (word_offset(offset), data.try_into()) else { return };
        let value = u32::from_le_bytes(word);
        let mut state = self.shared.state();
        let wakes = match region {
            ISP => state.registers.guest_writes(offset, value),
            GRF => {
                state.grf.store(offset, value);
                true
            }
            I2C => state.i2c_store(offset, value),
            _ => false,
        };
        drop(state);
        if wakes {
            self.shared.wake();
        }
    }

    fn reset(&self) {
        self.shared.state().reset();
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

    /// A new lamp lights the scene from the next frame on.
    fn set(&self, key: &str, value: &str) -> Result<(), String> {
        if key != LAMP {
            return Err(unchangeable(key));
        }
        let lamp = options::lamp(Given { device: NAME, key: LAMP, value });
        self.shared.state().lamp = Some(lamp.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn counters(&self) -> Counters {
        self.shared.state().registers.count.report()
    }

    fn frames(&self) -> Option<&dyn FrameSource> {
        Some(self)
    }
}

impl FrameSource for Rkisp1 {
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

impl Drop for Rkisp1 {
    fn drop(&mut self) {
        self.stop();
    }
}
