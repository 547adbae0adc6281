//! Random accesses to the registers of the camera `rkisp1`, with guest memory full of canaries. Numbers select the accesses, so that a
//! seed and a fuzzer can both be where they come from. The camera is stepped.

use std::{ops::Range, sync::Arc, sync::mpsc::Receiver, time::Duration};

use devices::{
    dma::DmaPort,
    faults::FaultHandle,
    i2c::rk3x,
    irq::IrqLine,
    machine_events::MachineEvents,
    media::Captured,
    platform::{Parts, PlatformDevice as _, Trigger},
    rkisp1::{
        Rkisp1, Rkisp1Spec, Stepper,
        regs::*,
        setup::{self, GRF, GRF_LANES, GRF_TEST, I2C, ISP},
    },
    sensors::{Model, RAW8, RAW10, RAW12},
};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

/// Guest memory.
pub(crate) const MEMORY: Range<u64> = 0x10_0000..0x14_0000;
const MEMORY_SIZE: usize = 0x4_0000;
/// What the camera may write.
const WINDOW: Range<u64> = 0x10_8000..0x13_8000;
const CANARY: u8 = 0xa5;

/// The regions, and one that does not exist.
const REGIONS: usize = 4;

/// Registers of the GRF that control the D-PHY, and its status.
const GRF_REGISTERS: [u32; 4] = [GRF_LANES, GRF_TEST, 0x6258, 0xe2a4];

/// Registers of IMX219: each byte of those that have an effect, and some others.
const MODE_SELECT: u16 = 0x100;
const IMX219_REGISTERS: [Range<u16>; 8] = [
    0x000..0x004,
    MODE_SELECT..0x104,
    0x114..0x115,
    0x157..0x176,
    0x18c..0x18e,
    0x301..0x30a,
    0x600..0x60a,
    0x620..0x628,
];

/// Registers of IMX290, likewise.
const STANDBY: u16 = 0x3000;
const IMX290_REGISTERS: [Range<u16>; 8] = [
    STANDBY..0x3008,
    0x300a..0x3010,
    0x3014..0x3024,
    0x3046..0x3047,
    0x308c..0x308d,
    0x3407..0x3408,
    0x3418..0x341a,
    0x3441..0x3474,
];

/// Width and height of a frame that is set up: little work, but above the minimum.
const WIDTH: u32 = 48;
const HEIGHT: u32 = 34;

/// The pixels that the frames of a check may read together. What is beyond is abandoned, as it takes seconds.
const MOST_PIXELS: u64 = 1 << 17;

/// The camera and its memory.
pub(crate) struct Poked {
    memory: GuestMemoryMmap,
    camera: Rkisp1,
    sensor: Model,
    stepper: Stepper,
    lines: [IrqLine; 2],
    /// The pixels that frames may still read until the next check.
    pixels: u64,
    /// Whom the next frame is shown to.
    viewer: Option<Receiver<Captured>>,
}

impl Poked {
    /// A camera as `--device rkisp1` describes it, in this [`MEMORY`].
    pub(crate) fn new(options: &str, memory: &GuestMemoryMmap) -> Self {
        let spec: Rkisp1Spec = options.parse().expect("there are such cameras");
        let lines = [(); 2].map(|()| IrqLine::with_trigger(Trigger::Level).expect("there are descriptors"));
        let parts = Parts {
            id: "rkisp10".into(),
            interrupts: lines.to_vec(),
            dma: Some(DmaPort::new(memory.clone(), 32, &[WINDOW])),
            seed: Some(1),
            faults: FaultHandle::none(),
            events: Arc::new(MachineEvents::new().expect("there are descriptors")),
        };
        let (camera, stepper) = Rkisp1::stepped(&spec, parts).expect("all parts are there");
        let poked = Self {
            memory: memory.clone(),
            camera,
            sensor: spec.sensor,
            stepper,
            lines,
            pixels: MOST_PIXELS,
            viewer: None,
        };
        poked.fill();
        poked
    }

    fn fill(&self) {
        self.memory
            .write_slice(&[CANARY; MEMORY_SIZE], GuestAddress(MEMORY.start))
            .expect("it is all of memory");
    }

    fn store(&self, region: usize, offset: u32, value: u32) {
        self.camera.store(region, offset.into(), &value.to_le_bytes());
    }

