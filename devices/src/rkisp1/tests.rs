//! Tests of the camera as the guest's drivers see it: registers, interrupts and memory. Each camera is stepped.

use std::{sync::Arc, time::Duration};

use media::{RawSource, sensor::BITS};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use super::{
    Rkisp1, Rkisp1Spec, Stepper,
    faults::FAULTS,
    regs::*,
    setup::{self, GRF, I2C, ISP},
};
use crate::{
    dma::DmaPort,
    faults::{FaultHandle, Faults, Plan},
    i2c::rk3x,
    irq::IrqLine,
    machine_events::MachineEvents,
    platform::{Parts, PlatformDevice as _, Trigger},
    sensors::imx219,
};

/// Guest memory that the camera may write.
const WINDOW: std::ops::Range<u64> = 0x10_0000..0x40_0000;
/// A buffer, and another one.
const BUFFERS: [u32; 2] = [0x10_0000, 0x20_0000];

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;

/// The sensor's mode of 640x480 with 10 bits, as Linux's driver writes it: registers of 16 bits, then those of 8 bits.
const MODE: [(u16, u16); 9] = [
    (0x0160, 1763),
    (0x0162, 3448),
    (0x0164, 1000),
    (0x0166, 2279),
    (0x0168, 752),
    (0x016a, 1711),
    (0x016c, 640),
    (0x016e, 480),
    (0x0174, 0x0101),
];
const MODE_BYTES: [(u16, u8); 4] = [(0x0114, 1), (0x018c, 10), (0x018d, 10), (0x0309, 10)];

struct Rig {
    device: Rkisp1,
    stepper: Stepper,
    memory: GuestMemoryMmap,
    line: IrqLine,
    i2c_line: IrqLine,
}

impl Rig {
    fn with(options: &str, plan: &str) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x80_0000)]).unwrap();
        let line = || IrqLine::with_trigger(Trigger::Level).unwrap();
        let (isp, i2c) = (line(), line());
        let faults = if plan.is_empty() {
            FaultHandle::none()
        } else {
            FaultHandle::new(Faults::new(Plan::read(plan, &[&FAULTS]).unwrap(), 1), "rkisp10")
        };
        let port = DmaPort::new(memory.clone(), 32, &[WINDOW]).with_faults(faults.clone());
        let parts = Parts {
            id: "rkisp10".into(),
            interrupts: vec![isp.clone(), i2c.clone()],
            dma: Some(port),
            seed: Some(1),
            faults,
            events: Arc::new(MachineEvents::new().unwrap()),
        };
        let spec: Rkisp1Spec = options.parse().unwrap();
        let (device, stepper) = Rkisp1::stepped(&spec, parts).unwrap();
        Self { device, stepper, memory, line: isp, i2c_line: i2c }
    }

    fn store(&self, region: usize, offset: u32, value: u32) {
        self.device.store(region, offset.into(), &value.to_le_bytes());
    }

    fn load(&self, region: usize, offset: u32) -> u32 {
        let mut data = [0; 4];
        self.device.load(region, offset.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn set(&self, offset: u32, value: u32) {
        self.store(ISP, offset, value);
    }

    fn get(&self, offset: u32) -> u32 {
        self.load(ISP, offset)
    }

    /// Writes bytes to the sensor's registers from `register` on, in one message.
    fn sensor(&self, register: u16, bytes: &[u8]) {
        self.stores(setup::sensor(imx219::ADDRESS, register, bytes));
    }

    fn stores(&self, stores: impl Iterator<Item = setup::Store>) {
        stores.for_each(|(region, offset, value)| self.store(region, offset, value));
    }

    /// Sets sensor, D-PHY, receiver and ISP up as Linux's drivers do: the main path writes what the mode of `ISP_CTRL` makes.
    fn start(&self, mode: u32, enable: u32, format: u32) {
        self.set(MI_MP_Y_SIZE_INIT, WIDTH * HEIGHT * 2);
        self.set(MI_MP_CB_SIZE_INIT, WIDTH * HEIGHT);
        self.set(MI_MP_Y_BASE_AD_INIT, BUFFERS[0]);
        self.set(MI_MP_CB_BASE_AD_INIT, BUFFERS[0] + WIDTH * HEIGHT * 2);
        self.set(MI_IMSC, MI_FRAME_MP);
        self.set(MI_CTRL, MI_INIT_BASE | MI_INIT_OFFSET | MI_MP_AUTOUPDATE | format << 22 | enable);
        self.set(MI_INIT, MI_SOFT_UPD);
        self.set(MI_MP_Y_BASE_AD_INIT, BUFFERS[1]);
        self.stores(setup::receive([WIDTH, HEIGHT], mode));
        for (register, value) in MODE {
            self.sensor(register, &value.to_be_bytes());
        }
        for (register, value) in MODE_BYTES {
            self.sensor(register, &[value]);
        }
        self.sensor(0x0100, &[1]);
    }

    /// Lets a frame pass. Whether one was made.
    fn frame(&mut self) -> bool {
        // The first look starts the sensor's clock.
        self.stepper.begin();
        self.stepper.pass(Duration::from_millis(34));
        let begun = self.stepper.begin();
        self.stepper.finish();
        begun
    }

    /// Acknowledges all interrupts, as the guest's handler does.
    fn acknowledge(&self) {
        for (status, clear) in [(MI_MIS, MI_ICR), (ISP_MIS, ISP_ICR), (MIPI_MIS, MIPI_ICR)] {
            self.set(clear, self.get(status));
        }
        self.line.end_of_interrupt();
    }

    fn bytes(&self, address: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(address.into())).unwrap();
        bytes
    }

    fn counter(&self, name: &str) -> u64 {
        self.device.counters().into_iter().find(|(counter, _)| *counter == name).unwrap().1
    }
}

