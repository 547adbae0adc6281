//! Where the camera consults a plan of faults, and how it does what the plan says.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use chacha20::rand_core::Rng;
use vm_memory::{Bytes, GuestAddress};

use super::{
    auto::Exposure,
    channel::{FrameConfig, Refusal, Transfer},
    face::{FRAME_CHANNELS, Face, Job, Outcome},
    port::Done,
    regs,
    worker::Source,
};
use crate::{
    dma::DmaPort,
    faults::{Action, Change, Event, Fault, Faults, Point},
};

/// How often a camera that is stuck looks whether it was reset.
const STUCK: Duration = Duration::from_millis(1);

/// A plan, and the number of the camera that consults it.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) faults: Faults,
    pub(super) camera: u32,
}

impl Probe {
    fn consult(
        &self,
        point: Point,
        frame: Option<u32>,
        channel: Option<usize>,
        register: Option<u32>,
    ) -> Option<Fault> {
        let channel = channel.and_then(|channel| channel.try_into().ok());
        self.faults.consult(&Event { point, camera: self.camera, frame, channel, register })
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
    probe: Option<Probe>,
    /// Frames for which the link is still lost.
    link_lost: u32,
    /// Interrupts that reads of IRQ_STATUS still raise.
    storm: u32,
    /// Frames of the channel until a late interrupt comes.
    late: [Option<u32>; regs::CHANNELS as usize],
}

impl FaceFaults {
    pub(super) fn new(probe: Option<Probe>) -> Self {
        Self { probe, link_lost: 0, storm: 0, late: [None; regs::CHANNELS as usize] }
    }

    /// A frame begins; what is left to do, if anything.
    pub(super) fn begin(&mut self, job: &mut Job) -> Option<Action> {
        let probe = self.probe.as_ref()?;
        if self.link_lost > 0 {
            self.link_lost -= 1;
            job.wrong = Some(FrameFault::LinkLost { first: false });
            return None;
        }
        let fault = probe.consult(Point::FrameStart, Some(job.sequence), None, None)?;
        match fault.action {
            Action::Skip { frames } => job.sequence = job.sequence.wrapping_add(frames),
            Action::LinkLoss { frames } => {
                self.link_lost = frames - 1;
                job.wrong = Some(FrameFault::LinkLost { first: true });
            }
            Action::Stuck => job.wrong = Some(FrameFault::Stuck),
            _ => {}
        }
        Some(fault.action)
    }

    /// A frame of `channel` is about to be told of.
    pub(super) fn end(&mut self, channel: usize, done: &mut Done) {
        let Some(probe) = &self.probe else { return };
        match probe
            .consult(Point::FrameEnd, Some(done.sequence), Some(channel), None)
            .map(|fault| fault.action)
        {
            Some(Action::Timestamp { nanoseconds }) => done.time = done.time.wrapping_add_signed(nanoseconds),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a register wraps")]
            Some(Action::Sequence { add }) => done.sequence = done.sequence.wrapping_add(add as u32),
            _ => {}
        }
    }

    /// IRQ_DONE of `channel` is about to be raised for frame `sequence`.
    pub(super) fn interrupt(&mut self, channel: usize, sequence: u32) -> Interrupt {
        let Some(probe) = &self.probe else { return Interrupt::Raised };
        if let Some(left) = &mut self.late[channel] {
            *left -= 1;
            if *left > 0 {
                return Interrupt::Lost;
            }
            self.late[channel] = None;
            return Interrupt::Raised;
        }
        match probe.consult(Point::Irq, Some(sequence), Some(channel), None).map(|fault| fault.action) {
            Some(Action::Lose) => Interrupt::Lost,
            Some(Action::Late { frames }) => {
                self.late[channel] = Some(frames);
                Interrupt::Lost
            }
            Some(Action::Storm { count }) => {
                self.storm = self.storm.saturating_add(count);
                Interrupt::Raised
            }
            _ => Interrupt::Raised,
        }
    }
}

impl Face {
    /// As [`read`](Self::read), for the guest.
    pub(super) fn guest_reads(&mut self, register: u32) -> u32 {
        let Some(probe) = &self.faults.probe else { return self.read(register) };
        let fault = probe.consult(Point::MmioRead, None, None, Some(register));
        if register == regs::IRQ_STATUS && self.faults.storm > 0 {
            self.faults.storm -= 1;
            self.raise();
        }
        if fault.is_some() { u32::MAX } else { self.read(register) }
    }

