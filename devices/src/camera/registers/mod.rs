//! The register face: what the registers of [`regs`] mean, as a state machine without threads or frames.
//!
//! The guest comes in by [`RegisterFile::read`] and [`RegisterFile::write`], the worker by [`RegisterFile::poll`], [`RegisterFile::started`] and
//! [`RegisterFile::finished`]. Time is handed in. Every call is short: the caller holds a lock meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    CameraSpec, Counters, Timing,
    channel_registers::{ChannelRegisters, Done, Stream},
    channels::{CHANNELS, FRAME_CHANNELS, PARAMS, PROCESSED, STATISTICS},
    clock::FrameClock,
    faults::{FrameStart, Interrupt, RegisterFaults},
    frame_config::FrameConfig,
    job::{Job, Outcome},
    regs::{self, high, low},
    sensor_registers::SensorRegisters,
    transfer::Refusal,
};
use crate::{
    faults::{FaultHandle, RegisterWrite},
    irq::IrqLine,
    media::{MAX_PLANES, Pattern, SceneSettings},
};

/// A bit for each channel.
const CHANNEL_BITS: u32 = (1 << regs::CHANNELS) - 1;

const EVENTS: u32 = regs::IRQ_FRAME_START
    | regs::IRQ_OVERFLOW
    | regs::IRQ_CONFIG_ERROR
    | regs::IRQ_BUS_ERROR
    | regs::IRQ_SYNC_LOSS
    | regs::IRQ_UNDERRUN
    | regs::IRQ_PARAMS_ERROR
    | (CHANNEL_BITS * (regs::IRQ_DONE | regs::IRQ_LATCHED | regs::IRQ_STOPPED));

/// What the worker has to do.
#[expect(clippy::large_enum_variant, reason = "it is not kept, and a box would take memory for each frame")]
#[derive(Debug, PartialEq)]
pub(super) enum Task {
    /// Make a frame.
    Frame(Job),
    /// Wait until then, or until a register was written.
    WaitUntil(Instant),
    /// Wait until a register was written.
    Wait,
    /// End: the camera was switched off.
    Off,
}

/// The state of the registers: all that a reset puts back.
#[derive(Debug)]
struct State {
    /// Runs while a channel is streaming.
    clock: Option<FrameClock>,
    irq_raw: u32,
    irq_enable: u32,
    error_address: u64,
    error_info: u32,
    /// Of a camera without a sensor.
    frame_interval: u32,
    sensor: Option<SensorRegisters>,
    scene: SceneSettings,
    channels: [ChannelRegisters; CHANNELS],
    next_sequence: u32,
    /// That of the frame that began last.
    sequence: u32,
    params_sequence: Option<u32>,
}

/// The register face.
#[derive(Debug)]
pub(super) struct RegisterFile {
    spec: CameraSpec,
    irq: IrqLine,
    off: bool,
    /// What the worker is still making, of which `state` may know nothing any more.
    job: Option<Job>,
    /// Tells the worker to abandon its frame.
    abandon: Arc<AtomicBool>,
    counters: Counters,
    /// The counters at the last reset.
    counters_at_reset: Counters,
    resets: u32,
    state: State,
    /// Frames that may still begin, if these are counted out.
    steps: Option<u32>,
    /// The machine is paused: no frame begins.
    is_held: bool,
    faults: RegisterFaults,
}

