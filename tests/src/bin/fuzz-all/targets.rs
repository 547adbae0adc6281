//! The targets: their names, and their programs, which cargo builds with instrumentation.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use tests::programs::end_with_us;

/// The crate of the targets.
pub(crate) const CRATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

/// What the compiler adds for libFuzzer: counters of edges and the operands of comparisons, as `cargo fuzz` adds them. It works with a
/// stable toolchain.
const FLAGS: &str = "--cfg=fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// The name of a target.
pub(crate) type Target = String;

/// All targets, or those with these names.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<Target>, String> {
    let folder = Path::new(CRATE).join("src/bin");
    let error = |error| format!("the targets in {} cannot be listed: {error}", folder.display());
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            all.extend(path.file_stem().and_then(|name| name.to_str()).map(ToOwned::to_owned));
        }
    }
    all.sort();
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        return Err(format!("there is no target {unknown}; the targets are {}", all.join(", ")));
    }
    Ok(if names.is_empty() { all } else { names.to_vec() })
}

/// The programs of targets.
pub(crate) struct Build {
    /// The folder of the programs.
    programs: PathBuf,
    /// The folder of the seeds that targets make.
    pub(crate) seeds: PathBuf,
}

impl Build {
    /// Builds the programs of `targets`.
    pub(crate) fn new(targets: &[Target]) -> Result<Self, String> {
        let host = host()?;
        // Beside the folder of this program's build.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz");
        let mut cargo = cargo();
        cargo
            .args(["build", "--quiet", "--release", "--locked", "--manifest-path"])
            .arg(Path::new(CRATE).join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&folder)
            // With a target, the flags are not those of build scripts.
            .args(["--target", &host])
            .args(targets.iter().flat_map(|target| ["--bin", target]))
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", FLAGS)
            .env("RUSTC_WRAPPER", Path::new(CRATE).join("rustc.sh"));
        end_with_us(&mut cargo, Signal::TERM);
        let status = cargo.status().map_err(|error| format!("cargo cannot be run: {error}"))?;
        if !status.success() {
            return Err(format!("the fuzz targets cannot be built: cargo ended with {status}"));
        }
        let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { programs: folder.join(host).join("release"), seeds: folder.join("seeds") })
    }

    /// The program of a target.
    pub(crate) fn program(&self, target: &Target) -> PathBuf {
        self.programs.join(target)
    }
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// This machine's target triple.
fn host() -> Result<String, String> {
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV").output();
    let output = output.map_err(|error| format!("rustc cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(ToOwned::to_owned).ok_or_else(|| "rustc -vV does not name the host".to_owned())
}
