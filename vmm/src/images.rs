//! Where the default guest image is: in the user's cache folder, where the builder of guest-images leaves it.

use std::{env, path::PathBuf};

use crate::arch;

/// A kernel and an initramfs that belong together.
#[derive(Debug, Clone)]
pub struct Image {
    /// The kernel.
    pub kernel: PathBuf,
    /// Initramfs.
    pub initrd: PathBuf,
}

/// The folder that the builder's link `default` stands in: below `$MINIVMM_CACHE`, else `$XDG_CACHE_HOME/minivmm`, else
/// `~/.cache/minivmm`. Relative paths in the variables do not count (XDG Base Directory Specification).
fn folder() -> PathBuf {
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = set("MINIVMM_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("minivmm")))
        .unwrap_or_else(|| env::home_dir().unwrap_or_else(env::temp_dir).join(".cache/minivmm"));
    cache.join("guest").join(arch::NAME).join("default")
}

/// The default image, or where it would be if it were built.
///
/// # Errors
/// The folder, if there is no image in it.
pub fn default_image() -> Result<Image, PathBuf> {
    let folder = folder();
    let image = Image { kernel: folder.join(arch::KERNEL_FILE), initrd: folder.join("initramfs") };
    if image.kernel.exists() && image.initrd.exists() { Ok(image) } else { Err(folder) }
}
