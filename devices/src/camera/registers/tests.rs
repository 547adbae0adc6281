//! The register file with explicit time, and without a worker.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    accesses::{CHANNEL_BITS, EVENTS},
    *,
};
use crate::{
    camera::{
        channels::{PARAMS, STATISTICS},
        frame_config::FrameConfig,
        job::{FrameOutcome, Job},
        regs::{self, REGISTERS},
        transfer::Refusal,
        uapi::ParamsFault,
    },
    faults::FaultHandle,
    irq::IrqLine,
    register_table::Access,
};
use media::Exposure;

struct Rig {
    registers: RegisterFile,
    irq: IrqLine,
    now: Instant,
}

impl Rig {
    fn new(spec: &str) -> Self {
        let irq = IrqLine::new().unwrap();
        let registers = RegisterFile::new(spec.parse().unwrap(), irq.clone(), FaultHandle::none());
        Self { registers, irq, now: Instant::now() }
    }

    /// Enabled, with all events raising the interrupt.
    fn streaming(spec: &str) -> Self {
        let mut rig = Self::new(spec);
        rig.write(regs::IRQ_ENABLE, u32::MAX);
        rig.write(regs::CTRL, regs::CTRL_ENABLE);
        rig
    }

    fn write(&mut self, register: u32, value: u32) {
        self.registers.write(register, value, self.now);
    }

    fn commit(&mut self, address: u32) {
        self.write(regs::CH_ADDR0_LO, address);
        self.write(regs::CH_COMMIT, 1);
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }

    #[track_caller]
    fn job(&mut self) -> Job {
        match self.registers.poll(self.now) {
            Task::Frame(job) => job,
            other => panic!("a frame was expected, not {other:?}"),
        }
    }

    fn finish(&mut self, outcome: FrameOutcome) {
        self.registers.finished(0, outcome, self.now);
    }

    /// Takes a frame to its end and acknowledges it.
    #[track_caller]
    fn frame(&mut self) -> Job {
        let job = self.job();
        self.registers.started(1);
        self.finish(WRITTEN);
        self.acknowledge();
        job
    }

    fn acknowledge(&mut self) -> u32 {
        let status = self.registers.read(regs::IRQ_STATUS);
        self.write(regs::IRQ_STATUS, status);
        status
    }
}

const WRITTEN: FrameOutcome = FrameOutcome::Written { bytes: 100, span: 120, exposure: None };

/// The registers that are there with a sensor only.
fn is_sensors(offset: u32) -> bool {
    (regs::SENSOR_LINE_LENGTH..=regs::SENSOR_BINNING).contains(&offset)
}

/// Those that are there with an ISP only.
fn is_isps(offset: u32) -> bool {
    (regs::CH_INPUT_SIZE..=regs::CH_CROP_SIZE).contains(&offset)
}

#[test]
fn reset_values_and_access_are_the_tables() {
    let mut rig = Rig::new("scene=noise,fps=50,address-bits=36,timing=stall");
    for round in 0..2 {
        for register in REGISTERS {
            let expected = match register.offset {
                regs::CAPS => 4 | 3 << 4 | 36 << 8,
                regs::TIMING => regs::TIMING_STALL,
                regs::FRAME_INTERVAL => 20_000,
                regs::PATTERN => regs::PATTERN_NOISE,
                offset if is_sensors(offset) => 0,
                _ => register.reset,
            };
            assert_eq!(rig.registers.read(register.offset), expected, "{} in round {round}", register.name);
            if register.offset >= regs::CH_FORMAT {
                let other = regs::of_channel(register.offset, 1);
                assert_eq!(rig.registers.read(other), expected, "{} of channel 1", register.name);
                if register.access == Access::Rw && !is_isps(register.offset) {
                    rig.write(other, 0x77);
                    assert_eq!(
                        (rig.registers.read(other), rig.registers.read(register.offset)),
                        (0x77, expected)
                    );
                }
            }
        }
        for register in REGISTERS {
            let before = rig.registers.read(register.offset);
            rig.write(register.offset, 0x5a5);
            let (wanted, mask) = match (register.access, register.offset) {
                (Access::Ro, _) => (before, u32::MAX),
                (Access::Wo, _) => (0, u32::MAX),
                (Access::W1c, _) => (0, u32::MAX),
                (Access::Rw, regs::FRAME_INTERVAL) => (0x5a5, u32::MAX),
                (Access::Rw, regs::CTRL) => (1, u32::MAX),
                (Access::Rw, regs::IRQ_ENABLE) => (0x5a5, EVENTS),
                (Access::Rw, regs::FLIP) => (1, u32::MAX),
                // No pattern has that number.
                (Access::Rw, regs::PATTERN) => (before, u32::MAX),
                (Access::Rw, offset) if is_sensors(offset) || is_isps(offset) => (0, u32::MAX),
                (Access::Rw, _) => (0x5a5, u32::MAX),
            };
            assert_eq!(rig.registers.read(register.offset), wanted & mask, "{}", register.name);
        }
        rig.write(regs::CTRL, regs::CTRL_RESET | regs::CTRL_ENABLE);
    }
}

