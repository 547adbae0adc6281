//! Random accesses to a camera's registers, with guest memory full of canaries. Numbers select the accesses, so that
//! a seed and a fuzzer can both be where they come from.

use std::{
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use devices::{
    bus::BusDevice,
    camera::{
        Camera, CameraSpec, Stepper, regs,
        uapi::{PARAMS_FOURCC, STATISTICS_FOURCC, STATISTICS_SIZE},
    },
    dma::DmaPort,
    faults::FaultHandle,
    irq::IrqLine,
    media::{FORMATS, Layout, stamp},
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Guest memory.
pub(crate) const MEMORY: Range<u64> = 0x10_0000..0x14_0000;
const SIZE: usize = 0x4_0000;
const WINDOW: Range<u64> = 0x10_8000..0x13_8000;
const CANARY: u8 = 0xa5;
const CHANNELS: usize = regs::CHANNELS as usize;
const BLOCK: usize = regs::CHANNEL_SPACING as usize;
/// No frame and no reset takes so long.
const LIMIT: Duration = Duration::from_secs(20);
/// The time between two looks at a camera that is waited for.
const TURN: Duration = Duration::from_micros(50);

/// The camera, its memory, and the posted buffers.
pub(crate) struct Poked {
    memory: GuestMemoryMmap,
    camera: Camera,
    /// What makes the frames of a camera without a thread.
    stepper: Option<Stepper>,
    irq: IrqLine,
    /// What was written to each channel's block of registers.
    blocks: [[u32; BLOCK / 4]; CHANNELS],
    /// The planes of all frames that were posted since the last check.
    posted: Vec<Range<u64>>,
    /// Frames written, over all checks.
    pub(crate) frames: u64,
    /// Buffers of metadata transferred, likewise.
    pub(crate) metadata: u64,
}

impl Poked {
    /// A camera as `--camera` describes it, in this [`MEMORY`]. It has its own thread and the host's time, unless it `is_stepped`.
    pub(crate) fn new(spec: &str, memory: &GuestMemoryMmap, is_stepped: bool) -> Self {
        let spec: CameraSpec = spec.parse().expect("there are such cameras");
        let dma = DmaPort::new(memory.clone(), spec.dma.address_bits, &[WINDOW]);
        let irq = IrqLine::new().expect("there are descriptors");
        let (camera, stepper) = if is_stepped {
            let parts = Camera::stepped(spec, dma, irq.clone(), FaultHandle::none());
            let (camera, stepper) = parts.expect("it needs nothing from the host");
            (camera, Some(stepper))
        } else {
            (Camera::new(spec, dma, irq.clone()).expect("there are threads"), None)
        };
        let poked = Self {
            memory: memory.clone(),
            camera,
            stepper,
            irq,
            blocks: [[0; BLOCK / 4]; CHANNELS],
            posted: Vec::new(),
            frames: 0,
            metadata: 0,
        };
        poked.fill();
        poked
    }

    fn fill(&self) {
        self.memory.write_slice(&[CANARY; SIZE], GuestAddress(MEMORY.start)).expect("it is all of memory");
    }

    /// Lets time pass. The camera makes the frames that are due.
    fn pass(&mut self, time: Duration) {
        match &mut self.stepper {
            Some(stepper) => {
                stepper.pass(time);
                stepper.run();
            }
            None => thread::sleep(time),
        }
    }

    /// What a camera with a thread does at some time: it begins a frame, makes it, or both.
    fn step(&mut self, choice: u8) {
        let Some(stepper) = &mut self.stepper else { return };
        match choice % 4 {
            0 => _ = stepper.begin(),
            1 => stepper.finish(),
            2 => stepper.run(),
            _ => {}
        }
    }

    fn read(&self, register: u32) -> u32 {
        let mut data = [0; 4];
        self.camera.read(register.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&mut self, register: u32, value: u32) {
        self.camera.write(register.into(), &value.to_le_bytes());
        if register == regs::CTRL && value & regs::CTRL_RESET != 0 {
            self.blocks = [[0; BLOCK / 4]; CHANNELS];
        }
        let Some(at) = register.checked_sub(regs::CH_FORMAT) else { return };
        let Some(block) = self.blocks.get_mut((at / regs::CHANNEL_SPACING) as usize) else { return };
        let at = at % regs::CHANNEL_SPACING;
        block[at as usize / 4] = value;
        if regs::CH_FORMAT + at == regs::CH_COMMIT && value & 1 != 0 {
            let planes = planes(block);
            self.posted.extend(planes);
        }
    }

    /// Does the access that `number` selects: a store or a load, mostly at relevant registers.
    pub(crate) fn poke(&mut self, number: u64) {
        let [what, pick, a, b, c, d, e, f] = number.to_le_bytes();
        let value = u32::from_le_bytes([a, b, c, d]);
        // Mostly those of frames.
        let channel = u32::from(if pick & 8 == 0 { pick & 1 } else { pick & 3 });
        let plane = u32::from(pick >> 4) % 3;
        let own = |register| regs::of_channel(register, channel);
        // Around the window, mostly inside it.
        let address = (value % 0x3_8000) + 0x10_4000;
        self.step(what >> 6);
        match (what & 0x3f) % 20 {
            0 => self.write((value % regs::MAPPED_SIZE) & !3, u32::from_le_bytes([e, f, a, b])),
            1 => self.write(known(pick), value),
            2 => self.write(own(regs::CH_FORMAT), FORMATS[usize::from(a) % FORMATS.len()].fourcc),
            3 => self.write(own(regs::CH_SIZE), (120 + u32::from(a)) << 16 | (160 + u32::from(b))),
            4 => self.write(own(regs::CH_STRIDE0) + 4 * plane, value % 2000),
            5 => self.write(own(regs::CH_ADDR0_LO) + 8 * plane, address),
            6 => self.write(own(regs::CH_ADDR0_LO) + 4 * (plane + 3 * u32::from(a & 1)), value),
            7 => self.write(own(regs::CH_LEN0) + 4 * plane, value % 0x8_0000),
            8 => self.write(own(regs::CH_COMMIT), value | 1),
            9 => self.write(regs::CTRL, value & 15),
            10 => self.write(regs::IRQ_STATUS, u32::MAX),
            11 => {
                let mut data = [0; 8];
                self.camera.read(value.into(), &mut data[..usize::from(a % 9)]);
                // Not a store that this could not follow.
                let offset = u64::from(value) | 1;
                self.camera.write(offset, &data[..usize::from(b % 9)]);
            }
            12 => {
                self.read(known(pick));
                self.irq.take();
            }
            13 if a == 0 => self.write(regs::CTRL, regs::CTRL_RESET | value),
            13 => self.write(regs::PATTERN, u32::from(b) % 8),
            14 => self.write(regs::FRAME_INTERVAL, value % 3000),
            15 => self.pass(Duration::from_micros(u64::from(a) * 4)),
            16 => self.post_metadata(regs::CHANNEL_STATISTICS, STATISTICS_FOURCC, address, STATISTICS_SIZE),
            17 => {
                // A block of white balance, or of nearly that.
                let block = [1, 16, u32::from(e % 4) << 16 | u32::from(f % 11), 16, value, value];
                let bytes = block.map(u32::to_le_bytes);
                // Outside the window, where it cannot be read, no canary is touched.
                if WINDOW.contains(&address.into()) && WINDOW.contains(&(u64::from(address) + 24)) {
                    self.memory
                        .write_slice(bytes.as_flattened(), GuestAddress(address.into()))
                        .expect("it is in the window");
                    self.posted.push(address.into()..u64::from(address) + 24);
                }
                self.post_metadata(regs::CHANNEL_PARAMS, PARAMS_FOURCC, address, 24);
            }
            _ => {
                let format = &FORMATS[usize::from(e) % FORMATS.len()];
                let size = |byte: u8| 2 * u32::from(byte % 40);
                let layout =
                    Layout::new(format.fourcc, 160 + size(f), 120 + size(b)).expect("it is a small one");
                self.post(&layout, 2 * u32::from(a % 16), address);
            }
        }
    }

    /// Commits a frame whose planes follow each other from `address` on. The sensor has `margin` more of lines and columns,
    /// and the part of it that becomes the frame has some of these.
    fn post(&mut self, layout: &Layout, margin: u32, address: u32) {
        let own = |register| regs::of_channel(register, regs::channel_of_format(layout.format()));
        let size = layout.height() << 16 | layout.width();
        let both = |length: u32| length << 16 | length;
        self.write(own(regs::CH_FORMAT), layout.format().fourcc);
        self.write(own(regs::CH_SIZE), size);
        self.write(own(regs::CH_INPUT_SIZE), size + both(margin));
        self.write(own(regs::CH_CROP_POSITION), both(margin / 4 * 2));
        self.write(own(regs::CH_CROP_SIZE), size + both(margin / 4 * 2));
        let mut at = address;
        for (plane, index) in layout.planes().zip(0..) {
            self.write(own(regs::CH_STRIDE0) + 4 * index, plane.stride);
            self.write(own(regs::CH_ADDR0_LO) + 8 * index, at);
            self.write(own(regs::CH_ADDR0_HI) + 8 * index, 0);
            self.write(own(regs::CH_LEN0) + 4 * index, plane.stride * plane.lines);
            at += plane.stride * plane.lines;
        }
        self.write(own(regs::CH_COMMIT), 1);
    }

    /// Commits a buffer of metadata.
    fn post_metadata(&mut self, channel: u32, fourcc: u32, address: u32, length: usize) {
        let own = |register| regs::of_channel(register, channel);
        self.write(own(regs::CH_FORMAT), fourcc);
        self.write(own(regs::CH_ADDR0_LO), address);
        self.write(own(regs::CH_ADDR0_HI), 0);
        self.write(own(regs::CH_LEN0), u32::try_from(length).expect("it is small"));
        self.write(own(regs::CH_COMMIT), 1);
    }

    /// Resets the camera. Asserts that it wrote only to posted buffers, and that a frame is correct if one is to be made.
    ///
    /// # Panics
    /// If not.
    pub(crate) fn check(&mut self, makes_frame: bool) {
        self.frames += u64::from(self.read(regs::FRAMES));
        for channel in [regs::CHANNEL_STATISTICS, regs::CHANNEL_PARAMS] {
            self.metadata += u64::from(self.read(regs::of_channel(regs::CH_FRAMES, channel)));
        }
        self.write(regs::CTRL, regs::CTRL_RESET);
        self.wait("a reset", |camera| camera.read(regs::STATUS) == 0);
        assert_eq!((self.read(regs::IRQ_RAW), self.read(regs::FRAMES)), (0, 0));
        let mut bytes = vec![0; SIZE];
        self.memory.read_slice(&mut bytes, GuestAddress(MEMORY.start)).expect("it is all of memory");
        for plane in self.posted.drain(..) {
            let clamp = |address: u64| {
                usize::try_from(address.clamp(WINDOW.start, WINDOW.end) - MEMORY.start).expect("it is small")
            };
            bytes[clamp(plane.start)..clamp(plane.end)].fill(CANARY);
        }
        const PAGE: usize = 4096;
        // A whole page is compared at once, which is fast in each build.
        if let Some(page) = bytes.chunks(PAGE).position(|page| page != [CANARY; PAGE]) {
            let at = bytes.iter().skip(page * PAGE).position(|byte| *byte != CANARY);
            let at = MEMORY.start + (page * PAGE + at.unwrap_or(0)) as u64;
            panic!("{at:#x} was written, where no plane was posted");
        }

        if makes_frame {
            self.check_frame();
        }
        self.posted.clear();
        self.fill();
    }

    fn check_frame(&mut self) {
        let layout = Layout::new(u32::from_le_bytes(*b"NV12"), 160, 120).expect("there are such frames");
        let at = WINDOW.start;
        self.post(&layout, 0, u32::try_from(at).expect("it is low"));
        self.write(regs::CTRL, regs::CTRL_ENABLE);
        self.wait("a frame", |camera| camera.read(regs::IRQ_RAW) & regs::IRQ_DONE != 0);
        let mut frame = vec![0; 160 * 180];
        self.memory.read_slice(&mut frame, GuestAddress(at)).expect("it is in the window");
        assert!(stamp::check(&frame, &layout).is_ok(), "{:?}", stamp::check(&frame, &layout));
        self.write(regs::CTRL, regs::CTRL_RESET);
        self.wait("a reset", |camera| camera.read(regs::STATUS) == 0);
    }

    fn wait(&mut self, what: &str, came: impl Fn(&Self) -> bool) {
        let (start, mut passed) = (Instant::now(), Duration::ZERO);
        while !came(self) {
            let waited = if self.stepper.is_some() { passed } else { start.elapsed() };
            assert!(waited < LIMIT, "{what} does not come: STATUS is {:#x}", self.read(regs::STATUS));
            passed += TURN;
            self.pass(TURN);
        }
    }
}

/// A register of the table, of any channel.
fn known(pick: u8) -> u32 {
    let offset = regs::REGISTERS[usize::from(pick >> 1) % regs::REGISTERS.len()].offset;
    if offset < regs::CH_FORMAT { offset } else { regs::of_channel(offset, u32::from(pick & 3)) }
}

/// The planes that a frame of this configuration takes, or its statistics; none if there is no such frame.
fn planes(block: &[u32; BLOCK / 4]) -> Vec<Range<u64>> {
    let get = |register: u32| block[(register - regs::CH_FORMAT) as usize / 4];
    if get(regs::CH_FORMAT) == STATISTICS_FOURCC {
        let start = u64::from(get(regs::CH_ADDR0_LO)) | u64::from(get(regs::CH_ADDR0_HI)) << 32;
        return vec![start..start.saturating_add(STATISTICS_SIZE as u64)];
    }
    let size = get(regs::CH_SIZE);
    let strides = [regs::CH_STRIDE0, regs::CH_STRIDE1, regs::CH_STRIDE2].map(get);
    let layout = Layout::new(get(regs::CH_FORMAT), size & 0xffff, size >> 16);
    let Ok(layout) = layout.and_then(|layout| layout.with_strides(strides)) else { return Vec::new() };
    (0..)
        .zip(layout.planes())
        .map(|(index, plane)| {
            let address = regs::CH_ADDR0_LO + 8 * index;
            let start = u64::from(get(address)) | u64::from(get(address + 4)) << 32;
            start..start.saturating_add(plane.span())
        })
        .collect()
}
