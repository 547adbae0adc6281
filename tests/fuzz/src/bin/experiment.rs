//! No text makes the reader of experiments panic or grow. An experiment that it takes has runs with names of their own.

#![no_main]

use std::collections::BTreeSet;

use fuzz::Start;
use vmm::experiment::file::Experiment;

/// The experiments of the tree.
fn seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments");
    let files = std::fs::read_dir(folder).expect("the experiments are there");
    let mut files: Vec<_> = files.map(|entry| entry.expect("it can be read").path()).collect();
    files.sort();
    files.into_iter().filter_map(|file| std::fs::read(file).ok()).collect()
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(experiment) = Experiment::read(text, &[])
    {
        let names: BTreeSet<_> = experiment.cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), experiment.cases.len());
    }
});
