//! The figures of a running machine: answers the requests for them, and has the file of `--metrics` replaced.

use std::time::Instant;

use event_manager::SubscriberOps;

use super::{
    lock::lock,
    metrics::{INTERVAL, Metrics, text},
    running::Machine,
};
use crate::observe::metrics::figures::AreaFigures;

impl Machine {
    /// Answers the requests for the figures, and writes them to the file if that is due. The event loop calls it at each wakeup.
    pub(super) fn serve_metrics(&mut self) {
        let Some(mut metrics) = self.metrics.take() else { return };
        match &mut metrics {
            Metrics::File(writer, due) => {
                let now = Instant::now();
                if now >= *due {
                    *due = now + INTERVAL;
                    writer.write(self.metrics_text());
                }
            }
            Metrics::Socket(server, subscriber) => {
                let text = if lock(server).is_asked() { self.metrics_text() } else { String::new() };
                if let Ok(mut ops) = self.manager.event_ops(*subscriber) {
                    lock(server).answer(&text, &mut ops);
                }
            }
        }
        self.metrics = Some(metrics);
    }

    fn metrics_text(&self) -> String {
        let found = self.kernel_memory.areas(&self.memory, self.memory_size, false).unwrap_or_default();
        let areas: Vec<AreaFigures> =
            found.areas.iter().map(|area| AreaFigures::new(area, found.page_size)).collect();
        text(&self.status(), self.devices.faults.as_ref(), &areas, None)
    }
}
