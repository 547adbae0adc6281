use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    connection::ROOM,
    device::{CLIENTS, FIRST_PORT, HOST, LINE_MAX, RECEIVE, RESETS, TRANSMIT, Vsock},
    packet::{HEADER, Header, NO_RECEIVE, NO_SEND, STREAM, op},
};
use crate::{
    socket::Socket,
    virtio::testing::{Driver, Part},
};

const CID: u32 = 5;
/// The room for a packet in the driver's buffers.
const BUFFER: u32 = 4096;

/// A driver of the device, its folder, and what the driver has sent and received with a connection.
struct Guest {
    driver: Driver<Vsock>,
    folder: tempfile::TempDir,
    room: u32,
    passed_on: u32,
}

impl Guest {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::bind("vsock socket", &folder.path().join("v")).unwrap();
        let driver = Driver::ready(Vsock::new(socket, CID).unwrap(), 0);
        let mut guest = Self { driver, folder, room: 1 << 20, passed_on: 0 };
        guest.offer(32);
        guest
    }

    fn offer(&mut self, buffers: usize) {
        for _ in 0..buffers {
            self.driver.offer(RECEIVE, &[Part::In(BUFFER)]);
        }
        self.driver.notify(RECEIVE);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn send(&mut self, header: Header, data: &[u8]) {
        self.driver.offer(TRANSMIT, &[Part::Out(&header.bytes()), Part::Out(data)]);
        self.driver.notify(TRANSMIT);
        self.driver.collect(TRANSMIT);
    }

    fn header(&self, op: u16, ports: (u32, u32), length: usize) -> Header {
        Header {
            from: CID.into(),
            to: HOST,
            from_port: ports.0,
            to_port: ports.1,
            length: length.try_into().unwrap(),
            kind: STREAM,
            op,
            flags: 0,
            room: self.room,
            passed_on: self.passed_on,
        }
    }

    /// Sends a packet of the connection between these ports, of the guest and of the host.
    fn say(&mut self, op: u16, ports: (u32, u32), data: &[u8]) {
        self.send(self.header(op, ports, data.len()), data);
    }

    fn shut_down(&mut self, ports: (u32, u32), flags: u32) {
        self.send(Header { flags, ..self.header(op::SHUTDOWN, ports, 0) }, &[]);
    }

    /// The packets that came, and offers as many buffers again.
    fn hear(&mut self) -> Vec<(Header, Vec<u8>)> {
        self.driver.run();
        let packets = self.driver.collect(RECEIVE);
        let read = |packet: &Vec<u8>| {
            let header = Header::read(packet[..HEADER].try_into().unwrap());
            assert_eq!((header.from, header.to, header.kind), (HOST, CID.into(), STREAM));
            assert_eq!(header.length as usize, packet.len() - HEADER);
            (header, packet[HEADER..].to_vec())
        };
        let packets: Vec<_> = packets.iter().map(read).collect();
        self.offer(packets.len());
        packets
    }

    /// What came: the operations and the ports of guest and host.
    fn ops(&mut self) -> Vec<(u16, (u32, u32))> {
        self.hear().iter().map(|(header, _)| (header.op, (header.to_port, header.from_port))).collect()
    }

    /// A program of the host that has connected to the guest's `port`, and the ports of the connection.
    fn connected(&mut self, port: u32) -> (UnixStream, (u32, u32)) {
        let mut program = self.program();
        writeln!(program, "CONNECT {port}").unwrap();
        let asked = self.ops();
        let [(op::REQUEST, ports)] = asked[..] else { panic!("{asked:?}") };
        assert_eq!(ports.0, port);
        self.say(op::RESPONSE, ports, &[]);
        let expected = format!("OK {}\n", ports.1);
        let mut line = vec![0; expected.len()];
        program.read_exact(&mut line).unwrap();
        assert_eq!(line, expected.as_bytes());
        (program, ports)
    }

    fn program(&self) -> UnixStream {
        let program = UnixStream::connect(self.path("v")).unwrap();
        program.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        program
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.driver.device.counters();
        counters.into_iter().find(|(known, _)| *known == name).unwrap().1
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 % 253).to_le_bytes()[0]).collect()
}

