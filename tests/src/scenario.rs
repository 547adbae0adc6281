//! Scenarios: what is said of CMA, shown in a real guest, with the model's prediction beside the kernel's answer.

mod allocator;
mod fields;
mod nodes;
mod windows;

use std::fmt;

pub use fields::Fields;

/// A claim about CMA, and a guest that shows what is true.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on command lines.
    pub name: &'static str,
    /// What one reads or expects.
    pub claim: &'static str,
    /// What the kernel does, and where.
    pub truth: &'static str,
    /// Boots what guests it needs.
    play: fn() -> Vec<Observation>,
}

/// One thing looked at in a guest.
#[derive(Debug, Clone)]
pub struct Observation {
    /// What it is.
    pub what: String,
    /// What the model, or the rule that the truth states, makes it.
    pub predicted: String,
    /// What the guest made it.
    pub seen: String,
}

impl Observation {
    #[allow(clippy::needless_pass_by_value)] // numbers and words, written where they are
    /// That `what` is the same in the prediction and in the guest.
    fn new(what: impl Into<String>, predicted: impl ToString, seen: impl ToString) -> Self {
        Self { what: what.into(), predicted: predicted.to_string(), seen: seen.to_string() }
    }

    /// Whether the guest did as predicted.
    pub fn holds(&self) -> bool {
        self.predicted == self.seen
    }
}

/// All scenarios.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    windows::SCENARIOS.iter().chain(nodes::SCENARIOS).chain(allocator::SCENARIOS)
}

/// What a played scenario showed.
#[derive(Debug)]
pub struct Played {
    scenario: &'static Scenario,
    observations: Vec<Observation>,
}

impl Scenario {
    /// Plays it.
    ///
    /// # Panics
    /// If a guest does not do what it is told at all.
    pub fn play(&'static self) -> Played {
        Played { scenario: self, observations: (self.play)() }
    }
}

impl Played {
    /// Whether all was seen as stated.
    pub fn holds(&self) -> bool {
        !self.observations.is_empty() && self.observations.iter().all(Observation::holds)
    }
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { name, claim, truth, .. } = self.scenario;
        writeln!(f, "{name}\n  claim  {claim}\n  truth  {truth}\n")?;
        let columns = |of: fn(&Observation) -> &str| {
            self.observations.iter().map(|observation| of(observation).chars().count()).max().unwrap_or(0)
        };
        let (what, predicted) =
            (columns(|one| &one.what), columns(|one| &one.predicted).max("predicted".len()));
        writeln!(f, "  {:what$}  {:predicted$}  the guest's kernel", "", "predicted")?;
        for observation in &self.observations {
            let verdict = if observation.holds() { "" } else { "   <-- NOT AS PREDICTED" };
            let Observation { what: name, predicted: model, seen } = observation;
            writeln!(f, "  {name:what$}  {model:predicted$}  {seen}{verdict}")?;
        }
        Ok(())
    }
}
