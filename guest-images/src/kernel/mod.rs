//! The guest's kernel, ours or Debian's, and its modules.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    arch::Arch,
    cache::{self, Lock},
    command,
    error::Error,
    image::Kind,
    progress::Step,
    recipe::Recipe,
    versions::Versions,
};

mod config;
mod debian;
mod make;
mod ours;

pub(crate) use make::strip;
use make::{ENVIRONMENT, make};
pub(crate) use ours::sources;

/// A kernel to build.
pub(crate) struct Kernel {
    pub(crate) arch: &'static Arch,
    /// Its unique name, which depends on all its inputs, including the compiler.
    pub(crate) name: String,
    /// The folder of the built kernel: its files, its configuration, and its page sizes.
    pub(crate) folder: PathBuf,
    origin: Origin,
}

enum Origin {
    Ours(ours::Source),
    Debian(debian::Packages),
}

impl Kernel {
    /// The kernel of the checkout for `arch`, of the recorded version, below the folder `base`. This builds nothing.
    pub(crate) fn new(
        arch: &'static Arch,
        kind: Kind,
        base: &Path,
        versions: &Versions,
    ) -> Result<Self, Error> {
        let own = base.join(arch.name);
        let compiler = command::output(Command::new(format!("{}gcc", arch.prefix())).arg("--version"))?;
        let mut recipe = Recipe::new("kernel")
            .with(include_str!("mod.rs"))
            .with(include_str!("config.rs"))
            .with(include_str!("make.rs"))
            .with(arch.name)
            .with(compiler);
        for (variable, value) in ENVIRONMENT {
            recipe = recipe.with(variable).with(value);
        }
        let (recipe, origin) = match kind {
            Kind::Debian => {
                let packages = debian::Packages::new(arch, &own, versions)?;
                (packages.add_to(recipe), Origin::Debian(packages))
            }
            Kind::Default(release) | Kind::Large(release) | Kind::Debug(release) => {
                let source = ours::Source::new(arch, kind, release, base, versions)?;
                (source.add_to(recipe), Origin::Ours(source))
            }
        };
        let name = recipe.name();
        Ok(Self { arch, folder: own.join(format!("kernel-{name}")), name, origin })
    }

    /// Creates [`folder`](Self::folder) if it does not exist.
    pub(crate) fn build(&self, lock: &Lock) -> Result<(), Error> {
        if self.folder.is_dir() {
            return Ok(());
        }
        cache::create_whole(&self.folder, |partial| {
            match &self.origin {
                Origin::Ours(source) => source.build(&self.name, lock, partial)?,
                Origin::Debian(packages) => packages.build(partial)?,
            }
            let config = partial.join("config");
            let config = fs::read_to_string(&config).map_err(Error::io("cannot read", &config))?;
            let sizes = partial.join("image.json");
            fs::write(&sizes, config::sizes(&config)).map_err(Error::io("cannot write", &sizes))
        })
    }

    /// Builds the module whose source and Kbuild file are in `folder`, in that folder.
    pub(crate) fn build_module(&self, lock: &Lock, folder: &Path) -> Result<(), Error> {
        let (source, objects) = match &self.origin {
            Origin::Ours(source) => source.compile(&self.name, lock)?,
            Origin::Debian(packages) => packages.headers()?,
        };
        let mut module = OsString::from("M=");
        module.push(folder);
        let step = Step::begin("driver", 0);
        let mut make = make(self.arch, &source, &objects);
        make.arg(module).arg("modules");
        command::follow(&mut make, lock.share()?, &folder.with_extension("log"), |line| step.advance(line))?;
        step.done();
        Ok(())
    }

    /// Adds the drivers of upstream devices that the kernel lacks to the sources of a module in `folder`.
    pub(crate) fn add_upstream_drivers(&self, folder: &Path) -> Result<(), Error> {
        match &self.origin {
            Origin::Ours(_) => Ok(()),
            Origin::Debian(packages) => packages.add_sensors(folder),
        }
    }

    /// The modules that the guest loads, in order, including `driver`. `work` is a folder for intermediate files.
    pub(crate) fn modules(&self, driver: &Path, work: &Path) -> Result<Vec<PathBuf>, Error> {
        match &self.origin {
            // The other modules are built into the kernel.
            Origin::Ours(_) => Ok(vec![driver.to_owned()]),
            Origin::Debian(packages) => packages.modules(driver, work),
        }
    }
}
