//! Why an image, or a part of it, could not be built.

use std::{io, path::Path};

/// Why an image, or a part of it, could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Packages are not installed, and this process may not install them.
    #[error("these Debian packages are missing: {}; run: {}", packages.join(" "), install_line(packages))]
    Missing {
        /// Their names.
        packages: Vec<String>,
    },
    /// Packages are too old, and newer ones do not exist or this process may not install them.
    #[error(
        "these Debian packages must have version {least} or newer: {}; run: apt-get update && {}",
        packages.join(" "), install_line(packages)
    )]
    Old {
        /// Their names.
        packages: Vec<String>,
        /// The least version.
        least: String,
    },
    /// apt's lists have no such package.
    #[error("apt knows no package {package} for {arch}; correct its name, or run: apt-get update")]
    Unknown {
        /// Its name.
        package: String,
        /// Debian's name for the architecture.
        arch: String,
    },
    /// A suite of Debian has no such package, by new lists.
    #[error(
        "Debian's suite {suite} has no package {package}; choose another release, or correct the suite in release.rs"
    )]
    NotInSuite {
        /// Its name.
        package: String,
        /// The suite.
        suite: &'static str,
    },
    /// apt's lists named a file that cannot be downloaded. New lists were fetched.
    #[error(
        "apt's lists were old, and {file}.deb cannot be downloaded; the lists are new now, try again: {error}"
    )]
    Outdated {
        /// The file, without `.deb`.
        file: String,
        /// The error of apt.
        error: Box<Error>,
    },
    /// A userland is built as root.
    #[error(
        "building a userland needs root or passwordless sudo, for mmdebstrap; run it as root, or give `--root` a tree of your own"
    )]
    NotRoot,
    /// A program could not be run, or failed.
    #[error("`{command}` {outcome}")]
    Command {
        /// The program with its arguments.
        command: String,
        /// How it ended.
        outcome: String,
    },
    /// The kernel's configuration lacks requested options.
    #[error(
        "the kernel's configuration does not accept {}; in guest-images/kernel/*.config, use options of this kernel and \
         set their dependencies",
        options.join(", ")
    )]
    Config {
        /// The lines that are missing.
        options: Vec<String>,
    },
    /// A kernel of the user's has no configuration.
    #[error("{folder} has no .config; configure the kernel first, for example: make -C {folder} defconfig")]
    NoConfig {
        /// The folder of the source or of the objects.
        folder: String,
    },
    /// A Debian kernel is not in the form that a machine boots.
    #[error("the kernel in {package} is not an uncompressed arm64 Image, which a machine needs")]
    NotAnImage {
        /// The package's file.
        package: String,
    },
    /// The initramfs lacks a program or a library.
    #[error(
        "{needed_by} needs {file}, which the packages {packages} do not contain; add its package in initramfs.rs"
    )]
    NotInPackages {
        /// What is missing.
        file: String,
        /// What needs it.
        needed_by: String,
        /// The packages that were searched.
        packages: String,
    },
    /// There is no place for the cache folder.
    #[error(
        "there is no home folder for the cache of guest images; set HOME, XDG_CACHE_HOME or MINIVMM_CACHE to an absolute path"
    )]
    NoHome,
    /// Another user can put kernels and programs into the cache folder.
    #[error("the cache folder {path} {reason}; set MINIVMM_CACHE to a folder that only you can write")]
    CacheOfOthers {
        /// Its path.
        path: String,
        /// Why others can.
        reason: String,
    },
    /// The kernel's makefiles cannot work in the path of the cache.
    #[error(
        "the cache folder {path} has a space or a colon in its path; set MINIVMM_CACHE to a path without"
    )]
    CachePath {
        /// Its path.
        path: String,
    },
    /// The kernel's makefiles cannot work in a module's folder.
    #[error("the folder {path} has a space or a colon in its path; choose a folder without")]
    ModulePath {
        /// Its path.
        path: String,
    },
    /// A folder has no module after its build.
    #[error("the build made no module in {folder}; its Kbuild file needs a line such as: obj-m := NAME.o")]
    NoModule {
        /// The folder.
        folder: String,
    },
    /// There is no image of this kind for this architecture.
    #[error("{arch} has no image {image}; its images are {}", names.join(", "))]
    NoSuchImage {
        /// The requested image.
        image: String,
        /// The architecture.
        arch: &'static str,
        /// The images of the architecture.
        names: Vec<String>,
    },
    /// The image was not built yet.
    #[error(
        "the guest image {image} for {arch} is not built; build it: minivmm image build {image} --arch {arch}"
    )]
    NotBuilt {
        /// The image.
        image: String,
        /// The architecture.
        arch: &'static str,
    },
    /// A file or folder could not be read or written.
    #[error("{action} {path}: {source}")]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or folder.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: the error of not being able to do `action` with `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { action, path, source }
    }
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
