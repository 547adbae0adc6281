//! Packs the initramfs: init, the camera's driver, and programs from Debian packages with the libraries they need.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use crate::{
    Error, SOURCES,
    arch::Arch,
    command,
    debian::Archive,
    driver::{Driver, MODULE},
    kernel::Kernel,
    progress::Step,
    recipe::Recipe,
};

/// The Debian packages with the programs and libraries.
const PACKAGES: [&str; 10] = [
    "busybox-static",
    "libc6",
    "libgcc-s1",
    "libjpeg62-turbo",
    "libstdc++6",
    "libudev1",
    "libv4l-0",
    "libv4lconvert0",
    "v4l-utils",
    "yavta",
];

/// The programs, as they lie in their packages and in the initramfs.
const PROGRAMS: [&str; 5] =
    ["bin/busybox", "usr/bin/media-ctl", "usr/bin/v4l2-compliance", "usr/bin/v4l2-ctl", "usr/bin/yavta"];

/// The guest's first program, in this crate's folder.
const INIT: &str = "init";

/// What is neither a program nor a library: folders, links and devices, in the language of gen_init_cpio.
const SKELETON: &str = "\
nod /dev/console 600 0 0 c 5 1
dir /proc 755 0 0
dir /root 700 0 0
dir /run 755 0 0
dir /sys 755 0 0
dir /tmp 1777 0 0
dir /sbin 755 0 0
dir /usr/sbin 755 0 0
slink /bin/sh busybox 777 0 0
";