impl State {
    fn new(spec: &CameraSpec) -> Self {
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

    fn interval(&self) -> Duration {
        match &self.sensor {
            Some(sensor) => sensor.interval(),
            None => Duration::from_micros(self.frame_interval.into()),
        }
    }

    /// The register FRAME_INTERVAL.
    fn set_interval(&mut self, microseconds: u32) {
        self.frame_interval = clamp_interval(microseconds);
        if let Some(sensor) = &mut self.sensor {
            sensor.set_interval(Duration::from_micros(self.frame_interval.into()));
        }
    }

    /// The bits of the channels for which `is` holds, for a register whose bit for channel 0 is `mask`.
    fn bits(&self, mask: u32, is: impl Fn(&ChannelRegisters) -> bool) -> u32 {
        self.channels.iter().zip(0..).map(|(port, channel)| bit(is(port), mask << channel)).sum()
    }

    /// Whether a frame is held back.
    fn is_any_held(&self) -> bool {
        self.channels[..FRAME_CHANNELS].iter().any(|port| port.held.is_some())
    }

    /// Whether a frame that begins now has to do with a channel: metadata go with the processed frames, and of them no frame
    /// needs parameters.
    fn is_concerned(&self, channel: usize) -> bool {
        let port = &self.channels[channel];
        port.stream == Stream::Streaming
            && match channel {
                STATISTICS => self.channels[PROCESSED].is_ready(),
                PARAMS => false,
                _ => true,
            }
    }
}

impl RegisterFile {
    pub(super) fn new(spec: CameraSpec, irq: IrqLine, faults: FaultHandle) -> Self {
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

    /// Set while the frame in work is to be abandoned.
    pub(super) fn abandon(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.abandon)
    }

    /// The counters since the camera was made: a reset by the guest does not hide what happened before.
    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Resets the camera and ends the worker.
    pub(super) fn switch_off(&mut self) {
        self.reset();
        self.off = true;
    }

    /// The guest loads a register. Offsets without a register read as zero.
    pub(super) fn read(&self, offset: u32) -> u32 {
        let state = &self.state;
        match offset {
            regs::ID => regs::ID_VALUE,
            regs::VERSION => regs::VERSION_VALUE,
            regs::CAPS => {
                let sensor = bit(self.has_isp(), regs::CAPS_SENSOR | regs::CAPS_ISP);
                let auto = bit(self.is_automatic(), regs::CAPS_AUTO);
                regs::CHANNELS | MAX_PLANES_BITS | self.spec.dma.address_bits << 8 | sensor | auto
            }
            regs::SIZE_MIN => regs::SIZE_MIN_VALUE,
            regs::SIZE_MAX => regs::SIZE_MAX_VALUE,
            regs::CTRL => state.bits(regs::CTRL_ENABLE, |port| port.enable),
            regs::STATUS => {
                let active = (0..).zip(self.job.map_or([None; CHANNELS], |job| job.configs));
                state.bits(regs::STATUS_STREAMING, |port| port.stream != Stream::Idle)
                    | state.bits(regs::STATUS_PENDING, |port| port.pending.is_some())
                    | active.map(|(n, config)| bit(config.is_some(), regs::STATUS_ACTIVE << n)).sum::<u32>()
            }
            regs::TIMING => bit(self.spec.timing == Timing::Stall, regs::TIMING_STALL),
            regs::IRQ_RAW => state.irq_raw,
            regs::IRQ_ENABLE => state.irq_enable,
            regs::IRQ_STATUS => state.irq_raw & state.irq_enable,
            regs::ERR_ADDR_LO => low(state.error_address),
            regs::ERR_ADDR_HI => high(state.error_address),
            regs::ERR_INFO => state.error_info,
            regs::FRAME_INTERVAL => {
                let microseconds = state.interval().as_nanos().saturating_add(500) / 1000;
                u32::try_from(microseconds).unwrap_or(u32::MAX)
            }
            regs::PATTERN => state.scene.pattern as u32,
            regs::FLIP => {
                bit(state.scene.flip_horizontal, regs::FLIP_HORIZONTAL)
                    | bit(state.scene.flip_vertical, regs::FLIP_VERTICAL)
            }
            regs::FRAME_SEQUENCE => state.sequence,
            regs::SENSOR_LINE_LENGTH..=regs::SENSOR_BINNING => {
                state.sensor.map_or(0, |sensor| sensor.read(offset))
            }
            regs::FRAMES => self.since_reset(|counters| counters.frames),
            regs::DROPS => self.since_reset(|counters| counters.drops),
            regs::OVERFLOWS => self.since_reset(|counters| counters.overflows),
            regs::BUS_ERRORS => self.since_reset(|counters| counters.bus_errors),
            regs::SYNC_LOSSES => self.since_reset(|counters| counters.sync_losses),
            regs::CONFIG_ERRORS => self.since_reset(|counters| counters.config_errors),
            regs::IRQS => self.since_reset(|counters| counters.irqs),
            regs::IRQS_LATE => self.since_reset(|counters| counters.irqs_late),
            _ => channel_register(offset).map_or(0, |(n, register)| state.channels[n].read(register)),
        }
    }

