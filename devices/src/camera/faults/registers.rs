//! The effects of faults on the camera's registers and interrupts.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::points::{FrameEnd, FrameStart, Irq, SensorLink};
use crate::{
    camera::{
        channel_registers::Done,
        job::{FrameFault, FrameOutcome, Job},
        regs,
    },
    faults::{Event, FaultHandle, FaultPoint},
};

/// How often a camera that is stuck looks whether it was reset.
const STUCK: Duration = Duration::from_millis(1);

/// What becomes of the interrupt of a frame that is done.
pub(in crate::camera) enum Interrupt {
    Raised,
    Lost,
}

/// What goes wrong with the registers.
#[derive(Debug)]
pub(in crate::camera) struct RegisterFaults {
    handle: FaultHandle,
    /// Frames for which the link is still lost.
    link_lost: u32,
    /// Interrupts that reads of IRQ_STATUS still raise.
    storm: u32,
    /// Interrupts that writes of IRQ_STATUS still raise.
    again: u32,
    drift: Drift,
    /// Frames of the channel until a late interrupt comes.
    late: [Option<u32>; regs::CHANNELS as usize],
}

impl RegisterFaults {
    pub(in crate::camera) fn new(handle: FaultHandle) -> Self {
        let late = [None; regs::CHANNELS as usize];
        Self { handle, link_lost: 0, storm: 0, again: 0, drift: Drift::default(), late }
    }

    /// The plan of faults, for the guest's accesses.
    pub(in crate::camera) fn handle(&self) -> &FaultHandle {
        &self.handle
    }

    /// A frame begins. Returns the fault, if the registers must do a part of it.
    pub(in crate::camera) fn begin(&mut self, job: &mut Job) -> Option<FrameStart> {
        if !self.handle.is_some() {
            return None;
        }
        job.time = self.drift.shown(job.time);
        if self.link_lost > 0 {
            self.link_lost -= 1;
            job.wrong = Some(FrameFault::LinkLost { first: false });
            return None;
        }
        match self.consult(job.sequence) {
            Some(SensorLink::Skip { frames }) => job.sequence = job.sequence.wrapping_add(frames),
            Some(SensorLink::LinkLoss { frames }) => {
                self.link_lost = frames - 1;
                job.wrong = Some(FrameFault::LinkLost { first: true });
                return None;
            }
            None => {}
        }
        let fault = self.consult(job.sequence)?;
        match fault {
            FrameStart::Stuck => job.wrong = Some(FrameFault::Stuck),
            FrameStart::Drift { ppm } => self.drift.ppm = ppm,
            FrameStart::Reset | FrameStart::Spurious => {}
        }
        Some(fault)
    }

    /// What goes wrong with frame `sequence`.
    fn consult<P: FaultPoint>(&self, sequence: u32) -> Option<P> {
        self.handle.consult(Event::of_frame(sequence)).map(|fault| fault.action)
    }

    /// What goes wrong with frame `sequence` of `channel`.
    fn consult_channel<P: FaultPoint>(&self, sequence: u32, channel: usize) -> Option<P> {
        self.handle.consult(Event::of_frame(sequence).on_channel(channel)).map(|fault| fault.action)
    }

    /// The device is about to report a frame of `channel`.
    pub(in crate::camera) fn end(&self, channel: usize, done: &mut Done) {
        match self.consult_channel(done.sequence, channel) {
            Some(FrameEnd::Timestamp { nanoseconds }) => {
                done.time = done.time.wrapping_add_signed(nanoseconds);
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a register wraps")]
            Some(FrameEnd::Sequence { add }) => done.sequence = done.sequence.wrapping_add(add as u32),
            None => {}
        }
    }

    /// IRQ_DONE of `channel` is about to be raised for frame `sequence`.
    pub(in crate::camera) fn interrupt(&mut self, channel: usize, sequence: u32) -> Interrupt {
        if let Some(left) = &mut self.late[channel] {
            *left -= 1;
            if *left > 0 {
                return Interrupt::Lost;
            }
            self.late[channel] = None;
            return Interrupt::Raised;
        }
        match self.consult_channel(sequence, channel) {
            None => Interrupt::Raised,
            Some(Irq::Lose) => Interrupt::Lost,
            Some(Irq::Late { frames }) => {
                self.late[channel] = Some(frames);
                Interrupt::Lost
            }
            Some(Irq::Duplicate) => {
                self.again = self.again.saturating_add(1);
                Interrupt::Raised
            }
            Some(Irq::Storm { count }) => {
                self.storm = self.storm.saturating_add(count);
                Interrupt::Raised
            }
        }
    }

    /// Whether a read of `register` raises the interrupt.
    pub(in crate::camera) fn storms(&mut self, register: u32) -> bool {
        let storms = register == regs::IRQ_STATUS && self.storm > 0;
        self.storm -= u32::from(storms);
        storms
    }

    /// Whether a write to `register` raises the interrupt again.
    pub(in crate::camera) fn repeats(&mut self, register: u32) -> bool {
        let repeats = register == regs::IRQ_STATUS && self.again > 0;
        self.again -= u32::from(repeats);
        repeats
    }
}

/// A clock that is fast, or slow, from some time on.
#[derive(Debug, Default)]
struct Drift {
    ppm: i64,
    /// The time of the last reading, and its value.
    last: Duration,
    shown: Duration,
}

impl Drift {
    /// What the clock shows at `time`. It shows nothing wrong when it starts over.
    fn shown(&mut self, time: Duration) -> Duration {
        let Some(passed) = time.checked_sub(self.last) else {
            *self = Self { ppm: self.ppm, last: time, shown: time };
            return time;
        };
        let nanoseconds = i128::try_from(passed.as_nanos()).unwrap_or(i128::MAX >> 21);
        let shown = nanoseconds * (1_000_000 + i128::from(self.ppm)) / 1_000_000;
        self.shown += Duration::from_nanos(u64::try_from(shown).unwrap_or(0));
        self.last = time;
        self.shown
    }
}

/// What becomes of all channels' frames, if something is wrong with all of them.
pub(in crate::camera) fn whole_frame(wrong: FrameFault, abort: &AtomicBool) -> FrameOutcome {
    match wrong {
        FrameFault::LinkLost { first: true } => FrameOutcome::Lost(regs::IRQ_SYNC_LOSS),
        FrameFault::LinkLost { first: false } => FrameOutcome::Lost(0),
        FrameFault::Stuck => {
            while !abort.load(Ordering::Relaxed) {
                thread::sleep(STUCK);
            }
            FrameOutcome::Abandoned
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_drifts_from_where_it_is_and_not_back() {
        let seconds = Duration::from_secs;
        let mut drift = Drift::default();
        assert_eq!(drift.shown(seconds(10)), seconds(10));
        drift.ppm = 100_000;
        assert_eq!(drift.shown(seconds(20)), seconds(21));
        drift.ppm = -500_000;
        assert_eq!(drift.shown(seconds(24)), seconds(23));
        assert_eq!(drift.shown(seconds(1)), seconds(1), "another stream");
        assert_eq!(drift.shown(seconds(3)), seconds(2));
    }
}
