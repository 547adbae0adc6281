//! The engine with its worker and fake memory, as a driver uses it; then hostile use.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::{worker::PAGE_SIZE, *};
use crate::{
    dma::DmaPort,
    irq::IrqLine,
    machine_events::MachineEvents,
    platform::{Parts, PlatformDevice, Trigger},
};

/// RAM of the tests: low, and behind a gap.
const LOW: u64 = 0x10_0000;
const HIGH: u64 = 0x1_0000_0000;
const HIGH_SIZE: u64 = 0x1_0000;
/// The longest that a test waits for the worker.
const PATIENCE: Duration = Duration::from_secs(60);
const DRIVERS_CONTROL: u32 = regs::CONTROL_STOP_ON_ERROR | regs::CONTROL_STOP_ON_EARLY | regs::CONTROL_IRQ;
/// As Linux's driver has it for memory.
const STRIDE: u32 = 0x1_0001;
const GO: u32 = regs::DESC_GO | regs::DESC_DONE_IRQ | regs::DESC_ERROR_IRQ | 1 << 13;

struct Rig {
    device: Msgdma,
    memory: GuestMemoryMmap,
    irq: IrqLine,
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

/// The lower 32 bits.
fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap()
}

fn memory() -> GuestMemoryMmap {
    let ranges = [(GuestAddress(0), size(LOW)), (GuestAddress(HIGH), size(HIGH_SIZE))];
    let memory = GuestMemoryMmap::from_ranges(&ranges).unwrap();
    memory.write_slice(&pattern(0, LOW), GuestAddress(0)).unwrap();
    memory.write_slice(&pattern(1, HIGH_SIZE), GuestAddress(HIGH)).unwrap();
    memory
}

