//! The command that makes a kernel or a module, with a fixed environment, and the one that takes debug information away.

use std::{ffi::OsString, path::Path, process::Command};

use crate::{arch::Arch, command, error::Error};

/// The environment of make, with fixed names and times, so that builds are reproducible.
pub(super) const ENVIRONMENT: [(&str, &str); 5] = [
    ("KBUILD_BUILD_HOST", "minivmm"),
    ("KBUILD_BUILD_TIMESTAMP", "1970-01-01"),
    ("KBUILD_BUILD_USER", "minivmm"),
    ("KBUILD_BUILD_VERSION", "1"),
    ("LC_ALL", "C"),
];

/// The make command for a kernel, without variables of the environment that would affect it.
pub(super) fn make(arch: &Arch, source: &Path, objects: &Path) -> Command {
    let mut make = Command::new("make");
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "LLVM", "KCFLAGS", "INSTALL_MOD_PATH"] {
        make.env_remove(name);
    }
    let mut output = OsString::from("O=");
    output.push(objects);
    make.envs(ENVIRONMENT)
        .current_dir(source)
        .arg(format!("ARCH={}", arch.kernel_arch))
        .arg(format!("CROSS_COMPILE={}", arch.prefix()))
        .arg(output);
    make
}

/// Copies an ELF file for `arch` without debug information.
pub(crate) fn strip(arch: &Arch, from: &Path, to: &Path) -> Result<(), Error> {
    let mut objcopy = Command::new(format!("{}objcopy", arch.prefix()));
    command::output(objcopy.arg("--strip-debug").args([from, to])).map(drop)
}
