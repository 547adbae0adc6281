//! The wakeups of the event loop, apart from devices' queues: notes which descriptors are ready, and leaves the work to the loop.

use std::{
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
};

use event_manager::{EventOps, EventSet, EventSubscriber, Events, MutEventSubscriber};

/// What the event loop calls: this file's subscriber, and those of devices and of the API socket.
pub(super) type Subscriber = Arc<dyn EventSubscriber>;

/// The cause of a wakeup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The guest reported something to its machine.
    Guest,
    /// A vCPU ended, or waits in a pause.
    Vcpu,
    /// The serial port printed.
    Serial,
    /// There is keyboard input.
    Input,
    /// The guest has room for input again, or opened its terminal.
    InputRoom,
    /// An output has room again, or has failed.
    OutputRoom,
    /// A signal arrived.
    Signal,
    /// A thread made a system call that the sandbox forbids.
    Violation,
    /// The clock for changes that make no event.
    Tick,
}

/// The subscriber for all causes. The owners of the descriptors outlive the event manager.
#[derive(Debug, Default)]
pub struct Wakeups {
    sources: Vec<(RawFd, Wake)>,
    woken: Vec<Wake>,
}

impl Wakeups {
    /// Adds a source. It has to come before the subscriber is added to the event manager.
    pub fn add(&mut self, source: &impl AsRawFd, wake: Wake) {
        self.sources.push((source.as_raw_fd(), wake));
    }

    /// Takes the causes since the last call.
    pub fn take(&mut self) -> Vec<Wake> {
        std::mem::take(&mut self.woken)
    }
}

impl MutEventSubscriber for Wakeups {
    fn process(&mut self, events: Events, _ops: &mut EventOps<'_>) {
        let source = usize::try_from(events.data()).ok().and_then(|index| self.sources.get(index));
        self.woken.extend(source.map(|(_, wake)| *wake));
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        for (index, (fd, wake)) in (0..).zip(&self.sources) {
            if let Err(error) = ops.add(Events::with_data_raw(*fd, index, EventSet::IN)) {
                tracing::warn!("cannot listen to {wake:?}: {error}");
            }
        }
    }
}
