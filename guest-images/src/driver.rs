//! Builds the camera's driver as a module of the guest's kernel.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, SOURCES, cache, cache::Lock, kernel, kernel::Kernel, recipe::Recipe};

/// The module's file name, here and in the initramfs.
pub(crate) const MODULE: &str = "minivmm-camera.ko";

/// A driver to be built.
pub(crate) struct Driver<'a> {
    kernel: &'a Kernel<'a>,
    sources: Vec<PathBuf>,
    /// Its name among drivers: changes with the kernel and the driver's source.
    pub(crate) name: String,
    /// The finished driver.
    pub(crate) folder: PathBuf,
}

impl<'a> Driver<'a> {
    /// The driver for `kernel` as the checkout wants it, below the folder `base`. Builds nothing yet.
    pub(crate) fn new(kernel: &'a Kernel<'a>, base: &Path) -> Result<Self, Error> {
        let ours = Path::new(SOURCES).join("driver");
        let mut sources = vec![ours.join("Kbuild")];
        sources.extend(kernel::sorted_files(&ours, "c")?);
        sources.extend(kernel::sorted_files(&ours, "h")?);
        let mut recipe = Recipe::new("driver").with(include_str!("driver.rs")).with(&kernel.name);
        for source in &sources {
            recipe = recipe.with_file(source)?;
        }
        let name = recipe.name();
        Ok(Self { kernel, sources, folder: base.join(format!("driver-{name}")), name })
    }

    /// Makes [`folder`](Self::folder) with [`MODULE`] in it, unless it is there.
    pub(crate) fn build(&self, lock: &Lock) -> Result<(), Error> {
        if self.folder.is_dir() {
            return Ok(());
        }
        // In a folder of its own: make leaves a dozen files beside the source.
        let work = self.folder.with_file_name("driver");
        cache::remove_tree(&work)?;
        fs::create_dir_all(&work).map_err(Error::io("cannot create the folder", &work))?;
        for source in &self.sources {
            let copy = work.join(source.file_name().unwrap_or_default());
            fs::copy(source, copy).map_err(Error::io("cannot copy", source))?;
        }
        self.kernel.build_module(lock, &work)?;
        cache::create_whole(&self.folder, |partial| {
            kernel::strip(self.kernel.arch, &work.join(MODULE), &partial.join(MODULE))
        })
    }
}
