//! The cache folder, outside the checkout, for everything that is built or unpacked once.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::Error;

/// The cache folder of minivmm: `$MINIVMM_CACHE`, else `$XDG_CACHE_HOME/minivmm`, else `~/.cache/minivmm`.
/// The folder need not exist.
pub fn cache_dir() -> PathBuf {
    choose(|name| env::var_os(name).map(PathBuf::from), env::home_dir())
}

fn choose(variable: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    // By the XDG specification, relative paths are ignored, and an empty variable counts as unset.
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    absolute("MINIVMM_CACHE")
        .or_else(|| absolute("XDG_CACHE_HOME").map(|base| base.join("minivmm")))
        .unwrap_or_else(|| home.unwrap_or_else(env::temp_dir).join(".cache/minivmm"))
}

/// An exclusive lock on a file, held until it is dropped. It keeps two processes from building the same thing.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock. If another process holds it, calls `waiting` and waits.
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

    /// A handle for a child process. If this process is killed, the lock lasts until the child has ended. The file is empty, so
    /// it can serve as standard input.
    pub(crate) fn share(&self) -> Result<Stdio, Error> {
        self.file.try_clone().map(Stdio::from).map_err(Error::io("cannot share the lock", &self.path))
    }
}

/// Creates the folder `path` atomically: `fill` fills an empty folder beside it, which is renamed to `path`
/// if `fill` succeeds. Leftovers of an interrupted run are removed. The caller holds the lock.
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

/// Removes a folder with its content, if it exists.
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
