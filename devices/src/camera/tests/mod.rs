//! Tests of the whole camera on guest memory, driven by its registers, without a VM.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::{
    bus::BusDevice as _,
    dma::DmaPort,
    faults::{FaultHandle, Faults},
    irq::IrqLine,
};
use media::{FORMATS, Layout, stamp};

mod faults;
mod metadata;
mod recording;

const BASE: u64 = 0x10_0000;
const SIZE: usize = 0x100_0000;
const WINDOW: std::ops::Range<u64> = 0x40_0000..0x100_0000;
const TIMEOUT: Duration = Duration::from_secs(20);

struct Rig {
    memory: GuestMemoryMmap,
    camera: Camera,
    irq: IrqLine,
}

impl Rig {
    fn new(spec: &str) -> Self {
        Self::with_faults(spec, None)
    }

    fn with_faults(spec: &str, faults: Option<&Faults>) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(BASE), SIZE)]).unwrap();
        let spec: CameraSpec = spec.parse().unwrap();
        let irq = IrqLine::new().unwrap();
        let faults = faults.map_or(FaultHandle::none(), |faults| FaultHandle::new(faults.clone(), "camera0"));
        let dma = DmaPort::new(memory.clone(), spec.dma.address_bits, &[WINDOW]).with_faults(faults.clone());
        let camera = Camera::with_faults("camera0", spec, dma, irq.clone(), faults).unwrap();
        Self { memory, camera, irq }
    }

    fn read(&self, register: u32) -> u32 {
        let mut data = [0; 4];
        self.camera.read(register.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&self, register: u32, value: u32) {
        self.camera.write(register.into(), &value.to_le_bytes());
    }

    /// Programs a frame of `layout`, for the channel that has its format, whose planes follow each other from `address` on.
    fn program(&self, layout: &Layout, address: u32) {
        let write = |register, value| {
            self.write(regs::of_channel(register, regs::channel_of_format(layout.format())), value);
        };
        write(regs::CH_FORMAT, layout.format().fourcc);
        write(regs::CH_SIZE, layout.height() << 16 | layout.width());
        let mut at = address;
        for (plane, index) in layout.planes().zip(0..) {
            write(regs::CH_STRIDE0 + 4 * index, plane.stride);
            write(regs::CH_ADDR0_LO + 8 * index, at);
            write(regs::CH_LEN0 + 4 * index, plane.stride * plane.lines);
            at += plane.stride * plane.lines;
        }
    }

    fn commit(&self, layout: &Layout, address: u32) {
        self.program(layout, address);
        self.write(regs::of_channel(regs::CH_COMMIT, regs::channel_of_format(layout.format())), 1);
    }

    /// Makes the channel that has the format of `layout` the only one that is enabled.
    fn enable(&self, layout: &Layout) {
        self.write(regs::CTRL, regs::CTRL_ENABLE << regs::channel_of_format(layout.format()));
    }

    #[track_caller]
    fn wait(&self, events: u32) {
        let start = Instant::now();
        while self.read(regs::IRQ_RAW) & events == 0 {
            assert!(start.elapsed() < TIMEOUT, "none of {events:#x} in {:#x}", self.read(regs::IRQ_RAW));
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn bytes(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    fn all(&self) -> Vec<u8> {
        self.bytes(BASE, SIZE)
    }

    /// The next frame, acknowledged.
    #[track_caller]
    fn frame(&self, layout: &Layout) -> Vec<u8> {
        let done = regs::IRQ_DONE << regs::channel_of_format(layout.format());
        self.commit(layout, 0x40_0000);
        self.wait(done);
        let len: u32 = layout.planes().map(|plane| plane.stride * plane.lines).sum();
        let frame = self.bytes(0x40_0000, len as usize);
        self.write(regs::IRQ_STATUS, done);
        frame
    }
}

fn layout(code: &[u8; 4], width: u32, height: u32) -> Layout {
    Layout::new(u32::from_le_bytes(*code), width, height).unwrap()
}

#[test]
fn every_format_arrives_with_its_stamp_and_nothing_else_is_touched() {
    for source in ["sensor=no", "sensor=yes", "threads=2"] {
        every_format_arrives(&Rig::new(&format!("scene=zone-plate,timing=stall,{source}")));
    }
}

fn every_format_arrives(rig: &Rig) {
    for (sequence, format) in (0..).zip(FORMATS) {
        rig.memory.write_slice(&vec![0xa5; SIZE], GuestAddress(BASE)).unwrap();
        let tight = Layout::new(format.fourcc, 322, 242).unwrap();
        let stride = |index: usize| tight.planes().nth(index).map_or(0, |plane| plane.line_bytes + 30);
        let padded = tight.with_strides([stride(0), stride(1), stride(2)]).unwrap();
        let layout = if sequence % 2 == 0 { tight } else { padded };
        // The sensor goes on when one channel takes over from the other.
        rig.enable(&layout);
        let frame = rig.frame(&layout);
        let stamp = stamp::check(&frame, &layout).unwrap_or_else(|error| panic!("{}: {error}", format.name));
        assert_eq!(stamp.sequence, sequence);
        let start = usize::try_from(0x40_0000 - BASE).unwrap();
        let mut memory = rig.all();
        assert!(padding(&frame, &layout).iter().all(|byte| *byte == 0xa5), "{}", format.name);
        memory.drain(start..start + frame.len());
        assert!(memory.iter().all(|byte| *byte == 0xa5), "{}", format.name);
    }
}

/// Frame `count` of a camera in `layout`, and those before it.
fn frames(spec: &str, layout: &Layout, count: usize) -> Vec<Vec<u8>> {
    let rig = Rig::new(&format!("timing=stall,{spec}"));
    rig.enable(layout);
    (0..count).map(|_| rig.frame(layout)).collect()
}

#[test]
fn a_sensors_frames_are_its_seeds() {
    let layout = layout(b"NV12", 320, 240);
    let first = frames("sensor=yes,seed=1", &layout, 3);
    assert_eq!(first, frames("threads=3,seed=1", &layout, 3), "threads make no difference");
    assert_ne!(first[0], first[1], "the noise of each frame is another");
    assert_ne!(first, frames("sensor=yes,seed=2", &layout, 3));
    let quiet = frames("noise=no,seed=1", &layout, 2);
    assert_eq!(quiet[0][stamp::LEN..], quiet[1][stamp::LEN..]);
}

#[test]
fn binning_takes_noise_away() {
    let rig = Rig::new("timing=stall,sensor=yes,scene=flat");
    let layout = layout(b"RG12", 160, 120);
    // The deviation of samples of one colour in the middle, where the lens absorbs little light.
    let deviation = |binning: u32| {
        rig.write(regs::SENSOR_BINNING, binning);
        let frame = rig.frame(&layout);
        let samples: Vec<f64> = (40..80)
            .flat_map(|y| (60..100).map(move |x| (2 * (y / 2 * 2 * 160 + x / 2 * 2)) as usize))
            .map(|at| f64::from(u16::from_le_bytes([frame[at], frame[at + 1]])))
            .collect();
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        (samples.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
    };
    rig.enable(&layout);
    let [one, two, four] = [1, 2, 4].map(deviation);
    // Shot noise, most of it, becomes less by as much; what the read-out adds and the steps do not.
    for (ratio, near) in [(one / two, 2.0), (two / four, 1.9)] {
        assert!((ratio - near).abs() < 0.35, "{one} {two} {four}");
    }
}

/// The mean of red, green and blue of a frame.
fn means(frame: &[u8]) -> [usize; 3] {
    let (pixels, _) = frame.as_chunks::<3>();
    [0, 1, 2]
        .map(|channel| pixels.iter().map(|pixel| usize::from(pixel[channel])).sum::<usize>() / pixels.len())
}

#[test]
fn a_grey_scene_is_grey_and_its_raw_is_not() {
    let picture = frames("scene=flat,sensor=yes", &layout(b"RGB3", 320, 240), 1).remove(0);
    let [red, green, blue] = means(&picture);
    assert!(red.abs_diff(green) <= 1 && blue.abs_diff(green) <= 1, "{red} {green} {blue}");
    // 0.9 of the light of 128 is 122.
    assert!(green.abs_diff(122) <= 1, "{green}");
    let raw = frames("scene=flat,sensor=yes", &layout(b"GRBG", 320, 240), 1).remove(0);
    let mean = |x: usize, y: usize| {
        let lines = raw.chunks_exact(320).skip(40 + y).step_by(2).take(80);
        let samples =
            lines.flat_map(|line| line[40 + x..280].iter().step_by(2)).map(|sample| usize::from(*sample));
        let (count, sum) = samples.fold((0, 0), |(count, sum), sample| (count + 1, sum + sample));
        sum / count
    };
    let [[green, red], [blue, _]] = [[mean(0, 0), mean(1, 0)], [mean(0, 1), mean(1, 1)]];
    assert!(red < blue && blue < green, "{red} {green} {blue}");
}

#[test]
fn what_is_automatic_finds_middle_grey_in_dim_and_yellow_light() {
    let layout = layout(b"RGB3", 160, 120);
    let lamp = "scene=flat,lamp=0.3:0.25:0.1";
    let [red, _, blue] = means(frames(lamp, &layout, 1).last().unwrap());
    assert!(red > blue + 20, "{red} {blue}");
    let [red, green, blue] = means(frames(&format!("{lamp},auto=yes"), &layout, 40).last().unwrap());
    assert!(red.abs_diff(green) <= 3 && blue.abs_diff(green) <= 3, "{red} {green} {blue}");
    // 18 % of light is 118.
    assert!(green.abs_diff(118) <= 10, "{green}");
}

#[test]
fn a_scene_that_cannot_be_shown_is_said() {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(BASE), SIZE)]).unwrap();
    let spec: CameraSpec = "scene=/nowhere/moon.png".parse().unwrap();
    let dma = DmaPort::new(memory, 32, &[WINDOW]);
    let error = Camera::new(spec, dma, IrqLine::new().unwrap()).err().unwrap().to_string();
    assert!(error.starts_with("the scene /nowhere/moon.png cannot be read"), "{error}");
}

fn padding(frame: &[u8], layout: &Layout) -> Vec<u8> {
    let mut padding = Vec::new();
    let mut at = 0;
    for plane in layout.planes() {
        for _ in 0..plane.lines {
            padding.extend_from_slice(&frame[at + plane.line_bytes as usize..at + plane.stride as usize]);
            at += plane.stride as usize;
        }
    }
    padding
}

#[test]
fn golden_pixels() {
    let rig = Rig::new("scene=bars,timing=stall");
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    // Line 5 of frame 0 and line 3 of frame 1 are the same line of the scene, outside the ruler.
    let rgb = rig.frame(&layout(b"RGB3", 640, 480));
    assert_eq!(rgb[5 * 1920 + 79 * 3..][..6], [191, 191, 191, 191, 191, 0]);
    assert_eq!(rgb[17 * 1920 + 160 * 3..][..3], [0, 95, 95], "the ruler");
    let bgr = rig.frame(&layout(b"BX24", 640, 480));
    assert_eq!(bgr[3 * 2560 + 79 * 4..][..8], [255, 191, 191, 191, 255, 191, 191, 0]);
    let raw = layout(b"BA81", 640, 480);
    rig.enable(&raw);
    let bayer = rig.frame(&raw);
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    // Yellow: blue nothing, green and red 191.
    assert_eq!(
        [bayer[640 * 4 + 80], bayer[640 * 4 + 81], bayer[640 * 5 + 80], bayer[640 * 5 + 81]],
        [0, 191, 191, 191]
    );
    // 75 % red in BT.601, limited range: Y 65, Cb 100, Cr 212.
    let yuyv = rig.frame(&layout(b"YUYV", 640, 480));
    let near = |found: &[u8], expected: [u8; 4]| found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1);
    assert!(near(&yuyv[1280 * 8 + 440 * 2..][..4], [65, 100, 65, 212]), "{:?}", &yuyv[1280 * 8 + 880..][..4]);
}

