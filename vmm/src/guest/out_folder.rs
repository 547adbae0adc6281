//! The folder of `--out`. The kernel resolves the guest's paths inside it (openat2), and follows no link.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat2},
    io::Errno,
};

/// The most folders in the path of a file.
const DEPTH_MAX: usize = 64;

/// The open folder, and the number of entries that the guest may still make.
#[derive(Debug)]
pub(super) struct OutFolder {
    root: OwnedFd,
    pub(super) entries_left: u64,
}

/// Why an entry of the guest is skipped. Other errors are the host's.
#[derive(Debug)]
pub(super) enum Skipped {
    /// Its path leads out of the folder or through a link, or is too deep or too long.
    Path,
    /// The limit of entries is reached.
    Limit,
    /// The host refuses it.
    Host(io::Error),
}

impl From<Errno> for Skipped {
    fn from(errno: Errno) -> Self {
        match errno {
            // A link; a way out; a component that no file system takes.
            Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG => Self::Path,
            _ => Self::Host(errno.into()),
        }
    }
}

impl OutFolder {
    /// Opens the folder at `path`, which is the user's: it may be a link. The guest may make `entries` files and folders in it.
    ///
    /// # Errors
    /// If the folder cannot be opened, or the host's kernel cannot keep paths inside it.
    pub(super) fn open(path: &Path, entries: u64) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(path, flags, Mode::empty())?;
        let folder = Self { root, entries_left: entries };
        match folder.find(Path::new(".")) {
            Ok(_) => Ok(folder),
            Err(Errno::NOSYS | Errno::PERM) => Err(io::Error::other(
                "the host refuses the system call openat2, which keeps the guest's files in the folder; use Linux 5.6 or newer, \
                 and a container that permits the call",
            )),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The folder `path` below this one.
    fn find(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// The folder `path` below this one. The folders on its way are made where they are missing.
    pub(super) fn make(&mut self, path: &Path) -> Result<OwnedFd, Skipped> {
        if path.components().count() > DEPTH_MAX {
            return Err(Skipped::Path);
        }
        let whole = Path::new(".").join(path);
        match self.find(&whole) {
            Err(Errno::NOENT) => {}
            found => return Ok(found?),
        }
        let mut folder = self.find(Path::new("."))?;
        let mut way = PathBuf::from(".");
        for part in path {
            way.push(part);
            folder = match self.find(&way) {
                Err(Errno::NOENT) => {
                    self.take_entry()?;
                    match mkdirat(&folder, part, Mode::from_raw_mode(0o777)) {
                        // Another process made it meanwhile.
                        Ok(()) | Err(Errno::EXIST) => self.find(&way)?,
                        Err(errno) => return Err(errno.into()),
                    }
                }
                found => found?,
            };
        }
        Ok(folder)
    }

    /// Counts one more entry.
    pub(super) fn take_entry(&mut self) -> Result<(), Skipped> {
        self.entries_left = self.entries_left.checked_sub(1).ok_or(Skipped::Limit)?;
        Ok(())
    }
}

/// The path that `name` means below a folder, if it stays below it.
pub(super) fn inside(name: &Path) -> Option<PathBuf> {
    name.components().filter(|part| *part != Component::CurDir).try_fold(PathBuf::new(), |path, part| {
        match part {
            Component::Normal(part) => Some(path.join(part)),
            _ => None,
        }
    })
}
