//! What a kernel log says about contiguous memory: the windows at boot, the requests that failed, and the free pages at that moment.
//!
//! The formats are those of mm/cma.c, kernel/dma/contiguous.c, drivers/of/of_reserved_mem.c and mm/page_alloc.c from 4.12, the first
//! release that prints failed requests, to 7.2. A message is found anywhere in a line, so any prefix is fine.

mod boot;
mod contents;
mod line;
mod listing;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use contents::{BootNote, Failure, Log, Meminfo, Origin, Placed};
pub use listing::{FreeRun, Listing};

use crate::area::Rules;
use contents::MOST;
use line::{clean, number_after, time};
use listing::Reader;

/// The lines to which a mail program can break a message.
const BROKEN: usize = 3;

/// Phrases of drivers whose request for contiguous memory failed.
const DRIVERS: [&str; 6] = [
    "dma alloc of size",
    "dma_alloc_coherent of size",
    "dma_alloc_coherent failed",
    "dma_alloc_attrs",
    "failed to allocate buffer with size",
    "Failed to allocate dma buffer",
];

impl Log {
    /// Reads a log.
    pub fn read(text: &str) -> Self {
        let mut log = Self::default();
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, clean(line))).peekable();
        // The list that is being read.
        let mut list: Option<Reader> = None;
        let mut align = None;
        while let Some((number, mut text)) = lines.next() {
            if ["alloc failed", "cma_alloc:", "cma_alloc_frozen:"].iter().any(|part| text.contains(part)) {
                for _ in 1..BROKEN {
                    if failure(&text).is_some() || !is_begun(&text) {
                        break;
                    }
                    let Some((_, next)) = lines.peek() else { break };
                    if next.contains("cma: ") {
                        break;
                    }
                    text = format!("{text} {next}");
                    lines.next();
                }
            }
            if let Some(Said { function, window, pages, errno }) = failure(&text) {
                log.end_list(list.take());
                let align = align.take().filter(|(count, _)| *count == pages).map(|(_, align)| align);
                if log.failures.len() == MOST {
                    log.more_failures += 1;
                    continue;
                }
                log.failures.push(Failure {
                    line: number,
                    seconds: time(&text),
                    window: window.map(str::to_owned),
                    pages,
                    errno,
                    align,
                    rules: function,
                    listing: None,
                });
            } else if let Some((_, rest)) = text.split_once("number of available pages:") {
                log.end_list(list.take());
                let mut reader = Reader::default();
                if reader.feed(rest) {
                    list = Some(reader);
                } else {
                    log.end_list(Some(reader));
                }
            } else {
                // A line can have its end and another message.
                if let Some(reader) = &mut list
                    && !reader.feed(&text)
                {
                    log.end_list(list.take());
                }
                if let Some((_, rest)) = text.split_once("cma_alloc(cma ") {
                    let count = number_after(rest, "count ").map(|(count, _)| count);
                    let order = number_after(rest, "align ").and_then(|(order, _)| u32::try_from(order).ok());
                    align = count.zip(order).filter(|(_, order)| *order < 52);
                }
                log.other(number, &text);
            }
        }
        log.end_list(list);
        log
    }

    /// Gives a failure its list: the first one without a list among the last failures, if these are in adjacent lines, as several
    /// CPUs can print at a time.
    fn end_list(&mut self, list: Option<Reader>) {
        let Some(list) = list.filter(|list| !list.is_empty()) else { return };
        let adjacent =
            self.failures.windows(2).rev().take_while(|two| two[0].line + 1 == two[1].line).count();
        let first = self.failures.len().saturating_sub(adjacent + 1);
        let index = self.failures[first..].iter().position(|failure| failure.listing.is_none());
        let index = index.map(|index| first + index);
        let failure = index.and_then(|index| self.failures.get_mut(index));
        if let Some(failure) = failure {
            let list = list.finish();
            if list.ranges.len() > 1 {
                failure.rules = Rules::V7_2;
            }
            failure.listing = Some(list);
        }
    }

    /// Reads a line that is no failure.
    fn other(&mut self, number: usize, text: &str) {
        boot::read(self, number, text);
        self.meminfo.take(text);
        if text.contains("invoked oom-killer") {
            self.ooms += 1;
        }
        if let Some((_, rest)) = text.split_once("alloc_contig_range: [")
            && let Some(pfns) = busy_range(rest)
            && self.busy.len() < MOST
        {
            self.busy.push(pfns);
        }
        if DRIVERS.iter().any(|phrase| text.contains(phrase)) && self.drivers.len() < MOST {
            self.drivers.push(text.chars().take(200).collect());
        }
    }
}

/// The parts of a failure.
struct Said<'a> {
    function: Rules,
    window: Option<&'a str>,
    pages: u64,
    errno: i32,
}

/// The functions that print failures, with the rules that they imply. A kernel of 6.15 to 6.19 prints like 6.12, and is
/// recognised by its list or its release.
const FUNCTIONS: [(&str, Rules); 3] =
    [("__cma_alloc_frozen: ", Rules::V7_2), ("__cma_alloc: ", Rules::V6_12), ("cma_alloc: ", Rules::V6_1)];

/// A whole message about a failure.
fn failure(text: &str) -> Option<Said<'_>> {
    let (before, after) = text.split_once("alloc failed, req-size: ")?;
    let (pages, rest) = number_after(after, "")?;
    let (_, ret) = rest.split_once("ret: ")?;
    let end = ret.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(ret.len());
    let errno = ret[..end].parse().ok()?;
    let (function, window) = FUNCTIONS
        .into_iter()
        .find_map(|(name, rules)| before.rsplit_once(name).map(|(_, window)| (rules, window)))?;
    let window = window.trim_end().strip_suffix(':').filter(|name| !name.is_empty());
    Some(Said { function, window, pages, errno })
}

/// Whether a line begins a message about a failure and does not end it.
fn is_begun(text: &str) -> bool {
    FUNCTIONS.iter().any(|(name, _)| text.contains(name.trim_end()))
        && text.split("ret: ").nth(1).is_none_or(str::is_empty)
}

/// `a4400, a4500) PFNs busy`
fn busy_range(text: &str) -> Option<Range<u64>> {
    let (range, rest) = text.split_once(')')?;
    let (start, end) = range.split_once(", ")?;
    let pfn = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (pfn(start)?, pfn(end)?);
    (rest.trim_start().starts_with("PFNs busy") && start < end).then_some(start..end)
}
