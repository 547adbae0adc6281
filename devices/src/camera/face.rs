//! The register face: what the registers of [`regs`] mean, as a state machine without threads or frames.
//!
//! The guest comes in by [`Face::read`] and [`Face::write`], the worker by [`Face::poll`], [`Face::started`] and
//! [`Face::finished`]. Time is handed in. Every call is short: the caller holds a lock meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    CameraSpec, Counters, Timing,
    channel::{FrameConfig, Refusal},
    clock::FrameClock,
    format::MAX_PLANES,
    regs,
    scene::Pattern,
};
use crate::irq::IrqLine;

const EVENTS: u32 = regs::IRQ_FRAME_START
    | regs::IRQ_FRAME_DONE
    | regs::IRQ_LATCHED
    | regs::IRQ_STOPPED
    | regs::IRQ_OVERFLOW
    | regs::IRQ_CONFIG_ERROR
    | regs::IRQ_BUS_ERROR
    | regs::IRQ_SYNC_LOSS
    | regs::IRQ_UNDERRUN;

/// Number of registers from CH_FORMAT to CH_LEN2, holes included.
const CHANNEL_REGISTERS: usize = ((regs::CH_LEN2 - regs::CH_FORMAT) / 4 + 1) as usize;

/// What the worker has to do.
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

/// A frame to make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Job {
    pub(super) config: FrameConfig,
    pub(super) pattern: Pattern,
    pub(super) sequence: u32,
    /// Start of frame, since streaming began.
    pub(super) time: Duration,
}

/// How a frame ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    /// It was written.
    Written {
        /// Visible bytes.
        bytes: u64,
        /// With padding between the lines.
        span: u32,
    },
    /// Its configuration was refused.
    Refused(Refusal),
    /// It was abandoned, because the camera was reset meanwhile.
    Abandoned,
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Idle,
    Streaming(FrameClock),
    /// CTRL_ENABLE was cleared while a frame was in work or held back.
    Stopping,
}

/// What DONE_* say of a frame.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    address: u64,
    bytes: u32,
    sequence: u32,
    time: u64,
}

/// The state of the registers: all that a reset puts back.
#[derive(Debug)]
struct State {
    enable: bool,
    stream: Stream,
    irq_raw: u32,
    irq_enable: u32,
    error_address: u64,
    error_plane: u8,
    frame_interval: u32,
    pattern: Pattern,
    channel: [u32; CHANNEL_REGISTERS],
    pending: Option<FrameConfig>,
    next_sequence: u32,
    done: Done,
    /// A frame that was written before the last one was acknowledged: DONE_* take it then.
    held: Option<Done>,
}

/// The register face.
#[derive(Debug)]
pub(super) struct Face {
    spec: CameraSpec,
    irq: IrqLine,
    off: bool,
    /// The frame that the worker is making, of which `state` may know nothing any more.
    job: Option<Job>,
    /// Tells the worker to abandon its frame.
    abandon: Arc<AtomicBool>,
    counters: Counters,
    /// The counters at the last reset.
    counters_at_reset: Counters,
    state: State,
}

impl State {
    fn new(spec: &CameraSpec) -> Self {
        Self {
            enable: false,
            stream: Stream::Idle,
            irq_raw: 0,
            irq_enable: 0,
            error_address: 0,
            error_plane: 0,
            frame_interval: clamp_interval(spec.frame_interval),
            pattern: spec.scene,
            channel: [0; CHANNEL_REGISTERS],
            pending: None,
            next_sequence: 0,
            done: Done::default(),
            held: None,
        }
    }

    fn is_acknowledged(&self) -> bool {
        self.irq_raw & regs::IRQ_FRAME_DONE == 0
    }

    fn interval(&self) -> Duration {
        Duration::from_micros(self.frame_interval.into())
    }

    fn frame_config(&self) -> FrameConfig {
        let get = |register: u32| self.channel[channel_index(register)];
        let wide = |low| u64::from(get(low)) | u64::from(get(low + 4)) << 32;
        let size = get(regs::CH_SIZE);
        FrameConfig {
            fourcc: get(regs::CH_FORMAT),
            width: size & 0xffff,
            height: size >> 16,
            strides: [regs::CH_STRIDE0, regs::CH_STRIDE1, regs::CH_STRIDE2].map(get),
            addresses: [regs::CH_ADDR0_LO, regs::CH_ADDR1_LO, regs::CH_ADDR2_LO].map(wide),
            lengths: [regs::CH_LEN0, regs::CH_LEN1, regs::CH_LEN2].map(get),
        }
    }
}

