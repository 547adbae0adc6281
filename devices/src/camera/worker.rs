//! The camera's thread: makes the frames, and waits for the frame clock and for the guest.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::Instant,
};

use vm_memory::{Bytes, VolatileSlice};

use super::{
    auto::Exposure,
    captured::Captured,
    channel::{Refusal, Transfer},
    face::{CHANNELS, FRAME_CHANNELS, Face, Job, Outcome, PARAMS, PROCESSED, STATISTICS, Task},
    fault::{self, DmaFaults},
    meta::{PARAMS_MAX, STATISTICS_SIZE},
    metadata,
    picture::Picture,
    pictures::PicturesError,
    pipeline::Pipeline,
    record::Recorder,
    spec::CameraSpec,
};
use crate::dma::DmaPort;

/// What the vCPU threads and the worker share.
pub(super) struct Shared {
    face: Mutex<Face>,
    wake: Condvar,
    /// Who wants to see the next processed frame; not looked at while nobody does.
    viewers: Mutex<Vec<Sender<Captured>>>,
    is_viewed: AtomicBool,
}

impl Shared {
    pub(super) fn new(face: Face) -> Self {
        Self {
            face: Mutex::new(face),
            wake: Condvar::new(),
            viewers: Mutex::default(),
            is_viewed: AtomicBool::new(false),
        }
    }

    /// The register face, for a short time.
    pub(super) fn face(&self) -> MutexGuard<'_, Face> {
        self.face.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next processed frame that is written comes there.
    pub(super) fn view(&self) -> Receiver<Captured> {
        let (viewer, frames) = mpsc::channel();
        self.viewers().push(viewer);
        self.is_viewed.store(true, Ordering::Release);
        frames
    }

    fn viewers(&self) -> MutexGuard<'_, Vec<Sender<Captured>>> {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a frame to those who want to see one.
    fn show(&self, captured: &Captured) {
        for viewer in self.viewers().drain(..) {
            // One who waits no longer is no matter.
            let _ = viewer.send(captured.clone());
        }
    }

