//! The transport, driven as a guest drives it.

use std::{
    io::{Read, Write},
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use proptest::prelude::*;
use vm_memory::Bytes;

use super::*;
use crate::virtio::{
    queue::QueueError,
    testing::{BUFFERS, Driver, INDIRECT, MEMORY, NEXT, Part, READY, WRITE, avail, describe_at, table, used},
};

const SIZE: u16 = 16;
const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const OWN_FEATURE: u64 = 1 << 3;

/// A device that echoes each chain. Its configuration is one byte that counts the host's events.
struct Echo {
    started: Arc<Mutex<Option<u64>>>,
    config: u8,
    event: EventFd,
}

impl Echo {
    fn new() -> Self {
        Self { started: Arc::default(), config: 0, event: EventFd::new(EFD_NONBLOCK).unwrap() }
    }
}

impl VirtioDevice for Echo {
    fn id(&self) -> u32 {
        42
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![SIZE, SIZE]
    }

    fn features(&self) -> u64 {
        OWN_FEATURE
    }

    fn config(&self) -> Vec<u8> {
        vec![self.config, 1, 2, 3, 4]
    }

    fn start(&mut self, features: u64) {
        *self.started.lock().unwrap() = Some(features);
    }

    fn reset(&mut self) {
        *self.started.lock().unwrap() = None;
    }

    fn process_queue(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        while let Some(mut chain) = queues.pop(index)? {
            let mut bytes = vec![0; chain.reader.available_bytes().min(chain.writer.available_bytes())];
            chain.reader.read_exact(&mut bytes).unwrap();
            chain.writer.write_all(&bytes).unwrap();
            queues.push(index, &chain)?;
        }
        Ok(())
    }

    fn host_event(&self) -> Option<&EventFd> {
        Some(&self.event)
    }

    fn process_host_event(&mut self, queues: &mut Queues<'_>) -> Result<(), QueueError> {
        self.config += 1;
        queues.config_changed();
        Ok(())
    }
}

fn cause(driver: &Driver<Echo>) -> u32 {
    driver.load(VIRTIO_MMIO_INTERRUPT_STATUS)
}

#[test]
fn the_device_says_what_it_is() {
    let driver = Driver::new(Echo::new());
    assert_eq!(driver.load(VIRTIO_MMIO_MAGIC_VALUE).to_le_bytes(), *b"virt");
    assert_eq!(driver.load(VIRTIO_MMIO_VERSION), 2);
    assert_eq!(driver.load(VIRTIO_MMIO_DEVICE_ID), 42);
    assert_eq!(driver.load(VIRTIO_MMIO_VENDOR_ID).to_le_bytes(), *b"mnvm");
    for (queue, max) in [(0, 16), (1, 16), (2, 0), (u32::MAX, 0)] {
        driver.store(VIRTIO_MMIO_QUEUE_SEL, queue);
        assert_eq!(driver.load(VIRTIO_MMIO_QUEUE_NUM_MAX), max, "queue {queue}");
    }
    assert_eq!(driver.load(VIRTIO_MMIO_SHM_LEN_LOW), u32::MAX);
}

#[test]
fn accesses_of_other_widths_do_nothing() {
    let driver = Driver::new(Echo::new());
    for (offset, len) in [(0, 1), (0, 2), (0, 8), (1, 4), (2, 4), (0x54, 4), (u64::MAX, 4)] {
        let mut data = vec![0xff; len];
        driver.device.read(offset, &mut data);
        assert_eq!(data, vec![0; len], "{len} bytes at {offset:#x}");
    }
    driver.device.write(VIRTIO_MMIO_STATUS.into(), &[1]);
    driver.device.write(VIRTIO_MMIO_STATUS.into(), &[1, 0, 0, 0, 0, 0, 0, 0]);
    driver.device.write(u64::from(VIRTIO_MMIO_STATUS) + 1, &[1, 0, 0, 0]);
    assert_eq!(driver.load(VIRTIO_MMIO_STATUS), 0);
}

#[test]
fn configuration_reads_in_any_width() {
    let driver = Driver::new(Echo::new());
    let config = u64::from(VIRTIO_MMIO_CONFIG);
    for (offset, expected) in [
        (1, &[1][..]),
        (0, &[0, 1]),
        (1, &[1, 2, 3, 4]),
        (4, &[4, 0]),
        (5, &[0; 8]),
        (u64::MAX - config, &[0]),
    ] {
        let mut data = vec![0xff; expected.len()];
        driver.device.read(config + offset, &mut data);
        assert_eq!(data, expected, "at {offset}");
    }
}

#[test]
fn features_are_agreed_on_or_refused() {
    for (low, high, agreed) in [
        (0, 1, true),
        (1 << 3 | 1 << 28 | 1 << 29, 1, true),
        (0, 0, false),
        (1 << 4, 1, false),
        (0, 1 | 1 << 31, false),
    ] {
        let device = Echo::new();
        let started = device.started.clone();
        let driver = Driver::new(device);
        driver.store(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
        for (select, value) in [(0, low), (1, high), (2, 0), (u32::MAX, u32::MAX)] {
            driver.store(VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
            driver.store(VIRTIO_MMIO_DRIVER_FEATURES, value);
        }
        driver.store(VIRTIO_MMIO_STATUS, READY & !VIRTIO_CONFIG_S_DRIVER_OK);
        let status = driver.load(VIRTIO_MMIO_STATUS);
        assert_eq!(status & VIRTIO_CONFIG_S_FEATURES_OK != 0, agreed, "{high:#x}:{low:#x}");
        // Too late to change them.
        driver.store(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
        driver.store(VIRTIO_MMIO_DRIVER_FEATURES, low ^ 1 << 29);
        driver.store(VIRTIO_MMIO_STATUS, READY);
        let features = u64::from(high) << 32 | u64::from(low);
        assert_eq!(*started.lock().unwrap(), agreed.then_some(features), "{high:#x}:{low:#x}");
    }
}

#[test]
fn the_status_advances_in_order_and_only_a_reset_takes_back() {
    let driver = Driver::new(Echo::new());
    for (write, read) in [
        (VIRTIO_CONFIG_S_DRIVER, 0),
        (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET | 0x100, 0),
        (1, 1),
        (VIRTIO_CONFIG_S_DRIVER, 3),
        (1, 3),
        (VIRTIO_CONFIG_S_DRIVER_OK, 3),
        (VIRTIO_CONFIG_S_FAILED, 3 | VIRTIO_CONFIG_S_FAILED),
        (0, 0),
    ] {
        driver.store(VIRTIO_MMIO_STATUS, write);
        assert_eq!(driver.load(VIRTIO_MMIO_STATUS), read, "after {write:#x}");
    }
}

#[test]
fn a_queue_that_cannot_be_is_refused() {
    let driver = Driver::new(Echo::new());
    for (register, value) in [
        (VIRTIO_MMIO_QUEUE_NUM, 0),
        (VIRTIO_MMIO_QUEUE_NUM, 3),
        (VIRTIO_MMIO_QUEUE_NUM, 32),
        (VIRTIO_MMIO_QUEUE_NUM, 0x1_0010),
        (VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1008),
        (VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x1001),
        (VIRTIO_MMIO_QUEUE_USED_LOW, 0x1002),
        (VIRTIO_MMIO_QUEUE_DESC_HIGH, 1),
        (VIRTIO_MMIO_QUEUE_AVAIL_HIGH, u32::MAX),
        (VIRTIO_MMIO_QUEUE_USED_LOW, 0xffff_fffc),
    ] {
        driver.store(VIRTIO_MMIO_STATUS, 0);
        driver.store(VIRTIO_MMIO_STATUS, 3);
        driver.store(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        driver.store(VIRTIO_MMIO_DRIVER_FEATURES, 1);
        driver.store(VIRTIO_MMIO_STATUS, 0xb);
        driver.store(register, value);
        driver.store(VIRTIO_MMIO_QUEUE_READY, 1);
        assert!(driver.needs_reset(), "{register:#x} = {value:#x}");
        assert!(!driver.line.take(), "nobody listens before DRIVER_OK");
    }
}

#[test]
fn chains_go_through_and_interrupt() {
    for without in [0, EVENT_IDX] {
        let mut driver = Driver::ready(Echo::new(), without);
        for round in 0..3 * u32::from(SIZE) {
            let text = round.to_le_bytes();
            driver.offer(1, &[Part::Out(&text[..1]), Part::Out(&text[1..]), Part::In(10)]);
            // With EVENT_IDX the driver says after which buffer it wants to know.
            let event = u16::try_from(round).unwrap();
            driver.memory.write_obj(event, GuestAddress(avail(1) + 4 + 2 * u64::from(SIZE))).unwrap();
            driver.notify(1);
            assert_eq!(driver.collect(1), [text.to_vec()]);
            assert!(driver.line.take());
            assert_eq!(cause(&driver), VIRTIO_MMIO_INT_VRING);
            driver.store(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
            assert_eq!(cause(&driver), 0);
        }
        assert!(!driver.needs_reset());
    }
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none() {
    let mut driver = Driver::ready(Echo::new(), 0);
    driver.memory.write_obj(5_u16, GuestAddress(avail(0) + 4 + 2 * u64::from(SIZE))).unwrap();
    for _ in 0..5 {
        driver.offer(0, &[Part::Out(b"x"), Part::In(1)]);
        driver.notify(0);
        assert!(!driver.line.take());
    }
    driver.offer(0, &[Part::Out(b"x"), Part::In(1)]);
    driver.notify(0);
    assert!(driver.line.take());
    assert_eq!(driver.collect(0).len(), 6);
    // And it is asked to notify about the next one.
    let wanted: u16 = driver.memory.read_obj(GuestAddress(used(0) + 4 + 8 * u64::from(SIZE))).unwrap();
    assert_eq!(wanted, 6);
}

#[test]
fn an_ioeventfd_notifies_as_a_store_does() {
    let mut driver = Driver::ready(Echo::new(), 0);
    driver.run();
    driver.offer(1, &[Part::Out(b"hi"), Part::In(2)]);
    driver.store(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    driver.store(VIRTIO_MMIO_QUEUE_NOTIFY, 2);
    driver.store(VIRTIO_MMIO_QUEUE_NOTIFY, u32::MAX);
    driver.run();
    assert!(driver.collect(1).is_empty());
    driver.device.queue_events()[1].write(1).unwrap();
    driver.run();
    assert_eq!(driver.collect(1), [b"hi"]);
}

#[test]
fn what_was_offered_before_driver_ok_is_found_then() {
    let mut driver = Driver::new(Echo::new());
    driver.prepare(0);
    driver.offer(0, &[Part::Out(b"early"), Part::In(5)]);
    driver.notify(0);
    assert!(driver.collect(0).is_empty());
    driver.store(VIRTIO_MMIO_STATUS, READY);
    driver.run();
    assert_eq!(driver.collect(0), [b"early"]);
}

#[test]
fn drain_leaves_nothing_behind() {
    let mut driver = Driver::ready(Echo::new(), 0);
    driver.run();
    for index in 0..SIZE {
        driver.describe(1, index, BUFFERS, 1 << 20, 0, 0);
        driver.make_available(1, index);
    }
    driver.device.drain();
    assert_eq!(driver.collect(1).len(), usize::from(SIZE));
}

#[test]
fn indirect_descriptors_are_followed() {
    let mut driver = Driver::ready(Echo::new(), 0);
    driver.memory.write_slice(b"abcd", GuestAddress(BUFFERS)).unwrap();
    let list = BUFFERS + 0x1000;
    describe_at(&driver.memory, list, BUFFERS, 4, NEXT, 1);
    describe_at(&driver.memory, list + 16, BUFFERS + 0x100, 4, WRITE, 0);
    driver.describe(0, 0, list, 32, INDIRECT, 0);
    driver.make_available(0, 0);
    driver.notify(0);
    let answer: [u8; 4] = driver.memory.read_obj(GuestAddress(BUFFERS + 0x100)).unwrap();
    assert_eq!(answer, *b"abcd");
    assert_eq!(driver.collect(0).len(), 1);
}

/// A name, and what makes queue 0 malformed.
type Malice = (&'static str, fn(&mut Driver<Echo>));

const MALICE: [Malice; 13] = [
    ("a loop", |driver| {
        driver.describe(0, 0, BUFFERS, 1, NEXT, 1);
        driver.describe(0, 1, BUFFERS, 1, NEXT, 0);
    }),
    ("a next beyond the table", |driver| driver.describe(0, 0, BUFFERS, 1, NEXT, SIZE)),
    ("a head beyond the table", |driver| driver.make_available(0, SIZE)),
    ("a buffer outside memory", |driver| driver.describe(0, 0, MEMORY - 1, 2, 0, 0)),
    ("a buffer at the end of the world", |driver| driver.describe(0, 0, u64::MAX, 2, WRITE, 0)),
    ("a buffer as long as can be", |driver| driver.describe(0, 0, BUFFERS, u32::MAX, WRITE, 0)),
    ("more than fits in a chain", |driver| {
        driver.describe(0, 0, BUFFERS, 6 << 20, NEXT, 1);
        driver.describe(0, 1, BUFFERS, 6 << 20, NEXT, 2);
        driver.describe(0, 2, BUFFERS, 6 << 20, 0, 0);
    }),
    ("a buffer to read after one to write", |driver| {
        driver.describe(0, 0, BUFFERS, 1, NEXT | WRITE, 1);
        driver.describe(0, 1, BUFFERS, 1, 0, 0);
    }),
    ("an indirect table of no size", |driver| driver.describe(0, 0, BUFFERS, 0, INDIRECT, 0)),
    ("an indirect table of half a descriptor", |driver| driver.describe(0, 0, BUFFERS, 24, INDIRECT, 0)),
    ("an indirect table outside memory", |driver| driver.describe(0, 0, MEMORY, 16, INDIRECT, 0)),
    ("an indirect table in an indirect table", |driver| {
        describe_at(&driver.memory, BUFFERS, BUFFERS, 16, INDIRECT, 0);
        driver.describe(0, 0, BUFFERS, 16, INDIRECT, 0);
    }),
    ("a long indirect table", |driver| {
        for index in 0..=SIZE {
            let at = BUFFERS + 16 * u64::from(index);
            describe_at(&driver.memory, at, BUFFERS, 0, if index < SIZE { NEXT } else { 0 }, index + 1);
        }
        driver.describe(0, 0, BUFFERS, 16 * u32::from(SIZE + 1), INDIRECT, 0);
    }),
];

#[test]
fn a_malformed_queue_stops_the_device_until_it_is_reset() {
    for (name, spoil) in MALICE {
        let mut driver = Driver::ready(Echo::new(), 0);
        spoil(&mut driver);
        driver.make_available(0, 0);
        driver.notify(0);
        assert!(driver.needs_reset(), "{name}");
        assert!(driver.line.take(), "{name}");
        assert_eq!(cause(&driver) & VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_CONFIG, "{name}");
        driver.offer(1, &[Part::Out(b"x"), Part::In(1)]);
        driver.notify(1);
        assert!(driver.collect(1).is_empty(), "{name}");

        driver.store(VIRTIO_MMIO_STATUS, 0);
        assert_eq!(cause(&driver), 0, "{name}");
        driver.set_up(0);
        driver.offer(1, &[Part::Out(b"x"), Part::In(1)]);
        driver.notify(1);
        assert_eq!(driver.collect(1), [b"x"], "{name}");
    }
}

#[test]
fn an_available_index_that_jumps_is_malformed() {
    let mut driver = Driver::ready(Echo::new(), 0);
    driver.memory.write_obj(SIZE + 1, GuestAddress(avail(0) + 2)).unwrap();
    driver.notify(0);
    assert!(driver.needs_reset());
}

#[test]
fn a_failed_driver_is_left_alone() {
    let mut driver = Driver::ready(Echo::new(), 0);
    driver.store(VIRTIO_MMIO_STATUS, READY | VIRTIO_CONFIG_S_FAILED);
    driver.offer(0, &[Part::Out(b"x"), Part::In(1)]);
    driver.notify(0);
    assert!(driver.collect(0).is_empty());
}

#[test]
fn the_host_changes_the_configuration() {
    let device = Echo::new();
    let event = device.event.try_clone().unwrap();
    let mut driver = Driver::new(device);
    event.write(1).unwrap();
    driver.run();
    assert_eq!(driver.load(VIRTIO_MMIO_CONFIG_GENERATION), 1);
    assert!(!driver.line.take(), "nobody listens before DRIVER_OK");
    driver.set_up(0);
    event.write(1).unwrap();
    driver.run();
    assert_eq!(driver.load(VIRTIO_MMIO_CONFIG_GENERATION), 2);
    assert!(driver.line.take());
    assert_eq!(cause(&driver), VIRTIO_MMIO_INT_CONFIG);
    assert_eq!(driver.load(VIRTIO_MMIO_CONFIG).to_le_bytes(), [2, 1, 2, 3]);
}

#[test]
fn a_long_queue_lets_others_have_their_turn() {
    let mut driver = Driver::ready(Echo::new(), 0);
    driver.run();
    for index in 0..8 {
        driver.describe(0, index, BUFFERS, 1 << 20, 0, 0);
        driver.make_available(0, index);
    }
    driver.offer(1, &[Part::Out(b"x"), Part::In(1)]);
    driver.store(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    driver.store(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    driver.run_once();
    assert_eq!(driver.collect(0).len(), 1);
    assert_eq!(driver.collect(1).len(), 1);
    driver.run();
    assert_eq!(driver.collect(0).len(), 7);
}

#[test]
fn after_a_reset_nothing_is_touched_even_in_mid_work() {
    let mut driver = Driver::ready(Echo::new(), EVENT_IDX);
    let stop = Arc::new(AtomicBool::new(false));
    let worker = thread::spawn({
        let (device, stop) = (driver.device.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                device.process_queue(0);
            }
        }
    });
    for _ in 0..200 {
        driver.store(VIRTIO_MMIO_STATUS, 0);
        driver.set_up(EVENT_IDX);
        for _ in 0..5 {
            driver.offer(0, &[Part::Out(b"work"), Part::In(4)]);
        }
        driver.store(VIRTIO_MMIO_STATUS, 0);
        driver.memory.write_slice(&[0x55; 0x3000], GuestAddress(table(0))).unwrap();
        thread::yield_now();
        let mut rings = [0; 0x3000];
        driver.memory.read_slice(&mut rings, GuestAddress(table(0))).unwrap();
        assert!(rings.iter().all(|byte| *byte == 0x55));
        assert_eq!(driver.load(VIRTIO_MMIO_STATUS), 0);
    }
    stop.store(true, Ordering::Relaxed);
    worker.join().unwrap();
}

proptest! {
    #[test]
    fn any_access_is_survived(accesses in prop::collection::vec(
        (any::<bool>(), prop_oneof![0_u64..0x120, any::<u64>()], prop::collection::vec(any::<u8>(), 0..9)), 0..100)
    ) {
        let mut driver = Driver::new(Echo::new());
        for (write, offset, mut data) in accesses {
            if write {
                driver.device.write(offset, &data);
            } else {
                driver.device.read(offset, &mut data);
            }
        }
        driver.run();
    }

    #[test]
    fn any_registers_in_the_right_order_are_survived(
        accesses in prop::collection::vec((0_u32..0x44, prop_oneof![0_u32..0x10000, any::<u32>()]), 0..60)
    ) {
        let mut driver = Driver::ready(Echo::new(), 0);
        for (register, value) in accesses {
            // All but the status, so that the device keeps running for long.
            if register * 4 != VIRTIO_MMIO_STATUS {
                driver.store(register * 4, value);
            }
            driver.run();
        }
    }

    #[test]
    fn any_ring_is_survived(
        descriptors in prop::collection::vec(
            (prop_oneof![BUFFERS..BUFFERS + 64, 0..MEMORY + 64, any::<u64>()],
             prop_oneof![0_u32..64, any::<u32>()], 0_u16..8, 0..SIZE + 2),
            usize::from(SIZE)),
        indirect in prop::collection::vec(any::<u8>(), 256),
        heads in prop::collection::vec(0..SIZE + 1, 1..40),
    ) {
        let mut driver = Driver::ready(Echo::new(), 0);
        driver.memory.write_slice(&indirect, GuestAddress(BUFFERS)).unwrap();
        for (index, (addr, len, flags, next)) in (0..).zip(descriptors) {
            driver.describe(0, index, addr, len, flags, next);
        }
        for head in heads {
            driver.make_available(0, head);
            driver.notify(0);
            if driver.needs_reset() {
                break;
            }
        }
    }
}
