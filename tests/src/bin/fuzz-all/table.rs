//! What `cargo fuzz-all` prints.

use std::fmt;

use super::run::Outcome;

/// All outcomes.
pub(crate) struct Table<'a>(pub(crate) &'a [Outcome]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:16} {:>12} {:>12} {:>8} {:>8}  findings",
            "target", "executions", "per second", "edges", "corpus"
        )?;
        for Outcome { target, runs, took, edges, corpus, finding } in self.0 {
            let rate = *runs as f64 / took.as_secs_f64().max(0.001);
            let findings = u8::from(finding.is_some());
            writeln!(f, "{target:16} {runs:>12} {rate:>12.0} {edges:>8} {corpus:>8}  {findings}")?;
        }
        let runs: u64 = self.0.iter().map(|outcome| outcome.runs).sum();
        let findings = self.0.iter().filter(|outcome| outcome.finding.is_some()).count();
        write!(f, "{:16} {runs:>12} {:>12} {:>8} {:>8}  {findings}", "all", "", "", "")
    }
}

/// Says that a target has ended, and what it found.
pub(crate) fn progress(outcome: &Outcome) {
    let Outcome { target, runs, took, .. } = outcome;
    eprintln!("{target}: {runs} executions in {} s", took.as_secs());
    if let Some(finding) = &outcome.finding {
        eprintln!("{target}: FINDING:\n{finding}");
    }
}
