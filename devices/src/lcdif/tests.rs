//! The controller as a driver uses it: registers, interrupts, pictures, faults. Each controller is stepped, but for the test of its thread.

use std::{
    fs::{self, File},
    sync::Arc,
    time::{Duration, Instant},
};

use media::{Captured, display::Pixel};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::{
    Lcdif, Stepper,
    faults::FAULTS,
    regs::*,
    setup::{self, Mode},
};
use crate::{
    dma::DmaPort,
    faults::{FaultHandle, Faults, Plan},
    irq::IrqLine,
    machine_events::MachineEvents,
    platform::{Parts, PlatformDevice as _, Trigger},
};

/// Guest memory that the controller may read.
const WINDOW: std::ops::Range<u64> = 0x10_0000..0x40_0000;
/// Two frames.
const FRAMES: [u32; 2] = [0x10_0000, 0x20_0000];

const WIDTH: u32 = 480;
const HEIGHT: u32 = 272;

/// The timing of the panel of 480x272.
const XRGB: Mode = Mode { pixel: Pixel::Xrgb8888, size: [WIDTH, HEIGHT], total: [525, 286] };
const RGB565: Mode = Mode { pixel: Pixel::Rgb565, ..XRGB };

/// Just more than a frame of it: 525 x 286 clocks of 9 MHz.
const PERIOD: Duration = Duration::from_nanos(16_683_334);

struct Rig {
    device: Lcdif,
    stepper: Stepper,
    memory: GuestMemoryMmap,
    line: IrqLine,
}

