//! The state of a lab that has booted, saved once: later labs with the same machine continue from it instead of booting.
//!
//! It is a file of QEMU's migration, taken when the lab's init has nothing to do but to read its script. After the first mount of 9p
//! QEMU no longer migrates.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{MetadataExt as _, PermissionsExt as _},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use devices::helper;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    thread::CpuSet,
};
use sha2::{Digest as _, Sha256};

use super::{
    image::Image,
    qemu::{Begin, Builder},
};

/// States that are kept, of all labs; one takes about 150 MB. The last used stay.
const KEPT: usize = 12;

/// Where the state of one machine is, or will be.
pub(super) struct State(PathBuf);

impl State {
    /// The state of labs of `image` with the machine that `machine` describes.
    pub(super) fn of(image: &Image, machine: &Builder) -> io::Result<Self> {
        let (program, arguments) = machine.shape();
        let mut hash = Sha256::new();
        // Another version of the emulator may not read the state.
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("there is no {program} in PATH"));
        let emulator = fs::metadata(helper::find(program).ok_or_else(missing)?)?;
        hash.update(format!("{} {} {}", program, emulator.len(), emulator.mtime()));
        for argument in arguments {
            hash.update(argument.as_bytes());
            hash.update([0]);
        }
        let name: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(image.states.join(name)))
    }

    /// Its file, if it has been saved.
    pub(super) fn open(&self) -> Option<File> {
        let file = File::open(&self.0).ok()?;
        // The time of its last use, by which the oldest goes. Another user's file keeps its time.
        let _ = file.set_modified(SystemTime::now());
        Some(file)
    }

    /// Boots `machine` and saves its state when the lab's init says on `control` that it is ready, at most after `limit`. Anything
    /// to read from `stop` interrupts it.
    pub(super) fn save(
        &self,
        mut machine: Builder,
        control: &UnixStream,
        begin: Begin<'_>,
        cpus: Option<CpuSet>,
        stop: Option<BorrowedFd<'_>>,
        limit: Duration,
    ) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let lock = File::open(folder)?;
        lock.lock()?;
        if self.0.exists() {
            return Ok(());
        }
        let partial = tempfile::NamedTempFile::new_in(folder)?;
        let number = machine.file(partial.as_file().try_clone()?);
        let mut monitor = machine.monitor()?;
        let (_qemu, _log) = machine.start(begin, cpus)?;
        let line = read(control, b"\n", stop, limit)?;
        if line != "ready\n" {
            return Err(io::Error::other(format!("its init said {line:?}")));
        }
        // The emulator's child does not inherit the file. Without a bandwidth it takes a second or two.
        write!(
            monitor,
            "migrate_set_parameter max-bandwidth 16G\nmigrate \"exec:cat >/proc/$PPID/fd/{number}\"\ninfo migrate\nquit\n"
        )?;
        // All until the emulator has ended.
        let said = read(&monitor, b"", stop, limit)?;
        if !said.contains("Migration status: completed") {
            return Err(io::Error::other(format!("the emulator's monitor said {said:?}")));
        }
        // Other users may share the cache.
        partial.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        partial.persist(&self.0).map_err(|error| error.error)?;
        remove_old(folder)
    }

    /// Removes the file.
    pub(super) fn remove(&self) {
        // Another lab may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

/// What comes from `stream` until it ends, or until `end` has come if that is not empty.
fn read(
    mut stream: &UnixStream,
    end: &[u8],
    stop: Option<BorrowedFd<'_>>,
    limit: Duration,
) -> io::Result<String> {
    let deadline = Instant::now() + limit;
    let mut text = Vec::new();
    while end.is_empty() || !text.ends_with(end) {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = left.try_into().map_err(io::Error::other)?;
        let watched = [Some(stream.as_fd()), stop];
        let mut fds: Vec<_> =
            watched.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&timeout)) {
            Err(Errno::INTR) => continue,
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            count => count?,
        };
        if fds.get(1).is_some_and(|stop| !stop.revents().is_empty()) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece)? {
            0 => break,
            count => text.extend(&piece[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Removes the states that were used least recently, of this image and of others beside it, beyond those that are kept.
fn remove_old(folder: &Path) -> io::Result<()> {
    let labs = folder.parent().and_then(Path::parent).unwrap_or(folder);
    let mut states = Vec::new();
    for lab in fs::read_dir(labs)? {
        // Only a lab that has saved states has the folder.
        let Ok(saved) = fs::read_dir(lab?.path().join("states")) else { continue };
        for state in saved.flatten() {
            // One that has gone meanwhile needs no removal.
            if let Ok(modified) = state.metadata().and_then(|metadata| metadata.modified()) {
                states.push((modified, state.path()));
            }
        }
    }
    states.sort();
    let excess = states.len().saturating_sub(KEPT);
    states[..excess].iter().try_for_each(|(_, path)| match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_states_go() {
        let labs = tempfile::tempdir().unwrap();
        let time = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        for lab in ["one", "two", "none"] {
            fs::create_dir_all(labs.path().join(lab)).unwrap();
        }
        let mut paths = Vec::new();
        for number in 0..KEPT as u64 + 3 {
            let folder = labs.path().join(["one", "two"][(number % 2) as usize]).join("states");
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join(number.to_string());
            File::create(&path).unwrap().set_modified(time(number)).unwrap();
            paths.push(path);
        }
        // The oldest is used once more.
        State(paths[0].clone()).open().unwrap();
        remove_old(&labs.path().join("one/states")).unwrap();
        let gone: Vec<bool> = paths.iter().map(|path| !path.exists()).collect();
        assert_eq!(gone[..5], [false, true, true, true, false]);
        assert!(!gone[4..].contains(&true));
        State(paths[0].clone()).remove();
        assert!(State(paths[0].clone()).open().is_none());
    }
}
