//! Builds a kernel module of the user for the kernel of an image.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    arch::Arch, builder, built, error::Error, image::Kind, kernel::Kernel, recipe::sorted_files,
    versions::Versions,
};

/// Builds the module whose Kbuild file and sources are in `folder`, in that folder, for the kernel of the image `kind` for
/// `arch`. The image is built first if necessary. Returns the paths of the modules.
///
/// # Errors
/// If the image or the module cannot be built.
pub fn build(arch: &'static Arch, kind: Kind, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let folder = fs::canonicalize(folder).map_err(Error::io("cannot find the folder", folder))?;
    if folder.to_string_lossy().contains([' ', ':']) {
        return Err(Error::ModulePath { path: folder.display().to_string() });
    }
    builder::build(arch, kind)?;
    let lock = built::lock()?;
    let base = built::base()?;
    Kernel::new(arch, kind, &base, &Versions::new(&base, false))?.build_module(&lock, &folder)?;
    let modules = sorted_files(&folder, "ko")?;
    if modules.is_empty() {
        return Err(Error::NoModule { folder: folder.display().to_string() });
    }
    Ok(modules)
}