    /// As [`write`](Self::write), for the guest.
    pub(super) fn guest_writes(&mut self, register: u32, value: u32, now: Instant) -> bool {
        let consult = |probe: &Probe| probe.consult(Point::MmioWrite, None, None, Some(register));
        match self.faults.probe.as_ref().and_then(consult).map(|fault| fault.action) {
            None => self.write(register, value, now),
            Some(Action::Spurious) => {
                let written = self.write(register, value, now);
                self.raise();
                written
            }
            Some(_) => false,
        }
    }
}

/// What goes wrong with frames on their way to memory.
pub(super) struct DmaFaults {
    probe: Option<Probe>,
    /// Where each channel's last frame went, and its number.
    last: [Option<(FrameConfig, u32)>; FRAME_CHANNELS],
}

impl DmaFaults {
    pub(super) fn new(probe: Option<Probe>) -> Self {
        Self { probe, last: [None; FRAME_CHANNELS] }
    }

    /// Makes the frame of `job` for `channel` and writes it, rightly or wrongly. `told` is called before it is written, if
    /// that is what goes wrong.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a frame is made of and from, and nothing else has all of it"
    )]
    pub(super) fn make(
        &mut self,
        source: &mut Source,
        channel: usize,
        job: &Job,
        transfer: Transfer<'_>,
        dma: &DmaPort,
        abort: &AtomicBool,
        told: &dyn Fn(Outcome),
    ) -> Outcome {
        let Some(probe) = &self.probe else { return write(source, channel, job, &transfer, abort) };
        let Some(config) = job.configs[channel] else { return Outcome::Abandoned };
        let last = self.last[channel].replace((config, job.sequence));
        let Some(fault) = probe.consult(Point::FrameDma, Some(job.sequence), Some(channel), None) else {
            return write(source, channel, job, &transfer, abort);
        };
        // Where the frame goes instead: anywhere in RAM, as a device does that has no port which permits or refuses.
        let astray = |source: &mut Source, config: &FrameConfig| {
            let (ram, config) = (dma.all_memory(), FrameConfig { lengths: [u32::MAX; 3], ..*config });
            probe.faults.record(&fault, |firing| firing.address = Some(config.addresses[0]));
            match Transfer::new(channel, &config, &ram) {
                Ok(there) => match write(source, channel, job, &there, abort) {
                    // What it tells is what it should have done.
                    Outcome::Written { bytes, exposure, .. } => {
                        Outcome::Written { bytes, span: transfer.span(), exposure }
                    }
                    other => other,
                },
                Err(refusal) => Outcome::Refused(refusal),
            }
        };
        match fault.action {
            Action::Overflow => {
                let half = transfer.layout().height() / 2;
                match write(source, channel, job, &transfer.cut(half), abort) {
                    Outcome::Written { .. } => Outcome::Lost(regs::IRQ_OVERFLOW),
                    other => other,
                }
            }
            Action::BusError => Outcome::Refused(Refusal::Bus { plane: 0, address: config.addresses[0] }),
            Action::Offset { bytes } => {
                let addresses = config.addresses.map(|address| address.wrapping_add_signed(bytes));
                astray(source, &FrameConfig { addresses, ..config })
            }
            Action::Stride { bytes } => {
                let wrong =
                    |stride: u32| u32::try_from((i64::from(stride) + bytes).max(0)).unwrap_or(u32::MAX);
                astray(source, &FrameConfig { strides: config.strides.map(wrong), ..config })
            }
            Action::Previous => {
                let addresses = last.map_or(config.addresses, |(config, _)| config.addresses);
                astray(source, &FrameConfig { addresses, ..config })
            }
            Action::SwapPlanes => {
                let [first, second, third] = config.addresses;
                astray(source, &FrameConfig { addresses: [second, first, third], ..config })
            }
            Action::Short { lines } => write(source, channel, job, &transfer.cut(lines), abort),
            Action::Torn { lines } => {
                let span = transfer.span();
                match write(source, channel, job, &transfer.cut(lines), abort) {
                    Outcome::Written { bytes, exposure, .. } => Outcome::Written { bytes, span, exposure },
                    other => other,
                }
            }
            Action::Long { lines } => match write(source, channel, job, &transfer, abort) {
                Outcome::Written { exposure, .. } => lengthened(&config, &transfer, lines, dma, exposure),
                other => other,
            },
            Action::Duplicate => {
                let sequence = last.map_or(job.sequence, |(_, sequence)| sequence);
                write(source, channel, &Job { sequence, ..*job }, &transfer, abort)
            }
            Action::Early => {
                told(written(&transfer, None));
                write(source, channel, job, &transfer, abort)
            }
            Action::Flip { bits } => {
                let outcome = write(source, channel, job, &transfer, abort);
                probe.flip(fault, &config, &transfer, dma, bits);
                outcome
            }
            _ => write(source, channel, job, &transfer, abort),
        }
    }
}

