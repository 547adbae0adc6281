//! The cache folder, outside the checkout, for everything that is built or unpacked once.

use std::{
    env, fs,
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::error::Error;

/// The mode bit that lets every user write.
const OTHERS_WRITE: u32 = 0o002;

/// The cache folder of minivmm: `$MINIVMM_CACHE`, else `$XDG_CACHE_HOME/minivmm`, else `~/.cache/minivmm`.
/// The folder need not exist.
///
/// # Errors
/// If the user has no home folder, or if another user can put files into the cache folder: kernels and programs come from it.
pub fn cache_dir() -> Result<PathBuf, Error> {
    let folder = choose(|name| env::var_os(name).map(PathBuf::from), env::home_dir()).ok_or(Error::NoHome)?;
    check(&folder, rustix::process::geteuid().as_raw())?;
    Ok(folder)
}

/// Refuses a folder that another user than `user` owns or that every user can write. root may use every user's folder: sudo can keep
/// the user's home, and the lab runs as root.
fn check(folder: &Path, user: u32) -> Result<(), Error> {
    let metadata = match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(Error::io("cannot read the cache folder", folder))?,
    };
    let owner = metadata.uid();
    let reason = if user != 0 && owner != user && owner != 0 {
        format!("belongs to another user, {owner}")
    } else if metadata.mode() & OTHERS_WRITE != 0 {
        "can be written by every user".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::CacheOfOthers { path: folder.display().to_string(), reason })
}

fn choose(variable: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    // By the XDG specification, relative paths are ignored, and an empty variable counts as unset.
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    absolute("MINIVMM_CACHE")
        .or_else(|| absolute("XDG_CACHE_HOME").map(|base| base.join("minivmm")))
        .or_else(|| home.filter(|home| home.is_absolute()).map(|home| home.join(".cache/minivmm")))
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_absolute_variable_wins() {
        let home = || Some(PathBuf::from("/home/u"));
        let with = |pairs: &'static [(&str, &str)]| {
            choose(
                move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()),
                home(),
            )
            .unwrap()
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
    fn without_a_home_there_is_no_cache() {
        assert_eq!(choose(|_| None, None), None);
        assert_eq!(choose(|_| None, Some("".into())), None);
        let cache = choose(|name| (name == "MINIVMM_CACHE").then(|| "/m".into()), None);
        assert_eq!(cache, Some("/m".into()));
        let text = Error::NoHome.to_string();
        assert!(["HOME", "XDG_CACHE_HOME", "MINIVMM_CACHE"].iter().all(|name| text.contains(name)), "{text}");
    }

    #[test]
    fn a_cache_that_others_can_fill_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cache");
        let owner = fs::metadata(dir.path()).unwrap().uid();
        check(&folder, owner).unwrap();
        fs::create_dir(&folder).unwrap();
        let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o775);
        check(&folder, owner).unwrap();
        // The owner may be root, who can write everywhere.
        assert_eq!(check(&folder, owner + 1).is_ok(), owner == 0);
        mode(0o777);
        let error = check(&folder, owner).unwrap_err().to_string();
        assert!(error.contains("can be written by every user"), "{error}");
        mode(0o755);
        if std::os::unix::fs::chown(&folder, Some(owner + 1), None).is_ok() {
            let error = check(&folder, owner + 2).unwrap_err().to_string();
            assert!(error.contains("belongs to another user"), "{error}");
            check(&folder, 0).unwrap();
        }
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
