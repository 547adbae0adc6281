//! A run of a script: the kernel's actions, as events.

use std::{collections::HashMap, fmt, slice};

use serde::Serialize;

use super::steps::{Script, Step, Verb};
use crate::{
    PAGE_SIZE,
    area::{Area, Reason, Rules, Statistics, permille, plural},
    map::Map,
};

/// Maximum number of busy places that the text of an event lists.
const LISTED: usize = 8;

/// The event of a line of a script. In JSON it is an object with `line`, `event` and the fields of [`EventKind`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The line, from 1.
    pub line: usize,
    /// What happened.
    #[serde(flatten)]
    pub what: EventKind,
}

/// The kind of an event. `event` names it in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The window was created.
    Window {
        /// The kernel's name for its area: the name of the node with the unit address.
        name: String,
        /// First address, in bytes.
        base: u64,
        /// Size in bytes.
        size: u64,
        /// Pages of a bit of the bitmap, as an order.
        order_per_bit: u32,
        /// The kernel release of the rules: "6.1", "6.12" or "7.2".
        rules: Rules,
    },
    /// cma_alloc was called.
    Alloc {
        /// The buffer's ID.
        id: String,
        /// Number of pages requested.
        pages: u64,
        /// Their alignment, as an order of pages.
        align: u32,
        /// 0, -12 (-ENOMEM) or -16 (-EBUSY).
        errno: i32,
        /// Page frame number of the first page; null after a refusal.
        pfn: Option<u64>,
        /// Why it found no pages; null if it found some.
        reason: Option<Reason>,
        /// First pages of the places that were skipped because they were busy.
        busy: Vec<u64>,
        /// The kernel's messages, without time stamps.
        dmesg: Vec<String>,
    },
    /// cma_release was called, unless the buffer's alloc had failed.
    Free {
        /// The buffer's ID.
        id: String,
        /// Page frame number of its first page; null if its alloc had failed.
        pfn: Option<u64>,
        /// Its pages, 0 if its alloc had failed.
        pages: u64,
    },
    /// Pages became busy: they cannot be migrated.
    Busy {
        /// Page frame number of the first.
        pfn: u64,
        /// How many.
        count: u64,
    },
    /// Pages became idle: they can be migrated.
    Idle {
        /// Page frame number of the first.
        pfn: u64,
        /// How many.
        count: u64,
    },
    /// The last answer was compared with the expected one.
    Expect {
        /// The expected answer: 0, -12 or -16.
        expected: i32,
        /// The actual answer.
        found: i32,
        /// Whether they are equal.
        held: bool,
    },
    /// The window was drawn.
    Map {
        /// The map, in lines.
        text: String,
    },
    /// The free pages were counted.
    Stats {
        /// The numbers, as fields of the event.
        #[serde(flatten)]
        statistics: Statistics,
        /// The last request, repeated; null if there was no request.
        last_request: Option<Repeated>,
    },
}

/// A request that is repeated until it fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repeated {
    /// Pages.
    pub pages: u64,
    /// Their alignment, as an order of pages.
    pub align: u32,
    /// The number of times that it would be granted.
    pub fits: u64,
    /// External fragmentation: of each thousand free pages, the number that it cannot use ([`Area::unusable_free_index`]).
    pub unusable_free_index: u64,
}

/// A running script: an iterator with an event for each step.
#[derive(Debug)]
pub struct Run<'a> {
    script: &'a Script,
    area: Area,
    steps: slice::Iter<'a, Step>,
    /// First page and number of pages of each allocated buffer.
    buffers: HashMap<&'a str, (u64, u64)>,
    last: Option<Last>,
}

/// The last alloc.
#[derive(Debug, Clone, Copy)]
struct Last {
    pages: u64,
    align: u32,
    errno: i32,
}

impl Script {
    /// Runs it on an empty window: yields an event for each line, in order.
    pub fn run(&self) -> Run<'_> {
        Run::new(self)
    }
}

impl<'a> Run<'a> {
    fn new(script: &'a Script) -> Self {
        let (area, steps) = (script.area.clone(), script.steps.iter());
        Self { script, area, steps, buffers: HashMap::new(), last: None }
    }

    /// The window as it is now, with the buffers' IDs and, if the last alloc failed, its alignment.
    pub fn window_map(&self) -> Map {
        let mut map = Map::new(&self.script.window);
        map.allocated = self.area.allocated();
        let failed = self.last.filter(|last| last.errno != 0 && last.align > 0);
        map.alignment = failed.map(|last| 1 << last.align);
        for (id, (pfn, pages)) in &self.buffers {
            // Allocated pages lie in the window.
            let _ = map.add_owner(id, pfn * PAGE_SIZE, pages * PAGE_SIZE);
        }
        map
    }

    fn alloc(&mut self, id: &'a str, pages: u64, align: u32) -> EventKind {
        let answer = self.area.alloc(pages, align);
        let errno = answer.as_ref().map_or_else(|error| error.errno, |_| 0);
        self.last = Some(Last { pages, align, errno });
        let (pfn, reason, busy, dmesg) = match answer {
            Ok(granted) => {
                self.buffers.insert(id, (granted.pfn, pages));
                (Some(granted.pfn), None, granted.busy, Vec::new())
            }
            Err(error) => {
                let dmesg = self.area.dmesg(&error);
                (None, Some(error.reason), error.busy, dmesg)
            }
        };
        EventKind::Alloc { id: id.to_owned(), pages, align, errno, pfn, reason, busy, dmesg }
    }

