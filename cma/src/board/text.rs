//! A diagnosis for a terminal.

use std::{fmt, ops::Range};

use super::{
    case::{Case, Moment},
    diagnosis::Diagnosis,
};
use crate::size;

/// The most messages of drivers that are printed.
const MOST_DRIVERS: usize = 5;

impl Diagnosis {
    /// The board and its kernel, in one line.
    pub(super) fn heading(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.model.clone());
        parts.push(match &self.release {
            Some(release) => format!("Linux {release}"),
            None => "Linux of an unknown release".to_owned(),
        });
        parts.extend(self.machine.clone());
        parts.push(format!("pages of {}", size::format(self.page_size)));
        parts.push(format!("pageblocks of {}", size::format(self.pageblock)));
        parts.push(format!("rules of Linux {}", self.rules));
        parts.join(", ")
    }

    /// The numbers of /proc/meminfo that are known, in one line.
    pub(super) fn memory(&self) -> Option<String> {
        let fields = [
            ("MemTotal", self.meminfo.total),
            ("CmaTotal", self.meminfo.cma_total),
            ("CmaFree", self.meminfo.cma_free),
        ];
        let known: Vec<_> =
            fields.iter().filter_map(|(name, kib)| kib.map(|kib| format!("{name} {kib} kB"))).collect();
        (!known.is_empty()).then(|| known.join(", "))
    }
}

impl Case {
    /// What the request was, and what its answer means.
    pub(super) fn facts(&self) -> Vec<String> {
        let mut facts = Vec::new();
        let assumed = if self.align_assumed { " (assumed)" } else { "" };
        facts.push(format!("alignment: 2^{} pages{assumed}", self.align));
        facts.push(format!("{}: {}", self.errno, self.meaning));
        facts.extend(match (self.line, self.first, self.last) {
            (Some(line), Some(first), Some(last)) if last > first => {
                Some(format!("line {line} of the log; {first:.1} s to {last:.1} s after the boot"))
            }
            (Some(line), Some(first), _) => {
                Some(format!("line {line} of the log, {first:.1} s after the boot"))
            }
            (Some(line), ..) => Some(format!("line {line} of the log")),
            _ => None,
        });
        facts.push(
            match self.state {
                Moment::Failure => "judged by the free pages that the kernel listed at the failure",
                Moment::Collected => "judged by the bitmap in debugfs, which is of another moment",
                Moment::None => "judged by the answer alone, as no file shows the free pages",
            }
            .to_owned(),
        );
        if let (Some(first), Some(last)) = (self.busy.first(), self.busy.last()) {
            let place = |pfns: &Range<u64>| format!("pfn {:#x} to {:#x}", pfns.start, pfns.end - 1);
            let places = match self.busy.len() {
                1 => place(first),
                2 => format!("{} and {}", place(first), place(last)),
                count => format!("{count} places, {} to {}", place(first), place(last)),
            };
            facts.push(format!("the kernel found pages busy at {places}"));
        }
        if let Some(free) = self.cma_free {
            facts.push(format!(
                "CmaFree was {free} kB when the files were gathered, and the request is for {} kB; a request can also have pages that \
                 processes and the page cache use",
                self.bytes >> 10
            ));
        }
        facts
    }
}

/// Text for people.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.heading())?;
        if let Some(memory) = self.memory() {
            writeln!(f, "{memory}")?;
        }
        if !self.assumed.is_empty() {
            writeln!(f, "Assumed: {}", self.assumed.join("; "))?;
        }
        for missing in &self.missing {
            writeln!(f, "Missing: {missing}")?;
        }
        writeln!(f, "\nWhat is wrong")?;
        for sentence in &self.summary {
            writeln!(f, "- {sentence}")?;
        }
        for case in &self.cases {
            writeln!(f, "\n{}", case.title())?;
            for fact in case.facts() {
                writeln!(f, "  {fact}")?;
            }
            case.maps.iter().try_for_each(|map| write!(f, "{}", map.to_text()))?;
            if !case.remedies.is_empty() {
                writeln!(f, "  what would let it pass, the least effort first:")?;
            }
            for (number, remedy) in (1..).zip(&case.remedies) {
                writeln!(f, "  {number}. {}: {}", remedy.effort, remedy.text)?;
            }
        }
        for window in &self.windows {
            let base = window.base.map_or_else(String::new, |base| format!(" at {base:#x}"));
            writeln!(f, "\nWindow: {}, {}{base}", window.name, size::format(window.size))?;
            for sentence in &window.history {
                writeln!(f, "  {sentence}")?;
            }
            if !window.is_drawn_in(&self.cases) {
                window.maps.iter().try_for_each(|map| write!(f, "{}", map.to_text()))?;
            }
            for line in window
                .statistics
                .iter()
                .flat_map(|statistics| statistics.to_string().lines().map(str::to_owned).collect::<Vec<_>>())
            {
                writeln!(f, "  {line}")?;
            }
        }
        if !self.drivers.is_empty() {
            writeln!(f, "\nDrivers that got no memory")?;
            for line in self.drivers.iter().take(MOST_DRIVERS) {
                writeln!(f, "  {line}")?;
            }
            if self.drivers.len() > MOST_DRIVERS {
                writeln!(f, "  and {} more messages", self.drivers.len() - MOST_DRIVERS)?;
            }
        }
        if let Some(check) = &self.check {
            write!(f, "\nThe device tree\n{check}\n")?;
        }
        Ok(())
    }
}

impl Case {
    /// The heading of its part.
    pub(super) fn title(&self) -> String {
        let pages = crate::area::plural(self.pages);
        match self.count {
            0 => format!("A request for {pages} in {}", self.window),
            1 => format!("The failed request for {pages} in {}", self.window),
            count => format!("{count} failed requests for {pages} in {}", self.window),
        }
    }
}
