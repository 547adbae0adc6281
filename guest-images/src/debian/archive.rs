//! The archive of Debian packages for one architecture. It unpacks packages without installing them.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use super::apt::{apt, privilege};
use crate::{
    arch::Arch,
    cache::{self, Lock, cache_dir},
    command,
    error::Error,
    progress::say,
};

/// The keys of Debian's archive, from the package debian-archive-keyring, which every Debian system has.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The packages of one architecture. For this machine's architecture it uses the machine's apt lists. For another architecture or
/// suite it uses lists in the cache, and does not change this machine's.
#[derive(Debug, Clone)]
pub struct Archive {
    arch: String,
    /// The suite of Debian. None for the sources of this machine.
    suite: Option<&'static str>,
    /// Whether apt uses lists in the cache instead of this machine's.
    apart: bool,
    /// The name of apt's folder in the cache.
    folder: String,
}

impl Archive {
    /// The archive of the packages for `arch`, for example "arm64", in Debian's naming.
    pub fn of(arch: &str) -> Self {
        Self {
            arch: arch.into(),
            suite: None,
            apart: arch != Arch::host().debian,
            folder: format!("apt-{arch}"),
        }
    }

    /// The archive of the packages for `arch` in a suite of Debian, for example "sid".
    pub(crate) fn of_suite(arch: &str, suite: &'static str) -> Self {
        let folder = format!("apt-{suite}-{arch}");
        Self { arch: arch.into(), suite: Some(suite), apart: true, folder }
    }

    /// The archive of this machine's packages.
    pub(super) fn own() -> Self {
        Self::of(Arch::host().debian)
    }

    /// The version of `package` that apt would download.
    ///
    /// # Errors
    /// If apt knows no such package.
    pub fn version(&self, package: &str) -> Result<String, Error> {
        Ok(split(&self.candidates(&[package])?[0]).1)
    }

    /// The folder of the unpacked `package`: the current version, or VERSION for NAME=VERSION. The package is
    /// downloaded if necessary. It works for any user, and changes only the cache.
    ///
    /// # Errors
    /// If apt knows no such package or cannot download it, or if the cache cannot be written.
    pub fn unpacked(&self, package: &str) -> Result<PathBuf, Error> {
        self.unpack(&self.candidates(&[package])?[0])
    }

    /// The first package that `package` depends on. A metapackage stands for it: linux-image-arm64 depends on the current
    /// kernel.
    ///
    /// # Errors
    /// If apt knows no such package, or if it has no dependency.
    pub fn first_dependency(&self, package: &str) -> Result<String, Error> {
        self.dependency(package, "")
    }

    /// The first package that `package` depends on whose name begins with `prefix`.
    ///
    /// # Errors
    /// If apt knows no such package, or if it has no such dependency.
    pub(crate) fn dependency(&self, package: &str, prefix: &str) -> Result<String, Error> {
        // Fetches the lists if they are missing.
        self.candidates(&[package])?;
        let shown =
            command::output(self.apt(&[], "apt-cache")?.args(["show", "--no-all-versions", package]))?;
        dependency(&shown, prefix)
            .map(ToOwned::to_owned)
            .ok_or_else(|| self.unknown(&format!("{prefix}* that {package} depends on")))
    }

    /// The names, without `.deb`, of the files that apt would download for `packages`, in the same order. Fetches new
    /// lists if apt does not know a package and this process may fetch them.
    pub(crate) fn candidates(&self, packages: &[&str]) -> Result<Vec<String>, Error> {
        self.find_candidates(packages).or_else(|error| {
            self.update(error)?;
            self.find_candidates(packages)
        })
    }

    fn find_candidates(&self, packages: &[&str]) -> Result<Vec<String>, Error> {
        self.prepare()?;
        let mut download = self.apt(&[], "apt-get")?;
        let output = command::capture(download.args(["download", "--print-uris"]).args(packages))?;
        pick_candidates(&String::from_utf8_lossy(&output.stdout), packages)
            .map_err(|package| self.unknown(package))
    }

    fn unknown(&self, package: &str) -> Error {
        match self.suite {
            Some(suite) => Error::NotInSuite { package: package.into(), suite },
            None => Error::Unknown { package: package.into(), arch: self.arch.clone() },
        }
    }

