//! The destination of the figures of a running machine: the thread with the file of `--metrics`, or the socket in the event loop.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ::devices::faults::Faults;
use event_manager::{EventManager, SubscriberId, SubscriberOps};

use super::wakeups::Subscriber;
use crate::{
    api::Status,
    observe::{
        metrics::{
            figures::{AreaFigures, Figures},
            file::MetricsWriter,
            output::MetricsOutput,
            server::MetricsServer,
        },
        process::{overhead_by_counters, resident},
    },
};

/// The time between two versions of the file. Programs that collect such files look every 15 s to a minute.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// The destination of the figures of a running machine.
pub(super) enum Metrics {
    /// The file, and when it is due.
    File(MetricsWriter, Instant),
    /// The socket in the event loop.
    Socket(Arc<Mutex<MetricsServer>>, SubscriberId),
}

impl Metrics {
    /// Begins to serve `output`: the socket by the event loop of `manager`, the file by a thread.
    ///
    /// # Errors
    /// If the host refuses the thread.
    pub(super) fn begin(output: MetricsOutput, manager: &mut EventManager<Subscriber>) -> io::Result<Self> {
        Ok(match output {
            MetricsOutput::File(file) => Self::File(MetricsWriter::start(file)?, Instant::now()),
            MetricsOutput::Socket(server) => {
                let server = Arc::new(Mutex::new(server));
                let subscriber = manager.add_subscriber(server.clone());
                Self::Socket(server, subscriber)
            }
        })
    }

    /// Writes the last figures to the file. The socket goes.
    pub(super) fn finish(self, status: &Status, faults: Option<&Faults>, exit_status: u8) {
        if let Self::File(writer, _) = self {
            writer.finish(text(status, faults, &[], Some(exit_status)));
        }
    }
}

/// The figures of a machine as text; at its `end` with the exit status.
pub(super) fn text(
    status: &Status,
    faults: Option<&Faults>,
    areas: &[AreaFigures],
    end: Option<u8>,
) -> String {
    let rules = faults.map(Faults::rules).unwrap_or_default();
    let (resident, overhead) = (resident(), overhead_by_counters());
    Figures { status, rules: &rules, areas, resident, overhead, end }.text()
}
