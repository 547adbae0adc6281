//! Why a machine could not be built or run.

use std::{io, path::PathBuf};

/// Why a machine could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// An ioctl of KVM.
    #[error("KVM refused {what}: {source}; `minivmm doctor` says what this host can do")]
    Kvm {
        /// The request.
        what: &'static str,
        /// The error.
        source: kvm_ioctls::Error,
    },
    /// `--out`.
    #[error("the output folder {} cannot be written: {source}; choose a writable folder for --out", path.display())]
    Out {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `--console-log`.
    #[error("the console log {} cannot be written: {source}; choose a writable folder", path.display())]
    ConsoleLog {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::SandboxError),
    /// Two devices at one place.
    #[error(transparent)]
    Bus(#[from] devices::bus::BusError),
    /// The host refused a file descriptor or a thread.
    #[error("the host refused {what}: {source}")]
    Host {
        /// The request.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file that a device needs.
    #[error("the device {kind} cannot be built: {reason}")]
    File {
        /// The device's name in the registry.
        kind: &'static str,
        /// Why.
        reason: String,
    },
    /// A device cannot be built.
    #[error(transparent)]
    Device(#[from] devices::platform::BuildError),
    /// Standard output is closed or broken.
    #[error("standard output cannot be written: {0}")]
    Stdout(io::Error),
    /// The files that the guest sent for `--out`.
    #[error("the guest's files cannot be unpacked into {}: {source}", path.display())]
    Files {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The error for a request that KVM refused.
pub(super) fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> MachineError {
    move |source| MachineError::Kvm { what, source }
}

/// The error for a request that the host refused.
pub(super) fn host(what: &'static str) -> impl Fn(io::Error) -> MachineError {
    move |source| MachineError::Host { what, source }
}

/// The event loop failed.
pub(super) fn event_loop(error: &event_manager::Error) -> MachineError {
    let source = match error {
        event_manager::Error::Epoll(errno) | event_manager::Error::EventFd(errno) => (*errno).into(),
        error => io::Error::other(error.to_string()),
    };
    MachineError::Host { what: "the event loop", source }
}