    /// The guest stores to a register. True if the worker may have something to do now.
    pub(super) fn write(&mut self, offset: u32, value: u32, now: Instant) -> bool {
        match offset {
            regs::CTRL if value & regs::CTRL_RESET != 0 => self.reset(),
            regs::CTRL => self.enable(value, now),
            regs::IRQ_ENABLE => {
                let before = self.read(regs::IRQ_STATUS);
                self.state.irq_enable = value & EVENTS;
                self.raise_if_gained(before);
                return false;
            }
            regs::IRQ_STATUS => {
                self.state.irq_raw &= !value;
                let events = self.publish_held(now);
                self.event(events);
            }
            regs::FRAME_INTERVAL => {
                self.state.set_interval(value);
                self.change_clock(now);
            }
            regs::SENSOR_EXPOSURE | regs::SENSOR_ANALOGUE_GAIN if self.is_automatic() => return false,
            regs::SENSOR_LINE_LENGTH..=regs::SENSOR_BINNING => {
                if let Some(sensor) = &mut self.state.sensor {
                    sensor.write(offset, value);
                    self.change_clock(now);
                }
            }
            regs::PATTERN => {
                // A value that is no pattern leaves the sensor as it is.
                let scene = &mut self.state.scene;
                scene.pattern = Pattern::from_number(value).unwrap_or(scene.pattern);
                return false;
            }
            regs::FLIP => {
                self.state.scene.flip_horizontal = value & regs::FLIP_HORIZONTAL != 0;
                self.state.scene.flip_vertical = value & regs::FLIP_VERTICAL != 0;
                return false;
            }
            _ => {
                return match channel_register(offset) {
                    // Nobody is there to scale.
                    Some((_, regs::CH_INPUT_SIZE..=regs::CH_CROP_SIZE)) if !self.has_isp() => false,
                    Some((n, register)) => self.state.channels[n].write(register, value),
                    None => false,
                };
            }
        }
        true
    }

    /// As [`read`](Self::read), for the guest, with the faults of a plan.
    pub(super) fn guest_reads(&mut self, register: u32) -> u32 {
        let value = self.faults.handle().read_register(register, self.read(register));
        if self.faults.storms(register) {
            self.raise();
        }
        value
    }

    /// As [`write`](Self::write), for the guest, with the faults of a plan.
    pub(super) fn guest_writes(&mut self, register: u32, value: u32, now: Instant) -> bool {
        let RegisterWrite { value, spurious } = self.faults.handle().write_register(register, value);
        let wakes = value.is_some_and(|value| self.write(register, value, now));
        if spurious {
            self.raise();
        }
        if self.faults.repeats(register) {
            self.raise();
        }
        wakes
    }

