//! Debian's unmodified kernel, from its packages, which are unpacked but not installed.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use super::ours;
use crate::{
    arch::Arch, cache, command, debian::Archive, error::Error, progress::Step, recipe::Recipe,
    release::Release, versions::Versions,
};

/// The modules that the guest needs in addition to the camera's driver and its dependencies, and Linux's own drivers of the camera
/// rkisp1, with that of its regulators.
const MODULES: [&str; 10] = [
    "virtio_mmio",
    "virtio_console",
    "virtio_rng",
    "virtio_blk",
    "ext4",
    "virtiofs",
    "i2c-rk3x",
    "phy-rockchip-dphy-rx0",
    "rockchip-isp1",
    "fixed",
];

/// Linux's drivers of the image sensors of rkisp1, which the kernel lacks. They are built for it from its source.
const SENSORS: [&str; 2] = ["imx219", "imx290"];

/// The release of the kernel.
const RELEASE: Release = Release::V6_1;

/// The package with the programs that build modules, for this machine.
const KBUILD: &str = "linux-kbuild-6.1";

/// The packages of one kernel.
pub(super) struct Packages {
    /// Its version, as in `uname -r`.
    version: String,
    archive: Archive,
    /// File names: the kernel, the headers of this configuration, the common headers.
    files: Vec<String>,
    /// This machine's archive, and the file name of [`KBUILD`].
    kbuild: (Archive, String),
    /// The archive and the file name of the kernel's source.
    source: (Archive, String),
    /// The folder with all headers.
    tree: PathBuf,
}

impl Packages {
    /// The recorded kernel of Debian's archive for `arch`. Intermediate files go below the folder `own`.
    pub(super) fn new(arch: &Arch, own: &Path, versions: &Versions) -> Result<Self, Error> {
        let (archive, tools) = (Archive::of(arch.debian), Archive::of(Arch::host().debian));
        let meta = format!("linux-image-{}", arch.debian);
        let mut files = versions.of(&meta, |newest| {
            if newest {
                archive.refresh()?;
                tools.refresh()?;
            }
            let image = archive.first_dependency(&meta)?;
            let version = image.trim_start_matches("linux-image-");
            let common = version.trim_end_matches(arch.debian).to_owned() + "common";
            let headers = [version, &common].map(|version| format!("linux-headers-{version}"));
            let mut files = archive.candidates(&[&image, &headers[0], &headers[1]])?;
            files.extend(tools.candidates(&[KBUILD])?);
            Ok(files)
        })?;
        let image = files.first().and_then(|file| file.split('_').next()).unwrap_or_default();
        let version = image.trim_start_matches("linux-image-").to_owned();
        let kbuild = files.pop().unwrap_or_default();
        let source = ours::source_package(RELEASE, versions)?;
        Ok(Self { version, archive, files, kbuild: (tools, kbuild), source, tree: own.join("headers") })
    }

    /// Adds the inputs of the kernel, of its modules and of modules that are built for it.
    pub(super) fn add_to(&self, recipe: Recipe) -> Recipe {
        let recipe = recipe.with(include_str!("debian.rs")).with(&self.kbuild.1).with(&self.source.1);
        self.files.iter().fold(recipe, Recipe::with)
    }

    /// Copies the kernel and its configuration to `folder`.
    pub(super) fn build(&self, folder: &Path) -> Result<(), Error> {
        let step = Step::begin("download kernel", 0);
        step.advance(&self.files[0]);
        let boot = self.archive.unpack(&self.files[0])?.join("boot");
        step.done();
        for (from, to) in [("vmlinuz", "Image"), ("config", "config")] {
            let from = boot.join(format!("{from}-{}", self.version));
            fs::copy(&from, folder.join(to)).map_err(Error::io("cannot copy", &from))?;
        }
        let image = folder.join("Image");
        let content = fs::read(&image).map_err(Error::io("cannot read", &image))?;
        if is_arm64_image(&content) {
            Ok(())
        } else {
            Err(Error::NotAnImage { package: self.files[0].clone() })
        }
    }

    /// Prepares the folders that make needs to build modules: source and objects.
    pub(super) fn headers(&self) -> Result<(PathBuf, PathBuf), Error> {
        let (tools, kbuild) = &self.kbuild;
        let kbuild = tools.unpack(kbuild)?.join("usr/lib").join(KBUILD);
        cache::remove_tree(&self.tree)?;
        let folder = |file: &str, name: &str| {
            let package = file.split('_').next().unwrap_or_default();
            let unpacked = self.archive.unpack(file)?.join("usr/src").join(package);
            let folder = self.tree.join(name);
            fs::create_dir_all(&folder).map_err(Error::io("cannot create the folder", &folder))?;
            let unreadable = || Error::io("cannot read the folder", &unpacked);
            for entry in fs::read_dir(&unpacked).map_err(unreadable())? {
                let entry = entry.map_err(unreadable())?;
                // Its links refer to the path of an installed kbuild.
                let is_link = entry.file_type().map_err(unreadable())?.is_symlink();
                let target = if is_link { kbuild.join(entry.file_name()) } else { entry.path() };
                link(&target, &folder.join(entry.file_name()))?;
            }
            Ok(folder)
        };
        Ok((folder(&self.files[2], "source")?, folder(&self.files[1], "objects")?))
    }

