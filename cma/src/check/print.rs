//! The findings as text for people.

use std::fmt;

use super::{
    finding::{Finding, Level},
    report::{DefaultWindow, Origin, Reference, Region, Report, User},
};
use crate::size;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.level, self.text, self.source)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_rule = |finding: &&Finding| finding.text == self.rule;
        write!(f, "{}\n  ", self.node)?;
        if let Some(finding) = self.findings.iter().find(is_rule) {
            write!(f, "{}: ", finding.level)?;
        }
        write!(f, "{}", self.outcome)?;
        match (self.base, self.size) {
            (Some(base), Some(size)) => write!(f, ", {} at {base:#x}", size::format(size))?,
            (None, Some(size)) => {
                write!(f, ", {} where the kernel finds room", size::format(size))?;
                if let Some(placed) = self.placed {
                    write!(f, " ({placed:#x})")?;
                }
            }
            (_, None) => {}
        }
        let default = if self.default { ", the default window" } else { "" };
        write!(f, "{default}: {} ({})", self.rule, self.source)?;
        let mut others = self.findings.iter().filter(|finding| !is_rule(finding));
        others.try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, name, target, errno, gets, pool, findings } = self;
        let name = name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        write!(f, "memory-region {index}{name}: {}: ", target.as_deref().unwrap_or("nothing"))?;
        match index {
            0 => write!(f, "of_reserved_mem_device_init() ")?,
            _ => write!(f, "of_reserved_mem_device_init_by_idx() with {index} ")?,
        }
        match gets {
            Some(kind) => {
                write!(f, "gives it the {kind}")?;
                if let Some(other) = pool.as_ref().filter(|_| pool != target) {
                    write!(f, " of {other}")?;
                }
            }
            None if *errno == 0 => write!(f, "returns 0 without a pool")?,
            None => write!(f, "returns {errno}")?,
        }
        findings.iter().try_for_each(|finding| write!(f, "\n    {finding}"))
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.node, if self.enabled { "" } else { " (disabled)" })?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n  {finding}"))?;
        self.references.iter().try_for_each(|reference| write!(f, "\n  {reference}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.assumed)?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))?;
        self.regions.iter().try_for_each(|region| writeln!(f, "\n{region}"))?;
        if self.kernel.options.dma_cma || !self.default_window.findings.is_empty() {
            writeln!(f, "\n{}", self.default_window)?;
        }
        self.users.iter().try_for_each(|user| writeln!(f, "\n{user}"))?;
        let [errors, warnings, notes] =
            [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Note, "note")].map(
                |(level, word)| {
                    let count = self.count(level);
                    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
                },
            );
        write!(f, "\n{errors}, {warnings}, {notes}")
    }
}

impl fmt::Display for DefaultWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.origin {
            Origin::None => "none",
            Origin::Node => self.node.as_deref().unwrap_or_default(),
            Origin::Cmdline => "by cma= on the command line",
            Origin::Config => "by CONFIG_CMA_SIZE_*",
        };
        write!(f, "Default window: {by}")?;
        if let Some(size) = self.size.filter(|_| self.node.is_none()) {
            write!(f, ", {}", size::format(size))?;
            match self.base {
                Some(base) => write!(f, " at {base:#x}")?,
                None => write!(f, " where the kernel finds room")?,
            }
        }
        self.findings.iter().try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}
