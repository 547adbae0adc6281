//! A built guest image: its files, and its place in the cache.

use std::{fs, path::PathBuf};

use crate::{
    arch::Arch,
    cache::{self, Lock, cache_dir},
    error::Error,
    image::Kind,
    progress::say,
};

/// A guest image: what a machine boots.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its folder. In addition to the kernel and the initramfs it contains the kernel's configuration (`config`), the sizes
    /// of its pages and pageblocks in bytes (`image.json`), other forms of the kernel and, for our own kernels, the debug
    /// information: `vmlinux.debug` for gdb, `vmlinux.debug-gdb.py` with the kernel's commands for gdb (`lx-dmesg`), and
    /// `vmlinux.btf` with the types.
    pub dir: PathBuf,
    /// The kernel that minivmm boots: `vmlinux` on x86_64, `Image` on aarch64.
    pub kernel: PathBuf,
    /// The initramfs, a cpio archive.
    pub initramfs: PathBuf,
}

impl Image {
    pub(crate) fn in_folder(arch: &Arch, dir: PathBuf) -> Self {
        Self { kernel: dir.join(arch.kernel), initramfs: dir.join("initramfs"), dir }
    }
}

/// The link to the image that was built last. The VMM uses the same path.
pub(crate) fn link(arch: &Arch, kind: Kind) -> Result<PathBuf, Error> {
    Ok(base()?.join(arch.name).join(kind.name()))
}

/// The image of this kind that was built last, if there is one.
pub fn current(arch: &Arch, kind: Kind) -> Option<Image> {
    fs::canonicalize(link(arch, kind).ok()?).ok().map(|dir| Image::in_folder(arch, dir))
}

/// All built images, with their architecture and kind.
///
/// # Errors
/// If there is no cache folder to look into.
pub fn list() -> Result<Vec<(&'static Arch, Kind, Image)>, Error> {
    base()?;
    let of =
        |arch: &'static Arch| Kind::all().filter_map(move |kind| Some((arch, kind, current(arch, kind)?)));
    Ok(Arch::ALL.into_iter().flat_map(of).collect())
}

impl Image {
    /// The size of its files in bytes.
    pub fn bytes(&self) -> u64 {
        let files = fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok);
        files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
    }
}

/// Removes the image of this kind. Its kernel and driver stay for the next build, until [`clean`](crate::clean) removes them.
///
/// # Errors
/// If the image is not built, or cannot be removed.
pub fn remove(arch: &'static Arch, kind: Kind) -> Result<(), Error> {
    let _lock = lock()?;
    let Some(image) = current(arch, kind) else {
        return Err(Error::NotBuilt { image: kind.name(), arch: arch.name });
    };
    let link = link(arch, kind)?;
    fs::remove_file(&link).map_err(Error::io("cannot remove the link", &link))?;
    // Another kind can have the same image.
    if list()?.iter().any(|(.., other)| other.dir == image.dir) {
        Ok(())
    } else {
        cache::remove_tree(&image.dir)
    }
}

/// The folder in the cache with all images and their sources.
pub(crate) fn base() -> Result<PathBuf, Error> {
    Ok(cache_dir()?.join("guest"))
}

/// Waits until no other process builds or removes images.
pub(crate) fn lock() -> Result<Lock, Error> {
    Lock::take(&base()?.join("lock"), || {
        say("image: waiting for another process that builds images");
    })
}
