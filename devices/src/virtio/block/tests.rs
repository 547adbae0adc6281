//! The block device, in conversation with a driver.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use imago::{FormatCreateBuilder as _, qcow2::Qcow2};
use proptest::prelude::*;
use virtio_bindings::{
    virtio_blk::{
        VIRTIO_BLK_F_RO, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
        VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    },
    virtio_mmio::{
        VIRTIO_MMIO_DEVICE_FEATURES, VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_MMIO_QUEUE_NOTIFY,
        VIRTIO_MMIO_STATUS,
    },
};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::{content::Content, device::WRITABLE, *};
use crate::{
    dma::DmaPort,
    faults::FaultHandle,
    irq::IrqLine,
    machine_events::MachineEvents,
    platform::{Parts, PlatformDevice},
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

fn block(file: DiskFile) -> Block {
    Block::stepped(file, "scratch", 1)
}

/// A driver of a disk, and the disk's file.
fn disk() -> (Driver<Block>, File) {
    let file = file();
    (Driver::ready(block(DiskFile::raw(file.try_clone().unwrap(), DISK)), 0), file)
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
    assert_eq!(load(34, 2), 1, "num_queues");
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
    let content = Content::raw(file.try_clone().unwrap(), DISK);
    content.fill_with_zeroes(512, (600 << 10) + 512).unwrap();
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
    let device = block(DiskFile::raw(File::open(path.path()).unwrap(), DISK));
    let failure = device.media.failure().clone();
    let mut driver = Driver::ready(device, 0);
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

/// A qcow2 image of `size` bytes in a new file.
fn image(size: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let storage = host_file::HostFile::new(file.reopen().unwrap(), 0);
    Qcow2::<host_file::HostFile>::create_builder(storage).size(size).create().unwrap();
    file
}

fn open(file: &tempfile::NamedTempFile, is_read_only: bool) -> DiskFile {
    DiskFile::open(file.path(), Some(Format::Qcow2), is_read_only).unwrap()
}

#[test]
fn an_image_of_qcow2_keeps_what_was_flushed() {
    const SIZE: u64 = 64 << 20;
    let file = image(SIZE);
    let mut driver = Driver::ready(block(open(&file, false)), 0);
    let load = |driver: &Driver<Block>, offset: u64| {
        let mut data = [0; 8];
        driver.device.load(0, 0x100 + offset, &mut data);
        u64::from_le_bytes(data)
    };
    assert_eq!((load(&driver, 0), load(&driver, 44) & 0xffff_ffff), (SIZE / 512, 128), "a cluster is 64 KiB");
    let data: Vec<u8> = (0..=254).cycle().take(300 << 10).collect();
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_OUT, 1000, &data), OK);
    assert_eq!(ask(&mut driver, VIRTIO_BLK_T_IN, 1001, &[], 1024), (data[512..1536].to_vec(), OK));
    assert_eq!(
        ask(&mut driver, VIRTIO_BLK_T_IN, 90_000, &[], 512),
        (vec![0; 512], OK),
        "it was never written"
    );
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_FLUSH, 0, &[]), OK);
    // As another program finds the file that a killed minivmm leaves.
    let copy = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(file.path(), copy.path()).unwrap();
    let mut reader = Driver::ready(block(open(&copy, true)), 0);
    assert_eq!(ask(&mut reader, VIRTIO_BLK_T_IN, 1000, &[], 300 << 10), (data, OK));
    // Whole clusters become free, parts of others zero.
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_DISCARD, 0, &range(1024, 256, 0)), OK);
    for (flags, sector) in [(0, 1001), (1, 1280)] {
        let zero = range(sector, 129, flags);
        assert_eq!(status(&mut driver, VIRTIO_BLK_T_WRITE_ZEROES, 0, &zero), OK);
        assert_eq!(ask(&mut driver, VIRTIO_BLK_T_IN, sector, &[], 129 * 512), (vec![0; 129 * 512], OK));
    }
    assert_ne!(ask(&mut driver, VIRTIO_BLK_T_IN, 1000, &[], 512).0, [0; 512]);
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_OUT, SIZE / 512 - 1, &[1; 512]), OK);
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_OUT, SIZE / 512, &[1; 512]), IOERR);
}