    /// Makes the worker look at the registers.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until there is a frame to make; none if the camera was switched off.
    fn next_job(&self) -> Option<Job> {
        let mut face = self.face();
        loop {
            let now = Instant::now();
            face = match face.poll(now) {
                Task::Frame(job) => return Some(job),
                Task::Off => return None,
                Task::Wait => self.wake.wait(face).unwrap_or_else(PoisonError::into_inner),
                Task::WaitUntil(then) => {
                    self.wake.wait_timeout(face, then - now).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// What frames are made from.
pub(super) enum Source {
    /// The test pattern generator: a picture for each channel, as long as it is the right one.
    Patterns { seed: u64, pictures: Box<[Option<Picture>; FRAME_CHANNELS]> },
    /// Sensor and ISP.
    Sensor(Box<Pipeline>),
}

impl Source {
    /// What a camera that `spec` describes makes its frames from.
    pub(super) fn new(spec: &CameraSpec) -> Result<Self, PicturesError> {
        let seed = spec.seed.unwrap_or_default();
        Ok(match &spec.sensor {
            Some(sensor) => Self::Sensor(Box::new(Pipeline::new(sensor, seed)?)),
            None => Self::Patterns { seed, pictures: Box::new([const { None }; FRAME_CHANNELS]) },
        })
    }

    /// Makes the frame of `job` for `channel`, and writes it; false if it was abandoned because of `abort`.
    pub(super) fn make(
        &mut self,
        channel: usize,
        job: &Job,
        transfer: &Transfer,
        abort: &AtomicBool,
    ) -> bool {
        match self {
            Self::Sensor(pipeline) => pipeline.make(channel, job, transfer, abort),
            Self::Patterns { seed, pictures } => {
                let layout = transfer.layout();
                let picture = &mut pictures[channel];
                // The old one goes first: two of the largest take 70 MB.
                picture.take_if(|picture| !picture.is(job.sensor, layout));
                if picture.is_none() {
                    *picture = Picture::render(job.sensor, layout, *seed, abort);
                }
                picture.as_mut().is_some_and(|picture| transfer.write(&picture.frame(job.sequence), abort))
            }
        }
    }

    /// How the device itself exposes the next frame, after one from which it can tell.
    pub(super) fn next_exposure(&mut self) -> Option<Exposure> {
        match self {
            Self::Sensor(pipeline) => pipeline.next_exposure.take(),
            Self::Patterns { .. } => None,
        }
    }

    /// A frame begins that is not of the time before a reset.
    fn begin(&mut self, job: &Job) {
        if let Self::Sensor(pipeline) = self {
            pipeline.begin(job);
        }
    }

    /// Takes parameters for the frame that begins, and for those after it.
    fn take_params(&mut self, bytes: &[u8]) -> Outcome {
        match self {
            Self::Sensor(pipeline) => match pipeline.take_params(bytes) {
                Ok(length) => Outcome::Transferred(u32::try_from(length).unwrap_or(u32::MAX)),
                Err(fault) => {
                    tracing::debug!("{fault}");
                    Outcome::BadParams(fault)
                }
            },
            // The register face enables no channel of metadata where there is no ISP.
            Self::Patterns { .. } => Outcome::Abandoned,
        }
    }

    /// Writes the statistics of the frame that was made last.
    fn write_statistics(
        &self,
        job: &Job,
        slice: &VolatileSlice,
        dma: &DmaPort,
        faults: &mut DmaFaults,
    ) -> Outcome {
        let mut buffer = [0; STATISTICS_SIZE];
        match self {
            Self::Sensor(pipeline) if pipeline.write_statistics(job, &mut buffer) => {
                if faults.statistics(job, &mut buffer) {
                    slice.write_slice(&buffer, 0).expect("the slice is as long");
                    dma.publish(slice);
                }
                Outcome::Transferred(u32::try_from(STATISTICS_SIZE).unwrap_or(u32::MAX))
            }
            _ => Outcome::Abandoned,
        }
    }
}

/// Makes frames until the camera is switched off. No lock is held while it does.
pub(super) fn run(
    shared: &Shared,
    dma: &DmaPort,
    mut source: Source,
    mut faults: DmaFaults,
    mut recorder: Option<Recorder>,
) {
    let abort = shared.face().abandon();
    let finished = |channel, outcome| shared.face().finished(channel, outcome, Instant::now());
    let mut params = [0; PARAMS_MAX];
    while let Some(mut job) = shared.next_job() {
        if let Some(wrong) = job.wrong {
            let outcome = fault::whole_frame(wrong, &abort);
            (0..CHANNELS).for_each(|channel| finished(channel, outcome));
            continue;
        }
        source.begin(&job);
        // All are checked before the first is written: the frame begins for all of them at once.
        let transfers = Transfers::check(&job, dma, &mut params);
        match transfers.right() {
            0 => {}
            channels => shared.face().started(channels),
        }
        let Transfers { frames, mut statistics, params: length } = transfers;
        if let Some(length) = length {
            let outcome = match length {
                Err(refusal) => Outcome::Refused(refusal),
                Ok(length) if faults.params(&job, &mut params[..length]) => {
                    source.take_params(&params[..length])
                }
                Ok(length) => Outcome::Transferred(u32::try_from(length).unwrap_or(u32::MAX)),
            };
            if matches!(outcome, Outcome::Transferred(_)) {
                job.params_sequence = Some(job.sequence);
            }
            finished(PARAMS, outcome);
        }
        for (channel, transfer) in frames.into_iter().enumerate() {
            let outcome = match transfer {
                None => continue,
                Some(Err(refusal)) => Outcome::Refused(refusal),
                Some(Ok(transfer)) => {
                    let layout = *transfer.layout();
                    let told = |outcome| finished(channel, outcome);
                    let outcome = faults.make(&mut source, channel, &job, transfer, dma, &abort, &told);
                    if channel == PROCESSED
                        && matches!(outcome, Outcome::Written { .. })
                        && let Some(config) = &job.configs[channel]
                    {
                        if let Some(recorder) = &mut recorder {
                            recorder.record(&job, &layout, config.addresses, dma, &abort);
                        }
                        if shared.is_viewed.swap(false, Ordering::Acquire) {
                            let memory = Vec::new();
                            shared.show(&Captured::read(
                                &layout,
                                config.addresses,
                                job.sequence,
                                dma,
                                memory,
                            ));
                        }
                    }
                    outcome
                }
            };
            // What goes with a frame ends before it: what becomes of the frame is the last that a driver hears.
            if channel == PROCESSED
                && let Some(slice) = statistics.take()
            {
                let outcome = match slice {
                    Err(refusal) => Outcome::Refused(refusal),
                    Ok(slice) if matches!(outcome, Outcome::Written { .. }) => {
                        source.write_statistics(&job, &slice, dma, &mut faults)
                    }
                    Ok(_) => Outcome::Abandoned,
                };
                finished(STATISTICS, outcome);
            }
            finished(channel, outcome);
        }
    }
}

/// What of a frame is transferred, as far as it takes part.
struct Transfers<'a> {
    frames: [Option<Result<Transfer<'a>, Refusal>>; FRAME_CHANNELS],
    /// Where its statistics go.
    statistics: Option<Result<VolatileSlice<'a>, Refusal>>,
    /// The length of its parameters, which are copied.
    params: Option<Result<usize, Refusal>>,
}

impl<'a> Transfers<'a> {
    /// Checks what `job` asks for, and copies the parameters.
    fn check(job: &Job, dma: &'a DmaPort, params: &mut [u8; PARAMS_MAX]) -> Self {
        let frames = std::array::from_fn(|channel| {
            let transfer = Transfer::new(channel, job.configs[channel].as_ref()?, dma);
            Some(transfer.inspect_err(|refusal| told(job, channel, refusal)))
        });
        let frame = match frames[PROCESSED] {
            Some(Ok(_)) => Ok(()),
            _ => Err(Refusal::NoFrame),
        };
        let statistics = job.configs[STATISTICS].map(|config| {
            let slice = frame.and_then(|()| metadata::statistics(&config, dma));
            slice.inspect_err(|refusal| told(job, STATISTICS, refusal))
        });
        let params = job.configs[PARAMS].map(|config| {
            let length = frame.and_then(|()| metadata::params(&config, dma, params));
            length.inspect_err(|refusal| told(job, PARAMS, refusal))
        });
        Self { frames, statistics, params }
    }

    /// A bit for each channel whose transfer is right.
    fn right(&self) -> u32 {
        let frames = (0..).zip(&self.frames).map(|(n, frame)| u32::from(matches!(frame, Some(Ok(_)))) << n);
        frames.sum::<u32>()
            | u32::from(matches!(self.statistics, Some(Ok(_)))) << STATISTICS
            | u32::from(matches!(self.params, Some(Ok(_)))) << PARAMS
    }
}

fn told(job: &Job, channel: usize, refusal: &Refusal) {
    tracing::debug!(sequence = job.sequence, channel, "the camera refused a frame: {refusal}");
}
