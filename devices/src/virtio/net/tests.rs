use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use media::threads::Role;
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_INTERRUPT_STATUS, VIRTIO_MMIO_STATUS};
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::{
    device::{DROPS, Net, QUEUE_SIZE, RECEIVE, TRANSMIT},
    link::{FRAME_MAX, FRAME_MIN, HEADER},
};
use crate::{
    bus::BusDevice as _,
    dma::DmaPort,
    faults::FaultHandle,
    irq::IrqLine,
    machine_events::MachineEvents,
    platform::{Parts, PlatformDevice as _},
    virtio::{
        served::Served,
        testing::{self, Driver, Part},
    },
};

const MAC_OF_TEST: [u8; 6] = [2, 0, 0, 0, 0, 9];
const MERGEABLE: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF;

/// A device and its peer on the host.
fn device() -> (Net, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (Net::on_stream(ours, MAC_OF_TEST).unwrap(), theirs)
}

fn ready(without: u64) -> (Driver<Net>, UnixStream) {
    let (net, peer) = device();
    (Driver::ready(net, without), peer)
}

fn frame(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at % 251).to_le_bytes()[0] ^ seed).collect()
}

fn send(peer: &mut UnixStream, frame: &[u8]) {
    peer.write_all(&u32::try_from(frame.len()).unwrap().to_be_bytes()).unwrap();
    peer.write_all(frame).unwrap();
}

fn receive(peer: &mut UnixStream) -> Vec<u8> {
    let mut length = [0; 4];
    peer.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    peer.read_exact(&mut frame).unwrap();
    frame
}

/// The counters in the order of [`COUNTERS`].
fn counters(driver: &Driver<Net>) -> [u64; 7] {
    let values: Vec<u64> = driver.device.counters().into_iter().map(|(_, value)| value).collect();
    values.try_into().unwrap()
}

fn config(driver: &Driver<Net>) -> Vec<u8> {
    let mut config = vec![0; 12];
    driver.device.read(VIRTIO_MMIO_CONFIG.into(), &mut config);
    config
}

#[test]
fn a_guest_sees_the_address_the_link_and_the_mtu() {
    let (driver, _peer) = ready(0);
    assert_eq!(config(&driver), [2, 0, 0, 0, 0, 9, 1, 0, 1, 0, 0xf0, 0xff]);
}

#[test]
fn frames_go_to_the_host_without_their_header() {
    let (mut driver, mut peer) = ready(0);
    let frames = [frame(14, 1), frame(1514, 2), frame(FRAME_MAX, 3)];
    for frame in &frames {
        // A chain in parts that are not those of the header.
        let bytes = [&[0; HEADER][..], frame].concat();
        driver.offer(TRANSMIT, &[Part::Out(&bytes[..5]), Part::Out(&bytes[5..20]), Part::Out(&bytes[20..])]);
    }
    driver.notify(TRANSMIT);
    for frame in &frames {
        assert!(receive(&mut peer) == *frame, "{} bytes", frame.len());
    }
    assert_eq!(driver.collect(TRANSMIT).len(), 3);
    let bytes = frames.iter().map(Vec::len).sum::<usize>() as u64;
    assert_eq!(counters(&driver), [0, 0, 0, 3, bytes, 0, 1]);
}

#[test]
fn frames_that_are_none_are_dropped_and_counted() {
    let (mut driver, mut peer) = ready(0);
    for length in [0, HEADER - 1, HEADER + FRAME_MIN - 1, HEADER + FRAME_MAX + 1] {
        driver.offer(TRANSMIT, &[Part::Out(&vec![7; length])]);
    }
    // A buffer that the device cannot read.
    driver.offer(TRANSMIT, &[Part::In(100)]);
    driver.offer(TRANSMIT, &[Part::Out(&[5; HEADER + FRAME_MIN])]);
    driver.notify(TRANSMIT);
    assert_eq!(receive(&mut peer), [5; FRAME_MIN]);
    assert_eq!(driver.collect(TRANSMIT).len(), 6);
    assert_eq!(counters(&driver), [0, 0, 0, 1, 14, 5, 0]);
    assert!(!driver.needs_reset());
}

#[test]
fn a_long_frame_takes_several_buffers_which_come_at_once() {
    let (mut driver, mut peer) = ready(0);
    let (short, long) = (frame(60, 1), frame(FRAME_MAX, 2));
    send(&mut peer, &short);
    send(&mut peer, &long);
    driver.run();
    assert_eq!(counters(&driver)[0], 0, "there are no buffers yet");
    for _ in 0..40 {
        driver.offer(RECEIVE, &[Part::In(1536)]);
    }
    driver.notify(RECEIVE);
    let answers = driver.collect(RECEIVE);
    assert_eq!(answers.len(), 1, "the long frame does not fit yet, and the driver sees no part of it");
    assert_eq!(answers[0], [&[0; 10][..], &[1, 0], &short].concat());
    assert!(driver.line.take());
    // The driver asks for an interrupt when a buffer in the middle is used (used_event, behind the available ring).
    let used_event = testing::avail(RECEIVE) + 4 + 2 * u64::from(QUEUE_SIZE);
    driver.memory.write_obj(20_u16, GuestAddress(used_event)).unwrap();
    for _ in 0..10 {
        driver.offer(RECEIVE, &[Part::In(1536)]);
    }
    driver.notify(RECEIVE);
    let answers = driver.collect(RECEIVE);
    let buffers = (HEADER + FRAME_MAX).div_ceil(1536);
    assert_eq!(answers.len(), buffers);
    let whole = answers.concat();
    assert_eq!(whole[10..HEADER], u16::try_from(buffers).unwrap().to_le_bytes());
    assert!(whole[HEADER..] == long);
    assert!(driver.line.take());
    assert_eq!(counters(&driver), [2, (60 + FRAME_MAX) as u64, 0, 0, 0, 0, 0]);
}