#[test]
fn a_program_of_the_host_reaches_one_of_the_guest() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(1024);
    assert_eq!(ports.1, FIRST_PORT);
    let data = pattern(10_000);
    program.write_all(&data).unwrap();
    let came = guest.hear();
    assert!(came.iter().all(|(header, _)| header.op == op::DATA && header.room == ROOM));
    assert_eq!(came.iter().flat_map(|(_, data)| data.clone()).collect::<Vec<_>>(), data);
    // In several descriptors.
    let header = guest.header(op::DATA, ports, data.len()).bytes();
    let parts =
        [Part::Out(&header[..20]), Part::Out(&header[20..]), Part::Out(&data[..7]), Part::Out(&data[7..])];
    guest.driver.offer(TRANSMIT, &parts);
    guest.driver.notify(TRANSMIT);
    let mut back = vec![0; data.len()];
    program.read_exact(&mut back).unwrap();
    assert_eq!(back, data);
    assert_eq!((guest.counter("bytes_sent"), guest.counter("bytes_received")), (10_000, 10_000));
}

#[test]
fn a_program_of_the_guest_reaches_one_of_the_host() {
    let mut guest = Guest::new();
    let ports = (4000, 52);
    guest.say(op::REQUEST, ports, &[]);
    assert_eq!(guest.ops(), [(op::RESET, ports)], "nobody listens");
    let listener = UnixListener::bind(guest.path("v_52")).unwrap();
    guest.say(op::REQUEST, ports, &[]);
    assert_eq!(guest.ops(), [(op::RESPONSE, ports)]);
    guest.say(op::DATA, ports, b"hello");
    let (mut program, _) = listener.accept().unwrap();
    let mut hello = [0; 5];
    program.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    program.write_all(b"you").unwrap();
    let came = guest.hear();
    assert_eq!((came.len(), came[0].0.passed_on, came[0].1.as_slice()), (1, 5, &b"you"[..]));
    guest.say(op::REQUEST, ports, &[]);
    assert_eq!(guest.ops(), [(op::RESET, ports)], "a second connection with the same ports ends the first");
    assert_eq!(program.read(&mut hello).unwrap(), 0);
}

#[test]
fn each_side_ends_by_itself() {
    let mut guest = Guest::new();
    // The host's program sends no more, and still receives.
    let (mut program, ports) = guest.connected(1);
    program.write_all(b"last").unwrap();
    program.shutdown(std::net::Shutdown::Write).unwrap();
    let came = guest.hear();
    let ops: Vec<_> = came.iter().map(|(header, _)| (header.op, header.flags)).collect();
    assert_eq!(ops, [(op::DATA, 0), (op::SHUTDOWN, NO_SEND)]);
    guest.say(op::DATA, ports, b"answer");
    guest.shut_down(ports, NO_RECEIVE | NO_SEND);
    assert_eq!(guest.ops(), [(op::RESET, ports)]);
    let mut said = String::new();
    program.read_to_string(&mut said).unwrap();
    assert_eq!(said, "answer");
    // The guest's sends no more, and still receives.
    let (mut program, ports) = guest.connected(2);
    guest.shut_down(ports, NO_SEND);
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
    program.write_all(b"late").unwrap();
    assert_eq!(guest.hear()[0].1, b"late");
    guest.say(op::DATA, ports, b"more than it should");
    assert_eq!(guest.ops(), [(op::RESET, ports)]);
    // The host's program is gone.
    let (mut program, ports) = guest.connected(3);
    program.write_all(b"bye").unwrap();
    drop(program);
    let came = guest.hear();
    let ops: Vec<_> = came.iter().map(|(header, _)| (header.op, header.flags)).collect();
    assert_eq!(ops, [(op::DATA, 0), (op::SHUTDOWN, NO_RECEIVE | NO_SEND)]);
    guest.say(op::DATA, ports, b"nobody misses it");
    guest.say(op::RESET, ports, &[]);
    guest.say(op::RESET, ports, &[]);
    assert_eq!(guest.ops(), []);
}

