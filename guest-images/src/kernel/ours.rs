//! Builds the guest's kernel from Debian's source package, our patches and our configuration.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use super::{
    config::refused_options,
    make::{make, strip},
};
use crate::{
    arch::{Arch, UPSTREAM},
    cache::{self, Lock},
    command,
    debian::Archive,
    error::Error,
    image::Kind,
    progress::Step,
    recipe::{Recipe, sorted_files},
    release::Release,
    sources,
    versions::Versions,
};

/// The folder of the kernel's Python modules for gdb, which vmlinux-gdb.py expects beside itself.
const GDB_MODULES: &str = "scripts/gdb/linux";

/// The inputs of a kernel of ours, and its folders.
pub(super) struct Source {
    arch: &'static Arch,
    release: Release,
    archive: Archive,
    /// The source package's file name.
    package: String,
    patches: Vec<PathBuf>,
    /// The requested configuration: all fragments.
    fragment: String,
    /// The patched source.
    source: PathBuf,
    /// The build products of make. They are kept, so that the next build is short.
    objects: PathBuf,
    log: PathBuf,
}

impl Source {
    /// The kernel `kind` with `release` of the checkout for `arch`, of the recorded version, below the folder
    /// `base`.
    pub(super) fn new(
        arch: &'static Arch,
        kind: Kind,
        release: Release,
        base: &Path,
        versions: &Versions,
    ) -> Result<Self, Error> {
        let (archive, package) = source_package(release, versions)?;
        let ours = sources::folder()?.join("kernel");
        let mut patches = sorted_files(&ours.join("patches"), "patch")?;
        patches.extend(sorted_files(&ours.join("patches").join(release.patches()), "patch")?);
        patches.sort_by_key(|patch| patch.file_name().map(ToOwned::to_owned));
        let mut recipe = Recipe::new("source").with(&package);
        for patch in &patches {
            recipe = recipe.with_file(patch)?;
        }
        let mut fragment = String::new();
        for file in arch.fragments.iter().copied().chain([UPSTREAM]).chain(kind.fragment()) {
            let path = ours.join(file);
            let text = fs::read_to_string(&path).map_err(Error::io("cannot read", &path))?;
            fragment += &release.lines_of(&text);
        }
        let own = base.join(arch.name);
        let source = recipe.name();
        Ok(Self {
            arch,
            release,
            archive,
            package,
            patches,
            fragment,
            // Each version with its patches has a folder of its own, because modules of users are built against both folders.
            objects: own.join(format!("objects-{}-{source}", kind.name())),
            source: sources(base, release).join(format!("linux-{source}")),
            log: own.join("kernel.log"),
        })
    }

    /// Adds the source, the patches, the configuration and how the kernel is built.
    pub(super) fn add_to(&self, recipe: Recipe) -> Recipe {
        let source = self.source.file_name().unwrap_or_default();
        recipe.with(include_str!("ours.rs")).with(source.as_encoded_bytes()).with(&self.fragment)
    }

    /// Copies the kernel called `name` to `folder`: `vmlinux`, the boot image, the configuration, the debug information, and its
    /// modules below `lib/modules` as modprobe expects them.
    pub(super) fn build(&self, name: &str, lock: &Lock, folder: &Path) -> Result<(), Error> {
        self.compile(name, lock)?;
        strip(self.arch, &self.objects.join("vmlinux"), &folder.join("vmlinux"))?;
        let (boot_image, path) = self.arch.boot_image;
        for (from, to) in [(path, boot_image), (".config", "config")] {
            let from = self.objects.join(from);
            fs::copy(&from, folder.join(to)).map_err(Error::io("cannot copy", &from))?;
        }
        self.keep_debug_information(folder)?;
        self.install_modules(folder)
    }

    /// Puts what debuggers need in `folder`: `vmlinux.debug`, the symbols and types for gdb; `vmlinux.debug-gdb.py`, which gdb loads
    /// with it, and its modules in `scripts`; `vmlinux.btf`, the types in the kernel's own format.
    fn keep_debug_information(&self, folder: &Path) -> Result<(), Error> {
        let vmlinux = self.objects.join("vmlinux");
        let mut objcopy = Command::new(format!("{}objcopy", self.arch.prefix()));
        objcopy.args(["--only-keep-debug", "--compress-debug-sections"]);
        command::output(objcopy.arg(&vmlinux).arg(folder.join("vmlinux.debug")))?;
        let mut pahole = Command::new("pahole");
        pahole.arg("--btf_encode_detached").arg(folder.join("vmlinux.btf"));
        command::output(pahole.arg(&vmlinux))?;
        let copy =
            |from: &Path, to: &Path| fs::copy(from, to).map(drop).map_err(Error::io("cannot copy", from));
        copy(&self.objects.join("vmlinux-gdb.py"), &folder.join("vmlinux.debug-gdb.py"))?;
        let (from, to) = (self.objects.join(GDB_MODULES), folder.join(GDB_MODULES));
        fs::create_dir_all(&to).map_err(Error::io("cannot create the folder", &to))?;
        for module in sorted_files(&from, "py")? {
            copy(&module, &to.join(module.file_name().unwrap_or_default()))?;
        }
        Ok(())
    }

