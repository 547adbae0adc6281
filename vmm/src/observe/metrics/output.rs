//! Where the figures of a machine go, once it is known that they can.

use std::path::Path;

use super::{file::MetricsFile, server::MetricsServer};

/// The destination of a machine's figures.
#[derive(Debug)]
pub enum MetricsOutput {
    /// A file that can be written.
    File(MetricsFile),
    /// A socket on which nobody is served yet.
    Socket(MetricsServer),
}

impl MetricsOutput {
    /// The folder of the socket, which the main thread removes at the end. A file has a thread of its own.
    pub fn folder_of_socket(&self) -> Option<&Path> {
        match self {
            Self::File(_) => None,
            Self::Socket(server) => Some(server.folder()),
        }
    }
}