    fn load(&self, region: usize, offset: u32) -> u32 {
        let mut data = [0; 4];
        self.camera.load(region, offset.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn set(&self, offset: u32, value: u32) {
        self.store(ISP, offset, value);
    }

    /// Writes bytes to the sensor's registers from `register` on, in one message.
    fn sensor(&self, register: u16, bytes: &[u8]) {
        self.stores(setup::sensor(self.sensor.address(), register, bytes));
    }

    fn stores(&self, stores: impl Iterator<Item = setup::Store>) {
        stores.for_each(|(region, offset, value)| self.store(region, offset, value));
    }

    /// Sets sensor, D-PHY, receiver and ISP up as Linux's drivers do. The paths write to `address` what `control` of `MI_CTRL` says,
    /// of what `mode` of `ISP_CTRL` makes.
    fn start(&self, mode: u32, control: u32, address: u32) {
        for (plane, registers) in (0..).zip([
            [MI_MP_Y_BASE_AD_INIT, MI_MP_Y_SIZE_INIT, MI_SP_Y_BASE_AD_INIT, MI_SP_Y_SIZE_INIT],
            [MI_MP_CB_BASE_AD_INIT, MI_MP_CB_SIZE_INIT, MI_SP_CB_BASE_AD_INIT, MI_SP_CB_SIZE_INIT],
            [MI_MP_CR_BASE_AD_INIT, MI_MP_CR_SIZE_INIT, MI_SP_CR_BASE_AD_INIT, MI_SP_CR_SIZE_INIT],
        ]) {
            let [main, main_size, second, second_size] = registers;
            self.set(main, address.wrapping_add(0x2000 * plane));
            self.set(second, address.wrapping_add(0x8000 + 0x2000 * plane));
            [main_size, second_size].into_iter().for_each(|size| self.set(size, 0x2000));
        }
        for (register, value) in [
            (MI_SP_Y_LLENGTH, WIDTH),
            (MI_IMSC, MI_FRAME_MP | MI_FRAME_SP),
            (MI_CTRL, MI_INIT_BASE | MI_INIT_OFFSET | MI_MP_AUTOUPDATE | MI_SP_AUTOUPDATE | control),
            (MI_INIT, MI_SOFT_UPD),
        ] {
            self.set(register, value);
        }
        self.stores(setup::receive([WIDTH, HEIGHT], mode));
        match self.sensor {
            Model::Imx219 => self.start_imx219(),
            Model::Imx290 => self.start_imx290(),
        }
    }

    fn start_imx219(&self) {
        // From the frame's length on: lines, pixels of a line, columns, lines, width, height, increments, no flip, no binning.
        let size = [WIDTH, HEIGHT].map(|length| u16::try_from(length).expect("it is small").to_be_bytes());
        let window = [500_u16, 3448, 1000, 2279, 752, 1711].map(u16::to_be_bytes);
        self.sensor(0x160, window.as_flattened());
        self.sensor(0x16c, &[size.as_flattened(), &[1, 1, 0, 0, 0, 0]].concat());
        self.sensor(0x114, &[1]);
        self.sensor(0x18c, &[10, 10]);
        self.sensor(0x301, &[5, 0, 1, 3, 0, 57]);
        self.sensor(MODE_SELECT, &[1]);
    }

    fn start_imx290(&self) {
        // No hold, 10 bits, no flip; 500 lines of 3300 periods; the link's two lanes.
        for (register, bytes) in [
            (0x3001, &[0, 0][..]),
            (0x3005, &[0]),
            (0x3007, &[0]),
            (0x3018, &[0xf4, 1, 0, 0, 0xe4, 0x0c]),
            (0x3046, &[0]),
            (0x3407, &[1]),
            (0x3418, &[HEIGHT.to_le_bytes()[0], 0]),
            (0x3441, &[10, 10, 1]),
            (0x3472, &[WIDTH.to_le_bytes()[0], 0]),
            (STANDBY, &[0]),
        ] {
            self.sensor(register, bytes);
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
        let known = REGISTERS[usize::from(u16::from_le_bytes([pick, e])) % REGISTERS.len()].offset;
        match (what & 0x3f) % 22 {
            0 => self.set((value % SIZE) & !3, u32::from_le_bytes([e, f, a, b])),
            1 => self.set(known, value),
            2 => self.set(known, value & 0xff),
            3 => {
                let length = usize::from(f % 9);
                let data = u64::from(value).wrapping_mul(0x0001_0001_0101_0101).to_le_bytes();
                self.camera.store(usize::from(pick) % REGIONS, (value >> 8).into(), &data[..length]);
            }
            4 => {
                let length = usize::from(f % 9);
                self.camera.load(usize::from(pick) % REGIONS, value.into(), &mut [0; 8][..length]);
                self.load(ISP, known);
            }
            5 => self.store(GRF, GRF_REGISTERS[usize::from(pick) % GRF_REGISTERS.len()], value),
            6 => {
                let register = rk3x::regs::REGISTERS[usize::from(pick) % rk3x::regs::REGISTERS.len()];
                let word = if register.offset < rk3x::regs::TXDATA { 0 } else { u32::from(e % 9) };
                self.store(I2C, register.offset + 4 * word, value);
                self.load(I2C, register.offset + 4 * word);
            }
            7 => {
                let registers = match self.sensor {
                    Model::Imx219 => &IMX219_REGISTERS,
                    Model::Imx290 => &IMX290_REGISTERS,
                };
                let range = &registers[usize::from(pick) % registers.len()];
                let register = range.start + u16::from(e) % (range.end - range.start);
                self.sensor(register, &[a, b, c, d][..1 + usize::from(f % 4)]);
            }
            8 => self.sensor(u16::from_le_bytes([pick, e]), &[a, b, c, d]),
            9 => {
                let bases = [MI_MP_Y_BASE_AD_INIT, MI_MP_CB_BASE_AD_INIT, MI_MP_CR_BASE_AD_INIT];
                let second = [MI_SP_Y_BASE_AD_INIT, MI_SP_CB_BASE_AD_INIT, MI_SP_CR_BASE_AD_INIT];
                let bases = if e & 1 == 0 { bases } else { second };
                self.set(bases[usize::from(pick) % 3], address);
                self.set(MI_INIT, MI_SOFT_UPD);
            }
            10 => {
                self.set(MI_CTRL, value);
                self.set(MI_INIT, pick.into());
            }
            11 => self.set(ISP_CTRL, value),
            12 => self.acknowledge(),
            13 => self.stepper.pass(Duration::from_millis(pick.into())),
            14 => {
                let mode = if pick & 1 == 0 { ISP_MODE_BAYER } else { ISP_MODE_RAW };
                let raw = if pick & 1 == 0 { MI_MP_ENABLE } else { MI_RAW_ENABLE };
                let formats = u32::from(pick >> 1 & 3) << 22 | u32::from(pick >> 3) << 24;
                let range = ISP_CSM_Y_FULL | ISP_CSM_C_FULL | ISP_AWB | ISP_GAMMA_IN | ISP_GAMMA_OUT;
                let second = if e & 1 == 0 { 0 } else { MI_SP_ENABLE };
                self.start(mode | u32::from(f) << 6 & range, raw | second | formats, address);
            }
            15 => match pick {
                0..8 => self.camera.reset(),
                8..16 => self.camera.pause(),
                16..32 => self.camera.resume(),
                32..48 => {
                    let source = self.camera.frames().expect("it makes frames");
                    source.step((pick & 1 == 0).then_some((pick & 7).into()));
                }
                _ => {
                    self.end_interrupts();
                }
            },
            16 => {
                let tables = [
                    (ISP_LSC_R_TABLE_ADDR, ISP_LSC_R_TABLE_DATA),
                    (ISP_LSC_GR_TABLE_ADDR, ISP_LSC_GR_TABLE_DATA),
                    (MRSZ_SCALE_LUT_ADDR, MRSZ_SCALE_LUT),
                    (SRSZ_SCALE_LUT_ADDR, SRSZ_SCALE_LUT),
                ];
                let (place, data) = tables[usize::from(pick) % tables.len()];
                self.set(place, u32::from_le_bytes([e, f, 0, 0]));
                (0..8).for_each(|index| self.set(data, value.rotate_left(index)));
                self.load(ISP, data);
            }
            17 => self.viewer = Some(self.camera.frames().expect("it makes frames").capture()),
            18 => self.set(VI_IRCL, if pick & 1 == 0 { value } else { 1 << (pick % 12) }),
            19 => {
                // A resizer: factors of both directions, and which are on.
                let base = if pick & 1 == 0 { MRSZ_CTRL } else { SRSZ_CTRL };
                self.set(base + (MRSZ_SCALE_HY - MRSZ_CTRL), value & 0x1_ffff);
                self.set(base + (MRSZ_SCALE_VY - MRSZ_CTRL), value >> 15);
                self.set(base + (MRSZ_SCALE_HCB - MRSZ_CTRL), value >> 8 & 0x1_ffff);
                self.set(base + (MRSZ_SCALE_VC - MRSZ_CTRL), value >> 4 & 0x1_ffff);
                self.set(base, e.into());
            }
            20 => {
                // Windows near the size of a frame.
                let registers = [
                    ISP_ACQ_H_SIZE,
                    ISP_ACQ_V_SIZE,
                    ISP_OUT_H_SIZE,
                    ISP_OUT_V_SIZE,
                    ISP_IS_H_SIZE,
                    ISP_IS_V_SIZE,
                ];
                self.set(registers[usize::from(pick) % registers.len()], u32::from(a % 80));
                let crops = [DUAL_CROP_M_H_OFFS, DUAL_CROP_M_V_OFFS, DUAL_CROP_M_H_SIZE, DUAL_CROP_M_V_SIZE];
                self.set(crops[usize::from(e) % crops.len()], u32::from(b % 80));
                self.set(DUAL_CROP_CTRL, c.into());
            }
            _ => {
                let (other, bits, register) = match self.sensor {
                    Model::Imx219 => (RAW8, 8, 0x18c),
                    Model::Imx290 => (RAW12, 12, 0x3441),
                };
                self.set(MIPI_IMG_DATA_SEL, u32::from(if pick & 1 == 0 { other } else { RAW10 }));
                self.sensor(register, &[if pick & 2 == 0 { bits } else { 10 }; 2]);
                if self.sensor == Model::Imx290 {
                    let is_wide = u8::from(pick & 2 == 0);
                    [0x3005, 0x3046].into_iter().for_each(|register| self.sensor(register, &[is_wide]));
                }
            }
        }
    }

    /// Begins a frame if one is due. One that reads too many pixels is abandoned as by a guest that switches the ISP off.
    fn begin(&mut self) {
        if self.stepper.begin() {
            match self.pixels.checked_sub(self.stepper.pixels()) {
                Some(rest) => self.pixels = rest,
                None => {
                    self.set(ISP_CTRL, ISP_CFG_UPD);
                    self.stepper.finish();
                }
            }
        }
    }

    /// Acknowledges all interrupts, as the guest's handler does.
    fn acknowledge(&self) {
        for (status, clear) in [(MI_MIS, MI_ICR), (ISP_MIS, ISP_ICR), (MIPI_MIS, MIPI_ICR)] {
            self.set(clear, self.load(ISP, status));
        }
        self.end_interrupts();
    }

    /// Ends all interrupts, as the guest's handlers do.
    fn end_interrupts(&self) {
        self.lines.iter().for_each(|line| _ = line.take());
        self.lines.iter().for_each(IrqLine::end_of_interrupt);
    }

    /// Asserts that nothing outside the window was written, and that a frame comes after a reset.
    ///
    /// # Panics
    /// If not.
    pub(crate) fn check(&mut self) {
        self.stepper.finish();
        assert!(self.written().is_none_or(|at| WINDOW.contains(&at.start) && at.end <= WINDOW.end));
        self.camera.reset();
        self.camera.resume();
        self.camera.frames().expect("it makes frames").step(None);
        self.end_interrupts();
        self.pixels = MOST_PIXELS;
        self.fill();
        assert_eq!((self.load(ISP, MI_RIS), self.load(ISP, ISP_RIS) & ISP_FRAME), (0, 0), "after a reset");
        let bytes = self.counter("bytes");
        self.start(ISP_MODE_RAW, MI_RAW_ENABLE | 2 << 22, u32::try_from(WINDOW.start).expect("it is low"));
        // The first look starts the sensor's clock.
        assert!(!self.stepper.begin());
        self.stepper.pass(Duration::from_millis(20));
        assert!(self.stepper.begin(), "no frame begins after a reset");
        self.stepper.finish();
        assert_eq!(self.load(ISP, MI_RIS), MI_FRAME_MP);
        assert_eq!(self.load(ISP, ISP_RIS), ISP_FRAME | ISP_FRAME_IN | ISP_V_START);
        let frame = u64::from(2 * WIDTH * HEIGHT);
        assert_eq!(self.counter("bytes") - bytes, frame);
        // Samples have 10 bits, so that each second byte is less than a canary.
        assert_eq!(self.written(), Some(WINDOW.start..WINDOW.start + frame));
        self.camera.reset();
        self.fill();
    }

    /// From the first byte that is no canary to the last one.
    fn written(&self) -> Option<Range<u64>> {
        let mut bytes = vec![0; MEMORY_SIZE];
        self.memory.read_slice(&mut bytes, GuestAddress(MEMORY.start)).expect("it is all of memory");
        let first = bytes.iter().position(|byte| *byte != CANARY)? as u64;
        let last = bytes.iter().rposition(|byte| *byte != CANARY)? as u64;
        Some(MEMORY.start + first..MEMORY.start + last + 1)
    }

    /// A counter of the camera.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let counters = self.camera.counters();
        counters.into_iter().find(|(counter, _)| *counter == name).expect("there is such a counter").1
    }
}
