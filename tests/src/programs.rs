//! The programs of this workspace, for tests and tools that run them.

use std::{
    env, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Signal, set_parent_process_death_signal};

/// The workspace's Cargo.toml.
pub(crate) const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");

/// Builds minivmm as [`build`] does.
///
/// # Errors
/// If it cannot be built. cargo prints the reason on stderr.
pub fn minivmm() -> io::Result<PathBuf> {
    build("vmm", "minivmm")
}

/// Builds the `program` of `package` with the profile of this program, and returns its path. If cargo did not start this
/// program, it returns the path of the last build.
///
/// # Errors
/// If it cannot be built. cargo prints the reason on stderr.
pub fn build(package: &str, program: &str) -> io::Result<PathBuf> {
    if let Some(cargo) = env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--manifest-path", MANIFEST]);
        build_by(build, package, program)?;
    }
    Ok(folder()?.join(program))
}

/// Builds the `program` of `package` with `cargo`, a `cargo build` command.
pub(crate) fn build_by(mut cargo: Command, package: &str, program: &str) -> io::Result<()> {
    cargo.args(["--quiet", "--package", package, "--bin", program]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    end_with_us(&mut cargo, Signal::TERM);
    let status = cargo.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("cargo ended with {status}"))) }
}

/// The folder that cargo puts programs in.
///
/// # Errors
/// If the path of this program is unknown.
pub fn folder() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folder = program.parent().unwrap_or(Path::new("/"));
    // Test programs are in a folder of this one.
    Ok(if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder }.to_owned())
}

/// Has the kernel send `signal` to the program of `command` if this process, or the thread that starts it, ends before it does.
pub fn end_with_us(command: &mut Command, signal: Signal) {
    let ask = move || set_parent_process_death_signal(Some(signal)).map_err(io::Error::from);
    // SAFETY: the closure makes a system call that is safe between fork and exec, and nothing else.
    unsafe { command.pre_exec(ask) };
}