#[test]
fn offsets_without_a_register_read_as_zero_and_take_nothing() {
    let mut rig = Rig::new("");
    let known = |offset: u32| {
        // The registers of the other channels repeat those of the first.
        let offset = if (0x200..0x500).contains(&offset) { 0x100 + offset % 0x100 } else { offset };
        REGISTERS.iter().any(|register| register.offset == offset)
    };
    for offset in (0..0x2000).filter(|offset| !known(*offset)) {
        rig.write(offset, u32::MAX);
        assert_eq!(rig.registers.read(offset), 0, "{offset:#x}");
    }
}

#[test]
fn a_sensor_has_registers_within_their_limits() {
    let mut rig = Rig::new("sensor=yes");
    assert_eq!(rig.registers.read(regs::CAPS) & regs::CAPS_SENSOR, regs::CAPS_SENSOR);
    for register in REGISTERS.iter().filter(|register| is_sensors(register.offset)) {
        assert_eq!(rig.registers.read(register.offset), register.reset, "{}", register.name);
    }
    for (register, least, most) in [
        (regs::SENSOR_LINE_LENGTH, regs::SENSOR_LINE_LENGTH_MIN, regs::SENSOR_LINE_LENGTH_MAX),
        (regs::SENSOR_FRAME_LENGTH, regs::SENSOR_FRAME_LENGTH_MIN, regs::SENSOR_FRAME_LENGTH_MAX),
        (regs::SENSOR_EXPOSURE, regs::SENSOR_EXPOSURE_MIN, regs::SENSOR_FRAME_LENGTH_MAX),
        (regs::SENSOR_ANALOGUE_GAIN, regs::SENSOR_GAIN_ONE, regs::SENSOR_ANALOGUE_GAIN_MAX),
        (regs::SENSOR_DIGITAL_GAIN, regs::SENSOR_GAIN_ONE, regs::SENSOR_DIGITAL_GAIN_MAX),
        (regs::SENSOR_BINNING, 1, regs::SENSOR_BINNING_MAX),
    ] {
        for (value, taken) in [(0, least), (u32::MAX, most), (least + 1, least + 1)] {
            rig.write(register, value);
            assert_eq!(rig.registers.read(register), taken, "{register:#x}");
        }
    }
}

#[test]
fn the_frame_clock_is_the_sensors() {
    let mut rig = Rig::streaming("sensor=yes,fps=50");
    assert_eq!(rig.registers.read(regs::SENSOR_FRAME_LENGTH), 2700);
    rig.write(regs::FRAME_INTERVAL, 40_000);
    assert_eq!(rig.registers.read(regs::SENSOR_FRAME_LENGTH), 5400);
    rig.write(regs::SENSOR_LINE_LENGTH, 2 * regs::SENSOR_LINE_LENGTH_MIN);
    assert_eq!(rig.registers.read(regs::FRAME_INTERVAL), 80_000);
    rig.commit(0x1000);
    rig.pass(79);
    assert!(matches!(rig.registers.poll(rig.now), Task::WaitUntil(_)));
    rig.pass(1);
    assert_eq!(rig.job().interval, Duration::from_millis(80));
}

#[test]
fn what_the_device_exposes_by_is_in_its_registers() {
    let mut rig = Rig::streaming("auto=yes,timing=stall");
    rig.write(regs::SENSOR_EXPOSURE, 100);
    assert_eq!(rig.registers.read(regs::SENSOR_EXPOSURE), regs::SENSOR_EXPOSURE_RESET, "it is the device's");
    rig.commit(0x1000);
    rig.job();
    rig.registers.started(1);
    let exposure = Some(Exposure { time_ns: 20_000_000, gain: 512 });
    rig.finish(FrameOutcome::Written { bytes: 100, span: 120, exposure });
    rig.acknowledge();
    let registers = [regs::SENSOR_EXPOSURE, regs::SENSOR_ANALOGUE_GAIN];
    assert_eq!(registers.map(|register| rig.registers.read(register)), [2700, 512]);
    rig.commit(0x1000);
    assert_eq!(rig.job().sensor.map(|sensor| sensor.exposure()), exposure);
}

#[test]
fn the_frame_interval_is_clamped() {
    let mut rig = Rig::new("");
    for (value, clamped) in [(0, 1000), (u32::MAX, 10_000_000), (40_000, 40_000)] {
        rig.write(regs::FRAME_INTERVAL, value);
        assert_eq!(rig.registers.read(regs::FRAME_INTERVAL), clamped);
    }
}

