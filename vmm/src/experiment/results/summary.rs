//! The runs of a call with their verdicts: the format of report.json.

use devices::faults::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    experiment::{file::Case, judge::Verdict, run::Evidence},
    observe::words::counted,
};

/// A run and its verdict. The names are stable in JSON.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// The experiment's name.
    pub experiment: String,
    /// The run's name among those of the experiment, as in `seed=1`.
    pub case: String,
    /// Its folder, below that of the results.
    pub folder: String,
    /// A hash of everything that the run depends on, for `--resume`.
    pub fingerprint: String,
    /// The seed of the faults.
    pub seed: u64,
    /// The time that the run took, in seconds.
    pub seconds: f64,
    /// The options of the machine.
    pub machine: String,
    /// The command in the guest.
    pub workload: String,
    /// The rules of the plan of faults.
    pub faults: Vec<Fault>,
    /// The total number of firings.
    pub firings: usize,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The files with pictures of the frames concerned, below the folder.
    pub pictures: Vec<String>,
    /// The captions of these pictures, in the same order.
    pub captions: Vec<String>,
    /// The other files of the run, below the folder.
    pub files: Vec<String>,
    /// Whether `minimal.toml` is among them: the smallest plan that shows the same failure.
    pub minimised: bool,
}

/// A rule of a run's plan. The names are stable in JSON.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// Its name.
    pub rule: String,
    /// The point where it acts.
    pub on: String,
    /// The action with its parameter, for people: `torn, lines = 100`.
    pub action: String,
    /// The number of times that it fired.
    pub firings: usize,
}

impl Fault {
    /// The rules of `case`, with their firings in `evidence`.
    pub fn of(case: &Case, evidence: &Evidence) -> Vec<Self> {
        let fault = |rule: &Rule| {
            let parameter =
                rule.action.given().map_or_else(String::new, |(name, value)| format!(", {name} = {value}"));
            Self {
                rule: rule.name.clone(),
                on: rule.on.to_owned(),
                action: format!("{}{parameter}", rule.action.name()),
                firings: evidence.firings().iter().filter(|firing| firing.rule == rule.name).count(),
            }
        };
        case.rules.iter().map(fault).collect()
    }
}

/// All runs of a call. The names are stable in JSON.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// minivmm's version.
    pub version: String,
    /// Number of runs that passed.
    pub passed: usize,
    /// Number of runs that failed.
    pub failed: usize,
    /// Number of runs that did not run because of a stop.
    pub not_run: usize,
    /// All runs that were made.
    pub runs: Vec<Done>,
}

impl Summary {
    /// A summary of these runs and of a number of runs that did not run.
    pub fn new(runs: Vec<Done>, not_run: usize) -> Self {
        let passed = runs.iter().filter(|run| run.verdict.passed()).count();
        let (version, failed) = (env!("CARGO_PKG_VERSION").to_owned(), runs.len() - passed);
        Self { version, passed, failed, not_run, runs }
    }

    /// The numbers of runs, as text for people.
    pub fn counts(&self) -> String {
        let Self { passed, failed, not_run, runs, .. } = self;
        let counts =
            format!("{}, {passed} passed, {failed} failed", counted((runs.len() + not_run) as u64, "run"));
        if *not_run == 0 { counts } else { format!("{counts}, {not_run} not run") }
    }

    /// The experiments in their order, each with its runs.
    pub(super) fn experiments(&self) -> Vec<(&str, Vec<&Done>)> {
        let mut experiments: Vec<(&str, Vec<&Done>)> = Vec::new();
        for run in &self.runs {
            match experiments.iter_mut().find(|(name, _)| *name == run.experiment) {
                Some((_, runs)) => runs.push(run),
                None => experiments.push((&run.experiment, vec![run])),
            }
        }
        experiments
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::experiment::judge::Complaint;

    pub(in crate::experiment::results) fn summary() -> Summary {
        let run = |case: &str, complaints: Vec<Complaint>| Done {
            experiment: "a <fault>".into(),
            case: case.into(),
            folder: format!("a/{case}"),
            fingerprint: String::new(),
            seed: 1,
            seconds: 1.5,
            machine: "--cma 16M".into(),
            workload: "v4l2-ctl > /out/frames".into(),
            faults: vec![Fault {
                rule: "tear".into(),
                on: "frame.dma".into(),
                action: "torn, lines = 100".into(),
                firings: 1,
            }],
            firings: 1,
            verdict: Verdict { complaints },
            pictures: vec!["frame-3.png".into()],
            captions: vec!["Frame 3: the rule \"tear\" fired".into()],
            files: vec!["experiment.toml".into(), "trace.jsonl".into()],
            minimised: false,
        };
        let complaint =
            Complaint { expectation: "log".into(), text: "'a & b' is not in the log\u{1}".into() };
        Summary::new(vec![run("seed=1", Vec::new()), run("seed=2", vec![complaint])], 0)
    }
}
