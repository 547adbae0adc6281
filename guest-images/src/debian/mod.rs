//! Debian packages: finds missing packages, installs them if this process may, and unpacks packages without installing them.

use std::{path::PathBuf, process::Command};

use crate::{command, error::Error, progress::say};

mod apt;
mod archive;

use apt::apt;
pub(crate) use apt::privilege;
pub use archive::Archive;

/// The `packages` that are not installed.
///
/// # Errors
/// If dpkg-query cannot be run: this is not a Debian system.
pub fn missing(packages: &[&str]) -> Result<Vec<String>, Error> {
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    // Its exit status is 1 if it does not know a package. The output is valid nevertheless.
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

/// Installs the missing `packages`, as root or with passwordless sudo, and names them on stderr.
///
/// # Errors
/// If packages are missing and this process may not install them (the sentence ends with the command to run), or if apt-get
/// fails.
pub fn install(packages: &[&str]) -> Result<(), Error> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let Some(prefix) = privilege() else { return Err(Error::Missing { packages: missing }) };
    say(format_args!("Installing Debian packages: {}", missing.join(" ")));
    // It fails if lists are missing or old. It is repeated with new lists.
    apt_install(prefix, &missing).or_else(|_| update(prefix).and_then(|()| apt_install(prefix, &missing)))
}

/// Fetches new package lists, if this process may. Images depend on the lists, so a caller that builds several things does this
/// first. Otherwise a later fetch would cause rebuilds.
///
/// # Errors
/// If apt-get fails.
pub fn refresh() -> Result<(), Error> {
    privilege().map_or(Ok(()), update)
}

/// Ensures that the installed `packages`, all from one source package, have at least the version `least`. If they are
/// older, installs the newest in Debian, as [`install`] does.
///
/// # Errors
/// If there is no such version, or if this process may not install it.
pub fn at_least(packages: &[&str], least: &str) -> Result<(), Error> {
    let is_recent = || -> Result<bool, Error> {
        let version = installed_version(packages[0])?;
        let compared =
            command::capture(Command::new("dpkg").args(["--compare-versions", &version, "ge", least]))?;
        Ok(compared.status.success())
    };
    if is_recent()? {
        return Ok(());
    }
    let packages: Vec<String> = packages.iter().map(ToString::to_string).collect();
    let old = || Error::Old { packages: packages.clone(), least: least.to_owned() };
    let prefix = privilege().ok_or_else(old)?;
    say(format_args!("Installing newer Debian packages: {}", packages.join(" ")));
    update(prefix)?;
    apt_install(prefix, &packages)?;
    if is_recent()? { Ok(()) } else { Err(old()) }
}

/// The version of the installed `package`.
///
/// # Errors
/// If it is not installed.
pub fn installed_version(package: &str) -> Result<String, Error> {
    command::output(Command::new("dpkg-query").args(["--show", "--showformat", "${Version}", package]))
}

fn apt_install(prefix: &[&str], packages: &[String]) -> Result<(), Error> {
    let mut install = apt(prefix, "apt-get");
    install.args(["-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600", "install"]);
    command::output(install.args(packages)).map(drop)
}

fn update(prefix: &[&str]) -> Result<(), Error> {
    command::output(apt(prefix, "apt-get").arg("update")).map(drop)
}

/// The version of this machine's `package` that apt would download: [`Archive::version`].
///
/// # Errors
/// If apt knows no such package.
pub fn version(package: &str) -> Result<String, Error> {
    Archive::own().version(package)
}

/// The folder into which this machine's `package` is unpacked: [`Archive::unpacked`].
///
/// # Errors
/// If apt knows no such package or cannot download it, or if the cache cannot be written.
pub fn unpacked(package: &str) -> Result<PathBuf, Error> {
    Archive::own().unpacked(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_not_installed_is_missing() {
        let missing = missing(&["dpkg", "no-such-package-anywhere", "apt:no-such-architecture"]).unwrap();
        assert_eq!(missing, ["no-such-package-anywhere", "apt:no-such-architecture"]);
    }
}