#[test]
fn a_commit_latches_all_registers_at_once_and_a_second_replaces_it() {
    let mut rig = Rig::streaming("timing=stall");
    rig.write(regs::CH_FORMAT, 1);
    rig.write(regs::CH_SIZE, 120 << 16 | 160);
    rig.write(regs::CH_ADDR1_HI, 2);
    rig.write(regs::CH_LEN2, 3);
    rig.write(regs::CH_STRIDE1, 4);
    assert_eq!(rig.registers.poll(rig.now), Task::Wait);
    rig.commit(0x1000);
    rig.commit(0x2000);
    rig.write(regs::CH_FORMAT, 9);
    assert_eq!(rig.registers.read(regs::STATUS), regs::STATUS_STREAMING | regs::STATUS_PENDING);
    let job = rig.job();
    assert_eq!(
        job.configs[0].unwrap(),
        FrameConfig {
            fourcc: 1,
            width: 160,
            height: 120,
            strides: [0, 4, 0],
            addresses: [0x2000, 2 << 32, 0],
            lengths: [0, 0, 3],
            ..FrameConfig::default()
        }
    );
    assert_eq!(rig.registers.read(regs::STATUS), regs::STATUS_STREAMING | regs::STATUS_ACTIVE);
    // The next is programmed while this one is written.
    rig.commit(0x3000);
    rig.finish(WRITTEN);
    assert_eq!(rig.registers.read(regs::CH_DONE_ADDR_LO), 0x2000);
    assert_eq!(rig.registers.read(regs::CH_DONE_BYTES), 120);
    rig.acknowledge();
    assert_eq!(rig.frame().configs[0].unwrap().addresses[0], 0x3000);
}

#[test]
fn stall_waits_for_a_buffer_and_holds_one_frame_back_until_the_acknowledgement() {
    let mut rig = Rig::streaming("timing=stall,fps=1000");
    rig.pass(500);
    assert_eq!(rig.registers.poll(rig.now), Task::Wait);
    rig.commit(0x1000);
    assert_eq!(rig.job().sequence, 0);
    rig.commit(0x2000);
    rig.finish(WRITTEN);
    // Frame 0 is not acknowledged: frame 1 is made, and held back; frame 2 does not begin.
    assert_eq!(rig.job().sequence, 1);
    rig.commit(0x3000);
    rig.finish(WRITTEN);
    assert_eq!(rig.registers.poll(rig.now), Task::Wait);
    assert_eq!(
        (rig.registers.read(regs::CH_DONE_SEQUENCE), rig.registers.read(regs::CH_DONE_ADDR_LO)),
        (0, 0x1000)
    );
    assert_eq!(rig.acknowledge() & regs::IRQ_DONE, regs::IRQ_DONE);
    assert_eq!(rig.registers.read(regs::IRQ_STATUS), regs::IRQ_DONE, "frame 1 is reported now");
    assert_eq!(
        (rig.registers.read(regs::CH_DONE_SEQUENCE), rig.registers.read(regs::CH_DONE_ADDR_LO)),
        (1, 0x2000)
    );
    assert_eq!(rig.job().sequence, 2);
    rig.finish(FrameOutcome::Refused(Refusal::Bus { plane: 0, address: 0 }));
    assert_eq!(rig.registers.read(regs::CH_DONE_SEQUENCE), 1);
    assert_eq!((rig.registers.counters().irqs_late, rig.registers.counters().drops), (0, 1));
}

#[test]
fn stopping_waits_for_the_frame_that_is_held_back() {
    let mut rig = Rig::streaming("timing=stall");
    rig.commit(0x1000);
    rig.job();
    rig.finish(WRITTEN);
    rig.commit(0x2000);
    rig.job();
    rig.finish(WRITTEN);
    rig.write(regs::CTRL, 0);
    assert_eq!(rig.registers.read(regs::STATUS), regs::STATUS_STREAMING);
    assert_eq!(rig.acknowledge() & regs::IRQ_STOPPED, 0);
    assert_eq!(rig.registers.read(regs::STATUS), 0);
    assert_eq!(rig.registers.read(regs::CH_DONE_ADDR_LO), 0x2000);
    assert_eq!(rig.acknowledge(), regs::IRQ_DONE | regs::IRQ_STOPPED);
}

