//! A hostile driver of a virtio device: an input is a list of its actions. Another vCPU of it changes memory between two accesses of
//! the device, at places that the input chooses. All of it runs on one thread, so that an input does the same each time.

use std::{cell::RefCell, rc::Rc};

use devices::{
    bus::BusDevice as _,
    dma::{DmaPort, fuzzing},
    irq::IrqLine,
    virtio::{VirtioDevice, mmio::MmioTransport},
};
use virtio_bindings::{
    virtio_config::{
        VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
        VIRTIO_CONFIG_S_FEATURES_OK,
    },
    virtio_mmio::*,
};
use vm_memory::{Bytes as _, GuestAddress};

use crate::{Input, guest::Guest};

const FEATURES_OK: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
const READY: u32 = FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// The rings of a queue: the descriptors, the available ring, the used ring, and a table for indirect descriptors.
const SPACING: u64 = 0x400;
const AVAIL: u64 = 0x100;
const USED: u64 = 0x200;
const TABLE: u64 = 0x300;
/// The buffers follow the rings of as many queues.
const QUEUES: u64 = 16;
const BUFFERS: u64 = Guest::BASE + QUEUES * SPACING;
const BUFFERS_SIZE: u64 = 0xc000;
/// The largest queue after a set-up.
const SIZE: u16 = 16;

/// The registers of the transport that a driver uses.
const REGISTERS: [u32; 20] = [
    VIRTIO_MMIO_DEVICE_FEATURES_SEL,
    VIRTIO_MMIO_DRIVER_FEATURES_SEL,
    VIRTIO_MMIO_DRIVER_FEATURES,
    VIRTIO_MMIO_QUEUE_SEL,
    VIRTIO_MMIO_QUEUE_NUM,
    VIRTIO_MMIO_QUEUE_READY,
    VIRTIO_MMIO_QUEUE_NOTIFY,
    VIRTIO_MMIO_INTERRUPT_STATUS,
    VIRTIO_MMIO_INTERRUPT_ACK,
    VIRTIO_MMIO_STATUS,
    VIRTIO_MMIO_QUEUE_DESC_LOW,
    VIRTIO_MMIO_QUEUE_DESC_HIGH,
    VIRTIO_MMIO_QUEUE_AVAIL_LOW,
    VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
    VIRTIO_MMIO_QUEUE_USED_LOW,
    VIRTIO_MMIO_QUEUE_USED_HIGH,
    VIRTIO_MMIO_CONFIG_GENERATION,
    VIRTIO_MMIO_CONFIG,
    VIRTIO_MMIO_MAGIC_VALUE,
    VIRTIO_MMIO_SHM_SEL,
];

/// A change of memory by another vCPU.
struct Change {
    /// The accesses of the device before it.
    accesses: u32,
    address: u64,
    bytes: [u8; 8],
    length: usize,
}

/// The rings of a queue as the driver knows them.
#[derive(Debug, Clone, Copy, Default)]
struct Ring {
    size: u16,
    next: u16,
    available: u16,
}

/// The device and its driver.
pub struct Rig<D> {
    /// The device.
    pub device: MmioTransport<D>,
    /// Guest memory.
    pub guest: Guest,
    line: IrqLine,
    rings: Vec<Ring>,
    /// The buffers that a descriptor gave to the device for writing: addresses and lengths.
    writable: Vec<(u64, u64)>,
    /// Whether `writable` has all of them: the driver wrote descriptors only by [`chain`](Self::chain).
    is_exact: bool,
    changes: Rc<RefCell<Vec<Change>>>,
    /// Whether descriptors have long buffers. A device that uses all of them takes long.
    has_long_buffers: bool,
}

