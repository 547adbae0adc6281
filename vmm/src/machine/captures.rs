//! Makes answers of captured frames on a thread of its own, as a PNG takes time.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use ::devices::{machine_events::MachineEvents, media::Captured};

use crate::{
    api::Answer,
    observe::capture::Capture,
    sandbox::{self, Kind},
};

/// The time between two looks at the devices while a frame is awaited.
const LOOK: Duration = Duration::from_millis(5);

/// The thread, which ends when this is dropped.
pub(super) struct Captures {
    awaited: Option<Sender<Awaited>>,
    thread: Option<JoinHandle<()>>,
}

/// A frame that a client waits for.
struct Awaited {
    device: String,
    frames: Receiver<Captured>,
    answer: Sender<Answer>,
    until: Instant,
}

impl Captures {
    /// Starts the thread, which announces its answers by `events`.
    ///
    /// # Errors
    /// If the host refuses the thread.
    pub(super) fn start(events: Arc<MachineEvents>) -> io::Result<Self> {
        let (awaited, frames) = mpsc::channel();
        let builder = Builder::new().name("capture".to_owned());
        let thread = sandbox::start(Kind::Capture, None, builder, move || make_all(&frames, &events))?;
        Ok(Self { awaited: Some(awaited), thread: Some(thread) })
    }

    /// The answer with the frame that comes from `frames` within `limit`.
    pub(super) fn make(&self, device: &str, frames: Receiver<Captured>, limit: Duration) -> Receiver<Answer> {
        let (answer, answers) = mpsc::channel();
        let awaited = Awaited { device: device.to_owned(), frames, answer, until: Instant::now() + limit };
        if let Some(all) = &self.awaited {
            // If the thread has panicked, no answer comes, and the client's time passes.
            let _ = all.send(awaited);
        }
        answers
    }
}

impl Drop for Captures {
    fn drop(&mut self) {
        self.awaited = None;
        if let Some(thread) = self.thread.take() {
            // It makes one PNG at most.
            let _ = thread.join();
        }
    }
}

fn make_all(new: &Receiver<Awaited>, events: &MachineEvents) {
    let mut waiting: Vec<Awaited> = Vec::new();
    loop {
        let next = if waiting.is_empty() {
            new.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            new.recv_timeout(LOOK)
        };
        match next {
            Ok(awaited) => waiting.push(awaited),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        waiting.retain(|Awaited { device, frames, answer, until }| match frames.try_recv() {
            Ok(captured) => {
                let made = Capture::new(device, &captured).map_or_else(
                    |error| Answer::Error(format!("the frame cannot be written as a PNG: {error}")),
                    Answer::Capture,
                );
                // The client may be gone.
                let _ = answer.send(made);
                let _ = events.eventfd().write(1);
                false
            }
            Err(TryRecvError::Empty) => Instant::now() < *until,
            Err(TryRecvError::Disconnected) => false,
        });
    }
}
