//! Random accesses to the registers of the display controller `lcdif`, whose guest memory nothing may change. Numbers select the accesses,
//! so that a seed and a fuzzer can both be where they come from. The controller is stepped.

use std::{ops::Range, sync::Arc, sync::mpsc::Receiver, time::Duration};

use devices::{
    dma::DmaPort,
    faults::FaultHandle,
    irq::IrqLine,
    lcdif::{
        Lcdif, LcdifSpec, Stepper,
        regs::*,
        setup::{self, Mode},
    },
    machine_events::MachineEvents,
    media::{Captured, display::Pixel},
    platform::{Parts, PlatformDevice as _, Trigger},
};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

/// Guest memory.
pub(crate) const MEMORY: Range<u64> = 0x10_0000..0x14_0000;
const MEMORY_SIZE: usize = 0x4_0000;
/// What the controller may read.
const WINDOW: Range<u64> = 0x10_8000..0x13_8000;

/// Width and height of a frame that is set up: the smallest that can be looked at.
const SIZE_OF_FRAME: [u32; 2] = [160, 120];

/// The time that the panel takes for it.
const TOTAL: [u32; 2] = [180, 150];
/// More than that: 27,000 clocks of 9 MHz.
const PERIOD: Duration = Duration::from_millis(4);

/// The controller and its memory.
pub(crate) struct Poked {
    memory: GuestMemoryMmap,
    device: Lcdif,
    stepper: Stepper,
    line: IrqLine,
    /// Whom the next picture is shown to.
    viewer: Option<Receiver<Captured>>,
}

/// The byte at each address, which differs from its neighbours.
fn content() -> Vec<u8> {
    (0..MEMORY_SIZE as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

impl Poked {
    /// A controller as `--device lcdif` describes it, in this [`MEMORY`].
    pub(crate) fn new(memory: &GuestMemoryMmap) -> Self {
        let line = IrqLine::with_trigger(Trigger::Level).expect("there are descriptors");
        let parts = Parts {
            id: "lcdif0".into(),
            interrupts: vec![line.clone()],
            dma: Some(DmaPort::new(memory.clone(), 32, &[WINDOW])),
            seed: Some(1),
            faults: FaultHandle::none(),
            events: Arc::new(MachineEvents::new().expect("there are descriptors")),
        };
        let (device, stepper) = Lcdif::stepped(&LcdifSpec::default(), parts).expect("all parts are there");
        memory.write_slice(&content(), GuestAddress(MEMORY.start)).expect("it is all of memory");
        Self { memory: memory.clone(), device, stepper, line, viewer: None }
    }

    fn set(&self, offset: u32, value: u32) {
        self.device.store(0, offset.into(), &value.to_le_bytes());
    }

    fn load(&self, offset: u32) -> u32 {
        let mut data = [0; 4];
        self.device.load(0, offset.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn start(&self, pixel: Pixel, address: u32) {
        let mode = Mode { pixel, size: SIZE_OF_FRAME, total: TOTAL };
        setup::start(&mode, address).for_each(|(offset, value)| self.set(offset, value));
    }

    /// Does the access that `number` selects: a store or a load, mostly at relevant registers.
    pub(crate) fn poke(&mut self, number: u64) {
        let [what, pick, a, b, c, d, e, f] = number.to_le_bytes();
        let value = u32::from_le_bytes([a, b, c, d]);
        // Around the window, mostly inside it.
        let address = (value % 0x3_8000) + 0x10_4000;
        match what >> 6 {
            0 => _ = self.stepper.begin(),
            1 => self.stepper.finish(),
            2 => {
                self.stepper.finish();
                self.stepper.begin();
            }
            _ => {}
        }
        let register = REGISTERS[usize::from(pick) % REGISTERS.len()].offset;
        let known = register + [0, SET, CLR, TOG][usize::from(e) % 4];
        match (what & 0x3f) % 14 {
            0 => self.set(known, value),
            1 => self.set(known, 1 << (f % 32)),
            2 => self.set(value & !3, u32::from_le_bytes([e, f, a, b])),
            3 => {
                let data = u64::from(value).wrapping_mul(0x0001_0001_0101_0101).to_le_bytes();
                self.device.store(usize::from(pick) % 2, (value >> 8).into(), &data[..usize::from(f % 9)]);
            }
            4 => {
                self.device.load(usize::from(pick) % 2, value.into(), &mut [0; 8][..usize::from(f % 9)]);
                self.load(known);
            }
            5 | 6 => {
                let pixel = if pick & 1 == 0 { Pixel::Rgb565 } else { Pixel::Xrgb8888 };
                self.start(pixel, address);
            }
            7 => self.set(if pick & 1 == 0 { NEXT_BUF } else { CUR_BUF }, address),
            // Sizes near what the window holds, and any.
            8 => self.set(TRANSFER_COUNT, if pick & 1 == 0 { value & 0x01ff_01ff } else { value }),
            9 => self.set([VDCTRL0, VDCTRL1, VDCTRL2][usize::from(pick) % 3], value >> (f % 32)),
            10 => self.stepper.pass(Duration::from_millis(pick.into())),
            11 => self.acknowledge(),
            12 => match pick {
                0..8 => self.device.reset(),
                8..16 => self.device.pause(),
                16..64 => self.device.resume(),
                _ => {
                    let source = self.device.frames().expect("it makes frames");
                    source.step((pick & 1 == 0).then_some((pick & 7).into()));
                }
            },
            _ => self.viewer = Some(self.device.frames().expect("it makes frames").capture()),
        }
    }

    /// Acknowledges all interrupts, as the guest's handler does.
    fn acknowledge(&self) {
        self.set(CTRL1 + CLR, self.load(CTRL1) & 0x0200_0f00);
        self.line.take();
        self.line.end_of_interrupt();
    }

    /// Asserts that memory is as it was, and that a picture is shown after a reset.
    ///
    /// # Panics
    /// If not.
    pub(crate) fn check(&mut self) {
        let content = content();
        let mut found = vec![0; MEMORY_SIZE];
        self.memory.read_slice(&mut found, GuestAddress(MEMORY.start)).expect("it is all of memory");
        assert!(found == content, "memory was written");

        self.device.resume();
        let source = self.device.frames().expect("it makes frames");
        source.step(None);
        self.device.reset();
        // The frame that was being read is abandoned.
        self.stepper.finish();
        for register in REGISTERS {
            assert_eq!(self.load(register.offset), register.reset, "{} after a reset", register.name);
        }
        self.start(Pixel::Xrgb8888, u32::try_from(WINDOW.start).expect("it is low"));
        let frames = source.capture();
        // The first look starts the panel's clock.
        assert!(!self.stepper.begin());
        self.stepper.pass(PERIOD);
        assert!(self.stepper.begin(), "no frame ends after a reset");
        self.stepper.finish();
        assert_ne!(self.load(CTRL1) & CTRL1_CUR_FRAME_DONE_IRQ, 0);
        let start = usize::try_from(WINDOW.start - MEMORY.start).expect("it is small");
        let memory = &content[start..][..4 * SIZE_OF_FRAME.iter().product::<u32>() as usize];
        let expected: Vec<u8> = memory.as_chunks().0.iter().flat_map(|&[b, g, r, _]| [r, g, b]).collect();
        assert!(frames.try_recv().expect("it is shown").rgb() == expected, "the picture is another");
        self.device.reset();
        self.acknowledge();
    }

    /// A counter of the controller.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let counters = self.device.counters();
        counters.into_iter().find(|(counter, _)| *counter == name).expect("there is such a counter").1
    }
}