/// Starts raw samples into words of 16 bits.
fn raw(options: &str, plan: &str) -> Rig {
    let rig = Rig::with(options, plan);
    rig.start(ISP_MODE_RAW, MI_RAW_ENABLE, 2);
    rig
}

#[test]
fn a_raw_frame_is_what_the_sensor_sees() {
    let mut rig = raw("scene=gradient,seed=3", "");
    assert!(!rig.line.take(), "nothing has happened yet");
    assert!(rig.frame());
    assert!(rig.line.take());
    assert_eq!(rig.get(MI_MIS), MI_FRAME_MP);
    assert_eq!(
        rig.get(ISP_MIS),
        ISP_FRAME | ISP_V_START,
        "the stepper's guest has not acknowledged the start"
    );
    let state = rig.device.shared.state().output().unwrap();
    let spec: Rkisp1Spec = "scene=gradient".parse().unwrap();
    let mut source = RawSource::new(&spec.scene.sensor, spec.scene.pattern, imx219::ARRAY, 3).unwrap();
    assert!(source.expose(&state.settings, state.phase, 0, &false.into()));
    let written = rig.bytes(BUFFERS[0], (WIDTH * HEIGHT * 2) as usize);
    let mut line = vec![0; WIDTH as usize];
    for (y, bytes) in (0..).zip(written.chunks(WIDTH as usize * 2)) {
        source.read_line(&state.settings, 0, y, &mut line);
        let expected: Vec<u8> =
            line.iter().flat_map(|sample| (sample >> (BITS - 10)).to_le_bytes()).collect();
        assert!(bytes == expected, "line {y}");
    }
    assert_eq!(rig.counter("bytes"), u64::from(WIDTH * HEIGHT * 2));
}

#[test]
fn a_frame_waits_until_the_last_one_is_acknowledged() {
    let mut rig = raw("", "");
    assert!(rig.frame());
    assert!(!rig.frame() && !rig.frame());
    rig.acknowledge();
    assert_eq!((rig.get(ISP_RIS) & ISP_FRAME, rig.get(MI_RIS)), (0, 0));
    rig.line.end_of_interrupt();
    rig.line.take();
    assert!(rig.frame());
    assert!(rig.line.take());
    assert_eq!(rig.counter("frames"), 2);
    assert_eq!(rig.counter("late"), 1, "the frame that passed meanwhile");
}

