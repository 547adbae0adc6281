//! The block device, in conversation with a driver.

use std::{
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use virtio_bindings::{
    virtio_blk::{
        VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
        VIRTIO_BLK_T_WRITE_ZEROES,
    },
    virtio_mmio::VIRTIO_MMIO_QUEUE_NOTIFY,
};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::{
    dma::DmaPort,
    faults::FaultHandle,
    irq::IrqLine,
    machine_events::MachineEvents,
    virtio::testing::{BUFFERS, Driver, MEMORY, Part, WRITE},
};

const DISK: u64 = 1 << 20;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// A file for a disk, with more behind the disk's end.
fn file() -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.seek(SeekFrom::Start(DISK)).unwrap();
    file.write_all(&[0xa5; 4096]).unwrap();
    file
}

/// A driver of a disk, and the disk's file.
fn disk() -> (Driver<Block>, File) {
    let file = file();
    let device = Block(Media::new(file.try_clone().unwrap(), DISK, "scratch"));
    (Driver::ready(device, 0), file)
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

fn range(sector: u64, count: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
}

/// The answer to a request: its data and its status.
fn ask(driver: &mut Driver<Block>, kind: u32, sector: u64, data: &[u8], room: u32) -> (Vec<u8>, u8) {
    let header = header(kind, sector);
    let mut parts = vec![Part::Out(&header)];
    if !data.is_empty() {
        parts.push(Part::Out(data));
    }
    if room > 0 {
        parts.push(Part::In(room));
    }
    parts.push(Part::In(1));
    driver.offer(0, &parts);
    driver.notify(0);
    let mut answer = driver.collect(0).pop().expect("the request is given back");
    let status = answer.pop().unwrap();
    (answer, status)
}

fn status(driver: &mut Driver<Block>, kind: u32, sector: u64, data: &[u8]) -> u8 {
    ask(driver, kind, sector, data, 0).1
}

/// Nothing was written behind the disk's end.
fn check_end(file: &File) {
    let mut behind = [0; 4096];
    file.read_exact_at(&mut behind, DISK).unwrap();
    assert!(behind == [0xa5; 4096] && file.metadata().unwrap().len() == DISK + 4096);
}

#[test]
fn the_configuration_is_the_specifications() {
    let (driver, _) = disk();
    let load = |offset: u64, bytes: usize| {
        let mut data = [0; 8];
        driver.device.load(0, 0x100 + offset, &mut data[..bytes]);
        u64::from_le_bytes(data)
    };
    assert_eq!(driver.load(virtio_bindings::virtio_mmio::VIRTIO_MMIO_DEVICE_ID), 2);
    // capacity, size_max, seg_max, blk_size.
    assert_eq!([load(0, 8), load(8, 4), load(12, 4), load(20, 4)], [DISK / 512, 65536, 254, 512]);
    // max_discard_sectors, max_discard_seg, discard_sector_alignment, and for zeroes: sectors, seg, may_unmap.
    let ranges = [load(36, 4), load(40, 4), load(44, 4), load(48, 4), load(52, 4), load(56, 1)];
    assert_eq!(ranges, [32768, 1, 1, 32768, 1, 1]);
    assert_eq!(load(60, 4), 0, "the structure ends here");
}

#[test]
fn what_is_written_is_read_and_lies_in_the_file() {
    let (mut driver, file) = disk();
    let data: Vec<u8> = (0..=255).cycle().take(600 << 10).collect();
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_OUT, 3, &data), OK);
    assert!(driver.line.take());
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_FLUSH, 0, &[]), OK);
    let mut stored = vec![0; data.len()];
    file.read_exact_at(&mut stored, 3 * SECTOR).unwrap();
    assert!(stored == data);
    let (read, status) = ask(&mut driver, VIRTIO_BLK_T_IN, 4, &[], 1024);
    assert_eq!((&read[..], status), (&data[512..512 + 1024], OK));
    let (serial, status) = ask(&mut driver, VIRTIO_BLK_T_GET_ID, 0, &[], 20);
    assert_eq!((&serial[..], status), (&b"scratch\0\0\0\0\0\0\0\0\0\0\0\0\0"[..], OK));
    check_end(&file);
}

#[test]
fn ranges_become_holes_and_zeroes() {
    let (mut driver, file) = disk();
    let full = vec![1; 512 << 10];
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_OUT, 0, &full), OK);
    let blocks = || file.metadata().unwrap().blocks();
    let before = blocks();
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_DISCARD, 0, &range(0, 128, 0)), OK);
    assert!(blocks() < before);
    for flags in [0, 1] {
        assert_eq!(status(&mut driver, VIRTIO_BLK_T_WRITE_ZEROES, 0, &range(256, 9, flags)), OK);
        let (read, _) = ask(&mut driver, VIRTIO_BLK_T_IN, 255, &[], 11 * 512);
        assert!(
            read[..512] == [1; 512] && read[512..10 * 512] == [0; 9 * 512] && read[10 * 512..] == [1; 512]
        );
        assert_eq!(status(&mut driver, VIRTIO_BLK_T_OUT, 256, &[1; 9 * 512]), OK);
    }
    let flags = [(VIRTIO_BLK_T_DISCARD, 1), (VIRTIO_BLK_T_DISCARD, 2), (VIRTIO_BLK_T_WRITE_ZEROES, 2)];
    for (kind, flags) in flags {
        assert_eq!(status(&mut driver, kind, 0, &range(0, 1, flags)), UNSUPP);
    }
}

