//! Embeds the sources of the images in the program, for use without the checkout (see src/sources.rs).

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The files and folders of this crate that images are made from.
const SOURCES: [&str; 4] = ["driver", "init", "kernel", "udhcpc"];

fn main() {
    let var = |name| PathBuf::from(env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}")));
    let root = var("CARGO_MANIFEST_DIR");
    let mut files = Vec::new();
    for name in SOURCES {
        println!("cargo::rerun-if-changed={name}");
        collect(&root.join(name), &mut files);
    }
    files.sort();
    let mut list = String::from("[\n");
    for file in files {
        let name = file.strip_prefix(&root).expect("the file is below the crate's folder");
        let _ = writeln!(list, "({name:?}, include_bytes!({file:?}).as_slice()),");
    }
    list.push(']');
    fs::write(var("OUT_DIR").join("sources.rs"), list).expect("cargo's output folder is writable");
}

/// Adds `path`, or all files below it.
fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        return files.push(path.to_owned());
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for entry in entries {
        collect(&entry.expect("the folder is readable").path(), files);
    }
}
