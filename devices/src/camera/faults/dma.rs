//! What goes wrong with frames, statistics and parameters on their way to memory and from there.

use std::sync::atomic::AtomicBool;

use chacha20::rand_core::Rng as _;
use vm_memory::{Bytes, GuestAddress};

use super::points::{FrameDma, FrameLine, Params, Stats};
use crate::{
    camera::{
        channels::{FRAME_CHANNELS, PARAMS, STATISTICS},
        frame_config::FrameConfig,
        job::{FrameOutcome, Job},
        regs,
        source::Source,
        transfer::{Refusal, Transfer},
        uapi::STATISTICS_SIZE,
    },
    dma::DmaPort,
    faults::{Change, Event, Fault, FaultHandle, flip_bits},
};
use media::Exposure;

/// What goes wrong with frames on their way to memory.
pub(in crate::camera) struct DmaFaults {
    handle: FaultHandle,
    /// Where each channel's last frame went, and its number.
    last: [Option<(FrameConfig, u32)>; FRAME_CHANNELS],
    /// The last statistics that were written, if a rule needs them.
    statistics: Option<Box<[u8; STATISTICS_SIZE]>>,
}

impl DmaFaults {
    pub(in crate::camera) fn new(handle: FaultHandle) -> Self {
        Self { handle, last: [None; FRAME_CHANNELS], statistics: None }
    }

    /// Makes the frame of `job` for `channel` and writes it, rightly or wrongly. `told` is called before it is written, if
    /// that is what goes wrong.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a frame is made of and from, and nothing else has all of it"
    )]
    pub(in crate::camera) fn make(
        &mut self,
        source: &mut Source,
        channel: usize,
        job: &Job,
        transfer: Transfer<'_>,
        dma: &DmaPort,
        abort: &AtomicBool,
        told: &dyn Fn(FrameOutcome),
    ) -> FrameOutcome {
        if !self.handle.is_some() {
            return write(source, channel, job, &transfer, abort);
        }
        let Some(config) = job.configs[channel] else { return FrameOutcome::Abandoned };
        let last = self.last[channel].replace((config, job.sequence));
        let event = Event::of_frame(job.sequence).on_channel(channel);
        let Some(fault) = self.handle.consult::<FrameDma>(event) else {
            let outcome = write(source, channel, job, &transfer, abort);
            if matches!(outcome, FrameOutcome::Written { .. }) && self.handle.acts_on::<FrameLine>() {
                lines(&self.handle, event, &config, &transfer, dma);
            }
            return outcome;
        };
        // Where the frame goes instead: anywhere in RAM, as a device does that has no port which permits or refuses.
        let astray = |source: &mut Source, config: &FrameConfig| {
            let (ram, config) = (dma.all_memory(), FrameConfig { lengths: [u32::MAX; 3], ..*config });
            self.handle.record(&fault, |firing| firing.address = Some(config.addresses[0]));
            match Transfer::new(channel, &config, &ram) {
                Ok(there) => match write(source, channel, job, &there, abort) {
                    // The report is that of a correct transfer.
                    FrameOutcome::Written { bytes, exposure, .. } => {
                        FrameOutcome::Written { bytes, span: transfer.span(), exposure }
                    }
                    other => other,
                },
                Err(refusal) => FrameOutcome::Refused(refusal),
            }
        };
        match fault.action {
            FrameDma::Overflow => {
                let half = transfer.layout().height() / 2;
                match write(source, channel, job, &transfer.cut(half), abort) {
                    FrameOutcome::Written { .. } => FrameOutcome::Lost(regs::IRQ_OVERFLOW),
                    other => other,
                }
            }
            FrameDma::BusError => {
                FrameOutcome::Refused(Refusal::Bus { plane: 0, address: config.addresses[0] })
            }
            FrameDma::Offset { bytes } => {
                let addresses = config.addresses.map(|address| address.wrapping_add_signed(bytes));
                astray(source, &FrameConfig { addresses, ..config })
            }
            FrameDma::Stride { bytes } => {
                let wrong =
                    |stride: u32| u32::try_from((i64::from(stride) + bytes).max(0)).unwrap_or(u32::MAX);
                astray(source, &FrameConfig { strides: config.strides.map(wrong), ..config })
            }
            FrameDma::Previous => {
                let addresses = last.map_or(config.addresses, |(config, _)| config.addresses);
                astray(source, &FrameConfig { addresses, ..config })
            }
            FrameDma::SwapPlanes => {
                let [first, second, third] = config.addresses;
                astray(source, &FrameConfig { addresses: [second, first, third], ..config })
            }
            FrameDma::Short { lines } => write(source, channel, job, &transfer.cut(lines), abort),
            FrameDma::Torn { lines } => {
                let span = transfer.span();
                match write(source, channel, job, &transfer.cut(lines), abort) {
                    FrameOutcome::Written { bytes, exposure, .. } => {
                        FrameOutcome::Written { bytes, span, exposure }
                    }
                    other => other,
                }
            }
            FrameDma::Long { lines } => match write(source, channel, job, &transfer, abort) {
                FrameOutcome::Written { exposure, .. } => {
                    lengthened(&config, &transfer, lines, dma, exposure)
                }
                other => other,
            },
            FrameDma::Duplicate => {
                let sequence = last.map_or(job.sequence, |(_, sequence)| sequence);
                write(source, channel, &Job { sequence, ..*job }, &transfer, abort)
            }
            FrameDma::Early => {
                told(written(&transfer, None));
                write(source, channel, job, &transfer, abort)
            }
            FrameDma::Flip { bits } => {
                let outcome = write(source, channel, job, &transfer, abort);
                flip(&self.handle, fault, &config, &transfer, dma, bits);
                outcome
            }
        }
    }

    /// The device is about to take the parameters of `job`; `bytes` is a copy. False if it only reports them as taken.
    pub(in crate::camera) fn params(&self, job: &Job, bytes: &mut [u8]) -> bool {
        let Some(mut fault) = self.handle.consult::<Params>(Event::of_frame(job.sequence)) else {
            return true;
        };
        match fault.action {
            Params::Drop => false,
            Params::Flip { bits } => {
                let changes =
                    flip_bits(bytes, bits, &mut fault.random, job.configs[PARAMS].map(first_address));
                self.handle.record(&fault, |firing| firing.changes = changes);
                true
            }
        }
    }

    /// The statistics of `job` are about to be written; false if they only seem to be.
    pub(in crate::camera) fn statistics(&mut self, job: &Job, bytes: &mut [u8; STATISTICS_SIZE]) -> bool {
        let fault = self.handle.consult::<Stats>(Event::of_frame(job.sequence));
        let last = self.statistics.take();
        if self.handle.acts_on::<Stats>() {
            self.statistics = Some(Box::new(*bytes));
        }
        let Some(mut fault) = fault else { return true };
        match fault.action {
            Stats::Flip { bits } => {
                let address = job.configs[STATISTICS].map(first_address);
                let changes = flip_bits(bytes, bits, &mut fault.random, address);
                self.handle.record(&fault, |firing| firing.changes = changes);
            }
            Stats::Zero => bytes.fill(0),
            Stats::Duplicate => {
                if let Some(last) = last {
                    *bytes = *last;
                }
            }
            Stats::Drop => return false,
        }
        true
    }
}

