//! Why a command of minivmm failed, and the exit status for it.

use std::{io, path::PathBuf};

use devices::faults::PlanError;

use super::{check::CheckError, ctl::CtlError, model::ModelError, replay::ReplayError};
use crate::{
    api::server::SocketError,
    boot::{error::LoadError, images::ImageError},
    experiment::ExperimentError,
    lab::HostError,
    machine::{MachineError, kvm::KvmError},
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("{0}")]
    Request(LoadError),
    #[error("{0}")]
    Device(String),
    #[error(
        "the log filter \"{filter}\" is not understood: {reason}; give a level such as debug, or module=level"
    )]
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
    Socket(#[from] SocketError),
    #[error(transparent)]
    Ctl(CtlError),
    #[error(transparent)]
    Experiment(ExperimentError),
    #[error(transparent)]
    Replay(ReplayError),
    #[error("{} cannot be written: {source}; name a file in a folder that can", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the plan of faults {} cannot be read: {source}; name a file that can", path.display())]
    ReadPlan { path: PathBuf, source: io::Error },
    #[error("{}:{error}", path.display())]
    Plan { path: PathBuf, error: PlanError },
    #[error("the report {} cannot be written: {source}", path.display())]
    Report { path: PathBuf, source: io::Error },
}

impl CliError {
    /// The exit status: 2 for a bad request, 1 for a failure.
    pub(super) fn exit_status(&self) -> u8 {
        match self {
            Self::Request(LoadError::Memory(_)) => 1,
            Self::Image(_)
            | Self::Request(_)
            | Self::Device(_)
            | Self::LogFilter { .. }
            | Self::Write { .. }
            | Self::ReadPlan { .. }
            | Self::Plan { .. }
            | Self::Socket(_)
            | Self::Machine(MachineError::Out { .. } | MachineError::ConsoleLog { .. }) => 2,
            Self::Host(error) => error.exit_status(),
            Self::Check(error) => error.exit_status(),
            Self::Model(error) => error.exit_status(),
            Self::Ctl(error) => error.exit_status(),
            Self::Experiment(error) => error.exit_status(),
            Self::Replay(error) => error.exit_status(),
            Self::Kvm(_) | Self::Machine(_) | Self::Report { .. } => 1,
        }
    }
}
