//! What would let a request pass, in order of effort.

use std::fmt;

use serde::Serialize;

use super::{cause::Cause, log::Origin};
use crate::{
    area::{Why, plural},
    map::human,
    size,
};

/// What it takes to apply a remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Commands on the running board.
    Command,
    /// Another request, or another order of requests, by the program or the driver.
    Program,
    /// A word on the kernel's command line, and a reboot.
    CommandLine,
    /// A change of the device tree, and a reboot.
    DeviceTree,
    /// A kernel with another configuration.
    Kernel,
}

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "on the running board",
            Self::Program => "in the program or driver",
            Self::CommandLine => "on the kernel's command line",
            Self::DeviceTree => "in the device tree",
            Self::Kernel => "in the kernel's configuration",
        })
    }
}

/// A change that would let a request pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// What it takes.
    pub effort: Effort,
    /// What to do.
    pub text: String,
}

/// What is known about a refused request.
pub(super) struct Refused<'a> {
    pub(super) cause: Cause,
    /// The pages that were requested.
    pub(super) pages: u64,
    /// The state of the window, if it is known.
    pub(super) why: Option<&'a Why>,
    /// The window's size in bytes, if it is known.
    pub(super) size: Option<u64>,
    /// How the window came to be, if the log says it.
    pub(super) origin: Option<Origin>,
    pub(super) page_size: u64,
    /// The unit of windows in bytes.
    pub(super) pageblock: u64,
}

impl Refused<'_> {
    fn bytes(&self, pages: u64) -> String {
        human(pages.saturating_mul(self.page_size))
    }

    /// The remedies, those with the least effort first.
    pub(super) fn remedies(&self) -> Vec<Remedy> {
        let mut list = Vec::new();
        let mut add = |effort, text: String| list.push(Remedy { effort, text });
        match self.cause {
            Cause::Killed => add(
                Effort::Command,
                "find out why the process was ended, and start it again; the window is not the reason"
                    .to_owned(),
            ),
            Cause::NoMemoryToMigrate => {
                add(
                    Effort::Command,
                    "free memory outside the window: pages in the window move there before a request gets their place".to_owned(),
                );
                add(
                    Effort::Program,
                    "request the buffers early, while memory is free, and keep them".to_owned(),
                );
            }
            Cause::Busy => {
                add(
                    Effort::Command,
                    "write back and drop the page cache, then try again: sync; echo 1 > /proc/sys/vm/drop_caches".to_owned(),
                );
                add(
                    Effort::Program,
                    "repeat the request: many pages are in use only for a moment, for writeback or direct I/O".to_owned(),
                );
                add(
                    Effort::Program,
                    "end the use that pins pages of the window for long; page_owner and the tracepoint cma_alloc_busy_retry name them"
                        .to_owned(),
                );
            }
            Cause::Full
            | Cause::Fragmented
            | Cause::Misaligned
            | Cause::LargerThanWindow
            | Cause::Unknown => {}
        }
        if let Some(why) = self.why.filter(|_| self.cause.is_of_the_bitmap()) {
            self.of_the_bitmap(why, &mut add);
        }
        if self.cause != Cause::Killed {
            self.larger(&mut add);
        }
        // CONFIG_CMA_ALIGNMENT is 2 to 12 (kernel/dma/Kconfig).
        let order = self.why.and_then(|why| why.granted_at).filter(|order| *order >= 2);
        if let Some(order) = order.filter(|_| self.cause == Cause::Misaligned) {
            let bytes = self.bytes(1 << order);
            add(
                Effort::Kernel,
                format!(
                    "CONFIG_CMA_ALIGNMENT={order}: a buffer of this size is aligned to {bytes} then, and fits"
                ),
            );
        }
        list.sort_by_key(|remedy| remedy.effort);
        list
    }

    fn of_the_bitmap(&self, why: &Why, add: &mut impl FnMut(Effort, String)) {
        let most = why.largest_aligned_hole.end - why.largest_aligned_hole.start;
        if most > 0 && most < self.pages {
            add(
                Effort::Program,
                format!(
                    "a smaller request: at most {} ({}) fit at this alignment, as with fewer bytes a pixel or a smaller frame",
                    plural(most),
                    self.bytes(most)
                ),
            );
        }
        if let Some(place) = &why.cheapest {
            let runs = place.runs.iter().take(4).map(|run| {
                let pages = plural(run.end - run.start);
                format!("{pages} at pfn {:#x}", run.start)
            });
            let runs: Vec<_> = runs.collect();
            let more = if place.runs.len() > 4 { ", and others" } else { "" };
            add(
                Effort::Program,
                format!(
                    "free the buffers with {} at pfn {:#x} to {:#x}, the fewest in the way; they belong to {}{more}",
                    plural(place.used),
                    place.pfns.start,
                    place.pfns.end - 1,
                    runs.join(", ")
                ),
            );
        }
        if self.cause != Cause::LargerThanWindow {
            add(
                Effort::Program,
                "request the large buffers first, right after the boot, and keep them".to_owned(),
            );
        }
    }

    /// A larger window.
    fn larger(&self, add: &mut impl FnMut(Effort, String)) {
        let now = self.size.unwrap_or(0);
        let grow = self.why.and_then(|why| why.grow).unwrap_or(self.pages).saturating_mul(self.page_size);
        let least = now.saturating_add(grow);
        let size = least.checked_next_multiple_of(self.pageblock.max(1)).unwrap_or(least);
        let text = size::format(size);
        let until = if self.cause.is_of_the_bitmap() {
            "with the same pages in use"
        } else {
            "more room to choose from"
        };
        if self.size.is_none() {
            add(
                Effort::CommandLine,
                format!("a larger window: cma=SIZE, if this is the default window ({until})"),
            );
            return;
        }
        match self.origin {
            Some(Origin::Tree) => {}
            Some(Origin::Kernel) => {
                add(Effort::CommandLine, format!("a window of at least {text}: cma={text} ({until})"));
                return;
            }
            None => {
                let text = format!(
                    "a window of at least {text}: cma={text}, if this is the default window ({until})"
                );
                add(Effort::CommandLine, text);
                return;
            }
        }
        add(
            Effort::CommandLine,
            format!(
                "a window of at least {text}, if its node has linux,cma-default: cma={text} takes its place ({until})"
            ),
        );
        add(
            Effort::DeviceTree,
            format!("a window of at least {text}: the size in the node's reg or size ({until})"),
        );
    }
}
