//! Packs the initramfs: init, the camera's driver, and programs from Debian packages with their libraries.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    arch::Arch, command, cpio, debian::Archive, driver::Driver, error::Error, progress::Step, recipe::Recipe,
    sources,
};

/// The Debian packages with the programs and libraries.
const PACKAGES: [&str; 12] = [
    "busybox-static",
    "libc6",
    "libdrm-tests",
    "libdrm2",
    "libgcc-s1",
    "libjpeg62-turbo",
    "libstdc++6",
    "libudev1",
    "libv4l-0",
    "libv4lconvert0",
    "v4l-utils",
    "yavta",
];

/// The programs, with their paths in the packages and in the initramfs.
const PROGRAMS: [&str; 6] = [
    "bin/busybox",
    "usr/bin/media-ctl",
    "usr/bin/modetest",
    "usr/bin/v4l2-compliance",
    "usr/bin/v4l2-ctl",
    "usr/bin/yavta",
];

/// The guest's first program, in this crate's folder.
const INIT: &str = "init";

/// What busybox's udhcpc calls with a server's answer, in this crate's folder and in the initramfs.
const DHCP: (&str, &str) = ("udhcpc", "etc/udhcpc/default.script");

/// Empty folders, and their permissions.
const FOLDERS: [(&str, u32); 7] = [
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr/sbin", 0o755),
];

/// Small files: users for `ls -l` and `id`.
const FILES: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
    ("etc/group", "root:x:0:\n"),
    (
        "etc/fstab",
        "proc /proc proc\n\
         sysfs /sys sysfs\n\
         devtmpfs /dev devtmpfs\n\
         debugfs /sys/kernel/debug debugfs\n\
         tracefs /sys/kernel/tracing tracefs\n",
    ),
];

/// Links below /dev, which the init program copies there from a folder of the initramfs: the kernel fills /dev itself.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("lib/dev/fd", "/proc/self/fd"),
    ("lib/dev/stdin", "fd/0"),
    ("lib/dev/stdout", "fd/1"),
    ("lib/dev/stderr", "fd/2"),
];

/// It compares the names of formats with those of the kernel. Linux 6.0 changed the names of semi-planar formats; Debian 12's program has
/// the old names.
const COMPLIANCE: &str = "usr/bin/v4l2-compliance";

/// The old names and the new names.
const RENAMED: [(&[u8], &[u8]); 4] = [
    (b"\0Y/CbCr 4:2:0\0", b"\0Y/UV 4:2:0\0\0\0"),
    (b"\0Y/CbCr 4:2:2\0", b"\0Y/UV 4:2:2\0\0\0"),
    (b"\0Y/CrCb 4:2:0\0", b"\0Y/VU 4:2:0\0\0\0"),
    (b"\0Y/CrCb 4:2:2\0", b"\0Y/VU 4:2:2\0\0\0"),
];

/// An initramfs to pack.
pub(crate) struct Initramfs<'a> {
    arch: &'a Arch,
    driver: &'a Driver<'a>,
    archive: Archive,
    /// The file names of [`PACKAGES`], in the same order.
    packages: Vec<String>,
    /// Its unique name, which depends on its content.
    pub(crate) name: String,
}

impl<'a> Initramfs<'a> {
    /// The initramfs of the checkout for `arch`. This packs nothing.
    pub(crate) fn new(arch: &'a Arch, driver: &'a Driver<'a>) -> Result<Self, Error> {
        let archive = Archive::of(arch.debian);
        let packages = archive.candidates(&PACKAGES)?;
        let recipe = Recipe::new("initramfs")
            .with(include_str!("initramfs.rs"))
            .with(include_str!("cpio.rs"))
            .with(&driver.name)
            .with_file(&sources::folder()?.join(INIT))?
            .with_file(&sources::folder()?.join(DHCP.0))?;
        let name = packages.iter().fold(recipe, Recipe::with).name();
        Ok(Self { arch, driver, archive, packages, name })
    }