    /// Unpacks the file `file`.deb into a folder of that name.
    pub(crate) fn unpack(&self, file: &str) -> Result<PathBuf, Error> {
        let base = base()?;
        let folder = base.join(file);
        if folder.is_dir() {
            return Ok(folder);
        }
        let _lock = Lock::take(&base.join(format!("{file}.lock")), || ())?;
        if folder.is_dir() {
            return Ok(folder);
        }
        cache::create_whole(&folder, |partial| {
            // Exactly this version, because the folder has its name. apt verifies the file's hash with its signed lists.
            let (name, version) = split(file);
            let download = || {
                let mut apt = self.apt(&[], "apt-get")?;
                command::output(apt.current_dir(partial).arg("download").arg(format!("{name}={version}")))
            };
            // Old lists name files that were removed or moved.
            download().or_else(|error| {
                self.update(error)?;
                download().map_err(|error| Error::Outdated { file: file.into(), error: Box::new(error) })
            })?;
            let deb = partial.join(format!("{file}.deb"));
            command::output(Command::new("dpkg-deb").arg("--extract").args([&deb, partial]))?;
            fs::remove_file(&deb).map_err(Error::io("cannot remove", &deb))
        })?;
        Ok(folder)
    }

    /// Fetches new lists because of `error`. Returns `error` if this process may not fetch them.
    fn update(&self, error: Error) -> Result<(), Error> {
        if self.apart || privilege().is_some() { self.refresh() } else { Err(error) }
    }

    /// Fetches fresh lists, if we may.
    pub(crate) fn refresh(&self) -> Result<(), Error> {
        let (prefix, _lock) = if self.apart {
            let lock = Lock::take(&self.folder()?.with_extension("lock"), || ())?;
            self.prepare()?;
            self.create_folder("lists/partial")?;
            self.create_folder("cache/archives/partial")?;
            let status = self.folder()?.join("status");
            File::create(&status).map_err(Error::io("cannot write", &status))?;
            (&[][..], Some(lock))
        } else {
            let Some(prefix) = privilege() else { return Ok(()) };
            (prefix, None)
        };
        let of = self.suite.map(|suite| format!(" in {suite}")).unwrap_or_default();
        say(format_args!("Fetching the lists of Debian packages for {}{of}", self.arch));
        command::output(self.apt(prefix, "apt-get")?.arg("update")).map(drop)
    }

    /// Creates what apt expects: a folder for its cache and, for a suite, the list of sources.
    fn prepare(&self) -> Result<(), Error> {
        self.create_folder("cache")?;
        let Some(suite) = self.suite else { return Ok(()) };
        let (path, list) = (self.sources()?, sources(suite));
        // The file is not rewritten, because another process may read it.
        if fs::read_to_string(&path).is_ok_and(|there| there == list) {
            return Ok(());
        }
        fs::write(&path, list).map_err(Error::io("cannot write", &path))
    }

    /// The file with the list of sources of the suite.
    fn sources(&self) -> Result<PathBuf, Error> {
        Ok(self.folder()?.join("suite.sources"))
    }

    /// The folder of apt in the cache.
    fn folder(&self) -> Result<PathBuf, Error> {
        Ok(base()?.join(&self.folder))
    }

    fn create_folder(&self, name: &str) -> Result<(), Error> {
        let folder = self.folder()?.join(name);
        fs::create_dir_all(&folder).map_err(Error::io("cannot create the folder", &folder))
    }

    /// apt's `program` for this archive, run through the words `prefix`.
    fn apt(&self, prefix: &[&str], program: &str) -> Result<Command, Error> {
        let mut apt = apt(prefix, program);
        let mut set = |option: &str, value: &str| {
            apt.arg("-o").arg(format!("{option}={value}"));
        };
        let folder = self.folder()?;
        let folder = folder.display();
        // Without a cache each call reads all lists. Not every user can write to the machine's cache, and Debian's containers
        // disable it.
        set("Dir::Cache", &format!("{folder}/cache"));
        set("Dir::Cache::pkgcache", "pkgcache.bin");
        if self.apart {
            set("APT::Architecture", &self.arch);
            set("APT::Architectures", &self.arch);
            set("Dir::State", &format!("{folder}"));
            // No package of this archive is installed.
            set("Dir::State::status", &format!("{folder}/status"));
            set("Acquire::Languages", "none");
        }
        if self.suite.is_some() {
            set("Dir::Etc::sourcelist", &self.sources()?.display().to_string());
            set("Dir::Etc::sourceparts", "/dev/null");
        }
        Ok(apt)
    }
}

/// The folder of Debian's packages in the cache.
fn base() -> Result<PathBuf, Error> {
    Ok(cache_dir()?.join("debian"))
}

/// The list of sources of a suite, in apt's format deb822. It contains only package indices.
fn sources(suite: &str) -> String {
    format!(
        "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: {suite}\nComponents: main\nTargets: Packages\n\
         Signed-By: {KEYRING}\n"
    )
}

