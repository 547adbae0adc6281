//! Landlock: the files that each kind of thread may still reach by name. What is open already is not affected.
//!
//! This is all that a machine opens, makes or removes once its guest runs. A rule is for a folder and what lies below, as Landlock
//! has none for single names in a folder.

use std::{io, path::PathBuf, sync::OnceLock};

use landlock::{
    ABI as Version, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope, make_bitflags,
};

use super::kind::Kind;

/// The newest version of the ABI whose rights are known here. The crate uses as much of it as the kernel has.
const KNOWN: Version = Version::V9;

/// What a host without Landlock means.
pub(super) const WITHOUT: &str = "this kernel has no Landlock, so only the sandbox's system calls and users limit the files that minivmm reaches; \
     Linux 5.13 and later has it (CONFIG_SECURITY_LANDLOCK, and landlock in lsm=)";

/// The version of the kernel's ABI. It is read once, as a confined thread may not ask.
pub(super) static ABI: OnceLock<Option<u32>> = OnceLock::new();

/// The version of the kernel's Landlock ABI; none without Landlock.
pub fn abi() -> Option<u32> {
    /// LANDLOCK_CREATE_RULESET_VERSION (include/uapi/linux/landlock.h).
    const VERSION: libc::c_uint = 1;
    *ABI.get_or_init(|| {
        let none = std::ptr::null::<libc::c_void>();
        // SAFETY: with this flag the call takes no attributes and only returns a number.
        let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
        u32::try_from(version).ok().filter(|version| *version > 0)
    })
}

/// What a thread may do below its folders.
fn allowed(kind: Kind) -> BitFlags<AccessFs> {
    match kind {
        // A report gets its name at the end, and the API's socket goes. Neither opens a file for writing.
        Kind::Main => make_bitflags!(AccessFs::{MakeReg | RemoveFile}),
        // The files of --out: folders, and files that appear whole.
        Kind::Files => make_bitflags!(AccessFs::{
            ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
        }),
        // Files that appear whole, each in place of the one before.
        Kind::Metrics => make_bitflags!(AccessFs::{WriteFile | MakeReg | RemoveFile}),
        Kind::Recording => make_bitflags!(AccessFs::{WriteFile | Truncate | MakeReg | RemoveFile}),
        // The API's socket in a lab, and those of programs that wait for a guest.
        Kind::Relay | Kind::Sockets => AccessFs::ResolveUnix.into(),
        Kind::Vcpu
        | Kind::Device
        | Kind::Disk
        | Kind::Backend
        | Kind::Network
        | Kind::Memory
        | Kind::Output
        | Kind::Log
        | Kind::Input
        | Kind::Capture
        | Kind::Watch => BitFlags::EMPTY,
    }
}

/// Limits the calling thread to the files below `folders`, as its `kind` needs them. It also binds and connects no TCP port, and
/// reaches no abstract Unix socket. Without Landlock this does nothing.
///
/// Signals are not limited (LANDLOCK_SCOPE_SIGNAL): kernels before 6.15 would forbid those from one thread of this process to
/// another. The filter of system calls limits them.
///
/// # Errors
/// If a folder cannot be opened, or the kernel refuses a rule.
pub(super) fn restrict(kind: Kind, folders: &[PathBuf]) -> io::Result<()> {
    if abi().is_none() {
        return Ok(());
    }
    let allowed = allowed(kind);
    let folders = if allowed.is_empty() { &[] } else { folders };
    // A folder that cannot be opened now could not be written to later.
    let folders: Vec<PathFd> =
        folders.iter().map(PathFd::new).collect::<Result<_, _>>().map_err(|error| {
            let PathFdError::OpenCall { source, path, .. } = error else { return io::Error::other(error) };
            io::Error::new(source.kind(), format!("the folder {} cannot be opened: {source}", path.display()))
        })?;
    let restricted = || -> Result<(), RulesetError> {
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(KNOWN))?
            .handle_access(AccessNet::from_all(KNOWN))?
            .scope(Scope::AbstractUnixSocket)?
            .create()?;
        for folder in folders {
            ruleset = ruleset.add_rule(PathBeneath::new(folder, allowed))?;
        }
        ruleset.restrict_self().map(drop)
    };
    restricted().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// Threads that write nothing reach nothing, and the others no program and no device.
    #[test]
    fn no_thread_runs_programs_or_makes_devices() {
        for kind in Kind::ALL {
            let forbidden = make_bitflags!(AccessFs::{
                Execute | MakeChar | MakeBlock | MakeSock | MakeFifo | MakeSym | IoctlDev
            });
            assert!(!allowed(kind).intersects(forbidden), "{kind:?}");
        }
        assert!(allowed(Kind::Vcpu).is_empty() && allowed(Kind::Device).is_empty());
        assert!(!allowed(Kind::Main).contains(AccessFs::WriteFile));
    }

    #[test]
    fn a_thread_reaches_its_folder_only() {
        if abi().is_none() {
            eprintln!("not tested: {WITHOUT}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        let confined = move || {
            restrict(Kind::Files, std::slice::from_ref(&inside)).unwrap();
            fs::create_dir(inside.join("sub")).unwrap();
            fs::write(inside.join("sub/file"), "text").unwrap();
            for refused in [fs::write(&outside, ""), fs::read("/etc/passwd").map(drop)] {
                assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            }
        };
        thread::spawn(confined).join().unwrap();
    }
}
