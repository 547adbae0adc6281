//! Builds an image: the kernel, the driver and the initramfs. It rebuilds a part only if its inputs changed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    arch::Arch,
    built::{self, Image, link},
    cache::{self, Lock},
    command, debian,
    driver::Driver,
    error::Error,
    image::Kind,
    initramfs::Initramfs,
    kernel::{self, Kernel},
    progress::say,
    recipe::Recipe,
    release::Release,
    sources,
    versions::Versions,
};

/// Builds the missing parts of the image `kind` for `arch` that this program describes, and makes it the current image of its
/// kind. It shows its progress on stderr. After an interruption, the next call continues. If another process builds, it waits
/// for that process. The kernel has the version that was recorded when the first image was built.
///
/// # Errors
/// If the image does not exist, if a required Debian package is missing and this process may not install it, or if a step
/// fails.
pub fn build(arch: &'static Arch, kind: Kind) -> Result<Image, Error> {
    build_version(arch, kind, false)
}

/// As [`build`], with the newest kernel that Debian has, which is recorded for later builds. What was built of an older one stays
/// beside it.
///
/// # Errors
/// As [`build`].
pub fn update(arch: &'static Arch, kind: Kind) -> Result<Image, Error> {
    build_version(arch, kind, true)
}

fn build_version(arch: &'static Arch, kind: Kind, newest: bool) -> Result<Image, Error> {
    if !arch.kinds.contains(&kind) {
        let names = arch.kinds.iter().copied().map(Kind::name).collect();
        return Err(Error::NoSuchImage { image: kind.name(), arch: arch.name, names });
    }
    let base = built::base()?;
    // The kernel's makefiles do not work with such a path.
    if base.to_string_lossy().contains([' ', ':']) {
        return Err(Error::CachePath { path: base.display().to_string() });
    }
    let lock = built::lock()?;

    let versions = Versions::new(&base, newest);
    let folder = make(arch, kind, &base, &versions, &lock).or_else(|error| match error {
        Error::Outdated { file, .. } if versions.has(&file) => {
            say(format_args!("image: Debian's archive does not have {file}.deb any more"));
            make(arch, kind, &base, &Versions::new(&base, true), &lock)
        }
        // The new lists give another image.
        Error::Outdated { .. } => make(arch, kind, &base, &versions, &lock),
        error => Err(error),
    })?;
    point(&link(arch, kind)?, &folder)?;
    Ok(Image::in_folder(arch, folder))
}

/// Builds the missing parts of the image below the folder `base`, and returns its folder.
fn make(
    arch: &'static Arch,
    kind: Kind,
    base: &Path,
    versions: &Versions,
    lock: &Lock,
) -> Result<PathBuf, Error> {
    let own = base.join(arch.name);
    fs::create_dir_all(&own).map_err(Error::io("cannot create the folder", &own))?;
    // This comes first, because it can fetch new package lists.
    debian::install(&arch.packages())?;
    let kernel = Kernel::new(arch, kind, base, versions)?;
    let driver = Driver::new(&kernel, &own)?;
    let initramfs = Initramfs::new(arch, &driver)?;
    let name = Recipe::new("image").with(&kernel.name).with(&initramfs.name).name();
    let folder = own.join(name);
    if !folder.is_dir() {
        kernel.build(lock)?;
        driver.build(lock)?;
        cache::create_whole(&folder, |partial| {
            initramfs.build(&partial.join("initramfs"))?;
            let mut copy = Command::new("cp");
            copy.args(["--recursive", "--link", "--no-target-directory"]).arg(&kernel.folder).arg(partial);
            command::output(&mut copy)?;
            // The initramfs contains the modules.
            cache::remove_tree(&partial.join("lib"))
        })?;
    }
    Ok(folder)
}

/// Replaces `link` atomically by a link to its sibling `folder`.
fn point(link: &Path, folder: &Path) -> Result<(), Error> {
    let target = folder.file_name().unwrap_or_default();
    if fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let fresh = link.with_extension("partial");
    let _ = fs::remove_file(&fresh);
    symlink(target, &fresh).map_err(Error::io("cannot create the link", &fresh))?;
    fs::rename(&fresh, link).map_err(Error::io("cannot replace the link", link))
}

/// Removes all images from the cache except for the current ones, and the files that only make later builds faster.
///
/// # Errors
/// If something cannot be removed.
pub fn clean() -> Result<(), Error> {
    let base = built::base()?;
    let _lock = built::lock()?;
    for release in Release::ALL {
        cache::remove_tree(&kernel::sources(&base, release))?;
    }
    cache::remove_tree(&sources::copies()?)?;
    for arch in Arch::ALL {
        let keep: Vec<PathBuf> =
            Kind::all().filter_map(|kind| fs::canonicalize(link(arch, kind).ok()?).ok()).collect();
        let Ok(entries) = fs::read_dir(base.join(arch.name)) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && fs::canonicalize(&path).is_ok_and(|path| !keep.contains(&path)) {
                cache::remove_tree(&path)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_an_unknown_image_lists_the_images() {
        let error = build(Arch::X86_64, Kind::Debian).unwrap_err().to_string();
        assert_eq!(error, "x86_64 has no image debian; its images are default, 6.12, 7.2, debug");
    }

    #[test]
    fn the_link_follows_the_newest_image() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("default");
        for name in ["one", "two", "two"] {
            let folder = dir.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            point(&link, &folder).unwrap();
            assert_eq!(fs::canonicalize(&link).unwrap(), fs::canonicalize(&folder).unwrap());
        }
    }
}
