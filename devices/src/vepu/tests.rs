//! The encoder as a driver uses it: registers, interrupts, scans, faults. Each encoder is stepped, but for the test of its thread.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use media::jpeg;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::{
    Format, Stepper, Vepu,
    faults::FAULTS,
    regs::*,
    setup::{self, Picture},
};
use crate::{
    dma::DmaPort,
    faults::{FaultHandle, Faults, Plan},
    irq::IrqLine,
    machine_events::MachineEvents,
    platform::{Parts, PlatformDevice as _, Trigger},
};

/// Guest memory that the encoder may access.
const WINDOW: Range<u64> = 0x10_0000..0x40_0000;
/// The planes of a picture, and its scan.
const PLANES: [u32; 3] = [0x10_0000, 0x14_0000, 0x18_0000];
const OUTPUT: u32 = 0x20_0000;
const LIMIT: u32 = 0x4_0000;

/// A picture of 96x64 pixels, 4 columns and 3 lines of which do not count.
const PICTURE: Picture = Picture {
    format: Format::Planar,
    blocks: [6, 4],
    over: [4, 3],
    planes: PLANES,
    output: OUTPUT,
    limit: LIMIT,
};
const ROW: usize = 96;
const LINES: usize = 64;
const WIDTH: usize = ROW - 4;
const HEIGHT: usize = LINES - 3;

/// Luma at a pixel, and chroma of two by two. A line of 4:2:2 has the chroma of the one above or below it, so that all formats are the same
/// picture.
fn luma(x: usize, y: usize) -> u8 {
    u8::try_from((x * 3 + y * 5 + x * y / 7) % 256).unwrap()
}

fn chroma(x: usize, y: usize) -> [u8; 2] {
    [(x * 4 + y) % 256, (255 + x - y) % 256].map(|value| u8::try_from(value).unwrap())
}

/// The picture as the encoder should see it.
struct Expected;

impl jpeg::Picture for Expected {
    fn size(&self) -> [u16; 2] {
        [WIDTH, HEIGHT].map(|length| u16::try_from(length).unwrap())
    }

    fn line(&self, y: u16, [to_luma, cb, cr]: [&mut Vec<u8>; 3]) {
        let y = usize::from(y);
        to_luma.extend((0..WIDTH).map(|x| luma(x, y)));
        cb.extend((0..WIDTH).map(|x| chroma(x / 2, y / 2)[0]));
        cr.extend((0..WIDTH).map(|x| chroma(x / 2, y / 2)[1]));
    }
}

fn expected(divisor: u8) -> Vec<u8> {
    let mut scan = Vec::new();
    jpeg::scan(&Expected, &[[divisor; 64]; 2], &mut scan).unwrap();
    scan
}

/// The planes of the picture in `format`.
fn planes(format: Format) -> Vec<Vec<u8>> {
    let pairs = || (0..LINES / 2).flat_map(|y| (0..ROW / 2).map(move |x| chroma(x, y)));
    let whole = (0..LINES).flat_map(|y| (0..ROW).map(move |x| luma(x, y))).collect();
    let packed = |order: [usize; 4]| {
        let pixels = (0..LINES).flat_map(|y| (0..ROW / 2).map(move |x| (x, y)));
        pixels
            .flat_map(|(x, y)| {
                let [cb, cr] = chroma(x, y / 2);
                let samples = [luma(2 * x, y), cb, luma(2 * x + 1, y), cr];
                order.map(|index| samples[index])
            })
            .collect()
    };
    match format {
        Format::Planar => {
            vec![whole, pairs().map(|pair| pair[0]).collect(), pairs().map(|pair| pair[1]).collect()]
        }
        Format::SemiPlanar => vec![whole, pairs().flatten().collect()],
        Format::Yuyv => vec![packed([0, 1, 2, 3])],
        Format::Uyvy => vec![packed([1, 0, 3, 2])],
    }
}

struct Rig {
    device: Vepu,
    stepper: Stepper,
    memory: GuestMemoryMmap,
    line: IrqLine,
}

