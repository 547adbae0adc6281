//! The device trees of boards that come with Debian's kernels.

use std::path::PathBuf;

use crate::{debian::Archive, error::Error, release::Release};

/// The folder with the device trees of Debian's current kernel of `release` for `arch`, in Debian's naming: arm64, armhf or riscv64. The
/// package is downloaded if necessary.
///
/// # Errors
/// If the package is missing or cannot be downloaded.
pub fn device_trees(release: Release, arch: &str) -> Result<PathBuf, Error> {
    let archive = release.suite().map_or_else(|| Archive::of(arch), |suite| Archive::of_suite(arch, suite));
    let flavour = if arch == "armhf" { "armmp" } else { arch };
    let image = archive.dependency(&format!("linux-image-{flavour}"), "linux-image-")?;
    let package = match release {
        Release::V6_1 | Release::V6_12 => image.clone(),
        Release::V7_2 => image.replace("linux-image-", "linux-base-"),
    };
    let version = image.trim_start_matches("linux-image-");
    let places = [format!("usr/lib/{image}"), format!("usr/lib/modules/{version}/dtb")];
    let root = archive.unpacked(&package)?;
    let folder = places.into_iter().map(|place| root.join(place)).find(|folder| folder.is_dir());
    folder.ok_or_else(|| Error::Unknown {
        package: format!("{package} with device trees"),
        arch: arch.to_owned(),
    })
}
