//! The results of experiments for programs and people: report.json, JUnit's XML, and a page.

use std::{fmt::Write as _, fs, io, path::Path};

use devices::media::Captured;
use serde::{Deserialize, Serialize};

use super::{
    file::Case,
    judge::Verdict,
    run::{Evidence, names},
};
use crate::observe::frames;

/// The file in a run's folder with the smallest plan that shows its failure.
pub const MINIMAL: &str = "minimal.toml";

/// The most pictures of a run.
const PICTURES: usize = 4;

/// A run, and the verdict on it. The names are stable in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// How often a rule fired.
    pub firings: usize,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Pictures of the frames concerned, below the folder.
    pub pictures: Vec<String>,
    /// The other files of the run, below the folder.
    pub files: Vec<String>,
    /// Whether [`MINIMAL`] is among them: the smallest plan that shows the same failure.
    pub minimised: bool,
}

/// All runs of a call. The names are stable in JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    /// minivmm's version.
    pub version: String,
    /// Number of runs that passed.
    pub passed: usize,
    /// Number of runs that failed.
    pub failed: usize,
    /// Number of runs that were not made because of a stop.
    pub not_run: usize,
    /// All runs that were made.
    pub runs: Vec<Done>,
}

impl Summary {
    /// A summary of these runs and of a number of runs that were not made.
    pub fn new(runs: Vec<Done>, not_run: usize) -> Self {
        let passed = runs.iter().filter(|run| run.verdict.passed()).count();
        let (version, failed) = (env!("CARGO_PKG_VERSION").to_owned(), runs.len() - passed);
        Self { version, passed, failed, not_run, runs }
    }

    /// The numbers of runs, for a person to read.
    pub fn counts(&self) -> String {
        let Self { passed, failed, not_run, runs, .. } = self;
        let counts = format!("{} runs, {passed} passed, {failed} failed", runs.len() + not_run);
        if *not_run == 0 { counts } else { format!("{counts}, {not_run} not made") }
    }

    /// Writes the three files into `folder`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        fs::write(folder.join("junit.xml"), self.junit())?;
        fs::write(folder.join("index.html"), self.page())
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

    fn page(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Experiments</title>\n<style>{STYLE}</style>\n\
             <h1>Experiments</h1>\n<p>minivmm {}: {}.</p>\n<table>\n\
             <tr><th>experiment</th><th>run</th><th>verdict</th><th>faults</th><th>s</th><th>files</th></tr>\n",
            escaped(&self.version),
            self.counts()
        );
        for (name, runs) in self.experiments() {
            for (index, run) in runs.iter().enumerate() {
                let name = if index == 0 { escaped(name) } else { String::new() };
                let (class, word) = if run.verdict.passed() { ("ok", "passed") } else { ("bad", "FAILED") };
                let mut complaints = String::new();
                for complaint in &run.verdict.complaints {
                    let _ = write!(
                        complaints,
                        "<li><b>{}</b>: {}",
                        escaped(&complaint.expectation),
                        escaped(&complaint.text)
                    );
                }
                let folder = escaped(&run.folder);
                let mut files = String::new();
                for file in run.files.iter().map(|file| escaped(file)) {
                    let _ = write!(files, "<a href=\"{folder}/{file}\">{file}</a> ");
                }
                for picture in &run.pictures {
                    let picture = escaped(picture);
                    let _ = write!(
                        files,
                        "<br><img src=\"{folder}/{picture}\" alt=\"{picture}\" title=\"{picture}\">"
                    );
                }
                let _ = writeln!(
                    page,
                    "<tr class=\"{class}\"><td>{name}</td><td>{}</td><td>{word}<ul>{complaints}</ul></td><td>{}</td>\
                     <td>{:.1}</td><td>{files}</td></tr>",
                    escaped(&run.case),
                    run.firings,
                    run.seconds
                );
            }
        }
        page + "</table>\n</html>\n"
    }
}