/// It names a file that the command line does not.
#[test]
fn an_image_with_a_backing_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let storage = host_file::HostFile::new(file.reopen().unwrap(), 0);
    let builder = Qcow2::<host_file::HostFile>::create_builder(storage).size(1 << 20);
    builder.backing("/etc/passwd".into(), "raw".into()).create().unwrap();
    let error = DiskFile::open(file.path(), Some(Format::Qcow2), true).unwrap_err().to_string();
    assert!(
        error.contains(": it has the backing file /etc/passwd; ")
            && error.contains("`qemu-img convert -O qcow2`"),
        "{error}"
    );
}

#[test]
fn a_disk_that_is_only_read_says_so_and_is() {
    let path = tempfile::NamedTempFile::new().unwrap();
    path.as_file().set_len(DISK).unwrap();
    let file = DiskFile::open(path.path(), None, true).unwrap();
    let mut driver = Driver::ready(block(file), 0);
    driver.store(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    let features = u64::from(driver.load(VIRTIO_MMIO_DEVICE_FEATURES));
    assert_eq!(features & (WRITABLE | 1 << VIRTIO_BLK_F_RO), 1 << VIRTIO_BLK_F_RO);
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_OUT, 0, &[1; 512]), IOERR);
    for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
        assert_eq!(status(&mut driver, kind, 0, &range(0, 1, 0)), IOERR);
    }
    assert_eq!(status(&mut driver, VIRTIO_BLK_T_FLUSH, 0, &[]), OK);
    assert_eq!(ask(&mut driver, VIRTIO_BLK_T_IN, 0, &[], 512), (vec![0; 512], OK));
}

/// A disk with its threads, and a driver of it. No event loop of the test runs.
struct Rig {
    disk: Disk,
    driver: Driver<Block>,
}

impl Rig {
    fn new(file: DiskFile, queues: u16, workers: usize) -> Self {
        let ram =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(MEMORY).unwrap())]).unwrap();
        let (memory, line) = (DmaPort::unrestricted(ram), IrqLine::new().unwrap());
        let parts = Parts {
            id: "disk".into(),
            interrupts: vec![line.clone()],
            dma: Some(memory.clone()),
            seed: None,
            faults: FaultHandle::none(),
            events: Arc::new(MachineEvents::new().unwrap()),
        };
        let disk = Disk::new(file, "scratch", queues, workers, parts).unwrap();
        assert_eq!(disk.doorbells().len(), usize::from(queues));
        let mut driver = Driver::of(disk.transport.clone(), memory, line);
        driver.set_up(0);
        Self { disk, driver }
    }

    fn ring(&self, queue: usize) {
        self.disk.doorbells()[queue].event.write(1).unwrap();
    }

    /// The next `count` answers of a queue.
    fn answers(&mut self, queue: usize, count: usize) -> Vec<Vec<u8>> {
        let end = Instant::now() + Duration::from_secs(60);
        let mut answers = Vec::new();
        while answers.len() < count {
            assert!(Instant::now() < end, "{} of {count} answers", answers.len());
            answers.extend(self.driver.collect(queue));
            thread::sleep(Duration::from_millis(1));
        }
        answers
    }
}

