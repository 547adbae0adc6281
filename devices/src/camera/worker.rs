//! The camera's thread. It makes the frames, and waits for the frame clock and for the guest.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::Instant,
};

use vm_memory::{Bytes, GuestAddress};

use super::{
    channels::{CHANNELS, FRAME_CHANNELS, PARAMS, PROCESSED, STATISTICS},
    faults::{self, DmaFaults},
    job::{FrameOutcome, Job},
    metadata,
    registers::{RegisterFile, Task},
    source::Source,
    transfer::{Refusal, Transfer},
    uapi::{PARAMS_MAX, STATISTICS_SIZE},
};
use crate::{
    dma::{DmaPort, DmaWrite},
    media::{Captured, Layout, MAX_PLANES, Recorder},
};

/// The state that the vCPU threads and the worker share.
pub(super) struct Shared {
    registers: Mutex<RegisterFile>,
    wake: Condvar,
    /// The receivers of the next processed frame. The flag below says whether there are any, so that a frame without receivers
    /// takes no lock.
    viewers: Mutex<Vec<Sender<Captured>>>,
    is_viewed: AtomicBool,
}

impl Shared {
    pub(super) fn new(registers: RegisterFile) -> Self {
        Self {
            registers: Mutex::new(registers),
            wake: Condvar::new(),
            viewers: Mutex::default(),
            is_viewed: AtomicBool::new(false),
        }
    }

    /// The register file. The caller holds the lock for a short time only.
    pub(super) fn registers(&self) -> MutexGuard<'_, RegisterFile> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A channel that receives the next processed frame.
    pub(super) fn view(&self) -> Receiver<Captured> {
        let (viewer, frames) = mpsc::channel();
        self.viewers().push(viewer);
        self.is_viewed.store(true, Ordering::Release);
        frames
    }

    fn viewers(&self) -> MutexGuard<'_, Vec<Sender<Captured>>> {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame to all receivers.
    fn show(&self, captured: &Captured) {
        for viewer in self.viewers().drain(..) {
            // A receiver that is gone does not matter.
            let _ = viewer.send(captured.clone());
        }
    }

