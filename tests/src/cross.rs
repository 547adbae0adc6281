//! The toolchain that builds this workspace for aarch64 on another machine; what it builds runs in the lab.
//!
//! rustup's cargo drives Debian's rustc, as that comes with a standard library for aarch64 in a package of the same
//! version. Programs are static, so that the lab needs no libraries for them.

use std::{env, io, path::PathBuf, process::Command};

use guest_images::{
    Arch,
    debian::{self, Archive},
};

use crate::programs;

/// Those of [`Cross::PACKAGES`] that make up the compiler.
const COMPILER: &[&str] = &["rustc-web", "rust-web-clippy"];
/// rustc's name for the architecture.
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// The toolchain, ready for use.
#[derive(Debug, Clone)]
pub struct Cross {
    /// The folder that has rustlib, in a folder of that name, as rustc looks for it.
    sysroot: PathBuf,
    /// Cargo's folder for what it builds, so that what it builds for this machine stays as it is.
    target_dir: PathBuf,
}

/// The architectures that this machine can build for and has a lab of: its own first.
pub fn architectures() -> Vec<&'static Arch> {
    let foreign = (Arch::host().name != Arch::AARCH64.name).then_some(Arch::AARCH64);
    [Arch::host()].into_iter().chain(foreign).collect()
}

/// Parses the name of one of [`architectures`], for command lines.
///
/// # Errors
/// If it is none of them.
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
/// If the toolchain cannot be had, or minivmm cannot be built; cargo has said on stderr why.
pub fn minivmm(arch: &Arch) -> io::Result<PathBuf> {
    if arch.name == Arch::host().name { programs::minivmm() } else { Cross::prepare()?.minivmm() }
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

    /// Installs what is missing of the toolchain.
    ///
    /// # Errors
    /// If a Debian package cannot be had.
    pub fn prepare() -> io::Result<Self> {
        let unpacked = Self::unpack_library().map_err(io::Error::other)?;
        Ok(Self { sysroot: unpacked.join("usr"), target_dir: programs::folder()?.with_file_name("cross") })
    }

    /// The folder of rustc's library for aarch64; installs what is missing of the rest first.
    fn unpack_library() -> Result<PathBuf, guest_images::Error> {
        debian::install(Self::PACKAGES)?;
        // A machine's old lists may have an older one than the workspace asks for.
        debian::at_least(COMPILER, env!("CARGO_PKG_RUST_VERSION"))?;
        // rustc takes no library but that of its own build.
        let version = debian::installed_version(COMPILER[0])?;
        Archive::of("arm64").unpacked(&format!("libstd-rust-web-dev={version}"))
    }

    /// cargo for aarch64: `command` and its first arguments are given.
    pub fn cargo(&self, command: &str) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // These hold for what is built for the target, and not for build scripts and macros.
        let flags = ["-Ctarget-feature=+crt-static", "--sysroot"].map(Into::into);
        let flags: Vec<_> = flags.into_iter().chain([self.sysroot.clone().into_os_string()]).collect();
        cargo
            .args([command, "--target", TARGET, "--manifest-path", programs::MANIFEST, "--target-dir"])
            .arg(&self.target_dir)
            // What it builds is seldom built again: incremental builds take longer when there is nothing yet.
            .env("CARGO_INCREMENTAL", "0")
            .env("RUSTC", "/usr/bin/rustc")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f".as_ref()))
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        cargo
    }

    /// cargo clippy for aarch64 of the crates with code for it alone, where a warning is an error. What rustup calls so belongs
    /// to its own rustc.
    pub fn clippy(&self) -> Command {
        let mut cargo = self.cargo("check");
        cargo
            .args(["--quiet", "--package", "media", "--package", "vmm", "--package", "tests"])
            .args(["--lib", "--bins", "--tests"])
            .env("RUSTC_WORKSPACE_WRAPPER", "/usr/bin/clippy-driver")
            // As cargo-clippy passes arguments on to its driver.
            .env("CLIPPY_ARGS", "--deny__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__");
        cargo
    }

    /// minivmm for aarch64, see [`minivmm`].
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn minivmm(&self) -> io::Result<PathBuf> {
        programs::build_by(self.cargo("build"), "vmm", "minivmm")?;
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        Ok(self.target_dir.join(TARGET).join(profile).join("minivmm"))
    }
}
