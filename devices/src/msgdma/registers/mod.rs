//! The registers as a state machine, without threads and without memory.
//!
//! The guest comes in by [`Registers::guest_reads`] and [`Registers::guest_writes`], the worker by [`Registers::next_task`]
//! and [`Registers::finished`]. Every call is short: the caller holds a lock meanwhile.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    descriptor::Descriptor,
    faults::{Irq, Respond, Transfer},
    regs,
    spec::{COUNTERS, MsgdmaSpec},
};
use crate::{
    faults::{Event, FaultHandle},
    irq::IrqLine,
    platform,
};

/// A descriptor in work.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) descriptor: Descriptor,
    /// Bytes of it that are done.
    pub(super) done: u64,
    /// What goes wrong with it.
    pub(super) fault: Option<Transfer>,
}

/// What the worker has to do.
#[derive(Debug)]
pub(super) enum Task {
    /// Carry this out.
    Job(Job),
    /// Wait until a register was accessed.
    Wait,
    /// End: the engine was switched off.
    Off,
}

/// How the worker's job went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It ended with this response status; 0: all of it is done.
    Ended(u32),
    /// It is not at its end: the worker was told to break.
    Held,
}

/// What reports a descriptor to the guest.
#[derive(Debug, Clone, Copy, Default)]
struct Response {
    bytes: u32,
    status: u32,
}

/// All that a reset puts back.
#[derive(Debug, Default)]
struct State {
    control: u32,
    /// STATUS_IRQ and STATUS_STOPPED_ON_*.
    latched: u32,
    /// The words of the descriptor that the guest is writing.
    staged: [u32; 8],
    descriptors: VecDeque<Descriptor>,
    responses: VecDeque<Response>,
    sequence: u16,
    /// A job that is held, or stuck.
    held: Option<Job>,
    /// How often STATUS_IRQ is set once more after the guest clears it.
    again: u32,
}

/// The registers.
#[derive(Debug)]
pub(super) struct Registers {
    depth: usize,
    has_responses: bool,
    irq: IrqLine,
    faults: FaultHandle,
    state: State,
    /// The worker has a job of this generation.
    working: Option<u32>,
    /// A reset begins another: jobs of an older one are abandoned.
    generation: u32,
    paused: bool,
    off: bool,
    /// Whether the interrupt line is high.
    is_high: bool,
    /// Set while the worker is to break off.
    breaks: Arc<AtomicBool>,
    counts: Counts,
}

/// What the engine did since it was built.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    descriptors: u64,
    bytes: u64,
    responses: u64,
    irqs: u64,
    bus_errors: u64,
    early_ends: u64,
    fifo_overflows: u64,
    abandoned: u64,
    resets: u64,
}

impl Counts {
    /// The counters with their names.
    fn listed(self) -> platform::Counters {
        let values = [
            self.descriptors,
            self.bytes,
            self.responses,
            self.irqs,
            self.bus_errors,
            self.early_ends,
            self.fifo_overflows,
            self.abandoned,
            self.resets,
        ];
        COUNTERS.into_iter().zip(values).collect()
    }
}

/// The bits of CONTROL that keep what is written.
const CONTROL_BITS: u32 = regs::CONTROL_STOP
    | regs::CONTROL_STOP_ON_ERROR
    | regs::CONTROL_STOP_ON_EARLY
    | regs::CONTROL_IRQ
    | regs::CONTROL_STOP_DESCS;

/// The bits of STATUS that stop the engine until the guest clears them.
const STOPPED_ON: u32 = regs::STATUS_STOPPED_ON_ERROR | regs::STATUS_STOPPED_ON_EARLY;

/// `mask` if `is`.
fn bit(is: bool, mask: u32) -> u32 {
    if is { mask } else { 0 }
}

impl Registers {
    pub(super) fn new(spec: &MsgdmaSpec, irq: IrqLine, faults: FaultHandle) -> Self {
        Self {
            depth: spec.descriptors,
            has_responses: spec.response,
            irq,
            faults,
            state: State::default(),
            working: None,
            generation: 0,
            paused: false,
            off: false,
            is_high: false,
            breaks: Arc::default(),
            counts: Counts::default(),
        }
    }

