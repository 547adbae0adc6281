//! Builds the guest's kernel from Debian's source package, our patches and our configuration.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use crate::{
    Error, SOURCES,
    arch::Arch,
    cache::{self, Lock},
    command,
    debian::Archive,
    progress::Step,
    recipe::Recipe,
};

/// The Debian package with the kernel's source.
pub(crate) const PACKAGE: &str = "linux-source-6.1";
/// The archive in it.
const ARCHIVE: &str = "usr/src/linux-source-6.1.tar.xz";

/// What make gets from the environment: names and times of this machine would make each build's bytes different.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("KBUILD_BUILD_HOST", "minivmm"),
    ("KBUILD_BUILD_TIMESTAMP", "1970-01-01"),
    ("KBUILD_BUILD_USER", "minivmm"),
    ("KBUILD_BUILD_VERSION", "1"),
    ("LC_ALL", "C"),
];

/// How much tar and make say when nothing was there before: the length of their progress bars.
const FILES_IN_ARCHIVE: u64 = 83_000;
const LINES_OF_MAKE: u64 = 1_300;

/// A kernel to be built.
pub(crate) struct Kernel<'a> {
    pub(crate) arch: &'a Arch,
    /// Its name among kernels: changes with the source, the patches and the configuration.
    pub(crate) name: String,
    /// The finished kernel.
    pub(crate) folder: PathBuf,
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

impl<'a> Kernel<'a> {
    /// The kernel for `arch` as the checkout wants it, from the source package's file `package`, below the folder
    /// `base`. Builds nothing yet.
    pub(crate) fn new(arch: &'a Arch, base: &Path, package: String) -> Result<Self, Error> {
        let ours = Path::new(SOURCES).join("kernel");
        let patches = sorted_files(&ours.join("patches"), "patch")?;
        let mut source = Recipe::new("source").with(&package);
        for patch in &patches {
            source = source.with_file(patch)?;
        }
        let source_name = source.name();
        let mut fragment = String::new();
        for file in arch.fragments {
            let path = ours.join(file);
            fragment += &fs::read_to_string(&path).map_err(Error::io("cannot read", &path))?;
        }
        let mut recipe = Recipe::new("kernel")
            .with(include_str!("kernel.rs"))
            .with(arch.name)
            .with(&source_name)
            .with(&fragment);
        for (variable, value) in ENVIRONMENT {
            recipe = recipe.with(variable).with(value);
        }
        let name = recipe.name();
        let own = base.join(arch.name);
        Ok(Self {
            arch,
            folder: own.join(format!("kernel-{name}")),
            name,
            package,
            patches,
            fragment,
            source: base.join("source").join(format!("linux-{source_name}")),
            objects: own.join("objects"),
            log: own.join("kernel.log"),
        })
    }

    /// Makes [`folder`](Self::folder), unless it is there: `vmlinux`, the boot image, the configuration and the
    /// program that packs an initramfs.
    pub(crate) fn build(&self, lock: &Lock) -> Result<(), Error> {
        if self.folder.is_dir() {
            return Ok(());
        }
        self.compile(lock)?;
        cache::create_whole(&self.folder, |partial| {
            let (boot_image, boot_image_path) = self.arch.boot_image;
            strip(self.arch, &self.objects.join("vmlinux"), &partial.join("vmlinux"))?;
            for (from, to) in
                [(boot_image_path, boot_image), (".config", "config"), ("usr/gen_init_cpio", "gen_init_cpio")]
            {
                let from = self.objects.join(from);
                fs::copy(&from, partial.join(to)).map_err(Error::io("cannot copy", &from))?;
            }
            Ok(())
        })
    }

    /// Builds the module whose source and Kbuild file are in `folder`, there.
    pub(crate) fn build_module(&self, lock: &Lock, folder: &Path) -> Result<(), Error> {
        self.compile(lock)?;
        let mut module = std::ffi::OsString::from("M=");
        module.push(folder);
        let step = Step::begin("driver", 0);
        let mut make = self.make();
        make.arg(module).arg("modules");
        command::follow(&mut make, lock.share()?, &self.log.with_file_name("driver.log"), |line| {
            step.advance(line);
        })?;
        step.done();
        Ok(())
    }