const STYLE: &str = "body{font:15px sans-serif;margin:2em;max-width:80em}table{border-collapse:collapse}\
    td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}ul{margin:0;padding-left:1.2em}\
    .ok td:nth-child(3){background:#dfd}.bad td:nth-child(3){background:#fdd}img{max-width:20em;margin:.3em 0}";

/// `text` for XML and HTML, also for attributes. Characters that XML cannot have are left out.
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

/// The files that a run left for people to read, below its folder.
pub fn files(folder: &Path) -> Vec<String> {
    let log = format!("{}/{}", names::OUT, names::LOG);
    [names::OUTPUT, &log, names::CONSOLE, names::PLAN, names::TRACE, names::REPORT, MINIMAL]
        .into_iter()
        .filter(|file| folder.join(file).is_file())
        .map(ToOwned::to_owned)
        .collect()
}

/// Writes pictures of a run's bad frames, or else of the frames that had faults, into its folder. Returns their names.
pub fn pictures(case: &Case, evidence: &Evidence, folder: &Path) -> Vec<String> {
    let (Some(frames), Some(looked)) = (&case.expect.frames, &evidence.frames) else {
        return Vec::new();
    };
    let mut concerned: Vec<u64> = looked.bad.iter().map(|(index, _)| *index).collect();
    if concerned.is_empty() {
        concerned = evidence.firings().iter().filter_map(|firing| firing.frame.map(u64::from)).collect();
        concerned.dedup();
    }
    let file = folder.join(names::OUT).join(&frames.file);
    let picture = |index: u64| {
        let bytes = frames::read_frame(&file, &frames.layout, index).ok()?;
        let captured = Captured::new(&frames.layout, bytes)?;
        let name = format!("frame-{index}.png");
        captured.write_png(fs::File::create(folder.join(&name)).ok()?).ok()?;
        Some(name)
    };
    concerned.into_iter().take(PICTURES).filter_map(picture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::judge::Complaint;

    fn summary() -> Summary {
        let run = |case: &str, complaints: Vec<Complaint>| Done {
            experiment: "a <fault>".into(),
            case: case.into(),
            folder: format!("a/{case}"),
            fingerprint: String::new(),
            seed: 1,
            seconds: 1.5,
            firings: 1,
            verdict: Verdict { complaints },
            pictures: vec!["frame-3.png".into()],
            files: vec!["trace.jsonl".into()],
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
    fn the_page_has_verdicts_and_pictures() {
        let page = summary().page();
        assert!(page.contains("2 runs, 1 passed, 1 failed"), "{page}");
        assert!(page.contains("<img src=\"a/seed=2/frame-3.png\""), "{page}");
        assert!(page.contains("<li><b>log</b>: 'a &amp; b'"), "{page}");
        assert!(page.contains("<a href=\"a/seed=2/trace.jsonl\">trace.jsonl</a>"), "{page}");
        assert_eq!(page.matches("<tr class=").count(), 2);
    }

    #[test]
    fn what_was_stopped_is_told() {
        let stopped = Summary::new(summary().runs, 3);
        assert!(stopped.page().contains("5 runs, 1 passed, 1 failed, 3 not made."), "{}", stopped.page());
    }

    #[test]
    fn links_lead_to_files_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join(names::OUT);
        fs::create_dir(&out).unwrap();
        fs::write(folder.path().join(names::PLAN), "").unwrap();
        fs::write(out.join(names::LOG), "").unwrap();
        assert_eq!(files(folder.path()), ["out/dmesg.txt", "plan.toml"]);
    }

    #[test]
    fn the_files_are_written_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        summary().write(folder.path()).unwrap();
        let json = fs::read(folder.path().join("report.json")).unwrap();
        let read: Summary = serde_json::from_slice(&json).unwrap();
        assert_eq!((read.passed, read.failed, read.runs[1].verdict.complaints.len()), (1, 1, 1));
        assert!(folder.path().join("junit.xml").exists() && folder.path().join("index.html").exists());
    }
}
