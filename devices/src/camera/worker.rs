//! The camera's thread: makes the frames, and waits for the frame clock and for the guest.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Instant,
};

use super::{
    channel::{Refusal, Transfer},
    face::{CHANNELS, Face, Job, Outcome, Task},
    format::Layout,
    picture::{Picture, SensorSettings},
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

/// The picture that a channel's frames are taken from, as long as it is the right one.
struct Source {
    seed: u64,
    picture: Option<Picture>,
}

impl Source {
    /// What `sensor` sees in frames of `layout`; none if `abort` was set while it was rendered.
    fn picture(
        &mut self,
        sensor: SensorSettings,
        layout: &Layout,
        abort: &AtomicBool,
    ) -> Option<&mut Picture> {
        // The old one goes first: two of the largest take 70 MB.
        self.picture.take_if(|picture| !picture.is(sensor, layout));
        if self.picture.is_none() {
            self.picture = Picture::render(sensor, layout, self.seed, abort);
        }
        self.picture.as_mut()
    }
}

/// Makes frames until the camera is switched off. No lock is held while it does.
pub(super) fn run(shared: &Shared, dma: &DmaPort, seed: u64) {
    let abort = shared.face().abandon();
    let mut sources = [const { None }; CHANNELS].map(|picture| Source { seed, picture });
    while let Some(job) = shared.next_job() {
        // All are checked before the first is written: the frame begins for all of them at once.
        let transfers = check(&job, dma);
        let right =
            (0..).zip(&transfers).map(|(n, transfer)| u32::from(matches!(transfer, Some(Ok(_)))) << n);
        match right.sum() {
            0 => {}
            channels => shared.face().started(channels),
        }
        for (channel, (transfer, source)) in transfers.into_iter().zip(&mut sources).enumerate() {
            let outcome = match transfer {
                None => continue,
                Some(Err(refusal)) => Outcome::Refused(refusal),
                Some(Ok(transfer)) => make(&job, &transfer, source, &abort),
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

fn make(job: &Job, transfer: &Transfer, source: &mut Source, abort: &AtomicBool) -> Outcome {
    let layout = transfer.layout();
    let Some(picture) = source.picture(job.sensor, layout, abort) else {
        return Outcome::Abandoned;
    };
    if transfer.write(&picture.frame(job.sequence), abort) {
        Outcome::Written { bytes: layout.visible_bytes(), span: layout.span() }
    } else {
        Outcome::Abandoned
    }
}