/// Checksums of the first frames, as x86_64 makes them: every architecture makes the same, to the bit.
#[test]
fn frames_are_the_same_on_every_architecture() {
    let sums = |scene: &str, format: &[u8; 4]| {
        let rig = Rig::new(&format!("scene={scene},timing=stall,seed=5"));
        let layout = layout(format, 322, 242);
        rig.enable(&layout);
        stamp::check(&rig.frame(&layout), &layout).unwrap().crc
    };
    let scenes = ["bars", "gradient", "checker", "box", "zone-plate", "noise", "flat"];
    assert_eq!(
        scenes.map(|scene| sums(scene, b"RGB3")),
        [243057358, 2320750532, 1567851232, 1189323312, 2735406, 4182615799, 2090664347]
    );
    assert_eq!(
        [b"YUYV", b"UYVY", b"NV12", b"GREY", b"BA81"].map(|format| sums("zone-plate", format)),
        [920767726, 1575005652, 1680736133, 3104653150, 3899656840]
    );
}

#[test]
fn patterns_follow_the_register() {
    let rig = Rig::new("scene=flat,timing=stall,seed=5");
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    let grey = layout(b"RGB3", 160, 120);
    assert!(rig.frame(&grey)[stamp::LEN..].iter().all(|byte| *byte == 128));
    rig.write(regs::PATTERN, regs::PATTERN_CHECKER);
    assert!(rig.frame(&grey)[stamp::LEN..].iter().all(|byte| [0, 255].contains(byte)));
    rig.write(regs::PATTERN, regs::PATTERN_NOISE);
    let noise = rig.frame(&grey);
    let other = Rig::new("scene=noise,timing=stall,seed=6");
    other.write(regs::CTRL, regs::CTRL_ENABLE);
    other.frame(&grey);
    other.frame(&grey);
    assert_ne!(other.frame(&grey), noise, "another seed");
}