    /// What the worker has to do now. A frame handed out is in work until each of its channels has
    /// [`finished`](Self::finished).
    pub(super) fn poll(&mut self, now: Instant) -> Task {
        if self.off {
            return Task::Off;
        }
        let interval = self.state.interval();
        let state = &self.state;
        let mut concerned = (0..CHANNELS).filter(|channel| state.is_concerned(*channel));
        let is_ready = |channel: usize| state.channels[channel].is_ready();
        let (all_ready, any_ready) = (concerned.clone().all(is_ready), concerned.any(is_ready));
        let Some(clock) = &mut self.state.clock else {
            return Task::Wait;
        };
        if self.is_held || self.steps == Some(0) {
            return Task::Wait;
        }
        let time = match self.spec.timing {
            Timing::Stall if all_ready => clock.elapsed(now),
            Timing::Stall => return Task::Wait,
            Timing::Free => match clock.ticks(now, interval) {
                0 => return Task::WaitUntil(clock.next()),
                ticks => {
                    let (time, next) = (clock.last_tick(), clock.next());
                    if !any_ready {
                        self.underrun(ticks);
                        return Task::WaitUntil(next);
                    }
                    // The frame of a tick that came while the last was in work is made now, as if lines had waited for the
                    // ISP: it is the rate that counts, and the host may be busy for a moment. Ticks before that, which the
                    // host slept through, are lost, but not by the guest's fault.
                    self.drop_frames(ticks - 1);
                    time
                }
            },
        };
        if !all_ready {
            self.late(1);
            self.drop_frames_of(1, |port| !port.is_ready());
            if self.state.is_concerned(STATISTICS) && !self.state.channels[STATISTICS].is_ready() {
                self.state.channels[STATISTICS].dropped(1);
            }
            self.event(regs::IRQ_UNDERRUN);
        }
        let mut configs = [None; CHANNELS];
        for (channel, port) in self.state.channels.iter_mut().enumerate() {
            if channel < FRAME_CHANNELS || configs[PROCESSED].is_some() {
                configs[channel] = port.latch();
            }
        }
        let State { scene, sensor, next_sequence: sequence, params_sequence, .. } = self.state;
        let (interval, resets) = (self.state.interval(), self.resets);
        let mut job =
            Job { configs, scene, sensor, sequence, params_sequence, resets, time, interval, wrong: None };
        let fault = self.faults.begin(&mut job);
        self.state.next_sequence = job.sequence.wrapping_add(1);
        self.job = Some(job);
        self.steps = self.steps.map(|steps| steps - 1);
        match fault {
            Some(FrameStart::Reset) => self.reset(),
            Some(FrameStart::Spurious) => self.raise(),
            Some(FrameStart::Stuck | FrameStart::Drift { .. }) | None => {}
        }
        Task::Frame(job)
    }

    /// The configurations of the frame in work are right for the channels of which a bit is set in `channels`, and the
    /// frame begins.
    pub(super) fn started(&mut self, channels: u32) {
        if let Some(job) = self.job
            && !self.abandon.load(Ordering::Relaxed)
        {
            self.state.sequence = job.sequence;
            self.event((regs::IRQ_LATCHED * channels) | regs::IRQ_FRAME_START);
        }
    }

    /// A channel's frame in work ended.
    pub(super) fn finished(&mut self, channel: usize, outcome: Outcome, now: Instant) {
        let Some(job) = &mut self.job else { return };
        let Some(config) = job.configs[channel].take() else { return };
        let ended = *job;
        if ended.configs == [None; CHANNELS] {
            self.job = None;
        }
        // After a reset the frame is not the registers' any more.
        let abandoned = self.abandon.load(Ordering::Relaxed);
        self.abandon.store(abandoned && self.job.is_some(), Ordering::Relaxed);
        let events = if abandoned { 0 } else { self.ended(channel, &config, &ended, outcome) };
        let events = events | self.publish_held(now);
        self.event(events);
    }

    /// Moves the frames that are held back to CH_DONE_* where these are free, and stops the channels whose stopping
    /// waited for that; returns the events.
    fn publish_held(&mut self, now: Instant) -> u32 {
        let mut events = 0;
        for channel in 0..CHANNELS {
            let port = &mut self.state.channels[channel];
            let done = regs::IRQ_DONE << channel;
            if self.state.irq_raw & done == 0
                && let Some(held) = port.held.take()
            {
                port.done = held;
                events |= bit(held.fault.reason != 0, regs::IRQ_PARAMS_ERROR);
                match self.faults.interrupt(channel, held.sequence) {
                    Interrupt::Raised => events |= done,
                    // It is there, and nothing tells of it.
                    Interrupt::Lost => self.state.irq_raw |= done,
                }
            }
            if port.stream == Stream::Stopping && port.held.is_none() && !self.is_in_work(channel) {
                events |= self.stopped(channel);
                if self.state.channels[channel].enable {
                    self.start(channel, now);
                }
            }
        }
        events
    }

