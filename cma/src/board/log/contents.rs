//! What a log says: the boot, its windows, and the requests that failed.

use std::ops::Range;

use serde::Serialize;

use super::{line::number_after, listing::Listing};
use crate::area::Rules;

/// The most failures, and the most entries of each other kind, that are kept.
pub(super) const MOST: usize = 1000;

/// How a window came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A node of the device tree.
    Tree,
    /// `cma=` on the command line, or the kernel's configuration.
    Kernel,
}

/// A window that the boot placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// The line of the log, from 1.
    pub line: usize,
    /// The name, if the log has it.
    pub name: Option<String>,
    /// The first address; null for a window of several ranges.
    pub base: Option<u64>,
    /// The size in bytes.
    pub size: u64,
    /// How it came to be.
    pub origin: Origin,
}

/// A message of the boot about a window that it did not make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootNote {
    /// The line of the log, from 1.
    pub line: usize,
    /// The message as printed, without its prefix.
    pub text: String,
    /// What it means.
    pub meaning: &'static str,
    /// The source file and function of the kernel.
    pub source: &'static str,
}

/// A request that failed: `cma_alloc: NAME: alloc failed, req-size: N pages, ret: -12`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// The line of the log, from 1.
    pub line: usize,
    /// Seconds since the boot, if the line has them.
    pub seconds: Option<f64>,
    /// The window. Linux prints its name since 5.13.
    pub window: Option<String>,
    /// The pages that were requested.
    pub pages: u64,
    /// The kernel's `ret`.
    pub errno: i32,
    /// The alignment as an order of pages, from a message of CONFIG_CMA_DEBUG before it.
    pub align: Option<u32>,
    /// The rules that the form of the messages shows.
    pub rules: Rules,
    /// The free pages at that moment. Up to 6.11 only kernels with CONFIG_CMA_DEBUG print them.
    pub listing: Option<Listing>,
}

/// What a log says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Log {
    /// The kernel's release, from `Linux version`.
    pub release: Option<String>,
    /// The line with the release, from 1: a log can have several boots, and this is the last one.
    pub booted: usize,
    /// The architecture, as `uname -m` names it, from messages that only one has.
    pub arch: Option<&'static str>,
    /// The board, from `Machine model`.
    pub model: Option<String>,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// The windows that the boot placed.
    pub windows: Vec<Placed>,
    /// Messages of the boot about windows that it did not make.
    pub notes: Vec<BootNote>,
    /// The failed requests.
    pub failures: Vec<Failure>,
    /// Failed requests beyond those.
    pub more_failures: u64,
    /// Page frame numbers that alloc_contig_range found busy. Linux prints them up to 5.13, later ones only with dynamic debug.
    pub busy: Vec<Range<u64>>,
    /// Messages of drivers about memory that they did not get, as printed.
    pub drivers: Vec<String>,
    /// Numbers of /proc/meminfo.
    pub meminfo: Meminfo,
    /// How often the OOM killer ran.
    pub ooms: u64,
}

/// Numbers of /proc/meminfo, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Meminfo {
    /// MemTotal.
    pub total: Option<u64>,
    /// CmaTotal: the pages of all windows.
    pub cma_total: Option<u64>,
    /// CmaFree: the pages that the buddy allocator has. Pages of the window that processes and the page cache use are not among
    /// them, although a request can have them.
    pub cma_free: Option<u64>,
}

impl Meminfo {
    /// Takes the numbers of a line, if it is one of /proc/meminfo.
    pub(in crate::board) fn take(&mut self, line: &str) {
        for (name, field) in [
            ("MemTotal:", &mut self.total),
            ("CmaTotal:", &mut self.cma_total),
            ("CmaFree:", &mut self.cma_free),
        ] {
            if let Some((number, rest)) = number_after(line, name)
                && rest.trim_start().starts_with("kB")
            {
                *field = Some(number);
            }
        }
    }
}