/// Small files: users for `ls -l` and `id`.
const FILES: [(&str, &str); 2] =
    [("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("etc/group", "root:x:0:\n")];

/// An initramfs to be packed.
pub(crate) struct Initramfs<'a> {
    arch: &'a Arch,
    driver: &'a Driver<'a>,
    archive: Archive,
    /// The file names of [`PACKAGES`], in their order.
    packages: Vec<String>,
    /// Its name: changes with everything in it.
    pub(crate) name: String,
}

impl<'a> Initramfs<'a> {
    /// The initramfs for `arch` as the checkout wants it. Packs nothing yet.
    pub(crate) fn new(arch: &'a Arch, driver: &'a Driver<'a>) -> Result<Self, Error> {
        let archive = Archive::of(arch.debian);
        let packages = archive.candidates(&PACKAGES)?;
        let mut recipe = Recipe::new("initramfs")
            .with(include_str!("initramfs.rs"))
            .with(&driver.name)
            .with(SKELETON)
            .with(PROGRAMS.join(" "));
        for (name, content) in FILES {
            recipe = recipe.with(name).with(content);
        }
        recipe = recipe.with_file(&Path::new(SOURCES).join(INIT))?;
        for package in &packages {
            recipe = recipe.with(package);
        }
        Ok(Self { arch, driver, archive, packages, name: recipe.name() })
    }

    /// Packs it into the file `archive`, an uncompressed cpio; `work` is a folder for what is only needed meanwhile.
    pub(crate) fn build(&self, kernel: &Kernel, archive: &Path, work: &Path) -> Result<(), Error> {
        let step = Step::begin("initramfs", 0);
        let mut packages = Vec::new();
        for file in &self.packages {
            step.advance(file);
            packages.push(self.archive.unpack(file)?);
        }
        let mut content = Content::new(work);
        for (name, text) in FILES {
            let path = work.join(name.replace('/', "-"));
            fs::write(&path, text).map_err(Error::io("cannot write", &path))?;
            content.add(name, &path, "644")?;
        }
        content.add("init", &Path::new(SOURCES).join(INIT), "755")?;
        content.add(&format!("lib/modules/{MODULE}"), &self.driver.folder.join(MODULE), "644")?;
        let mut elves = Vec::new();
        for program in PROGRAMS {
            let path = find(&packages, program).ok_or_else(|| Error::NotInPackages {
                file: program.into(),
                needed_by: "the initramfs".into(),
                packages: PACKAGES.join(" "),
            })?;
            content.add(program, &path, "755")?;
            elves.push(path);
        }
        for (name, path) in self.libraries(&packages, elves)? {
            content.add(&format!("lib/{name}"), &path, "755")?;
        }
        let interpreter = self.arch.interpreter.trim_start_matches('/');
        let loader = interpreter.rsplit('/').next().unwrap_or_default();
        if interpreter != format!("lib/{loader}") {
            content.link(interpreter, &format!("/lib/{loader}"));
        }
        content.pack(&kernel.folder.join("gen_init_cpio"), archive)?;
        step.done();
        Ok(())
    }

    /// All libraries that the programs `elves` need, and those that these need in turn: name and path. The program
    /// interpreter is one of them.
    fn libraries(
        &self,
        packages: &[PathBuf],
        mut elves: Vec<PathBuf>,
    ) -> Result<BTreeMap<String, PathBuf>, Error> {
        let folders: Vec<PathBuf> = packages.iter().flat_map(|package| library_folders(package)).collect();
        let mut libraries = BTreeMap::new();
        while let Some(elf) = elves.pop() {
            let mut readelf = Command::new("readelf");
            let dynamic =
                command::output(readelf.args(["--dynamic", "--program-headers", "--wide"]).arg(&elf))?;
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
}

/// What goes into the archive.
struct Content<'a> {
    /// Copies of all files; gen_init_cpio takes their times as they are.
    work: &'a Path,
    /// By path, so that each folder comes before what is in it.
    entries: BTreeMap<String, String>,
}

impl<'a> Content<'a> {
    fn new(work: &'a Path) -> Self {
        let mut content = Self { work, entries: BTreeMap::new() };
        for line in SKELETON.lines() {
            let path = line.split(' ').nth(1).unwrap_or_default();
            content.insert(path.trim_start_matches('/'), line.to_owned());
        }
        content
    }

    /// The file at `source` becomes `/path`.
    fn add(&mut self, path: &str, source: &Path, mode: &str) -> Result<(), Error> {
        let name = format!("entry-{}", self.entries.len());
        let copy = self.work.join(&name);
        fs::copy(source, &copy).map_err(Error::io("cannot copy", source))?;
        // Times of this machine would make each build's bytes different.
        fs::File::options()
            .append(true)
            .open(&copy)
            .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH))
            .map_err(Error::io("cannot set the time of", &copy))?;
        self.insert(path, format!("file /{path} {name} {mode} 0 0"));
        Ok(())
    }

    /// `/path` becomes a symbolic link.
    fn link(&mut self, path: &str, target: &str) {
        self.insert(path, format!("slink /{path} {target} 777 0 0"));
    }

    fn insert(&mut self, path: &str, line: String) {
        for (slash, _) in path.match_indices('/') {
            let folder = &path[..slash];
            self.entries.entry(folder.to_owned()).or_insert_with(|| format!("dir /{folder} 755 0 0"));
        }
        self.entries.insert(path.to_owned(), line);
    }

    fn pack(&self, gen_init_cpio: &Path, archive: &Path) -> Result<(), Error> {
        let list = self.work.join("list");
        let lines: String = self.entries.values().map(|line| format!("{line}\n")).collect();
        fs::write(&list, lines).map_err(Error::io("cannot write", &list))?;
        let out = fs::File::create(archive).map_err(Error::io("cannot write", archive))?;
        let mut pack = Command::new(gen_init_cpio);
        pack.current_dir(self.work).args(["-t", "0", "list"]).stdin(Stdio::null()).stdout(out);
        command::output(&mut pack).map(drop)
    }
}

/// The first of `folders` that has the file `path`, as the path of that file.
fn find(folders: &[PathBuf], path: &str) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(path)).find(|path| path.is_file())
}

/// Where Debian packages keep shared libraries: `lib/TRIPLET` and `usr/lib/TRIPLET`.
fn library_folders(package: &Path) -> Vec<PathBuf> {
    ["lib", "usr/lib"]
        .iter()
        .filter_map(|lib| fs::read_dir(package.join(lib)).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        .collect()
}

/// The libraries that a program asks for by what readelf says of it, and its interpreter.
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
    fn folders_come_before_what_is_in_them() {
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("source");
        fs::write(&source, "").unwrap();
        let mut content = Content::new(work.path());
        content.add("a/b/c", &source, "644").unwrap();
        let lines: Vec<&String> = content.entries.values().collect();
        let place = |start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap();
        assert!(place("dir /a ") < place("dir /a/b ") && place("dir /a/b ") < place("file /a/b/c "));
        assert!(place("dir /dev ") < place("nod /dev/console "));
        assert_eq!(lines[place("dir /root ")], "dir /root 700 0 0");
    }
}
