//! Builds the camera's driver as a module for the guest's kernel, with the drivers of other devices that the kernel lacks.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    cache,
    cache::Lock,
    error::Error,
    kernel::{self, Kernel},
    recipe::{Recipe, sorted_files},
    sources,
};

/// The module's file name, here and in the guest.
const MODULE: &str = "minivmm-camera.ko";

/// The list of modules that the guest loads, one a line, in order.
const ORDER: &str = "order";

/// A driver to build.
pub(crate) struct Driver<'a> {
    kernel: &'a Kernel,
    sources: Vec<PathBuf>,
    /// Its unique name, which depends on the kernel and the driver's source.
    pub(crate) name: String,
    /// The folder of the built driver.
    pub(crate) folder: PathBuf,
}

impl<'a> Driver<'a> {
    /// The driver of the checkout for `kernel`, below the folder `base`. This builds nothing.
    pub(crate) fn new(kernel: &'a Kernel, base: &Path) -> Result<Self, Error> {
        let ours = sources::folder()?.join("driver");
        let mut sources = vec![ours.join("Kbuild")];
        sources.extend(sorted_files(&ours, "c")?);
        sources.extend(sorted_files(&ours, "h")?);
        let mut recipe = Recipe::new("driver").with(include_str!("driver.rs")).with(&kernel.name);
        for source in &sources {
            recipe = recipe.with_file(source)?;
        }
        let name = recipe.name();
        Ok(Self { kernel, sources, folder: base.join(format!("driver-{name}")), name })
    }

    /// The modules of the kernel and depmod's lists: their paths in the initramfs, and on this machine.
    pub(crate) fn kernel_modules(&self) -> Result<Vec<(String, PathBuf)>, Error> {
        let root = &self.kernel.folder;
        let mut folders = vec![root.join("lib")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop().filter(|folder| folder.is_dir()) {
            let unreadable = || Error::io("cannot read the folder", &folder);
            for entry in fs::read_dir(&folder).map_err(unreadable())? {
                let path = entry.map_err(unreadable())?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                    files.push((name, path));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Creates [`folder`](Self::folder) if it does not exist: the driver's module, the modules that it needs,
    /// and the list of all.
    pub(crate) fn build(&self, lock: &Lock) -> Result<(), Error> {
        if self.folder.is_dir() {
            return Ok(());
        }
        // The build has a folder of its own, because make leaves many files beside the source.
        let work = self.folder.with_file_name("driver");
        cache::remove_tree(&work)?;
        fs::create_dir_all(&work).map_err(Error::io("cannot create the folder", &work))?;
        for source in &self.sources {
            let copy = work.join(source.file_name().unwrap_or_default());
            fs::copy(source, copy).map_err(Error::io("cannot copy", source))?;
        }
        self.kernel.add_upstream_drivers(&work)?;
        self.kernel.build_module(lock, &work)?;
        cache::create_whole(&self.folder, |partial| {
            // This includes the modules for tests, which the guest does not load at boot.
            for module in sorted_files(&work, "ko")? {
                let stripped = partial.join(module.file_name().unwrap_or_default());
                kernel::strip(self.kernel.arch, &module, &stripped)?;
            }
            let mut order = String::new();
            for module in self.kernel.modules(&partial.join(MODULE), &work)? {
                let name = module.file_name().unwrap_or_default();
                order += &format!("{}\n", name.display());
                let copy = partial.join(name);
                if copy != module {
                    fs::copy(&module, copy).map_err(Error::io("cannot copy", &module))?;
                }
            }
            let list = partial.join(ORDER);
            fs::write(&list, order).map_err(Error::io("cannot write", &list))
        })
    }
}