fn parts(memory: &GuestMemoryMmap, line: &IrqLine, faults: FaultHandle) -> Parts {
    Parts {
        id: "vepu0".into(),
        interrupts: vec![line.clone()],
        dma: Some(DmaPort::new(memory.clone(), 32, &[WINDOW]).with_faults(faults.clone())),
        seed: Some(1),
        faults,
        events: Arc::new(MachineEvents::new().unwrap()),
    }
}

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x80_0000)]).unwrap()
}

fn store(device: &Vepu, stores: impl IntoIterator<Item = setup::Store>) {
    for (offset, value) in stores {
        device.store(0, offset.into(), &value.to_le_bytes());
    }
}

fn load(device: &Vepu, offset: u32) -> u32 {
    let mut data = [0; 4];
    device.load(0, offset.into(), &mut data);
    u32::from_le_bytes(data)
}

impl Rig {
    fn with(plan: &str) -> Self {
        let (memory, line) = (memory(), IrqLine::with_trigger(Trigger::Level).unwrap());
        let faults = if plan.is_empty() {
            FaultHandle::none()
        } else {
            FaultHandle::new(Faults::new(Plan::read(plan, &[&FAULTS]).unwrap(), 1), "vepu0")
        };
        let (device, stepper) = Vepu::stepped(parts(&memory, &line, faults)).unwrap();
        let rig = Self { device, stepper, memory, line };
        rig.fill(Format::Planar);
        rig
    }

    /// Has the picture in this format in memory.
    fn fill(&self, format: Format) {
        for (plane, address) in planes(format).iter().zip(PLANES) {
            self.memory.write_slice(plane, GuestAddress(address.into())).unwrap();
        }
    }

    fn get(&self, offset: u32) -> u32 {
        load(&self.device, offset)
    }

    /// Has a picture encoded. The status and the length in bytes.
    fn encode(&mut self, picture: &Picture, divisor: u8) -> (u32, u32) {
        store(&self.device, setup::encode(picture, divisor));
        self.stepper.begin();
        self.stepper.finish();
        (self.get(INTERRUPT), self.get(STR_BUF_LIMIT) / 8)
    }

    fn bytes(&self, address: u32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address.into())).unwrap();
        bytes
    }

    fn counter(&self, name: &str) -> u64 {
        self.device.counters().into_iter().find(|(counter, _)| *counter == name).unwrap().1
    }
}

const READY: u32 = INTERRUPT_FRAME_READY | INTERRUPT_PENDING;

#[test]
fn a_picture_has_the_same_scan_in_each_format() {
    for divisor in [1, 16] {
        let expected = expected(divisor);
        for format in [Format::Planar, Format::SemiPlanar, Format::Yuyv, Format::Uyvy] {
            let mut rig = Rig::with("");
            rig.fill(format);
            let (status, length) = rig.encode(&Picture { format, ..PICTURE }, divisor);
            assert_eq!((status, length as usize), (READY, expected.len()), "{format:?}");
            assert!(rig.bytes(OUTPUT, expected.len()) == expected, "{format:?}");
            assert_eq!(rig.bytes(OUTPUT + length, 64), [0; 64], "{format:?}: behind the scan");
        }
    }
}

#[test]
fn a_large_scan_is_written_in_pieces() {
    let mut rig = Rig::with("");
    let noise: Vec<u8> =
        (0..640_u32 * 480).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    rig.memory.write_slice(&noise, GuestAddress(PLANES[0].into())).unwrap();
    let picture = Picture {
        blocks: [20, 30],
        over: [0, 0],
        format: Format::Yuyv,
        output: 0x30_0000,
        limit: 0x10_0000,
        ..PICTURE
    };
    let (status, length) = rig.encode(&picture, 1);
    assert_eq!(status, READY);
    assert!(length > 3 * (64 << 10), "{length} bytes");
    // Each end of an interval is followed by the next, so the last bytes are the end of the file.
    assert_eq!(rig.bytes(0x30_0000 + length - 2, 2), [0xff, 0xd9]);
    assert_eq!((rig.counter("bytes_written"), rig.counter("bytes_read")), (length.into(), 640 * 480));
}

