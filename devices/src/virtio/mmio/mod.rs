//! The virtio-mmio transport (virtio 1.2, section 4.2): registers, negotiation, queue set-up, notifications.

use std::{
    io,
    os::fd::{AsRawFd as _, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use event_manager::{EventOps, EventSet, EventSubscriber, Events};
use tracing::{error, warn};
use virtio_bindings::{
    virtio_config::{
        VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
        VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1,
    },
    virtio_mmio::*,
    virtio_ring::VIRTIO_RING_F_EVENT_IDX,
};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{
    device::VirtioDevice,
    queue::{Outcome, Queues},
};
use crate::{bus::BusDevice, dma::DmaPort, faults::FaultHandle, irq::IrqLine, platform::Counters};

/// The size of a device's range, in bytes.
pub const SIZE: u64 = 0x200;

/// Where a store of a queue's index notifies that queue: what an ioeventfd listens to.
pub const QUEUE_NOTIFY: u64 = VIRTIO_MMIO_QUEUE_NOTIFY as u64;

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// "mnvm", little-endian.
const VENDOR: u32 = 0x6d76_6e6d;

/// The bits of the status register that the driver sets, in the order in which it must.
const STEPS: [u32; 4] = [
    VIRTIO_CONFIG_S_ACKNOWLEDGE,
    VIRTIO_CONFIG_S_DRIVER,
    VIRTIO_CONFIG_S_FEATURES_OK,
    VIRTIO_CONFIG_S_DRIVER_OK,
];

/// Distinguishes the host's event from those of the queues.
const HOST_EVENT: u32 = u32::MAX;
/// The same for the descriptor that the device polls.
const HOST_POLL: u32 = u32::MAX - 1;

/// The interrupt: a line, and the register that says why.
pub(super) struct Interrupt {
    status: AtomicU32,
    line: IrqLine,
}

impl Interrupt {
    /// The device has used buffers.
    pub(super) fn used_buffers(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    fn raise(&self, cause: u32) {
        self.status.fetch_or(cause, Ordering::SeqCst);
        self.line.raise();
    }
}

struct State<D> {
    device: D,
    rings: DmaPort,
    buffers: DmaPort,
    faults: FaultHandle,
    queues: Vec<Queue>,
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: u32,
    config_generation: u32,
}

/// A virtio device on the MMIO bus.
///
/// It is a [`BusDevice`] for the vCPUs and an [`EventSubscriber`] for the event loop. A vCPU that notifies a queue
/// or acknowledges an interrupt never waits for the device; one that does anything else, a reset above all, waits
/// until the event loop has finished its pass over a queue.
///
/// ```
/// # use std::sync::Arc;
/// # use devices::{bus::Bus, dma::DmaPort, irq::IrqLine, virtio::{mmio::{self, MmioTransport}, rng::Entropy}};
/// # use event_manager::{EventManager, SubscriberOps};
/// # use vm_memory::{GuestAddress, GuestMemoryMmap};
/// # let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)])?;
/// let (line, base) = (IrqLine::new()?, 0xd000_1000);
/// let rng = Arc::new(MmioTransport::new(Entropy::host(), DmaPort::unrestricted(ram), line.clone())?);
///
/// Bus::new().insert("rng", base..base + mmio::SIZE, rng.clone())?;
/// for (_index, _event) in rng.queue_events().iter().enumerate() {
///     // KVM_IOEVENTFD: writes `_event` when the guest stores `_index` at base + QUEUE_NOTIFY.
/// }
/// let mut events = EventManager::<Arc<MmioTransport<Entropy>>>::new()?;
/// events.add_subscriber(rng);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MmioTransport<D> {
    state: Mutex<State<D>>,
    interrupt: Arc<Interrupt>,
    queue_events: Vec<EventFd>,
    host_event: Option<EventFd>,
    host_poll: Option<RawFd>,
}

impl<D: VirtioDevice> MmioTransport<D> {
    /// Puts `device` on a bus, where it reaches guest memory through `memory` and interrupts by `line`.
    ///
    /// # Errors
    /// The error of eventfd(2), when the process has no file descriptor left.
    ///
    /// # Panics
    /// If a queue size of `device` is not a power of two.
    pub fn new(device: D, memory: DmaPort, line: IrqLine) -> io::Result<Self> {
        let queues: Vec<_> = device
            .queue_sizes()
            .into_iter()
            .map(|size| Queue::new(size).expect("a device's queue size is a power of two"))
            .collect();
        let queue_events = queues.iter().map(|_| EventFd::new(EFD_NONBLOCK)).collect::<io::Result<_>>()?;
        let host_poll = device.host_poll();
        let host_event = match device.host_event() {
            Some(event) => Some(event.try_clone()?),
            // A pass that took its share goes on by it.
            None => host_poll.map(|_| EventFd::new(EFD_NONBLOCK)).transpose()?,
        };
        let state = State {
            device,
            rings: memory.without_faults(),
            buffers: memory,
            faults: FaultHandle::none(),
            queues,
            status: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
            config_generation: 0,
        };
        Ok(Self {
            state: Mutex::new(state),
            interrupt: Arc::new(Interrupt { status: AtomicU32::new(0), line }),
            queue_events,
            host_event,
            host_poll,
        })
    }

    /// The same device, with the faults of a plan.
    #[must_use]
    pub fn with_faults(mut self, faults: FaultHandle) -> Self {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).faults = faults;
        self
    }

    /// The eventfds that notify the queues, by queue index, for KVM to write: at [`QUEUE_NOTIFY`], 32 bits wide,
    /// with the index as datamatch. A store that is trapped does the same.
    pub fn queue_events(&self) -> &[EventFd] {
        &self.queue_events
    }

    /// The interrupt, for a device whose buffers are used elsewhere.
    pub(super) fn interrupt(&self) -> Arc<Interrupt> {
        self.interrupt.clone()
    }

    /// The device cannot go on, for this reason. It says that it needs a reset.
    pub(super) fn fail(&self, reason: &str) {
        self.state().fail(&self.interrupt, reason);
    }

    /// Processes what the driver made available until now. To be called when the vCPUs have stopped, so that the
    /// guest's last output is not lost.
    pub fn drain(&self) {
        for index in 0..self.queue_events.len() {
            while self.process_queue(index) {}
        }
    }

    /// Gives a key a new value, and tells the driver.
    pub(super) fn set(&self, key: &str, value: &str) -> Result<(), String> {
        let mut state = self.state();
        state.device.set(key, value)?;
        state.config_changed(&self.interrupt);
        Ok(())
    }

    /// What the device counts.
    pub(super) fn counters(&self) -> Counters {
        self.state().device.counters()
    }

    fn state(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the device work on queue `index`, as the event loop does after a notification; true if it has to be called again.
    pub fn process_queue(&self, index: usize) -> bool {
        let mut state = self.state();
        if !state.running() {
            return false;
        }
        let outcome = state.work(&self.interrupt, |device, queues| device.process_queue(index, queues));
        outcome.again
    }

    /// Lets the device work on what the host has for it, as the event loop does; true if it has to be called again.
    pub fn process_host_event(&self) -> bool {
        let mut state = self.state();
        state.work(&self.interrupt, VirtioDevice::process_host_event).again
    }

    /// Processes the requests that `event` announces. Signals it again for the rest, so that other devices have their turn.
    fn serve(&self, event: &EventFd, process: impl FnOnce() -> bool) {
        // EAGAIN if a second notification was served together with the first.
        if event.read().is_ok() && process() {
            notify(event);
        }
    }

    fn read_register(&self, offset: u32) -> u32 {
        if offset == VIRTIO_MMIO_INTERRUPT_STATUS {
            return self.interrupt.status.load(Ordering::SeqCst);
        }
        let state = self.state();
        let queue = state.selected();
        match offset {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => VERSION,
            VIRTIO_MMIO_DEVICE_ID => state.device.id(),
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_DEVICE_FEATURES => half(state.features(), state.device_features_sel),
            VIRTIO_MMIO_QUEUE_NUM_MAX => queue.map_or(0, |queue| queue.max_size().into()),
            VIRTIO_MMIO_QUEUE_READY => queue.is_some_and(Queue::ready).into(),
            VIRTIO_MMIO_STATUS => state.status,
            // That is how a shared memory region reads which does not exist.
            VIRTIO_MMIO_SHM_LEN_LOW
            | VIRTIO_MMIO_SHM_LEN_HIGH
            | VIRTIO_MMIO_SHM_BASE_LOW
            | VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX,
            VIRTIO_MMIO_CONFIG_GENERATION => state.config_generation,
            _ => 0,
        }
    }

    fn write_register(&self, offset: u32, value: u32) {
        match offset {
            VIRTIO_MMIO_QUEUE_NOTIFY => {
                if let Some(event) =
                    usize::try_from(value).ok().and_then(|index| self.queue_events.get(index))
                {
                    notify(event);
                }
            }
            VIRTIO_MMIO_INTERRUPT_ACK => {
                self.interrupt.status.fetch_and(!value, Ordering::SeqCst);
            }
            VIRTIO_MMIO_STATUS => self.write_status(value),
            _ => self.state().configure(&self.interrupt, offset, value),
        }
    }

    /// Puts the device into the state before its driver found it.
    pub fn reset(&self) {
        self.state().reset();
        self.interrupt.status.store(0, Ordering::SeqCst);
    }

    fn write_status(&self, value: u32) {
        if value == 0 {
            let state = self.state();
            // A driver resets a device that it finds, too: only one that was in use has anything to lose.
            if state.status != 0 {
                state.faults.was_reset();
            }
            drop(state);
            return self.reset();
        }
        let mut state = self.state();
        if state.advance(value) {
            let state = &mut *state;
            state.device.hand_over(&state.queues);
            state.device.start(state.driver_features);
            // What came before is noticed now.
            self.queue_events.iter().for_each(notify);
        }
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = self.state().device.config();
        let start = usize::try_from(offset).map_or(config.len(), |offset| offset.min(config.len()));
        let len = data.len().min(config.len() - start);
        data[..len].copy_from_slice(&config[start..start + len]);
    }
}

impl<D: VirtioDevice> State<D> {
    fn features(&self) -> u64 {
        self.device.features() | self.device.ring_features()
    }

    fn running(&self) -> bool {
        self.status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)
            == VIRTIO_CONFIG_S_DRIVER_OK
    }

    fn selected(&self) -> Option<&Queue> {
        self.queues.get(usize::try_from(self.queue_sel).ok()?)
    }

    fn work(
        &mut self,
        interrupt: &Interrupt,
        work: impl FnOnce(&mut D, &mut Queues<'_>) -> Result<(), super::queue::QueueError>,
    ) -> Outcome {
        let running = self.running();
        let mut queues = Queues::new(&mut self.queues, &self.rings, &self.buffers, running, &self.faults);
        let result = work(&mut self.device, &mut queues);
        let outcome = queues.outcome();
        if outcome.interrupt {
            interrupt.raise(VIRTIO_MMIO_INT_VRING);
        }
        if outcome.config_changed {
            self.config_changed(interrupt);
        }
        if let Err(error) = result {
            self.fail(interrupt, &error.to_string());
        }
        outcome
    }

    /// The configuration space has changed: a driver that is ready reads it again.
    fn config_changed(&mut self, interrupt: &Interrupt) {
        self.config_generation = self.config_generation.wrapping_add(1);
        if self.running() {
            interrupt.raise(VIRTIO_MMIO_INT_CONFIG);
        }
    }

    /// The driver violated the protocol: the device does nothing until the driver resets it.
    fn fail(&mut self, interrupt: &Interrupt, reason: &str) {
        warn!(device = self.device.id(), "a virtio device needs a reset: {reason}");
        self.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
        if self.status & VIRTIO_CONFIG_S_DRIVER_OK != 0 {
            interrupt.raise(VIRTIO_MMIO_INT_CONFIG);
        }
    }

    fn reset(&mut self) {
        self.device.reset();
        self.queues.iter_mut().for_each(Queue::reset);
        self.status = 0;
        self.device_features_sel = 0;
        self.driver_features_sel = 0;
        self.driver_features = 0;
        self.queue_sel = 0;
    }

    /// Sets what may be set of `value` in the status register; true if the driver has become ready.
    fn advance(&mut self, value: u32) -> bool {
        let was_running = self.running();
        self.status |= value & VIRTIO_CONFIG_S_FAILED;
        for step in STEPS {
            let refused = step == VIRTIO_CONFIG_S_FEATURES_OK && !self.features_agreed();
            if self.status & step == 0 {
                if value & step == 0 || refused {
                    break;
                }
                self.status |= step;
            }
        }
        self.running() && !was_running
    }

    fn features_agreed(&self) -> bool {
        self.driver_features & !self.features() == 0 && self.driver_features & 1 << VIRTIO_F_VERSION_1 != 0
    }

    /// Registers that only hold something for later.
    fn configure(&mut self, interrupt: &Interrupt, offset: u32, value: u32) {
        let negotiating = self.status & VIRTIO_CONFIG_S_FEATURES_OK == 0;
        match offset {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_features_sel = value,
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            VIRTIO_MMIO_DRIVER_FEATURES if negotiating => {
                set_half(&mut self.driver_features, self.driver_features_sel, value);
            }
            VIRTIO_MMIO_QUEUE_SEL => self.queue_sel = value,
            _ if !negotiating => self.configure_queue(interrupt, offset, value),
            _ => {}
        }
    }

    fn configure_queue(&mut self, interrupt: &Interrupt, offset: u32, value: u32) {
        let index = self.queue_sel;
        let event_idx = self.driver_features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        let Some(queue) = usize::try_from(index).ok().and_then(|index| self.queues.get_mut(index)) else {
            return;
        };
        if offset == VIRTIO_MMIO_QUEUE_READY {
            queue.set_event_idx(event_idx);
            queue.set_ready(value == 1);
            if queue.ready() && !queue.is_valid(&self.rings) {
                queue.set_ready(false);
                self.fail(interrupt, &format!("the rings of queue {index} lie outside memory"));
            }
            return;
        }
        if queue.ready() {
            return;
        }
        let joined = |mut whole: u64, select| {
            set_half(&mut whole, select, value);
            GuestAddress(whole)
        };
        let result = match offset {
            VIRTIO_MMIO_QUEUE_NUM => u16::try_from(value)
                .map_or(Err(virtio_queue::Error::InvalidSize), |size| queue.try_set_size(size)),
            VIRTIO_MMIO_QUEUE_DESC_LOW => queue.try_set_desc_table_address(joined(queue.desc_table(), 0)),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => queue.try_set_desc_table_address(joined(queue.desc_table(), 1)),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => queue.try_set_avail_ring_address(joined(queue.avail_ring(), 0)),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => queue.try_set_avail_ring_address(joined(queue.avail_ring(), 1)),
            VIRTIO_MMIO_QUEUE_USED_LOW => queue.try_set_used_ring_address(joined(queue.used_ring(), 0)),
            VIRTIO_MMIO_QUEUE_USED_HIGH => queue.try_set_used_ring_address(joined(queue.used_ring(), 1)),
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.fail(interrupt, &format!("queue {index} was set up with an {error}: {value:#x}"));
        }
    }
}

/// The low or high 32 bits of a 64-bit register; zero beyond.
fn half(whole: u64, select: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = whole.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}

fn set_half(whole: &mut u64, select: u32, value: u32) {
    let value = u64::from(value);
    match select {
        0 => *whole = *whole & !0xffff_ffff | value,
        1 => *whole = *whole & 0xffff_ffff | value << 32,
        _ => {}
    }
}

fn notify(event: &EventFd) {
    // The only error is EAGAIN at a full counter, and then the event is pending.
    let _ = event.write(1);
}

impl<D: VirtioDevice> BusDevice for MmioTransport<D> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(VIRTIO_MMIO_CONFIG.into()) {
            self.read_config(offset, data);
        } else if let (Ok(offset), Ok(register)) = (u32::try_from(offset), <&mut [u8; 4]>::try_from(data)) {
            *register = self.read_register(offset).to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(VIRTIO_MMIO_CONFIG.into()) {
            self.state().device.write_config(offset, data);
        } else if let (Ok(offset), Ok(value)) =
            (u32::try_from(offset), data.try_into().map(u32::from_le_bytes))
        {
            self.write_register(offset, value);
        }
    }
}

impl<D: VirtioDevice> EventSubscriber for MmioTransport<D> {
    fn init(&self, ops: &mut EventOps) {
        let queues = (0..).zip(&self.queue_events);
        let events = queues.chain(self.host_event.iter().map(|event| (HOST_EVENT, event)));
        let polled = self.host_poll.iter().map(|fd| (HOST_POLL, *fd));
        for (data, fd) in events.map(|(data, event)| (data, event.as_raw_fd())).chain(polled) {
            if let Err(error) = ops.add(Events::with_data_raw(fd, data, EventSet::IN)) {
                error!(
                    "a virtio device cannot be served, as the event loop does not take its event: {error}"
                );
            }
        }
    }

    fn process(&self, events: Events, _ops: &mut EventOps) {
        if events.data() == HOST_POLL {
            if self.process_host_event()
                && let Some(event) = &self.host_event
            {
                notify(event);
            }
        } else if events.data() == HOST_EVENT {
            if let Some(event) = &self.host_event {
                self.serve(event, || self.process_host_event());
            }
        } else if let Ok(index) = usize::try_from(events.data())
            && let Some(event) = self.queue_events.get(index)
        {
            self.serve(event, || self.process_queue(index));
        }
    }
}

#[cfg(test)]
mod tests;
