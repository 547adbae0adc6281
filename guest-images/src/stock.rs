//! Debian's unmodified kernels for arm64, one of each release, and a module that is built for them. They are for tests outside of
//! minivmm; a guest image with such a kernel is [`Kind::Debian`](crate::Kind::Debian).

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    arch::Arch,
    built,
    cache::{self, Lock},
    command,
    debian::{self, Archive},
    error::Error,
    progress::{Step, say},
    recipe::{Recipe, sorted_files},
    release::Release,
    versions::Versions,
};

/// The architecture of these kernels.
const ARCH: &Arch = Arch::AARCH64;
/// The package that depends on the current kernel.
const META: &str = "linux-image-arm64";
/// Options of a kernel that a newer compiler than this machine's has built; without them kbuild does without the compiler's part
/// (Makefile, KBUILD_CFLAGS; scripts/Makefile.modfinal).
const WITHOUT: [&str; 2] = ["CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=", "CONFIG_DEBUG_INFO_BTF_MODULES="];

/// A kernel and the module for it.
#[derive(Debug, Clone)]
pub struct Stock {
    /// The uncompressed kernel.
    pub kernel: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// The module.
    pub module: PathBuf,
}

/// The packages of a kernel.
struct Packages {
    archive: Archive,
    tools: Archive,
    /// File names: the kernel, its configuration, its headers, the common headers, kbuild, and the C library that kbuild's programs
    /// need, if it is not this machine's.
    files: Vec<String>,
    /// Its version, as in `uname -r`.
    version: String,
}

/// The newest kernel of `release` in its suite when it was first asked for, and the module whose Kbuild file and source are in the
/// folder `module`. What is missing is downloaded and built.
///
/// # Errors
/// If a package is missing or cannot be downloaded, or if the module cannot be built.
pub fn stock(release: Release, module: &Path) -> Result<Stock, Error> {
    let base = built::base()?;
    let lock = built::lock()?;
    debian::install(&ARCH.packages())?;
    let versions = Versions::new(&base, false);
    make(release, module, &base, &versions, &lock).or_else(|error| match error {
        Error::Outdated { file, .. } => {
            say(format_args!("Debian's archive does not have {file}.deb any more"));
            make(release, module, &base, &Versions::new(&base, versions.has(&file)), &lock)
        }
        error => Err(error),
    })
}

fn make(
    release: Release,
    module: &Path,
    base: &Path,
    versions: &Versions,
    lock: &Lock,
) -> Result<Stock, Error> {
    let packages = Packages::new(release, versions)?;
    let compiler = command::output(Command::new(format!("{}gcc", ARCH.prefix())).arg("--version"))?;
    let mut sources = vec![module.join("Kbuild")];
    sources.extend(sorted_files(module, "c")?);
    let recipe = Recipe::new("stock").with(include_str!("stock.rs")).with(compiler);
    let mut recipe = packages.files.iter().fold(recipe, Recipe::with);
    for source in &sources {
        recipe = recipe.with_file(source)?;
    }
    let folder = base.join(ARCH.name).join(format!("stock-{}-{}", release.name(), recipe.name()));
    if !folder.is_dir() {
        cache::create_whole(&folder, |partial| packages.build(&sources, lock, partial))?;
    }
    let module = sorted_files(&folder, "ko")?;
    let module =
        module.into_iter().next().ok_or_else(|| Error::NoModule { folder: folder.display().to_string() })?;
    Ok(Stock { kernel: folder.join("Image"), config: folder.join("config"), module })
}

impl Packages {
    fn new(release: Release, versions: &Versions) -> Result<Self, Error> {
        let of = |arch: &str| {
            release.suite().map_or_else(|| Archive::of(arch), |suite| Archive::of_suite(arch, suite))
        };
        let (archive, tools) = (of(ARCH.debian), of(Arch::host().debian));
        let files = versions.of(&format!("stock-{}", release.name()), |newest| {
            if newest {
                archive.refresh()?;
                tools.refresh()?;
            }
            let image = archive.dependency(META, "linux-image-")?;
            let version = image.trim_start_matches("linux-image-");
            if !version.starts_with(&format!("{}.", release.name())) {
                let package = format!("linux-image-{}", release.name());
                return Err(release.suite().map_or(
                    Error::Unknown { package: package.clone(), arch: ARCH.debian.to_owned() },
                    |suite| Error::NotInSuite { package, suite },
                ));
            }
            let parts = match release {
                Release::V6_1 | Release::V6_12 => ["linux-image-", "linux-image-", "linux-headers-"],
                Release::V7_2 => ["linux-binary-", "linux-base-", "linux-headers-"],
            };
            let short = version.trim_end_matches(ARCH.debian).trim_end_matches('-');
            let mut names: Vec<String> = parts.iter().map(|part| format!("{part}{version}")).collect();
            names.push(format!("linux-headers-{short}-common"));
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut files = archive.candidates(&names)?;
            let kbuild = match release {
                Release::V6_1 => "linux-kbuild-6.1".to_owned(),
                Release::V6_12 | Release::V7_2 => format!("linux-kbuild-{short}"),
            };
            let libc = release.suite().map(|_| "libc6");
            files.extend(
                tools.candidates(&[Some(kbuild.as_str()), libc].into_iter().flatten().collect::<Vec<_>>())?,
            );
            Ok(files)
        })?;
        let headers = files.get(2).and_then(|file| file.split('_').next()).unwrap_or_default();
        let version = headers.trim_start_matches("linux-headers-").to_owned();
        Ok(Self { archive, tools, files, version })
    }

