//! A driver for tests: it uses registers and rings like a guest, correctly or not.

use std::sync::Arc;

use event_manager::{EventManager, SubscriberOps};
use virtio_bindings::{
    virtio_config::{
        VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
        VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    },
    virtio_mmio::*,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::{device::VirtioDevice, mmio::MmioTransport};
use crate::{bus::BusDevice, dma::DmaPort, faults::FaultHandle, irq::IrqLine};

pub(super) const READY: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE
    | VIRTIO_CONFIG_S_DRIVER
    | VIRTIO_CONFIG_S_FEATURES_OK
    | VIRTIO_CONFIG_S_DRIVER_OK;
pub(super) const MEMORY: u64 = 8 << 20;
/// Flags of a descriptor (`VRING_DESC_F_*`, 16 bits wide).
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// Where buffers begin; below are the rings, 0x3000 for each queue.
pub(super) const BUFFERS: u64 = 0x10_0000;

/// A part of a chain.
pub(super) enum Part<'a> {
    /// For the device to read.
    Out(&'a [u8]),
    /// For the device to write.
    In(u32),
}

#[derive(Default)]
struct Ring {
    size: u16,
    next_descriptor: u16,
    available: u16,
    used: u16,
    /// Address of the first buffer to write, by head.
    answers: Vec<(u16, u64)>,
}

pub(super) struct Driver<D: VirtioDevice + 'static> {
    pub(super) device: Arc<MmioTransport<D>>,
    pub(super) memory: DmaPort,
    pub(super) line: IrqLine,
    events: EventManager<Arc<MmioTransport<D>>>,
    rings: Vec<Ring>,
    next_buffer: u64,
}

