//! A failed request with its judgement, and a question about a request.

use std::ops::Range;

use serde::Serialize;

use super::{cause::Cause, remedies::Remedy};
use crate::{
    area::{Area, Why},
    map::Map,
};

/// The state on which a judgement is based.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// The list of free pages that the kernel printed after the failure.
    Failure,
    /// The bitmap in debugfs, from another moment.
    Collected,
    /// No state is known.
    None,
}

/// A request that failed once or several times, or that `--request` asks about.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// The window's name.
    pub window: String,
    /// The pages that were requested.
    pub pages: u64,
    /// The same in bytes.
    pub bytes: u64,
    /// The kernel's answer: `ret` in the log, or what it would answer.
    pub errno: i32,
    /// What the kernel of this version means by it.
    pub meaning: &'static str,
    /// The alignment as an order of pages.
    pub align: u32,
    /// Whether the alignment is the DMA API's for this size, because no file has it.
    pub align_assumed: bool,
    /// How often it failed in the log; 0 for `--request`.
    pub count: u64,
    /// The line of the first failure.
    pub line: Option<usize>,
    /// Seconds from the boot to the first failure.
    pub first: Option<f64>,
    /// Seconds from the boot to the last failure.
    pub last: Option<f64>,
    /// The state on which the judgement is based.
    pub state: Moment,
    /// Why it failed.
    pub cause: Cause,
    /// The same as a sentence.
    pub sentence: String,
    /// Page frame numbers of places with pages that could not be moved away, from messages of alloc_contig_range.
    pub busy: Vec<Range<u64>>,
    /// CmaFree of /proc/meminfo in kB, where no file shows the free pages.
    pub cma_free: Option<u64>,
    /// The model's answer in that state.
    pub why: Option<Why>,
    /// What would let it pass, those with the least effort first.
    pub remedies: Vec<Remedy>,
    /// The window at that moment, drawn.
    #[serde(skip)]
    pub maps: Vec<Map>,
    /// The window's state.
    #[serde(skip)]
    pub area: Option<Area>,
}

/// A question about a request.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Its pages.
    pub pages: Option<u64>,
    /// Its alignment as an order of pages, instead of the DMA API's.
    pub align: Option<u32>,
    /// The window; the only one, or the first one, without it.
    pub window: Option<String>,
}
