use std::time::{Duration, Instant};

use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_QUEUE_NOTIFY, VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_QUEUE_SEL,
    VIRTIO_MMIO_STATUS,
};
use vm_memory::{Bytes as _, GuestAddress};

use super::{
    device::{Balloon, DEFLATE, INFLATE, Options, QUEUE_SIZE, REPORTING, SHARE, STATISTICS, feature},
    pages::PAGE,
};
use crate::{
    faults::{FaultHandle, Faults, testing},
    virtio::{
        VirtioDevice as _,
        testing::{BUFFERS, Driver, MEMORY, NEXT, Part, READY, WRITE},
    },
};

const OPTIONS: Options = Options { size: 3 * PAGE, deflates_on_oom: true, reports: true, interval: 0 };

/// Memory that the driver uses for nothing else.
const FREE: u64 = 4 << 20;
const FREE_SIZE: u64 = MEMORY - FREE;
const _: () = assert!(BUFFERS < FREE && PAGE == 4096);

fn balloon(options: Options) -> Balloon {
    Balloon::new(options, MEMORY).unwrap()
}

/// A driver whose free memory is full of sevens.
fn ready(without: u64) -> Driver<Balloon> {
    let driver = Driver::ready(balloon(OPTIONS), without);
    fill(&driver);
    driver
}

fn fill(driver: &Driver<Balloon>) {
    let sevens = vec![7; usize::try_from(FREE_SIZE).unwrap()];
    driver.memory.write_slice(&sevens, GuestAddress(FREE)).unwrap();
}

/// What the page at this offset of the free memory has.
fn page(driver: &Driver<Balloon>, number: u64) -> u8 {
    let mut bytes = [1; 4096];
    driver.memory.read_slice(&mut bytes, GuestAddress(FREE + number * PAGE)).unwrap();
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "page {number} is in parts");
    bytes[0]
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The number of a page of the free memory.
fn number(page: u64) -> u32 {
    u32::try_from(FREE / PAGE + page).unwrap()
}

fn say(driver: &mut Driver<Balloon>, queue: usize, list: &[u32]) {
    driver.offer(queue, &[Part::Out(&numbers(list))]);
    driver.notify(queue);
    assert_eq!(driver.collect(queue), [[0; 0]], "it is used, with nothing written");
}

fn counter(driver: &Driver<Balloon>, name: &str) -> u64 {
    driver.device.counters().into_iter().find(|(known, _)| *known == name).unwrap().1
}

fn counts<const N: usize>(driver: &Driver<Balloon>, names: [&str; N]) -> [u64; N] {
    names.map(|name| counter(driver, name))
}

const PAGES: [&str; 4] = ["inflated", "deflated", "reported", "refused"];

#[test]
fn pages_go_into_the_balloon_and_out() {
    let mut driver = ready(0);
    // In any order, and twice.
    say(&mut driver, INFLATE, &[number(5), number(9), number(4), number(5), number(6)]);
    assert_eq!([3, 4, 5, 6, 7, 9].map(|number| page(&driver, number)), [7, 0, 0, 0, 7, 0]);
    say(&mut driver, INFLATE, &[number(4)]);
    assert_eq!(counts(&driver, PAGES), [4, 0, 0, 0]);
    // They are memory again, and nothing is in them that was not put there.
    driver.memory.write_slice(&[9; 4096], GuestAddress(FREE + 4 * PAGE)).unwrap();
    say(&mut driver, DEFLATE, &[number(4), number(4), number(77), number(9)]);
    assert_eq!([4, 9].map(|number| page(&driver, number)), [9, 0]);
    assert_eq!(counts(&driver, PAGES), [4, 2, 0, 0]);
    // A reset empties the balloon.
    driver.store(VIRTIO_MMIO_STATUS, 0);
    assert_eq!(counts(&driver, PAGES), [4, 4, 0, 0]);
    driver.set_up(0);
    say(&mut driver, INFLATE, &[number(5)]);
    assert_eq!(counts(&driver, PAGES), [5, 4, 0, 0]);
}

#[test]
fn pages_outside_ram_are_left_alone() {
    let mut driver = ready(0);
    let end = u32::try_from(MEMORY / PAGE).unwrap();
    say(&mut driver, INFLATE, &[end, u32::MAX, 0x8000_0000, end - 1, end + 1]);
    say(&mut driver, DEFLATE, &[end, u32::MAX]);
    assert_eq!(counts(&driver, PAGES), [1, 0, 0, 4]);
    assert_eq!(page(&driver, FREE_SIZE / PAGE - 1), 0);
}

