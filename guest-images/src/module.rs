//! Builds a kernel module of the user for the kernel of an image.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Error, arch::Arch, builder, built, cpio, image::Kind, kernel::Kernel, recipe::sorted_files,
    versions::Versions,
};

/// Builds the module whose Kbuild file and sources are in `folder`, in that folder, for the kernel of the image `kind` for
/// `arch`. The image is built first if necessary. With `initramfs`, writes the image's initramfs with the built modules in
/// `/lib/modules` to that file. Returns the paths of the modules.
///
/// # Errors
/// If the image or the module cannot be built, or if a file cannot be read or written.
pub fn build(
    arch: &'static Arch,
    kind: Kind,
    folder: &Path,
    initramfs: Option<&Path>,
) -> Result<Vec<PathBuf>, Error> {
    let folder = fs::canonicalize(folder).map_err(Error::io("cannot find the folder", folder))?;
    if folder.to_string_lossy().contains([' ', ':']) {
        return Err(Error::ModulePath { path: folder.display().to_string() });
    }
    let image = builder::build(arch, kind)?;
    let lock = built::lock()?;
    let base = built::base();
    Kernel::new(arch, kind, &base, &Versions::new(&base, false))?.build_module(&lock, &folder)?;
    let modules = sorted_files(&folder, "ko")?;
    if modules.is_empty() {
        return Err(Error::NoModule { folder: folder.display().to_string() });
    }
    if let Some(path) = initramfs {
        let read = |path: &Path| fs::read(path).map_err(Error::io("cannot read", path));
        let mut added = cpio::Archive::default();
        for module in &modules {
            let name = module.file_name().unwrap_or_default().display();
            added.file(&format!("lib/modules/{name}"), 0o644, read(module)?);
        }
        let content = [read(&image.initramfs)?, added.pack()].concat();
        fs::write(path, content).map_err(Error::io("cannot write", path))?;
    }
    Ok(modules)
}
