//! Random accesses to the registers of the JPEG encoder `vepu`, with guest memory full of canaries. Numbers select the accesses, so that a
//! seed and a fuzzer can both be where they come from. The encoder is stepped.

use std::{ops::Range, sync::Arc, time::Duration};

use devices::{
    dma::DmaPort,
    faults::FaultHandle,
    irq::IrqLine,
    machine_events::MachineEvents,
    platform::{Parts, PlatformDevice as _, Trigger},
    vepu::{
        Format, Stepper, Vepu,
        regs::*,
        setup::{self, Picture},
    },
};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

/// Guest memory.
pub(crate) const MEMORY: Range<u64> = 0x10_0000..0x14_0000;
const MEMORY_SIZE: usize = 0x4_0000;
/// What the encoder may access.
const WINDOW: Range<u64> = 0x10_8000..0x13_8000;
const CANARY: u8 = 0xa5;

/// The pixels that the pictures of a check may have together. What is beyond is abandoned, as it takes seconds.
const MOST_PIXELS: u64 = 1 << 18;

/// The encoder and its memory.
pub(crate) struct Poked {
    memory: GuestMemoryMmap,
    device: Vepu,
    stepper: Stepper,
    line: IrqLine,
    /// The pixels that may still be encoded until the next check.
    pixels: u64,
}

impl Poked {
    /// An encoder in this [`MEMORY`].
    pub(crate) fn new(memory: &GuestMemoryMmap) -> Self {
        let line = IrqLine::with_trigger(Trigger::Level).expect("there are descriptors");
        let parts = Parts {
            id: "vepu0".into(),
            interrupts: vec![line.clone()],
            dma: Some(DmaPort::new(memory.clone(), 32, &[WINDOW])),
            seed: Some(1),
            faults: FaultHandle::none(),
            events: Arc::new(MachineEvents::new().expect("there are descriptors")),
        };
        let (device, stepper) = Vepu::stepped(parts).expect("all parts are there");
        let poked = Self { memory: memory.clone(), device, stepper, line, pixels: MOST_PIXELS };
        poked.fill();
        poked
    }

    fn fill(&self) {
        self.memory
            .write_slice(&[CANARY; MEMORY_SIZE], GuestAddress(MEMORY.start))
            .expect("it is all of memory");
    }

    fn set(&self, offset: u32, value: u32) {
        self.device.store(0, offset.into(), &value.to_le_bytes());
    }

    fn load(&self, offset: u32) -> u32 {
        let mut data = [0; 4];
        self.device.load(0, offset.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn encode(&self, picture: &Picture, divisor: u8) {
        setup::encode(picture, divisor).for_each(|(offset, value)| self.set(offset, value));
    }

    /// Takes a picture, and abandons it if it is too large.
    fn begin(&mut self) {
        self.stepper.begin();
        match self.pixels.checked_sub(self.stepper.pixels()) {
            Some(left) => self.pixels = left,
            None => self.set(ENCODE_START, 0),
        }
    }

    /// Does the access that `number` selects: a store or a load, mostly at relevant registers.
    pub(crate) fn poke(&mut self, number: u64) {
        let [what, pick, a, b, c, d, e, f] = number.to_le_bytes();
        let value = u32::from_le_bytes([a, b, c, d]);
        // Around the window, mostly inside it.
        let address = (value % 0x3_8000) + 0x10_4000;
        match what >> 6 {
            0 => self.begin(),
            1 => self.stepper.finish(),
            2 => {
                self.stepper.finish();
                self.begin();
            }
            _ => {}
        }
        let known = REGISTERS[usize::from(pick) % REGISTERS.len()].offset;
        match (what & 0x3f) % 12 {
            0 => self.set(known, value),
            1 => self.set(known + 4 * u32::from(e % 16), value),
            2 => self.set(value & !3, u32::from_le_bytes([e, f, a, b])),
            3 => {
                let data = u64::from(value).wrapping_mul(0x0001_0001_0101_0101).to_le_bytes();
                self.device.store(usize::from(pick) % 2, (value >> 8).into(), &data[..usize::from(f % 9)]);
            }
            4 => {
                self.device.load(usize::from(pick) % 2, value.into(), &mut [0; 8][..usize::from(f % 9)]);
                self.load(known);
            }
            5..=7 => {
                let formats = [Format::Planar, Format::SemiPlanar, Format::Yuyv, Format::Uyvy];
                let picture = Picture {
                    format: formats[usize::from(pick) % 4],
                    blocks: [u32::from(e % 8), u32::from(e / 32)],
                    over: [u32::from(f & 0xc), u32::from(f >> 4)],
                    planes: [address, address.wrapping_add(0x2000), address.wrapping_add(0x3000)],
                    output: address.wrapping_add(0x4000),
                    limit: value >> (f % 32),
                };
                self.encode(&picture, pick);
            }
            8 => {
                self.set([IN_PLANE_0, IN_PLANE_1, IN_PLANE_2, OUTPUT_STREAM][usize::from(pick) % 4], address);
            }
            9 => self.acknowledge(),
            10 => match pick {
                0..16 => self.device.reset(),
                16..32 => self.device.pause(),
                32..96 => self.device.resume(),
                _ => self.stepper.pass(Duration::from_millis(pick.into())),
            },
            _ => self.set(ENCODE_START, value),
        }
    }

    /// Acknowledges the interrupt, as the guest's handler does.
    fn acknowledge(&self) {
        self.set(INTERRUPT, 0);
        self.line.take();
        self.line.end_of_interrupt();
    }

    /// Asserts that nothing outside the window was written, and that a picture is encoded after a reset.
    ///
    /// # Panics
    /// If not.
    pub(crate) fn check(&mut self) {
        let mut found = vec![0; MEMORY_SIZE];
        self.memory.read_slice(&mut found, GuestAddress(MEMORY.start)).expect("it is all of memory");
        let window =
            [WINDOW.start, WINDOW.end].map(|at| usize::try_from(at - MEMORY.start).expect("it is small"));
        let outside = found[..window[0]].iter().chain(&found[window[1]..]);
        assert!(outside.copied().all(|byte| byte == CANARY), "memory outside the window was written");

        self.device.resume();
        self.device.reset();
        // The picture in work is abandoned.
        self.stepper.finish();
        for register in REGISTERS {
            assert_eq!(self.load(register.offset), register.reset, "{} after a reset", register.name);
        }
        self.fill();
        let start = u32::try_from(WINDOW.start).expect("it is low");
        let picture = Picture {
            format: Format::Yuyv,
            blocks: [2, 1],
            over: [0, 0],
            planes: [start, 0, 0],
            output: start + 0x1000,
            limit: 0x1000,
        };
        self.encode(&picture, 16);
        assert!(self.stepper.begin(), "no picture is encoded after a reset");
        self.stepper.finish();
        assert_eq!(self.load(INTERRUPT), INTERRUPT_FRAME_READY | INTERRUPT_PENDING);
        let length = self.load(STR_BUF_LIMIT) / 8;
        let mut end = [0; 2];
        let at = GuestAddress(u64::from(picture.output + length - 2));
        self.memory.read_slice(&mut end, at).expect("it is in the window");
        assert_eq!(end, [0xff, 0xd9], "the end of the file");
        self.device.reset();
        self.acknowledge();
        self.fill();
        self.pixels = MOST_PIXELS;
    }

    /// A counter of the encoder.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let counters = self.device.counters();
        counters.into_iter().find(|(counter, _)| *counter == name).expect("there is such a counter").1
    }
}
