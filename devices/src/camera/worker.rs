//! The camera's thread. It makes the frames, and waits for the frame clock and for the guest.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
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
use crate::dma::{DmaPort, DmaWrite};
use media::{Captured, Layout, MAX_PLANES, Recorder};

/// Where a camera takes the time from.
pub(super) enum Time {
    /// The host's clock.
    Host,
    /// A time that only a [`Stepper`](super::Stepper) changes.
    Stepped(Mutex<Instant>),
}

/// The state that the vCPU threads and the worker share.
pub(super) struct Shared {
    registers: Mutex<RegisterFile>,
    time: Time,
    wake: Condvar,
    /// The receivers of the next processed frame. The flag below says whether there are any, so that a frame without receivers
    /// takes no lock.
    viewers: Mutex<Vec<Sender<Captured>>>,
    is_viewed: AtomicBool,
}

impl Shared {
    pub(super) fn new(registers: RegisterFile, time: Time) -> Self {
        Self {
            registers: Mutex::new(registers),
            time,
            wake: Condvar::new(),
            viewers: Mutex::default(),
            is_viewed: AtomicBool::new(false),
        }
    }

    /// The register file. The caller holds the lock for a short time only.
    pub(super) fn registers(&self) -> MutexGuard<'_, RegisterFile> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present time.
    pub(super) fn now(&self) -> Instant {
        match &self.time {
            Time::Host => Instant::now(),
            Time::Stepped(now) => *now.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Sets the time of a camera that is stepped. The host's clock stays.
    pub(super) fn set_now(&self, time: Instant) {
        if let Time::Stepped(now) = &self.time {
            *now.lock().unwrap_or_else(PoisonError::into_inner) = time;
        }
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
            let now = self.now();
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

/// What makes the frames.
pub(super) struct Worker {
    dma: DmaPort,
    /// A captured frame is not the device's transfer.
    plain: DmaPort,
    source: Source,
    faults: DmaFaults,
    recorder: Option<Recorder>,
    abort: Arc<AtomicBool>,
    params: [u8; PARAMS_MAX],
}

impl Worker {
    /// The worker of the camera with the registers of `shared`.
    pub(super) fn new(
        shared: &Shared,
        dma: DmaPort,
        source: Source,
        faults: DmaFaults,
        recorder: Option<Recorder>,
    ) -> Self {
        let (plain, abort) = (dma.without_faults(), shared.registers().abandon());
        Self { dma, plain, source, faults, recorder, abort, params: [0; PARAMS_MAX] }
    }

    /// Makes frames until the camera is switched off.
    pub(super) fn run(mut self, shared: &Shared) {
        while let Some(job) = shared.next_job() {
            self.make(shared, job);
        }
    }

    /// Makes the frame of `job`, and reports it. It holds no lock meanwhile.
    pub(super) fn make(&mut self, shared: &Shared, mut job: Job) {
        let Self { dma, plain, source, faults, recorder, abort, params } = self;
        let finished = |channel, outcome| shared.registers().finished(channel, outcome, shared.now());
        if let Some(wrong) = job.wrong {
            let outcome = faults::whole_frame(wrong, abort);
            (0..CHANNELS).for_each(|channel| finished(channel, outcome));
            return;
        }
        source.begin(&job);
        // All channels are checked before the first is written, because the frame begins for all of them at once.
        let transfers = Transfers::check(&job, dma, params);
        match transfers.right() {
            0 => {}
            channels => shared.registers().started(channels),
        }
        let Transfers { frames, mut statistics, params: length } = transfers;
        if let Some(length) = length {
            let outcome = match length {
                Err(refusal) => FrameOutcome::Refused(refusal),
                Ok(length) if faults.params(&job, &mut params[..length]) => {
                    take_params(source, &params[..length])
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
                    let outcome = faults.make(source, channel, &job, transfer, dma, abort, &report);
                    if channel == PROCESSED
                        && matches!(outcome, FrameOutcome::Written { .. })
                        && let Some(config) = &job.configs[channel]
                    {
                        let capture =
                            |memory| capture(&layout, config.addresses, job.sequence, plain, memory);
                        if let Some(recorder) = recorder {
                            recorder.record(job.interval, abort, capture);
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
                        write_statistics(source, &job, &slice, faults)
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
