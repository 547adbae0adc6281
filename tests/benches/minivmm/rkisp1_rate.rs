//! 1080p30 of the camera rkisp1 on one CPU: its own thread and the sensor's clock, to NV12 in memory.
//!
//! A driver in this process sets sensor, D-PHY, receiver and ISP up as Linux's drivers do, with the blocks that libcamera uses, and
//! acknowledges the interrupts. Camera and driver share the CPU. The camera's counters tell the frames that it made, and those of the sensor
//! that passed while it worked on another or waited for the driver. The first frames, for which the scene is drawn and memory first touched,
//! are not counted.

use std::{
    error::Error,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use devices::{
    dma::DmaPort,
    faults::FaultHandle,
    irq::IrqLine,
    machine_events::MachineEvents,
    media::rkisp1::POINTS,
    platform::{Parts, PlatformDevice as _, Trigger},
    rkisp1::{
        Rkisp1, Rkisp1Spec,
        regs::*,
        setup::{self, ISP},
    },
    sensors::imx219,
};
use rustix::{
    thread::{sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
};
use serde::Serialize;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::{rate, verdict};

const WIDTH: u32 = 1920;
const HEIGHT: u32 = 1080;
/// Frames that are counted, and those before them.
const FRAMES: u64 = 300;
const UNCOUNTED: u64 = 10;
/// The time limit.
const LIMIT: Duration = Duration::from_secs(60);
/// The time between two looks of the driver for an interrupt.
const LOOK: Duration = Duration::from_micros(200);

/// The buffers, one after another.
const BUFFERS: u32 = 4;
const BUFFER_BYTES: u32 = WIDTH * HEIGHT * 3 / 2;
const MEMORY: u64 = 16 << 20;

/// The registers of the sensor for its mode of 1920x1080 with 10 bits, as Linux's driver writes them: the length of a frame and of a line, the
/// part of the array, and the size, of 16 bits each; and what has 8 bits.
const WORDS: [(u16, u16); 9] = [
    (0x0160, 1763),
    (0x0162, 3448),
    (0x0164, 680),
    (0x0166, 2599),
    (0x0168, 692),
    (0x016a, 1771),
    (0x016c, 1920),
    (0x016e, 1080),
    (0x0174, 0),
];
const BYTES: [(u16, u8); 5] = [(0x0114, 1), (0x018c, 10), (0x018d, 10), (0x0309, 10), (0x0100, 1)];

/// The results.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Frames that the camera made.
    frames: u64,
    /// The time that they took, in seconds.
    seconds: f64,
    /// Frames of the sensor that passed meanwhile, and were not made.
    late: u64,
    /// The part of the CPU's time that camera and driver took.
    busy: f64,
    /// Whether no frame was late.
    goal_met: bool,
}

pub(crate) fn run() -> Result<Figures, Box<dyn Error>> {
    println!("\nThe camera rkisp1 with the sensor's clock, 1080p30 to NV12, on one CPU");
    let all = sched_getaffinity(None)?;
    sched_setaffinity(None, &rate::first(&all, 1)?)?;
    let figures = measure();
    sched_setaffinity(None, &all)?;
    let figures = figures?;
    let Figures { frames, seconds, late, busy, goal_met } = figures;
    println!(
        "{frames} frames in {seconds:.2} s, {late} late, the CPU busy for {:.0} %  {}",
        busy * 100.0,
        verdict(goal_met)
    );
    Ok(figures)
}

fn measure() -> Result<Figures, Box<dyn Error>> {
    let mut driver = Driver::new()?;
    driver.start();
    driver.stream(UNCOUNTED)?;
    let (late, begun, worked) = (driver.counter("late"), Instant::now(), processor_time());
    driver.stream(FRAMES)?;
    let (seconds, worked) = (begun.elapsed().as_secs_f64(), processor_time() - worked);
    let late = driver.counter("late") - late;
    let of_others = ["unreceived", "abandoned", "bus_errors"].map(|name| driver.counter(name));
    if of_others != [0; 3] {
        return Err(format!("frames failed: {of_others:?}").into());
    }
    Ok(Figures { frames: FRAMES, seconds, late, busy: worked.as_secs_f64() / seconds, goal_met: late == 0 })
}

/// The time for which the threads of this process have run.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The camera, and what drives it.
struct Driver {
    camera: Rkisp1,
    line: IrqLine,
    /// The buffer that the camera gets next.
    next: u32,
}

impl Driver {
    fn new() -> Result<Self, Box<dyn Error>> {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(MEMORY)?)])?;
        let line = IrqLine::with_trigger(Trigger::Level)?;
        let parts = Parts {
            id: "rkisp10".into(),
            interrupts: vec![line.clone(), IrqLine::with_trigger(Trigger::Level)?],
            dma: Some(DmaPort::new(memory, 32, &[0..MEMORY])),
            seed: Some(1),
            faults: FaultHandle::none(),
            events: Arc::new(MachineEvents::new()?),
        };
        let spec: Rkisp1Spec = "scene=zone-plate".parse()?;
        Ok(Self { camera: Rkisp1::new(&spec, parts)?, line, next: 0 })
    }

    fn store(&self, region: usize, offset: u32, value: u32) {
        self.camera.store(region, offset.into(), &value.to_le_bytes());
    }

    fn set(&self, offset: u32, value: u32) {
        self.store(ISP, offset, value);
    }

    fn get(&self, offset: u32) -> u32 {
        let mut data = [0; 4];
        self.camera.load(ISP, offset.into(), &mut data);
        u32::from_le_bytes(data)
    }

    fn counter(&self, name: &str) -> u64 {
        self.camera.counters().into_iter().find(|(counter, _)| *counter == name).map_or(0, |(_, value)| value)
    }

    fn stores(&self, stores: impl Iterator<Item = setup::Store>) {
        stores.for_each(|(region, offset, value)| self.store(region, offset, value));
    }

    /// Writes bytes to the sensor from `register` on.
    fn sensor(&self, register: u16, bytes: &[u8]) {
        self.stores(setup::sensor(imx219::ADDRESS, register, bytes));
    }

    /// Gives the main path its next buffer, from the end of the present frame on.
    fn give_buffer(&mut self) {
        let address = self.next * BUFFER_BYTES;
        self.next = (self.next + 1) % BUFFERS;
        self.set(MI_MP_Y_BASE_AD_INIT, address);
        self.set(MI_MP_CB_BASE_AD_INIT, address + WIDTH * HEIGHT);
    }

    /// Starts the stream.
    fn start(&mut self) {
        self.blocks();
        // 4:2:0: chroma has half of the lines.
        self.set(MRSZ_SCALE_VC, ((HEIGHT / 2 - 1) << 16) / (HEIGHT - 1) + 1);
        self.set(MRSZ_CTRL, RSZ_VC | RSZ_CFG_UPD);
        self.set(MI_MP_Y_SIZE_INIT, WIDTH * HEIGHT);
        self.set(MI_MP_CB_SIZE_INIT, WIDTH * HEIGHT / 2);
        self.give_buffer();
        self.set(MI_IMSC, MI_FRAME_MP);
        // The second format is semi-planar.
        self.set(MI_CTRL, MI_INIT_BASE | MI_INIT_OFFSET | MI_MP_AUTOUPDATE | 1 << 22 | MI_MP_ENABLE);
        self.set(MI_INIT, MI_SOFT_UPD);
        self.give_buffer();
        self.stores(setup::receive([WIDTH, HEIGHT], ISP_MODE_BAYER | ISP_AWB | ISP_GAMMA_OUT));
        WORDS.iter().for_each(|(register, value)| self.sensor(*register, &value.to_be_bytes()));
        BYTES.iter().for_each(|(register, value)| self.sensor(*register, &[*value]));
    }

    /// The blocks that libcamera uses: black level, lens shading, white balance, gamma, and all measurements.
    fn blocks(&self) {
        let twice = |value: u32| value << 16 | value;
        let points = u32::try_from(POINTS).unwrap_or_default();
        for position in 0..4 {
            self.set(ISP_BLS_A_FIXED + 4 * position, 256);
        }
        self.set(ISP_BLS_CTRL, 1);
        // A line has 17 gains, two a word.
        for data in [ISP_LSC_R_TABLE_DATA, ISP_LSC_GR_TABLE_DATA, ISP_LSC_B_TABLE_DATA, ISP_LSC_GB_TABLE_DATA]
        {
            (0..points * points.div_ceil(2)).for_each(|_| self.set(data, 1200 << 12 | 1200));
        }
        for pair in 0..4 {
            let [across, down] = [WIDTH / 16, HEIGHT / 16];
            self.set(ISP_LSC_XSIZE_0 + 4 * pair, twice(across));
            self.set(ISP_LSC_YSIZE_0 + 4 * pair, twice(down));
            self.set(ISP_LSC_XGRAD_0 + 4 * pair, twice(32_768 / across));
            self.set(ISP_LSC_YGRAD_0 + 4 * pair, twice(32_768 / down));
        }
        self.set(ISP_LSC_CTRL, LSC_ENABLE);
        for point in 0..points {
            self.set(ISP_GAMMA_OUT_Y_0 + 4 * point, point * 63);
        }
        let cell = [WIDTH / 5 - 1, HEIGHT / 5 - 1];
        for (register, value) in [
            (ISP_AWB_GAIN_G, twice(256)),
            (ISP_AWB_GAIN_RB, 460 << 16 | 390),
            (ISP_AWB_WND_H_SIZE, WIDTH),
            (ISP_AWB_WND_V_SIZE, HEIGHT),
            (ISP_AWB_REF, 128 << 8 | 128),
            (ISP_AWB_THRESH, 250 << 24 | 16 << 16 | 250 << 8 | 16),
            (ISP_AWB_PROP, 2 | 1 << 2),
            (ISP_EXP_H_SIZE, cell[0]),
            (ISP_EXP_V_SIZE, cell[1]),
            (ISP_EXP_CTRL, 1 | 1 << 31),
            (ISP_HIST_H_SIZE, cell[0]),
            (ISP_HIST_V_SIZE, cell[1]),
            (ISP_HIST_PROP, 1 | 3 << 3),
            (ISP_AFM_RB_A, WIDTH << 16 | HEIGHT),
            (ISP_AFM_THRES, 4),
            (ISP_AFM_VAR_SHIFT, 4 << 16 | 4),
            (ISP_AFM_CTRL, 1),
        ] {
            self.set(register, value);
        }
        for weights in (ISP_HIST_WEIGHT_00TO30..=ISP_HIST_WEIGHT_44).step_by(4) {
            self.set(weights, 0x1010_1010);
        }
    }

    /// Handles interrupts until the camera has made `count` frames more.
    fn stream(&mut self, count: u64) -> Result<(), Box<dyn Error>> {
        let (begun, end) = (Instant::now(), self.counter("frames") + count);
        while self.counter("frames") < end {
            if begun.elapsed() > LIMIT {
                return Err(format!("the camera made {} of {end} frames", self.counter("frames")).into());
            }
            if self.line.take() {
                self.handle();
            } else {
                thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    /// Handles an interrupt.
    fn handle(&mut self) {
        let made = self.get(MI_MIS);
        self.set(MI_ICR, made);
        if made & MI_FRAME_MP != 0 {
            self.give_buffer();
        }
        self.set(ISP_ICR, self.get(ISP_MIS));
        self.set(MIPI_ICR, self.get(MIPI_MIS));
        self.line.end_of_interrupt();
    }
}