#[test]
fn the_interrupt_is_high_until_it_is_acknowledged() {
    let mut rig = Rig::with("");
    assert!(!rig.line.take());
    rig.encode(&PICTURE, 8);
    assert_eq!(rig.get(ENCODE_START) & START_ENABLE, 0, "it clears itself");
    assert!(rig.line.take());
    rig.line.end_of_interrupt();
    assert!(rig.line.take(), "it is still pending");
    store(&rig.device, [(INTERRUPT, 0)]);
    rig.line.end_of_interrupt();
    assert!(!rig.line.take());
    assert_eq!(rig.get(INTERRUPT), 0);
    store(&rig.device, [(INTERRUPT, INTERRUPT_DISABLE | INTERRUPT_STATUS)]);
    assert_eq!(rig.get(INTERRUPT), INTERRUPT_DISABLE, "a write sets no status");
    store(&rig.device, setup::encode(&PICTURE, 8));
    assert_eq!(rig.get(INTERRUPT), 0, "a picture enables it");
    assert!(rig.stepper.begin());
    store(&rig.device, [(INTERRUPT, INTERRUPT_DISABLE)]);
    rig.stepper.finish();
    assert_eq!(rig.get(INTERRUPT), READY | INTERRUPT_DISABLE);
    assert!(!rig.line.take(), "it is disabled");
}

#[test]
fn what_does_not_fit_is_an_error() {
    let mut rig = Rig::with("");
    let whole = expected(8);
    let limit = 200;
    assert!(whole.len() > limit as usize);
    let (status, _) = rig.encode(&Picture { limit, ..PICTURE }, 8);
    assert_eq!(status, INTERRUPT_BUFFER_FULL | INTERRUPT_PENDING);
    assert_eq!(
        rig.bytes(OUTPUT, 264),
        [&whole[..200], &[0; 64]].concat(),
        "its beginning, and nothing behind the limit"
    );
    let exact = u32::try_from(whole.len()).unwrap();
    let mut rig = Rig::with("");
    assert_eq!(rig.encode(&Picture { limit: exact, ..PICTURE }, 8), (READY, exact));
    for limit in [0, exact - 1] {
        let (status, _) = rig.encode(&Picture { limit, ..PICTURE }, 8);
        assert_eq!(status & !READY, INTERRUPT_BUFFER_FULL, "{limit}");
        store(&rig.device, [(INTERRUPT, 0)]);
    }
}

#[test]
fn memory_that_is_not_the_windows_is_a_bus_error() {
    let outside = u32::try_from(WINDOW.end).unwrap() - 16;
    for picture in [
        Picture { planes: [outside, PLANES[1], PLANES[2]], ..PICTURE },
        Picture { planes: [PLANES[0], PLANES[1], 0], ..PICTURE },
        Picture { output: outside, ..PICTURE },
        Picture { output: u32::MAX, limit: u32::MAX, ..PICTURE },
    ] {
        let mut rig = Rig::with("");
        let (status, _) = rig.encode(&picture, 8);
        assert_eq!(status, INTERRUPT_BUS_ERROR | INTERRUPT_PENDING, "{picture:x?}");
        assert_eq!(rig.counter("bus_errors"), 1);
    }
}

#[test]
fn what_the_encoder_lacks_is_refused_at_once() {
    let refused = |stores: &[setup::Store]| {
        let rig = Rig::with("");
        let set_up: Vec<_> = setup::encode(&PICTURE, 8).collect();
        let (start, before) = set_up.split_last().unwrap();
        store(&rig.device, before.iter().copied());
        store(&rig.device, stores.iter().copied());
        if stores.iter().all(|(offset, _)| *offset != ENCODE_START) {
            store(&rig.device, [*start]);
        }
        (rig.get(INTERRUPT), rig.counter("refused"))
    };
    let fuse = (INTERRUPT_FUSE | INTERRUPT_PENDING, 1);
    assert_eq!(refused(&[(ENC_CTRL1, 7 << 4)]), fuse, "RGB");
    assert_eq!(refused(&[(ENCODE_START, 3 << 4 | START_ENABLE | 6 << 8 | 4 << 20)]), fuse, "H.264");
    assert_eq!(refused(&[(ENCODE_START, START_FORMAT_JPEG | START_ENABLE)]), fuse, "no pixels");
    assert_eq!(refused(&[]), (0, 0), "a right picture");
}