/// As where the host's file system cannot do it by itself.
#[test]
fn zeroes_are_written_where_the_host_has_no_other_way() {
    let file = file();
    file.write_all_at(&vec![1; 768 << 10], 0).unwrap();
    let mut media = Media::new(file.try_clone().unwrap(), DISK, "");
    media.write_zeroes(512, (600 << 10) + 512).unwrap();
    let mut read = vec![0; 768 << 10];
    file.read_exact_at(&mut read, 0).unwrap();
    let end = 1024 + (600 << 10);
    assert!(read[..512] == [1; 512] && read[512..end].iter().all(|byte| *byte == 0) && read[end] == 1);
}

#[test]
fn what_is_outside_of_the_disk_is_an_error() {
    let (mut driver, file) = disk();
    let sectors = DISK / SECTOR;
    for sector in [sectors, sectors - 1, u64::MAX, u64::MAX / 512, 1 << 55] {
        assert_eq!(status(&mut driver, VIRTIO_BLK_T_OUT, sector, &[9; 1024]), IOERR, "{sector}");
        assert_eq!(ask(&mut driver, VIRTIO_BLK_T_IN, sector, &[], 1024), (vec![0; 1024], IOERR), "{sector}");
        for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
            assert_eq!(status(&mut driver, kind, 0, &range(sector, 2, 0)), IOERR, "{sector}");
        }
    }
    // Parts of sectors, missing and surplus fields, ranges that are too long, unknown requests.
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_OUT, 0, &[9; 100]), IOERR);
    assert_eq!(ask(&mut driver, VIRTIO_BLK_T_IN, 0, &[], 100).1, IOERR);
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_DISCARD, 0, &range(0, 1, 0)[..15]), IOERR);
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_DISCARD, 0, &[0; 32]), IOERR);
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_WRITE_ZEROES, 0, &range(0, 32769, 0)), IOERR);
    for kind in [2, 3, 14, 15, u32::MAX] {
        assert_eq!(status(&mut driver, kind, 0, &[0; 512]), UNSUPP, "{kind}");
    }
    driver.offer(0, &[Part::Out(&[0; 15]), Part::In(1)]);
    driver.notify(0);
    assert_eq!(driver.collect(0), [[IOERR]]);
    assert!(!driver.needs_reset());
    // Without a place for the status.
    driver.offer(0, &[Part::Out(&header(VIRTIO_BLK_T_FLUSH, 0))]);
    driver.notify(0);
    assert!(driver.needs_reset());
    check_end(&file);
}

#[test]
fn a_file_that_fails_is_an_error_of_the_request() {
    let path = tempfile::NamedTempFile::new().unwrap();
    path.as_file().set_len(DISK).unwrap();
    // It is open for reading only.
    let media = Media::new(File::open(path.path()).unwrap(), DISK, "");
    let failure = media.failure();
    let mut driver = Driver::ready(Block(media), 0);
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_OUT, u64::MAX, &[1; 512]), IOERR);
    assert!(failure.get().is_none(), "this error is the guest's");
    for _ in 0..2 {
        assert_eq!(status(&mut driver, VIRTIO_BLK_T_OUT, 0, &[1; 512]), IOERR);
    }
    assert!(failure.get().is_some());
    path.as_file().set_len(512).unwrap();
    assert_eq!(ask(&mut driver, VIRTIO_BLK_T_IN, 0, &[], 1024), (vec![0; 1024], IOERR));
    assert!(!driver.needs_reset());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bytes in any chain leave the file as long as it is, and what is behind the disk as it is.
    #[test]
    fn any_request_stays_inside_the_disk(
        kind in prop_oneof![0..16_u32, any::<u32>()],
        sector in prop_oneof![0..DISK / SECTOR + 4, any::<u64>()],
        parts in prop::collection::vec((any::<bool>(), prop_oneof![0..2000_u32, Just(512), Just(1 << 16)]), 0..8),
        data in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let (mut driver, file) = disk();
        driver.memory.write_slice(&header(kind, sector), GuestAddress(BUFFERS)).unwrap();
        driver.memory.write_slice(&data, GuestAddress(BUFFERS + 16)).unwrap();
        for (index, (writable, length)) in (1..).zip(&parts) {
            let is_last = usize::from(index) == parts.len();
            let flags = u16::from(*writable) * WRITE + u16::from(!is_last);
            driver.describe(0, index, BUFFERS + 16, *length, flags, index + 1);
        }
        driver.describe(0, 0, BUFFERS, 16, u16::from(!parts.is_empty()), 1);
        driver.make_available(0, 0);
        driver.notify(0);
        check_end(&file);
    }
}

#[test]
fn a_thread_of_its_own_serves_the_disk_until_it_is_stopped() {
    let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(MEMORY).unwrap())]).unwrap();
    let (memory, line) = (DmaPort::unrestricted(ram), IrqLine::new().unwrap());
    let parts = Parts {
        id: "disk".into(),
        interrupts: vec![line.clone()],
        dma: Some(memory.clone()),
        seed: None,
        faults: FaultHandle::none(),
        events: Arc::new(MachineEvents::new().unwrap()),
    };
    let disk = Disk::new(file(), DISK, "scratch", parts).unwrap();
    let doorbells = disk.doorbells();
    assert_eq!(doorbells.len(), 1);
    let mut driver = Driver::of(disk.transport.clone(), memory, line);
    driver.set_up(0);
    driver.offer(0, &[Part::Out(&header(VIRTIO_BLK_T_GET_ID, 0)), Part::In(20), Part::In(1)]);
    // No event loop of the test runs.
    doorbells[0].event.write(1).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let answer = loop {
        assert!(Instant::now() < end, "no answer");
        if let Some(answer) = driver.collect(0).pop() {
            break answer;
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert!(answer.starts_with(b"scratch\0") && answer.len() == 21);
    disk.stop();
    disk.stop();
    driver.store(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert!(driver.collect(0).is_empty());
}