#[test]
fn free_timing_drops_what_finds_no_buffer_and_counts_it_in_the_sequence() {
    let mut rig = Rig::streaming("fps=100");
    rig.commit(0x1000);
    assert_eq!(rig.registers.poll(rig.now), Task::WaitUntil(rig.now + Duration::from_millis(10)));
    rig.pass(10);
    assert_eq!(rig.frame().sequence, 0);
    assert_eq!(rig.registers.poll(rig.now), Task::WaitUntil(rig.now + Duration::from_millis(10)));
    rig.pass(25);
    assert!(matches!(rig.registers.poll(rig.now), Task::WaitUntil(_)));
    assert_eq!(rig.acknowledge(), regs::IRQ_UNDERRUN);
    assert_eq!(rig.registers.read(regs::DROPS), 2);
    rig.commit(0x1000);
    assert!(matches!(rig.registers.poll(rig.now), Task::WaitUntil(_)), "a frame begins at a tick only");
    rig.pass(6);
    let job = rig.frame();
    assert_eq!((job.sequence, job.time), (3, Duration::from_millis(40)));
    assert_eq!(rig.registers.read(regs::CH_DONE_TIME_LO), 40_000_000);
    assert_eq!(rig.registers.counters().irqs_late, 0);
}

/// It stands still for 20 frames' time, then one begins, and none after it.
#[test]
fn a_pause_drops_no_frames_of_a_clock() {
    let mut rig = Rig::streaming("fps=100");
    rig.commit(0x1000);
    rig.registers.step(Some(0), rig.now);
    rig.pass(200);
    assert!(matches!(rig.registers.poll(rig.now), Task::Wait));
    rig.registers.step(Some(1), rig.now);
    assert!(
        matches!(rig.registers.poll(rig.now), Task::WaitUntil(then) if then == rig.now + Duration::from_millis(10))
    );
    rig.pass(10);
    assert_eq!(rig.frame().sequence, 0);
    rig.commit(0x2000);
    rig.pass(100);
    assert!(matches!(rig.registers.poll(rig.now), Task::Wait));
    rig.registers.step(None, rig.now);
    rig.pass(10);
    assert_eq!(rig.frame().sequence, 1);
    assert_eq!(rig.registers.read(regs::DROPS), 0);
}

#[test]
fn a_tick_before_the_acknowledgement_is_late() {
    let mut rig = Rig::streaming("fps=100");
    rig.commit(0x1000);
    rig.pass(10);
    rig.job();
    rig.finish(WRITTEN);
    rig.commit(0x2000);
    rig.pass(10);
    assert_eq!(rig.job().sequence, 1);
    rig.finish(WRITTEN);
    rig.commit(0x3000);
    rig.pass(20);
    assert!(matches!(rig.registers.poll(rig.now), Task::WaitUntil(_)), "frame 1 is held back");
    assert_eq!((rig.registers.read(regs::IRQS_LATE), rig.registers.read(regs::DROPS)), (2, 2));
    assert_eq!(rig.registers.read(regs::CH_DONE_ADDR_LO), 0x1000);
    rig.acknowledge();
    rig.pass(10);
    assert_eq!(rig.frame().sequence, 4);
}

#[test]
fn the_frame_of_a_tick_while_one_is_in_work_begins_late_and_those_of_more_are_lost() {
    let mut rig = Rig::streaming("fps=100");
    rig.commit(0x1000);
    rig.pass(10);
    rig.job();
    rig.commit(0x2000);
    rig.pass(15);
    rig.finish(WRITTEN);
    let job = rig.job();
    assert_eq!((job.sequence, job.time), (1, Duration::from_millis(20)));
    assert_eq!(rig.acknowledge(), regs::IRQ_DONE);
    rig.commit(0x3000);
    rig.pass(35);
    rig.finish(WRITTEN);
    assert_eq!(rig.acknowledge(), regs::IRQ_DONE);
    let job = rig.job();
    assert_eq!((job.sequence, job.time), (5, Duration::from_millis(60)));
    assert_eq!((rig.registers.read(regs::IRQS_LATE), rig.registers.read(regs::DROPS)), (0, 3));
}

#[test]
fn one_edge_for_each_gain_of_an_enabled_event() {
    let mut rig = Rig::new("timing=stall");
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    rig.commit(0x1000);
    rig.job();
    rig.registers.started(1);
    rig.finish(WRITTEN);
    assert!(!rig.irq.take(), "nothing is enabled");
    rig.write(regs::IRQ_ENABLE, regs::IRQ_DONE | regs::IRQ_CONFIG_ERROR);
    assert!(rig.irq.take(), "enabling an event that is there is a gain");
    assert_eq!(rig.registers.read(regs::IRQ_RAW), regs::IRQ_DONE | regs::IRQ_LATCHED | regs::IRQ_FRAME_START);
    assert_eq!(rig.acknowledge(), regs::IRQ_DONE);
    assert_eq!(rig.registers.read(regs::IRQ_RAW), regs::IRQ_LATCHED | regs::IRQ_FRAME_START);
    rig.write(regs::IRQ_STATUS, regs::IRQ_LATCHED);
    assert_eq!(rig.registers.read(regs::IRQ_RAW), regs::IRQ_FRAME_START, "also an event that is not enabled");
    assert!(!rig.irq.take());
    for edge in [true, false] {
        rig.commit(0x1000);
        rig.job();
        rig.finish(FrameOutcome::Refused(Refusal::Length { plane: 0, span: 2, length: 1 }));
        assert_eq!(rig.irq.take(), edge, "the second time the event is there already");
    }
    assert_eq!(rig.registers.counters().irqs, 2);
    assert_eq!(rig.registers.counters().config_errors, 2);
}

