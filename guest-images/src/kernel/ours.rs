//! Builds the guest's kernel from Debian's source package, our patches and our configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use super::{config::refused_options, make, strip};
use crate::{
    Error, SOURCES,
    arch::Arch,
    cache::{self, Lock},
    command,
    debian::Archive,
    image::Kind,
    progress::Step,
    recipe::{Recipe, sorted_files},
};

/// The Debian package with the kernel's source.
const PACKAGE: &str = "linux-source-6.1";
/// The archive in it.
const ARCHIVE: &str = "usr/src/linux-source-6.1.tar.xz";

/// How much tar and make say when nothing was there before: the length of their progress bars.
const FILES_IN_ARCHIVE: u64 = 83_000;
const LINES_OF_MAKE: u64 = 1_300;

/// What a kernel of ours is built from, and where.
pub(super) struct Source {
    arch: &'static Arch,
    archive: Archive,
    /// The source package's file name.
    package: String,
    patches: Vec<PathBuf>,
    /// The configuration that is asked for: all fragments.
    fragment: String,
    /// The patched source.
    source: PathBuf,
    /// What make makes; kept, so that the next build is a short one.
    objects: PathBuf,
    log: PathBuf,
}

impl Source {
    /// The kernel `kind` for `arch` as the checkout wants it, below the folder `base`.
    pub(super) fn new(arch: &'static Arch, kind: Kind, base: &Path) -> Result<Self, Error> {
        let archive = Archive::of(Arch::host().debian);
        let package = archive.candidates(&[PACKAGE])?.remove(0);
        let ours = Path::new(SOURCES).join("kernel");
        let patches = sorted_files(&ours.join("patches"), "patch")?;
        let mut recipe = Recipe::new("source").with(&package);
        for patch in &patches {
            recipe = recipe.with_file(patch)?;
        }
        let mut fragment = String::new();
        for file in arch.fragments.iter().chain((kind == Kind::Large).then_some(&"64k.config")) {
            let path = ours.join(file);
            fragment += &fs::read_to_string(&path).map_err(Error::io("cannot read", &path))?;
        }
        let own = base.join(arch.name);
        Ok(Self {
            arch,
            archive,
            package,
            patches,
            fragment,
            source: base.join("source").join(format!("linux-{}", recipe.name())),
            objects: own.join(format!("objects-{}", kind.name())),
            log: own.join("kernel.log"),
        })
    }

    /// Adds the source, the patches, the configuration and how the kernel is built.
    pub(super) fn add_to(&self, recipe: Recipe) -> Recipe {
        let source = self.source.file_name().unwrap_or_default();
        recipe.with(include_str!("ours.rs")).with(source.as_encoded_bytes()).with(&self.fragment)
    }

    /// Puts the kernel called `name` into `folder`: `vmlinux`, the boot image and the configuration.
    pub(super) fn build(&self, name: &str, lock: &Lock, folder: &Path) -> Result<(), Error> {
        self.compile(name, lock)?;
        strip(self.arch, &self.objects.join("vmlinux"), &folder.join("vmlinux"))?;
        let (boot_image, path) = self.arch.boot_image;
        for (from, to) in [(path, boot_image), (".config", "config")] {
            let from = self.objects.join(from);
            fs::copy(&from, folder.join(to)).map_err(Error::io("cannot copy", &from))?;
        }
        Ok(())
    }

    /// Brings the object folder to the state of the kernel called `name`, from whatever state it is in. Returns the
    /// folders of the source and of the objects.
    pub(super) fn compile(&self, name: &str, lock: &Lock) -> Result<(PathBuf, PathBuf), Error> {
        let stamp = self.objects.join("minivmm-kernel");
        if !(fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == name) && self.source.is_dir()) {
            self.unpack_source(lock)?;
            fs::create_dir_all(&self.objects)
                .map_err(Error::io("cannot create the folder", &self.objects))?;
            let _ = fs::remove_file(&stamp);
            self.configure()?;
            let step = Step::begin("kernel", LINES_OF_MAKE);
            let jobs = thread::available_parallelism().map_or(1, usize::from);
            let mut make = self.make();
            make.arg(format!("-j{jobs}")).args(["vmlinux", self.arch.boot_image.0, "modules"]);
            command::follow(&mut make, lock.share()?, &self.log, |line| step.advance(line))?;
            fs::write(&stamp, name).map_err(Error::io("cannot write", &stamp))?;
            step.done();
        }
        Ok((self.source.clone(), self.objects.clone()))
    }

    fn unpack_source(&self, lock: &Lock) -> Result<(), Error> {
        if self.source.is_dir() {
            return Ok(());
        }
        let step = Step::begin("download source", 0);
        step.advance(&self.package);
        let archive = self.archive.unpack(&self.package)?.join(ARCHIVE);
        step.done();
        // Older sources are of no more use, and large.
        if let Some(sources) = self.source.parent() {
            cache::remove_tree(sources)?;
        }
        let step = Step::begin("unpack source", FILES_IN_ARCHIVE);
        cache::create_whole(&self.source, |partial| {
            let mut tar = Command::new("tar");
            tar.args(["--extract", "--verbose", "--strip-components=1", "--file"]).arg(&archive);
            tar.arg("--directory").arg(partial);
            command::follow(&mut tar, lock.share()?, &self.log, |line| step.advance(line))?;
            for patch in &self.patches {
                let mut apply = Command::new("patch");
                apply
                    .args(["--strip=1", "--forward", "--batch", "--input"])
                    .arg(patch)
                    .arg("--directory")
                    .arg(partial);
                command::output(&mut apply)?;
            }
            Ok(())
        })?;
        step.done();
        Ok(())
    }

    fn configure(&self) -> Result<(), Error> {
        let wanted = self.objects.join("minivmm.config");
        fs::write(&wanted, &self.fragment).map_err(Error::io("cannot write", &wanted))?;
        command::output(self.make().env("KCONFIG_ALLCONFIG", &wanted).arg("allnoconfig"))?;
        let path = self.objects.join(".config");
        let config = fs::read_to_string(&path).map_err(Error::io("cannot read", &path))?;
        let refused = refused_options(&self.fragment, &config);
        if refused.is_empty() { Ok(()) } else { Err(Error::Config { options: refused }) }
    }

    fn make(&self) -> Command {
        make(self.arch, &self.source, &self.objects)
    }
}