    fn free(&mut self, id: &str) -> EventKind {
        let buffer = self.buffers.remove(id);
        if let Some((pfn, pages)) = buffer {
            self.area.release(pfn, pages);
        }
        let (pfn, pages) = buffer.map_or((None, 0), |(pfn, pages)| (Some(pfn), pages));
        EventKind::Free { id: id.to_owned(), pfn, pages }
    }

    fn stats(&self) -> EventKind {
        let last_request = self.last.map(|Last { pages, align, .. }| Repeated {
            pages,
            align,
            fits: self.area.fits(pages, align),
            unusable_free_index: self.area.unusable_free_index(pages, align),
        });
        EventKind::Stats { statistics: self.area.statistics(), last_request }
    }
}

impl Iterator for Run<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let Step { line, verb } = self.steps.next()?;
        let what = match verb {
            Verb::Window => EventKind::Window {
                name: self.area.name().to_owned(),
                base: self.script.window.base,
                size: self.script.window.size,
                order_per_bit: self.area.order_per_bit(),
                rules: self.area.rules(),
            },
            Verb::Alloc { id, pages, align } => self.alloc(id, *pages, *align),
            Verb::Free { id } => self.free(id),
            Verb::Busy { pfn, count } => {
                self.area.set_busy(*pfn..pfn + count);
                EventKind::Busy { pfn: *pfn, count: *count }
            }
            Verb::Idle { pfn, count } => {
                self.area.set_idle(*pfn..pfn + count);
                EventKind::Idle { pfn: *pfn, count: *count }
            }
            Verb::Expect(expected) => {
                let found = self.last.map_or(0, |last| last.errno);
                EventKind::Expect { expected: *expected, found, held: *expected == found }
            }
            Verb::Map => EventKind::Map { text: self.window_map().to_text() },
            Verb::Stats => self.stats(),
        };
        Some(Event { line: *line, what })
    }
}

/// Text for people: a line, and indented details.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.what {
            EventKind::Window { name, base, size, order_per_bit, rules } => {
                let (pages, pfn) = (plural(size / PAGE_SIZE), base / PAGE_SIZE);
                write!(f, "window {name}: {pages} at {base:#x} (pfn {pfn:#x})")?;
                if *order_per_bit > 0 {
                    write!(f, ", 2^{order_per_bit} pages a bit")?;
                }
                if *rules != Rules::default() {
                    write!(f, ", rules of Linux {rules}")?;
                }
            }
            EventKind::Alloc { id, pages, align, errno, pfn, reason, busy, dmesg } => {
                write!(f, "alloc {id}, {} at alignment {align}: ", plural(*pages))?;
                match (pfn, reason) {
                    (Some(pfn), _) => write!(f, "pfn {pfn:#x}")?,
                    (None, reason) => write!(f, "{errno}, {}", reason.map_or("", Reason::sentence))?,
                }
                if !busy.is_empty() {
                    let pfns: Vec<_> = busy.iter().take(LISTED).map(|pfn| format!("{pfn:#x}")).collect();
                    let more = if busy.len() > LISTED { " ..." } else { "" };
                    let list = pfns.join(" ");
                    write!(f, "\n  busy and skipped, {} in all: pfn {list}{more}", busy.len())?;
                }
                for line in dmesg {
                    write!(f, "\n  {line}")?;
                }
            }
            EventKind::Free { id, pfn: Some(pfn), pages } => {
                write!(f, "free {id}, {} at pfn {pfn:#x}", plural(*pages))?;
            }
            EventKind::Free { id, .. } => write!(f, "free {id}: nothing to free, because its alloc failed")?,
            EventKind::Busy { pfn, count } => write!(f, "busy: {} at pfn {pfn:#x}", plural(*count))?,
            EventKind::Idle { pfn, count } => write!(f, "idle: {} at pfn {pfn:#x}", plural(*count))?,
            EventKind::Expect { expected, found, held } => {
                let (expected, found) = (answer(*expected), answer(*found));
                match held {
                    true => write!(f, "expect {expected}: ok")?,
                    false => write!(f, "expect {expected}: FAILED, the last alloc answered {found}")?,
                }
            }
            EventKind::Map { text } => write!(f, "map: {}", text.trim_end().replace('\n', "\n  "))?,
            EventKind::Stats { statistics, last_request } => {
                write!(f, "stats: {}", statistics.to_string().replace('\n', "\n  "))?;
                if let Some(Repeated { pages, align, fits, unusable_free_index }) = last_request {
                    let (pages, percent) = (plural(*pages), permille(*unusable_free_index));
                    write!(f, "\n  {fits} more requests for {pages} at alignment {align} would be granted")?;
                    write!(f, "; {percent} of the free pages are unusable for them")?;
                }
            }
        }
        Ok(())
    }
}

/// An answer of cma_alloc, as a script writes it.
fn answer(errno: i32) -> String {
    if errno == 0 { "ok".to_owned() } else { errno.to_string() }
}