#[test]
fn the_first_bus_error_is_held_until_it_is_acknowledged() {
    let mut rig = Rig::streaming("timing=stall");
    let read =
        |rig: &Rig| [regs::ERR_ADDR_LO, regs::ERR_ADDR_HI, regs::ERR_INFO].map(|at| rig.registers.read(at));
    for (plane, address) in [(1, 0x5_0000_1000), (2, 0x2000)] {
        rig.commit(0);
        rig.job();
        rig.finish(FrameOutcome::Refused(Refusal::Bus { plane, address }));
        assert_eq!(read(&rig), [0x1000, 5, 1]);
    }
    assert_eq!(rig.acknowledge(), regs::IRQ_BUS_ERROR | regs::IRQ_LATCHED);
    rig.commit(0);
    rig.job();
    rig.finish(FrameOutcome::Refused(Refusal::Bus { plane: 2, address: 0x2000 }));
    assert_eq!(read(&rig), [0x2000, 0, 2]);
    assert_eq!((rig.registers.read(regs::BUS_ERRORS), rig.registers.read(regs::DROPS)), (3, 3));
    assert_eq!(rig.registers.read(regs::FRAMES), 0);
}

#[test]
fn a_stop_waits_for_the_frame_in_work_and_discards_what_is_pending() {
    let mut rig = Rig::streaming("timing=stall");
    rig.commit(0x1000);
    rig.job();
    rig.commit(0x2000);
    rig.write(regs::CTRL, 0);
    assert_ne!(rig.registers.read(regs::STATUS) & regs::STATUS_STREAMING, 0);
    assert_eq!(rig.registers.poll(rig.now), Task::Wait);
    rig.finish(WRITTEN);
    assert_eq!(rig.registers.read(regs::STATUS), 0);
    assert_eq!(rig.acknowledge(), regs::IRQ_DONE | regs::IRQ_STOPPED);
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    assert_eq!(rig.registers.poll(rig.now), Task::Wait);
    rig.write(regs::CTRL, 0);
    assert_eq!(
        (rig.registers.read(regs::STATUS), rig.acknowledge()),
        (0, regs::IRQ_STOPPED),
        "idle stops at once"
    );
}

#[test]
fn enabled_again_while_stopping_it_stops_and_starts_anew() {
    let mut rig = Rig::streaming("timing=stall");
    for _ in 0..2 {
        rig.commit(0x1000);
        rig.frame();
    }
    rig.commit(0x1000);
    rig.job();
    rig.write(regs::CTRL, 0);
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    rig.finish(WRITTEN);
    assert_eq!(rig.acknowledge(), regs::IRQ_DONE | regs::IRQ_STOPPED);
    assert_eq!(rig.registers.read(regs::STATUS), regs::STATUS_STREAMING);
    rig.commit(0x1000);
    assert_eq!(rig.frame().sequence, 0);
}

#[test]
fn a_reset_abandons_the_frame_in_work_and_hides_nothing_from_the_host() {
    let mut rig = Rig::streaming("timing=stall");
    rig.commit(0x1000);
    rig.frame();
    rig.commit(0x1000);
    rig.job();
    let abandon = rig.registers.abandon();
    rig.write(regs::CTRL, regs::CTRL_RESET);
    assert!(abandon.load(Ordering::Relaxed));
    assert_eq!(rig.registers.read(regs::STATUS), regs::STATUS_ACTIVE);
    rig.registers.started(1);
    rig.finish(WRITTEN);
    let is_machines = |offset: u32| [regs::CAPS, regs::TIMING].contains(&offset) || is_sensors(offset);
    for register in REGISTERS.iter().filter(|register| !is_machines(register.offset)) {
        assert_eq!(rig.registers.read(register.offset), register.reset, "{}", register.name);
    }
    assert!(!abandon.load(Ordering::Relaxed));
    assert_eq!(rig.registers.counters().frames, 1);
}

#[test]
fn started_and_stopped_again_before_the_abandoned_frame_ended() {
    let mut rig = Rig::streaming("timing=stall");
    rig.commit(0x1000);
    rig.job();
    rig.write(regs::CTRL, regs::CTRL_RESET);
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    rig.write(regs::CTRL, 0);
    rig.finish(FrameOutcome::Abandoned);
    assert_eq!((rig.registers.read(regs::STATUS), rig.registers.read(regs::IRQ_RAW)), (0, regs::IRQ_STOPPED));
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    rig.commit(0x1000);
    assert_eq!(rig.job().sequence, 0);
}

