//! Where a machine's streams go on the host, and what looks after the machine there.

use super::{gdb::link::Link, signals::Signals, watch::Watch};
use crate::{
    api::server::Server,
    guest::output::Output,
    observe::{memory_dump::MemoryDump, metrics::output::MetricsOutput},
};

/// Where a machine's streams go on the host.
pub struct Streams {
    /// The guest's terminal, or the command's standard output.
    pub stdout: Output,
    /// The command's standard error.
    pub stderr: Output,
    /// A copy of the serial port's output, to the file from [`prepare_places`](super::prepare_places).
    pub console_log: Option<Output>,
    /// The signals that end the machine, where the machine is this process' only job. Without a command it then has the
    /// terminal, too.
    pub signals: Option<Signals>,
    /// The watch over the machine's end.
    pub watch: Watch,
    /// The socket for requests to the machine while it runs.
    pub api: Option<Server>,
    /// Where the figures of the machine go.
    pub metrics: Option<MetricsOutput>,
    /// The socket for a debugger, and whether the guest waits for it.
    pub gdb: Option<(Link, bool)>,
    /// The file for the memory of a guest that panics.
    pub dump: Option<MemoryDump>,
}