#[test]
fn a_frame_waits_until_the_handler_of_the_last_one_has_ended() {
    let mut rig = raw("", "");
    assert!(rig.frame());
    // The driver acknowledges at first. What it writes until the end of its handler is for the next frame.
    for (status, clear) in [(MI_MIS, MI_ICR), (ISP_MIS, ISP_ICR)] {
        rig.set(clear, rig.get(status));
    }
    for _ in 0..20 {
        assert!(!rig.frame());
        rig.set(ISP_CT_OFFSET_R, 1);
    }
    rig.line.end_of_interrupt();
    assert!(rig.frame());
    // A guest that polls ends no interrupt.
    for (status, clear) in [(MI_MIS, MI_ICR), (ISP_MIS, ISP_ICR)] {
        rig.set(clear, rig.get(status));
    }
    let frames = (0..10).filter(|_| rig.frame()).count();
    assert_eq!(frames, 1);
}

#[test]
fn addresses_are_taken_at_the_end_of_a_frame() {
    let mut rig = raw("scene=flat,noise=no", "");
    assert_eq!(rig.get(MI_MP_Y_BASE_AD_SHD), BUFFERS[0]);
    assert!(rig.frame());
    assert_eq!(rig.get(MI_MP_Y_BASE_AD_SHD), BUFFERS[1]);
    let first = rig.bytes(BUFFERS[0], 4096);
    assert_ne!(first, vec![0; 4096]);
    assert_eq!(rig.bytes(BUFFERS[1], 4096), vec![0; 4096]);
    rig.acknowledge();
    assert!(rig.frame());
    assert_eq!(rig.bytes(BUFFERS[1], 4096), first);
}

#[test]
fn a_path_stops_at_the_second_end_of_a_frame() {
    let mut rig = raw("", "");
    assert!(rig.frame());
    rig.acknowledge();
    // The driver's stop: it switches the path off, and the next end of a frame takes that over before it is reported.
    rig.set(MI_CTRL, rig.get(MI_CTRL) & !MI_RAW_ENABLE);
    assert_ne!(rig.get(MI_CTRL_SHD), 0);
    assert!(rig.frame());
    assert_eq!((rig.get(MI_MIS), rig.get(MI_CTRL_SHD)), (MI_FRAME_MP, 0));
    rig.acknowledge();
    rig.set(ISP_CTRL, ISP_CFG_UPD);
    assert_eq!(rig.get(ISP_RIS) & ISP_OFF, ISP_OFF);
    assert!(!rig.frame());
    assert!(rig.counter("unreceived") > 0);
}

#[test]
fn an_isp_that_is_switched_off_reports_no_end() {
    let mut rig = raw("", "");
    rig.stepper.begin();
    rig.stepper.pass(Duration::from_millis(34));
    assert!(rig.stepper.begin());
    rig.acknowledge();
    rig.set(ISP_CTRL, ISP_CFG_UPD);
    rig.stepper.finish();
    assert_eq!((rig.get(MI_RIS), rig.get(ISP_RIS) & ISP_FRAME), (0, 0));
    assert_eq!((rig.counter("frames"), rig.counter("abandoned")), (0, 1));
    rig.set(ISP_CTRL, ISP_ENABLE | ISP_INFORM | ISP_CFG_UPD);
    assert!(rig.frame(), "it begins anew");
}

#[test]
fn what_is_not_set_up_receives_nothing() {
    for (region, register, value) in [
        (GRF, 0x6254, 0x000f_0001),
        (GRF, 0x6264, 0x0400_0400),
        (ISP, MIPI_CTRL, 1 << 12),
        (ISP, MIPI_CTRL, MIPI_OUTPUT | 3 << 12),
        (ISP, MIPI_IMG_DATA_SEL, 0x2a),
        (ISP, VI_ICCL, !ICCL_MIPI),
        (ISP, VI_CCL, CCL_OFF),
        (ISP, VI_DPCL, 0),
        (ISP, VI_IRCL, ICCL_MIPI),
    ] {
        let mut rig = raw("", "");
        rig.store(region, register, value);
        assert!(!rig.frame(), "{register:#x} = {value:#x}");
        assert_eq!(rig.counter("unreceived"), 1, "{register:#x} = {value:#x}");
    }
    let mut rig = raw("", "");
    rig.sensor(0x0100, &[0]);
    assert!(!rig.frame());
    assert_eq!(rig.counter("unreceived"), 0, "the sensor is in standby");
}

