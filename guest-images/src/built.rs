//! A built guest image: its files, and where the cache has it.

use std::{fs, path::PathBuf};

use crate::{arch::Arch, cache::cache_dir, image::Kind};

/// A guest image: what a machine boots.
#[derive(Debug, Clone)]
pub struct Image {
    /// The folder with all of it: beside the kernel and the initramfs, the kernel's configuration `config`, the sizes
    /// of its pages and pageblocks in bytes `image.json`, and other forms of the same kernel.
    pub dir: PathBuf,
    /// The kernel, as minivmm boots it: `vmlinux` on x86_64, `Image` on aarch64.
    pub kernel: PathBuf,
    /// The initramfs, a cpio archive.
    pub initramfs: PathBuf,
}

impl Image {
    pub(crate) fn in_folder(arch: &Arch, dir: PathBuf) -> Self {
        Self { kernel: dir.join(arch.kernel), initramfs: dir.join("initramfs"), dir }
    }
}

/// The link to the image that was built last, where the VMM looks for it.
pub(crate) fn link(arch: &Arch, kind: Kind) -> PathBuf {
    cache_dir().join("guest").join(arch.name).join(kind.name())
}

/// The image of this kind that was built last, if there is one.
pub fn current(arch: &Arch, kind: Kind) -> Option<Image> {
    fs::canonicalize(link(arch, kind)).ok().map(|dir| Image::in_folder(arch, dir))
}