#[test]
fn frames_are_cropped_and_scaled() {
    let rig = Rig::new("scene=gradient,timing=stall,noise=no");
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    let pair = |[low, high]: [u32; 2]| high << 16 | low;
    let make = |input: [u32; 2], position: [u32; 2], crop: [u32; 2], layout: &Layout| {
        rig.write(regs::CH_INPUT_SIZE, pair(input));
        rig.write(regs::CH_CROP_POSITION, pair(position));
        rig.write(regs::CH_CROP_SIZE, pair(crop));
        rig.frame(layout)
    };
    let [large, small] = [(640, 480), (320, 240)].map(|(width, height)| layout(b"RGB3", width, height));
    // Red grows to the right; of each line in the middle, the means of its ends.
    let ends = |frame: &[u8], layout: &Layout| {
        let width = layout.width() as usize;
        let line = &frame[width * 3 * (layout.height() as usize / 2)..][..width * 3];
        [&line[..24], &line[width * 3 - 24..]]
            .map(|end| end.iter().step_by(3).map(|&red| u32::from(red)).sum::<u32>() / 8)
    };
    let whole = make([0; 2], [0; 2], [0; 2], &large);
    assert!(make([640, 480], [8, 9], [0; 2], &large)[stamp::LEN..] == whole[stamp::LEN..], "the same");
    let [left, right] = ends(&whole, &large);
    assert!(left < 16 && right > 220, "{left} {right}");
    let scaled = ends(&make([640, 480], [0; 2], [0; 2], &small), &small);
    // Its ends are of twice as many columns.
    assert!(scaled[0].abs_diff(left) <= 8 && scaled[1].abs_diff(right) <= 8, "{scaled:?}");
    // The right half, unscaled: its pixels equal those of the whole frame.
    let half = make([640, 480], [320, 120], [320, 240], &small);
    let pixel = |x: usize, y: usize| &whole[((y + 120) * 640 + x + 320) * 3..][..3];
    assert!((1..240).all(|y| (0..320).all(|x| half[(y * 320 + x) * 3..][..3] == *pixel(x, y))));
    // These registers do not affect raw frames.
    for register in [regs::CH_INPUT_SIZE, regs::CH_CROP_SIZE] {
        rig.write(regs::of_channel(register, 1), pair([1, 1]));
    }
    let raw = layout(b"RGGB", 320, 240);
    rig.enable(&raw);
    assert!(stamp::check(&rig.frame(&raw), &raw).is_ok());
}