#[test]
fn requests_of_any_shape_are_used() {
    let mut driver = ready(0);
    let list = numbers(&[number(1), number(2), number(3)]);
    // Numbers that lie across descriptors, and a part of one at the end.
    driver.offer(INFLATE, &[Part::Out(&list[..3]), Part::Out(&list[3..5]), Part::Out(&list[5..11])]);
    // Nothing to read, and nothing at all.
    driver.offer(INFLATE, &[Part::In(4096)]);
    driver.offer(DEFLATE, &[Part::In(1)]);
    driver.offer(INFLATE, &[Part::Out(&[])]);
    driver.offer(INFLATE, &[Part::Out(&list[..4]), Part::In(8)]);
    // A queue without a job.
    driver.offer(3, &[Part::Out(&list), Part::In(8)]);
    for queue in [INFLATE, DEFLATE, 3] {
        driver.notify(queue);
    }
    assert_eq!([INFLATE, DEFLATE, 3].map(|queue| driver.collect(queue).len()), [4, 1, 1]);
    assert_eq!([1, 2, 3].map(|number| page(&driver, number)), [0, 0, 7]);
    assert!(!driver.needs_reset());
    // Buffers that are no memory.
    driver.describe(INFLATE, 0, MEMORY - 4, 8, 0, 0);
    driver.make_available(INFLATE, 0);
    driver.notify(INFLATE);
    assert!(driver.needs_reset());
    driver.store(VIRTIO_MMIO_STATUS, 0);
    driver.set_up(0);
    say(&mut driver, INFLATE, &[number(3)]);
    assert_eq!(page(&driver, 3), 0);
}

#[test]
fn a_long_request_lets_others_have_their_turn() {
    let mut driver = ready(0);
    // Every second page of half of the free memory, again and again.
    let area = FREE_SIZE / 2;
    let every_second: Vec<u32> = (0..area / PAGE / 2).map(|page| number(2 * page)).collect();
    let list = numbers(&every_second);
    let pieces = 64;
    for piece in 0..pieces {
        driver.memory.write_slice(&list, GuestAddress(FREE + area + piece * list.len() as u64)).unwrap();
    }
    let length = u32::try_from(pieces).unwrap() * u32::try_from(list.len()).unwrap();
    for index in 0..4 {
        let flags = if index < 3 { NEXT } else { 0 };
        driver.describe(INFLATE, index, FREE + area, length, flags, index + 1);
    }
    driver.make_available(INFLATE, 0);
    driver.store(VIRTIO_MMIO_QUEUE_NOTIFY, INFLATE.try_into().unwrap());
    let mut passes = 0;
    while driver.run_once() > 0 {
        passes += 1;
    }
    let calls = 4 * pieces * every_second.len() as u64;
    assert!(passes > calls * PAGE / SHARE, "{passes} passes for {calls} pages");
    assert_eq!(driver.collect(INFLATE).len(), 1);
    assert_eq!(counts(&driver, PAGES), [every_second.len() as u64, 0, 0, 0]);
    assert_eq!([0, 1, 2].map(|number| page(&driver, number)), [0, 7, 0]);
    // A reset in the middle ends it.
    driver.make_available(INFLATE, 0);
    driver.store(VIRTIO_MMIO_QUEUE_NOTIFY, INFLATE.try_into().unwrap());
    driver.run_once();
    driver.store(VIRTIO_MMIO_STATUS, 0);
    driver.run();
    driver.set_up(0);
    say(&mut driver, INFLATE, &[number(1)]);
    assert_eq!(page(&driver, 1), 0);
}

/// The rings are the guest's memory as well.
#[test]
fn a_driver_may_give_its_own_queues_away() {
    let mut driver = ready(0);
    let all: Vec<u32> = (0..u32::try_from(MEMORY / PAGE).unwrap()).collect();
    driver.offer(INFLATE, &[Part::Out(&numbers(&all))]);
    driver.notify(INFLATE);
    driver.store(VIRTIO_MMIO_STATUS, 0);
    driver.set_up(0);
    fill(&driver);
    say(&mut driver, INFLATE, &[number(1)]);
    assert_eq!([0, 1].map(|number| page(&driver, number)), [7, 0]);
}

