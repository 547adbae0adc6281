//! Why a request failed, in a word.

use serde::Serialize;

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It is for more pages than the window has.
    LargerThanWindow,
    /// Fewer pages are free than it is for.
    Full,
    /// Enough pages are free, but no run of them is long enough.
    Fragmented,
    /// A run is long enough, but not from a page on that is aligned.
    Misaligned,
    /// A run is long enough, and pages in it cannot be moved away.
    Busy,
    /// A run is long enough, and there was no memory to move its pages to.
    NoMemoryToMigrate,
    /// The process was ended while it waited.
    Killed,
    /// The files do not show it.
    Unknown,
}

impl Cause {
    /// Whether the bitmap alone explains the failure.
    pub(super) fn is_of_the_bitmap(self) -> bool {
        matches!(self, Self::LargerThanWindow | Self::Full | Self::Fragmented | Self::Misaligned)
    }
}
