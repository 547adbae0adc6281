//! The state of the register file, its interrupts and its clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    camera::{
        channel_registers::{ChannelRegisters, Stream},
        channels::{CHANNELS, FRAME_CHANNELS, PARAMS, PROCESSED, STATISTICS},
        clock::FrameClock,
        counters::Counters,
        faults::RegisterFaults,
        job::Job,
        regs,
        sensor_registers::SensorRegisters,
        spec::CameraSpec,
    },
    faults::FaultHandle,
    irq::IrqLine,
};
use media::SceneSettings;

/// The state that a reset restores.
#[derive(Debug)]
pub(super) struct State {
    /// The frame clock. It runs while a channel streams.
    pub(super) clock: Option<FrameClock>,
    pub(super) irq_raw: u32,
    pub(super) irq_enable: u32,
    pub(super) error_address: u64,
    pub(super) error_info: u32,
    /// The frame interval of a camera without a sensor, in microseconds.
    frame_interval: u32,
    pub(super) sensor: Option<SensorRegisters>,
    pub(super) scene: SceneSettings,
    pub(super) channels: [ChannelRegisters; CHANNELS],
    pub(super) next_sequence: u32,
    /// The sequence number of the frame that began last.
    pub(super) sequence: u32,
    pub(super) params_sequence: Option<u32>,
}

/// The register file.
#[derive(Debug)]
pub(in crate::camera) struct RegisterFile {
    pub(super) spec: CameraSpec,
    irq: IrqLine,
    pub(super) off: bool,
    /// The frame that the worker makes. After a reset it is no longer part of `state`.
    pub(super) job: Option<Job>,
    /// Tells the worker to abandon its frame.
    pub(super) abandon: Arc<AtomicBool>,
    pub(super) counters: Counters,
    /// The counters at the last reset.
    pub(super) counters_at_reset: Counters,
    pub(super) resets: u32,
    pub(super) state: State,
    /// The number of frames that may still begin. None for any number.
    pub(super) steps: Option<u32>,
    /// Whether the machine is paused: then no frame begins.
    pub(super) is_held: bool,
    pub(super) faults: RegisterFaults,
}

impl State {
    pub(super) fn new(spec: &CameraSpec) -> Self {
        let frame_interval = clamp_interval(spec.frame_interval);
        let interval = Duration::from_micros(frame_interval.into());
        Self {
            clock: None,
            irq_raw: 0,
            irq_enable: 0,
            error_address: 0,
            error_info: 0,
            frame_interval,
            sensor: spec.sensor.as_ref().map(|_| SensorRegisters::new(interval)),
            scene: SceneSettings { pattern: spec.scene, ..SceneSettings::default() },
            channels: [ChannelRegisters::default(); CHANNELS],
            next_sequence: 0,
            sequence: 0,
            params_sequence: None,
        }
    }

    pub(super) fn interval(&self) -> Duration {
        match &self.sensor {
            Some(sensor) => sensor.interval(),
            None => Duration::from_micros(self.frame_interval.into()),
        }
    }

    /// Sets FRAME_INTERVAL.
    pub(super) fn set_interval(&mut self, microseconds: u32) {
        self.frame_interval = clamp_interval(microseconds);
        if let Some(sensor) = &mut self.sensor {
            sensor.set_interval(Duration::from_micros(self.frame_interval.into()));
        }
    }

    /// The value of a register with a bit for each channel. `mask` is that of channel 0, and `is` says whether a bit is set.
    pub(super) fn bits(&self, mask: u32, is: impl Fn(&ChannelRegisters) -> bool) -> u32 {
        self.channels.iter().zip(0..).map(|(registers, channel)| bit(is(registers), mask << channel)).sum()
    }

    /// Whether a frame is held back until the one before is acknowledged.
    pub(super) fn is_any_held(&self) -> bool {
        self.channels[..FRAME_CHANNELS].iter().any(|registers| registers.held.is_some())
    }