/// Reports these blocks of the free memory, as pages and numbers of pages, in `queue`.
fn report(driver: &mut Driver<Balloon>, queue: usize, flags: u16, blocks: &[(u64, u64)]) {
    let count = u16::try_from(blocks.len()).unwrap();
    for (index, (first, pages)) in (0..).zip(blocks) {
        let more = if index + 1 < count { NEXT } else { 0 };
        let length = u32::try_from(pages * PAGE).unwrap();
        driver.describe(queue, index, FREE + first * PAGE, length, flags | more, index + 1);
    }
    driver.make_available(queue, 0);
    driver.notify(queue);
}

#[test]
fn free_pages_go_back() {
    let mut driver = ready(feature::PAGE_POISON);
    report(&mut driver, REPORTING, WRITE, &[(0, 2), (512, 256), (4, 1)]);
    assert_eq!(driver.collect(REPORTING), [[0; 0]]);
    assert_eq!([0, 1, 2, 4, 512, 767, 768].map(|number| page(&driver, number)), [0, 0, 7, 0, 0, 0, 7]);
    assert_eq!(counts(&driver, PAGES), [0, 0, 259, 0]);
    // More than a chain of another queue may have.
    let most = FREE_SIZE / PAGE;
    report(&mut driver, REPORTING, WRITE, &[(0, most); 100]);
    assert_eq!(driver.collect(REPORTING).len(), 1);
    assert_eq!(counter(&driver, "reported"), 259 + 100 * most);
    fill(&driver);
    // What the device may only read is not free.
    report(&mut driver, REPORTING, 0, &[(0, 2)]);
    assert_eq!((driver.collect(REPORTING).len(), page(&driver, 0)), (1, 7));
    // What is no memory, after some that is.
    report(&mut driver, REPORTING, WRITE, &[(0, 2), (most - 1, 2)]);
    assert!(driver.needs_reset());
    assert_eq!([0, most - 1].map(|number| page(&driver, number)), [7, 7]);
    // More descriptors than the queue has.
    driver.store(VIRTIO_MMIO_STATUS, 0);
    driver.set_up(0);
    driver.describe(REPORTING, 0, FREE, 4096, WRITE | NEXT, 0);
    driver.make_available(REPORTING, 0);
    driver.notify(REPORTING);
    assert!(driver.needs_reset());
    assert_eq!(usize::from(QUEUE_SIZE), 128);
}

#[test]
fn reported_pages_keep_what_the_driver_expects_there() {
    let poison = VIRTIO_MMIO_CONFIG + 12;
    let mut driver = ready(0);
    driver.store(poison, 0xaaaa_aaaa);
    report(&mut driver, REPORTING, WRITE, &[(0, 2)]);
    assert_eq!((driver.collect(REPORTING).len(), page(&driver, 0), counter(&driver, "reported")), (1, 7, 0));
    driver.store(poison, 0);
    report(&mut driver, REPORTING, WRITE, &[(0, 2)]);
    assert_eq!((page(&driver, 0), counter(&driver, "reported")), (0, 2));
    // Pages in the balloon have no content.
    driver.store(poison, 0xaaaa_aaaa);
    say(&mut driver, INFLATE, &[number(4)]);
    assert_eq!(page(&driver, 4), 0);
}

/// Linux numbers the queues of the features that it agreed on without gaps.
#[test]
fn queues_are_numbered_as_the_driver_numbers_them() {
    for (without, queue) in [(0, 3), (feature::STATISTICS, 2)] {
        let mut driver = Driver::new(balloon(OPTIONS));
        driver.prepare(without);
        driver.store(VIRTIO_MMIO_QUEUE_SEL, 4);
        driver.store(VIRTIO_MMIO_QUEUE_READY, 0);
        driver.store(VIRTIO_MMIO_STATUS, READY);
        fill(&driver);
        report(&mut driver, queue, WRITE, &[(0, 2)]);
        assert_eq!((driver.collect(queue).len(), page(&driver, 0)), (1, 0), "{queue}");
    }
    // A driver that reports nothing.
    let mut driver = ready(feature::REPORTING);
    report(&mut driver, REPORTING, WRITE, &[(0, 2)]);
    assert_eq!((driver.collect(REPORTING).len(), page(&driver, 0)), (1, 7));
}