    /// Brings the object folder to this kernel's state, from whatever state it is in.
    fn compile(&self, lock: &Lock) -> Result<(), Error> {
        let stamp = self.objects.join("minivmm-kernel");
        if fs::read_to_string(&stamp).is_ok_and(|name| name == self.name) && self.source.is_dir() {
            return Ok(());
        }
        self.unpack_source(lock)?;
        fs::create_dir_all(&self.objects).map_err(Error::io("cannot create the folder", &self.objects))?;
        let _ = fs::remove_file(&stamp);
        self.configure()?;
        let step = Step::begin("kernel", LINES_OF_MAKE);
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let mut make = self.make();
        make.arg(format!("-j{jobs}")).args(["vmlinux", self.arch.boot_image.0, "modules"]);
        command::follow(&mut make, lock.share()?, &self.log, |line| step.advance(line))?;
        fs::write(&stamp, &self.name).map_err(Error::io("cannot write", &stamp))?;
        step.done();
        Ok(())
    }

    fn unpack_source(&self, lock: &Lock) -> Result<(), Error> {
        if self.source.is_dir() {
            return Ok(());
        }
        let step = Step::begin("download source", 0);
        step.advance(&self.package);
        let archive = Archive::of(Arch::host().debian).unpack(&self.package)?.join(ARCHIVE);
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

    /// make, as it is called for this kernel: with nothing from the environment that it would heed.
    fn make(&self) -> Command {
        let mut make = Command::new("make");
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "LLVM", "KCFLAGS", "INSTALL_MOD_PATH"] {
            make.env_remove(name);
        }
        let mut objects = std::ffi::OsString::from("O=");
        objects.push(&self.objects);
        make.envs(ENVIRONMENT)
            .current_dir(&self.source)
            .arg(format!("ARCH={}", self.arch.kernel_arch))
            .arg(format!("CROSS_COMPILE={}", self.arch.prefix()))
            .arg(objects);
        make
    }
}

/// Copies an ELF file without what only debuggers need.
pub(crate) fn strip(arch: &Arch, from: &Path, to: &Path) -> Result<(), Error> {
    command::output(Command::new(format!("{}objcopy", arch.prefix())).arg("--strip-debug").args([from, to]))
        .map(drop)
}

/// The lines of `fragment` that did not make it into `config`: options that do not exist, or whose dependencies
/// are not met.
fn refused_options(fragment: &str, config: &str) -> Vec<String> {
    let has = |line: &str| match line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")) {
        // An option whose dependencies are not met is off as well, and not mentioned.
        Some(option) => !config.lines().any(|set| set.starts_with(&format!("{option}="))),
        None => config.lines().any(|set| set == line),
    };
    fragment
        .lines()
        .filter(|line| line.starts_with("CONFIG_") || line.starts_with("# CONFIG_"))
        .filter(|line| !has(line))
        .map(ToOwned::to_owned)
        .collect()
}

/// The files in `folder` that have the extension, by name.
pub(crate) fn sorted_files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Error> {
    let unreadable = || Error::io("cannot read the folder", folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable())? {
        let path = entry.map_err(unreadable())?.path();
        if path.extension() == Some(OsStr::new(extension)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_did_not_come_true_are_named() {
        let fragment = "# A heading\nCONFIG_A=y\nCONFIG_B=17\n# CONFIG_C is not set\n# CONFIG_D is not set\n";
        let config = "CONFIG_A=y\nCONFIG_B=16\nCONFIG_C=y\n";
        assert_eq!(refused_options(fragment, config), ["CONFIG_B=17", "# CONFIG_C is not set"]);
        assert_eq!(refused_options("CONFIG_A=y\n", "CONFIG_AA=y\n"), ["CONFIG_A=y"]);
    }
}