/// Name and version in a file name NAME_VERSION_ARCH, where the version's colon is escaped.
fn split(file: &str) -> (&str, String) {
    let mut parts = file.split('_');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default().replace("%3a", ":"))
}

/// Picks the files of `packages` from lines of the form `'URL' FILE.deb SIZE HASH` in any order. The
/// error is the name of a package without a line.
fn pick_candidates<'a>(uris: &str, packages: &[&'a str]) -> Result<Vec<String>, &'a str> {
    let files: Vec<&str> =
        uris.lines().filter_map(|line| line.split(' ').nth(1)?.strip_suffix(".deb")).collect();
    packages
        .iter()
        .map(|package| {
            let (name, version) = package.split_once('=').unzip();
            let name = name.unwrap_or(package);
            let is_it = |file: &&&str| {
                let (its_name, its_version) = split(file);
                its_name == name && version.is_none_or(|wanted| its_version == wanted)
            };
            files.iter().find(is_it).map(ToString::to_string).ok_or(*package)
        })
        .collect()
}

/// The first name with `prefix` in the field Depends of the output of apt-cache.
fn dependency<'a>(shown: &'a str, prefix: &str) -> Option<&'a str> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let names = depends.split(", ").filter_map(|entry| entry.split([' ', ':']).next());
    names.into_iter().find(|name| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_whatever_their_order() {
        let uris = "'http://h/b_1.deb' b_1%3a1.35-4+b1_arm64.deb 9 SHA256:0\n\
                    'http://h/a_2.deb' a_2_arm64.deb 9 SHA256:0\n\
                    'http://h/a_3.deb' a_3_all.deb 9 SHA256:0\n";
        let files = pick_candidates(uris, &["a=3", "b", "a=2", "a"]).unwrap();
        assert_eq!(files, ["a_3_all", "b_1%3a1.35-4+b1_arm64", "a_2_arm64", "a_2_arm64"]);
        assert_eq!(split(&files[1]), ("b", "1:1.35-4+b1".into()));
        assert_eq!(pick_candidates(uris, &["a", "c"]), Err("c"));
        assert_eq!(pick_candidates(uris, &["a=4"]), Err("a=4"));
    }

    #[test]
    fn a_package_stands_for_its_first_dependency() {
        let shown = "Package: linux-image-arm64\nDepends: linux-image-6.1.0-56-arm64 (= 6.1.192-2), a\n";
        assert_eq!(dependency(shown, ""), Some("linux-image-6.1.0-56-arm64"));
        assert_eq!(dependency("Package: a\n", ""), None);
        let split = "Depends: linux-base-arm64 (= 7.2.13-1), linux-image-7.2.13+deb14-arm64 (= 7.2.13-1)\n";
        assert_eq!(dependency(split, "linux-image-"), Some("linux-image-7.2.13+deb14-arm64"));
        assert_eq!(dependency(split, "linux-kbuild-"), None);
    }

    /// The configuration as apt reads it. The archive of another architecture shares only the sources with this machine's, and
    /// the archive of a suite shares nothing.
    #[test]
    fn other_archives_are_apart() {
        let other = Arch::ALL.into_iter().find(|arch| arch.name != Arch::host().name).unwrap();
        let told = |archive: Archive| {
            let dump = command::output(archive.apt(&[], "apt-config").unwrap().arg("dump")).unwrap();
            let value = move |key: &str| {
                let line = dump.lines().rev().find(|line| line.starts_with(&format!("{key} \"")));
                line.unwrap().split('"').nth(1).unwrap().to_owned()
            };
            let state = ["APT::Architecture", "Dir::State", "Dir::State::status", "Dir::Cache"];
            [&state[..], &["Dir::Etc", "Dir::Etc::sourcelist", "Dir::Etc::sourceparts"]]
                .concat()
                .into_iter()
                .map(value)
                .collect::<Vec<_>>()
        };
        let host = Arch::host().debian;
        let (own, foreign) = (told(Archive::of(host)), told(Archive::of(other.debian)));
        let suite = told(Archive::of_suite(host, "sid"));
        assert_eq!([&own[0], &foreign[0], &suite[0]], [host, other.debian, host]);
        assert_eq!(own[4..], foreign[4..]);
        let cache = cache_dir().unwrap();
        let cache = cache.to_str().unwrap();
        assert!(!own[1].starts_with(cache), "{}", own[1]);
        for place in foreign[1..4].iter().chain(&suite[1..4]).chain([&suite[5]]) {
            assert!(place.starts_with(cache), "{place}");
        }
        assert_eq!(suite[6], "/dev/null");
        assert_ne!(suite[1], told(Archive::of_suite(host, "trixie"))[1]);
    }
}