#[test]
fn a_picture_can_be_abandoned() {
    let mut rig = Rig::with("");
    store(&rig.device, setup::encode(&PICTURE, 8));
    assert!(rig.stepper.begin());
    store(&rig.device, [(ENCODE_START, 0)]);
    rig.stepper.finish();
    assert_eq!((rig.get(INTERRUPT), rig.counter("abandoned")), (0, 1));
    assert_eq!(rig.encode(&PICTURE, 8).0, READY, "the next one is encoded");
    assert!(rig.line.take());
    rig.device.reset();
    rig.line.end_of_interrupt();
    assert_eq!((rig.get(INTERRUPT), rig.get(LUMA_QUANT), rig.line.take()), (0, 0, false));
    store(&rig.device, setup::encode(&PICTURE, 8));
    rig.device.pause();
    assert!(!rig.stepper.begin(), "it is held back");
    rig.device.resume();
    assert!(rig.stepper.begin());
}

/// A plan with one rule for the encoder.
fn rule(on: &str, action: &str) -> String {
    format!(
        "[[rule]]\nname = \"rule\"\ndevice = \"vepu0\"\non = \"{on}\"\nwhen = {{ nth = 1 }}\naction = {action}\n"
    )
}

#[test]
fn each_action_does_what_the_manual_says() {
    let encoded = |on: &str, action: &str| {
        let mut rig = Rig::with(&rule(on, action));
        let outcome = rig.encode(&PICTURE, 8);
        (outcome, rig.line.take())
    };
    let length = u32::try_from(expected(8).len()).unwrap();
    let stuck = encoded("encode", "\"stuck\"");
    assert_eq!(stuck, ((0, LIMIT / 8), false));
    let timeout = encoded("encode", "\"timeout\"");
    assert_eq!(timeout, ((INTERRUPT_TIMEOUT | INTERRUPT_PENDING, LIMIT / 8), true));
    assert_eq!(encoded("encode", "\"limit\"\nbytes = 100").0.0, INTERRUPT_BUFFER_FULL | INTERRUPT_PENDING);
    assert_eq!(encoded("end", "\"lose\""), ((INTERRUPT_FRAME_READY, length), false));
    assert_eq!(encoded("end", "\"length\"\nbytes = 77"), ((READY, 77), true));
    assert_eq!(encoded("dma.read", "\"bus-error\"").0.0, INTERRUPT_BUS_ERROR | INTERRUPT_PENDING);
    assert_eq!(encoded("dma.write", "\"bus-error\"").0.0, INTERRUPT_BUS_ERROR | INTERRUPT_PENDING);
    let mut rig = Rig::with(&rule("end", "\"late\"\nmilliseconds = 100"));
    assert_eq!(rig.encode(&PICTURE, 8).0, 0);
    rig.stepper.pass(Duration::from_millis(99));
    rig.stepper.begin();
    assert_eq!(rig.get(INTERRUPT), 0);
    rig.stepper.pass(Duration::from_millis(1));
    rig.stepper.begin();
    assert_eq!((rig.get(INTERRUPT), rig.get(STR_BUF_LIMIT)), (READY, 8 * length));
}

#[test]
fn its_thread_encodes() {
    let (memory, line) = (memory(), IrqLine::with_trigger(Trigger::Level).unwrap());
    for (plane, address) in planes(Format::Planar).iter().zip(PLANES) {
        memory.write_slice(plane, GuestAddress(address.into())).unwrap();
    }
    let device = Vepu::new(parts(&memory, &line, FaultHandle::none())).unwrap();
    let begun = Instant::now();
    for _ in 0..3 {
        store(&device, setup::encode(&PICTURE, 8));
        while load(&device, INTERRUPT) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no picture is encoded");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(load(&device, STR_BUF_LIMIT) as usize, 8 * expected(8).len());
        store(&device, [(INTERRUPT, 0)]);
    }
    store(&device, setup::encode(&PICTURE, 8));
    device.stop();
}
