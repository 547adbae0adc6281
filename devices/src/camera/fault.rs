//! Where the camera's registers consult a plan of faults, and how they do what the plan says; `dma` does it for frames.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use chacha20::{ChaCha8Rng, rand_core::Rng};

use super::{
    channel_registers::Done,
    job::{Job, Outcome},
    registers::RegisterFile,
    regs,
};
use crate::faults::{Action, Event, Fault, Faults, Point};

mod dma;

pub(super) use dma::DmaFaults;

/// How often a camera that is stuck looks whether it was reset.
const STUCK: Duration = Duration::from_millis(1);

/// A plan, and the number of the camera that consults it.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) faults: Faults,
    pub(super) camera: u32,
}

/// Where a camera asks its plan, if it has one.
#[derive(Debug, Clone)]
pub(super) struct Hooks(Option<Probe>);

impl Hooks {
    /// The first camera is number 0.
    pub(super) fn new(faults: Option<(Faults, u32)>) -> Self {
        Self(faults.map(|(faults, camera)| Probe { faults, camera }))
    }

    fn probe(&self) -> Option<&Probe> {
        if cfg!(feature = "no-hooks") { None } else { self.0.as_ref() }
    }
}

impl Probe {
    /// What goes wrong with frame `sequence`, of `channel` if it is one's.
    fn consult_frame(&self, point: Point, sequence: u32, channel: Option<usize>) -> Option<Fault> {
        let channel = channel.and_then(|channel| channel.try_into().ok());
        let camera = Some(self.camera);
        self.faults.consult(&Event { camera, frame: Some(sequence), channel, ..Event::new(point) })
    }

    /// What goes wrong with an access to a register.
    fn consult_access(&self, point: Point, register: u32, value: u32) -> Option<Fault> {
        let (camera, register, value) = (Some(self.camera), Some(register), Some(value));
        self.faults.consult(&Event { camera, register, value, ..Event::new(point) })
    }
}

/// What is wrong with all of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameFault {
    /// The sensor's link is lost; at the first frame the guest is told.
    LinkLost { first: bool },
    /// It never ends.
    Stuck,
}

/// What becomes of the interrupt of a frame that is done.
pub(super) enum Interrupt {
    Raised,
    Lost,
}

/// What goes wrong with the registers.
#[derive(Debug)]
pub(super) struct FaceFaults {
    hooks: Hooks,
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

impl FaceFaults {
    pub(super) fn new(hooks: Hooks) -> Self {
        let late = [None; regs::CHANNELS as usize];
        Self { hooks, link_lost: 0, storm: 0, again: 0, drift: Drift::default(), late }
    }

    /// A frame begins; what is left to do, if anything.
    pub(super) fn begin(&mut self, job: &mut Job) -> Option<Action> {
        let probe = self.hooks.probe()?;
        job.time = self.drift.shown(job.time);
        if self.link_lost > 0 {
            self.link_lost -= 1;
            job.wrong = Some(FrameFault::LinkLost { first: false });
            return None;
        }
        match probe.consult_frame(Point::SensorLink, job.sequence, None).map(|fault| fault.action) {
            Some(Action::Skip { frames }) => job.sequence = job.sequence.wrapping_add(frames),
            Some(Action::LinkLoss { frames }) => {
                self.link_lost = frames - 1;
                job.wrong = Some(FrameFault::LinkLost { first: true });
                return None;
            }
            _ => {}
        }
        let fault = probe.consult_frame(Point::FrameStart, job.sequence, None)?;
        match fault.action {
            Action::Stuck => job.wrong = Some(FrameFault::Stuck),
            Action::Drift { ppm } => self.drift.ppm = ppm,
            _ => {}
        }
        Some(fault.action)
    }

    /// A frame of `channel` is about to be told of.
    pub(super) fn end(&mut self, channel: usize, done: &mut Done) {
        let Some(probe) = self.hooks.probe() else { return };
        let fault = probe.consult_frame(Point::FrameEnd, done.sequence, Some(channel));
        match fault.map(|fault| fault.action) {
            Some(Action::Timestamp { nanoseconds }) => done.time = done.time.wrapping_add_signed(nanoseconds),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a register wraps")]
            Some(Action::Sequence { add }) => done.sequence = done.sequence.wrapping_add(add as u32),
            _ => {}
        }
    }

