//! The camera's thread: makes the frames, and waits for the frame clock and for the guest.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Instant,
};

use super::{
    channel::{Refusal, Transfer},
    face::{CHANNELS, Face, Job, Outcome, Task},
    picture::Picture,
    pictures::PicturesError,
    pipeline::Pipeline,
    spec::CameraSpec,
};
use crate::dma::DmaPort;

/// What the vCPU threads and the worker share.
pub(super) struct Shared {
    face: Mutex<Face>,
    wake: Condvar,
}

impl Shared {
    pub(super) fn new(face: Face) -> Self {
        Self { face: Mutex::new(face), wake: Condvar::new() }
    }

    /// The register face, for a short time.
    pub(super) fn face(&self) -> MutexGuard<'_, Face> {
        self.face.lock().unwrap_or_else(PoisonError::into_inner)
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
    Patterns { seed: u64, pictures: Box<[Option<Picture>; CHANNELS]> },
    /// Sensor and ISP.
    Sensor(Box<Pipeline>),
}

impl Source {
    /// What a camera that `spec` describes makes its frames from.
    pub(super) fn new(spec: &CameraSpec) -> Result<Self, PicturesError> {
        let seed = spec.seed.unwrap_or_default();
        Ok(match &spec.sensor {
            Some(sensor) => Self::Sensor(Box::new(Pipeline::new(sensor, seed)?)),
            None => Self::Patterns { seed, pictures: Box::new([const { None }; CHANNELS]) },
        })
    }

    /// Makes the frame of `job` for `channel`, and writes it; false if it was abandoned because of `abort`.
    fn make(&mut self, channel: usize, job: &Job, transfer: &Transfer, abort: &AtomicBool) -> bool {
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
}

/// Makes frames until the camera is switched off. No lock is held while it does.
pub(super) fn run(shared: &Shared, dma: &DmaPort, mut source: Source) {
    let abort = shared.face().abandon();
    while let Some(job) = shared.next_job() {
        // All are checked before the first is written: the frame begins for all of them at once.
        let transfers = check(&job, dma);
        let right =
            (0..).zip(&transfers).map(|(n, transfer)| u32::from(matches!(transfer, Some(Ok(_)))) << n);
        match right.sum() {
            0 => {}
            channels => shared.face().started(channels),
        }
        for (channel, transfer) in transfers.into_iter().enumerate() {
            let outcome = match transfer {
                None => continue,
                Some(Err(refusal)) => Outcome::Refused(refusal),
                Some(Ok(transfer)) if source.make(channel, &job, &transfer, &abort) => {
                    let layout = transfer.layout();
                    Outcome::Written { bytes: layout.visible_bytes(), span: layout.span() }
                }
                Some(Ok(_)) => Outcome::Abandoned,
            };
            shared.face().finished(channel, outcome, Instant::now());
        }
    }
}

/// What each channel that takes part may write.
fn check<'a>(job: &Job, dma: &'a DmaPort) -> [Option<Result<Transfer<'a>, Refusal>>; CHANNELS] {
    std::array::from_fn(|channel| {
        let transfer = Transfer::new(channel, job.configs[channel].as_ref()?, dma);
        if let Err(refusal) = &transfer {
            tracing::debug!(sequence = job.sequence, channel, "the camera refused a frame: {refusal}");
        }
        Some(transfer)
    })
}
