//! Why a command of minivmm failed.

use std::{io, path::PathBuf};

use devices::faults::PlanError;

use super::{
    check::CheckError, ctl::CtlError, diagnose::DiagnoseError, image, model::ModelError, replay::ReplayError,
    reproduce::ReproduceError, top::TopError,
};
use crate::{
    api::server::SocketError,
    boot::{error::LoadError, images::ImageError},
    experiment::ExperimentError,
    lab::HostError,
    machine::{MachineError, gdb::link::LinkError, kvm::KvmError},
    observe::exit_status::Reason,
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("{0}")]
    Request(LoadError),
    #[error("{0}")]
    Device(String),
    #[error("the log filter \"{filter}\" is wrong: {reason}; write a level, as in debug, or module=level")]
    LogFilter { filter: String, reason: String },
    #[error(transparent)]
    Kvm(#[from] KvmError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Check(CheckError),
    #[error(transparent)]
    Model(ModelError),
    #[error(transparent)]
    Diagnose(DiagnoseError),
    #[error(transparent)]
    Reproduce(ReproduceError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Gdb(#[from] LinkError),
    #[error(transparent)]
    Ctl(CtlError),
    #[error(transparent)]
    Top(TopError),
    #[error(transparent)]
    Experiment(ExperimentError),
    #[error(transparent)]
    Replay(ReplayError),
    #[error("{} cannot be written: {source}; choose a writable folder", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the plan {} cannot be read: {source}; name a readable file", path.display())]
    ReadPlan { path: PathBuf, source: io::Error },
    #[error("{}:{error}", path.display())]
    Plan { path: PathBuf, error: PlanError },
    #[error(transparent)]
    Builder(guest_images::Error),
    #[error("the shell sh cannot be run: {0}; run the script of `minivmm collect --print` by another shell")]
    Shell(io::Error),
    #[error("the report {} cannot be written: {source}", path.display())]
    Report { path: PathBuf, source: io::Error },
}

impl CliError {
    /// The reason for minivmm's exit status.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Request(LoadError::Memory(_)) => Reason::Failed,
            Self::Usage(_)
            | Self::Image(_)
            | Self::Request(_)
            | Self::Device(_)
            | Self::LogFilter { .. }
            | Self::Write { .. }
            | Self::ReadPlan { .. }
            | Self::Plan { .. }
            | Self::Socket(_)
            | Self::Gdb(_)
            | Self::Machine(
                MachineError::Out { .. } | MachineError::ConsoleLog { .. } | MachineError::File { .. },
            ) => Reason::BadRequest,
            Self::Machine(MachineError::Device(error)) if error.is_request => Reason::BadRequest,
            Self::Host(error) => error.reason(),
            Self::Check(error) => error.reason(),
            Self::Model(error) => error.reason(),
            Self::Ctl(error) => error.reason(),
            Self::Top(error) => error.reason(),
            Self::Diagnose(error) => error.reason(),
            Self::Reproduce(error) => error.reason(),
            Self::Experiment(error) => error.reason(),
            Self::Replay(error) => error.reason(),
            Self::Builder(error) => image::reason(error),
            Self::Shell(_) | Self::Kvm(_) | Self::Machine(_) | Self::Report { .. } => Reason::Failed,
        }
    }
}