/// A commit for channel 1.
fn commit_raw(rig: &mut Rig, address: u32) {
    rig.write(regs::of_channel(regs::CH_ADDR0_LO, 1), address);
    rig.write(regs::of_channel(regs::CH_COMMIT, 1), 1);
}

fn channels(job: &Job) -> [bool; 2] {
    [0, 1].map(|channel| job.configs[channel].is_some())
}

const BOTH: u32 = regs::CTRL_ENABLE | regs::CTRL_ENABLE << 1;

#[test]
fn stall_waits_for_all_channels_that_are_enabled_and_a_stop_of_one_lets_the_other_go_on() {
    let mut rig = Rig::new("timing=stall");
    rig.write(regs::IRQ_ENABLE, u32::MAX);
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    for sequence in 0..3 {
        rig.commit(0x1000);
        assert_eq!(rig.frame().sequence, sequence);
    }
    // A channel that joins sees the number that the sensor is at.
    rig.write(regs::CTRL, BOTH);
    rig.commit(0x1000);
    assert_eq!(rig.registers.poll(rig.now), Task::Wait);
    commit_raw(&mut rig, 0x2000);
    let job = rig.job();
    assert_eq!((job.sequence, channels(&job)), (3, [true, true]));
    rig.registers.started(3);
    assert_eq!(rig.registers.read(regs::FRAME_SEQUENCE), 3);
    assert_eq!(rig.acknowledge(), (3 * regs::IRQ_LATCHED) | regs::IRQ_FRAME_START);
    let status = rig.registers.read(regs::STATUS);
    assert_eq!(status, 3 * (regs::STATUS_STREAMING | regs::STATUS_ACTIVE));
    rig.registers.finished(0, WRITTEN, rig.now);
    assert_eq!(rig.registers.read(regs::STATUS), (3 * regs::STATUS_STREAMING) | (regs::STATUS_ACTIVE << 1));
    // Channel 1 stops when its frame is written; channel 0 goes on.
    rig.write(regs::CTRL, regs::CTRL_ENABLE);
    assert_eq!(rig.acknowledge(), regs::IRQ_DONE);
    rig.registers.finished(1, WRITTEN, rig.now);
    assert_eq!(rig.registers.read(regs::of_channel(regs::CH_DONE_SEQUENCE, 1)), 3);
    assert_eq!(rig.registers.read(regs::of_channel(regs::CH_DONE_ADDR_LO, 1)), 0x2000);
    assert_eq!(rig.acknowledge(), (regs::IRQ_DONE | regs::IRQ_STOPPED) << 1);
    rig.commit(0x1000);
    assert_eq!(rig.frame().sequence, 4);
    assert_eq!(
        (rig.registers.read(regs::CH_FRAMES), rig.registers.read(regs::of_channel(regs::CH_FRAMES, 1))),
        (5, 1)
    );
    // The sensor stops with the last channel, and then starts again.
    rig.write(regs::CTRL, 0);
    rig.write(regs::CTRL, regs::CTRL_ENABLE << 1);
    commit_raw(&mut rig, 0x2000);
    let job = rig.job();
    assert_eq!((job.sequence, channels(&job)), (0, [false, true]));
}

#[test]
fn in_free_timing_a_channel_without_a_buffer_drops_the_frame_and_the_other_has_it() {
    let mut rig = Rig::new("fps=100");
    rig.write(regs::IRQ_ENABLE, u32::MAX);
    rig.write(regs::CTRL, BOTH);
    commit_raw(&mut rig, 0x2000);
    rig.pass(10);
    let job = rig.job();
    assert_eq!((job.sequence, channels(&job)), (0, [false, true]));
    rig.registers.started(2);
    assert_eq!(rig.acknowledge(), regs::IRQ_UNDERRUN | regs::IRQ_FRAME_START | regs::IRQ_LATCHED << 1);
    rig.registers.finished(1, WRITTEN, rig.now);
    let drops = |rig: &Rig| {
        [regs::CH_DROPS, regs::of_channel(regs::CH_DROPS, 1), regs::DROPS].map(|at| rig.registers.read(at))
    };
    assert_eq!(drops(&rig), [1, 0, 1]);
    // Channel 1's frame is not acknowledged: its next one is held back, the one after that dropped.
    commit_raw(&mut rig, 0x3000);
    rig.pass(10);
    assert_eq!(channels(&rig.job()), [false, true]);
    rig.registers.finished(1, WRITTEN, rig.now);
    commit_raw(&mut rig, 0x4000);
    rig.commit(0x1000);
    rig.pass(10);
    let job = rig.job();
    assert_eq!((job.sequence, channels(&job)), (2, [true, false]));
    assert_eq!((drops(&rig), rig.registers.read(regs::IRQS_LATE)), ([2, 1, 3], 1));
    // Ticks while a frame is in work after which neither has a buffer are lost for both.
    rig.pass(20);
    rig.registers.finished(0, WRITTEN, rig.now);
    assert!(matches!(rig.registers.poll(rig.now), Task::WaitUntil(_)));
    assert_eq!(drops(&rig), [4, 3, 7]);
    rig.commit(0x1000);
    rig.acknowledge();
    rig.pass(10);
    let job = rig.job();
    assert_eq!((job.sequence, channels(&job)), (5, [true, true]));
}