    /// Adds the drivers of the image sensors to the sources in `folder`.
    pub(super) fn add_sensors(&self, folder: &Path) -> Result<(), Error> {
        let (archive, package) = &self.source;
        let mut tar = Command::new("tar");
        // tar stops after the last of them.
        tar.args(["--extract", "--occurrence=1", "--strip-components=4", "--file"]);
        tar.arg(archive.unpack(package)?.join(ours::tarball(RELEASE))).arg("--directory").arg(folder);
        let root = package.split('_').next().unwrap_or_default();
        tar.args(SENSORS.map(|name| format!("{root}/drivers/media/i2c/{name}.c")));
        command::output(&mut tar)?;
        let kbuild = folder.join("Kbuild");
        let mut text = fs::read_to_string(&kbuild).map_err(Error::io("cannot read", &kbuild))?;
        text.extend(SENSORS.map(|name| format!("obj-m += {name}.o\n")));
        fs::write(&kbuild, text).map_err(Error::io("cannot write", &kbuild))
    }

    /// `driver`, the drivers of the image sensors beside it, and the kernel modules that the guest needs, each after its dependencies.
    pub(super) fn modules(&self, driver: &Path, work: &Path) -> Result<Vec<PathBuf>, Error> {
        // depmod writes to the folder of the modules. It gets a tree of links, so that the package's folder does not change.
        let tree = work.join("lib/modules").join(&self.version);
        fs::create_dir_all(&tree).map_err(Error::io("cannot create the folder", &tree))?;
        let unpacked = self.archive.unpack(&self.files[0])?.join("lib/modules").join(&self.version);
        for name in ["kernel", "modules.order", "modules.builtin", "modules.builtin.modinfo"] {
            link(&unpacked.join(name), &tree.join(name))?;
        }
        let sensors = SENSORS.map(|name| driver.with_file_name(name).with_extension("ko"));
        for module in sensors.iter().map(PathBuf::as_path).chain([driver]) {
            link(module, &tree.join(module.file_name().unwrap_or_default()))?;
        }
        // The folders of administrators' programs are not in every user's path.
        command::output(Command::new("/sbin/depmod").arg("-b").arg(work).arg(&self.version))?;
        let mut files = Vec::new();
        let driver = driver.file_stem().unwrap_or_default();
        for module in MODULES.iter().chain(&SENSORS).map(OsStr::new).chain([driver]) {
            let mut modprobe = Command::new("/sbin/modprobe");
            // This ignores this machine's configuration.
            modprobe.args(["--config", "/dev/null", "--set-version", &self.version, "--show-depends"]);
            for file in dependencies(&command::output(modprobe.arg("-d").arg(work).arg(module))?) {
                let file = fs::canonicalize(file).map_err(Error::io("cannot find", Path::new(file)))?;
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

fn link(target: &Path, link: &Path) -> Result<(), Error> {
    symlink(target, link).map_err(Error::io("cannot create the link", link))
}

/// Whether a file begins like an uncompressed arm64 kernel (Documentation/arm64/booting.rst).
fn is_arm64_image(file: &[u8]) -> bool {
    file.get(0x38..0x3c) == Some(b"ARM\x64")
}

/// The files in the output of modprobe: lines `insmod FILE OPTIONS`. Built-in modules have lines `builtin NAME`.
fn dependencies(shown: &str) -> impl Iterator<Item = &str> {
    shown.lines().filter_map(|line| line.strip_prefix("insmod ")?.split(' ').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_from_modprobe() {
        let shown = "builtin virtio\ninsmod /a/mc.ko \ninsmod /a/videodev.ko debug=1\n";
        assert_eq!(dependencies(shown).collect::<Vec<_>>(), ["/a/mc.ko", "/a/videodev.ko"]);
    }

    #[test]
    fn only_an_arm64_image_is_one() {
        let mut file = vec![0; 0x40];
        assert!(!is_arm64_image(&file) && !is_arm64_image(&[]));
        file[0x38..0x3c].copy_from_slice(b"ARMd");
        assert!(is_arm64_image(&file));
    }
}