    /// Accounts for a channel's frame; returns its events.
    fn ended(&mut self, channel: usize, config: &FrameConfig, job: &Job, outcome: Outcome) -> u32 {
        let port = &mut self.state.channels[channel];
        let mut done = Done {
            address: config.addresses[0],
            sequence: job.sequence,
            time: job.nanoseconds(),
            ..Done::default()
        };
        match outcome {
            Outcome::Written { bytes, span, exposure } => {
                self.counters.frames += 1;
                self.counters.bytes += bytes;
                done.bytes = span;
                if let (Some(sensor), Some(exposure)) = (&mut self.state.sensor, exposure) {
                    sensor.expose(exposure);
                }
            }
            Outcome::Transferred(bytes) => {
                done.bytes = bytes;
                if channel == PARAMS {
                    self.state.params_sequence = Some(job.sequence);
                }
            }
            Outcome::BadParams(fault) => done.fault = fault,
            Outcome::Refused(refusal) => {
                port.dropped(1);
                self.counters.drops += u64::from(channel < FRAME_CHANNELS);
                return regs::IRQ_LATCHED << channel | self.refused(channel, refusal);
            }
            Outcome::Lost(events) => {
                port.dropped(1);
                self.counters.drops += u64::from(channel < FRAME_CHANNELS);
                self.counters.overflows += u64::from(events & regs::IRQ_OVERFLOW != 0);
                self.counters.sync_losses += u64::from(events & regs::IRQ_SYNC_LOSS != 0);
                return regs::IRQ_LATCHED << channel | events;
            }
            Outcome::Abandoned => return 0,
        }
        self.faults.end(channel, &mut done);
        port.hold(done);
        0
    }

    fn has_isp(&self) -> bool {
        self.spec.sensor.is_some()
    }

    /// Whether the device itself exposes.
    fn is_automatic(&self) -> bool {
        self.spec.sensor.as_ref().is_some_and(|sensor| sensor.automatic)
    }

    /// Lets this many frames begin, and then none; for None, each frame begins.
    pub(super) fn step(&mut self, frames: Option<u32>, now: Instant) {
        self.steps = frames;
        self.continue_clock(now);
    }

    /// Lets no frame begin while `is_held`.
    pub(super) fn hold(&mut self, is_held: bool, now: Instant) {
        self.is_held = is_held;
        self.continue_clock(now);
    }

    /// The sensor stood still until `now`: its next frame comes one interval later.
    fn continue_clock(&mut self, now: Instant) {
        let interval = self.state.interval();
        if let Some(clock) = &mut self.state.clock {
            clock.go_on(now, interval);
        }
    }

    /// The interval of frames is another from now on.
    fn change_clock(&mut self, now: Instant) {
        let interval = self.state.interval();
        if let Some(clock) = &mut self.state.clock {
            clock.change(now, interval);
        }
    }

    fn is_in_work(&self, channel: usize) -> bool {
        self.job.is_some_and(|job| job.configs[channel].is_some())
    }

    /// Takes CTRL's enable bits.
    fn enable(&mut self, value: u32, now: Instant) {
        let mut events = 0;
        let channels = if self.has_isp() { CHANNELS } else { FRAME_CHANNELS };
        for channel in 0..channels {
            let enable = value & (regs::CTRL_ENABLE << channel) != 0;
            let in_work = self.is_in_work(channel);
            let port = &mut self.state.channels[channel];
            port.enable = enable;
            match port.stream {
                Stream::Idle if enable => self.start(channel, now),
                Stream::Streaming if !enable && (in_work || port.held.is_some()) => {
                    port.stream = Stream::Stopping;
                }
                Stream::Streaming if !enable => events |= self.stopped(channel),
                _ => {}
            }
        }
        self.stop_clock();
        self.event(events);
    }

    fn start(&mut self, channel: usize, now: Instant) {
        self.state.channels[channel].stream = Stream::Streaming;
        if channel < FRAME_CHANNELS && self.state.clock.is_none() {
            self.state.clock = Some(FrameClock::new(now, self.state.interval()));
            self.state.next_sequence = 0;
            self.state.params_sequence = None;
        }
    }

    fn stopped(&mut self, channel: usize) -> u32 {
        let port = &mut self.state.channels[channel];
        port.stream = Stream::Idle;
        port.pending = None;
        regs::IRQ_STOPPED << channel
    }