/// Bytes in which all pages differ.
fn pattern(seed: u64, len: u64) -> Vec<u8> {
    (0..len).map(|at| ((at + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

impl Rig {
    fn new(options: &str, plan: &str) -> Self {
        Self::with_port(options, plan, |memory| DmaPort::new(memory, 64, &[]))
    }

    fn with_port(options: &str, plan: &str, port: impl Fn(GuestMemoryMmap) -> DmaPort) -> Self {
        let memory = memory();
        let irq = IrqLine::with_trigger(Trigger::Level).unwrap();
        let faults = faults::handle(plan);
        let parts = Parts {
            id: "msgdma0".into(),
            interrupts: vec![irq.clone()],
            dma: Some(port(memory.clone()).with_faults(faults.clone())),
            seed: None,
            faults,
            events: Arc::new(MachineEvents::new().unwrap()),
        };
        let device = Msgdma::new(&options.parse().unwrap(), parts).unwrap();
        let rig = Self { device, memory, irq };
        rig.write(regs::CONTROL, DRIVERS_CONTROL);
        rig
    }

    fn write(&self, register: u32, value: u32) {
        let region = (register >> 8) as usize;
        self.device.store(region, u64::from(register & 0xff), &value.to_le_bytes());
    }

    fn read(&self, register: u32) -> u32 {
        let mut data = [0; 4];
        self.device.load((register >> 8) as usize, u64::from(register & 0xff), &mut data);
        u32::from_le_bytes(data)
    }

    fn wait(&self, what: &str, is: impl Fn(u32) -> bool) {
        let begin = Instant::now();
        while !is(self.read(regs::STATUS)) {
            assert!(begin.elapsed() < PATIENCE, "{what}: STATUS {:#x}", self.read(regs::STATUS));
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Writes a descriptor as the driver's memcpy() does on x86_64, then its control word.
    fn submit(&self, source: u64, destination: u64, length: u32, stride: u32) {
        let words =
            [low(source), low(destination), length, 0, stride, low(source >> 32), low(destination >> 32)];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        for at in [0, 8, 16, 20] {
            self.device.store(1, at as u64, &bytes[at..at + 8]);
        }
        self.write(regs::DESC_CONTROL, GO);
    }

    /// Carries out one descriptor; the bytes and status of its response.
    fn copy(&self, source: u64, destination: u64, length: u32) -> (u32, u32) {
        self.submit(source, destination, length, STRIDE);
        self.wait("a copy", |status| status & regs::STATUS_BUSY == 0);
        assert_eq!(self.read(regs::RESPONSE_FILL_LEVEL), 1);
        (self.read(regs::RESP_BYTES), self.read(regs::RESP_STATUS))
    }

    fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// Whether all of memory but `changed` is as it was at first.
    #[track_caller]
    fn assert_untouched_but(&self, changed: &[std::ops::Range<u64>]) {
        for (base, expected) in [(0, pattern(0, LOW)), (HIGH, pattern(1, HIGH_SIZE))] {
            let found = self.bytes(base, expected.len());
            for (at, (found, expected)) in (base..).zip(found.iter().zip(&expected)) {
                let is_changed = changed.iter().any(|range| range.contains(&at));
                assert!(is_changed || found == expected, "{at:#x} was written");
            }
        }
    }

    fn counter(&self, name: &str) -> u64 {
        self.device.counters().into_iter().find(|(counter, _)| *counter == name).unwrap().1
    }
}

#[test]
fn a_descriptor_copies_what_it_names_and_nothing_else() {
    let rig = Rig::new("", "");
    assert_eq!(rig.copy(0x1003, HIGH + 0x2ffe, 0x2345), (0x2345, 0));
    assert_eq!(rig.bytes(HIGH + 0x2ffe, 0x2345), rig.bytes(0x1003, 0x2345));
    rig.assert_untouched_but(&[HIGH + 0x2ffe..HIGH + 0x2ffe + 0x2345]);
    assert!(rig.irq.take());
    assert_eq!((rig.counter("descriptors"), rig.counter("bytes")), (1, 0x2345));
}

#[test]
fn no_bytes_are_done_at_once_wherever_they_are() {
    let rig = Rig::new("", "");
    assert_eq!(rig.copy(u64::MAX, u64::MAX, 0), (0, 0));
    rig.assert_untouched_but(&[]);
}

#[test]
fn a_transfer_ends_at_the_first_page_that_is_refused() {
    let end_of_low = LOW - 0x1800;
    for (source, destination, bytes, status) in [
        // RAM ends.
        (end_of_low, HIGH, 0x1800, regs::RESP_ERROR_READ),
        (0, end_of_low, 0x1800, regs::RESP_ERROR_WRITE),
        // There never was any, or addresses end.
        (0x8000_0000, 0, 0, regs::RESP_ERROR_READ),
        (0, u64::MAX - 0xfff, 0, regs::RESP_ERROR_WRITE),
        (u64::MAX, 0, 0, regs::RESP_ERROR_READ),
    ] {
        let rig = Rig::new("", "");
        assert_eq!(rig.copy(source, destination, 0x4000), (bytes, status), "{source:#x} to {destination:#x}");
        let written = destination..destination.saturating_add(bytes.into());
        rig.assert_untouched_but(&[written]);
        assert_eq!(rig.counter("bus_errors"), 1);
        let stopped = regs::STATUS_STOPPED_ON_ERROR;
        assert_eq!(rig.read(regs::STATUS) & stopped, stopped);
    }
}

#[test]
fn address_lines_and_windows_are_kept() {
    let rig = Rig::with_port("", "", |memory| DmaPort::new(memory, 32, &[]));
    assert_eq!(rig.copy(0, HIGH, 64), (0, regs::RESP_ERROR_WRITE));
    let rig = Rig::with_port("", "", |memory| DmaPort::new(memory, 64, &[0x4000..0x8000]));
    assert_eq!(rig.copy(0x4000, 0x7000, 0x2000), (0x1000, regs::RESP_ERROR_WRITE));
    rig.assert_untouched_but(&[0x7000..0x8000]);
}

#[test]
fn strides_leave_gaps_or_stay_at_one_address() {
    let rig = Rig::new("", "");
    let source = rig.bytes(0x1000, 64);
    // To every third word.
    rig.submit(0x1000, 0x2000, 10, 0x3_0001);
    rig.wait("gaps", |status| status & regs::STATUS_BUSY == 0);
    let found = rig.bytes(0x2000, 32);
    assert_eq!(
        (&found[0..4], &found[12..16], &found[24..26]),
        (&source[0..4], &source[4..8], &source[8..10])
    );
    // To one address: the last word remains there.
    rig.submit(0x1000, 0x3000, 16, 0x0_0001);
    rig.wait("one address", |status| status & regs::STATUS_BUSY == 0);
    assert_eq!(rig.bytes(0x3000, 4), source[12..16]);
    rig.assert_untouched_but(&[0x2000..0x2004, 0x200c..0x2010, 0x2018..0x201a, 0x3000..0x3004]);
}

/// A descriptor that takes minutes.
fn submit_endless(rig: &Rig) {
    rig.submit(0x1000, 0x2000, u32::MAX, 0);
    rig.wait("the begin", |_| rig.read(regs::FILL_LEVEL) == 0);
}

#[test]
fn a_long_transfer_stops_goes_on_and_is_reset() {
    let rig = Rig::new("", "");
    submit_endless(&rig);
    let begin = Instant::now();
    rig.write(regs::CONTROL, DRIVERS_CONTROL | regs::CONTROL_STOP);
    rig.wait("the stop", |status| status & regs::STATUS_STOPPED != 0);
    let before = rig.bytes(0x2000, 4);
    rig.memory.write_slice(&[0x5a; 4], GuestAddress(0x1000)).unwrap();
    assert_eq!(rig.bytes(0x2000, 4), before, "it is held");
    rig.write(regs::CONTROL, DRIVERS_CONTROL);
    rig.wait("the rest", |_| rig.bytes(0x2000, 4) == [0x5a; 4]);
    rig.write(regs::CONTROL, regs::CONTROL_RESET);
    rig.wait("the reset", |status| status & regs::STATUS_RESETTING == 0);
    assert!(begin.elapsed() < PATIENCE);
    rig.memory.write_slice(&[0; 4], GuestAddress(0x2000)).unwrap();
    assert_eq!(rig.copy(0x3000, 0x4000, 16), (16, 0));
    assert_eq!(rig.bytes(0x2000, 4), [0; 4], "nothing is written after the reset");
}

#[test]
fn a_pause_holds_it_and_the_end_waits_for_nothing() {
    let rig = Rig::new("", "");
    submit_endless(&rig);
    rig.device.pause();
    rig.write(regs::CONTROL, DRIVERS_CONTROL | regs::CONTROL_STOP);
    rig.wait("the pause", |status| status & regs::STATUS_STOPPED != 0);
    rig.write(regs::CONTROL, DRIVERS_CONTROL);
    rig.memory.write_slice(&[0x5a; 4], GuestAddress(0x1000)).unwrap();
    rig.memory.write_slice(&[0; 4], GuestAddress(0x2000)).unwrap();
    assert_eq!(rig.bytes(0x2000, 4), [0; 4]);
    rig.device.resume();
    rig.wait("the rest", |_| rig.bytes(0x2000, 4) == [0x5a; 4]);
    rig.device.stop();
    rig.memory.write_slice(&[0; 4], GuestAddress(0x2000)).unwrap();
    rig.submit(0x1000, 0x2000, 4, STRIDE);
    rig.device.stop();
    assert_eq!(rig.bytes(0x2000, 4), [0; 4]);
}

/// A plan with one rule, for the first event of its point.
fn plan(on: &str, action: &str) -> String {
    format!("[[rule]]\nname = 'r'\non = '{on}'\nwhen = {{ nth = 1 }}\naction = {action}")
}

#[test]
fn each_action_does_what_the_manual_says() {
    let rig = Rig::new("", &plan("descriptor", "'early'\nbytes = 16"));
    assert_eq!(rig.copy(0x1000, 0x2000, 0x100), (16, regs::RESP_EARLY));
    assert_eq!(rig.bytes(0x2000, 16), rig.bytes(0x1000, 16));
    rig.assert_untouched_but(&[0x2000..0x2010]);

    let rig = Rig::new("", &plan("descriptor", "'torn'\nbytes = 16"));
    assert_eq!(rig.copy(0x1000, 0x2000, 0x100), (0x100, 0));
    rig.assert_untouched_but(&[0x2000..0x2010]);
}

#[test]
fn what_goes_wrong_on_the_bus_is_reported_as_an_error_of_its_side() {
    for (on, status) in [("dma.read", regs::RESP_ERROR_READ), ("dma.write", regs::RESP_ERROR_WRITE)] {
        let rig = Rig::new("", &plan(on, "'bus-error'"));
        assert_eq!(rig.copy(0x1000, 0x2000, 0x100), (0, status));
        rig.assert_untouched_but(&[]);
    }
    let rig = Rig::new("", &plan("dma.write", "'flip'\nbits = 1"));
    assert_eq!(rig.copy(0x1000, 0x2000, 0x100), (0x100, 0));
    let differ = |(a, b): (&u8, &u8)| (a ^ b).count_ones();
    let flipped: u32 = rig.bytes(0x1000, 0x100).iter().zip(&rig.bytes(0x2000, 0x100)).map(differ).sum();
    assert_eq!(flipped, 1);
}

/// Addresses near what can go wrong.
fn address() -> impl Strategy<Value = u64> {
    let edges = [0, PAGE_SIZE, LOW / 2, LOW, HIGH, HIGH + HIGH_SIZE, u64::MAX];
    (prop::sample::select(edges.to_vec()), -0x1100_i64..0x1100)
        .prop_map(|(edge, off)| edge.wrapping_add_signed(off))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn only_what_a_descriptor_names_is_written(
        source in address(),
        destination in address(),
        length in prop_oneof![Just(0_u32), 1_u32..0x3000, Just(u32::MAX)],
    ) {
        let rig = Rig::new("", "");
        let before = |address, len| rig.bytes(address, len);
        let in_ram = |address: u64, len: u64| {
            let end = address.checked_add(len);
            end.is_some_and(|end| end <= LOW || address >= HIGH && end <= HIGH + HIGH_SIZE)
        };
        let is_whole = in_ram(source, length.into()) && in_ram(destination, length.into());
        let overlap = source.abs_diff(destination) < u64::from(length);
        let expected = (is_whole && !overlap).then(|| before(source, length as usize));
        let (bytes, status) = rig.copy(source, destination, length);
        prop_assert!(bytes <= length);
        prop_assert_eq!(status == 0, bytes == length);
        prop_assert_eq!(is_whole || length == 0, status == 0);
        rig.assert_untouched_but(&[destination..destination.saturating_add(bytes.into())]);
        if let Some(expected) = expected {
            prop_assert_eq!(rig.bytes(destination, length as usize), expected);
        }
    }

    #[test]
    fn no_access_makes_it_panic_hang_or_write_outside_its_window(
        accesses in prop::collection::vec((0_usize..4, 0_u64..0x30, 1_usize..=8, any::<u64>(), any::<bool>()), 1..200),
    ) {
        let window = 0x4_0000..0x8_0000;
        let rig = Rig::with_port("descriptors=8", "", |memory| DmaPort::new(memory, 64, std::slice::from_ref(&window)));
        for (region, offset, len, value, is_write) in accesses {
            let mut data = value.to_le_bytes();
            if is_write {
                rig.device.store(region, offset, &data[..len]);
            } else {
                rig.device.load(region, offset, &mut data[..len]);
            }
            // Sometimes the current values are submitted as a descriptor that reaches into the window.
            if value % 8 == 0 {
                rig.submit(window.start + value % 0x1_0000, window.end - value % 0x5000, low(value), STRIDE);
            }
        }
        rig.device.stop();
        rig.assert_untouched_but(&[window]);
    }
}