fn parts(memory: &GuestMemoryMmap, line: &IrqLine, faults: FaultHandle) -> Parts {
    Parts {
        id: "lcdif0".into(),
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

impl Rig {
    fn with(options: &str, plan: &str) -> Self {
        let memory = memory();
        let line = IrqLine::with_trigger(Trigger::Level).unwrap();
        let faults = if plan.is_empty() {
            FaultHandle::none()
        } else {
            FaultHandle::new(Faults::new(Plan::read(plan, &[&FAULTS]).unwrap(), 1), "lcdif0")
        };
        let (device, stepper) =
            Lcdif::stepped(&options.parse().unwrap(), parts(&memory, &line, faults)).unwrap();
        Self { device, stepper, memory, line }
    }

    fn new() -> Self {
        Self::with("", "")
    }

    /// A rule for the first event of a point, and a controller that runs.
    fn faulty(on: &str, action: &str) -> Self {
        let rule = format!("[[rule]]\nname = 'r'\non = '{on}'\nwhen = {{ nth = 1 }}\naction = {action}");
        let rig = Self::with("", &rule);
        rig.fill(FRAMES[0], 1);
        rig.fill(FRAMES[1], 2);
        rig.start(&XRGB);
        rig
    }

    fn set(&self, offset: u32, value: u32) {
        self.device.store(0, offset.into(), &value.to_le_bytes());
    }

    fn get(&self, offset: u32) -> u32 {
        let mut data = [0; 4];
        self.device.load(0, offset.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn start(&self, mode: &Mode) {
        setup::start(mode, FRAMES[0]).for_each(|(offset, value)| self.set(offset, value));
    }

    /// Fills a frame of 32 bits a pixel, or two of 16 bits, with bytes that depend on `seed`.
    fn fill(&self, frame: u32, seed: u64) {
        self.memory.write_slice(&pattern(seed), GuestAddress(frame.into())).unwrap();
    }

    /// Lets a frame pass. Whether one was scanned out.
    fn frame(&mut self) -> bool {
        // The first look starts the panel's clock.
        self.stepper.begin();
        self.stepper.pass(PERIOD);
        let begun = self.stepper.begin();
        self.stepper.finish();
        begun
    }

    /// Whether the guest got an interrupt, which it acknowledges as Linux's driver does.
    fn interrupt(&self) -> bool {
        let came = self.line.take();
        self.set(CTRL1 + CLR, CTRL1_CUR_FRAME_DONE_IRQ);
        self.line.end_of_interrupt();
        came
    }

    fn counter(&self, name: &str) -> u64 {
        self.device.counters().into_iter().find(|(counter, _)| *counter == name).unwrap().1
    }

    /// The next picture.
    fn picture(&mut self) -> Captured {
        let frames = self.device.frames().unwrap().capture();
        assert!(self.frame());
        frames.try_recv().unwrap()
    }
}

fn pattern(seed: u64) -> Vec<u8> {
    let byte = |at: u64| ((at ^ seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
    (0..u64::from(WIDTH * HEIGHT * 4)).map(byte).collect()
}

/// The pixels of a pattern of 32 bits a pixel, as the panel gets them.
fn rgb(seed: u64) -> Vec<u8> {
    pattern(seed).chunks(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect()
}

/// The CRC-32 of IEEE 802.3, a bit at a time.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
fn a_frame_is_the_picture_its_checksum_and_an_interrupt() {
    assert_eq!(crc(b"123456789"), 0xcbf4_3926, "the check value of the algorithm");
    let mut rig = Rig::new();
    rig.fill(FRAMES[0], 1);
    rig.start(&XRGB);
    assert!(!rig.interrupt());
    let picture = rig.picture();
    assert_eq!((picture.layout().width(), picture.layout().height()), (WIDTH, HEIGHT));
    assert!(picture.rgb() == rgb(1));
    assert_eq!(rig.get(CRC_STAT), crc(&rgb(1)));
    assert_eq!(
        rig.get(CTRL1) & 0xff00,
        CTRL1_VSYNC_EDGE_IRQ | CTRL1_CUR_FRAME_DONE_IRQ | CTRL1_CUR_FRAME_DONE_IRQ_EN
    );
    assert!(rig.interrupt() && !rig.interrupt());
    assert_eq!(rig.counter("bytes"), u64::from(WIDTH * HEIGHT * 4));
    assert_eq!([rig.counter("frames"), rig.counter("irqs"), rig.counter("flips")], [1, 1, 0]);
}

#[test]
fn pixels_of_16_bits_are_shown_with_24() {
    let mut rig = Rig::new();
    // Red, green, blue, white, and the darkest of each.
    let pixels = [0xf800_u16, 0x07e0, 0x001f, 0xffff, 0x0800, 0x0020, 0x0001, 0];
    let line: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    let frame = line.repeat((WIDTH * HEIGHT) as usize / pixels.len());
    rig.memory.write_slice(&frame, GuestAddress(FRAMES[0].into())).unwrap();
    rig.start(&RGB565);
    let shown =
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [8, 0, 0], [0, 4, 0], [0, 0, 8], [0, 0, 0]];
    let expected = shown.as_flattened().repeat(frame.len() / line.len());
    assert!(rig.picture().rgb() == expected);
    assert_eq!((rig.get(CRC_STAT), rig.counter("bytes")), (crc(&expected), frame.len() as u64));
}

#[test]
fn a_flip_takes_effect_at_the_end_of_a_frame() {
    let mut rig = Rig::new();
    rig.fill(FRAMES[0], 1);
    rig.fill(FRAMES[1], 2);
    rig.start(&XRGB);
    rig.set(NEXT_BUF, FRAMES[1]);
    assert_eq!(rig.get(CUR_BUF), FRAMES[0]);
    assert!(rig.picture().rgb() == rgb(1));
    assert_eq!((rig.get(CUR_BUF), rig.counter("flips")), (FRAMES[1], 1));
    // Back, while the frame is being read.
    rig.stepper.pass(PERIOD);
    assert!(rig.stepper.begin());
    rig.set(NEXT_BUF, FRAMES[0]);
    rig.stepper.finish();
    assert_eq!((rig.get(CRC_STAT), rig.get(CUR_BUF)), (crc(&rgb(2)), FRAMES[0]));
    assert!(rig.picture().rgb() == rgb(1));
    assert_eq!(rig.counter("flips"), 2);
}

#[test]
fn frames_come_at_the_rate_of_the_panel() {
    for (options, mode, nanoseconds) in [
        ("", XRGB, 16_683_333),
        ("panel=640x480", Mode { total: [800, 528], ..XRGB }, 16_778_550),
        ("panel=800x480", Mode { total: [1056, 525], ..XRGB }, 16_668_671),
        // A guest cannot have more than a frame a millisecond.
        ("", Mode { total: [1, 1], ..XRGB }, 1_000_000),
        ("", Mode { total: [0, 0], ..XRGB }, 1_000_000),
    ] {
        let mut rig = Rig::with(options, "");
        rig.start(&mode);
        assert!(!rig.stepper.begin());
        rig.stepper.pass(Duration::from_nanos(nanoseconds - 1));
        assert!(!rig.stepper.begin(), "{options} {mode:?}");
        rig.stepper.pass(Duration::from_nanos(1));
        assert!(rig.stepper.begin(), "{options} {mode:?}");
    }
    // A period in pixel clocks. Then the longest period, which takes effect in the current frame, and a shorter one in the middle of that.
    let mut rig = Rig::new();
    rig.start(&XRGB);
    rig.set(VDCTRL0, 0);
    rig.set(VDCTRL1, 90_000);
    assert!(!rig.stepper.begin());
    rig.stepper.pass(Duration::from_millis(10));
    assert!(rig.stepper.begin());
    rig.stepper.finish();
    rig.set(VDCTRL0, u32::MAX);
    rig.set(VDCTRL1, u32::MAX);
    rig.set(VDCTRL2, u32::MAX);
    rig.stepper.pass(Duration::from_secs(1 << 20));
    assert!(!rig.stepper.begin());
    rig.set(VDCTRL0, 0);
    rig.set(VDCTRL1, u32::MAX);
    assert!(rig.stepper.begin());
}

#[test]
fn frames_that_the_host_is_too_slow_for_are_left_out() {
    let mut rig = Rig::new();
    rig.start(&XRGB);
    assert!(rig.frame());
    rig.stepper.pass(4 * PERIOD);
    assert!(rig.stepper.begin());
    rig.stepper.finish();
    assert_eq!([rig.counter("frames"), rig.counter("late")], [2, 3]);
    assert!(!rig.stepper.begin(), "it does not catch up");
    assert!(rig.frame());
    assert_eq!(rig.picture().sequence(), 6, "those left out have a number");
}

#[test]
fn each_register_can_be_set_cleared_and_inverted() {
    let rig = Rig::new();
    rig.start(&XRGB);
    for register in [VDCTRL0, VDCTRL1, VDCTRL2, VDCTRL3, VDCTRL4, NEXT_BUF, CTRL2] {
        rig.set(register, 0xff00);
        rig.set(register + SET, 0x0ff0);
        rig.set(register + CLR, 0x8010);
        rig.set(register + TOG, 0x0003);
        assert_eq!([0, SET, CLR, TOG].map(|offset| rig.get(register + offset)), [0x7fe3; 4]);
    }
    for register in [CRC_STAT, BM_ERROR_STAT] {
        rig.set(register, 7);
        rig.set(register + SET, 7);
        assert_eq!(rig.get(register), 0, "it is read only");
    }
    // Between the registers, behind them, and accesses of other widths.
    rig.set(0x60, 7);
    rig.set(SIZE - 4, 7);
    rig.device.store(0, (NEXT_BUF + 1).into(), &[1; 4]);
    rig.device.store(0, NEXT_BUF.into(), &[1; 2]);
    rig.device.store(1, NEXT_BUF.into(), &[1; 4]);
    assert_eq!([0x60, SIZE - 4, SIZE, NEXT_BUF].map(|offset| rig.get(offset)), [0, 0, 0, 0x7fe3]);
}

#[test]
fn a_soft_reset_stops_it_and_its_clock_must_be_on() {
    let mut rig = Rig::new();
    assert_eq!(rig.get(CTRL), CTRL_SFTRST | CTRL_CLKGATE);
    rig.set(NEXT_BUF, 7);
    rig.set(CTRL + CLR, CTRL_SFTRST);
    rig.set(CTRL, CTRL_CLKGATE | CTRL_RUN);
    rig.set(NEXT_BUF, 7);
    assert_eq!((rig.get(CTRL), rig.get(NEXT_BUF)), (CTRL_CLKGATE, 0), "its clocks are off");
    rig.fill(FRAMES[0], 1);
    rig.start(&XRGB);
    assert!(rig.frame());
    assert!(rig.line.take());
    rig.line.end_of_interrupt();
    assert!(rig.line.take(), "the interrupt is not acknowledged");
    rig.set(CTRL + SET, CTRL_SFTRST);
    rig.line.end_of_interrupt();
    assert!(!rig.line.take() && !rig.frame());
    for register in REGISTERS {
        assert_eq!(rig.get(register.offset), register.reset, "{}", register.name);
    }
    rig.start(&XRGB);
    assert!(rig.frame());
    rig.set(CTRL + SET, CTRL_CLKGATE);
    assert!(!rig.frame());
    rig.set(CTRL + CLR, CTRL_CLKGATE);
    assert!(rig.frame());
    rig.device.reset();
    assert!(!rig.frame() && rig.get(CTRL) == CTRL_SFTRST | CTRL_CLKGATE);
}

#[test]
fn without_its_mode_it_does_not_run_and_abandons_the_frame() {
    let mut rig = Rig::new();
    rig.start(&XRGB);
    rig.stepper.begin();
    rig.stepper.pass(PERIOD);
    assert!(rig.stepper.begin());
    rig.set(CTRL + CLR, CTRL_DOTCLK_MODE);
    assert_eq!(rig.get(CTRL) & CTRL_RUN, 0, "it is clear at once");
    rig.stepper.finish();
    assert_eq!([rig.counter("frames"), rig.counter("abandoned")], [0, 1]);
    assert_eq!((rig.get(CRC_STAT), rig.interrupt()), (0, false));
    rig.set(CTRL + SET, CTRL_RUN);
    assert!(!rig.frame());
    // A restart in the middle abandons it, too.
    rig.start(&XRGB);
    rig.stepper.begin();
    rig.stepper.pass(PERIOD);
    assert!(rig.stepper.begin());
    rig.set(CTRL + CLR, CTRL_DOTCLK_MODE);
    rig.set(CTRL + SET, CTRL_DOTCLK_MODE);
    rig.set(CTRL + SET, CTRL_RUN);
    rig.stepper.finish();
    assert_eq!([rig.counter("frames"), rig.counter("abandoned")], [0, 2]);
    assert!(rig.frame());
}

#[test]
fn a_frame_that_the_bus_refuses_is_an_error_and_not_shown() {
    let outside = u32::try_from(WINDOW.end).unwrap();
    for (address, refused) in [(0, 0), (outside - 4, outside), (u32::MAX, u32::MAX)] {
        let mut rig = Rig::new();
        rig.start(&XRGB);
        rig.set(CTRL1 + SET, CTRL1_BM_ERROR_IRQ_EN);
        rig.set(CUR_BUF, address);
        let frames = rig.device.frames().unwrap().capture();
        assert!(rig.frame());
        assert!(frames.try_recv().is_err());
        assert_eq!((rig.get(BM_ERROR_STAT), rig.get(CRC_STAT)), (refused, 0), "{address:#x}");
        assert_eq!([rig.counter("bus_errors"), rig.counter("frames"), rig.counter("bytes")], [1, 1, 0]);
        assert!(rig.interrupt() && rig.interrupt(), "the error is another interrupt");
        rig.set(CTRL1 + CLR, CTRL1_BM_ERROR_IRQ);
        rig.line.take();
        rig.line.end_of_interrupt();
        assert!(!rig.interrupt());
        assert!(rig.frame(), "the next frame is right");
        assert!(frames.try_recv().is_ok());
    }
}

#[test]
fn what_is_no_frame_is_not_read() {
    let sizes = [0, 480, 272 << 16].map(|count| (TRANSFER_COUNT, count));
    let formats = [
        (CTRL + CLR, CTRL_MASTER),
        (CTRL1 + SET, CTRL1_BYTE_PACKING),
        (CTRL + TOG, 1 << 8),
        (CTRL + TOG, 2 << 8),
        (CTRL + TOG, CTRL_WORD_LENGTH_24 | CTRL_DATA_FORMAT_16),
    ];
    for (offset, value) in sizes.into_iter().chain(formats) {
        let mut rig = Rig::new();
        rig.start(&XRGB);
        rig.set(offset, value);
        assert!(rig.frame() && rig.interrupt(), "the panel's clock runs");
        assert_eq!([rig.counter("bytes"), rig.get(CRC_STAT).into()], [0, 0], "{offset:#x} {value:#x}");
    }
    // The largest frame, which does not fit into the window, and the smallest, of which no picture is shown.
    let mut rig = Rig::new();
    rig.start(&XRGB);
    rig.set(TRANSFER_COUNT, u32::MAX);
    assert!(rig.frame());
    assert_eq!(rig.counter("bus_errors"), 1);
    rig.set(TRANSFER_COUNT, 1 << 16 | 1);
    let frames = rig.device.frames().unwrap().capture();
    assert!(rig.frame());
    assert_eq!((frames.try_recv().is_err(), rig.get(CRC_STAT)), (true, crc(&[0; 3])));
}

#[test]
fn a_pause_and_steps_hold_the_panels_clock() {
    let mut rig = Rig::new();
    rig.start(&XRGB);
    assert!(rig.frame());
    rig.device.pause();
    assert!(!rig.frame() && !rig.frame());
    rig.device.resume();
    assert!(rig.frame());
    assert_eq!(rig.counter("late"), 0, "a pause takes no time");
    let source = |rig: &Rig, frames| rig.device.frames().unwrap().step(frames);
    source(&rig, Some(2));
    assert_eq!([rig.frame(), rig.frame(), rig.frame()], [true, true, false]);
    source(&rig, None);
    assert!(rig.frame());
    assert_eq!([rig.counter("frames"), rig.counter("late")], [5, 0]);
    rig.device.stop();
    assert!(!rig.frame());
}

#[test]
fn each_action_does_what_the_manual_says() {
    let mut rig = Rig::faulty("scan-out", "'underrun'\nlines = 100");
    let mut expected = rgb(1);
    expected[100 * 3 * WIDTH as usize..].fill(0);
    assert!(rig.picture().rgb() == expected);
    assert_eq!(
        [rig.get(CRC_STAT), rig.get(CTRL1) & CTRL1_UNDERFLOW_IRQ],
        [crc(&expected), CTRL1_UNDERFLOW_IRQ]
    );
    assert_eq!([rig.counter("underruns"), rig.counter("bytes")], [1, 100 * 4 * u64::from(WIDTH)]);
    assert!(rig.picture().rgb() == rgb(1));
    let mut rig = Rig::faulty("scan-out", "'underrun'\nlines = 272");
    assert!(rig.picture().rgb() == rgb(1) && rig.counter("underruns") == 0);

    let mut rig = Rig::faulty("crc", "'flip'\nbits = 1");
    assert!(rig.frame());
    assert_eq!((rig.get(CRC_STAT) ^ crc(&rgb(1))).count_ones(), 1);
    assert!(rig.frame());
    assert_eq!(rig.get(CRC_STAT), crc(&rgb(1)));

    let mut rig = Rig::faulty("buffer", "'stuck'");
    rig.set(NEXT_BUF, FRAMES[1]);
    assert!(rig.frame());
    assert_eq!((rig.get(CUR_BUF), rig.interrupt()), (FRAMES[0], true));
    assert!(rig.frame());
    assert_eq!((rig.get(CUR_BUF), rig.counter("flips")), (FRAMES[1], 1));

    let mut rig = Rig::faulty("vsync", "'lose'");
    rig.set(NEXT_BUF, FRAMES[1]);
    assert!(rig.frame());
    assert_eq!((rig.get(CUR_BUF), rig.interrupt()), (FRAMES[1], false));
    assert!(rig.frame() && rig.interrupt());

    let mut rig = Rig::faulty("vsync", "'late'\nmilliseconds = 100");
    rig.set(NEXT_BUF, FRAMES[1]);
    assert!(rig.frame());
    rig.stepper.pass(Duration::from_millis(99));
    assert_eq!((rig.stepper.begin(), rig.get(CUR_BUF), rig.interrupt()), (false, FRAMES[0], false));
    rig.stepper.pass(Duration::from_millis(1));
    assert_eq!((rig.stepper.begin(), rig.get(CUR_BUF), rig.interrupt()), (false, FRAMES[1], true));
    assert!(rig.frame());
    assert_eq!([rig.counter("frames"), rig.counter("late")], [2, 0]);
}

#[test]
fn what_goes_wrong_on_the_bus_is_seen() {
    let mut rig = Rig::faulty("dma.read", "'bus-error'");
    assert!(rig.frame());
    assert_eq!((rig.counter("bus_errors"), rig.get(BM_ERROR_STAT)), (1, FRAMES[0]));
    let mut rig = Rig::faulty("dma.read", "'flip'\nbits = 1");
    let differ = |(a, b): (&u8, &u8)| (a ^ b).count_ones();
    let flipped: u32 = rig.picture().rgb().iter().zip(&rgb(1)).map(differ).sum();
    assert!(flipped <= 1, "a bit of the padding is not shown");
    let mut rig = Rig::faulty("dma.read", "'lost'");
    assert!(rig.picture().rgb().iter().all(|byte| *byte == 0));
    let mut rig = Rig::faulty("dma.read", "'offset'\nbytes = 0x10_0000");
    assert!(rig.picture().rgb() == rgb(2), "the other frame");
    let rig = Rig::faulty("mmio.write", "'spurious'");
    assert!(rig.interrupt() && rig.counter("frames") == 0, "there is no frame");
}

#[test]
fn pictures_are_recorded_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut rig = Rig::with(&format!("record={}", path("a%d.png").display()), "");
    rig.fill(FRAMES[0], 1);
    rig.fill(FRAMES[1], 2);
    rig.start(&XRGB);
    for next in [FRAMES[0], FRAMES[1], FRAMES[1], FRAMES[0], FRAMES[0]] {
        rig.set(NEXT_BUF, next);
        assert!(rig.frame());
    }
    drop(rig);
    for (name, seed) in [("a0.png", 1), ("a1.png", 2), ("a2.png", 1)] {
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(File::open(path(name)).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert!(pixels == rgb(seed), "{name}");
    }
    assert!(!path("a3.png").exists());
}

#[test]
fn a_clip_has_every_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.y4m");
    let mut rig = Rig::with(&format!("record={}", path.display()), "");
    rig.start(&XRGB);
    assert!(rig.frame() && rig.frame() && rig.frame());
    drop(rig);
    let clip = fs::read(&path).unwrap();
    let header: &[u8] = b"YUV4MPEG2 W480 H272 F1000000:16683 Ip A1:1 C444 XCOLORRANGE=LIMITED\n";
    assert!(clip.starts_with(header));
    // Three bytes a pixel, behind the six of "FRAME\n".
    assert_eq!(clip.len(), header.len() + 3 * (6 + 3 * (WIDTH * HEIGHT) as usize));
}

#[test]
fn a_recording_that_cannot_be_written_is_an_error() {
    let line = IrqLine::with_trigger(Trigger::Level).unwrap();
    let spec = "record=/nowhere/a.y4m".parse().unwrap();
    let error =
        Lcdif::stepped(&spec, parts(&memory(), &line, FaultHandle::none())).err().unwrap().to_string();
    assert!(
        error.starts_with("the device lcdif0 cannot be built: the recording /nowhere/a.y4m cannot be"),
        "{error}"
    );
}

#[test]
fn its_thread_scans_out_until_it_is_stopped() {
    let line = IrqLine::with_trigger(Trigger::Level).unwrap();
    let memory = memory();
    let device = Lcdif::new(&"".parse().unwrap(), parts(&memory, &line, FaultHandle::none())).unwrap();
    let frames = device.frames().unwrap().capture();
    for (offset, value) in setup::start(&XRGB, FRAMES[0]) {
        device.store(0, offset.into(), &value.to_le_bytes());
    }
    assert!(frames.recv_timeout(Duration::from_secs(60)).is_ok());
    let begin = Instant::now();
    while !line.take() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    device.stop();
    let counters = device.counters();
    std::thread::sleep(3 * PERIOD);
    assert_eq!(device.counters(), counters);
}