/// Writes `lines` more behind a frame, as far as the guest posted room for them.
fn lengthened(
    config: &FrameConfig,
    transfer: &Transfer<'_>,
    lines: u32,
    dma: &DmaPort,
    exposure: Option<Exposure>,
) -> Outcome {
    let layout = transfer.layout();
    let Some((plane, shape)) = layout.planes().enumerate().last() else { return Outcome::Abandoned };
    let (stride, whole) = (u64::from(shape.stride), u64::from(shape.stride) * u64::from(shape.lines));
    let more = stride * u64::from(lines);
    if whole + more > config.lengths[plane].into() {
        return Outcome::Lost(regs::IRQ_OVERFLOW);
    }
    let start = config.addresses[plane] + whole;
    match dma.slice_for_writing(start, more) {
        Ok(slice) => {
            let line = vec![0x55; shape.stride as usize];
            for at in (0..slice.len()).step_by(line.len()) {
                slice.write_slice(&line, at).expect("the slice has whole lines");
            }
            dma.publish(&slice);
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let span = transfer.span().saturating_add(more);
            Outcome::Written { bytes: layout.visible_bytes() + u64::from(more), span, exposure }
        }
        Err(_) => Outcome::Refused(Refusal::Bus { plane: u8::try_from(plane).unwrap_or(0), address: start }),
    }
}

impl Probe {
    /// Flips bits of a frame in memory.
    fn flip(
        &self,
        mut fault: Fault,
        config: &FrameConfig,
        transfer: &Transfer<'_>,
        dma: &DmaPort,
        bits: u32,
    ) {
        let planes: Vec<_> = transfer.layout().planes().zip(config.addresses).collect();
        let mut changes = Vec::new();
        for _ in 0..bits {
            // Any bit that can be seen, all alike.
            let mut at = fault.random.next_u64() % (8 * transfer.layout().visible_bytes());
            let bit = at % 8;
            at /= 8;
            for (plane, address) in &planes {
                let (line_bytes, lines) = (u64::from(plane.line_bytes), u64::from(plane.lines));
                if at >= line_bytes * lines {
                    at -= line_bytes * lines;
                    continue;
                }
                let address = address + at / line_bytes * u64::from(plane.stride) + at % line_bytes;
                let before: u8 = dma.read_obj(GuestAddress(address)).expect("the port permits the frame");
                let after = before ^ 1 << bit;
                dma.write_obj(after, GuestAddress(address)).expect("the port permits the frame");
                changes.push(Change { address, before, after });
                break;
            }
        }
        self.faults.record(&fault, |firing| firing.changes = changes);
    }
}

/// As a device does that has no faults.
fn write(
    source: &mut Source,
    channel: usize,
    job: &Job,
    transfer: &Transfer<'_>,
    abort: &AtomicBool,
) -> Outcome {
    if source.make(channel, job, transfer, abort) {
        written(transfer, source.next_exposure())
    } else {
        Outcome::Abandoned
    }
}

fn written(transfer: &Transfer<'_>, exposure: Option<Exposure>) -> Outcome {
    Outcome::Written { bytes: transfer.layout().visible_bytes(), span: transfer.span(), exposure }
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