#[test]
fn no_part_of_the_sensor_is_a_configuration_error() {
    let rig = Rig::new("timing=stall,sensor=yes");
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    let pair = |low: u32, high: u32| high << 16 | low;
    let whole = pair(320, 240);
    for (what, input, position, crop) in [
        ("an input that is smaller than the frame", pair(320, 238), 0, 0),
        ("one that is larger than can be", pair(3842, 240), 0, 0),
        ("an odd one", pair(321, 240), 0, 0),
        ("a part that is smaller than the frame", pair(640, 480), 0, pair(318, 240)),
        ("an odd one", pair(640, 480), pair(1, 0), whole),
        ("one that begins too far right", pair(640, 480), pair(322, 0), whole),
        ("one that ends below", pair(640, 480), pair(0, 242), whole),
        ("one of no lines", pair(640, 480), 0, pair(320, 0)),
        ("the largest numbers", pair(640, 480), u32::MAX, u32::MAX),
    ] {
        rig.write(regs::CH_INPUT_SIZE, input);
        rig.write(regs::CH_CROP_POSITION, position);
        rig.write(regs::CH_CROP_SIZE, crop);
        rig.commit(&layout(b"NV12", 320, 240), 0x40_0000);
        rig.wait(regs::IRQ_LATCHED);
        assert_eq!(rig.read(regs::IRQ_RAW), regs::IRQ_CONFIG_ERROR | regs::IRQ_LATCHED, "{what}");
        rig.write(regs::IRQ_STATUS, u32::MAX);
    }
}

