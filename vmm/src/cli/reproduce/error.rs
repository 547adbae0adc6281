//! Why a board's failure could not be reproduced.

use std::{io, path::PathBuf};

use crate::{boot::images::ImageError, cli::diagnose::DiagnoseError, observe::exit_status::Reason};

/// Why a failure could not be reproduced.
#[derive(Debug, thiserror::Error)]
pub enum ReproduceError {
    /// The board cannot be read.
    #[error(transparent)]
    Diagnose(#[from] DiagnoseError),
    /// No request failed.
    #[error("{} has no failed request{}; give a log with a line \"alloc failed, req-size:\", or --request with debugfs files",
        path.display(), pages.map_or_else(String::new, |pages| format!(" for {pages} pages")))]
    NoCase {
        /// The archive.
        path: PathBuf,
        /// The requested number of pages.
        pages: Option<u64>,
    },
    /// The failure depends on more than the window.
    #[error("the failed request for {case} cannot be reproduced: {what}")]
    Impossible {
        /// The request.
        case: String,
        /// Why.
        what: String,
    },
    /// There is no image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The guest did not run to its end.
    #[error("the guest ended with status {status}: {said}")]
    Guest {
        /// minivmm's status.
        status: i32,
        /// Its last message.
        said: String,
    },
    /// Something on the host failed.
    #[error("{what}: {source}")]
    Host {
        /// What could not be done.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl ReproduceError {
    /// The reason for minivmm's exit status.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Diagnose(error) => error.reason(),
            Self::NoCase { .. } | Self::Impossible { .. } | Self::Image(_) => Reason::BadRequest,
            Self::Guest { .. } | Self::Host { .. } => Reason::Failed,
        }
    }
}