    /// The clock, and with it the sensor, stops with the last channel of frames that streams.
    fn stop_clock(&mut self) {
        if self.state.channels[..FRAME_CHANNELS].iter().all(|port| port.stream != Stream::Streaming) {
            self.state.clock = None;
        }
    }

    /// Puts the registers into their reset state; a frame in work is abandoned.
    pub(super) fn reset(&mut self) {
        self.state = State::new(&self.spec);
        self.resets = self.resets.wrapping_add(1);
        self.counters_at_reset = self.counters;
        self.abandon.store(self.job.is_some(), Ordering::Relaxed);
    }

    /// The clock ticked `ticks` times, and no channel had a buffer, or the last frame was held back.
    fn underrun(&mut self, ticks: u32) {
        self.late(ticks);
        self.drop_frames(ticks);
        self.event(regs::IRQ_UNDERRUN);
    }

    /// Ticks are late if a frame is held back.
    fn late(&mut self, ticks: u32) {
        if self.state.is_any_held() {
            self.counters.irqs_late += u64::from(ticks);
        }
    }

    /// The next `frames` of the sensor's are dropped by all channels of frames.
    fn drop_frames(&mut self, frames: u32) {
        self.drop_frames_of(frames, |_| true);
        self.state.next_sequence = self.state.next_sequence.wrapping_add(frames);
    }

    /// Of the streaming channels of frames those for which `is` holds drop `frames`.
    fn drop_frames_of(&mut self, frames: u32, is: impl Fn(&ChannelRegisters) -> bool) {
        for port in &mut self.state.channels[..FRAME_CHANNELS] {
            if port.stream == Stream::Streaming && is(port) {
                port.dropped(frames);
                self.counters.drops += u64::from(frames);
            }
        }
    }

    fn refused(&mut self, channel: usize, refusal: Refusal) -> u32 {
        let (plane, address) = match refusal {
            Refusal::Bus { plane, address } => (plane, address),
            // The frame's own refusal is told.
            Refusal::NoFrame => return 0,
            _ => {
                self.counters.config_errors += 1;
                return regs::IRQ_CONFIG_ERROR;
            }
        };
        self.counters.bus_errors += 1;
        if self.state.irq_raw & regs::IRQ_BUS_ERROR == 0 {
            self.state.error_address = address;
            self.state.error_info = u32::from_le_bytes([plane, channel.to_le_bytes()[0], 0, 0]);
        }
        regs::IRQ_BUS_ERROR
    }

    fn event(&mut self, events: u32) {
        let before = self.read(regs::IRQ_STATUS);
        self.state.irq_raw |= events;
        self.raise_if_gained(before);
    }

    fn raise_if_gained(&mut self, before: u32) {
        if self.read(regs::IRQ_STATUS) & !before != 0 {
            self.raise();
        }
    }

    /// One edge.
    pub(super) fn raise(&mut self) {
        self.counters.irqs += 1;
        self.faults.handle().interrupted();
        self.irq.raise();
    }

    /// A counter's register: it wraps.
    fn since_reset(&self, counter: impl Fn(&Counters) -> u64) -> u32 {
        low(counter(&self.counters) - counter(&self.counters_at_reset))
    }
}

/// CAPS' field of the number of planes.
#[expect(clippy::cast_possible_truncation, reason = "three planes")]
const MAX_PLANES_BITS: u32 = (MAX_PLANES as u32) << 4;

/// The channel whose register lies at `offset`, and that register of channel 0.
fn channel_register(offset: u32) -> Option<(usize, u32)> {
    let at = offset.checked_sub(regs::CH_FORMAT)?;
    let channel = (at / regs::CHANNEL_SPACING) as usize;
    (channel < CHANNELS).then_some((channel, regs::CH_FORMAT + at % regs::CHANNEL_SPACING))
}

fn clamp_interval(microseconds: u32) -> u32 {
    microseconds.clamp(regs::FRAME_INTERVAL_MIN, regs::FRAME_INTERVAL_MAX)
}

fn bit(condition: bool, mask: u32) -> u32 {
    if condition { mask } else { 0 }
}

#[cfg(test)]
mod tests;