#[test]
fn the_guest_gets_no_more_than_it_has_room_for() {
    let mut guest = Guest::new();
    guest.room = 5000;
    let (mut program, ports) = guest.connected(7);
    program.write_all(&pattern(6000)).unwrap();
    let came = guest.hear();
    assert_eq!(came.iter().map(|(_, data)| data.len()).sum::<usize>(), 5000);
    assert_eq!(came.last().unwrap().0.op, op::CREDIT_REQUEST);
    // It answers, and has no room yet: it is not asked again.
    guest.say(op::CREDIT_UPDATE, ports, &[]);
    assert_eq!(guest.ops(), []);
    guest.passed_on = 600;
    guest.say(op::CREDIT_UPDATE, ports, &[]);
    let came = guest.hear();
    assert_eq!((came[0].1.len(), came[1].0.op), (600, op::CREDIT_REQUEST));
    // What it says is nonsense.
    guest.passed_on = 0x8000_0000;
    guest.say(op::CREDIT_UPDATE, ports, &[]);
    assert_eq!(guest.ops(), []);
    guest.passed_on = 5600;
    guest.say(op::CREDIT_UPDATE, ports, &[]);
    assert_eq!(guest.hear()[0].1.len(), 400);
}

#[test]
fn the_host_keeps_no_more_than_it_has_room_for() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(9);
    const PIECE: u32 = 32 << 10;
    let piece = pattern(PIECE as usize);
    // The program does not read: the socket takes some, and the device its room.
    let (mut sent, mut told) = (0_u32, 0);
    while sent - told + PIECE <= ROOM {
        guest.say(op::DATA, ports, &piece);
        sent += PIECE;
        told = guest.hear().last().map_or(told, |(header, _)| header.passed_on);
    }
    assert!(sent > ROOM, "the socket has room, too: {sent}");
    let mut came = vec![0; sent as usize];
    for part in came.chunks_mut(piece.len()) {
        program.read_exact(part).unwrap();
        assert!(part == piece);
        told = guest.hear().last().map_or(told, |(header, _)| header.passed_on);
    }
    assert!(sent - told <= ROOM / 2, "the guest has heard of the room: {told} of {sent}");
    guest.say(op::CREDIT_REQUEST, ports, &[]);
    let came = guest.hear();
    assert_eq!((came[0].0.op, came[0].0.passed_on), (op::CREDIT_UPDATE, sent));
    // More than it was given.
    for _ in 0..40 {
        guest.say(op::DATA, ports, &piece);
    }
    assert_eq!(guest.ops().last(), Some(&(op::RESET, ports)));
}