impl Face {
    pub(super) fn new(spec: CameraSpec, irq: IrqLine) -> Self {
        Self {
            state: State::new(&spec),
            spec,
            irq,
            off: false,
            job: None,
            abandon: Arc::default(),
            counters: Counters::default(),
            counters_at_reset: Counters::default(),
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
            regs::CAPS => 1 | MAX_PLANES_BITS | self.spec.address_bits << 8,
            regs::SIZE_MIN => regs::SIZE_MIN_VALUE,
            regs::SIZE_MAX => regs::SIZE_MAX_VALUE,
            regs::CTRL => bit(state.enable, regs::CTRL_ENABLE),
            regs::STATUS => {
                bit(!matches!(state.stream, Stream::Idle), regs::STATUS_STREAMING)
                    | bit(self.job.is_some(), regs::STATUS_ACTIVE)
                    | bit(state.pending.is_some(), regs::STATUS_PENDING)
            }
            regs::TIMING => bit(self.spec.timing == Timing::Stall, regs::TIMING_STALL),
            regs::IRQ_RAW => state.irq_raw,
            regs::IRQ_ENABLE => state.irq_enable,
            regs::IRQ_STATUS => state.irq_raw & state.irq_enable,
            regs::ERR_ADDR_LO => low(state.error_address),
            regs::ERR_ADDR_HI => high(state.error_address),
            regs::ERR_INFO => state.error_plane.into(),
            regs::FRAME_INTERVAL => state.frame_interval,
            regs::PATTERN => state.pattern as u32,
            regs::FRAMES => self.since_reset(|counters| counters.frames),
            regs::DROPS => self.since_reset(|counters| counters.drops),
            regs::OVERFLOWS => self.since_reset(|counters| counters.overflows),
            regs::BUS_ERRORS => self.since_reset(|counters| counters.bus_errors),
            regs::SYNC_LOSSES => self.since_reset(|counters| counters.sync_losses),
            regs::CONFIG_ERRORS => self.since_reset(|counters| counters.config_errors),
            regs::IRQS => self.since_reset(|counters| counters.irqs),
            regs::IRQS_LATE => self.since_reset(|counters| counters.irqs_late),
            regs::CH_FORMAT..=regs::CH_LEN2 if offset.is_multiple_of(4) => {
                state.channel[channel_index(offset)]
            }
            regs::DONE_ADDR_LO => low(state.done.address),
            regs::DONE_ADDR_HI => high(state.done.address),
            regs::DONE_BYTES => state.done.bytes,
            regs::DONE_SEQUENCE => state.done.sequence,
            regs::DONE_TIME_LO => low(state.done.time),
            regs::DONE_TIME_HI => high(state.done.time),
            _ => 0,
        }
    }