#[test]
fn both_channels_write_the_same_frame_of_the_sensor() {
    let rig = Rig::new("scene=checker,timing=stall");
    let (grey, raw) = (layout(b"GREY", 320, 240), layout(b"RGGB", 160, 120));
    rig.write(regs::CTRL, regs::CTRL_ENABLE | regs::CTRL_ENABLE << 1);
    for sequence in 0..5 {
        rig.commit(&grey, 0x40_0000);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(rig.read(regs::STATUS), (3 * regs::STATUS_STREAMING) | regs::STATUS_PENDING);
        rig.commit(&raw, 0x80_0000);
        for (channel, layout, address) in [(0, &grey, 0x40_0000), (1, &raw, 0x80_0000)] {
            rig.wait(regs::IRQ_DONE << channel);
            let frame = rig.bytes(address, (layout.width() * layout.height()) as usize);
            assert_eq!(stamp::check(&frame, layout).unwrap().sequence, sequence);
            assert_eq!(rig.read(regs::of_channel(regs::CH_DONE_SEQUENCE, channel)), sequence);
            assert_eq!(u64::from(rig.read(regs::of_channel(regs::CH_DONE_ADDR_LO, channel))), address);
        }
        rig.write(regs::IRQ_STATUS, u32::MAX);
    }
    assert_eq!((rig.read(regs::FRAMES), rig.read(regs::CH_FRAMES), rig.read(regs::DROPS)), (10, 5, 0));
    // Each format belongs to one channel.
    rig.program(&grey, 0x40_0000);
    rig.program(&raw, 0x80_0000);
    rig.write(regs::CH_FORMAT, raw.format().fourcc);
    rig.write(regs::CH_COMMIT, 1);
    rig.write(regs::of_channel(regs::CH_FORMAT, 1), grey.format().fourcc);
    rig.write(regs::of_channel(regs::CH_COMMIT, 1), 1);
    rig.wait(regs::IRQ_LATCHED << 1);
    assert_eq!(rig.read(regs::IRQ_RAW), regs::IRQ_CONFIG_ERROR | (regs::IRQ_LATCHED * 3));
    assert_eq!((rig.read(regs::CONFIG_ERRORS), rig.read(regs::CH_DROPS)), (2, 1));
}

#[test]
fn two_runs_in_stall_timing_are_equal_byte_by_byte() {
    let run = || {
        let rig = Rig::new("scene=gradient,timing=stall,seed=5");
        rig.write(regs::CTRL, regs::CTRL_ENABLE);
        (0..3).map(|_| rig.frame(&layout(b"NV12", 320, 240))).collect::<Vec<_>>()
    };
    let first = run();
    assert_ne!(first[0][stamp::LEN..], first[1][stamp::LEN..]);
    assert_eq!(first, run());
}

