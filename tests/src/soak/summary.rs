//! The summary of a soak, as text and as JSON.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::Ended;

/// The figures of all machines. The names are stable in JSON.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// The seed.
    pub seed: u64,
    /// The time of the soak in seconds.
    pub seconds: f64,
    /// Number of machines in each place.
    pub machines: BTreeMap<String, u64>,
    /// Number of machines with each guest.
    pub guests: BTreeMap<String, u64>,
    /// Number of machines with each end.
    pub ends: BTreeMap<String, u64>,
    /// Number of failures of the host of each kind.
    pub faults: BTreeMap<String, u64>,
    /// The longest time from each event that stopped machines to their end, in seconds.
    pub slowest_stops: BTreeMap<String, f64>,
    /// The problems, each with the command that repeats its machine.
    pub problems: Vec<String>,
}

impl Summary {
    /// Adds a machine that ran in `place`.
    pub fn add(&mut self, place: &str, ended: &Ended) {
        let count = |counts: &mut BTreeMap<String, u64>, name: &str, number| {
            *counts.entry(name.to_owned()).or_default() += number;
        };
        count(&mut self.machines, place, 1);
        count(&mut self.guests, &ended.guest, 1);
        count(&mut self.ends, &ended.end, 1);
        for (fault, number) in &ended.faults {
            count(&mut self.faults, fault, *number);
        }
        if let Some((how, seconds)) = &ended.stopped {
            let slowest = self.slowest_stops.entry(how.clone()).or_default();
            *slowest = slowest.max(*seconds);
        }
        for problem in &ended.problems {
            let Ended { index, guest, .. } = ended;
            let again =
                format!("cargo soak --place {place} --seed {} --first {index} --machines 1", self.seed);
            self.problems
                .push(format!("machine {index} in {place} ({guest}): {problem}\n    again: {again}"));
        }
    }

    /// The number of machines.
    pub fn count(&self) -> u64 {
        self.machines.values().sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} machines in {:.0} s, seed {}", self.count(), self.seconds, self.seed)?;
        let tables = [
            ("place", &self.machines),
            ("guest", &self.guests),
            ("end", &self.ends),
            ("failure of the host", &self.faults),
        ];
        for (name, counts) in tables {
            writeln!(f, "\n  {name}")?;
            for (what, number) in counts {
                writeln!(f, "    {number:>7}  {what}")?;
            }
        }
        writeln!(f, "\n  slowest stop")?;
        for (how, seconds) in &self.slowest_stops {
            writeln!(f, "    {seconds:>5.1} s  {how}")?;
        }
        writeln!(f, "\n  problems: {}", self.problems.len())?;
        for problem in &self.problems {
            writeln!(f, "    {problem}")?;
        }
        Ok(())
    }
}
