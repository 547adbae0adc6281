//! The kernel releases whose rules an area can follow.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// The kernel release whose rules an area follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum Rules {
    /// Linux 6.1: one range, -ENOMEM if no run is found. Only kernels with CONFIG_CMA_DEBUG list the free pages.
    #[default]
    #[serde(rename = "6.1")]
    V6_1,
    /// Linux 6.12, and up to 6.14: the same answers. Messages come from `__cma_alloc`, and every kernel lists the free
    /// pages.
    #[serde(rename = "6.12")]
    V6_12,
    /// Linux 7.2, and since 6.15 except for the messages: several ranges, -EBUSY if no run is found, and a count of the
    /// available pages. debugfs `used` shows the pages that were requested, not whole bits.
    #[serde(rename = "7.2")]
    V7_2,
}

impl Rules {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V6_1, Self::V6_12, Self::V7_2];

    /// The rules of the release that `uname -r` prints, as in `6.6.31+rpt-rpi-v8`. None if it does not begin with two numbers.
    pub fn of_release(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
        Some(Self::of_version((major, minor)))
    }

    /// The rules of a version: regions are set up in the tree's order since 6.12 (drivers/of/of_reserved_mem.c,
    /// fdt_scan_reserved_mem_reg_nodes), and CMA areas have several ranges since 6.15.
    pub fn of_version(version: (u32, u32)) -> Self {
        match version {
            (..6, _) | (6, ..12) => Self::V6_1,
            (6, ..15) => Self::V6_12,
            _ => Self::V7_2,
        }
    }

    /// Whether areas have several ranges, as since 6.15.
    pub(crate) fn have_ranges(self) -> bool {
        self == Self::V7_2
    }
}

/// A text that names no rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rules \"{0}\" are unknown; write 6.1 or 6.12 for Linux up to 6.14, or 7.2 for Linux since 6.15")]
pub struct RulesError(pub String);

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
        })
    }
}

impl FromStr for Rules {
    type Err = RulesError;

    fn from_str(text: &str) -> Result<Self, RulesError> {
        Self::ALL
            .into_iter()
            .find(|rules| rules.to_string() == text)
            .ok_or_else(|| RulesError(text.chars().take(40).flat_map(char::escape_debug).collect()))
    }
}
