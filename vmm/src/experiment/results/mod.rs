//! The results of experiments for programs and people: report.json, JUnit's XML, and a page.

mod escape;
mod junit;
mod page;
mod pictures;
mod summary;

use std::{fs, io, path::Path};

use super::run::names;
pub use pictures::pictures;
pub use summary::{Done, Fault, Summary};

/// The file in a run's folder with the smallest plan that shows its failure.
pub const MINIMAL: &str = "minimal.toml";

impl Summary {
    /// Writes the three files into `folder`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        fs::write(folder.join("junit.xml"), junit::junit(self))?;
        fs::write(folder.join("index.html"), page::page(self))
    }
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
    use super::{summary::tests::summary, *};

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
