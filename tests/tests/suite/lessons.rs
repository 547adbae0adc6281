//! The lessons about CMA: the expectations of their scripts hold, and their pictures are up to date.
//!
//! UPDATE_LESSONS=1 draws the pictures again.

use std::{fs, path::Path, process::Command};

use tests::{
    harness::{Group, Place},
    programs, tests,
};

/// The tests.
pub(crate) fn group() -> Group {
    Group { name: "lessons", place: Place::Anywhere, tests: tests![scripts_hold_and_pictures_are_theirs,] }
}

fn scripts_hold_and_pictures_are_theirs() {
    let minivmm = programs::minivmm().expect("cargo builds minivmm");
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../cma/lessons"));
    let page = fs::read_to_string(folder.join("README.md")).unwrap();
    let drawn = tempfile::tempdir().unwrap();
    let scripts = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for script in scripts.filter(|path| path.extension().is_some_and(|extension| extension == "cma")) {
        let name = script.with_extension("svg").file_name().unwrap().to_owned();
        let svg = drawn.path().join(&name);
        let output =
            Command::new(&minivmm).arg("model").arg(&script).arg("--svg").arg(&svg).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", script.display());
        let (fresh, kept) = (fs::read(&svg).unwrap(), script.with_extension("svg"));
        if std::env::var_os("UPDATE_LESSONS").is_some() {
            fs::write(&kept, &fresh).unwrap();
        }
        assert!(fresh == fs::read(&kept).unwrap(), "{} is not what its script draws", kept.display());
        assert!(page.contains(&format!("({})", name.display())), "{} is not shown", name.display());
        count += 1;
    }
    assert_eq!(count, 3);
}