#[test]
fn windows_that_do_not_fit_are_errors() {
    for (register, value, error) in [
        (ISP_ACQ_H_SIZE, 642, ERR_INPUT),
        (ISP_OUT_V_OFFS, 2, ERR_OUTPUT),
        (ISP_IS_H_OFFS, 2, ERR_STABILISER),
        (ISP_IS_V_SIZE, 0, ERR_STABILISER),
    ] {
        let mut rig = raw("", "");
        rig.set(register, value);
        assert!(!rig.frame());
        assert_eq!(rig.get(ISP_MIS), ISP_V_START | ISP_PIC_SIZE_ERROR, "{register:#x}");
        assert_eq!(rig.get(ISP_ERR), error);
        rig.set(ISP_ERR_CLR, error);
        assert_eq!(rig.get(ISP_ERR), 0);
    }
}

#[test]
fn memory_that_is_not_the_windows_is_a_bus_error() {
    let mut rig = raw("", "");
    rig.set(MI_MP_Y_BASE_AD_INIT, 0x8_0000);
    rig.set(MI_INIT, MI_SOFT_UPD);
    assert!(rig.frame());
    assert_eq!(rig.get(MI_RIS), MI_FRAME_MP | MI_BUS_ERROR);
    assert_eq!((rig.counter("bus_errors"), rig.counter("bytes")), (1, 0));
    assert_eq!(rig.bytes(0x8_0000, 4096), vec![0; 4096]);
}

#[test]
fn a_plane_without_room_is_full() {
    let mut rig = raw("", "");
    rig.set(MI_MP_Y_SIZE_INIT, 3 * WIDTH);
    rig.set(MI_INIT, MI_SOFT_UPD);
    rig.set(MI_MP_Y_BASE_AD_INIT, BUFFERS[0]);
    rig.set(MI_INIT, MI_SOFT_UPD);
    assert!(rig.frame());
    assert_eq!(rig.get(MI_RIS), MI_FRAME_MP | MI_WRAP_MP_Y);
    assert_eq!(rig.counter("bytes"), u64::from(3 * WIDTH));
    assert_eq!(rig.bytes(BUFFERS[0] + 3 * WIDTH, 64), vec![0; 64]);
}

#[test]
fn a_flat_scene_is_a_flat_picture() {
    let mut rig = Rig::with("scene=flat,noise=no,lamp=1:1:1", "");
    // 4:2:2 in two planes: full range, so that luma follows the light alone.
    rig.start(ISP_MODE_BAYER | ISP_CSM_Y_FULL | ISP_CSM_C_FULL, MI_MP_ENABLE, 1);
    for (index, value) in (0..).zip([0x26, 0x4b, 0x0f, 0x1ea, 0x1d6, 0x40, 0x40, 0x1ca, 0x1f6]) {
        rig.set(ISP_CC_COEFF_0 + 4 * index, value);
    }
    assert!(rig.frame());
    assert_eq!(rig.counter("bytes"), u64::from(WIDTH * HEIGHT * 2));
    let luma = rig.bytes(BUFFERS[0], (WIDTH * HEIGHT) as usize);
    let middle = luma[(HEIGHT / 2 * WIDTH + WIDTH / 2) as usize];
    let line = &luma[(HEIGHT / 2 * WIDTH) as usize..][..WIDTH as usize];
    // The lens darkens towards the edges of the array; the crop in its middle hardly shows that.
    assert!(line.iter().all(|&y| y.abs_diff(middle) <= 8), "{line:?}");
    // Grey 128 is 0.2158 of white in linear light. White at 10 ms and gain 1 is 0.9 of the range above the black level of 256; the
    // exposure after a reset is 1600 lines of 3448 pixels at 182.4 MHz. Red, green and blue pass 0.550, 1 and 0.650 of it.
    let exposure_ms = 1600.0 * 3448.0 / 182_400.0;
    let sample = |part: f64| 256.0 + 3839.0 * (0.2158 * 0.9 * part * exposure_ms / 10.0);
    let expected = (38.0 * sample(0.55) + 75.0 * sample(1.0) + 15.0 * sample(0.65)) / 128.0 / 16.0;
    assert!((f64::from(middle) - expected).abs() < 4.0, "{middle} instead of {expected}");
}