#[test]
fn the_configuration_has_the_size() {
    let driver = ready(0);
    let field = |at| driver.load(VIRTIO_MMIO_CONFIG + at);
    assert_eq!([0, 4, 8, 12, 16].map(field), [3, 0, 0, 0, 0]);
    for at in [0, 4, 8, 12, 16, 0xfc] {
        driver.store(VIRTIO_MMIO_CONFIG + at, 0x0102_0304);
    }
    assert_eq!([0, 4, 8, 12].map(field), [3, 0x0102_0304, 0, 0x0102_0304]);
    driver.store(VIRTIO_MMIO_CONFIG + 2, u32::MAX);
    assert_eq!([0, 4, 8].map(field), [3, 0x0102_ffff, 0]);
    driver.store(VIRTIO_MMIO_STATUS, 0);
    assert_eq!([0, 4, 8, 12].map(field), [3, 0, 0, 0]);
    let plain = balloon(Options { deflates_on_oom: false, reports: false, ..OPTIONS });
    assert_eq!(plain.features(), feature::STATISTICS | feature::PAGE_POISON);
    assert_eq!(
        balloon(OPTIONS).features(),
        feature::STATISTICS | feature::PAGE_POISON | feature::DEFLATE_ON_OOM | feature::REPORTING
    );
}

#[test]
fn statistics_come_when_they_are_asked_for() {
    let mut driver = Driver::ready(balloon(Options { interval: 1, ..OPTIONS }), 0);
    let statistic = |tag: u16, value: u64| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
    let begun = Instant::now();
    for turn in 1..3 {
        let bytes = [statistic(0, 4096 * turn), statistic(2, turn), statistic(4, 5)].concat();
        driver.offer(STATISTICS, &[Part::Out(&bytes)]);
        driver.notify(STATISTICS);
        // The device keeps the buffer until it wants the next ones.
        while driver.collect(STATISTICS).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30));
            driver.run();
        }
        assert_eq!(counts(&driver, ["statistics", "swapped_in", "major_faults"]), [turn, 4096 * turn, turn]);
    }
    // A second buffer, one of any length, and one that cannot be written to either.
    for bytes in [&[0xff; 5000][..], &[]] {
        driver.offer(STATISTICS, &[Part::Out(bytes)]);
    }
    driver.offer(STATISTICS, &[Part::In(100)]);
    driver.notify(STATISTICS);
    assert!((2..=3).contains(&driver.collect(STATISTICS).len()));
    assert_eq!(counter(&driver, "statistics"), 5);
    // A reset takes the buffer away from the device.
    driver.store(VIRTIO_MMIO_STATUS, 0);
    driver.set_up(0);
    std::thread::sleep(Duration::from_millis(1100));
    driver.run();
    assert!(driver.collect(STATISTICS).is_empty() && !driver.needs_reset());
}

#[test]
fn requests_fail_on_purpose() {
    // The plans of tests know this device.
    let with_rule = |on: &str, action: &str| {
        let rule = format!(
            "[[rule]]\nname = \"r\"\non = \"{on}\"\naction = \"{action}\"\ndevice = \"entropy\"\nwhen = {{ nth = 1 }}\n"
        );
        let handle = FaultHandle::new(Faults::new(testing::plan(&rule), 1), "entropy");
        let mut driver = Driver::with_faults(balloon(OPTIONS), handle);
        driver.set_up(0);
        fill(&driver);
        driver.offer(INFLATE, &[Part::Out(&numbers(&[number(1)]))]);
        driver.notify(INFLATE);
        (driver.collect(INFLATE).len(), page(&driver, 1), counter(&driver, "refused"))
    };
    assert_eq!(with_rule("queue", "stall"), (0, 0, 0));
    assert_eq!(with_rule("queue", "lose"), (1, 0, 0));
    // The host keeps a page that the guest does not use.
    assert_eq!(with_rule("dma.read", "bus-error"), (1, 7, 1));
}

#[test]
fn the_size_changes_while_the_driver_runs() {
    use virtio_bindings::virtio_mmio::{
        VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INTERRUPT_STATUS,
    };
    let driver = ready(0);
    let seen = || {
        (
            driver.load(VIRTIO_MMIO_CONFIG),
            driver.load(VIRTIO_MMIO_CONFIG_GENERATION),
            driver.load(VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG != 0,
        )
    };
    assert_eq!(seen(), (3, 0, false));
    for (key, value, part) in [
        ("size", "8M", "takes all 8388608 bytes of guest memory"),
        ("size", "5", "the balloon's size cannot be '5'"),
        ("reporting", "no", "'reporting' does not change while the machine runs"),
    ] {
        let error = driver.device.set(key, value).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(seen(), (3, 0, false));
    assert_eq!(driver.device.set("size", "1M"), Ok(()));
    assert_eq!(seen(), (256, 1, true));
    assert!(driver.line.take());
    // A reset keeps the size.
    driver.store(VIRTIO_MMIO_STATUS, 0);
    assert_eq!(driver.device.set("size", "2M"), Ok(()));
    assert_eq!(seen(), (512, 2, false));
}