    /// Installs the kernel's own modules (`m` in its configuration) in `folder`, with depmod's lists.
    fn install_modules(&self, folder: &Path) -> Result<(), Error> {
        let order = fs::read_to_string(self.objects.join("modules.order")).unwrap_or_default();
        if order.trim().is_empty() {
            return Ok(());
        }
        let mut place = OsString::from("INSTALL_MOD_PATH=");
        place.push(folder);
        let mut install = self.make();
        // The folders of administrators' programs are not in every user's path.
        install.arg(place).args(["INSTALL_MOD_STRIP=1", "DEPMOD=/sbin/depmod", "modules_install"]);
        command::output(&mut install)?;
        let modules = folder.join("lib/modules");
        let unreadable = || Error::io("cannot read the folder", &modules);
        for release in fs::read_dir(&modules).map_err(unreadable())? {
            let release = release.map_err(unreadable())?.path();
            for link in
                ["build", "source"].map(|name| release.join(name)).iter().filter(|link| link.is_symlink())
            {
                fs::remove_file(link).map_err(Error::io("cannot remove", link))?;
            }
        }
        Ok(())
    }

    /// Compiles the kernel called `name` in the object folder, whatever its state. Returns the
    /// folders of the source and of the objects.
    pub(super) fn compile(&self, name: &str, lock: &Lock) -> Result<(PathBuf, PathBuf), Error> {
        let stamp = self.objects.join("minivmm-kernel");
        if !(fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == name) && self.source.is_dir()) {
            self.unpack_source(lock)?;
            fs::create_dir_all(&self.objects)
                .map_err(Error::io("cannot create the folder", &self.objects))?;
            let _ = fs::remove_file(&stamp);
            self.configure()?;
            let step = Step::begin("kernel", self.release.lines_of_make());
            let jobs = thread::available_parallelism().map_or(1, usize::from);
            let mut make = self.make();
            make.arg(format!("-j{jobs}")).args(["vmlinux", self.arch.boot_image.0, "modules", "scripts_gdb"]);
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
        let archive = self.archive.unpack(&self.package)?.join(tarball(self.release));
        step.done();
        let step = Step::begin("unpack source", self.release.lines_of_tar());
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

/// The archive, and the recorded file name in it, of the Debian package with the kernel's source.
pub(super) fn source_package(release: Release, versions: &Versions) -> Result<(Archive, String), Error> {
    let host = Arch::host().debian;
    let archive = release.suite().map_or_else(|| Archive::of(host), |suite| Archive::of_suite(host, suite));
    let name = package(release);
    let mut packages = versions.of(&name, |newest| {
        if newest {
            archive.refresh()?;
        }
        archive.candidates(&[&name])
    })?;
    Ok((archive, packages.remove(0)))
}

/// The path of the source in its unpacked package.
pub(super) fn tarball(release: Release) -> String {
    format!("usr/src/{}.tar.xz", package(release))
}

/// The Debian package with the kernel's source.
fn package(release: Release) -> String {
    format!("linux-source-{}", release.name())
}

/// The folder below `base` with the patched source of `release`.
pub(crate) fn sources(base: &Path, release: Release) -> PathBuf {
    // The first release keeps the path from before there were others.
    let first = release == Release::ALL[0];
    base.join(if first { "source".to_owned() } else { format!("source-{}", release.name()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folders that a user's module was built against are not those of a newer kernel.
    #[test]
    fn a_newer_kernel_lies_beside_the_old_one() {
        let base = tempfile::tempdir().unwrap();
        let source = |version: &str| {
            let versions = base.path().join("versions");
            fs::create_dir_all(&versions).unwrap();
            fs::write(versions.join("linux-source-6.1"), format!("linux-source-6.1_{version}_all\n"))
                .unwrap();
            let versions = Versions::new(base.path(), false);
            Source::new(Arch::X86_64, Kind::DEFAULT, Release::V6_1, base.path(), &versions).unwrap()
        };
        let (old, new) = (source("6.1.172-1"), source("6.1.192-3"));
        assert_eq!(old.package, "linux-source-6.1_6.1.172-1_all");
        assert_ne!(old.source, new.source);
        assert_ne!(old.objects, new.objects);
        let again = source("6.1.172-1");
        assert_eq!((again.source, again.objects), (old.source, old.objects));
    }
}
