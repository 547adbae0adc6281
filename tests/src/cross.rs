//! The toolchain that cross-builds this workspace for aarch64. The results run in the lab.
//!
//! rustup's cargo runs Debian's rustc, because Debian has a package of the same version with the standard library for aarch64.
//! The programs are static, so the lab needs no libraries for them.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use guest_images::{
    Arch,
    debian::{self, Archive},
};

use crate::programs;

/// The packages of [`Cross::PACKAGES`] that contain the compiler.
const COMPILER: &[&str] = &["rustc-web", "rust-web-clippy"];
/// rustc's name for the architecture.
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// The toolchain, ready for use.
#[derive(Debug, Clone)]
pub struct Cross {
    /// The folder that contains `rustlib`, where rustc looks for it.
    sysroot: PathBuf,
    /// Cargo's target folder, separate from that of builds for this machine.
    target_dir: PathBuf,
}

/// The architectures that this machine can build for and has a lab for. Its own comes first.
pub fn architectures() -> Vec<&'static Arch> {
    let foreign = (Arch::host().name != Arch::AARCH64.name).then_some(Arch::AARCH64);
    [Arch::host()].into_iter().chain(foreign).collect()
}

/// Parses the name of one of [`architectures`], for command lines.
///
/// # Errors
/// If it is another name.
pub fn architecture(name: &str) -> Result<&'static Arch, String> {
    let known = architectures();
    known.iter().copied().find(|arch| arch.name == name).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|arch| arch.name).collect();
        format!("on this machine there are {}", names.join(" and "))
    })
}

/// Builds minivmm for `arch`, which is one of [`architectures`], with the profile that this program was built with, and
/// returns where it is.
///
/// # Errors
/// If the toolchain cannot be installed, or minivmm cannot be built. cargo prints the reason on stderr.
pub fn minivmm(arch: &Arch) -> io::Result<PathBuf> {
    if arch.name == Arch::host().name { programs::minivmm() } else { Cross::prepare()?.minivmm() }
}

/// minivmm for a guest of `arch`: this machine's, or the one that a lab of that architecture has.
///
/// # Errors
/// If the lab's program cannot be built.
pub fn command(arch: &Arch) -> io::Result<Command> {
    if arch.name == Arch::host().name {
        return programs::minivmm().map(Command::new);
    }
    let mut lab = Command::new(programs::build("tests", "lab")?);
    lab.args(["run", "--timeout", "0", "--arch", arch.name, "--", "minivmm"]);
    Ok(lab)
}

/// Installs the program of `package`, as in `name@1.0`, for `arch` into `folder`. It is static, with libraries from the folder `libraries`.
///
/// # Errors
/// If the toolchain cannot be installed, or the program cannot be built. cargo prints the reason on stderr.
pub fn install(arch: &Arch, package: &str, folder: &Path, libraries: &Path) -> io::Result<()> {
    let search = OsString::from_iter(["-Lnative=".as_ref(), libraries.as_os_str()]);
    let mut cargo = if arch.name == Arch::host().name {
        let mut cargo = cargo_static("install", &format!("{}-unknown-linux-gnu", arch.name), &[&search]);
        cargo.arg("--target-dir").arg(folder.join("target"));
        cargo
    } else {
        let cross = Cross::prepare()?;
        let flags = ["--sysroot".as_ref(), cross.sysroot.as_os_str(), &search];
        let mut cargo = cargo_static("install", TARGET, &flags);
        cross.compile(&mut cargo);
        cargo
    };
    let status = cargo.args(["--quiet", "--locked", package, "--root"]).arg(folder).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{cargo:?} failed: {status}"))) }
}

/// A cargo command that compiles static programs for `target`, with further `flags` for rustc. The flags apply to the target, and not to
/// build scripts and macros.
fn cargo_static(command: &str, target: &str, flags: &[&OsStr]) -> Command {
    let flags: Vec<_> = ["-Ctarget-feature=+crt-static".as_ref()].iter().chain(flags).copied().collect();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([command, "--target", target]).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f".as_ref()));
    cargo
}

impl Cross {
    /// Debian packages with the toolchain.
    pub const PACKAGES: &[&str] = &[
        "gcc",
        "gcc-aarch64-linux-gnu",
        "libc6-dev",
        "libc6-dev-arm64-cross",
        "rust-web-clippy",
        "rustc-web",
    ];

    /// Installs the missing parts of the toolchain.
    ///
    /// # Errors
    /// If a Debian package cannot be installed.
    pub fn prepare() -> io::Result<Self> {
        let unpacked = Self::unpack_library().map_err(io::Error::other)?;
        Ok(Self { sysroot: unpacked.join("usr"), target_dir: programs::folder()?.with_file_name("cross") })
    }

    /// The folder of rustc's library for aarch64. Installs the rest of the toolchain first.
    fn unpack_library() -> Result<PathBuf, guest_images::Error> {
        debian::install(Self::PACKAGES)?;
        // Old package lists can have an older compiler than the workspace requires.
        debian::at_least(COMPILER, env!("CARGO_PKG_RUST_VERSION"))?;
        // rustc accepts only the library of its own build.
        let version = debian::installed_version(COMPILER[0])?;
        Archive::of("arm64").unpacked(&format!("libstd-rust-web-dev={version}"))
    }

    /// A cargo command for this workspace and aarch64, with its first arguments.
    pub fn cargo(&self, command: &str) -> Command {
        let mut cargo = cargo_static(command, TARGET, &["--sysroot".as_ref(), self.sysroot.as_os_str()]);
        cargo.args(["--manifest-path", programs::MANIFEST]);
        self.compile(&mut cargo);
        cargo
    }

    /// Makes `cargo` compile for aarch64.
    fn compile(&self, cargo: &mut Command) {
        cargo
            .arg("--target-dir")
            .arg(&self.target_dir)
            // Full builds are the usual case here, and incremental compilation makes them slower.
            .env("CARGO_INCREMENTAL", "0")
            .env("RUSTC", "/usr/bin/rustc")
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    }

    /// cargo clippy for aarch64, for the crates with code for aarch64 only. Warnings are errors. rustup's clippy works only with its
    /// own rustc, so this runs clippy-driver.
    pub fn clippy(&self) -> Command {
        let mut cargo = self.cargo("check");
        cargo
            .args(["--quiet", "--package", "media", "--package", "vmm", "--package", "tests"])
            .args(["--lib", "--bins", "--tests"])
            .env("RUSTC_WORKSPACE_WRAPPER", "/usr/bin/clippy-driver")
            // The way in which cargo-clippy passes arguments to its driver.
            .env("CLIPPY_ARGS", "--deny__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__");
        cargo
    }

    /// minivmm for aarch64, see [`minivmm`].
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn minivmm(&self) -> io::Result<PathBuf> {
        self.program("vmm", "minivmm")
    }

    /// The `program` of `package` for aarch64.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn program(&self, package: &str, program: &str) -> io::Result<PathBuf> {
        programs::build_by(self.cargo("build"), package, program)?;
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        Ok(self.target_dir.join(TARGET).join(profile).join(program))
    }
}