    /// Packs it into the file `path`, an uncompressed cpio archive.
    pub(crate) fn build(&self, path: &Path) -> Result<(), Error> {
        let step = Step::begin("initramfs", 0);
        let mut packages = Vec::new();
        for file in &self.packages {
            step.advance(file);
            packages.push(self.archive.unpack(file)?);
        }
        let mut content = cpio::Archive::default();
        content.device("dev/console", 0o600, (5, 1));
        content.link("bin/sh", "busybox");
        for (name, target) in DEVICE_LINKS {
            content.link(name, target);
        }
        for (name, permissions) in FOLDERS {
            content.folder(name, permissions);
        }
        for (name, text) in FILES {
            content.file(name, 0o644, text.into());
        }
        content.file("init", 0o755, read(&sources::folder()?.join(INIT))?);
        content.file(DHCP.1, 0o755, read(&sources::folder()?.join(DHCP.0))?);
        let modules = &self.driver.folder;
        let unreadable = || Error::io("cannot read the folder", modules);
        for entry in fs::read_dir(modules).map_err(unreadable())? {
            let entry = entry.map_err(unreadable())?;
            let name = format!("lib/modules/{}", entry.file_name().display());
            content.file(&name, 0o644, read(&entry.path())?);
        }
        for (name, path) in self.driver.kernel_modules()? {
            content.file(&name, 0o644, read(&path)?);
        }
        let mut elves = Vec::new();
        for program in PROGRAMS {
            let path = find(&packages, program).ok_or_else(|| Error::NotInPackages {
                file: program.into(),
                needed_by: "the initramfs".into(),
                packages: PACKAGES.join(" "),
            })?;
            let mut data = read(&path)?;
            if program == COMPLIANCE {
                RENAMED.iter().for_each(|(then, now)| replace(&mut data, then, now));
            }
            content.file(program, 0o755, data);
            elves.push(path);
        }
        for (name, path) in libraries(&packages, elves)? {
            content.file(&format!("lib/{name}"), 0o755, read(&path)?);
        }
        let interpreter = self.arch.interpreter.trim_start_matches('/');
        let loader = interpreter.rsplit('/').next().unwrap_or_default();
        if interpreter != format!("lib/{loader}") {
            content.link(interpreter, &format!("/lib/{loader}"));
        }
        fs::write(path, content.pack()).map_err(Error::io("cannot write", path))?;
        step.done();
        Ok(())
    }
}

/// The libraries that the programs `elves` need, directly and indirectly: name and path. The program
/// interpreter is one of them.
fn libraries(packages: &[PathBuf], mut elves: Vec<PathBuf>) -> Result<BTreeMap<String, PathBuf>, Error> {
    let folders: Vec<PathBuf> = packages.iter().flat_map(|package| library_folders(package)).collect();
    let mut libraries = BTreeMap::new();
    while let Some(elf) = elves.pop() {
        let mut readelf = Command::new("readelf");
        let dynamic = command::output(readelf.args(["--dynamic", "--program-headers", "--wide"]).arg(&elf))?;
        for name in needed(&dynamic) {
            if libraries.contains_key(name) {
                continue;
            }
            let path = find(&folders, name).ok_or_else(|| Error::NotInPackages {
                file: name.into(),
                needed_by: elf.display().to_string(),
                packages: PACKAGES.join(" "),
            })?;
            elves.push(path.clone());
            libraries.insert(name.to_owned(), path);
        }
    }
    Ok(libraries)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::io("cannot read", path))
}

/// Replaces the first `old` in `data` by `new`, which has the same length.
fn replace(data: &mut [u8], old: &[u8], new: &[u8]) {
    if let Some(at) = data.windows(old.len()).position(|window| window == old) {
        data[at..at + old.len()].copy_from_slice(new);
    }
}

/// The path of the file `path` in the first of `folders` that contains it.
fn find(folders: &[PathBuf], path: &str) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(path)).find(|path| path.is_file())
}

/// The folders of shared libraries in a Debian package: `lib/TRIPLET` and `usr/lib/TRIPLET`.
fn library_folders(package: &Path) -> Vec<PathBuf> {
    ["lib", "usr/lib"]
        .iter()
        .filter_map(|lib| fs::read_dir(package.join(lib)).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        .collect()
}

/// The libraries and the interpreter that a program needs, from the output of readelf.
fn needed(dynamic: &str) -> impl Iterator<Item = &str> {
    dynamic.lines().filter_map(|line| {
        if line.contains("(NEEDED)") {
            line.split_once('[')?.1.split(']').next()
        } else {
            let (_, path) = line.split_once("[Requesting program interpreter: ")?;
            path.trim_end_matches(']').rsplit('/').next()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_interpreter_are_read_from_readelf() {
        let dynamic = "  INTERP  0x000318 0x318 0x318 0x1c 0x1c R 0x1\n      \
            [Requesting program interpreter: /lib64/ld-linux-x86-64.so.2]\n \
            0x01 (NEEDED)             Shared library: [libc.so.6]\n \
            0x0e (SONAME)             Library soname: [libx.so.1]\n";
        assert_eq!(needed(dynamic).collect::<Vec<_>>(), ["ld-linux-x86-64.so.2", "libc.so.6"]);
    }

    #[test]
    fn a_name_is_replaced_in_place() {
        let mut data = b"a\0Y/CbCr 4:2:0 (N-C)\0Y/CbCr 4:2:0\0b".to_vec();
        let (then, now) = RENAMED[0];
        replace(&mut data, then, now);
        assert_eq!(data, b"a\0Y/CbCr 4:2:0 (N-C)\0Y/UV 4:2:0\0\0\0b");
        let renamed = data.clone();
        replace(&mut data, then, now);
        assert_eq!(data, renamed);
    }
}
