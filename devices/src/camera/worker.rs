//! The camera's thread: makes the frames, and waits for the frame clock and for the guest.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Instant,
};

use super::{
    channel::Transfer,
    face::{Face, Job, Outcome, Task},
    format::Layout,
    picture::Picture,
    scene::Pattern,
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

/// The picture that frames are taken from, as long as it is the right one.
struct Sensor {
    seed: u64,
    picture: Option<Picture>,
}

impl Sensor {
    /// What `pattern` looks like in frames of `layout`; none if `abort` was set while it was rendered.
    fn picture(&mut self, pattern: Pattern, layout: &Layout, abort: &AtomicBool) -> Option<&mut Picture> {
        // The old one goes first: two of the largest take 70 MB.
        self.picture.take_if(|picture| !picture.is(pattern, layout));
        if self.picture.is_none() {
            self.picture = Picture::render(pattern, layout, self.seed, abort);
        }
        self.picture.as_mut()
    }
}

/// Makes frames until the camera is switched off. No lock is held while it does.
pub(super) fn run(shared: &Shared, dma: &DmaPort, seed: u64) {
    let abort = shared.face().abandon();
    let mut sensor = Sensor { seed, picture: None };
    while let Some(job) = shared.next_job() {
        let outcome = match Transfer::new(&job.config, dma) {
            Err(refusal) => {
                tracing::debug!(sequence = job.sequence, "the camera refused a frame: {refusal}");
                Outcome::Refused(refusal)
            }
            Ok(transfer) => {
                shared.face().started();
                make(&job, &transfer, &mut sensor, &abort)
            }
        };
        shared.face().finished(outcome, Instant::now());
    }
}

fn make(job: &Job, transfer: &Transfer, sensor: &mut Sensor, abort: &AtomicBool) -> Outcome {
    let layout = transfer.layout();
    let Some(picture) = sensor.picture(job.pattern, layout, abort) else {
        return Outcome::Abandoned;
    };
    if transfer.write(&picture.frame(job.sequence), abort) {
        Outcome::Written { bytes: layout.visible_bytes(), span: layout.span() }
    } else {
        Outcome::Abandoned
    }
}
