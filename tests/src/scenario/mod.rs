//! Scenarios: claims about CMA, tested in a real guest, with the model's prediction beside the kernel's answer.

mod allocator;
mod balloon;
mod fields;
mod nodes;
mod pages;
mod requests;
mod windows;

use std::{borrow::Cow, fmt};

use cma::Window;
use guest_images::{Arch, Kind, Release};
use vmm::arch;

pub use fields::Fields;

/// A claim about CMA, and a guest that tests it.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on command lines.
    pub name: &'static str,
    /// The claim: a common belief, or a sentence from documentation.
    pub claim: &'static str,
    /// What the kernel does, with its source.
    pub truth: &'static str,
    /// Boots its guests, and returns the observations.
    play: fn() -> Vec<Observation>,
}

/// An observation in a guest.
#[derive(Debug, Clone)]
pub struct Observation {
    /// What was observed.
    pub what: String,
    /// The prediction of the model, or of the rule in `truth`.
    pub predicted: String,
    /// The value in the guest.
    pub seen: String,
}

impl Observation {
    #[allow(clippy::needless_pass_by_value)] // numbers and words, written where they are
    /// An observation of `what`, with its prediction and its value in the guest.
    fn new(what: impl Into<String>, predicted: impl ToString, seen: impl ToString) -> Self {
        Self { what: what.into(), predicted: predicted.to_string(), seen: seen.to_string() }
    }

    /// Whether the prediction is correct.
    pub fn holds(&self) -> bool {
        self.predicted == self.seen
    }
}

/// The images that scenarios boot in guests of `arch`.
pub fn images(arch: &Arch) -> Vec<Kind> {
    let images = [Kind::DEFAULT, Kind::Large(Release::V6_1)];
    images.into_iter().filter(|kind| arch.kinds.contains(kind)).collect()
}

/// All scenarios.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    of_windows().chain(of_pages()).chain(of_the_model())
}

/// Where windows are. Each architecture has its own code for it.
pub fn of_windows() -> impl Iterator<Item = &'static Scenario> {
    [windows::SCENARIOS, nodes::SCENARIOS].into_iter().flatten()
}

/// What becomes of the pages in a window. It does not depend on the architecture.
pub fn of_pages() -> impl Iterator<Item = &'static Scenario> {
    [pages::SCENARIOS, balloon::SCENARIOS].into_iter().flatten()
}

/// What the allocator answers to a request, which the model predicts alone. It does not depend on the architecture.
pub fn of_the_model() -> impl Iterator<Item = &'static Scenario> {
    [allocator::SCENARIOS, requests::SCENARIOS].into_iter().flatten()
}

/// A window in the middle of a guest's memory.
fn middle_window(name: &str, size: u64, default: bool) -> Window {
    let base = arch::ram(1 << 30)[0].start + (512 << 20);
    Window { name: name.to_owned(), base, size, default, ..Default::default() }
}

/// The result of a scenario.
#[derive(Debug)]
pub struct Played {
    scenario: &'static Scenario,
    observations: Vec<Observation>,
}

impl Scenario {
    /// Runs the scenario.
    ///
    /// # Panics
    /// If a guest does not run its script.
    pub fn play(&'static self) -> Played {
        Played { scenario: self, observations: (self.play)() }
    }
}

impl Played {
    /// Whether all predictions are correct.
    pub fn holds(&self) -> bool {
        !self.observations.is_empty() && self.observations.iter().all(Observation::holds)
    }
}

impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { name, claim, truth, .. } = self.scenario;
        let rows: Vec<[Cow<'_, str>; 3]> = self
            .observations
            .iter()
            .map(|one| [&one.what, &one.predicted, &one.seen].map(|text| shortened(text)))
            .collect();
        writeln!(f, "{name}\n  claim  {claim}\n  truth  {truth}\n")?;
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (what, predicted) = (width(0), width(1).max("predicted".len()));
        writeln!(f, "  {:what$}  {:predicted$}  the guest's kernel", "", "predicted")?;
        for ([name, model, seen], observation) in rows.iter().zip(&self.observations) {
            let verdict = if observation.holds() { "" } else { "   <-- NOT AS PREDICTED" };
            writeln!(f, "  {name:what$}  {model:predicted$}  {seen}{verdict}")?;
        }
        Ok(())
    }
}

/// The text, or its two ends if it is too wide for a table.
fn shortened(text: &str) -> Cow<'_, str> {
    const WIDEST: usize = 80;
    let characters = text.chars().count();
    if characters <= WIDEST {
        return text.into();
    }
    let end = |from: usize, count| text.chars().skip(from).take(count).collect::<String>();
    let half = WIDEST / 2 - 2;
    format!("{} ... {}", end(0, half), end(characters - half, half)).into()
}
