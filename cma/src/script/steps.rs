//! A script that has been read: its window and its steps.

use crate::{Window, area::Area};

/// A parsed script, with its repeats unrolled.
///
/// ```
/// use cma::script::Script;
///
/// let script: Script = "
///     window 64M
///     repeat 16
///         alloc buffer{i} 1013
///     end
///     expect ok
///     alloc buffer16 1013     # the 17th does not fit
///     expect -12
/// ".parse()?;
/// for event in script.run() {
///     println!("{event}");
/// }
/// # Ok::<(), cma::script::ScriptError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Script {
    pub(super) window: Window,
    pub(super) area: Area,
    pub(super) steps: Vec<Step>,
}

/// An operation and its line.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) verb: Verb,
}

#[derive(Debug, Clone)]
pub(super) enum Verb {
    /// The first step, and only the first.
    Window,
    Alloc {
        id: String,
        pages: u64,
        align: u32,
    },
    Free {
        id: String,
    },
    Busy {
        pfn: u64,
        count: u64,
    },
    Idle {
        pfn: u64,
        count: u64,
    },
    /// 0 or a negative errno.
    Expect(i32),
    Map,
    Stats,
}

impl Script {
    /// The verbs, one a line, for the help.
    pub const HELP: &str = "\
window SIZE [base=A] [name=S] [order_per_bit=N] [rules=R]
                         the window, once, as the first line; base and size are whole pages;
                         R is 6.1 (default) or 6.12, for Linux up to 6.14, or 7.2, for Linux since 6.15
alloc ID PAGES [align=N] cma_alloc; N is an order of pages (default: as the DMA API)
free ID                  cma_release
busy PFN COUNT           these pages cannot be migrated any more: pinned, under writeback
idle PFN COUNT           these pages can be migrated again
repeat N ... end         runs the lines between N times; {i} in an ID is the turn, from 0
                         ({j}, {k}: the turns of the enclosing repeats)
expect ok|-12|-16        fails the script unless the last alloc gave this answer; a request that
                         finds no run gets -12 by the rules of 6.1 and 6.12, -16 by those of 7.2
map                      draw the window
stats                    free pages and runs; how many more of the last request would be granted,
                         and how much of the free space it cannot use
# ...                    a comment";
}