#[test]
fn the_frame_clock_keeps_its_rate_and_drops_without_buffers() {
    let rig = Rig::new("timing=free,fps=1000");
    rig.write(regs::FRAME_INTERVAL, 5000);
    let yuyv = layout(b"YUYV", 160, 120);
    let start = Instant::now();
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    let mut last = None;
    for _ in 0..10 {
        let sequence = stamp::check(&rig.frame(&yuyv), &yuyv).unwrap().sequence;
        assert!(last.is_none_or(|last| sequence > last));
        last = Some(sequence);
    }
    let time = u64::from(rig.read(regs::CH_DONE_TIME_LO)) | u64::from(rig.read(regs::CH_DONE_TIME_HI)) << 32;
    assert_eq!(time, u64::from(last.unwrap() + 1) * 5_000_000, "the time of a frame is its tick's");
    assert!(start.elapsed() >= Duration::from_nanos(time));
    std::thread::sleep(Duration::from_millis(30));
    rig.write(regs::CTRL, 0);
    rig.wait(regs::IRQ_STOPPED);
    let counters = rig.camera.counters();
    assert_eq!(counters.frames, 10);
    assert!(counters.drops >= 4, "{counters:?}");
    assert_eq!(counters.bytes, 10 * 160 * 120 * 2);
    assert_ne!(rig.read(regs::IRQ_RAW) & regs::IRQ_UNDERRUN, 0);
}

#[test]
fn a_refused_address_is_told_and_nothing_is_written() {
    let rig = Rig::new("timing=stall");
    rig.memory.write_slice(&vec![0xa5; SIZE], GuestAddress(BASE)).unwrap();
    rig.write(regs::IRQ_ENABLE, regs::IRQ_BUS_ERROR);
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    let nv12 = layout(b"NV12", 640, 480);
    let (y, uv) = (640 * 480, 640 * 240);
    for (planes, at, plane) in [
        // Just below the window, just beyond its end, far from it, and what 32 lines cannot carry.
        ([0x3f_ffff_u64, 0x50_0000], 0x3f_ffff, 0),
        ([0x100_0000 - y + 1, 0x50_0000], 0x100_0000, 0),
        ([0x40_0000, 0x100_0000 - uv + 1], 0x100_0000, 1),
        ([0x40_0000, 0x20_0000], 0x20_0000, 1),
        ([0xffff_ffff, 0x40_0000], 0xffff_ffff, 0),
        ([0x40_0000, u64::MAX], u64::MAX, 1),
    ] {
        rig.program(&nv12, 0);
        for (address, register) in planes.into_iter().zip([regs::CH_ADDR0_LO, regs::CH_ADDR1_LO]) {
            rig.write(register, u32::try_from(address & 0xffff_ffff).unwrap());
            rig.write(register + 4, u32::try_from(address >> 32).unwrap());
        }
        rig.write(regs::CH_COMMIT, 1);
        rig.wait(regs::IRQ_BUS_ERROR);
        let found = u64::from(rig.read(regs::ERR_ADDR_LO)) | u64::from(rig.read(regs::ERR_ADDR_HI)) << 32;
        assert_eq!((found, rig.read(regs::ERR_INFO)), (at, plane), "{planes:x?}");
        assert!(rig.irq.take());
        rig.write(regs::IRQ_STATUS, u32::MAX);
    }
    assert!(rig.all().iter().all(|byte| *byte == 0xa5));
    assert_eq!((rig.read(regs::BUS_ERRORS), rig.read(regs::DROPS), rig.read(regs::FRAMES)), (6, 6, 0));
    // The last byte of the window is still inside.
    rig.program(&nv12, u32::try_from(0x100_0000 - y - uv).unwrap());
    rig.write(regs::CH_ADDR0_HI, 0);
    rig.write(regs::CH_ADDR1_HI, 0);
    rig.write(regs::CH_COMMIT, 1);
    rig.wait(regs::IRQ_DONE);
    assert_eq!(rig.read(regs::CH_DONE_SEQUENCE), 6);
}