#[test]
fn one_channels_refusal_does_not_disturb_the_other() {
    let mut rig = Rig::new("timing=stall");
    rig.write(regs::IRQ_ENABLE, u32::MAX);
    rig.write(regs::CTRL, BOTH);
    rig.commit(0x1000);
    commit_raw(&mut rig, 0x2000);
    rig.job();
    rig.registers.started(1);
    rig.registers.finished(1, FrameOutcome::Refused(Refusal::Bus { plane: 0, address: 0x2000 }), rig.now);
    rig.registers.finished(0, WRITTEN, rig.now);
    assert_eq!(rig.registers.read(regs::ERR_INFO), 1 << 8);
    let events = regs::IRQ_FRAME_START | (3 * regs::IRQ_LATCHED) | regs::IRQ_DONE | regs::IRQ_BUS_ERROR;
    assert_eq!(rig.acknowledge(), events);
    assert_eq!(
        (rig.registers.read(regs::CH_DROPS), rig.registers.read(regs::of_channel(regs::CH_DROPS, 1))),
        (0, 1)
    );
}

#[test]
fn a_reset_between_the_two_channels_abandons_the_rest_of_the_frame() {
    let mut rig = Rig::new("timing=stall");
    rig.write(regs::CTRL, BOTH);
    rig.commit(0x1000);
    commit_raw(&mut rig, 0x2000);
    rig.job();
    let abandon = rig.registers.abandon();
    rig.registers.finished(0, WRITTEN, rig.now);
    rig.write(regs::CTRL, regs::CTRL_RESET);
    assert_eq!(
        (rig.registers.read(regs::STATUS), abandon.load(Ordering::Relaxed)),
        (regs::STATUS_ACTIVE << 1, true)
    );
    rig.registers.finished(1, FrameOutcome::Abandoned, rig.now);
    assert_eq!((rig.registers.read(regs::STATUS), abandon.load(Ordering::Relaxed)), (0, false));
    assert_eq!(rig.registers.read(regs::FRAMES), 0);
}

/// A commit for a channel of metadata.
fn commit_metadata(rig: &mut Rig, channel: usize) {
    rig.write(regs::of_channel(regs::CH_COMMIT, u32::try_from(channel).unwrap()), 1);
}

/// The channels of metadata that take part.
fn metadata(job: &Job) -> [bool; 2] {
    [STATISTICS, PARAMS].map(|channel| job.configs[channel].is_some())
}

const ALL: u32 = regs::CTRL_ENABLE * CHANNEL_BITS;

#[test]
fn metadata_go_with_processed_frames_and_start_none() {
    let mut rig = Rig::new("timing=stall,sensor=yes");
    rig.write(regs::IRQ_ENABLE, u32::MAX);
    rig.write(regs::CTRL, ALL & !BOTH);
    commit_metadata(&mut rig, STATISTICS);
    commit_metadata(&mut rig, PARAMS);
    assert_eq!(rig.registers.poll(rig.now), Task::Wait);
    // Raw frames have none.
    rig.write(regs::CTRL, ALL & !regs::CTRL_ENABLE);
    commit_raw(&mut rig, 0x2000);
    let job = rig.job();
    assert_eq!((job.sequence, metadata(&job)), (0, [false, false]));
    rig.registers.finished(1, WRITTEN, rig.now);
    rig.acknowledge();
    rig.write(regs::CTRL, ALL);
    rig.commit(0x1000);
    commit_raw(&mut rig, 0x2000);
    let job = rig.job();
    assert_eq!((job.sequence, job.params_sequence, metadata(&job)), (1, None, [true, true]));
    rig.registers.finished(PARAMS, FrameOutcome::Transferred(24), rig.now);
    assert_eq!(rig.registers.read(regs::of_channel(regs::CH_DONE_BYTES, regs::CHANNEL_PARAMS)), 24);
    rig.registers.finished(STATISTICS, FrameOutcome::Transferred(9), rig.now);
    rig.registers.finished(0, WRITTEN, rig.now);
    rig.registers.finished(1, WRITTEN, rig.now);
    assert_eq!(rig.acknowledge(), regs::IRQ_DONE * CHANNEL_BITS);
    assert_eq!(
        (rig.registers.counters().frames, rig.registers.counters().bytes),
        (3, 300),
        "of frames alone"
    );
    // The next waits for statistics, and not for parameters.
    rig.commit(0x1000);
    commit_raw(&mut rig, 0x2000);
    assert_eq!(rig.registers.poll(rig.now), Task::Wait);
    commit_metadata(&mut rig, STATISTICS);
    let job = rig.job();
    assert_eq!((job.sequence, job.params_sequence, metadata(&job)), (2, Some(1), [true, false]));
    // They stop like the others.
    rig.write(regs::CTRL, 0);
    rig.registers.finished(STATISTICS, FrameOutcome::Transferred(9), rig.now);
    let stopped = |channels: u32| channels * regs::IRQ_STOPPED;
    assert_eq!(rig.acknowledge(), stopped(1 << PARAMS | 1 << STATISTICS) | regs::IRQ_DONE << STATISTICS);
}

