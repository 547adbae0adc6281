//! The camera as an object: its thread, and the guest's accesses on the bus.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::{Builder, JoinHandle},
    time::Instant,
};

use super::{
    counters::Counters,
    error::CameraError,
    faults::DmaFaults,
    registers::RegisterFile,
    source::Source,
    spec::{CameraSpec, Timing},
    stepper::Stepper,
    worker::{Shared, Time, Worker},
};
use crate::{bus::BusDevice, dma::DmaPort, faults::FaultHandle, irq::IrqLine};
use media::{
    Recorder,
    threads::{self, Role},
};

/// The stack of the camera's thread, in bytes. The default of 2 MiB can become a huge page at the first access.
const STACK: usize = 256 << 10;

/// A camera with its thread.
///
/// ```
/// use devices::{
///     bus::BusDevice, camera::{Camera, CameraSpec, regs}, dma::DmaPort, irq::IrqLine, media::{Layout, stamp},
/// };
/// use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
///
/// let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x10_0000)])?;
/// let window = 0x4_0000..0x8_0000;
/// let spec: CameraSpec = "scene=gradient,timing=stall".parse()?;
/// let dma = DmaPort::new(memory.clone(), spec.dma.address_bits, &[window]);
/// let irq = IrqLine::new()?;
/// let camera = Camera::new(spec, dma, irq.clone())?;
///
/// let grey = u32::from_le_bytes(*b"GREY");
/// for (register, value) in [
///     (regs::IRQ_ENABLE, regs::IRQ_DONE),
///     (regs::CH_FORMAT, grey),
///     (regs::CH_SIZE, 120 << 16 | 160),
///     (regs::CH_STRIDE0, 160),
///     (regs::CH_ADDR0_LO, 0x4_0000),
///     (regs::CH_LEN0, 160 * 120),
///     (regs::CH_COMMIT, 1),
///     (regs::CTRL, regs::CTRL_ENABLE),
/// ] {
///     camera.write(register.into(), &value.to_le_bytes());
/// }
/// while !irq.take() {
///     std::thread::yield_now();
/// }
/// let mut frame = vec![0; 160 * 120];
/// memory.read_slice(&mut frame, GuestAddress(0x4_0000))?;
/// assert_eq!(stamp::check(&frame, &Layout::new(grey, 160, 120)?)?.sequence, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Camera {
    pub(super) shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Camera {
    /// Builds an idle camera that reaches guest memory through `dma` and raises `irq`.
    ///
    /// # Errors
    /// If its thread cannot start, its scene file cannot be shown, or its recording cannot be written.
    pub fn new(spec: CameraSpec, dma: DmaPort, irq: IrqLine) -> Result<Self, CameraError> {
        Self::with_faults("camera0", spec, dma, irq, FaultHandle::none())
    }

    /// The same, for the camera `id` of a machine, with the faults of the machine's plan.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_faults(
        id: &str,
        spec: CameraSpec,
        dma: DmaPort,
        irq: IrqLine,
        faults: FaultHandle,
    ) -> Result<Self, CameraError> {
        let (shared, worker) = parts(spec, dma, irq, faults, Time::Host)?;
        let thread = threads::start(Role::Device, Builder::new().name(id.to_owned()).stack_size(STACK), {
            let shared = Arc::clone(&shared);
            move || worker.run(&shared)
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// A camera without a thread and without a clock: the [`Stepper`] passes its time and makes its frames. So it does the same in
    /// every run, and nothing waits.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn stepped(
        spec: CameraSpec,
        dma: DmaPort,
        irq: IrqLine,
        faults: FaultHandle,
    ) -> Result<(Self, Stepper), CameraError> {
        let time = Time::Stepped(Mutex::new(Instant::now()));
        let (shared, worker) = parts(spec, dma, irq, faults, time)?;
        let stepper = Stepper::new(Arc::clone(&shared), worker);
        Ok((Self { shared, thread: Mutex::new(None) }, stepper))
    }

    /// The counters since it was built. A reset by the guest does not clear them.
    pub fn counters(&self) -> Counters {
        self.shared.registers().counters()
    }

    /// Switches the camera off. A frame in work is abandoned, and nothing is written to guest memory afterwards.
    pub fn stop(&self) {
        self.shared.registers().switch_off();
        self.shared.wake();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // An error is a panic of the thread, which was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// The registers of a camera that `spec` describes, and its worker.
fn parts(
    spec: CameraSpec,
    dma: DmaPort,
    irq: IrqLine,
    faults: FaultHandle,
    time: Time,
) -> Result<(Arc<Shared>, Worker), CameraError> {
    let source = Source::new(&spec)?;
    let waits = spec.timing == Timing::Stall;
    let recorder = spec.record.clone().map(|recording| Recorder::new(recording, waits)).transpose()?;
    let on_the_way = DmaFaults::new(faults.clone());
    let shared = Arc::new(Shared::new(RegisterFile::new(spec, irq, faults), time));
    let worker = Worker::new(&shared, dma, source, on_the_way, recorder);
    Ok((shared, worker))
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.stop();
    }
}

impl BusDevice for Camera {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let value =
            register(offset, data.len()).map_or(0, |register| self.shared.registers().guest_reads(register));
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes().into_iter().chain(std::iter::repeat(0)))
        {
            *byte = value;
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(register) = register(offset, data.len())
            && let Ok(bytes) = data.try_into()
            && self.shared.registers().guest_writes(register, u32::from_le_bytes(bytes), self.shared.now())
        {
            self.shared.wake();
        }
    }
}

/// The register at `offset`, for an aligned access of four bytes. None for any other access.
fn register(offset: u64, len: usize) -> Option<u32> {
    u32::try_from(offset).ok().filter(|register| len == 4 && register.is_multiple_of(4))
}