impl<D: VirtioDevice + 'static> Driver<D> {
    /// A driver that has not touched the device yet.
    pub(super) fn new(device: D) -> Self {
        Self::with_faults(device, FaultHandle::none())
    }

    /// The same for a device with faults.
    pub(super) fn with_faults(device: D, faults: FaultHandle) -> Self {
        let ram =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(MEMORY).unwrap())]).unwrap();
        let (memory, line) = (DmaPort::unrestricted(ram), IrqLine::new().unwrap());
        let port = memory.clone().with_faults(faults.clone());
        let transport = MmioTransport::new(device, port, line.clone()).unwrap();
        let mut driver = Self::of(Arc::new(transport.with_faults(faults)), memory, line);
        driver.events.add_subscriber(driver.device.clone());
        driver
    }

    /// A driver of a device that something else serves.
    pub(super) fn of(device: Arc<MmioTransport<D>>, memory: DmaPort, line: IrqLine) -> Self {
        let events = EventManager::new().unwrap();
        let rings = device.queue_events().iter().map(|_| Ring::default()).collect();
        Self { device, memory, line, events, rings, next_buffer: BUFFERS }
    }

    /// A driver that agreed on all features but those in `without` and has set up all queues.
    pub(super) fn ready(device: D, without: u64) -> Self {
        let mut driver = Self::new(device);
        driver.set_up(without);
        driver
    }

    pub(super) fn set_up(&mut self, without: u64) {
        self.prepare(without);
        self.store(VIRTIO_MMIO_STATUS, READY);
        assert_eq!(self.load(VIRTIO_MMIO_STATUS), READY);
    }

    /// All of the set-up but the last step.
    pub(super) fn prepare(&mut self, without: u64) {
        self.store(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        self.store(VIRTIO_MMIO_STATUS, READY & !VIRTIO_CONFIG_S_DRIVER_OK & !VIRTIO_CONFIG_S_FEATURES_OK);
        for half in 0..2 {
            self.store(VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
            self.store(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
            let without = u32::try_from(without >> (32 * half) & 0xffff_ffff).unwrap();
            self.store(VIRTIO_MMIO_DRIVER_FEATURES, self.load(VIRTIO_MMIO_DEVICE_FEATURES) & !without);
        }
        self.store(VIRTIO_MMIO_STATUS, READY & !VIRTIO_CONFIG_S_DRIVER_OK);
        self.next_buffer = BUFFERS;
        for queue in 0..self.rings.len() {
            self.set_up_queue(queue);
        }
    }

    fn set_up_queue(&mut self, queue: usize) {
        self.memory.write_slice(&[0; 0x3000], GuestAddress(table(queue))).unwrap();
        self.store(VIRTIO_MMIO_QUEUE_SEL, u32::try_from(queue).unwrap());
        let size = self.load(VIRTIO_MMIO_QUEUE_NUM_MAX);
        self.store(VIRTIO_MMIO_QUEUE_NUM, size);
        for (register, address) in [
            (VIRTIO_MMIO_QUEUE_DESC_LOW, table(queue)),
            (VIRTIO_MMIO_QUEUE_AVAIL_LOW, avail(queue)),
            (VIRTIO_MMIO_QUEUE_USED_LOW, used(queue)),
        ] {
            self.store(register, u32::try_from(address).unwrap());
            self.store(register + 4, 0);
        }
        self.store(VIRTIO_MMIO_QUEUE_READY, 1);
        assert_eq!(self.load(VIRTIO_MMIO_QUEUE_READY), 1);
        self.rings[queue] = Ring { size: size.try_into().unwrap(), ..Ring::default() };
    }

    pub(super) fn load(&self, offset: u32) -> u32 {
        let mut data = [0xff; 4];
        self.device.read(offset.into(), &mut data);
        u32::from_le_bytes(data)
    }

    pub(super) fn store(&self, offset: u32, value: u32) {
        self.device.write(offset.into(), &value.to_le_bytes());
    }

    pub(super) fn needs_reset(&self) -> bool {
        self.load(VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET != 0
    }

    /// Writes one descriptor.
    pub(super) fn describe(&self, queue: usize, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        describe_at(&self.memory, table(queue) + 16 * u64::from(index), addr, len, flags, next);
    }

    /// Makes the chain that begins at `head` available.
    pub(super) fn make_available(&mut self, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let slot = u64::from(ring.available % ring.size);
        self.memory.write_obj(head, GuestAddress(avail(queue) + 4 + 2 * slot)).unwrap();
        ring.available = ring.available.wrapping_add(1);
        self.memory.write_obj(ring.available, GuestAddress(avail(queue) + 2)).unwrap();
    }

    /// Makes a well-formed chain available; returns its head.
    pub(super) fn offer(&mut self, queue: usize, parts: &[Part<'_>]) -> u16 {
        let size = self.rings[queue].size;
        let head = self.rings[queue].next_descriptor;
        let mut index = head;
        for (position, part) in parts.iter().enumerate() {
            let address = self.next_buffer;
            let (len, mut flags) = match part {
                Part::Out(bytes) => {
                    self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
                    (u32::try_from(bytes.len()).unwrap(), 0)
                }
                Part::In(len) => {
                    if !self.rings[queue].answers.iter().any(|(answered, _)| *answered == head) {
                        self.rings[queue].answers.push((head, address));
                    }
                    (*len, WRITE)
                }
            };
            let next = (index + 1) % size;
            if position + 1 < parts.len() {
                flags |= NEXT;
            }
            self.describe(queue, index, address, len, flags, next);
            self.next_buffer += u64::from(len);
            index = next;
        }
        self.rings[queue].next_descriptor = index;
        self.make_available(queue, head);
        head
    }

    /// Notifies the queue and lets the event loop run until nothing is left to do.
    pub(super) fn notify(&mut self, queue: usize) {
        self.store(VIRTIO_MMIO_QUEUE_NOTIFY, u32::try_from(queue).unwrap());
        self.run();
    }

    pub(super) fn run(&mut self) {
        while self.run_once() > 0 {}
    }

    pub(super) fn run_once(&mut self) -> usize {
        self.events.run_with_timeout(0).unwrap()
    }

    /// Takes what the device used: for each chain the bytes that it wrote, if they lie in one part.
    pub(super) fn collect(&mut self, queue: usize) -> Vec<Vec<u8>> {
        let ring = &mut self.rings[queue];
        let end: u16 = self.memory.read_obj(GuestAddress(used(queue) + 2)).unwrap();
        let mut answers = Vec::new();
        while ring.used != end {
            let element = GuestAddress(used(queue) + 4 + 8 * u64::from(ring.used % ring.size));
            let [id, len]: [u32; 2] = self.memory.read_obj(element).unwrap();
            let answer = ring.answers.iter().position(|(head, _)| u32::from(*head) == id);
            let mut bytes = vec![0; len.try_into().unwrap()];
            if let Some(answer) = answer {
                let (_, address) = ring.answers.remove(answer);
                self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
            }
            answers.push(bytes);
            ring.used = ring.used.wrapping_add(1);
        }
        answers
    }
}

/// Writes one descriptor at `at`.
pub(super) fn describe_at(memory: &DmaPort, at: u64, addr: u64, len: u32, flags: u16, next: u16) {
    let mut bytes = addr.to_le_bytes().to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    memory.write_slice(&bytes, GuestAddress(at)).unwrap();
}

pub(super) fn table(queue: usize) -> u64 {
    0x3000 * (queue as u64 + 1)
}

pub(super) fn avail(queue: usize) -> u64 {
    table(queue) + 0x1000
}

pub(super) fn used(queue: usize) -> u64 {
    table(queue) + 0x2000
}