    /// Copies the kernel and its configuration to `folder`, and builds the module of `sources` there.
    fn build(&self, sources: &[PathBuf], lock: &Lock, folder: &Path) -> Result<(), Error> {
        let step = Step::begin("download kernel", 0);
        step.advance(&self.files[0]);
        for (file, name, to) in [(0, "vmlinuz", "Image"), (1, "config", "config")] {
            let package = self.archive.unpack(&self.files[file])?;
            let places =
                [format!("boot/{name}-{}", self.version), format!("usr/lib/modules/{}/{name}", self.version)];
            let from = places.iter().map(|place| package.join(place)).find(|path| path.exists());
            let from = from.unwrap_or_else(|| package.join(&places[0]));
            fs::copy(&from, folder.join(to)).map_err(Error::io("cannot copy", &from))?;
        }
        step.done();
        let work = folder.join("module");
        create(&work)?;
        for source in sources {
            let copy = work.join(source.file_name().unwrap_or_default());
            fs::copy(source, copy).map_err(Error::io("cannot copy", source))?;
        }
        self.lay_out_headers(folder)?;
        let assign = |name: &str, value: &Path| format!("{name}={}", value.display());
        let mut make = Command::new("make");
        make.current_dir(folder.join("source")).env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
        make.arg(format!("ARCH={}", ARCH.kernel_arch)).arg(format!("CROSS_COMPILE={}", ARCH.prefix()));
        make.args([assign("O", &folder.join("objects")), assign("M", &work)]).args(WITHOUT).arg("modules");
        command::follow(&mut make, lock.share()?, &folder.join("module.log"), |_| ())?;
        for module in sorted_files(&work, "ko")? {
            let to = folder.join(module.file_name().unwrap_or_default());
            let mut strip = Command::new(format!("{}objcopy", ARCH.prefix()));
            command::output(strip.arg("--strip-debug").args([&module, &to]))?;
        }
        ["module", "source", "objects", "kbuild"]
            .iter()
            .try_for_each(|name| cache::remove_tree(&folder.join(name)))
    }

    /// Lays out below `folder` what make needs to build modules: `source`, `objects` and `kbuild`.
    fn lay_out_headers(&self, folder: &Path) -> Result<(), Error> {
        let kbuild_name = self.files[4].split('_').next().unwrap_or_default();
        let unpacked = self.tools.unpack(&self.files[4])?.join("usr/lib").join(kbuild_name);
        let kbuild = folder.join("kbuild");
        match self.files.get(5) {
            None => link(&unpacked, &kbuild)?,
            Some(libc) => {
                let library =
                    self.tools.unpack(libc)?.join("usr/lib").join(format!("{}-linux-gnu", Arch::host().name));
                link_all(&unpacked, &kbuild, &["scripts"])?;
                link_all(&unpacked.join("scripts"), &kbuild.join("scripts"), &["basic", "mod"])?;
                link_all(&unpacked.join("scripts/basic"), &kbuild.join("scripts/basic"), &["fixdep"])?;
                link_all(&unpacked.join("scripts/mod"), &kbuild.join("scripts/mod"), &["modpost"])?;
                // modpost itself only starts that of the kernel's word size and byte order, and finds it beside itself.
                for (program, real) in
                    [("basic/fixdep", "basic/fixdep"), ("mod/modpost", "mod/modpost.real-lsb-64")]
                {
                    let script = kbuild.join("scripts").join(program);
                    wrap(&library, &unpacked.join("scripts").join(real), &script)?;
                }
            }
        }
        for (file, name) in [(3, "source"), (2, "objects")] {
            let package = self.files[file].split('_').next().unwrap_or_default();
            let unpacked = self.archive.unpack(&self.files[file])?.join("usr/src").join(package);
            let target = folder.join(name);
            // Debian's variables name the compiler that built the kernel.
            link_all(&unpacked, &target, &["scripts", "tools", ".kernelvariables"])?;
            for shared in ["scripts", "tools"] {
                let is_link = unpacked.join(shared).is_symlink();
                link(
                    &if is_link { kbuild.join(shared) } else { unpacked.join(shared) },
                    &target.join(shared),
                )?;
            }
        }
        Ok(())
    }
}

/// Creates a script that runs a program of another suite with that suite's C library.
fn wrap(library: &Path, program: &Path, script: &Path) -> Result<(), Error> {
    let loader = fs::read_dir(library).map_err(Error::io("cannot read the folder", library))?;
    let loader = loader
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux-")));
    let loader = loader.unwrap_or_else(|| library.join("ld-linux.so"));
    let text = format!(
        "#!/bin/sh\nexec {} --library-path {} {} \"$@\"\n",
        loader.display(),
        library.display(),
        program.display()
    );
    fs::write(script, text).map_err(Error::io("cannot write", script))?;
    fs::set_permissions(script, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("cannot change the mode of", script))
}

fn create(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::io("cannot create the folder", folder))
}

/// Creates `to` with links to all that is in the folder `from`, except for `without`.
fn link_all(from: &Path, to: &Path, without: &[&str]) -> Result<(), Error> {
    create(to)?;
    for entry in fs::read_dir(from).map_err(Error::io("cannot read the folder", from))? {
        let entry = entry.map_err(Error::io("cannot read the folder", from))?;
        if !without.iter().any(|name| entry.file_name() == *name) {
            link(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn link(target: &Path, link: &Path) -> Result<(), Error> {
    symlink(target, link).map_err(Error::io("cannot create the link", link))
}
