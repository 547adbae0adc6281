//! A file that appears when it is whole. Until then it has no name, so a killed process leaves nothing.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, fchown, fstat, linkat, open, openat, renameat, unlinkat},
    io::{Errno, retry_on_intr},
    process::geteuid,
};

/// The most temporary names that are tried.
const TRIES: u32 = 1000;

/// A file on its way. Dropping it removes it.
#[derive(Debug)]
pub struct WholeFile {
    folder: OwnedFd,
    file: File,
    /// The temporary name, if the file system has no files without a name (`O_TMPFILE`).
    temporary: Option<String>,
}

impl WholeFile {
    /// Creates a file with `mode` that is to appear in `folder`.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn create(folder: OwnedFd, mode: u32) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::TMPFILE;
        match retry_on_intr(|| openat(&folder, ".", flags, Mode::from_raw_mode(mode))) {
            Ok(file) => Ok(Self { folder, file: file.into(), temporary: None }),
            // A file system, or a kernel, without such files (open(2), O_TMPFILE).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => Self::with_temporary_name(folder, mode),
            Err(errno) => Err(errno.into()),
        }
    }

    /// As [`create`](Self::create), on a file system whose files all have names.
    fn with_temporary_name(folder: OwnedFd, mode: u32) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(mode);
        let (file, name) = with_new_name(|name| retry_on_intr(|| openat(&folder, name, flags, mode)))?;
        Ok(Self { folder, file: file.into(), temporary: Some(name) })
    }

    /// Creates a file with `mode` that is to appear beside `path`.
    ///
    /// # Errors
    /// If the folder of `path` does not exist or cannot be written.
    pub fn beside(path: &Path, mode: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self::create(retry_on_intr(|| open(folder_of(path), flags, Mode::empty()))?, mode)
    }

    /// As root, gives the file to the owner of its folder, whose user the thread that finishes it may have by then. If the host
    /// refuses that, it refuses the change of user too.
    pub fn give_to_owner_of_folder(&self) {
        if geteuid().is_root()
            && let Ok(folder) = fstat(&self.folder)
        {
            let (user, group) = (Uid::from_raw(folder.st_uid), Gid::from_raw(folder.st_gid));
            let _ = fchown(&self.file, Some(user), Some(group));
        }
    }

    /// The file, for those who write it not from its start to its end.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its `name` in the folder. It replaces a file of that name, and also a link, which is not followed.
    ///
    /// # Errors
    /// If the folder cannot be written, or has a folder of that name.
    pub fn finish(mut self, name: &OsStr) -> io::Result<()> {
        let Self { folder, file, temporary } = &mut self;
        let temporary = if let Some(temporary) = temporary {
            temporary
        } else {
            let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
            let link = |name: &OsStr| linkat(CWD, &unnamed, &*folder, name, AtFlags::SYMLINK_FOLLOW);
            match link(name) {
                Err(Errno::EXIST) => {}
                linked => return Ok(linked?),
            }
            let ((), name) = with_new_name(|name| link(OsStr::new(name)))?;
            temporary.insert(name)
        };
        renameat(&*folder, temporary.as_str(), &*folder, name)?;
        self.temporary = None;
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            let _ = unlinkat(&self.folder, name.as_str(), AtFlags::empty());
        }
    }
}

/// The folder of the file at `path`.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Calls `make` with temporary names until one is new. Returns what it made, and the name.
fn with_new_name<T>(make: impl Fn(&str) -> rustix::io::Result<T>) -> io::Result<(T, String)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..TRIES {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".minivmm-partial-{}-{count}", process::id());
        match make(&name) {
            Err(Errno::EXIST) => {}
            made => return Ok((made?, name)),
        }
    }
    Err(Errno::EXIST.into())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_at_the_end_and_replaces_a_file_or_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        let other = folder.path().join("other");
        fs::write(&other, "precious").unwrap();
        for before in ["nothing", "a file", "a link"] {
            let mut file = WholeFile::beside(&path, 0o640).unwrap();
            file.write_all(before.as_bytes()).unwrap();
            // A process that is killed here leaves no new name, if the file system has files without one.
            let mut expected = if before == "nothing" { vec!["other"] } else { vec!["other", "report"] };
            expected.splice(0..0, file.temporary.as_deref());
            assert_eq!(names(folder.path()), expected);
            file.finish(OsStr::new("report")).unwrap();
            assert_eq!(names(folder.path()), ["other", "report"]);
            assert_eq!(fs::read_to_string(&path).unwrap(), before);
            assert!(!path.is_symlink());
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7111, 0);
            if before == "a file" {
                fs::remove_file(&path).unwrap();
                symlink("other", &path).unwrap();
            }
        }
        assert_eq!(fs::read_to_string(other).unwrap(), "precious");
    }

    #[test]
    fn a_file_that_is_dropped_or_refused_is_not_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        let create = || WholeFile::beside(&path, 0o600).unwrap();
        drop(create());
        assert!(create().finish(OsStr::new("taken")).is_err());
        // As on a file system that needs a temporary name.
        let folder_file = fs::File::open(folder.path()).unwrap();
        let named = WholeFile::with_temporary_name(folder_file.into(), 0o600).unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        assert!(named.finish(OsStr::new("taken")).is_err());
        assert_eq!(names(folder.path()), ["taken"]);
    }
}
