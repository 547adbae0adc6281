//! The guest images as a library: what they consist of, where the cache is, how they are built.

use std::{io, path::Path};

mod arch;
mod builder;
mod built;
pub mod cache;
mod command;
pub mod cpio;
pub mod debian;
mod driver;
mod image;
mod initramfs;
mod kernel;
mod progress;
mod recipe;
mod release;
mod sources;

pub use arch::Arch;
pub use builder::{build, clean};
pub use built::{Image, current, list, remove};
pub use image::Kind;
pub use release::Release;

/// Why an image, or something that it needs, could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Packages are not installed, and we may not install them.
    #[error("these Debian packages are missing: {}; run: {}", packages.join(" "), install_line(packages))]
    Missing {
        /// Their names.
        packages: Vec<String>,
    },
    /// Packages are older than what is needed, and we may not install newer ones, or there are none.
    #[error(
        "version {least} or a newer one of these Debian packages is needed: {}; run: apt-get update && {}",
        packages.join(" "), install_line(packages)
    )]
    Old {
        /// Their names.
        packages: Vec<String>,
        /// The least version.
        least: String,
    },
    /// apt's lists have no such package.
    #[error(
        "apt knows no package {package} for {arch}; correct its name, or refresh its lists: apt-get update"
    )]
    Unknown {
        /// Its name.
        package: String,
        /// Debian's name for the architecture.
        arch: String,
    },
    /// A suite of Debian has no such package, by fresh lists.
    #[error(
        "Debian's suite {suite} has no package {package}; take a kernel that it has, or name its suite in release.rs"
    )]
    NotInSuite {
        /// Its name.
        package: String,
        /// The suite.
        suite: &'static str,
    },
    /// apt's lists named a file that cannot be downloaded. They are fresh now.
    #[error(
        "{file}.deb, as apt's lists had it, cannot be downloaded; they are fresh now, try again: {error}"
    )]
    Outdated {
        /// The file, without `.deb`.
        file: String,
        /// What apt says.
        error: Box<Error>,
    },
    /// A program could not be run, or failed.
    #[error("`{command}` {outcome}")]
    Command {
        /// The program with its arguments.
        command: String,
        /// What became of it.
        outcome: String,
    },
    /// The kernel's configuration is not what was asked for.
    #[error(
        "the kernel's configuration did not take {}; correct guest-images/kernel/*.config: name options that this \
         kernel has, and what they depend on",
        options.join(", ")
    )]
    Config {
        /// The lines that were not taken.
        options: Vec<String>,
    },
    /// A kernel of Debian's is not in the form that a machine boots.
    #[error("the kernel in {package} is no uncompressed arm64 Image, which is what machines boot")]
    NotAnImage {
        /// The package's file.
        package: String,
    },
    /// The initramfs lacks a program or a library.
    #[error("{needed_by} needs {file}, which is in none of the packages {packages}; add the one that has it")]
    NotInPackages {
        /// What is missing.
        file: String,
        /// What needs it.
        needed_by: String,
        /// The packages that were searched.
        packages: String,
    },
    /// The cache is where the kernel's makefiles cannot work.
    #[error(
        "the cache folder {path} has a space or a colon in its path; set MINIVMM_CACHE to one that has not"
    )]
    CachePath {
        /// Its path.
        path: String,
    },
    /// There is no image of this kind for this architecture.
    #[error("there is no image {image} for {arch}; there are: {}", names.join(", "))]
    NoSuchImage {
        /// What was asked for.
        image: String,
        /// For which architecture.
        arch: &'static str,
        /// What can be asked for.
        names: Vec<String>,
    },
    /// A release was asked for of a kernel that is not built here.
    #[error("the image {image} has Debian's own kernel, which has one release only; omit --kernel")]
    NotOurs {
        /// The image.
        image: String,
    },
    /// No image was built yet.
    #[error(
        "the guest image {image} for {arch} is not built; build it: minivmm image build {image} --arch {arch}"
    )]
    NotBuilt {
        /// Which one.
        image: String,
        /// For which architecture.
        arch: &'static str,
    },
    /// A file or folder could not be read or written.
    #[error("{action} {path}: {source}")]
    Io {
        /// What could not be done.
        action: &'static str,
        /// With which file or folder.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: the error of not being able to do `action` with `path`.
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { action, path, source }
    }
}

/// The Debian packages that building images for `arch` needs on this machine.
pub fn packages(arch: &Arch) -> Vec<&'static str> {
    arch.packages()
}

/// The one line that installs `packages`.
fn install_line(packages: &[String]) -> String {
    format!("sudo apt-get install --no-install-recommends {}", packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_ends_with_the_line_that_installs_it() {
        let error = Error::Missing { packages: vec!["flex".into(), "bison".into()] };
        assert_eq!(
            error.to_string(),
            "these Debian packages are missing: flex bison; \
             run: sudo apt-get install --no-install-recommends flex bison"
        );
    }
}