#[test]
fn configurations_that_cannot_be_done_are_told_and_nothing_is_written() {
    let rig = Rig::new("timing=stall");
    rig.memory.write_slice(&vec![0xa5; SIZE], GuestAddress(BASE)).unwrap();
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    let nv12 = layout(b"NV12", 640, 480);
    for (register, value) in [
        (regs::CH_FORMAT, u32::from_le_bytes(*b"MJPG")),
        (regs::CH_SIZE, 480 << 16 | 641),
        (regs::CH_SIZE, 481 << 16 | 640),
        (regs::CH_SIZE, 0),
        (regs::CH_SIZE, u32::MAX),
        (regs::CH_STRIDE0, 639),
        (regs::CH_STRIDE1, 0),
        (regs::CH_STRIDE1, u32::MAX),
        (regs::CH_LEN0, 640 * 480 - 1),
        (regs::CH_LEN1, 640 * 240 - 1),
    ] {
        rig.program(&nv12, 0x40_0000);
        rig.write(register, value);
        rig.write(regs::CH_COMMIT, 1);
        rig.wait(regs::IRQ_CONFIG_ERROR);
        assert_eq!(rig.read(regs::IRQ_RAW), regs::IRQ_CONFIG_ERROR | regs::IRQ_LATCHED);
        rig.write(regs::IRQ_STATUS, u32::MAX);
    }
    assert!(rig.all().iter().all(|byte| *byte == 0xa5));
    assert_eq!((rig.read(regs::CONFIG_ERRORS), rig.read(regs::DROPS)), (10, 10));
    // The registers of planes that the format has not do not matter, and the last line's padding is not needed.
    let padded = layout(b"YUYV", 640, 480).with_strides([2048, 0, 0]).unwrap();
    rig.program(&padded, 0x40_0000);
    rig.write(regs::CH_LEN0, 2048 * 479 + 1280);
    rig.write(regs::CH_STRIDE2, 1);
    rig.write(regs::CH_COMMIT, 1);
    rig.wait(regs::IRQ_DONE);
    assert_eq!(rig.read(regs::CH_DONE_BYTES), 2048 * 479 + 1280);
}

#[test]
fn odd_accesses_read_zero_and_write_nothing() {
    let rig = Rig::new("");
    for (offset, len) in
        [(0, 1), (0, 2), (0, 8), (1, 4), (2, 4), (3, 1), (0x1_0000_0000, 4), (u64::MAX - 3, 4)]
    {
        let mut data = vec![0xff; len];
        rig.camera.read(offset, &mut data);
        assert_eq!(data, vec![0; len], "{len} bytes at {offset:#x}");
    }
    for (offset, len) in [(0x24, 1), (0x24, 2), (0x24, 8), (0x22, 4), (0x23, 4), (0x1_0000_0024, 4)] {
        rig.camera.write(offset, &vec![0xff; len]);
        assert_eq!(rig.read(regs::IRQ_ENABLE), 0, "{len} bytes at {offset:#x}");
    }
}