    /// Set while the worker is to break off.
    pub(super) fn breaks(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.breaks)
    }

    pub(super) fn counters(&self) -> platform::Counters {
        self.counts.listed()
    }

    /// The guest loads a register. True if the worker may have something to do now.
    pub(super) fn guest_reads(&mut self, register: u32) -> (u32, bool) {
        let value = self.read(register);
        let removes = register == regs::RESP_STATUS && self.state.responses.pop_front().is_some();
        (self.faults.read_register(register, value), removes)
    }

    /// The guest stores the bytes `lanes` of a register. True if the worker may have something to do now.
    pub(super) fn guest_writes(&mut self, register: u32, value: u32, lanes: Range<usize>) -> bool {
        let written = self.faults.write_register(register, value);
        let wakes = written.value.is_some_and(|value| self.write(register, value, lanes));
        if written.spurious {
            self.set_irq();
        }
        wakes
    }

    fn read(&self, register: u32) -> u32 {
        let state = &self.state;
        let oldest = state.responses.front().copied().unwrap_or_default();
        match register {
            regs::STATUS => self.status(),
            regs::CONTROL => state.control,
            regs::FILL_LEVEL => count(state.descriptors.len()) * 0x1_0001,
            regs::RESPONSE_FILL_LEVEL => count(state.responses.len()),
            regs::SEQUENCE => u32::from(state.sequence) * 0x1_0001,
            regs::RESP_BYTES => oldest.bytes,
            regs::RESP_STATUS => oldest.status,
            _ => 0,
        }
    }

    fn status(&self) -> u32 {
        let state = &self.state;
        let in_work = self.is_in_work();
        let stops = state.control & (regs::CONTROL_STOP | regs::CONTROL_STOP_DESCS) != 0
            || state.latched & STOPPED_ON != 0;
        state.latched
            | bit(in_work || state.held.is_some() || !state.descriptors.is_empty(), regs::STATUS_BUSY)
            | bit(state.descriptors.is_empty(), regs::STATUS_DESC_EMPTY)
            | bit(state.descriptors.len() >= self.depth, regs::STATUS_DESC_FULL)
            | bit(state.responses.is_empty(), regs::STATUS_RESP_EMPTY)
            | bit(self.are_responses_full(), regs::STATUS_RESP_FULL)
            | bit(stops && !in_work, regs::STATUS_STOPPED)
            | bit(self.working.is_some() && !in_work, regs::STATUS_RESETTING)
    }

    /// Whether the worker has a job that no reset has abandoned.
    fn is_in_work(&self) -> bool {
        self.working == Some(self.generation)
    }

    fn are_responses_full(&self) -> bool {
        self.state.responses.len() >= 2 * self.depth
    }

    fn write(&mut self, register: u32, value: u32, lanes: Range<usize>) -> bool {
        let is_whole = lanes.len() == 4;
        match register {
            regs::STATUS if is_whole => self.clear(value),
            regs::CONTROL if is_whole && value & regs::CONTROL_RESET != 0 => {
                self.faults.was_reset();
                self.reset();
            }
            regs::CONTROL if is_whole => {
                self.state.control = value & CONTROL_BITS;
                self.drive_line();
                self.tell_worker();
            }
            regs::DESC_READ_LO..=regs::DESC_CONTROL => {
                return self.stage(register, value, lanes);
            }
            _ => return false,
        }
        true
    }

    /// Clears bits of STATUS.
    fn clear(&mut self, bits: u32) {
        let acknowledges = bits & self.state.latched & regs::STATUS_IRQ != 0;
        self.state.latched &= !bits;
        self.drive_line();
        if acknowledges && self.state.again > 0 {
            self.state.again -= 1;
            self.set_irq();
        }
    }

    /// The guest writes bytes of a descriptor. True if that commits it.
    fn stage(&mut self, register: u32, value: u32, lanes: Range<usize>) -> bool {
        let Some(word) = self.state.staged.get_mut((register - regs::DESCRIPTOR) as usize / 4) else {
            return false;
        };
        let mut bytes = word.to_le_bytes();
        bytes[lanes.clone()].copy_from_slice(&value.to_le_bytes()[lanes.clone()]);
        *word = u32::from_le_bytes(bytes);
        let commits = register == regs::DESC_CONTROL && lanes.end == 4 && value & regs::DESC_GO != 0;
        if !commits {
            return false;
        }
        if self.state.descriptors.len() >= self.depth {
            self.counts.fifo_overflows += 1;
            return false;
        }
        self.state.descriptors.push_back(Descriptor::new(&self.state.staged));
        true
    }

    /// Abandons the descriptor in work and gives all registers their reset values. Counters go on.
    pub(super) fn reset(&mut self) {
        self.counts.resets += 1;
        self.abandon();
    }

    fn abandon(&mut self) {
        self.counts.abandoned += u64::from(self.is_in_work() || self.state.held.is_some());
        self.state = State::default();
        self.generation = self.generation.wrapping_add(1);
        self.drive_line();
        self.tell_worker();
    }

    /// Holds the engine, or lets it go on.
    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
        self.tell_worker();
    }

    /// Abandons the descriptor in work and ends the worker.
    pub(super) fn switch_off(&mut self) {
        if !self.off {
            self.off = true;
            self.abandon();
        }
    }

    /// Says whether the worker is to break off.
    fn tell_worker(&self) {
        let is_stale = self.working.is_some() && !self.is_in_work();
        let stops = self.state.control & regs::CONTROL_STOP != 0;
        self.breaks.store(self.off || self.paused || stops || is_stale, Ordering::Relaxed);
    }

    /// What the worker has to do now. A job handed out is in work until it has [`finished`](Self::finished).
    pub(super) fn next_task(&mut self) -> Task {
        if self.off {
            return Task::Off;
        }
        let State { control, latched, .. } = self.state;
        if self.paused || control & regs::CONTROL_STOP != 0 || latched & STOPPED_ON != 0 {
            return Task::Wait;
        }
        if self.state.held.is_none() && control & regs::CONTROL_STOP_DESCS == 0 && !self.are_responses_full()
        {
            self.state.held = self.state.descriptors.pop_front().map(|descriptor| {
                self.state.sequence = descriptor.sequence;
                let fault = self.faults.consult(Event::PLAIN).map(|fault| fault.action);
                Job { descriptor, done: 0, fault }
            });
        }
        match self.state.held.take_if(|job| job.fault != Some(Transfer::Stuck)) {
            Some(job) => {
                self.working = Some(self.generation);
                Task::Job(job)
            }
            None => Task::Wait,
        }
    }

    /// The worker gives its job back.
    pub(super) fn finished(&mut self, job: Job, outcome: Outcome) {
        let is_current = self.is_in_work();
        self.working = None;
        self.tell_worker();
        if !is_current {
            return;
        }
        match outcome {
            Outcome::Held => self.state.held = Some(job),
            Outcome::Ended(status) => self.end(&job, status),
        }
    }

    /// Reports a descriptor.
    fn end(&mut self, job: &Job, status: u32) {
        let is_error = status & regs::RESP_ERROR != 0;
        let is_early = status & regs::RESP_EARLY != 0;
        self.counts.descriptors += 1;
        self.counts.bytes += job.done;
        self.counts.bus_errors += u64::from(is_error);
        self.counts.early_ends += u64::from(is_early);
        let stops_on = |is: bool, control, status| bit(is && self.state.control & control != 0, status);
        self.state.latched |= stops_on(is_error, regs::CONTROL_STOP_ON_ERROR, regs::STATUS_STOPPED_ON_ERROR)
            | stops_on(is_early, regs::CONTROL_STOP_ON_EARLY, regs::STATUS_STOPPED_ON_EARLY);
        if self.has_responses {
            self.respond(Response { bytes: u32::try_from(job.done).unwrap_or(u32::MAX), status });
        }
        if job.descriptor.interrupts_at(status) {
            self.interrupt();
        }
    }

    fn respond(&mut self, response: Response) {
        let times = match self.faults.consult(Event::PLAIN).map(|fault| fault.action) {
            None => 1,
            Some(Respond::Lose) => 0,
            Some(Respond::Duplicate) => 2,
        };
        for _ in 0..times {
            if !self.are_responses_full() {
                self.state.responses.push_back(response);
                self.counts.responses += 1;
            }
        }
    }

    fn interrupt(&mut self) {
        match self.faults.consult(Event::PLAIN).map(|fault| fault.action) {
            None => {}
            Some(Irq::Lose) => return,
            Some(Irq::Duplicate) => self.state.again = self.state.again.saturating_add(1),
        }
        self.set_irq();
    }

    fn set_irq(&mut self) {
        self.state.latched |= regs::STATUS_IRQ;
        self.drive_line();
    }

    /// Takes the interrupt line to where the registers say it is.
    fn drive_line(&mut self) {
        let is_high =
            self.state.latched & regs::STATUS_IRQ != 0 && self.state.control & regs::CONTROL_IRQ != 0;
        if is_high && !self.is_high {
            self.counts.irqs += 1;
            self.faults.interrupted();
        }
        self.is_high = is_high;
        self.irq.set(is_high);
    }
}

/// A fill level.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