#[test]
fn in_free_timing_a_frame_without_a_buffer_for_statistics_is_made_without() {
    let mut rig = Rig::new("fps=100,sensor=yes");
    rig.write(regs::IRQ_ENABLE, u32::MAX);
    rig.write(regs::CTRL, ALL & !(regs::CTRL_ENABLE << 1));
    rig.pass(10);
    assert!(matches!(rig.registers.poll(rig.now), Task::WaitUntil(_)));
    rig.commit(0x1000);
    rig.pass(10);
    let job = rig.job();
    assert_eq!((job.sequence, metadata(&job)), (1, [false, false]));
    assert_eq!(rig.acknowledge(), regs::IRQ_UNDERRUN);
    let drops = regs::of_channel(regs::CH_DROPS, regs::CHANNEL_STATISTICS);
    assert_eq!(
        (rig.registers.read(drops), rig.registers.read(regs::CH_DROPS), rig.registers.read(regs::DROPS)),
        (1, 1, 1)
    );
}

#[test]
fn what_is_wrong_with_parameters_is_told_with_their_end_and_held_back_with_it() {
    let mut rig = Rig::new("timing=stall,sensor=yes");
    rig.write(regs::IRQ_ENABLE, u32::MAX);
    rig.write(regs::CTRL, regs::CTRL_ENABLE | regs::CTRL_ENABLE << PARAMS);
    let fault = |offset| ParamsFault { reason: ParamsFault::RANGE, kind: 5, block: 8, offset };
    for offset in [16, 18] {
        rig.commit(0x1000);
        commit_metadata(&mut rig, PARAMS);
        rig.job();
        rig.registers.finished(PARAMS, FrameOutcome::BadParams(fault(offset)), rig.now);
        rig.registers.finished(0, WRITTEN, rig.now);
        rig.write(regs::IRQ_STATUS, regs::IRQ_DONE);
    }
    let read = |rig: &Rig, register| rig.registers.read(regs::of_channel(register, regs::CHANNEL_PARAMS));
    let error = |rig: &Rig| {
        [regs::CH_DONE_ERROR, regs::CH_DONE_ERROR_BLOCK, regs::CH_DONE_ERROR_OFFSET].map(|at| read(rig, at))
    };
    assert_eq!(error(&rig), [ParamsFault::RANGE << 16 | 5, 8, 16]);
    let events = regs::IRQ_DONE << PARAMS | regs::IRQ_PARAMS_ERROR;
    assert_eq!(rig.acknowledge(), events);
    assert_eq!(error(&rig), [ParamsFault::RANGE << 16 | 5, 8, 18]);
    assert_eq!((read(&rig, regs::CH_DROPS), read(&rig, regs::CH_FRAMES)), (2, 0));
    assert_eq!(rig.acknowledge(), events);
    rig.commit(0x1000);
    commit_metadata(&mut rig, PARAMS);
    assert_eq!(rig.job().params_sequence, None);
    rig.registers.finished(PARAMS, FrameOutcome::Transferred(8), rig.now);
    assert_eq!((error(&rig), read(&rig, regs::CH_DONE_BYTES)), ([0; 3], 8));
}

#[test]
fn without_an_isp_there_are_no_channels_of_metadata() {
    let mut rig = Rig::new("timing=stall");
    rig.write(regs::CTRL, ALL);
    assert_eq!((rig.registers.read(regs::CTRL), rig.registers.read(regs::STATUS)), (BOTH, BOTH));
    assert_eq!(rig.registers.read(regs::CAPS) & regs::CAPS_ISP, 0);
    assert_ne!(Rig::new("sensor=yes").registers.read(regs::CAPS) & regs::CAPS_ISP, 0);
}

#[test]
fn switched_off_it_makes_no_more_frames() {
    let mut rig = Rig::streaming("timing=stall");
    rig.commit(0x1000);
    rig.registers.switch_off();
    assert_eq!(rig.registers.poll(rig.now), Task::Off);
}
