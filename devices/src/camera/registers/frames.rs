//! Frames in the register file: when one begins, which channels take part, and what the registers show when it ends.

use std::{sync::atomic::Ordering, time::Instant};

use super::state::{RegisterFile, State, bit};
use crate::camera::{
    channel_registers::{ChannelRegisters, Done, Stream},
    channels::{CHANNELS, FRAME_CHANNELS, PARAMS, PROCESSED, STATISTICS},
    clock::FrameClock,
    faults::{FrameStart, Interrupt},
    frame_config::FrameConfig,
    job::{FrameOutcome, Job},
    regs,
    spec::Timing,
    transfer::Refusal,
};

/// The next thing for the worker to do.
#[expect(
    clippy::large_enum_variant,
    reason = "it is not stored, and a box would be an allocation for each frame"
)]
#[derive(Debug, PartialEq)]
pub(in crate::camera) enum Task {
    /// Make a frame.
    Frame(Job),
    /// Wait until this time, or until a register is written.
    WaitUntil(Instant),
    /// Wait until a register is written.
    Wait,
    /// End, because the camera was switched off.
    Off,
}

impl RegisterFile {
    /// The next thing for the worker to do. A frame that is handed out is in work until each of its channels is
    /// [`finished`](Self::finished).
    pub(in crate::camera) fn poll(&mut self, now: Instant) -> Task {
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
                    // The frame of the last tick is made late, if the frame before was still in work at the tick. So the rate
                    // stays right when the host is busy for a moment. The frames of earlier ticks are dropped.
                    self.drop_frames(ticks - 1);
                    time
                }
            },
        };
        if !all_ready {
            self.late(1);
            self.drop_frames_of(1, |registers| !registers.is_ready());
            if self.state.is_concerned(STATISTICS) && !self.state.channels[STATISTICS].is_ready() {
                self.state.channels[STATISTICS].dropped(1);
            }
            self.event(regs::IRQ_UNDERRUN);
        }
        let mut configs = [None; CHANNELS];
        for (channel, registers) in self.state.channels.iter_mut().enumerate() {
            if channel < FRAME_CHANNELS || configs[PROCESSED].is_some() {
                configs[channel] = registers.latch();
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

    /// The frame in work begins. `channels` has a bit for each channel whose configuration is valid.
    pub(in crate::camera) fn started(&mut self, channels: u32) {
        if let Some(job) = self.job
            && !self.abandon.load(Ordering::Relaxed)
        {
            self.state.sequence = job.sequence;
            self.event((regs::IRQ_LATCHED * channels) | regs::IRQ_FRAME_START);
        }
    }

    /// The frame in work of a channel ended.
    pub(in crate::camera) fn finished(&mut self, channel: usize, outcome: FrameOutcome, now: Instant) {
        let Some(job) = &mut self.job else { return };
        let Some(config) = job.configs[channel].take() else { return };
        let ended = *job;
        if ended.configs == [None; CHANNELS] {
            self.job = None;
        }
        // After a reset the frame is no longer part of the registers.
        let abandoned = self.abandon.load(Ordering::Relaxed);
        self.abandon.store(abandoned && self.job.is_some(), Ordering::Relaxed);
        let events = if abandoned { 0 } else { self.ended(channel, &config, &ended, outcome) };
        let events = events | self.publish_held(now);
        self.event(events);
    }

    /// Moves frames that are held back to CH_DONE_* where the frame before is acknowledged. Then it stops the channels that
    /// waited for that. Returns the events.
    pub(super) fn publish_held(&mut self, now: Instant) -> u32 {
        let mut events = 0;
        for channel in 0..CHANNELS {
            let registers = &mut self.state.channels[channel];
            let done = regs::IRQ_DONE << channel;
            if self.state.irq_raw & done == 0
                && let Some(held) = registers.held.take()
            {
                registers.done = held;
                events |= bit(held.fault.reason != 0, regs::IRQ_PARAMS_ERROR);
                match self.faults.interrupt(channel, held.sequence) {
                    Interrupt::Raised => events |= done,
                    // The event is set without an interrupt.
                    Interrupt::Lost => self.state.irq_raw |= done,
                }
            }
            if registers.stream == Stream::Stopping && registers.held.is_none() && !self.is_in_work(channel) {
                events |= self.stopped(channel);
                if self.state.channels[channel].enable {
                    self.start(channel, now);
                }
            }
        }
        events
    }

    /// Counts the frame of a channel, and holds it back for [`publish_held`](Self::publish_held). Returns its events.
    pub(super) fn ended(
        &mut self,
        channel: usize,
        config: &FrameConfig,
        job: &Job,
        outcome: FrameOutcome,
    ) -> u32 {
        let registers = &mut self.state.channels[channel];
        let mut done = Done {
            address: config.addresses[0],
            sequence: job.sequence,
            time: job.nanoseconds(),
            ..Done::default()
        };
        match outcome {
            FrameOutcome::Written { bytes, span, exposure } => {
                self.counters.frames += 1;
                self.counters.bytes += bytes;
                done.bytes = span;
                if let (Some(sensor), Some(exposure)) = (&mut self.state.sensor, exposure) {
                    sensor.expose(exposure);
                }
            }
            FrameOutcome::Transferred(bytes) => {
                done.bytes = bytes;
                if channel == PARAMS {
                    self.state.params_sequence = Some(job.sequence);
                }
            }
            FrameOutcome::BadParams(fault) => done.fault = fault,
            FrameOutcome::Refused(refusal) => {
                registers.dropped(1);
                self.counters.drops += u64::from(channel < FRAME_CHANNELS);
                return regs::IRQ_LATCHED << channel | self.refused(channel, refusal);
            }
            FrameOutcome::Lost(events) => {
                registers.dropped(1);
                self.counters.drops += u64::from(channel < FRAME_CHANNELS);
                self.counters.overflows += u64::from(events & regs::IRQ_OVERFLOW != 0);
                self.counters.sync_losses += u64::from(events & regs::IRQ_SYNC_LOSS != 0);
                return regs::IRQ_LATCHED << channel | events;
            }
            FrameOutcome::Abandoned => return 0,
        }
        self.faults.end(channel, &mut done);
        registers.hold(done);
        0
    }

    pub(super) fn is_in_work(&self, channel: usize) -> bool {
        self.job.is_some_and(|job| job.configs[channel].is_some())
    }

    /// Applies the enable bits of CTRL.
    pub(super) fn enable(&mut self, value: u32, now: Instant) {
        let mut events = 0;
        let channels = if self.has_isp() { CHANNELS } else { FRAME_CHANNELS };
        for channel in 0..channels {
            let enable = value & (regs::CTRL_ENABLE << channel) != 0;
            let in_work = self.is_in_work(channel);
            let registers = &mut self.state.channels[channel];
            registers.enable = enable;
            match registers.stream {
                Stream::Idle if enable => self.start(channel, now),
                Stream::Streaming if !enable && (in_work || registers.held.is_some()) => {
                    registers.stream = Stream::Stopping;
                }
                Stream::Streaming if !enable => events |= self.stopped(channel),
                _ => {}
            }
        }
        self.stop_clock();
        self.event(events);
    }

    pub(super) fn start(&mut self, channel: usize, now: Instant) {
        self.state.channels[channel].stream = Stream::Streaming;
        if channel < FRAME_CHANNELS && self.state.clock.is_none() {
            self.state.clock = Some(FrameClock::new(now, self.state.interval()));
            self.state.next_sequence = 0;
            self.state.params_sequence = None;
        }
    }

    pub(super) fn stopped(&mut self, channel: usize) -> u32 {
        let registers = &mut self.state.channels[channel];
        registers.stream = Stream::Idle;
        registers.pending = None;
        regs::IRQ_STOPPED << channel
    }

    /// Stops the clock, and so the sensor, when no channel of frames streams any more.
    pub(super) fn stop_clock(&mut self) {
        if self.state.channels[..FRAME_CHANNELS].iter().all(|registers| registers.stream != Stream::Streaming)
        {
            self.state.clock = None;
        }
    }

    /// The clock ticked `ticks` times while no channel was ready for a frame.
    pub(super) fn underrun(&mut self, ticks: u32) {
        self.late(ticks);
        self.drop_frames(ticks);
        self.event(regs::IRQ_UNDERRUN);
    }

    /// Counts ticks as late if a frame is held back.
    pub(super) fn late(&mut self, ticks: u32) {
        if self.state.is_any_held() {
            self.counters.irqs_late += u64::from(ticks);
        }
    }

    /// Drops the next `frames` of the sensor in all channels of frames.
    pub(super) fn drop_frames(&mut self, frames: u32) {
        self.drop_frames_of(frames, |_| true);
        self.state.next_sequence = self.state.next_sequence.wrapping_add(frames);
    }

    /// Drops `frames` in those streaming channels of frames for which `is` holds.
    pub(super) fn drop_frames_of(&mut self, frames: u32, is: impl Fn(&ChannelRegisters) -> bool) {
        for registers in &mut self.state.channels[..FRAME_CHANNELS] {
            if registers.stream == Stream::Streaming && is(registers) {
                registers.dropped(frames);
                self.counters.drops += u64::from(frames);
            }
        }
    }

    pub(super) fn refused(&mut self, channel: usize, refusal: Refusal) -> u32 {
        let (plane, address) = match refusal {
            Refusal::Bus { plane, address } => (plane, address),
            // The frame itself is refused too, and reports the error.
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
}
