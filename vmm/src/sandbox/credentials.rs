//! The rights of a thread that come from its user: user and group, capabilities, and the limits of the process.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, access},
    io::Errno,
    process::{
        Gid, Resource, Rlimit, Uid, geteuid, getrlimit, parent_process_death_signal,
        set_parent_process_death_signal, setrlimit,
    },
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
        set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

/// The user and the group of nobody: the kernel's overflow ids, which own no files.
const NOBODY: u32 = 65534;

/// The descriptors that a running machine may open besides those that it has: clients of the API, files of --out and recordings.
const DESCRIPTORS: u64 = 128;

/// Takes from the calling thread its capabilities and, if it runs as root, its user: it becomes the owner of `folders`, in which it
/// creates files, or else nobody. Returns its user id and, if that is still root's, the reason.
///
/// # Errors
/// If the host refuses that, or the thread could not write to a folder then.
pub(super) fn give_up(folders: &[PathBuf]) -> io::Result<(u32, Option<String>)> {
    // Each ends with an error where the kernel has no such capability, or where the thread may not change the set. Without
    // capabilities and with no_new_privs the bounding set grants nothing.
    (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)).for_each(|capability| {
        let _ = remove_capability_from_bounding_set(capability);
    });
    let reason = if geteuid().is_root() { change_user(folders)? } else { None };
    // A kernel without ambient capabilities (before 4.3) has none to clear.
    let _ = clear_ambient_capability_set();
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    for folder in folders {
        access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| unwritable(folder, error))?;
    }
    Ok((geteuid().as_raw(), reason))
}

fn unwritable(folder: &Path, error: Errno) -> io::Error {
    let (folder, user) = (folder.display(), geteuid().as_raw());
    let why = format!(
        "user {user} without capabilities cannot write to {folder}: {error}; use a folder that belongs to the user"
    );
    io::Error::new(io::Error::from(error).kind(), why)
}

/// The user and group that a thread which creates files in `folders` takes, with the reason if it stays root.
fn user_for(folders: &[PathBuf]) -> io::Result<(u32, u32, Option<String>)> {
    let Some((first, others)) = folders.split_first() else { return Ok((NOBODY, NOBODY, None)) };
    let owner = fs::metadata(first)?;
    for other in others {
        if fs::metadata(other)?.uid() != owner.uid() {
            let why = format!("{} and {} have different owners", first.display(), other.display());
            return Ok((0, 0, Some(why)));
        }
    }
    let why =
        (owner.uid() == 0).then(|| format!("its files are in {}, which belongs to root", first.display()));
    Ok((owner.uid(), owner.gid(), why))
}

/// Changes the user and group of the calling thread, for good. Returns the reason if it stays root.
fn change_user(folders: &[PathBuf]) -> io::Result<Option<String>> {
    let (uid, gid, why) = user_for(folders)?;
    // The kernel forgets the signal when the user changes.
    let signal = parent_process_death_signal()?;
    // Calls of one thread: the others have users of their own.
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let changed = set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(group, group, group))
        .and_then(|()| set_thread_res_uid(user, user, user));
    set_parent_process_death_signal(signal)?;
    match changed {
        Ok(()) => Ok(why),
        // A container can have root alone.
        Err(error @ (Errno::PERM | Errno::INVAL)) => {
            Ok(Some(format!("the host refused the change to user {uid}: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Limits what this process may take from now on: a few more descriptors, no further thread or process, no core file.
///
/// # Errors
/// If the host refuses a limit.
pub(super) fn limit_resources() -> io::Result<()> {
    let open = fs::read_dir("/proc/self/fd")?;
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
    let descriptors = numbers.max().unwrap_or(0) + 1 + DESCRIPTORS;
    for (resource, most) in [(Resource::Nofile, descriptors), (Resource::Nproc, 0), (Resource::Core, 0)] {
        let limit = |now: Option<u64>| Some(now.map_or(most, |now| now.min(most)));
        let now = getrlimit(resource);
        setrlimit(resource, Rlimit { current: limit(now.current), maximum: limit(now.maximum) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn a_thread_without_files_is_nobody() {
        assert_eq!(user_for(&[]).unwrap(), (NOBODY, NOBODY, None));
    }

    #[test]
    fn a_thread_takes_the_owner_of_its_folders() {
        let [one, two] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let folders = [one.path().to_owned(), two.path().to_owned()];
        let owner = fs::metadata(one.path()).unwrap();
        let (uid, gid, why) = user_for(&folders).unwrap();
        assert_eq!((uid, gid, why.is_some()), (owner.uid(), owner.gid(), owner.uid() == 0));
        if geteuid().is_root() {
            chown(one.path(), Some(1234), Some(1235)).unwrap();
            assert_eq!(user_for(&folders[..1]).unwrap(), (1234, 1235, None));
            assert!(user_for(&folders).unwrap().2.unwrap().ends_with("have different owners"));
        }
    }

    /// The rights are those of a thread, so a test can give its own away.
    #[test]
    fn what_is_given_up_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let confined = move || {
            let (user, why) = give_up(&[folder.path().to_owned()]).unwrap();
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
                assert!(status.contains(&format!("\n{set}:\t0000000000000000\n")), "{status}");
            }
            assert_eq!(user == 0, why.is_some());
            fs::write(folder.path().join("file"), "").unwrap();
            folder
        };
        drop(std::thread::spawn(confined).join().unwrap());
    }
}
