//! The programs of this workspace, for tests and tools that run them.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Builds minivmm with the profile that this program was built with, and returns where it is. Not run by cargo, this
/// finds the one that was built last.
///
/// # Errors
/// If it cannot be built; cargo has said on stderr why.
pub fn minivmm() -> io::Result<PathBuf> {
    if let Some(cargo) = env::var_os("CARGO") {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "vmm", "--bin", "minivmm", "--manifest-path", manifest]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let status = build.status()?;
        if !status.success() {
            return Err(io::Error::other(format!("cargo ended with {status}")));
        }
    }
    Ok(folder()?.join("minivmm"))
}

/// The folder that cargo puts programs in.
///
/// # Errors
/// If the system does not tell where this program is.
pub fn folder() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folder = program.parent().unwrap_or(Path::new("/"));
    // Tests are one folder further down.
    Ok(if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder }.to_owned())
}
