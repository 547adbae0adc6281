//! The results of experiments for programs and people: report.json, JUnit's XML, and a page.

mod page;
mod pictures;

use std::{fmt::Write as _, fs, io, path::Path};

use devices::faults::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    file::Case,
    judge::Verdict,
    run::{Evidence, names},
};
use crate::observe::words::counted;
pub use pictures::pictures;

/// The file in a run's folder with the smallest plan that shows its failure.
pub const MINIMAL: &str = "minimal.toml";

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

    /// Writes the three files into `folder`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        fs::write(folder.join("junit.xml"), self.junit())?;
        fs::write(folder.join("index.html"), page::page(self))
    }

    /// The experiments in their order, each with its runs.
    fn experiments(&self) -> Vec<(&str, Vec<&Done>)> {
        let mut experiments: Vec<(&str, Vec<&Done>)> = Vec::new();
        for run in &self.runs {
            match experiments.iter_mut().find(|(name, _)| *name == run.experiment) {
                Some((_, runs)) => runs.push(run),
                None => experiments.push((&run.experiment, vec![run])),
            }
        }
        experiments
    }

    fn junit(&self) -> String {
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{}\" failures=\"{}\">\n",
            self.runs.len(),
            self.failed
        );
        for (name, runs) in self.experiments() {
            let failed = runs.iter().filter(|run| !run.verdict.passed()).count();
            let name = escaped(name);
            // Writing to a String cannot fail.
            let _ =
                writeln!(xml, "<testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\">", runs.len());
            for run in runs {
                let case = escaped(&run.case);
                let _ =
                    write!(xml, "<testcase classname=\"{name}\" name=\"{case}\" time=\"{:.3}\"", run.seconds);
                if run.verdict.passed() {
                    xml += "/>\n";
                    continue;
                }
                let texts: Vec<_> =
                    run.verdict.complaints.iter().map(|complaint| escaped(&complaint.text)).collect();
                let _ = writeln!(
                    xml,
                    "><failure message=\"{}\">{}</failure></testcase>",
                    texts[0],
                    texts.join("\n")
                );
            }
            xml += "</testsuite>\n";
        }
        xml + "</testsuites>\n"
    }
}

/// Escapes `text` for XML and HTML, including attributes. Characters that XML does not allow are omitted.
fn escaped(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    kept.fold(String::new(), |mut out, c| {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            other => out.push(other),
        }
        out
    })
}

/// The files of a run that people read, below its folder.
pub fn files(folder: &Path) -> Vec<String> {
    let log = format!("{}/{}", names::OUT, names::LOG);
    let (experiment, plan, trace) = (names::EXPERIMENT, names::PLAN, names::TRACE);
    [experiment, plan, trace, names::OUTPUT, &log, names::CONSOLE, names::REPORT, MINIMAL]
        .into_iter()
        .filter(|file| folder.join(file).is_file())
        .map(ToOwned::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::judge::Complaint;

    pub(super) fn summary() -> Summary {
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

    #[test]
    fn junit_has_a_case_for_each_run() {
        let xml = summary().junit();
        assert!(xml.contains("<testsuites tests=\"2\" failures=\"1\">"), "{xml}");
        assert!(xml.contains("<testsuite name=\"a &lt;fault&gt;\" tests=\"2\" failures=\"1\">"), "{xml}");
        assert!(xml.contains("name=\"seed=1\" time=\"1.500\"/>"), "{xml}");
        assert!(xml.contains("<failure message=\"'a &amp; b' is not in the log\">"), "{xml}");
    }

    #[test]
    fn links_lead_to_files_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join(names::OUT);
        fs::create_dir(&out).unwrap();
        fs::write(folder.path().join(names::PLAN), "").unwrap();
        fs::write(folder.path().join(names::EXPERIMENT), "").unwrap();
        fs::write(out.join(names::LOG), "").unwrap();
        assert_eq!(files(folder.path()), ["experiment.toml", "plan.toml", "out/dmesg.txt"]);
    }

    #[test]
    fn the_files_are_written_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        summary().write(folder.path()).unwrap();
        let json = fs::read(folder.path().join("report.json")).unwrap();
        let read: Summary = serde_json::from_slice(&json).unwrap();
        assert_eq!((read.passed, read.failed, read.runs[1].verdict.complaints.len()), (1, 1, 1));
        assert_eq!(read.runs[0].faults[0].action, "torn, lines = 100");
        assert!(folder.path().join("junit.xml").exists() && folder.path().join("index.html").exists());
    }
}
