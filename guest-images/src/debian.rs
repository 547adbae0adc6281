//! Debian packages: which are missing, installing them where we may, and unpacking one without installing it.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    Error, cache,
    cache::{Lock, cache_dir},
    command,
};

/// Those of `packages` that are not installed.
///
/// # Errors
/// If dpkg-query cannot be run: this is not a Debian system.
pub fn missing(packages: &[&str]) -> Result<Vec<String>, Error> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    // It ends with 1 if it does not know one of them, which is an answer, too.
    let output = command::capture(
        Command::new("dpkg-query")
            .args(["--show", "--showformat", "${Package} ${Architecture} ${db:Status-Status}\n"])
            .args(packages),
    )?;
    let known = String::from_utf8_lossy(&output.stdout);
    let installed = |package: &str| {
        known.lines().any(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [name, architecture, "installed"] = fields[..] else { return false };
            package.split_once(':').map_or(package == name, |wanted| wanted == (name, architecture))
        })
    };
    Ok(packages.iter().filter(|package| !installed(package)).map(ToString::to_string).collect())
}

/// Installs those of `packages` that are missing, if we are root or sudo asks for no password; says on stderr which.
///
/// # Errors
/// If packages are missing and we may not install them (the sentence ends with the command to run), or if apt-get
/// fails.
pub fn install(packages: &[&str]) -> Result<(), Error> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let Some(prefix) = privilege() else { return Err(Error::Missing { packages: missing }) };
    eprintln!("Installing Debian packages: {}", missing.join(" "));
    let apt = || {
        let mut apt = apt_get(prefix);
        apt.args(["-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600", "install"])
            .args(&missing);
        command::output(&mut apt)
    };
    // Lists that are absent or old make it fail; with fresh ones it deserves a second try.
    apt().or_else(|_| update(prefix).and_then(|()| apt())).map(drop)
}

/// The version of `package` that apt would download.
///
/// # Errors
/// If apt knows no such package.
pub fn version(package: &str) -> Result<String, Error> {
    Ok(version_of(&candidates(&[package])?[0]))
}

/// The version in a file name NAME_VERSION_ARCH, where its colon is escaped.
fn version_of(file: &str) -> String {
    file.split('_').nth(1).unwrap_or_default().replace("%3a", ":")
}

/// The folder into which the current version of `package` is unpacked; it is downloaded first if need be. Works
/// for any user and changes nothing outside of the cache.
///
/// # Errors
/// If apt knows no such package or cannot download it, or if the cache cannot be written.
pub fn unpacked(package: &str) -> Result<PathBuf, Error> {
    unpack(package, &candidates(&[package])?[0])
}

/// Unpacks the current version of `package`, whose file is called `file`.deb, into a folder of that name.
pub(crate) fn unpack(package: &str, file: &str) -> Result<PathBuf, Error> {
    let base = cache_dir().join("debian");
    let folder = base.join(file);
    if folder.is_dir() {
        return Ok(folder);
    }
    let _lock = Lock::take(&base.join(format!("{file}.lock")), || ())?;
    if folder.is_dir() {
        return Ok(folder);
    }
    cache::create_whole(&folder, |partial| {
        // That version and no other: the folder has its name. apt checks the file's hash against its signed lists.
        let exact = format!("{package}={}", version_of(file));
        let download = || command::output(apt_get(&[]).current_dir(partial).args(["download", &exact]));
        // Old lists name files that are gone; with fresh ones it deserves a second try.
        download().or_else(|error| match privilege() {
            Some(prefix) => update(prefix).and_then(|()| download()),
            None => Err(error),
        })?;
        let deb = partial.join(format!("{file}.deb"));
        command::output(Command::new("dpkg-deb").arg("--extract").args([&deb, partial]))?;
        fs::remove_file(&deb).map_err(Error::io("cannot remove", &deb))
    })?;
    Ok(folder)
}

/// The names, without `.deb`, of the files that apt would download for `packages`, in their order. Fetches apt's
/// lists if it does not know a package and we may.
pub(crate) fn candidates(packages: &[&str]) -> Result<Vec<String>, Error> {
    find_candidates(packages).or_else(|error| {
        let Some(prefix) = privilege() else { return Err(error) };
        eprintln!("Fetching the lists of Debian packages");
        update(prefix)?;
        find_candidates(packages)
    })
}

fn find_candidates(packages: &[&str]) -> Result<Vec<String>, Error> {
    let output = command::capture(apt_get(&[]).args(["download", "--print-uris"]).args(packages))?;
    pick_candidates(&String::from_utf8_lossy(&output.stdout), packages)
}

/// Picks the files of `packages` from lines of the form `'URL' FILE.deb SIZE HASH`, which come in any order.
fn pick_candidates(uris: &str, packages: &[&str]) -> Result<Vec<String>, Error> {
    let files: Vec<&str> =
        uris.lines().filter_map(|line| line.split(' ').nth(1)?.strip_suffix(".deb")).collect();
    packages
        .iter()
        .map(|package| {
            let (name, architecture) = package.split_once(':').unzip();
            let name = name.unwrap_or(package);
            files
                .iter()
                .find(|file| {
                    let mut parts = file.split('_');
                    parts.next() == Some(name)
                        && architecture.is_none_or(|wanted| parts.nth(1) == Some(wanted))
                })
                .map(ToString::to_string)
                .ok_or_else(|| Error::Unknown { package: (*package).into() })
        })
        .collect()
}

/// The command that gives us the right to install, as the words that stand before it; none if nothing does.
fn privilege() -> Option<&'static [&'static str]> {
    if is_root() {
        return Some(&[]);
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).output();
    sudo.is_ok_and(|output| output.status.success()).then_some(&["sudo", "-n"])
}

fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

fn update(prefix: &[&str]) -> Result<(), Error> {
    command::output(apt_get(prefix).arg("update")).map(drop)
}

/// apt-get that asks no questions, run through the words `prefix`.
fn apt_get(prefix: &[&str]) -> Command {
    let environment = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"];
    let mut words = prefix.iter().chain(&environment);
    let mut command = Command::new(words.next().unwrap_or(&"env"));
    // As root, apt would download as the user _apt, who may not write into our cache, and warn of it.
    command.args(words).args(["apt-get", "-q", "-o", "APT::Sandbox::User=root"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_not_installed_is_missing() {
        let missing = missing(&["dpkg", "no-such-package-anywhere", "apt:no-such-architecture"]).unwrap();
        assert_eq!(missing, ["no-such-package-anywhere", "apt:no-such-architecture"]);
    }

    #[test]
    fn files_are_found_whatever_their_order() {
        let uris = "'http://h/b_1.deb' b_1%3a1.35-4+b1_amd64.deb 9 SHA256:0\n\
                    'http://h/a_2.deb' a_2_arm64.deb 9 SHA256:0\n\
                    'http://h/a_3.deb' a_3_amd64.deb 9 SHA256:0\n";
        let files = pick_candidates(uris, &["a:amd64", "b", "a:arm64"]).unwrap();
        assert_eq!(files, ["a_3_amd64", "b_1%3a1.35-4+b1_amd64", "a_2_arm64"]);
        assert_eq!(version_of(&files[1]), "1:1.35-4+b1");
        let error = pick_candidates(uris, &["a", "c"]).unwrap_err().to_string();
        assert!(error.contains("package c;"), "{error}");
    }
}