#[test]
fn workers_serve_all_queues_until_the_disk_is_stopped() {
    let mut rig = Rig::new(DiskFile::raw(file(), DISK), 3, 4);
    let sector = |number: u64| vec![u8::try_from(number).unwrap(); 512];
    for queue in 0..3 {
        for number in queue as u64 * 40..queue as u64 * 40 + 40 {
            let header = header(VIRTIO_BLK_T_OUT, number);
            rig.driver.offer(queue, &[Part::Out(&header), Part::Out(&sector(number)), Part::In(1)]);
        }
        rig.ring(queue);
    }
    for queue in 0..3 {
        assert_eq!(rig.answers(queue, 40), vec![[OK]; 40]);
    }
    assert!(rig.driver.line.take());
    // Each read comes through another queue than the write.
    for number in 0..120_u64 {
        let queue = (number % 3) as usize;
        rig.driver.offer(queue, &[Part::Out(&header(VIRTIO_BLK_T_IN, number)), Part::In(512), Part::In(1)]);
        rig.ring(queue);
        let answer = rig.answers(queue, 1).pop().unwrap();
        assert!(answer[..512] == sector(number) && answer[512] == OK, "{number}");
    }
    let expected = [("reads", 120), ("bytes_read", 120 * 512), ("writes", 120), ("bytes_written", 120 * 512)];
    assert_eq!(rig.disk.counters()[..4], expected);
    rig.disk.stop();
    rig.disk.stop();
    rig.driver.store(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    assert!(rig.driver.collect(0).is_empty());
}

/// The driver offers one chain again and again, and does not wait for an answer.
#[test]
fn a_driver_that_never_waits_does_not_fill_memory() {
    let mut rig = Rig::new(DiskFile::raw(file(), DISK), 1, 1);
    rig.driver.offer(0, &[Part::Out(&header(VIRTIO_BLK_T_IN, 0)), Part::In(512), Part::In(1)]);
    for _ in 0..3000 {
        for _ in 0..200 {
            rig.driver.make_available(0, 0);
        }
        rig.ring(0);
    }
    // It is either served, or has overrun its ring by itself.
    let end = Instant::now() + Duration::from_secs(60);
    while !rig.driver.needs_reset() && rig.disk.counters()[0].1 < 256 {
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(1));
    }
    rig.driver.store(VIRTIO_MMIO_STATUS, 0);
    rig.driver.set_up(0);
    rig.driver.offer(0, &[Part::Out(&header(VIRTIO_BLK_T_IN, 0)), Part::In(512), Part::In(1)]);
    rig.ring(0);
    assert_eq!(rig.answers(0, 1)[0].len(), 513);
}

/// More requests than a pass of the event loop takes, and than the workers are handed at a time.
#[test]
fn a_full_queue_is_served_to_its_end() {
    let mut rig = Rig::new(DiskFile::raw(file(), DISK), 1, 2);
    for round in 0..3 {
        for number in 0..85 {
            let header = header(VIRTIO_BLK_T_IN, number);
            rig.driver.offer(0, &[Part::Out(&header), Part::In(512), Part::In(1)]);
        }
        rig.ring(0);
        let answers = rig.answers(0, 85);
        assert!(answers.iter().all(|answer| answer.len() == 513 && answer[512] == OK), "round {round}");
    }
}

/// A request that is at work when the driver resets the device writes nothing afterwards.
#[test]
fn a_reset_waits_for_the_workers() {
    for _ in 0..50 {
        let mut rig = Rig::new(DiskFile::raw(file(), DISK), 1, 3);
        for number in 0..40 {
            rig.driver.offer(0, &[Part::Out(&header(VIRTIO_BLK_T_IN, number)), Part::In(4096), Part::In(1)]);
        }
        rig.ring(0);
        rig.driver.store(VIRTIO_MMIO_STATUS, 0);
        let zeroes = vec![0xee; 40 * 4200];
        rig.driver.memory.write_slice(&zeroes, GuestAddress(BUFFERS)).unwrap();
        thread::sleep(Duration::from_millis(2));
        let mut now = vec![0; zeroes.len()];
        rig.driver.memory.read_slice(&mut now, GuestAddress(BUFFERS)).unwrap();
        assert!(now == zeroes);
    }
}

/// The machine ends without a flush of the guest.
#[test]
fn a_disk_that_is_stopped_keeps_what_was_written() {
    let file = image(1 << 20);
    let mut rig = Rig::new(open(&file, false), 1, 2);
    rig.driver.offer(0, &[Part::Out(&header(VIRTIO_BLK_T_OUT, 5)), Part::Out(&[7; 512]), Part::In(1)]);
    rig.ring(0);
    assert_eq!(rig.answers(0, 1), [[OK]]);
    drop(rig);
    let mut driver = Driver::ready(block(open(&file, true)), 0);
    assert_eq!(ask(&mut driver, VIRTIO_BLK_T_IN, 5, &[], 512), (vec![7; 512], OK));
}
