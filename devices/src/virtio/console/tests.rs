//! The console, in conversation with a driver.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use proptest::prelude::*;
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_STATUS,
};

use super::*;
use crate::virtio::testing::{BUFFERS, Driver, Part, WRITE};

const INPUT: usize = 0;
const OUTPUT: usize = 1;
const PORT_1_INPUT: usize = 4;
const PORT_1_OUTPUT: usize = 5;

#[derive(Clone, Default)]
struct Place(Arc<Mutex<Vec<u8>>>);

impl Write for Place {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Place {}

impl Place {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A console of a terminal and two named ports, and where their output goes.
fn console() -> (Console, ConsoleHandle, [Place; 3]) {
    let places = <[Place; 3]>::default();
    let [terminal, stdout, files] = places.clone();
    let named = vec![
        ("stdout".to_owned(), Box::new(stdout) as Box<dyn Sink>),
        ("files".to_owned(), Box::new(files) as Box<dyn Sink>),
    ];
    let console = Console::new(Box::new(terminal), named).unwrap();
    let handle = console.handle();
    (console, handle, places)
}

fn message(id: u32, event: u16, value: u16) -> Vec<u8> {
    [&id.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes()].concat()
}

fn named(id: u32, name: &str) -> Vec<u8> {
    [&message(id, 7, 1)[..], name.as_bytes()].concat()
}

fn resize(columns: u16, rows: u16) -> Vec<u8> {
    [message(0, 5, 1), columns.to_le_bytes().to_vec(), rows.to_le_bytes().to_vec()].concat()
}

fn say(driver: &mut Driver<Console>, id: u32, event: u16, value: u16) {
    driver.offer(CONTROL_OUT, &[Part::Out(&message(id, event, value))]);
    driver.notify(CONTROL_OUT);
    assert_eq!(driver.collect(CONTROL_OUT).len(), 1);
}

fn listen(driver: &mut Driver<Console>, times: usize) -> Vec<Vec<u8>> {
    for _ in 0..times {
        driver.offer(CONTROL_IN, &[Part::In(64)]);
    }
    driver.notify(CONTROL_IN);
    driver.collect(CONTROL_IN)
}

/// A driver that has the terminal and port 1 open.
fn open() -> (Driver<Console>, ConsoleHandle, [Place; 3]) {
    let (console, handle, places) = console();
    let mut driver = Driver::ready(console, 0);
    listen(&mut driver, 16);
    say(&mut driver, u32::MAX, DEVICE_READY, 1);
    for port in 0..2 {
        say(&mut driver, port, PORT_READY, 1);
        say(&mut driver, port, PORT_OPEN, 1);
    }
    driver.collect(CONTROL_IN);
    handle.event().read().unwrap();
    (driver, handle, places)
}

#[test]
fn the_ports_are_introduced() {
    let (console, handle, _) = console();
    let mut driver = Driver::ready(console, 0);
    assert_eq!(driver.load(VIRTIO_MMIO_CONFIG + 4), 3, "max_nr_ports");
    // What the device has to say waits until the driver listens.
    say(&mut driver, u32::MAX, DEVICE_READY, 1);
    assert!(driver.collect(CONTROL_IN).is_empty());
    let adds: Vec<_> = (0..3).map(|port| message(port, 1, 1)).collect();
    assert_eq!(listen(&mut driver, 12), adds);

    handle.set_size(132, 43);
    driver.run();
    assert!(driver.collect(CONTROL_IN).is_empty(), "the terminal is not ready yet");
    say(&mut driver, 0, PORT_READY, 1);
    assert_eq!(driver.collect(CONTROL_IN), [message(0, 4, 1), message(0, 6, 1), resize(132, 43)]);
    say(&mut driver, 1, PORT_READY, 1);
    assert_eq!(driver.collect(CONTROL_IN), [named(1, "stdout"), message(1, 6, 1)]);
    say(&mut driver, 2, PORT_READY, 0);
    assert!(driver.collect(CONTROL_IN).is_empty(), "the driver could not add that port");
    assert!(!driver.needs_reset());
}

#[test]
fn ports_open_and_close() {
    let (console, handle, _) = console();
    let mut driver = Driver::ready(console, 0);
    assert!(!handle.is_open(1));
    say(&mut driver, 1, PORT_OPEN, 1);
    assert!(handle.is_open(1) && !handle.is_open(0));
    assert_eq!(handle.event().read().unwrap(), 1);
    say(&mut driver, 1, PORT_OPEN, 1);
    assert!(handle.event().read().is_err(), "nothing changed");
    say(&mut driver, 1, PORT_OPEN, 0);
    assert!(!handle.is_open(1));
    assert_eq!(handle.event().read().unwrap(), 1);
    say(&mut driver, 1, PORT_OPEN, 1);
    driver.store(VIRTIO_MMIO_STATUS, 0);
    assert!(!handle.is_open(1), "a reset closes all");
}

#[test]
fn output_arrives_byte_for_byte_where_it_belongs() {
    let (mut driver, _, [terminal, stdout, files]) = open();
    let long: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    driver.offer(OUTPUT, &[Part::Out(b"log"), Part::Out(b""), Part::Out(b"in\n")]);
    driver.offer(PORT_1_OUTPUT, &[Part::Out(&long)]);
    driver.offer(PORT_1_OUTPUT, &[Part::Out(b"\0end")]);
    driver.notify(OUTPUT);
    driver.notify(PORT_1_OUTPUT);
    assert_eq!(terminal.take(), b"login\n");
    assert_eq!(stdout.take(), [&long[..], b"\0end"].concat());
    assert_eq!(files.take(), b"");
    assert_eq!(driver.collect(PORT_1_OUTPUT), [b"", b""]);
}

#[test]
fn input_arrives_in_the_buffers_there_are() {
    let (mut driver, handle, _) = open();
    assert_eq!(handle.send(1, b"hello, guest"), 12);
    driver.run();
    driver.offer(PORT_1_INPUT, &[Part::In(5)]);
    driver.notify(PORT_1_INPUT);
    assert_eq!(driver.collect(PORT_1_INPUT), [b"hello"]);
    driver.offer(PORT_1_INPUT, &[Part::In(100)]);
    driver.offer(PORT_1_INPUT, &[Part::In(100)]);
    driver.notify(PORT_1_INPUT);
    assert_eq!(driver.collect(PORT_1_INPUT), [b", guest"]);
    assert_eq!(handle.send(1, b"!"), 1);
    driver.run();
    assert_eq!(driver.collect(PORT_1_INPUT), [b"!"]);
    assert!(driver.line.take());
    assert!(handle.event().read().is_err(), "nothing was refused");
}

#[test]
fn input_is_refused_until_there_is_room_again() {
    let (mut driver, handle, _) = open();
    let input = vec![7; 100 << 10];
    let taken = handle.send(0, &input);
    assert!((1..input.len()).contains(&taken));
    assert_eq!(handle.send(0, &input[taken..]), 0);
    driver.run();
    assert!(handle.event().read().is_err());
    for _ in 0..taken.div_ceil(4096) {
        driver.offer(INPUT, &[Part::In(4096)]);
        driver.notify(INPUT);
    }
    assert_eq!(driver.collect(INPUT).concat(), input[..taken]);
    assert_eq!(handle.event().read().unwrap(), 1);
    assert_eq!(handle.send(0, &input[taken..]), input.len() - taken);
}

#[test]
fn a_closed_port_takes_no_input_and_forgets_what_was_not_read() {
    let (mut driver, handle, _) = open();
    assert_eq!(handle.send(2, b"x"), 0);
    assert_eq!(handle.send(1, b"stale"), 5);
    say(&mut driver, 1, PORT_OPEN, 0);
    say(&mut driver, 1, PORT_OPEN, 1);
    assert_eq!(handle.send(1, b"fresh"), 5);
    driver.offer(PORT_1_INPUT, &[Part::In(100)]);
    driver.notify(PORT_1_INPUT);
    assert_eq!(driver.collect(PORT_1_INPUT), [b"fresh"]);
}

#[test]
fn the_end_of_input_comes_after_the_input() {
    let (mut driver, handle, _) = open();
    assert_eq!(handle.send(1, b"the last"), 8);
    handle.close(1);
    driver.run();
    assert!(driver.collect(CONTROL_IN).is_empty(), "the guest has not taken the input");
    driver.offer(PORT_1_INPUT, &[Part::In(4)]);
    driver.notify(PORT_1_INPUT);
    assert!(driver.collect(CONTROL_IN).is_empty());
    driver.offer(PORT_1_INPUT, &[Part::In(4)]);
    driver.notify(PORT_1_INPUT);
    assert_eq!(driver.collect(PORT_1_INPUT).concat(), b"the last");
    assert_eq!(driver.collect(CONTROL_IN), [message(1, 6, 0)]);
    handle.close(1);
    driver.run();
    assert!(driver.collect(CONTROL_IN).is_empty(), "it is told once");
}

#[test]
fn input_without_a_byte_has_an_end() {
    let (console, handle, _) = console();
    handle.close(2);
    let mut driver = Driver::ready(console, 0);
    listen(&mut driver, 16);
    say(&mut driver, u32::MAX, DEVICE_READY, 1);
    driver.collect(CONTROL_IN);
    driver.run();
    assert!(driver.collect(CONTROL_IN).is_empty(), "the driver does not know the port yet");
    say(&mut driver, 2, PORT_READY, 1);
    assert_eq!(driver.collect(CONTROL_IN), [named(2, "files"), message(2, 6, 1), message(2, 6, 0)]);
}

#[test]
fn the_terminal_is_resized() {
    let (mut driver, handle, _) = open();
    driver.line.take();
    handle.set_size(100, 50);
    driver.run();
    assert_eq!(driver.collect(CONTROL_IN), [resize(100, 50)]);
    assert_eq!(driver.load(VIRTIO_MMIO_CONFIG), 50 << 16 | 100);
    assert_ne!(driver.load(VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG, 0);
    assert!(driver.line.take());
    handle.set_size(100, 50);
    driver.run();
    assert!(driver.collect(CONTROL_IN).is_empty(), "nothing changed");
}

#[test]
fn a_driver_of_one_port_has_the_terminal() {
    let (console, handle, [terminal, ..]) = console();
    let mut driver = Driver::ready(console, F_MULTIPORT);
    assert!(handle.is_open(0) && !handle.is_open(1));
    driver.offer(OUTPUT, &[Part::Out(b"hi")]);
    driver.offer(INPUT, &[Part::In(10)]);
    driver.notify(OUTPUT);
    assert_eq!(terminal.take(), b"hi");
    assert_eq!(handle.send(0, b"ho"), 2);
    driver.run();
    assert_eq!(driver.collect(INPUT), [b"ho"]);
}

#[test]
fn what_makes_no_sense_is_passed_over() {
    let (mut driver, handle, _) = open();
    for (id, event, value) in
        [(3, PORT_OPEN, 1), (u32::MAX, PORT_READY, 1), (0, 99, 1), (0, PORT_OPEN, 2), (0, DEVICE_READY, 0)]
    {
        say(&mut driver, id, event, value);
    }
    driver.offer(CONTROL_OUT, &[Part::Out(&[0; 7])]);
    driver.offer(CONTROL_OUT, &[Part::In(8)]);
    driver.notify(CONTROL_OUT);
    assert_eq!(driver.collect(CONTROL_OUT).len(), 2);
    assert!(driver.collect(CONTROL_IN).is_empty());
    assert!(handle.event().read().is_err());
    assert!(!driver.needs_reset());
}

#[test]
fn buffers_without_room_are_malformed() {
    let (mut driver, _, _) = open();
    driver.store(VIRTIO_MMIO_STATUS, 0);
    driver.set_up(0);
    driver.offer(CONTROL_IN, &[Part::In(7)]);
    driver.offer(CONTROL_OUT, &[Part::Out(&message(0, DEVICE_READY, 1))]);
    driver.notify(CONTROL_OUT);
    assert!(driver.needs_reset());

    let (mut driver, handle, _) = open();
    driver.offer(INPUT, &[Part::Out(b"wrong way")]);
    handle.send(0, b"x");
    driver.run();
    assert!(driver.needs_reset());
}

#[test]
fn a_driver_that_asks_without_end_costs_nothing() {
    let (console, _, _) = console();
    let mut driver = Driver::ready(console, 0);
    for _ in 0..1000 {
        say(&mut driver, 0, DEVICE_READY, 1);
        say(&mut driver, 1, PORT_READY, 1);
    }
    assert_eq!(listen(&mut driver, 20).len(), 5);
}

#[test]
fn a_broken_sink_does_not_stop_the_guest() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Sink for Broken {}
    let mut driver = Driver::ready(Console::new(Box::new(Broken), vec![]).unwrap(), 0);
    for _ in 0..2 {
        driver.offer(OUTPUT, &[Part::Out(b"lost")]);
        driver.notify(OUTPUT);
        assert_eq!(driver.collect(OUTPUT).len(), 1);
    }
    assert!(!driver.needs_reset());
}

#[test]
fn a_sink_without_room_leaves_output_in_the_guest() {
    #[derive(Clone, Default)]
    struct Narrow(Place, Arc<AtomicBool>);
    impl Write for Narrow {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.write(data)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Sink for Narrow {
        fn has_room(&mut self) -> bool {
            self.1.load(Ordering::Relaxed)
        }
    }
    let narrow = Narrow::default();
    let console = Console::new(Box::new(narrow.clone()), vec![]).unwrap();
    let handle = console.handle();
    let mut driver = Driver::ready(console, 0);
    // More than a pass takes.
    let piece = [b'x'; 64 << 10];
    for _ in 0..30 {
        driver.offer(OUTPUT, &[Part::Out(&piece)]);
    }
    driver.notify(OUTPUT);
    assert_eq!((driver.collect(OUTPUT).len(), narrow.0.take().len()), (0, 0));
    narrow.1.store(true, Ordering::Relaxed);
    handle.resume_output();
    driver.run();
    assert_eq!((driver.collect(OUTPUT).len(), narrow.0.take().len()), (30, 30 * piece.len()));
}

proptest! {
    #[test]
    fn any_conversation_is_survived(
        messages in prop::collection::vec(
            (prop_oneof![0_u32..4, any::<u32>()], 0_u16..9, 0_u16..3, 0_usize..9, 0_u32..40), 0..100)
    ) {
        let (mut driver, handle, _) = open();
        for (id, event, value, length, room) in messages {
            driver.offer(CONTROL_OUT, &[Part::Out(&message(id, event, value)[..length])]);
            driver.offer(CONTROL_IN, &[Part::In(room)]);
            driver.offer(INPUT, &[Part::In(room)]);
            handle.send(usize::try_from(id % 3).unwrap(), b"input");
            handle.set_size(event, value);
            driver.notify(CONTROL_OUT);
            if driver.needs_reset() {
                driver.store(VIRTIO_MMIO_STATUS, 0);
                driver.set_up(0);
            }
        }
    }

    #[test]
    fn any_ring_is_survived(
        queue in 0_usize..8,
        descriptors in prop::collection::vec(
            (0_u64..0x100, prop_oneof![0_u32..64, any::<u32>()], 0_u16..8, 0_u16..18), 16),
        heads in prop::collection::vec(0_u16..16, 1..40),
    ) {
        let (mut driver, handle, _) = open();
        for (index, (offset, len, flags, next)) in (0..).zip(descriptors) {
            // Mostly in the direction that the queue wants.
            let flags = if queue % 2 == 0 { flags | WRITE } else { flags };
            driver.describe(queue, index, BUFFERS + offset, len, flags, next);
        }
        for head in heads {
            handle.send(0, b"some input");
            driver.make_available(queue, head);
            driver.notify(queue);
        }
    }
}