impl<D: VirtioDevice + 'static> Rig<D> {
    fn new(device: D, has_long_buffers: bool) -> Self {
        let guest = Guest::new();
        let line = IrqLine::new().expect("there are descriptors");
        let port = DmaPort::unrestricted(guest.memory.clone());
        let device = MmioTransport::new(device, port, line.clone()).expect("there are descriptors");
        let rings = vec![Ring::default(); device.queue_events().len()];
        let changes: Rc<RefCell<Vec<Change>>> = Rc::default();
        Self { device, guest, line, rings, writable: Vec::new(), is_exact: true, changes, has_long_buffers }
    }

    /// Stores to a register.
    pub fn store(&self, register: u32, value: u32) {
        self.device.write(register.into(), &value.to_le_bytes());
    }

    /// Loads a register.
    pub fn load(&self, register: u32) -> u32 {
        let mut bytes = [0; 4];
        self.device.read(register.into(), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Sets up the device and all its queues with `size` entries, with all features but those in `without`.
    fn set_up(&mut self, without: u64, size: u16) {
        self.reset();
        self.store(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
        self.store(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
        for half in 0..2 {
            self.store(VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
            self.store(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
            let without = (without >> (32 * half)) as u32;
            self.store(VIRTIO_MMIO_DRIVER_FEATURES, self.load(VIRTIO_MMIO_DEVICE_FEATURES) & !without);
        }
        self.store(VIRTIO_MMIO_STATUS, FEATURES_OK);
        for queue in 0..self.rings.len() {
            self.guest.write(table(queue), &[0; SPACING as usize]);
            self.store(VIRTIO_MMIO_QUEUE_SEL, queue as u32);
            self.store(VIRTIO_MMIO_QUEUE_NUM, size.into());
            for (register, offset) in [
                (VIRTIO_MMIO_QUEUE_DESC_LOW, 0),
                (VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL),
                (VIRTIO_MMIO_QUEUE_USED_LOW, USED),
            ] {
                self.store(register, (table(queue) + offset) as u32);
                self.store(register + 4, 0);
            }
            self.store(VIRTIO_MMIO_QUEUE_READY, 1);
            self.rings[queue] = Ring { size, ..Ring::default() };
        }
        self.store(VIRTIO_MMIO_STATUS, READY);
    }

    fn reset(&mut self) {
        self.store(VIRTIO_MMIO_STATUS, 0);
    }

    /// Offers a chain of (flags without NEXT, address, length) in `queue`, after a set-up.
    fn chain(&mut self, queue: usize, parts: &[(u16, u64, u32)]) {
        let Ring { size, next, available } = self.rings[queue];
        if size == 0 {
            return;
        }
        let slot = |number: u16| u64::from(number % size);
        for (number, (flags, address, length)) in (0..).zip(parts) {
            let flags = flags | if usize::from(number) + 1 < parts.len() { NEXT } else { 0 };
            let at = table(queue) + 16 * slot(next.wrapping_add(number));
            self.describe(at, *address, *length, flags, slot(next.wrapping_add(number + 1)) as u16);
        }
        let head = slot(next) as u16;
        self.guest.write(table(queue) + AVAIL + 4 + 2 * slot(available), &head.to_le_bytes());
        self.guest.write(table(queue) + AVAIL + 2, &available.wrapping_add(1).to_le_bytes());
        let next = next.wrapping_add(parts.len() as u16);
        self.rings[queue] = Ring { size, next, available: available.wrapping_add(1) };
    }

    fn describe(&mut self, at: u64, address: u64, length: u32, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.guest.write(at, &bytes);
        if flags & WRITE != 0 {
            self.writable.push((address, length.into()));
            // There the device writes descriptors.
            self.is_exact &= address >= BUFFERS;
        }
    }

    /// Lets the device work on `queue` as its event loop does, a few times.
    fn process(&self, queue: usize) {
        for _ in 0..4 {
            if !self.device.process_queue(queue) {
                break;
            }
        }
    }

    /// Sets the device up, offers `request` and room for an answer in `queue`, and returns the answer.
    ///
    /// # Panics
    /// If the device does not answer.
    pub fn ask<const N: usize>(&mut self, queue: usize, request: &[u8]) -> [u8; N] {
        fuzzing::before_accesses(None);
        self.set_up(0, SIZE);
        assert_eq!(self.load(VIRTIO_MMIO_STATUS), READY, "the device is ready after a set-up");
        self.guest.write(BUFFERS, request);
        let answer = BUFFERS + 0x1000;
        let parts = [(0, BUFFERS, request.len() as u32), (WRITE, answer, N as u32)];
        let first = usize::from(request.is_empty());
        self.chain(queue, &parts[first..if N == 0 { 1 } else { 2 }]);
        self.process(queue);
        let used = u16::from_le_bytes(self.guest.read(table(queue) + USED + 2));
        assert_eq!(used, 1, "the device uses what is offered after a set-up");
        assert_eq!(self.load(VIRTIO_MMIO_STATUS), READY);
        self.guest.read(answer)
    }

    /// Does what the next byte of `input` selects. `request` makes the beginning of a request of this kind of device.
    fn act(
        &mut self,
        input: &mut Input<'_>,
        request: &dyn Fn(&mut Input<'_>) -> Vec<u8>,
        host: &mut dyn FnMut(&mut Input<'_>),
    ) {
        let kind = input.byte();
        let queues = self.rings.len();
        match kind % 16 {
            0 => {
                let (offset, length) = (input.half(), 1 + usize::from(input.byte() % 8));
                let offset = offset % 0x300;
                self.device.write(offset.into(), &input.array::<8>()[..length]);
                self.is_exact &= !places_rings(offset.into());
            }
            1 => {
                let (offset, length) = (input.half(), usize::from(input.byte() % 9));
                self.device.read(u64::from(offset % 0x300), &mut [0; 8][..length]);
            }
            2 => {
                let choice = input.byte();
                let without = u64::from(choice & 3)
                    | u64::from(choice >> 2 & 3) << 28
                    | u64::from(choice >> 4 & 1) << 9;
                self.set_up(without, 1 << (choice >> 5).min(4));
            }
            3 => {
                let register = REGISTERS[usize::from(input.byte()) % REGISTERS.len()];
                let value = input.word();
                self.is_exact &= !places_rings(register);
                self.store(register, value);
                self.load(register);
            }
            4..=6 => {
                let queue = usize::from(input.byte()) % queues;
                self.offer(queue, input, &[]);
                self.process(queue);
            }
            7..=8 => {
                let queue = usize::from(input.byte()) % queues;
                let bytes = request(input);
                self.offer(queue, input, &bytes);
                if kind < 0x80 {
                    self.process(queue);
                }
            }
            9 => self.process(usize::from(input.byte()) % queues),
            10 => {
                host(input);
                self.device.process_host_event();
            }
            11 => {
                let (address, length) = (input.half(), usize::from(input.byte() % 9));
                let bytes = input.array::<8>();
                self.guest.write(Guest::BASE + u64::from(address), &bytes[..length]);
                self.is_exact = false;
            }
            12..=13 => {
                // Mostly in the rings of a queue.
                let (queue, place, accesses) =
                    (usize::from(input.byte()), u64::from(input.half()), input.byte());
                let address = match kind & 0x80 {
                    0 => table(queue) + place % SPACING,
                    _ => Guest::BASE + place,
                };
                let (bytes, length) = (input.array(), 1 + usize::from(kind >> 4 & 7));
                self.changes.borrow_mut().push(Change { accesses: accesses.into(), address, bytes, length });
                self.is_exact = false;
            }
            14 => {
                self.line.take();
                self.store(VIRTIO_MMIO_INTERRUPT_ACK, self.load(VIRTIO_MMIO_INTERRUPT_STATUS));
            }
            _ => self.reset(),
        }
    }

    /// Offers a chain that `input` describes. `bytes` are in its first buffer.
    fn offer(&mut self, queue: usize, input: &mut Input<'_>, bytes: &[u8]) {
        let shape = input.byte();
        let mut parts = Vec::new();
        if !bytes.is_empty() {
            let address = BUFFERS + u64::from(input.half()) % BUFFERS_SIZE;
            self.guest.write(address, bytes);
            parts.push((0, address, bytes.len() as u32));
        }
        for number in 0..shape % 4 + u8::from(parts.is_empty()) {
            let kind = input.byte();
            let near = BUFFERS + u64::from(input.half()) % BUFFERS_SIZE;
            let is_writable = kind & 1 != 0 || shape >> 4 > 8 && number > shape >> 4 & 3;
            let (address, length) = match kind >> 5 {
                7 => (near ^ u64::from(input.word()) << 12, u32::from(input.half())),
                6 if self.has_long_buffers => (Guest::FAR + near, u32::from(input.half()) << 10),
                _ if kind & 0x10 == 0 => (near, input.byte().into()),
                _ => (near, input.half().into()),
            };
            parts.push((if is_writable { WRITE } else { 0 }, address, length));
        }
        if shape & 0x0c == 0x0c && parts.len() <= 4 {
            // The same chain in a table.
            let at = table(queue) + TABLE;
            for (number, (flags, address, length)) in (0..).zip(&parts) {
                let more = if usize::from(number) + 1 < parts.len() { NEXT } else { 0 };
                self.describe(at + 16 * u64::from(number), *address, *length, flags | more, number + 1);
            }
            parts = vec![(INDIRECT, at, 16 * parts.len() as u32)];
        }
        self.chain(queue, &parts);
    }
}

/// Whether a register says where a queue is: the driver knows only the places of its set-up.
fn places_rings(register: u32) -> bool {
    register == VIRTIO_MMIO_QUEUE_NUM || (VIRTIO_MMIO_QUEUE_DESC_LOW..VIRTIO_MMIO_SHM_SEL).contains(&register)
}

/// The descriptors of a queue.
fn table(queue: usize) -> u64 {
    Guest::BASE + SPACING * (queue as u64 % QUEUES)
}

/// Carries out the actions of `bytes` on `device`. Asserts that it wrote only to what it was given. Returns the driver, for a check
/// that the device works after a reset.
///
/// # Panics
/// If the device wrote elsewhere.
pub fn drive<D: VirtioDevice + 'static>(
    device: D,
    has_long_buffers: bool,
    bytes: &[u8],
    request: &dyn Fn(&mut Input<'_>) -> Vec<u8>,
    host: &mut dyn FnMut(&mut Input<'_>),
) -> Rig<D> {
    drive_rig(Rig::new(device, has_long_buffers), false, bytes, request, host)
}

/// The same for a device that takes any memory of the guest away when the driver names it: there are zeroes then.
///
/// # Panics
/// If the device wrote anything else elsewhere.
pub fn drive_taker<D: VirtioDevice + 'static>(
    device: D,
    bytes: &[u8],
    request: &dyn Fn(&mut Input<'_>) -> Vec<u8>,
    host: &mut dyn FnMut(&mut Input<'_>),
) -> Rig<D> {
    drive_rig(Rig::new(device, true), true, bytes, request, host)
}

fn drive_rig<D: VirtioDevice + 'static>(
    mut rig: Rig<D>,
    takes_memory: bool,
    bytes: &[u8],
    request: &dyn Fn(&mut Input<'_>) -> Vec<u8>,
    host: &mut dyn FnMut(&mut Input<'_>),
) -> Rig<D> {
    let changes = Rc::clone(&rig.changes);
    fuzzing::before_accesses(Some(Box::new(move |memory| {
        changes.borrow_mut().retain_mut(|change| {
            let is_due = change.accesses == 0;
            if is_due {
                // Nothing is there.
                let _ = memory.write_slice(&change.bytes[..change.length], GuestAddress(change.address));
            }
            change.accesses = change.accesses.saturating_sub(1);
            !is_due
        });
    })));
    let mut input = Input(bytes);
    while !input.has_ended() {
        rig.act(&mut input, request, host);
    }
    fuzzing::before_accesses(None);
    if rig.is_exact {
        let rings = (0..rig.rings.len()).map(|queue| (table(queue) + USED, TABLE - USED));
        let may_change: Vec<_> = rings.chain(rig.writable.drain(..)).collect();
        rig.guest.check(may_change.into_iter(), takes_memory);
    }
    rig
}

/// The action that sets the device up, with all features and the largest queues.
const SET_UP: [u8; 2] = [2, 0x80];

/// Another vCPU writes `word` at this place of the rings of `queue`, after the given number of accesses of the device.
fn change(queue: u8, place: u16, accesses: u8, word: u32) -> Vec<u8> {
    let [low, high] = place.to_le_bytes();
    [&[12 | 3 << 4, queue, low, high, accesses][..], &word.to_le_bytes(), &[0; 4]].concat()
}

/// Inputs that set a device up and use its queues.
pub fn seeds(queues: u8, request: &[u8]) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for queue in 0..queues {
        for is_indirect in [0, 0x0c] {
            // A request, and a buffer for the answer.
            let mut seed = vec![7, queue];
            seed.extend(request);
            seed.extend([1 | is_indirect, 0, 1, 0x11, 0, 0x20, 0, 2]);
            // A buffer for the device alone, one from it, and what the host has.
            seed.extend([4, queue, is_indirect, 1, 0, 0x30, 64]);
            seed.extend([4, queue, is_indirect, 0, 0, 0x30, 64]);
            seed.extend([10, 0, 5, b'h', b'e', b'l', b'l', b'o', 14]);
            seeds.push([&SET_UP[..], &seed].concat());
            // The same, while another vCPU makes the first descriptor endless.
            seeds.push([&SET_UP[..], &change(queue, 8, 6, 0x0fff_f000), &seed].concat());
        }
    }
    seeds
}

/// Inputs in which another vCPU makes a descriptor longer than a chain may be, after each number of accesses.
pub fn seeds_of_changes() -> Vec<Vec<u8>> {
    let places = [(0, 8), (0x0c, TABLE as u16 + 8)];
    let seeds = places.into_iter().flat_map(|(is_indirect, place)| {
        (0..32).map(move |accesses| {
            let offer = [4, 0, is_indirect, 6 << 5, 0, 1, 4, 0];
            [&SET_UP[..], &change(0, place, accesses, 32 << 20), &offer].concat()
        })
    });
    seeds.collect()
}
