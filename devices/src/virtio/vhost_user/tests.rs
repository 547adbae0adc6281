use std::{
    os::unix::net::UnixStream,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use event_manager::{EventManager, SubscriberOps as _};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_STATUS};
use virtio_queue::{Queue, QueueT as _};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use super::{
    device::{Backend, ConfigSpace, Face, Front, OF_THE_KIND, VhostUser},
    fake::{Fake, GET_VRING_BASE, SET_FEATURES, Wrong},
    faults::FAULTS,
    link::Link,
    protocol::{self, Failure},
};
use crate::{
    dma::DmaPort,
    faults::{FaultHandle, Faults, Plan},
    irq::IrqLine,
    platform::{Parts, PlatformDevice as _},
    virtio::{
        device::RING_FEATURES,
        testing::{BUFFERS, Driver, MEMORY, Part},
    },
};

/// The longest that the tests' backends may take.
const LIMIT: Duration = Duration::from_millis(500);
/// The longest that a test waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// A device with a backend, its driver, and the event loop that tells the driver of failures.
struct Machine {
    device: Arc<VhostUser>,
    driver: Driver<Front>,
    events: EventManager<Arc<VhostUser>>,
    backend: Option<JoinHandle<()>>,
}

fn face() -> Face {
    Face { id: 42, queues: 2, queue_size: 16, config: ConfigSpace::OfBackend(8) }
}

/// A backend of `fake`, connected by a link.
fn link(fake: Fake, faults: FaultHandle) -> (Link, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let backend = thread::spawn(move || fake.serve(theirs));
    (Link::new(ours, None, 2, "fake0", faults).unwrap().with_limit(LIMIT), backend)
}

/// Guest memory in a file, in two mappings.
fn memory() -> GuestMemoryMmap {
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 * MEMORY).unwrap();
    let size = usize::try_from(MEMORY).unwrap();
    let ranges = [0, MEMORY]
        .map(|start| (GuestAddress(start), size, Some(FileOffset::new(file.try_clone().unwrap(), start))));
    GuestMemoryMmap::from_ranges_with_files(ranges).unwrap()
}

impl Machine {
    fn new(fake: Fake) -> Self {
        Self::with_faults(fake, FaultHandle::none())
    }

    fn with_faults(fake: Fake, faults: FaultHandle) -> Self {
        let (link, backend) = link(fake, faults.clone());
        let (line, port) = (IrqLine::new().unwrap(), DmaPort::unrestricted(memory()));
        let parts = Parts {
            id: "fake0".into(),
            interrupts: vec![line.clone()],
            dma: Some(port.clone()),
            seed: None,
            faults,
            events: Arc::new(crate::machine_events::MachineEvents::new().unwrap()),
        };
        let asked = Backend::ask(link, &face()).unwrap();
        let device = Arc::new(VhostUser::new(asked, face(), parts).unwrap());
        let mut events = EventManager::new().unwrap();
        events.add_subscriber(device.clone());
        let driver = Driver::of(device.transport.clone(), port, line);
        Self { device, driver, events, backend: Some(backend) }
    }

    fn ready(fake: Fake) -> Self {
        let mut machine = Self::new(fake);
        machine.driver.set_up(0);
        machine
    }

    /// What queue 1 answers to `bytes`.
    fn echo(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.driver.offer(1, &[Part::Out(bytes), Part::In(64)]);
        self.driver.notify(1);
        self.driver.wait_for_interrupt();
        self.driver.collect(1)
    }

    /// Runs the event loop until the driver is told that the device needs a reset.
    fn wait_for_failure(&mut self) {
        let begun = Instant::now();
        while !self.driver.needs_reset() {
            assert!(begun.elapsed() < PATIENCE, "the driver is told nothing");
            self.events.run_with_timeout(10).unwrap();
        }
    }
}

