//! The end of the output: how long each stage and the slowest tests took, what failed, and why.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use super::stages::{Row, StageEnd};

/// How many of the slowest tests are named.
const SLOWEST: usize = 10;

/// What it prints.
pub(crate) struct Summary {
    pub rows: Vec<Row>,
    /// The longest first.
    pub tests: Vec<(String, Duration)>,
    pub took: Duration,
}

impl Summary {
    /// Names of the stages that failed, or were not run because of that.
    pub(crate) fn failed(&self) -> Vec<&str> {
        self.rows.iter().filter(|row| row.end != StageEnd::Passed).map(|row| row.name.as_str()).collect()
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  from s   took s    CPU s  stage")?;
        for Row { name, begun, took, cpus, end } in &self.rows {
            let end = match end {
                StageEnd::Passed => "",
                StageEnd::Failed(_) => "  FAILED",
                StageEnd::NotRun => "  NOT RUN",
            };
            writeln!(f, "{:>8}{:>9}{:>9}  {name}{end}", begun.as_secs(), took.as_secs(), cpus.as_secs())?;
        }
        let cpus: Duration = self.rows.iter().map(|row| row.cpus).sum();
        writeln!(f, "{:>8}{:>9}{:>9}  all of it", 0, self.took.as_secs(), cpus.as_secs())?;
        writeln!(f, "\n  took s  the slowest of {} tests that were timed", self.tests.len())?;
        for (name, took) in self.tests.iter().take(SLOWEST) {
            writeln!(f, "{:>8.1}  {name}", took.as_secs_f64())?;
        }
        for row in &self.rows {
            if let StageEnd::Failed(error) = &row.end {
                writeln!(f, "\n{} FAILED:", row.name)?;
                error.lines().try_for_each(|line| writeln!(f, "  {line}"))?;
            }
        }
        Ok(())
    }
}
