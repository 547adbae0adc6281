//! The camera as a platform device: its resources, its node, its counters, and its line in the registry.

use std::sync::{Arc, mpsc::Receiver};

use super::{
    device::Camera,
    faults::FAULTS,
    regs,
    spec::{CAMERA_KEYS, CameraSpec, SENSOR_KEYS},
};
use crate::{
    bus::BusDevice,
    platform::{
        BuildError, Counters, DeviceSpec, Interrupt, Node, Parts, PlatformDevice, Region, Registration,
        Resources, Specification, Trigger, options::DMA_KEYS,
    },
};
use media::{Captured, FrameSource};

/// The names of the camera's counters.
const COUNTERS: [&str; 9] = [
    "frames",
    "drops",
    "overflows",
    "bus_errors",
    "sync_losses",
    "config_errors",
    "irqs",
    "irqs_late",
    "bytes",
];

/// The camera's line in the registry.
pub static REGISTRATION: Registration = Registration {
    name: "camera",
    summary: "an image sensor with its ISP, or a generator of test patterns, that writes frames",
    most: 8,
    keys: &[CAMERA_KEYS, DMA_KEYS, SENSOR_KEYS],
    changeable: &[],
    parse: |text| match text.parse::<CameraSpec>() {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(error) => Err(error.to_string()),
    },
    counters: &COUNTERS,
    faults: &FAULTS,
};

impl Specification for CameraSpec {
    fn resources(&self) -> Resources {
        Resources {
            regions: vec![Region::unnamed(regs::MAPPED_SIZE.into())],
            interrupts: vec![Interrupt::unnamed(Trigger::Edge)],
            clocks: Vec::new(),
            dma: Some(self.dma.clone()),
        }
    }

    fn node(&self, _id: &str) -> Node {
        Node::new("camera").compatible(&["minivmm,camera"])
    }
}

impl DeviceSpec for CameraSpec {
    fn build(&self, mut parts: Parts) -> Result<Arc<dyn PlatformDevice>, BuildError> {
        let spec = Self { seed: self.seed.or(parts.seed), ..self.clone() };
        let (dma, interrupt) = (parts.dma()?, parts.interrupt()?);
        let camera = Camera::with_faults(&parts.id, spec, dma, interrupt, parts.faults);
        Ok(Arc::new(camera.map_err(|error| BuildError::new(parts.id, error))?))
    }
}

impl PlatformDevice for Camera {
    fn load(&self, _region: usize, offset: u64, data: &mut [u8]) {
        BusDevice::read(self, offset, data);
    }

    fn store(&self, _region: usize, offset: u64, data: &[u8]) {
        BusDevice::write(self, offset, data);
    }

    fn reset(&self) {
        self.shared.registers().reset();
        self.shared.wake();
    }

    fn pause(&self) {
        self.shared.registers().hold(true, self.shared.now());
    }

    fn resume(&self) {
        self.shared.registers().hold(false, self.shared.now());
        self.shared.wake();
    }

    fn stop(&self) {
        Camera::stop(self);
    }

    fn counters(&self) -> Counters {
        let counters = Camera::counters(self);
        let values = [
            counters.frames,
            counters.drops,
            counters.overflows,
            counters.bus_errors,
            counters.sync_losses,
            counters.config_errors,
            counters.irqs,
            counters.irqs_late,
            counters.bytes,
        ];
        COUNTERS.into_iter().zip(values).collect()
    }

    fn frames(&self) -> Option<&dyn FrameSource> {
        Some(self)
    }
}

impl FrameSource for Camera {
    fn step(&self, frames: Option<u32>) {
        self.shared.registers().step(frames, self.shared.now());
        self.shared.wake();
    }

    fn capture(&self) -> Receiver<Captured> {
        self.shared.view()
    }
}
