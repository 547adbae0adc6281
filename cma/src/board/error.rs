//! Why files do not describe one board.

use crate::{area::ImportError, size};

/// Why files do not describe one board.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// Nothing in them is of use.
    #[error(
        "there is nothing to diagnose: no failed request, no CMA window, no device tree and no message about reserved memory; \
         give an archive of `minivmm collect`, or the output of dmesg"
    )]
    Nothing,
    /// A window's files are not what debugfs prints.
    #[error("{folder}, {source}")]
    Window {
        /// The window's folder.
        folder: String,
        /// The mistake.
        source: ImportError,
    },
    /// The log is of another kernel.
    #[error(
        "the files are of two boards or boots: the log is of Linux {log}, and uname says {uname}; collect them again"
    )]
    OtherRelease {
        /// The log's release.
        log: String,
        /// The release of uname.
        uname: String,
    },
    /// The log is of another boot.
    #[error(
        "the files are of two boards or boots: line {line} of the log places a window of {}{}, and debugfs has only {}; \
         collect them again", size::format(*.size), at(*.base), found.join(", ")
    )]
    OtherWindows {
        /// The line of the log.
        line: usize,
        /// The window's size in bytes.
        size: u64,
        /// Its first address.
        base: Option<u64>,
        /// The windows of debugfs.
        found: Vec<String>,
    },
    /// The log has a failure in a window of another size.
    #[error(
        "the files are of two boards or boots: line {line} of the log is about a window of {listed} pages, and {window} has {pages}; \
         collect them again"
    )]
    OtherSize {
        /// The line of the log.
        line: usize,
        /// The pages that the log says.
        listed: u64,
        /// The window.
        window: String,
        /// Its pages.
        pages: u64,
    },
}

fn at(base: Option<u64>) -> String {
    base.map_or_else(String::new, |base| format!(" at {base:#x}"))
}
