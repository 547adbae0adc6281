//! Puts an image together: the kernel, the driver for it, and the initramfs, each built only if it changed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{
    Error,
    arch::{Arch, X86_64},
    cache::{self, Lock, cache_dir},
    debian,
    driver::Driver,
    initramfs::Initramfs,
    kernel::{self, Kernel},
    recipe::Recipe,
};

/// A guest image: what a machine boots.
#[derive(Debug, Clone)]
pub struct Image {
    /// The folder with all of it.
    pub dir: PathBuf,
    /// The kernel as an ELF file.
    pub vmlinux: PathBuf,
    /// The same kernel, compressed, with the x86 boot header.
    pub bzimage: PathBuf,
    /// The initramfs, a cpio archive.
    pub initramfs: PathBuf,
}

impl Image {
    fn in_folder(dir: PathBuf) -> Self {
        Self {
            vmlinux: dir.join("vmlinux"),
            bzimage: dir.join("bzImage"),
            initramfs: dir.join("initramfs"),
            dir,
        }
    }
}

/// The link to the image that was built last for `arch`, where the VMM looks for it.
fn current_link(arch: &Arch) -> PathBuf {
    cache_dir().join("guest").join(arch.name).join("current")
}

/// The image that was built last, if there is one.
pub fn current() -> Option<Image> {
    fs::canonicalize(current_link(&X86_64)).ok().map(Image::in_folder)
}

/// Builds the image that this checkout describes, as far as it is not there already, makes it the current one, and
/// shows on stderr how far it is. Interrupted, it goes on the next time; another process that builds meanwhile is
/// waited for.
///
/// # Errors
/// If a Debian package that is needed is missing and we may not install it, or if a step fails.
pub fn build() -> Result<Image, Error> {
    let arch = &X86_64;
    let base = cache_dir().join("guest");
    // The kernel's makefiles do not work in such a folder.
    if base.to_string_lossy().contains([' ', ':']) {
        return Err(Error::CachePath { path: base.display().to_string() });
    }
    let lock = Lock::take(&base.join("lock"), || {
        eprintln!("guest-images: waiting for another process that builds them");
    })?;

    let own = base.join(arch.name);
    fs::create_dir_all(&own).map_err(Error::io("cannot create the folder", &own))?;
    // First, as it may fetch fresh lists of what there is.
    debian::install(arch.tools)?;
    let packages = [&[kernel::PACKAGE], arch.guest_packages].concat();
    let mut files = debian::candidates(&packages)?;
    let kernel = Kernel::new(arch, &base, files.remove(0))?;
    let driver = Driver::new(&kernel, &own)?;
    let initramfs = Initramfs::new(arch, &driver, files)?;
    let name = Recipe::new("image").with(&kernel.name).with(&initramfs.name).name();
    let folder = own.join(name);
    if !folder.is_dir() {
        kernel.build(&lock)?;
        driver.build(&lock)?;
        cache::create_whole(&folder, |partial| {
            let work = partial.join("work");
            fs::create_dir(&work).map_err(Error::io("cannot create the folder", &work))?;
            initramfs.build(&kernel, &partial.join("initramfs"), &work)?;
            cache::remove_tree(&work)?;
            for file in ["vmlinux", arch.boot_image.0, "config"] {
                let from = kernel.folder.join(file);
                fs::hard_link(&from, partial.join(file)).map_err(Error::io("cannot link", &from))?;
            }
            Ok(())
        })?;
    }
    point(&current_link(arch), &folder)?;
    Ok(Image::in_folder(folder))
}

/// Makes `link` a link to its sibling `folder`, with no moment in which there is none.
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

/// Removes from the cache what only serves to build images faster the next time, and all images but the current
/// one.
///
/// # Errors
/// If something cannot be removed.
pub fn clean() -> Result<(), Error> {
    let base = cache_dir().join("guest");
    let _lock = Lock::take(&base.join("lock"), || {
        eprintln!("guest-images: waiting for another process that builds them");
    })?;
    cache::remove_tree(&base.join("source"))?;
    let own = base.join(X86_64.name);
    let keep = fs::canonicalize(current_link(&X86_64)).ok();
    let Ok(entries) = fs::read_dir(&own) else { return Ok(()) };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && fs::canonicalize(&path).ok() != keep {
            cache::remove_tree(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_follows_the_newest_image() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("current");
        for name in ["one", "two", "two"] {
            let folder = dir.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            point(&link, &folder).unwrap();
            assert_eq!(fs::canonicalize(&link).unwrap(), fs::canonicalize(&folder).unwrap());
        }
    }
}