#[test]
fn packets_that_are_odd_are_refused() {
    let mut guest = Guest::new();
    let ports = (1, 2);
    let right = guest.header(op::DATA, ports, 0);
    for (wrong, data) in [
        (right, &[][..]),
        (Header { op: 0, ..right }, &[]),
        (Header { op: 99, ..right }, &[]),
        (Header { op: op::REQUEST, kind: 2, ..right }, &[]),
        (Header { op: op::REQUEST, to: 9, ..right }, &[]),
        (Header { op: op::REQUEST, length: 5, ..right }, b"hello"),
        (Header { length: 5, ..right }, b"hell"),
        (Header { length: u32::MAX, ..right }, b"hello"),
        (Header { op: op::RESPONSE, ..right }, &[]),
        (Header { op: op::SHUTDOWN, flags: 3, ..right }, &[]),
    ] {
        guest.send(wrong, data);
        assert_eq!(guest.ops(), [(op::RESET, ports)], "{wrong:?}");
    }
    // From another guest, or no whole header.
    guest.send(Header { from: 77, ..right }, &[]);
    guest.driver.offer(TRANSMIT, &[Part::Out(&right.bytes()[..43])]);
    guest.driver.offer(TRANSMIT, &[Part::In(100)]);
    guest.driver.notify(TRANSMIT);
    assert_eq!(guest.ops(), []);
    // An answer that was not asked for ends a connection.
    let (mut program, ports) = guest.connected(5);
    guest.say(op::RESPONSE, ports, &[]);
    assert_eq!((guest.ops(), program.read(&mut [0]).unwrap()), (vec![(op::RESET, ports)], 0));
    assert!(!guest.driver.needs_reset());
    // A buffer without room for a header, or for data.
    for room in [HEADER - 1, HEADER] {
        let mut guest = Guest::new();
        let (mut program, _) = guest.connected(5);
        guest.driver.store(virtio_bindings::virtio_mmio::VIRTIO_MMIO_STATUS, 0);
        guest.driver.set_up(0);
        assert_eq!(program.read(&mut [0]).unwrap(), 0, "the driver starts over");
        guest.driver.offer(RECEIVE, &[Part::In(200)]);
        guest.driver.offer(RECEIVE, &[Part::In(room.try_into().unwrap())]);
        let mut program = guest.program();
        program.write_all(b"CONNECT 1\nhello").unwrap();
        guest.driver.run();
        guest.say(op::RESPONSE, (1, FIRST_PORT + 1), &[]);
        assert!(guest.driver.needs_reset());
    }
}

#[test]
fn programs_that_say_nothing_or_nonsense_are_let_go() {
    let mut guest = Guest::new();
    for line in ["HELLO\n", "CONNECT\n", "CONNECT x\n", "CONNECT 4294967296\n", &"C".repeat(LINE_MAX + 1)] {
        let mut program = guest.program();
        program.write_all(line.as_bytes()).unwrap();
        assert_eq!(guest.ops(), [], "{line}");
        assert!(matches!(program.read(&mut [0]), Ok(0) | Err(_)));
    }
    let mut silent: Vec<UnixStream> = (0..=CLIENTS)
        .map(|_| {
            let program = guest.program();
            guest.driver.run();
            program
        })
        .collect();
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0, "the oldest goes");
    silent[1].write_all(b"CONNECT 1\r\n").unwrap();
    assert_eq!(guest.ops(), [(op::REQUEST, (1, FIRST_PORT))]);
    guest.say(op::RESET, (1, FIRST_PORT), &[]);
    assert_eq!(silent[1].read(&mut [0]).unwrap(), 0, "the guest refuses");
}

#[test]
fn connections_have_a_limit() {
    let mut guest = Guest::new();
    let _listener = UnixListener::bind(guest.path("v_1")).unwrap();
    let mut programs: Vec<_> = (0..32).map(|port| guest.connected(port).0).collect();
    for port in 0..32 {
        guest.say(op::REQUEST, (port, 1), &[]);
        assert_eq!(guest.ops(), [(op::RESPONSE, (port, 1))]);
    }
    guest.say(op::REQUEST, (99, 1), &[]);
    assert_eq!(guest.ops(), [(op::RESET, (99, 1))]);
    let mut program = guest.program();
    program.write_all(b"CONNECT 5\n").unwrap();
    assert_eq!(guest.ops(), []);
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
    assert_eq!((guest.counter("connections"), guest.counter("refused")), (64, 2));
    // All are served.
    for program in &mut programs {
        program.write_all(&pattern(9000)).unwrap();
    }
    let (mut came, begun) = (0, Instant::now());
    while came < 32 * 9000 {
        came += guest.hear().iter().map(|(_, data)| data.len()).sum::<usize>();
        assert!(begun.elapsed() < Duration::from_secs(20), "{came}");
    }
    // A guest that takes no answers.
    for _ in 0..3 * RESETS {
        guest.driver.offer(TRANSMIT, &[Part::Out(&guest.header(op::DATA, (7, 7), 0).bytes())]);
    }
    guest.driver.notify(TRANSMIT);
    guest.driver.run();
    assert!(guest.counter("resets") > 3 * RESETS as u64);
}