    /// Whether a frame that begins now waits for a buffer of the channel. Statistics belong to processed frames. Parameters are
    /// optional, so no frame waits for them.
    pub(super) fn is_concerned(&self, channel: usize) -> bool {
        let registers = &self.channels[channel];
        registers.stream == Stream::Streaming
            && match channel {
                STATISTICS => self.channels[PROCESSED].is_ready(),
                PARAMS => false,
                _ => true,
            }
    }
}

impl RegisterFile {
    pub(in crate::camera) fn new(spec: CameraSpec, irq: IrqLine, faults: FaultHandle) -> Self {
        Self {
            state: State::new(&spec),
            spec,
            irq,
            off: false,
            job: None,
            abandon: Arc::default(),
            counters: Counters::default(),
            counters_at_reset: Counters::default(),
            resets: 0,
            steps: None,
            is_held: false,
            faults: RegisterFaults::new(faults),
        }
    }

    /// The flag that is set while the frame in work is to be abandoned.
    pub(in crate::camera) fn abandon(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandon)
    }

    /// The counters since the camera was built. A reset by the guest does not clear them.
    pub(in crate::camera) fn counters(&self) -> Counters {
        self.counters
    }

    /// Resets the camera and ends the worker.
    pub(in crate::camera) fn switch_off(&mut self) {
        self.reset();
        self.off = true;
    }

    pub(super) fn has_isp(&self) -> bool {
        self.spec.sensor.is_some()
    }

    /// Whether the device sets the exposure itself.
    pub(super) fn is_automatic(&self) -> bool {
        self.spec.sensor.as_ref().is_some_and(|sensor| sensor.automatic)
    }

    /// Lets this number of frames begin, and then none. With None every frame begins.
    pub(in crate::camera) fn step(&mut self, frames: Option<u32>, now: Instant) {
        self.steps = frames;
        self.continue_clock(now);
    }

    /// Lets no frame begin while `is_held`.
    pub(in crate::camera) fn hold(&mut self, is_held: bool, now: Instant) {
        self.is_held = is_held;
        self.continue_clock(now);
    }

    /// Restarts the clock after a pause: the next frame comes one interval after `now`.
    pub(super) fn continue_clock(&mut self, now: Instant) {
        let interval = self.state.interval();
        if let Some(clock) = &mut self.state.clock {
            clock.go_on(now, interval);
        }
    }

    /// Applies a changed frame interval to the clock.
    pub(super) fn change_clock(&mut self, now: Instant) {
        let interval = self.state.interval();
        if let Some(clock) = &mut self.state.clock {
            clock.change(now, interval);
        }
    }

    /// Resets the registers. A frame in work is abandoned.
    pub(in crate::camera) fn reset(&mut self) {
        self.state = State::new(&self.spec);
        self.resets = self.resets.wrapping_add(1);
        self.counters_at_reset = self.counters;
        self.abandon.store(self.job.is_some(), Ordering::Relaxed);
    }

    pub(super) fn event(&mut self, events: u32) {
        let before = self.read(regs::IRQ_STATUS);
        self.state.irq_raw |= events;
        self.raise_if_gained(before);
    }

    pub(super) fn raise_if_gained(&mut self, before: u32) {
        if self.read(regs::IRQ_STATUS) & !before != 0 {
            self.raise();
        }
    }

    /// Raises the interrupt: one edge.
    pub(in crate::camera) fn raise(&mut self) {
        self.counters.irqs += 1;
        self.faults.handle().interrupted();
        self.irq.raise();
    }
}

fn clamp_interval(microseconds: u32) -> u32 {
    microseconds.clamp(regs::FRAME_INTERVAL_MIN, regs::FRAME_INTERVAL_MAX)
}

pub(super) fn bit(condition: bool, mask: u32) -> u32 {
    if condition { mask } else { 0 }
}
