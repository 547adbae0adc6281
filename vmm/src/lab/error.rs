//! Why a command was not run in the lab to its end.

use std::{io, path::Path, time::Duration};

use crate::api::server::SocketError;

/// Why a command was not run in the lab to its end.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A Debian package could not be fetched.
    #[error(transparent)]
    Debian(#[from] guest_images::Error),
    /// The kernel or the initramfs could not be made.
    #[error("the lab could not be prepared: {0}")]
    Prepare(String),
    /// A request that makes no sense.
    #[error("{0}")]
    Request(String),
    /// The socket of the machine in the lab.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A file, a stream or a system call.
    #[error("{what}: {source}")]
    Io {
        /// What could not be done, and with what.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The emulated machine ended before the command did.
    #[error("the lab's machine ended before the command did; its last messages:\n{log}")]
    Died {
        /// The last lines of its kernel's and of the emulator's messages.
        log: String,
    },
    /// The lab's init could not do its work.
    #[error("the lab's init {reason}; the machine's last messages:\n{log}")]
    Init {
        /// What it could not do.
        reason: String,
        /// As in [`LabError::Died`].
        log: String,
    },
    /// The time limit was reached.
    #[error("the time limit of {} s was reached while {}; the lab was ended{log}", limit.as_secs_f32(),
        if *started { "the command ran" } else { "the lab was booting" })]
    Timeout {
        /// The limit.
        limit: Duration,
        /// Whether the command had begun.
        started: bool,
        /// Empty if the command had begun, else the last messages.
        log: String,
    },
    /// A signal that asks us to end; see [`Lab::pass_signals`](super::Lab::pass_signals).
    #[error("the lab was ended by signal {0}")]
    Signal(i32),
}

impl LabError {
    /// For `map_err`: the error of not being able to do `action` with `path`.
    pub(super) fn io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{action} {}", path.display());
        move |source| Self::Io { what, source }
    }

    /// For `map_err`: the error of `what` not being possible.
    pub(super) fn of(what: &str) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_owned();
        move |source| Self::Io { what, source }
    }

    /// The exit status that stands for this error: 124 for the time limit, as timeout(1) has it, 128 and its number
    /// for a signal, else 125, as docker(1) has it.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Timeout { .. } => 124,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(125),
            _ => 125,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_fail_has_its_exit_status() {
        let limit = Duration::from_secs(5);
        let timeout = LabError::Timeout { limit, started: true, log: String::new() };
        assert_eq!(timeout.exit_status(), 124);
        assert_eq!(
            timeout.to_string(),
            "the time limit of 5 s was reached while the command ran; the lab was ended"
        );
        assert_eq!(LabError::Signal(2).exit_status(), 130);
        assert_eq!(LabError::Died { log: String::new() }.exit_status(), 125);
    }
}
