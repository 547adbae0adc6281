//! Which versions of Debian's packages the kernels are made from: chosen once, and recorded in the cache. Fresh lists of packages
//! change nothing; a newer version is chosen only on request.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{error::Error, progress::say};

/// The recorded versions.
pub(crate) struct Versions {
    folder: PathBuf,
    /// Whether the newest versions are chosen, whatever is recorded.
    newest: bool,
}

impl Versions {
    /// The versions recorded below the folder `base`. With `newest` each is chosen anew, and recorded in the old one's place.
    pub(crate) fn new(base: &Path, newest: bool) -> Self {
        Self { folder: base.join("versions"), newest }
    }

    /// The files of packages that are recorded as `name`; `choose` finds them if none are, or if the newest are wanted.
    pub(crate) fn of(
        &self,
        name: &str,
        choose: impl FnOnce(bool) -> Result<Vec<String>, Error>,
    ) -> Result<Vec<String>, Error> {
        let path = self.folder.join(name);
        let recorded = fs::read_to_string(&path).unwrap_or_default();
        let recorded: Vec<String> = recorded.lines().map(ToOwned::to_owned).collect();
        if !self.newest && !recorded.is_empty() {
            return Ok(recorded);
        }
        let chosen = choose(self.newest)?;
        if chosen != recorded {
            if !recorded.is_empty() {
                say(format_args!("image: {} instead of {}", chosen.join(", "), recorded.join(", ")));
            }
            self.record(&path, &chosen)?;
        }
        Ok(chosen)
    }

    /// Whether `file` is recorded.
    pub(crate) fn has(&self, file: &str) -> bool {
        let names = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut texts = names.filter_map(|name| fs::read_to_string(name.path()).ok());
        texts.any(|text| text.lines().any(|line| line == file))
    }

    fn record(&self, path: &Path, files: &[String]) -> Result<(), Error> {
        fs::create_dir_all(&self.folder).map_err(Error::io("cannot create the folder", &self.folder))?;
        let text: String = files.iter().map(|file| format!("{file}\n")).collect();
        // Whole or not at all.
        let partial = self.folder.join("partial");
        fs::write(&partial, text).map_err(Error::io("cannot write", &partial))?;
        fs::rename(&partial, path).map_err(Error::io("cannot rename to its final name", &partial))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(version: &str) -> Result<Vec<String>, Error> {
        Ok(vec![format!("linux-source-6.1_{version}_all")])
    }

    #[test]
    fn a_version_is_chosen_once_and_changes_on_request() {
        let base = tempfile::tempdir().unwrap();
        let versions = Versions::new(base.path(), false);
        let of = |versions: &Versions, version| versions.of("linux-source-6.1", |_| is(version)).unwrap();
        assert_eq!(of(&versions, "6.1.172-1"), is("6.1.172-1").unwrap());
        assert!(versions.has("linux-source-6.1_6.1.172-1_all"));
        // The lists of packages were refreshed meanwhile.
        assert_eq!(of(&versions, "6.1.192-3"), is("6.1.172-1").unwrap());
        assert_eq!(of(&Versions::new(base.path(), true), "6.1.192-3"), is("6.1.192-3").unwrap());
        assert_eq!(of(&versions, "6.1.200-1"), is("6.1.192-3").unwrap());
        assert!(!versions.has("linux-source-6.1_6.1.172-1_all"));
    }

    #[test]
    fn a_choice_that_fails_is_not_recorded() {
        let base = tempfile::tempdir().unwrap();
        let versions = Versions::new(base.path(), false);
        let failed = versions.of("x", |_| Err(Error::CachePath { path: String::new() }));
        assert!(failed.is_err());
        assert_eq!(versions.of("x", |_| is("1")).unwrap(), is("1").unwrap());
    }
}
