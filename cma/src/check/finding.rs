//! A finding on a tree: a sentence with its severity, and the function of the kernel that it is about.

use std::fmt;

use serde::Serialize;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing happens: good to know.
    Note,
    /// Memory is lost, or it works, but perhaps not as intended; or it depends on what the boot loader does.
    Warning,
    /// The boot fails, or a device gets nothing.
    Error,
}

/// A finding, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its severity.
    pub level: Level,
    /// The sentence.
    pub text: String,
    /// The source file and function of the kernel.
    pub source: &'static str,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// The finding `text` about the function `source`.
pub(super) fn finding(level: Level, source: &'static str, text: impl Into<String>) -> Finding {
    Finding { level, text: text.into(), source }
}