impl Driver<Front> {
    fn wait_for_interrupt(&self) {
        let begun = Instant::now();
        while !self.line.take() {
            assert!(begun.elapsed() < PATIENCE, "there is no interrupt");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.device.stop();
        // A backend that waits for nothing more ends with the connection.
        self.backend.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_backend_serves_the_rings_before_and_after_a_reset() {
    let mut machine = Machine::ready(Fake::default());
    for round in 1..=3 {
        assert_eq!(machine.echo(b"some bytes"), [b"some bytes"]);
        assert_eq!(machine.driver.load(VIRTIO_MMIO_INTERRUPT_STATUS), 1);
        assert_eq!(machine.echo(b"more"), [b"more"]);
        assert_eq!(machine.device.counters()[1..], [("starts", round), ("failures", 0)]);
        machine.driver.store(VIRTIO_MMIO_STATUS, 0);
        assert_eq!(machine.driver.load(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
        machine.driver.set_up(0);
    }
    assert!(machine.device.counters()[0].1 >= 6);
}

#[test]
fn the_driver_sees_features_of_the_kind_and_of_our_rings() {
    let machine = Machine::new(Fake::default());
    let features = machine.device.transport_features();
    assert_eq!(features, OF_THE_KIND | RING_FEATURES);
    assert_eq!(features & 1 << 30, 0, "the protocol's own");
    assert_eq!(features & 1 << 34, 0, "packed rings");
    let machine = Machine::new(Fake { features: 1 << 32 | 1 << 30 | 5, ..Fake::default() });
    assert_eq!(machine.device.transport_features(), 1 << 32 | 5);
    assert_eq!(machine.driver.load(VIRTIO_MMIO_CONFIG), u32::from_le_bytes([0, 1, 2, 3]));
    assert_eq!(machine.driver.load(VIRTIO_MMIO_CONFIG + 8), 0);
}

impl VhostUser {
    fn transport_features(&self) -> u64 {
        let mut halves = [0_u32; 2];
        for (select, half) in (0_u32..).zip(&mut halves) {
            self.store(0, 0x14, &select.to_le_bytes());
            let mut bytes = [0; 4];
            self.load(0, 0x10, &mut bytes);
            *half = u32::from_le_bytes(bytes);
        }
        u64::from(halves[0]) | u64::from(halves[1]) << 32
    }
}

/// Without the part of the protocol that can be negotiated, rings are enabled from their start.
#[test]
fn an_old_backend_serves_the_rings() {
    let (link, backend) = link(Fake { features: 1 << 32, ..Fake::default() }, FaultHandle::none());
    let face = Face { config: ConfigSpace::Known(vec![7]), ..face() };
    let asked = Backend::ask(link, &face).unwrap();
    assert_eq!((asked.features, &asked.config[..]), (1 << 32, &[7][..]));
    drop(asked);
    backend.join().unwrap();
}

#[test]
fn a_backend_that_is_not_fit_is_refused() {
    let refused = |fake: Fake| {
        let (link, backend) = link(fake, FaultHandle::none());
        let failure = Backend::ask(link, &face()).err().unwrap();
        backend.join().unwrap();
        failure
    };
    let few = refused(Fake { queues: 1, ..Fake::default() });
    assert_eq!(few.to_string(), "its backend has 1 queues, and 2 are needed");
    let plain = refused(Fake { protocol_features: 1, ..Fake::default() });
    assert!(plain.to_string().contains("no configuration space of 8 bytes"), "{plain}");
    let many = refused(Fake { queues: 1 << 40, ..Fake::default() });
    assert!(matches!(many, Failure::Protocol(_)), "{many}");
    for (wrong, expected) in [(Wrong::End, Failure::Ended(None)), (Wrong::Silence, Failure::Silent)] {
        assert_eq!(refused(Fake { wrong: Some((1, wrong)), ..Fake::default() }), expected);
    }
    let garbage = refused(Fake { wrong: Some((1, Wrong::Garbage)), ..Fake::default() });
    assert!(matches!(garbage, Failure::Protocol(_)), "{garbage}");
}

/// Whatever a backend does, the driver is told, a reset returns, and the device stays as it is.
#[test]
fn a_backend_that_fails_is_an_error_that_the_driver_sees() {
    for (at, wrong, expected) in [
        (SET_FEATURES, Wrong::End, Some(Failure::Ended(None))),
        (SET_FEATURES, Wrong::Silence, Some(Failure::Silent)),
        (SET_FEATURES, Wrong::Garbage, None),
        (SET_FEATURES, Wrong::Refusal, None),
        (18, Wrong::QueueError, None),
        (18, Wrong::Talk, None),
    ] {
        let mut machine = Machine::new(Fake { wrong: Some((at, wrong)), ..Fake::default() });
        machine.driver.prepare(0);
        let begun = Instant::now();
        machine.driver.store(VIRTIO_MMIO_STATUS, crate::virtio::testing::READY);
        machine.wait_for_failure();
        machine.driver.store(VIRTIO_MMIO_STATUS, 0);
        assert!(begun.elapsed() < 4 * LIMIT, "{wrong:?}");
        let lost = machine.device.link.open(2, 0).err().unwrap();
        match expected {
            Some(expected) => assert_eq!(lost, expected),
            None => assert!(matches!(lost, Failure::Protocol(_)), "{wrong:?}: {lost}"),
        }
        // The next driver is told, too.
        machine.driver.prepare(0);
        machine.driver.store(VIRTIO_MMIO_STATUS, crate::virtio::testing::READY);
        machine.wait_for_failure();
        assert!(machine.device.counters()[2].1 >= 2);
    }
}

#[test]
fn a_reset_does_not_wait_for_a_silent_backend() {
    for wrong in [Wrong::Silence, Wrong::End, Wrong::Garbage] {
        let mut machine = Machine::ready(Fake { wrong: Some((GET_VRING_BASE, wrong)), ..Fake::default() });
        assert_eq!(machine.echo(b"x"), [b"x"]);
        let begun = Instant::now();
        machine.driver.store(VIRTIO_MMIO_STATUS, 0);
        assert!(begun.elapsed() < 4 * LIMIT, "{wrong:?}");
        machine.wait_for_failure();
    }
}

#[test]
fn a_backend_that_ends_while_nothing_happens_is_noticed() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let other = theirs.try_clone().unwrap();
    let backend = thread::spawn(move || Fake::default().serve(theirs));
    let link = Link::new(ours, None, 2, "fake0", FaultHandle::none()).unwrap();
    link.open(2, 0).unwrap();
    other.shutdown(std::net::Shutdown::Both).unwrap();
    backend.join().unwrap();
    let begun = Instant::now();
    while !link.is_lost() {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(link.take_reasons(), [Failure::Ended(None)]);
}

#[test]
fn a_ring_lies_in_one_mapping() {
    let memory = memory();
    let queue = |descriptors: u64| {
        let mut queue = Queue::new(16).unwrap();
        queue.set_ready(true);
        queue.try_set_desc_table_address(GuestAddress(descriptors)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(BUFFERS)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(BUFFERS + 0x1000)).unwrap();
        queue
    };
    let rings = |first: u64, second: u64| protocol::rings(&memory, &[queue(first), queue(second)]);
    assert_eq!(rings(0, MEMORY - 16 * 16).unwrap().len(), 2);
    for outside in [MEMORY - 15 * 16, 2 * MEMORY - 16, 2 * MEMORY, u64::MAX - 15] {
        assert_eq!(rings(0, outside).err(), Some(Failure::Ring(1)), "{outside:#x}");
    }
}

#[test]
fn a_rule_loses_an_interrupt() {
    let plan = "[[rule]]\nname = 'lost'\non = 'irq'\naction = 'lose'\nvhost-user = 0\nwhen = { nth = 2 }";
    let faults = Faults::new(Plan::read(plan, &[&FAULTS]).unwrap(), 1);
    let mut machine = Machine::with_faults(Fake::default(), FaultHandle::new(faults, "vhost-user0"));
    machine.driver.set_up(0);
    assert_eq!(machine.echo(b"first"), [b"first"]);
    machine.driver.offer(1, &[Part::Out(b"second"), Part::In(64)]);
    machine.driver.notify(1);
    let begun = Instant::now();
    let mut answers = Vec::new();
    while answers.is_empty() {
        assert!(begun.elapsed() < PATIENCE);
        answers = machine.driver.collect(1);
    }
    thread::sleep(Duration::from_millis(50));
    assert!(!machine.driver.line.take());
    assert_eq!(machine.echo(b"third"), [b"third"]);
}
