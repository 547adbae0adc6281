//! A thread of a device with an event loop of its own, for work that may not wait for other devices' or hold them up.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use event_manager::{EventManager, EventSubscriber, RemoteEndpoint, SubscriberOps as _};
use tracing::error;

use media::threads::{self, Role};

type Subscriber = Arc<dyn EventSubscriber + Send + Sync>;

/// The thread, which runs until [`end`](Self::end).
pub(super) struct EventThread {
    thread: JoinHandle<()>,
    ends: Arc<AtomicBool>,
    endpoint: RemoteEndpoint<Subscriber>,
}

impl EventThread {
    /// Starts the thread of the device `id`, which serves `subscriber`.
    ///
    /// # Errors
    /// If the host refuses a file descriptor or the thread.
    pub(super) fn start(id: &str, role: Role, subscriber: Subscriber) -> io::Result<Self> {
        let mut manager = EventManager::new().map_err(|error| io::Error::other(error.to_string()))?;
        manager.add_subscriber(subscriber);
        let (endpoint, ends) = (manager.remote_endpoint(), Arc::new(AtomicBool::new(false)));
        let (ends_there, name) = (ends.clone(), id.to_owned());
        let thread = threads::start(role, thread::Builder::new().name(id.to_owned()), move || {
            while !ends_there.load(Ordering::Acquire) {
                if let Err(error) = manager.run() {
                    error!("{name} is not served any more: {error}");
                    return;
                }
            }
        })?;
        Ok(Self { thread, ends, endpoint })
    }

    /// Has the thread end after the event that it is at. Returns the thread, to wait for.
    pub(super) fn end(self) -> JoinHandle<()> {
        self.ends.store(true, Ordering::Release);
        // The eventfd takes a count of one.
        let _ = self.endpoint.kick();
        self.thread
    }
}