    /// The guest stores to a register. True if the worker may have something to do now.
    pub(super) fn write(&mut self, offset: u32, value: u32, now: Instant) -> bool {
        match offset {
            regs::CTRL if value & regs::CTRL_RESET != 0 => self.reset(),
            regs::CTRL => self.enable(value & regs::CTRL_ENABLE != 0, now),
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
                self.state.frame_interval = clamp_interval(value);
                let interval = self.state.interval();
                if let Stream::Streaming(clock) = &mut self.state.stream {
                    clock.change(now, interval);
                }
            }
            regs::PATTERN => {
                // A value that is no pattern leaves the sensor as it is.
                self.state.pattern = Pattern::from_register(value).unwrap_or(self.state.pattern);
                return false;
            }
            regs::CH_FORMAT..=regs::CH_LEN2 if offset.is_multiple_of(4) && offset != CHANNEL_HOLE => {
                self.state.channel[channel_index(offset)] = value;
                return false;
            }
            regs::CH_COMMIT if value & 1 != 0 => self.state.pending = Some(self.state.frame_config()),
            _ => return false,
        }
        true
    }

    /// What the worker has to do now. A frame handed out is in work until [`finished`](Self::finished).
    pub(super) fn poll(&mut self, now: Instant) -> Task {
        if self.off {
            return Task::Off;
        }
        let ready = self.state.pending.is_some() && self.state.held.is_none();
        let interval = self.state.interval();
        let Stream::Streaming(clock) = &mut self.state.stream else {
            return Task::Wait;
        };
        let time = match self.spec.timing {
            Timing::Stall if ready => clock.elapsed(now),
            Timing::Stall => return Task::Wait,
            Timing::Free => match clock.ticks(now, interval) {
                0 => return Task::WaitUntil(clock.next()),
                ticks => {
                    let (time, next) = (clock.last_tick(), clock.next());
                    if !ready {
                        self.underrun(ticks);
                        return Task::WaitUntil(next);
                    }
                    // Ticks that the host slept through are lost as well, but not by the guest's fault.
                    self.drop_frames(ticks - 1);
                    time
                }
            },
        };
        let Some(config) = self.state.pending.take() else {
            return Task::Wait;
        };
        let job = Job { config, pattern: self.state.pattern, sequence: self.state.next_sequence, time };
        self.state.next_sequence = job.sequence.wrapping_add(1);
        self.job = Some(job);
        Task::Frame(job)
    }

    /// The configuration of the frame in work is right, and the frame begins.
    pub(super) fn started(&mut self) {
        if !self.abandon.load(Ordering::Relaxed) {
            self.event(regs::IRQ_LATCHED | regs::IRQ_FRAME_START);
        }
    }

    /// The frame in work ended.
    pub(super) fn finished(&mut self, outcome: Outcome, now: Instant) {
        let Some(job) = self.job.take() else { return };
        // After a reset the frame is not the registers' any more.
        let abandoned = self.abandon.swap(false, Ordering::Relaxed);
        let events = if abandoned { 0 } else { self.ended(&job, outcome, now) };
        let events = events | self.publish_held(now);
        self.event(events);
    }

    /// Moves the frame that is held back, if there is one, to DONE_* when these are free, and stops if that was what
    /// stopping waited for; returns the events.
    fn publish_held(&mut self, now: Instant) -> u32 {
        let mut events = 0;
        if self.state.is_acknowledged()
            && let Some(done) = self.state.held.take()
        {
            self.state.done = done;
            events |= regs::IRQ_FRAME_DONE;
        }
        if matches!(self.state.stream, Stream::Stopping) && self.job.is_none() && self.state.held.is_none() {
            events |= self.stopped();
            if self.state.enable {
                self.start(now);
            }
        }
        events
    }

    /// Accounts for a frame; returns its events.
    fn ended(&mut self, job: &Job, outcome: Outcome, now: Instant) -> u32 {
        let interval = self.state.interval();
        if let (Timing::Free, Stream::Streaming(clock)) = (self.spec.timing, &mut self.state.stream) {
            match clock.ticks(now, interval) {
                0 => {}
                ticks => self.underrun(ticks),
            }
        }
        match outcome {
            Outcome::Written { bytes, span } => {
                self.counters.frames += 1;
                self.counters.bytes += bytes;
                self.state.held = Some(Done {
                    address: job.config.addresses[0],
                    bytes: span,
                    sequence: job.sequence,
                    time: u64::try_from(job.time.as_nanos()).unwrap_or(u64::MAX),
                });
                0
            }
            Outcome::Refused(refusal) => {
                self.counters.drops += 1;
                regs::IRQ_LATCHED | self.refused(refusal)
            }
            Outcome::Abandoned => 0,
        }
    }

    fn enable(&mut self, enable: bool, now: Instant) {
        let was = std::mem::replace(&mut self.state.enable, enable);
        match self.state.stream {
            Stream::Idle if enable => self.start(now),
            Stream::Streaming(_) if was && !enable => {
                if self.job.is_some() || self.state.held.is_some() {
                    self.state.stream = Stream::Stopping;
                } else {
                    let events = self.stopped();
                    self.event(events);
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, now: Instant) {
        self.state.stream = Stream::Streaming(FrameClock::new(now, self.state.interval()));
        self.state.next_sequence = 0;
    }

    fn stopped(&mut self) -> u32 {
        self.state.stream = Stream::Idle;
        self.state.pending = None;
        regs::IRQ_STOPPED
    }

    fn reset(&mut self) {
        self.state = State::new(&self.spec);
        self.counters_at_reset = self.counters;
        self.abandon.store(self.job.is_some(), Ordering::Relaxed);
    }

    /// The clock ticked `ticks` times and there was no buffer, or the last frame was held back or in work.
    fn underrun(&mut self, ticks: u32) {
        if self.state.held.is_some() {
            self.counters.irqs_late += u64::from(ticks);
        }
        self.drop_frames(ticks);
        self.event(regs::IRQ_UNDERRUN);
    }

    fn drop_frames(&mut self, frames: u32) {
        self.counters.drops += u64::from(frames);
        self.state.next_sequence = self.state.next_sequence.wrapping_add(frames);
    }

    fn refused(&mut self, refusal: Refusal) -> u32 {
        let Refusal::Bus { plane, address } = refusal else {
            self.counters.config_errors += 1;
            return regs::IRQ_CONFIG_ERROR;
        };
        self.counters.bus_errors += 1;
        if self.state.irq_raw & regs::IRQ_BUS_ERROR == 0 {
            self.state.error_address = address;
            self.state.error_plane = plane;
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
            self.counters.irqs += 1;
            self.irq.raise();
        }
    }

    /// A counter's register: it wraps.
    fn since_reset(&self, counter: impl Fn(&Counters) -> u64) -> u32 {
        low(counter(&self.counters) - counter(&self.counters_at_reset))
    }
}

/// CAPS' field of the number of planes.
#[expect(clippy::cast_possible_truncation, reason = "three planes")]
const MAX_PLANES_BITS: u32 = (MAX_PLANES as u32) << 4;

/// Between the strides and the addresses there is no register.
const CHANNEL_HOLE: u32 = regs::CH_STRIDE2 + 4;

fn channel_index(register: u32) -> usize {
    ((register - regs::CH_FORMAT) / 4) as usize
}

fn clamp_interval(microseconds: u32) -> u32 {
    microseconds.clamp(regs::FRAME_INTERVAL_MIN, regs::FRAME_INTERVAL_MAX)
}

fn bit(condition: bool, mask: u32) -> u32 {
    if condition { mask } else { 0 }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    low(value >> 32)
}

#[cfg(test)]
#[path = "face_tests.rs"]
mod tests;
