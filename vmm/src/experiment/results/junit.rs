//! JUnit's XML: a case for each run.

use std::fmt::Write as _;

use super::{escape::escaped, summary::Summary};

/// The results as JUnit's XML, which CI systems show.
pub(super) fn junit(summary: &Summary) -> String {
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{}\" failures=\"{}\">\n",
        summary.runs.len(),
        summary.failed
    );
    for (name, runs) in summary.experiments() {
        let failed = runs.iter().filter(|run| !run.verdict.passed()).count();
        let name = escaped(name);
        // Writing to a String cannot fail.
        let _ = writeln!(xml, "<testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\">", runs.len());
        for run in runs {
            let case = escaped(&run.case);
            let _ = write!(xml, "<testcase classname=\"{name}\" name=\"{case}\" time=\"{:.3}\"", run.seconds);
            if run.verdict.passed() {
                xml += "/>\n";
                continue;
            }
            let texts: Vec<_> =
                run.verdict.complaints.iter().map(|complaint| escaped(&complaint.text)).collect();
            let _ =
                writeln!(xml, "><failure message=\"{}\">{}</failure></testcase>", texts[0], texts.join("\n"));
        }
        xml += "</testsuite>\n";
    }
    xml + "</testsuites>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::results::summary::tests::summary;

    #[test]
    fn junit_has_a_case_for_each_run() {
        let xml = junit(&summary());
        assert!(xml.contains("<testsuites tests=\"2\" failures=\"1\">"), "{xml}");
        assert!(xml.contains("<testsuite name=\"a &lt;fault&gt;\" tests=\"2\" failures=\"1\">"), "{xml}");
        assert!(xml.contains("name=\"seed=1\" time=\"1.500\"/>"), "{xml}");
        assert!(xml.contains("<failure message=\"'a &amp; b' is not in the log\">"), "{xml}");
    }
}