#[test]
fn statistics_are_there_with_the_frame() {
    let mut rig = Rig::with("scene=flat,noise=no", "");
    for (register, value) in [
        (ISP_AWB_PROP, 2),
        (ISP_AWB_WND_H_SIZE, WIDTH),
        (ISP_AWB_WND_V_SIZE, HEIGHT),
        (ISP_AWB_THRESH, 0x00ff_ff00_u32.rotate_right(16) & 0xff00 | 0xff00),
        (ISP_AWB_REF, 0x8080),
        (ISP_EXP_CTRL, 1 | 1 << 31),
        (ISP_EXP_H_SIZE, 99),
        (ISP_EXP_V_SIZE, 79),
        (ISP_HIST_PROP, 1 | 4 << 3),
        (ISP_HIST_H_SIZE, 99),
        (ISP_HIST_V_SIZE, 79),
        (ISP_AFM_CTRL, 1),
        (ISP_AFM_LT_A, 16 << 16 | 16),
        (ISP_AFM_RB_A, 96 << 16 | 96),
    ] {
        rig.set(register, value);
    }
    for weights in (ISP_HIST_WEIGHT_00TO30..=ISP_HIST_WEIGHT_44).step_by(4) {
        rig.set(weights, 0x1010_1010);
    }
    rig.start(ISP_MODE_BAYER, MI_MP_ENABLE, 1);
    assert!(rig.frame());
    let done = ISP_AWB_DONE | ISP_EXP_END | ISP_HIST_READY | ISP_AFM_FIN;
    assert_eq!(rig.get(ISP_RIS) & done, done);
    let means: Vec<u32> = (0..25).map(|cell| rig.get(ISP_EXP_MEAN_00 + 4 * cell)).collect();
    assert!(means.iter().all(|&mean| mean.abs_diff(means[12]) <= 6 && mean > 10), "{means:?}");
    assert_eq!(rig.get(ISP_AWB_WHITE_CNT), WIDTH * HEIGHT, "all pixels count");
    let bins: u32 = (0..16).map(|bin| rig.get(ISP_HIST_BIN_0 + 4 * bin)).sum();
    // Three colours of each fourth pixel in both directions of 500x400, in 1/16.
    assert_eq!(bins, 3 * 125 * 100 * 16);
    assert_ne!(rig.get(ISP_AFM_LUM_A), 0);
    // A second frame measures again, and its bits come anew.
    rig.set(ISP_ICR, u32::MAX);
    rig.acknowledge();
    assert_eq!(rig.get(ISP_RIS) & done, 0);
    assert!(rig.frame());
    assert_eq!(rig.get(ISP_RIS) & done, done);
}

/// A plan with one rule for the camera.
fn rule(on: &str, action: &str) -> String {
    format!(
        "[[rule]]\nname = \"rule\"\ndevice = \"rkisp10\"\non = \"{on}\"\nwhen = {{ nth = 1 }}\naction = {action}\n"
    )
}

