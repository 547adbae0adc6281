//! The cache folder: what is built or unpacked once stays there, outside of the checkout.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::Error;

/// The cache folder of minivmm: `$MINIVMM_CACHE`, else `$XDG_CACHE_HOME/minivmm`, else `~/.cache/minivmm`.
/// It may not exist yet.
pub fn cache_dir() -> PathBuf {
    choose(|name| env::var_os(name).map(PathBuf::from), env::home_dir())
}

fn choose(variable: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    // The XDG specification has relative paths ignored; an empty variable is as good as none.
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    absolute("MINIVMM_CACHE")
        .or_else(|| absolute("XDG_CACHE_HOME").map(|base| base.join("minivmm")))
        .unwrap_or_else(|| home.unwrap_or_else(env::temp_dir).join(".cache/minivmm"))
}

/// Holds an exclusive lock on a file until it is dropped, so that two processes do not make the same thing.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits until no other process holds the lock; `waiting` is called if one does.
    pub(crate) fn take(path: &Path, waiting: impl FnOnce()) -> Result<Self, Error> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("cannot create the folder", parent))?;
        }
        let file = File::create(path).map_err(Error::io("cannot create the lock file", path))?;
        if file.try_lock().is_err() {
            waiting();
            file.lock().map_err(Error::io("cannot lock", path))?;
        }
        Ok(Self { file, path: path.to_owned() })
    }

    /// A handle for a program to hold while it runs: the lock lasts until the program has ended, too, should we be
    /// killed before. The file is empty, so it serves as standard input.
    pub(crate) fn share(&self) -> Result<Stdio, Error> {
        self.file.try_clone().map(Stdio::from).map_err(Error::io("cannot share the lock", &self.path))
    }
}

/// Makes the folder `path` all at once: `fill` gets an empty folder beside it, which takes the name `path` only
/// after `fill` succeeded. What an interrupted run left behind is swept away. The caller holds the lock.
pub(crate) fn create_whole(path: &Path, fill: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    remove_tree(&partial)?;
    fs::create_dir_all(&partial).map_err(Error::io("cannot create the folder", &partial))?;
    fill(&partial)?;
    remove_tree(path)?;
    fs::rename(&partial, path).map_err(Error::io("cannot rename to its final name", &partial))
}

/// Removes a folder and all that is in it, if it exists.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_absolute_variable_wins() {
        let home = || Some(PathBuf::from("/home/u"));
        let with = |pairs: &'static [(&str, &str)]| {
            choose(
                move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()),
                home(),
            )
        };
        assert_eq!(with(&[]), Path::new("/home/u/.cache/minivmm"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/minivmm"));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/x"), ("MINIVMM_CACHE", "/m")]), Path::new("/m"));
        assert_eq!(
            with(&[("XDG_CACHE_HOME", "x"), ("MINIVMM_CACHE", "")]),
            Path::new("/home/u/.cache/minivmm")
        );
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made");
        let failed = create_whole(&path, |partial| {
            fs::write(partial.join("half"), "").unwrap();
            Err(Error::Command { command: "made to fail".into(), outcome: String::new() })
        });
        assert!(failed.is_err());
        assert!(!path.exists());
        create_whole(&path, |partial| {
            assert!(!partial.join("half").exists());
            fs::write(partial.join("whole"), "").map_err(Error::io("cannot write", partial))
        })
        .unwrap();
        assert!(path.join("whole").exists());
    }
}