    /// Makes the worker read the registers.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a frame to make. None if the camera was switched off.
    fn next_job(&self) -> Option<Job> {
        let mut registers = self.registers();
        loop {
            let now = Instant::now();
            registers = match registers.poll(now) {
                Task::Frame(job) => return Some(job),
                Task::Off => return None,
                Task::Wait => self.wake.wait(registers).unwrap_or_else(PoisonError::into_inner),
                Task::WaitUntil(then) => {
                    self.wake.wait_timeout(registers, then - now).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Makes frames until the camera is switched off. It holds no lock while it makes one.
pub(super) fn run(
    shared: &Shared,
    dma: &DmaPort,
    mut source: Source,
    mut faults: DmaFaults,
    mut recorder: Option<Recorder>,
) {
    let abort = shared.registers().abandon();
    let finished = |channel, outcome| shared.registers().finished(channel, outcome, Instant::now());
    // A captured frame is not the device's transfer.
    let plain = dma.without_faults();
    let mut params = [0; PARAMS_MAX];
    while let Some(mut job) = shared.next_job() {
        if let Some(wrong) = job.wrong {
            let outcome = faults::whole_frame(wrong, &abort);
            (0..CHANNELS).for_each(|channel| finished(channel, outcome));
            continue;
        }
        source.begin(&job);
        // All channels are checked before the first is written, because the frame begins for all of them at once.
        let transfers = Transfers::check(&job, dma, &mut params);
        match transfers.right() {
            0 => {}
            channels => shared.registers().started(channels),
        }
        let Transfers { frames, mut statistics, params: length } = transfers;
        if let Some(length) = length {
            let outcome = match length {
                Err(refusal) => FrameOutcome::Refused(refusal),
                Ok(length) if faults.params(&job, &mut params[..length]) => {
                    take_params(&mut source, &params[..length])
                }
                Ok(length) => FrameOutcome::Transferred(u32::try_from(length).unwrap_or(u32::MAX)),
            };
            if matches!(outcome, FrameOutcome::Transferred(_)) {
                job.params_sequence = Some(job.sequence);
            }
            finished(PARAMS, outcome);
        }
        for (channel, transfer) in frames.into_iter().enumerate() {
            let outcome = match transfer {
                None => continue,
                Some(Err(refusal)) => FrameOutcome::Refused(refusal),
                Some(Ok(transfer)) => {
                    let layout = *transfer.layout();
                    let report = |outcome| finished(channel, outcome);
                    let outcome = faults.make(&mut source, channel, &job, transfer, dma, &abort, &report);
                    if channel == PROCESSED
                        && matches!(outcome, FrameOutcome::Written { .. })
                        && let Some(config) = &job.configs[channel]
                    {
                        let capture =
                            |memory| capture(&layout, config.addresses, job.sequence, &plain, memory);
                        if let Some(recorder) = &mut recorder {
                            recorder.record(job.interval, &abort, capture);
                        }
                        if shared.is_viewed.swap(false, Ordering::Acquire) {
                            shared.show(&capture(Vec::new()));
                        }
                    }
                    outcome
                }
            };
            // Statistics end before their frame, so that the report on the frame is the last one that a driver gets.
            if channel == PROCESSED
                && let Some(slice) = statistics.take()
            {
                let outcome = match slice {
                    Err(refusal) => FrameOutcome::Refused(refusal),
                    Ok(slice) if matches!(outcome, FrameOutcome::Written { .. }) => {
                        write_statistics(&source, &job, &slice, &mut faults)
                    }
                    Ok(_) => FrameOutcome::Abandoned,
                };
                finished(STATISTICS, outcome);
            }
            finished(channel, outcome);
        }
    }
}

/// Takes a buffer of parameters.
fn take_params(source: &mut Source, bytes: &[u8]) -> FrameOutcome {
    match source.take_params(bytes) {
        Ok(Some(length)) => FrameOutcome::Transferred(u32::try_from(length).unwrap_or(u32::MAX)),
        // The registers enable no channel of metadata where there is no ISP.
        Ok(None) => FrameOutcome::Abandoned,
        Err(fault) => {
            tracing::debug!("{fault}");
            FrameOutcome::BadParams(fault)
        }
    }
}

/// Writes the statistics of the frame that was made last.
fn write_statistics(
    source: &Source,
    job: &Job,
    write: &DmaWrite<'_>,
    faults: &mut DmaFaults,
) -> FrameOutcome {
    let mut buffer = [0; STATISTICS_SIZE];
    if !source.write_statistics(job, &mut buffer) {
        return FrameOutcome::Abandoned;
    }
    if faults.statistics(job, &mut buffer) {
        write.write(0, &buffer);
        write.publish();
    }
    FrameOutcome::Transferred(u32::try_from(STATISTICS_SIZE).unwrap_or(u32::MAX))
}

/// Copies the frame `sequence`, which was written in `layout` to `addresses`, into `memory`.
fn capture(
    layout: &Layout,
    addresses: [u64; MAX_PLANES],
    sequence: u32,
    dma: &DmaPort,
    memory: Vec<u8>,
) -> Captured {
    let planes: Vec<_> = layout.planes().zip(addresses).collect();
    Captured::read(layout, sequence, memory, |plane, y, line| {
        let (shape, address) = planes[plane];
        let at = address + u64::from(y) * u64::from(shape.stride);
        dma.read_slice(line, GuestAddress(at)).expect("the port permitted the whole plane");
    })
}

/// The transfers of a frame. None for a channel that does not take part.
struct Transfers<'a> {
    frames: [Option<Result<Transfer<'a>, Refusal>>; FRAME_CHANNELS],
    /// The guest memory for its statistics.
    statistics: Option<Result<DmaWrite<'a>, Refusal>>,
    /// The length of its parameters, which were copied.
    params: Option<Result<usize, Refusal>>,
}

impl<'a> Transfers<'a> {
    /// Checks the configurations of `job`, and copies the parameters.
    fn check(job: &Job, dma: &'a DmaPort, params: &mut [u8; PARAMS_MAX]) -> Self {
        let frames = std::array::from_fn(|channel| {
            let transfer = Transfer::new(channel, job.configs[channel].as_ref()?, dma);
            Some(transfer.inspect_err(|refusal| log_refusal(job, channel, refusal)))
        });
        let frame = match frames[PROCESSED] {
            Some(Ok(_)) => Ok(()),
            _ => Err(Refusal::NoFrame),
        };
        let statistics = job.configs[STATISTICS].map(|config| {
            let slice = frame.and_then(|()| metadata::statistics(&config, dma));
            slice.inspect_err(|refusal| log_refusal(job, STATISTICS, refusal))
        });
        let params = job.configs[PARAMS].map(|config| {
            let length = frame.and_then(|()| metadata::params(&config, dma, params));
            length.inspect_err(|refusal| log_refusal(job, PARAMS, refusal))
        });
        Self { frames, statistics, params }
    }

    /// A bit for each channel whose configuration is valid.
    fn right(&self) -> u32 {
        let frames = (0..).zip(&self.frames).map(|(n, frame)| u32::from(matches!(frame, Some(Ok(_)))) << n);
        frames.sum::<u32>()
            | u32::from(matches!(self.statistics, Some(Ok(_)))) << STATISTICS
            | u32::from(matches!(self.params, Some(Ok(_)))) << PARAMS
    }
}

fn log_refusal(job: &Job, channel: usize, refusal: &Refusal) {
    tracing::debug!(sequence = job.sequence, channel, "the camera refused a frame: {refusal}");
}