#[test]
fn each_action_does_what_the_manual_says() {
    let statuses = |on: &str, action: &str| {
        let mut rig = raw("", &rule(on, action));
        let begun = rig.frame();
        (begun, rig.get(ISP_RIS), rig.get(MI_RIS), rig.get(MIPI_RIS), rig.line.take(), rig.counter("bytes"))
    };
    let all = u64::from(WIDTH * HEIGHT * 2);
    let end = ISP_FRAME | ISP_FRAME_IN;
    assert_eq!(statuses("frame.begin", "\"no-start\""), (true, end, MI_FRAME_MP, MIPI_FRAME_END, true, all));
    assert_eq!(statuses("frame.begin", "\"ecc\""), (false, 0, 0, MIPI_ERR_ECC2, false, 0));
    assert_eq!(
        statuses("frame.begin", "\"checksum\""),
        (true, end | ISP_V_START, MI_FRAME_MP, MIPI_FRAME_END | MIPI_ERR_CS, true, all)
    );
    for (action, error) in [("sync-loss", MIPI_ERR_SOT_SYNC), ("overflow", MIPI_FIFO_OVERFLOW)] {
        assert_eq!(
            statuses("frame.begin", &format!("\"{action}\"\nlines = 100")),
            (
                true,
                end | ISP_V_START | ISP_PIC_SIZE_ERROR,
                MI_FRAME_MP,
                MIPI_FRAME_END | error,
                true,
                u64::from(WIDTH) * 2 * 100
            )
        );
    }
    assert_eq!(
        statuses("frame.end", "\"lose-isp\""),
        (true, ISP_FRAME_IN | ISP_V_START, MI_FRAME_MP, MIPI_FRAME_END, true, all)
    );
    assert_eq!(statuses("frame.end", "\"lose-mi\""), (true, end | ISP_V_START, 0, MIPI_FRAME_END, true, all));
    let mut rig = raw("", &rule("frame.begin", "\"line-error\""));
    rig.set(MIPI_IMSC, MIPI_ERR_CTRL);
    rig.stepper.begin();
    rig.stepper.pass(Duration::from_millis(34));
    assert!(rig.stepper.begin());
    rig.acknowledge();
    assert_eq!((rig.get(MIPI_MIS), rig.line.take()), (MIPI_ERR_CTRL, true), "it goes on during the frame");
    rig.stepper.finish();
    rig.acknowledge();
    rig.line.take();
    rig.line.end_of_interrupt();
    assert_eq!((rig.get(MIPI_RIS) & MIPI_ERR_CTRL, rig.line.take()), (0, false), "the frame has ended");
    let mut rig = raw("", &rule("frame.end", "\"late\"\nmilliseconds = 100"));
    assert!(rig.frame(), "the first one is late");
    rig.acknowledge();
    assert!(rig.frame());
    assert_eq!(rig.counter("late"), 2, "frames of 33 ms passed meanwhile");
    let mut rig = raw("", &rule("irq", "\"storm\"\ncount = 3"));
    rig.stepper.begin();
    rig.stepper.pass(Duration::from_millis(34));
    assert!(rig.stepper.begin());
    let again = std::iter::from_fn(|| rig.line.take().then(|| rig.acknowledge()));
    assert_eq!(again.count(), 3, "two without an event follow");
    let mut rig = raw("", &rule("irq", "\"lose\""));
    rig.stepper.begin();
    rig.stepper.pass(Duration::from_millis(34));
    assert!(rig.stepper.begin());
    assert_eq!((rig.get(ISP_MIS), rig.line.take()), (ISP_V_START, false), "the line stays low");
    rig.stepper.finish();
    assert!(rig.line.take(), "the next event raises it");
    let mut rig = raw("", &rule("mi.update", "\"stuck\""));
    assert!(rig.frame());
    assert_eq!(rig.get(MI_MP_Y_BASE_AD_SHD), BUFFERS[0], "the address stays");
    let mut rig = raw("", &rule("dma.write", "\"bus-error\""));
    assert!(rig.frame());
    assert_eq!(rig.get(MI_RIS), MI_FRAME_MP | MI_BUS_ERROR);
    // No acknowledgement: the sensor's registers are not reached, and it does not stream.
    let mut rig = raw("", &rule("i2c", "\"nack\""));
    assert!(!rig.frame());
    assert_eq!(rig.counter("unreceived"), 0);
}

#[test]
fn the_i2c_line_follows_its_controller() {
    use rk3x::regs;
    let rig = Rig::with("", "");
    rig.store(I2C, regs::IEN, regs::INT_START);
    assert!(!rig.i2c_line.take());
    rig.store(I2C, regs::CON, regs::CON_EN | regs::CON_START);
    assert!(rig.i2c_line.take());
    rig.store(I2C, regs::IPD, regs::INT_START);
    rig.i2c_line.end_of_interrupt();
    assert!(!rig.i2c_line.take());
    rig.store(I2C, regs::CON, regs::CON_EN);
    rig.store(I2C, regs::CON, regs::CON_EN | regs::CON_START);
    assert!(rig.i2c_line.take());
    rig.device.reset();
    rig.i2c_line.end_of_interrupt();
    assert!(!rig.i2c_line.take(), "a reset takes the line low");
}
