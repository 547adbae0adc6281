//! What commands write: text on standard output, and files.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use super::error::CliError;

/// Prints `text` on standard output.
pub(super) fn print(text: &str) -> ExitCode {
    // A reader may close the pipe early.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Writes a file.
pub(super) fn write(path: &Path, data: &[u8]) -> Result<(), CliError> {
    fs::write(path, data).map_err(|source| CliError::Write { path: path.to_owned(), source })
}