    /// IRQ_DONE of `channel` is about to be raised for frame `sequence`.
    pub(super) fn interrupt(&mut self, channel: usize, sequence: u32) -> Interrupt {
        let Some(probe) = self.hooks.probe() else { return Interrupt::Raised };
        if let Some(left) = &mut self.late[channel] {
            *left -= 1;
            if *left > 0 {
                return Interrupt::Lost;
            }
            self.late[channel] = None;
            return Interrupt::Raised;
        }
        match probe.consult_frame(Point::Irq, sequence, Some(channel)).map(|fault| fault.action) {
            Some(Action::Lose) => Interrupt::Lost,
            Some(Action::Late { frames }) => {
                self.late[channel] = Some(frames);
                Interrupt::Lost
            }
            Some(Action::Duplicate) => {
                self.again = self.again.saturating_add(1);
                Interrupt::Raised
            }
            Some(Action::Storm { count }) => {
                self.storm = self.storm.saturating_add(count);
                Interrupt::Raised
            }
            _ => Interrupt::Raised,
        }
    }

    /// The line is raised.
    pub(super) fn raised(&self) {
        if let Some(probe) = self.hooks.probe() {
            probe.faults.interrupt(probe.camera);
        }
    }
}

/// A clock that is fast, or slow, from some time on.
#[derive(Debug, Default)]
struct Drift {
    ppm: i64,
    /// The last time that it was asked for, and what it showed.
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

/// `value` with so many bits flipped.
fn flipped(value: u32, bits: u32, random: &mut ChaCha8Rng) -> u32 {
    (0..bits).fold(value, |value, _| value ^ 1 << (random.next_u64() % 32))
}

impl RegisterFile {
    /// As [`read`](Self::read), for the guest.
    pub(super) fn guest_reads(&mut self, register: u32) -> u32 {
        let value = self.read(register);
        let Some(probe) = self.faults.hooks.probe() else { return value };
        let fault = probe.consult_access(Point::MmioRead, register, value);
        if register == regs::IRQ_STATUS && self.faults.storm > 0 {
            self.faults.storm -= 1;
            self.raise();
        }
        let Some(mut fault) = fault else { return value };
        match fault.action {
            Action::Ones => u32::MAX,
            Action::Flip { bits } => flipped(value, bits, &mut fault.random),
            Action::Value { value } => value,
            _ => value,
        }
    }

    /// As [`write`](Self::write), for the guest.
    pub(super) fn guest_writes(&mut self, register: u32, value: u32, now: Instant) -> bool {
        let Some(probe) = self.faults.hooks.probe() else { return self.write(register, value, now) };
        let mut fault = probe.consult_access(Point::MmioWrite, register, value);
        let written = match &mut fault {
            Some(Fault { action: Action::Drop, .. }) => false,
            Some(Fault { action: Action::Flip { bits }, random, .. }) => {
                self.write(register, flipped(value, *bits, random), now)
            }
            Some(Fault { action: Action::Value { value }, .. }) => self.write(register, *value, now),
            Some(Fault { action: Action::Spurious, .. }) => {
                let written = self.write(register, value, now);
                self.raise();
                written
            }
            _ => self.write(register, value, now),
        };
        if register == regs::IRQ_STATUS && self.faults.again > 0 {
            self.faults.again -= 1;
            self.raise();
        }
        written
    }
}

/// What becomes of all channels' frames, if something is wrong with all of them.
pub(super) fn whole_frame(wrong: FrameFault, abort: &AtomicBool) -> Outcome {
    match wrong {
        FrameFault::LinkLost { first: true } => Outcome::Lost(regs::IRQ_SYNC_LOSS),
        FrameFault::LinkLost { first: false } => Outcome::Lost(0),
        FrameFault::Stuck => {
            while !abort.load(Ordering::Relaxed) {
                thread::sleep(STUCK);
            }
            Outcome::Abandoned
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