#[test]
fn the_largest_frame_fits_and_a_frame_in_work_ends_promptly_when_reset_or_switched_off() {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 34 << 20)]).unwrap();
    let irq = IrqLine::new().unwrap();
    let dma = DmaPort::new(memory.clone(), 32, &[0..34 << 20]);
    let camera = Camera::new("scene=zone-plate,timing=stall".parse().unwrap(), dma, irq.clone()).unwrap();
    let rig = Rig { memory, camera, irq };
    let big = layout(b"BX24", 3840, 2160);
    for wait in [0, 3, 10] {
        rig.commit(&big, 0);
        rig.write(regs::CTRL, regs::CTRL_ENABLE);
        std::thread::sleep(Duration::from_millis(wait));
        rig.write(regs::CTRL, regs::CTRL_RESET);
        let start = Instant::now();
        while rig.read(regs::STATUS) & regs::STATUS_ACTIVE != 0 {
            assert!(start.elapsed() < Duration::from_secs(2), "the frame is not abandoned");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    rig.commit(&big, 0);
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    rig.wait(regs::IRQ_DONE);
    assert_eq!(stamp::check(&rig.bytes(0, 3840 * 2160 * 4), &big).unwrap().sequence, 0);
    rig.write(regs::PATTERN, regs::PATTERN_NOISE);
    rig.write(regs::IRQ_STATUS, u32::MAX);
    rig.commit(&big, 0);
    let start = Instant::now();
    rig.camera.stop();
    assert!(start.elapsed() < Duration::from_secs(2));
    rig.camera.stop();
    assert_eq!(rig.camera.counters().frames, 1, "the counters outlive the thread");
}

#[test]
fn a_camera_without_work_ends_as_well() {
    for spec in ["timing=stall", "timing=free,fps=0.1"] {
        let rig = Rig::new(spec);
        rig.write(regs::CTRL, regs::CTRL_ENABLE);
        std::thread::sleep(Duration::from_millis(5));
        let start = Instant::now();
        drop(rig.camera);
        assert!(start.elapsed() < Duration::from_secs(2), "{spec}");
    }
}

/// A store to any register, with values that often make a frame.
fn store() -> impl Strategy<Value = (u64, u32)> {
    let channel = |(offset, value): (u64, u32)| {
        let own = (u64::from(regs::CH_FORMAT)..0x200).contains(&offset);
        (0..u64::from(if own { regs::CHANNELS } else { 1 }))
            .prop_map(move |channel| (offset + channel * u64::from(regs::CHANNEL_SPACING), value))
    };
    let address = prop_oneof![0x3f_0000..0x101_0000_u32, any::<u32>()];
    let size =
        (prop_oneof![160..400_u32, any::<u32>()], 120..300_u32).prop_map(|(w, h)| h << 16 | w & 0xffff);
    prop_oneof![
        (0..0x400_u64, any::<u32>()),
        (0..REGISTER_COUNT, any::<u32>())
            .prop_map(|(index, value)| (regs::REGISTERS[index].offset.into(), value)),
        (0..FORMATS.len()).prop_map(|index| (regs::CH_FORMAT.into(), FORMATS[index].fourcc)),
        size.prop_map(|size| (regs::CH_SIZE.into(), size)),
        (0..3_u64, 0..2000_u32).prop_map(|(plane, stride)| (u64::from(regs::CH_STRIDE0) + 4 * plane, stride)),
        (0..3_u64, address).prop_map(|(plane, at)| (u64::from(regs::CH_ADDR0_LO) + 8 * plane, at)),
        (0..3_u64, 0..0x100_0000_u32).prop_map(|(plane, len)| (u64::from(regs::CH_LEN0) + 4 * plane, len)),
        Just((regs::CH_COMMIT.into(), 1)),
        (1..4_u32).prop_map(|channels| (regs::CTRL.into(), regs::CTRL_ENABLE * channels)),
        Just((regs::IRQ_STATUS.into(), u32::MAX)),
    ]
    .prop_flat_map(channel)
}

const REGISTER_COUNT: usize = regs::REGISTERS.len();

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_stores_write_outside_the_window(stores in prop::collection::vec(store(), 1..300), timing in 0..2_usize) {
        let rig = Rig::new(["timing=stall", "timing=free,fps=1000"][timing]);
        // A configuration that can be done, for the stores to spoil.
        rig.commit(&layout(b"NV12", 160, 120), 0x40_0000);
        rig.write(regs::CTRL, regs::CTRL_ENABLE);
        for (offset, value) in stores {
            rig.camera.write(offset, &value.to_le_bytes());
            let mut data = [0; 4];
            rig.camera.read(offset, &mut data);
        }
        // The camera still works.
        rig.write(regs::CTRL, regs::CTRL_RESET);
        let start = Instant::now();
        while rig.read(regs::STATUS) != 0 {
            prop_assert!(start.elapsed() < TIMEOUT);
            std::thread::yield_now();
        }
        rig.write(regs::CTRL, regs::CTRL_ENABLE);
        let small = layout(b"NV12", 160, 120);
        for address in [regs::CH_ADDR0_HI, regs::CH_ADDR1_HI] {
            rig.write(address, 0);
        }
        prop_assert!(stamp::check(&rig.frame(&small), &small).is_ok());
        let below = usize::try_from(WINDOW.start - BASE).unwrap();
        prop_assert!(rig.bytes(BASE, below).iter().all(|byte| *byte == 0));
        prop_assert!(rig.bytes(WINDOW.end, 0x10_0000).iter().all(|byte| *byte == 0));
    }
}