#[test]
fn without_merging_a_frame_that_is_too_long_is_dropped() {
    let (mut driver, mut peer) = ready(MERGEABLE);
    driver.offer(RECEIVE, &[Part::In(1526)]);
    send(&mut peer, &frame(1515, 1));
    send(&mut peer, &frame(1514, 2));
    driver.run();
    assert_eq!(driver.collect(RECEIVE), [[&[0; 10][..], &[1, 0], &frame(1514, 2)].concat()]);
    assert_eq!(counters(&driver), [1, 1514, 1, 0, 0, 0, 0]);
}

#[test]
fn buffers_that_are_too_small_stop_the_device() {
    for lengths in [&[HEADER - 1][..], &[HEADER, 255]] {
        let (mut driver, mut peer) = ready(0);
        send(&mut peer, &frame(60, 1));
        for length in lengths {
            driver.offer(RECEIVE, &[Part::In(u32::try_from(*length).unwrap())]);
        }
        driver.notify(RECEIVE);
        assert!(driver.needs_reset(), "{lengths:?}");
        // What the host sends now waits, and wakes nobody.
        send(&mut peer, &frame(60, 1));
        assert_eq!(driver.run_once(), 0);
        driver.store(VIRTIO_MMIO_STATUS, 0);
        driver.set_up(0);
        driver.offer(RECEIVE, &[Part::In(1536)]);
        driver.notify(RECEIVE);
        assert_eq!(driver.collect(RECEIVE).len(), 1);
    }
}

#[test]
fn frames_without_a_driver_are_dropped() {
    let (net, mut peer) = device();
    let mut driver = Driver::new(net);
    // As many as come with one system call and are more than a pass drops.
    let frames = [&60_u32.to_be_bytes()[..], &frame(60, 1)].concat().repeat(3 * DROPS);
    peer.write_all(&frames).unwrap();
    assert!(driver.device.process_host_event(), "others have their turn");
    while driver.device.process_host_event() {}
    assert_eq!(counters(&driver)[2], 3 * DROPS as u64);
    driver.set_up(0);
}

/// The device keeps what the host does not take, and no more than that.
#[test]
fn a_slow_host_makes_the_guest_wait_and_loses_nothing() {
    let (mut driver, mut peer) = ready(0);
    let long = frame(40_000, 1);
    let bytes = [&[0; HEADER][..], &long].concat();
    let (mut offered, mut used) = (0, 0);
    while offered == used {
        driver.offer(TRANSMIT, &[Part::Out(&bytes)]);
        driver.notify(TRANSMIT);
        offered += 1;
        used += driver.collect(TRANSMIT).len();
        assert!(offered < 100, "the device takes more than it should");
    }
    assert_eq!(offered, used + 1);
    for _ in 0..offered {
        assert!(receive(&mut peer) == long);
        driver.run();
    }
    assert_eq!(used + driver.collect(TRANSMIT).len(), offered);
    assert_eq!(counters(&driver)[3..], [offered as u64, 40_000 * offered as u64, 0, offered as u64]);
}

#[test]
fn a_peer_that_ends_takes_the_link_down() {
    let (mut driver, mut peer) = ready(0);
    send(&mut peer, &frame(60, 1));
    driver.run();
    drop(peer);
    // The frame that waits for a buffer comes before the end.
    assert_eq!(driver.run_once(), 0, "an end that the device does not read yet wakes nobody");
    driver.offer(RECEIVE, &[Part::In(1536)]);
    driver.notify(RECEIVE);
    driver.run();
    assert_eq!(driver.collect(RECEIVE).len(), 1);
    assert_eq!(config(&driver)[6..8], [0, 0]);
    assert_eq!(driver.load(VIRTIO_MMIO_INTERRUPT_STATUS) & 2, 2, "the configuration changed");
    driver.offer(TRANSMIT, &[Part::Out(&[5; HEADER + FRAME_MIN])]);
    driver.notify(TRANSMIT);
    assert_eq!((driver.collect(TRANSMIT).len(), counters(&driver)[5]), (1, 1));
    assert_eq!(driver.run_once(), 0);
}

/// On its own thread, with a peer that sends each frame back.
#[test]
fn a_thread_of_its_own_serves_it() {
    let (net, mut peer) = device();
    let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
    let parts = Parts {
        id: "net0".into(),
        interrupts: vec![IrqLine::new().unwrap()],
        dma: Some(DmaPort::unrestricted(ram)),
        seed: None,
        faults: FaultHandle::none(),
        events: Arc::new(MachineEvents::new().unwrap()),
    };
    let served = Served::new(net, Role::Network, parts).unwrap();
    send(&mut peer, &frame(60, 1));
    let begun = Instant::now();
    while served.counters()[2] != ("receive_drops", 1) {
        assert!(begun.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(1));
    }
    served.stop();
    drop(served);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "its socket is closed");
}