fn first_address(config: FrameConfig) -> u64 {
    config.addresses[0]
}

/// Writes `lines` more behind a frame, as far as the guest posted room for them.
fn lengthened(
    config: &FrameConfig,
    transfer: &Transfer<'_>,
    lines: u32,
    dma: &DmaPort,
    exposure: Option<Exposure>,
) -> FrameOutcome {
    let layout = transfer.layout();
    let Some((plane, shape)) = layout.planes().enumerate().last() else { return FrameOutcome::Abandoned };
    let (stride, whole) = (u64::from(shape.stride), u64::from(shape.stride) * u64::from(shape.lines));
    let more = stride * u64::from(lines);
    if whole + more > config.lengths[plane].into() {
        return FrameOutcome::Lost(regs::IRQ_OVERFLOW);
    }
    let start = config.addresses[plane] + whole;
    match dma.begin_write(start, more) {
        Ok(write) => {
            let line = vec![0x55; shape.stride as usize];
            for index in 0..lines as usize {
                write.write(index * line.len(), &line);
            }
            write.publish();
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let span = transfer.span().saturating_add(more);
            FrameOutcome::Written { bytes: layout.visible_bytes() + u64::from(more), span, exposure }
        }
        Err(_) => {
            FrameOutcome::Refused(Refusal::Bus { plane: u8::try_from(plane).unwrap_or(0), address: start })
        }
    }
}

/// The lines of a frame are written, one after the other. What goes wrong with them is done in memory, before the guest hears
/// of the frame. `event` is that of the frame.
fn lines(handle: &FaultHandle, event: Event, config: &FrameConfig, transfer: &Transfer<'_>, dma: &DmaPort) {
    let Some(plane) = transfer.layout().planes().next() else { return };
    let dma = dma.without_faults();
    for line in 0..plane.lines {
        let Some(mut fault) = handle.consult::<FrameLine>(event) else { continue };
        let address = |line: u32| config.addresses[0] + u64::from(line) * u64::from(plane.stride);
        let mut changes = Vec::new();
        let mut bytes = vec![0; plane.line_bytes as usize];
        match fault.action {
            FrameLine::Duplicate if line > 0 => {
                dma.read_slice(&mut bytes, GuestAddress(address(line - 1)))
                    .expect("the port permits the frame");
            }
            // No line is above the first.
            FrameLine::Duplicate => continue,
            FrameLine::Flip { bits } => {
                dma.read_slice(&mut bytes, GuestAddress(address(line))).expect("the port permits the frame");
                changes = flip_bits(&mut bytes, bits, &mut fault.random, Some(address(line)));
            }
            FrameLine::Zero => {}
        }
        let write = dma.begin_write(address(line), plane.line_bytes.into());
        let write = write.expect("the port permits the frame");
        write.write(0, &bytes);
        write.publish();
        handle.record(&fault, |firing| {
            firing.address = Some(address(line));
            firing.changes = changes;
        });
    }
}

/// Flips bits of a frame in memory.
fn flip(
    handle: &FaultHandle,
    mut fault: Fault<FrameDma>,
    config: &FrameConfig,
    transfer: &Transfer<'_>,
    dma: &DmaPort,
    bits: u32,
) {
    let planes: Vec<_> = transfer.layout().planes().zip(config.addresses).collect();
    let dma = dma.without_faults();
    let mut changes = Vec::new();
    for _ in 0..bits {
        // Each visible bit is as likely as any other.
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
    handle.record(&fault, |firing| firing.changes = changes);
}

/// As a device does that has no faults.
fn write(
    source: &mut Source,
    channel: usize,
    job: &Job,
    transfer: &Transfer<'_>,
    abort: &AtomicBool,
) -> FrameOutcome {
    if source.make(channel, job, transfer, abort) {
        written(transfer, source.next_exposure())
    } else {
        FrameOutcome::Abandoned
    }
}

fn written(transfer: &Transfer<'_>, exposure: Option<Exposure>) -> FrameOutcome {
    FrameOutcome::Written { bytes: transfer.layout().visible_bytes(), span: transfer.span(), exposure }
}
