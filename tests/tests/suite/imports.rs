//! The imports between the files of each crate: no files import each other in a circle.

use std::path::Path;

use tests::{
    harness::{Group, Place, Test},
    imports::{Source, cycles, sources},
    tests,
};

/// The tests.
pub(crate) fn group() -> Group {
    let tests = tests![no_files_import_each_other, an_added_import_is_found];
    let tests = tests.into_iter().map(Test::the_same_everywhere).collect();
    Group { name: "imports", place: Place::Anywhere, tests }
}

/// The folders of the crates' roots, and the least number of their files: a parser that finds none would find no cycle.
const CRATES: &[(&str, usize)] = &[
    ("cma/src", 60),
    ("devices/media/src", 40),
    ("devices/src", 80),
    ("guest-images/src", 20),
    ("vmm/src", 120),
];

/// The files of a crate of this checkout.
fn files(root: &str) -> Vec<Source> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(root);
    sources(&folder, &format!("{root}/")).unwrap_or_else(|error| panic!("{root}: {error}"))
}

fn no_files_import_each_other() {
    let mut found = Vec::new();
    for (root, least) in CRATES {
        let files = files(root);
        assert!(files.len() >= *least, "{root} has only {} files", files.len());
        found.extend(cycles(&files));
    }
    let advice = "move what both need into a file below both, or pass it as an argument";
    assert!(found.is_empty(), "{} cycles; {advice}:\n{}", found.len(), found.join("\n"));
}

/// The rules of `check` import the state of the early boot. If that imports a rule, there is a circle.
fn an_added_import_is_found() {
    let mut files = files("cma/src");
    let early = files.iter_mut().find(|file| file.name == "cma/src/check/early.rs").unwrap();
    early.text = format!("use super::references::check;\n{}", early.text);
    let expected = "cma/src/check/early.rs:1 imports cma/src/check/references.rs";
    let found = cycles(&files);
    assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
}
