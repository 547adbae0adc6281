//! The page of experiments, in HTML: what each run did, its verdict, its files and its pictures.

use std::fmt::Write as _;

use super::{
    escape::escaped,
    summary::{Done, Fault, Summary},
};

const STYLE: &str = "body{font:15px sans-serif;margin:2em;max-width:80em}table{border-collapse:collapse;margin-bottom:2em}\
    td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}ul{margin:0;padding-left:1.2em}\
    .ok td:nth-child(2){background:#dfd}.bad td:nth-child(2){background:#fdd}img{max-width:20em;display:block}\
    figure{margin:.6em 0}figcaption{font-size:85%;max-width:23em}pre{margin:.3em 0;white-space:pre-wrap}";

/// The explanation of the columns and of the pictures.
const INTRODUCTION: &str = "<p>Each run boots a guest with the options of the machine, injects the faults and runs the workload. \
    The verdict compares the results with the expectations of the experiment. <code>experiment.toml</code> is the experiment, \
    <code>plan.toml</code> the plan of faults of the run, and <code>trace.jsonl</code> has a line for each firing of a rule.</p>\n\
    <p>The coloured strip at the left end of the first line of a picture is the stamp, which each frame carries: its sequence \
    number and a checksum.</p>\n";

/// The page of all runs.
pub(super) fn page(summary: &Summary) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Experiments</title>\n<style>{STYLE}</style>\n\
         <h1>Experiments</h1>\n<p>minivmm {}: {}.</p>\n{INTRODUCTION}",
        escaped(&summary.version),
        summary.counts()
    );
    for (name, runs) in summary.experiments() {
        let _ = writeln!(
            page,
            "<h2>{}</h2>\n<table>\n\
             <tr><th>run</th><th>verdict</th><th>what was done</th><th>files</th><th>pictures</th></tr>",
            escaped(name)
        );
        runs.iter().for_each(|run| row(&mut page, run));
        page += "</table>\n";
    }
    page + "</html>\n"
}

/// The row of a run.
fn row(page: &mut String, run: &Done) {
    let (class, word) = if run.verdict.passed() { ("ok", "passed") } else { ("bad", "FAILED") };
    let folder = escaped(&run.folder);
    let _ = write!(
        page,
        "<tr class=\"{class}\"><td>{}<br>{:.1} s</td><td>{word}<ul>",
        escaped(&run.case),
        run.seconds
    );
    for complaint in &run.verdict.complaints {
        let (expectation, text) = (escaped(&complaint.expectation), escaped(&complaint.text));
        let _ = write!(page, "<li><b>{expectation}</b>: {text}");
    }
    let _ = write!(
        page,
        "</ul></td><td><code>minivmm {} --seed {}</code><pre>{}</pre>{}</td><td>",
        escaped(&run.machine),
        run.seed,
        escaped(run.workload.trim()),
        faults(&run.faults)
    );
    for file in run.files.iter().map(|file| escaped(file)) {
        let _ = write!(page, "<a href=\"{folder}/{file}\">{file}</a><br>");
    }
    *page += "</td><td>";
    for (picture, caption) in run.pictures.iter().zip(&run.captions) {
        let (picture, caption) = (escaped(picture), escaped(caption));
        let _ = write!(
            page,
            "<figure><img src=\"{folder}/{picture}\" alt=\"{caption}\"><figcaption>{caption}</figcaption></figure>"
        );
    }
    *page += "</td></tr>\n";
}

/// The list of a run's faults.
fn faults(faults: &[Fault]) -> String {
    if faults.is_empty() {
        return "No fault was injected.".to_owned();
    }
    let item = |fault: &Fault| {
        let Fault { rule, on, action, firings } = fault;
        let times = match firings {
            0 => "did not fire".to_owned(),
            1 => "fired once".to_owned(),
            times => format!("fired {times} times"),
        };
        let (rule, on, action) = (escaped(rule), escaped(on), escaped(action));
        format!("<li><b>{rule}</b>: <code>{action}</code> at <code>{on}</code>; {times}")
    };
    format!("<ul>{}</ul>", faults.iter().map(item).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::results::summary::tests::summary;

    #[test]
    fn the_page_has_verdicts_and_captioned_pictures() {
        let page = page(&summary());
        assert!(page.contains("2 runs, 1 passed, 1 failed"), "{page}");
        let figure = "<img src=\"a/seed=2/frame-3.png\" alt=\"Frame 3: the rule &quot;tear&quot; fired\">\
                      <figcaption>Frame 3: the rule &quot;tear&quot; fired</figcaption>";
        assert!(page.contains(figure), "{page}");
        assert!(page.contains("<li><b>log</b>: 'a &amp; b'"), "{page}");
        assert_eq!(page.matches("<tr class=").count(), 2);
    }

    #[test]
    fn the_page_says_what_each_run_did_and_links_its_files() {
        let mut summary = summary();
        summary.runs[1].faults.clear();
        let page = page(&summary);
        assert!(
            page.contains("<code>minivmm --cma 16M --seed 1</code><pre>v4l2-ctl &gt; /out/frames</pre>"),
            "{page}"
        );
        let fault = "<b>tear</b>: <code>torn, lines = 100</code> at <code>frame.dma</code>; fired once";
        assert_eq!(page.matches(fault).count(), 1, "{page}");
        assert_eq!(page.matches("No fault was injected.").count(), 1, "{page}");
        for file in ["experiment.toml", "trace.jsonl"] {
            assert!(page.contains(&format!("<a href=\"a/seed=2/{file}\">{file}</a>")), "{page}");
        }
    }

    #[test]
    fn a_stopped_call_counts_the_runs_that_were_not_made() {
        let stopped = page(&Summary::new(summary().runs, 3));
        assert!(stopped.contains("5 runs, 1 passed, 1 failed, 3 not run."), "{stopped}");
    }
}
