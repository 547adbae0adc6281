//! Why a camera cannot be built.

use std::io;

use media::{RecordingError, SceneFileError};

/// Why a camera cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// The file of its scene.
    #[error(transparent)]
    SceneFile(#[from] SceneFileError),
    /// Its recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// Its thread.
    #[error("the camera's thread: {0}")]
    Thread(#[from] io::Error),
}
