//! Finds `virtiofsd`, and starts it: the one in C that QEMU had until version 7.2, and the one in Rust that followed it. Their command
//! lines differ.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            net::{UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    process::{getegid, geteuid},
    thread::{UnshareFlags, unshare_unsafe},
};

use super::super::{
    device::{Backend, Face},
    protocol::Failure,
};
use crate::{
    helper::{self, Helper},
    platform::Parts,
};

const NAME: &str = "virtiofsd";

/// Where packages put it besides the folders of PATH: Debian's package virtiofsd, and its qemu-system-common before Debian 13.
const FOLDERS: [&str; 2] = ["/usr/libexec", "/usr/lib/qemu"];

/// Why a folder is not shared.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no virtiofsd.
    #[error(
        "a shared folder needs virtiofsd, which is not on this host; install Debian's package virtiofsd \
         (on Debian 12, qemu-system-common), or run cargo install virtiofsd"
    )]
    Missing,
    /// The host refused something.
    #[error("{} cannot be started: {source}", program.display())]
    Host {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not come up.
    #[error("{} does not serve {}: {failure}", program.display(), folder.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// The folder.
        folder: PathBuf,
        /// Why.
        failure: Failure,
    },
}

/// A program that serves folders.
pub(super) struct Virtiofsd {
    program: PathBuf,
}

/// What keeps the program from other files than those of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confinement {
    /// Namespaces of mounts, processes and networks, and the folder as root. Without root it also has a user namespace of its own.
    Namespaces,
    /// The folder as root.
    Chroot,
    /// Nothing but its filter of system calls: only the user's rights limit it.
    None,
}

impl Virtiofsd {
    /// The first that is in a folder of PATH, or where packages put it.
    pub(super) fn find() -> Result<Self, StartError> {
        let path = env::var_os("PATH").unwrap_or_default();
        Self::find_in(env::split_paths(&path).chain(FOLDERS.map(PathBuf::from)))
    }

    fn find_in(folders: impl Iterator<Item = PathBuf>) -> Result<Self, StartError> {
        helper::find_in(folders, NAME).map(|program| Self { program }).ok_or(StartError::Missing)
    }

    /// Starts it for `folder`, as confined as this host permits.
    pub(super) fn start(
        &self,
        folder: &Path,
        is_read_only: bool,
        face: &Face,
        parts: &Parts,
    ) -> Result<Backend, StartError> {
        let host = |source| StartError::Host { program: self.program.clone(), source };
        let is_rust = self.is_rust().map_err(host)?;
        let folder = fs::canonicalize(folder).map_err(host)?;
        let weaker: &[Confinement] = match (is_read_only, is_rust) {
            // Only a namespace of mounts makes the folder read-only for any virtiofsd.
            (true, _) => &[],
            (false, true) => &[Confinement::Chroot, Confinement::None],
            (false, false) => &[Confinement::Chroot],
        };
        let mut first = None;
        for confinement in [Confinement::Namespaces].iter().chain(weaker) {
            let (socket, helper) = match self.spawn(&folder, is_read_only, *confinement, is_rust) {
                Ok(started) => started,
                Err(error) => {
                    first.get_or_insert(host(error));
                    continue;
                }
            };
            match Backend::open(socket, Some(helper), face, parts) {
                Ok(backend) => {
                    if let Some(error) = first.filter(|_| *confinement == Confinement::None) {
                        tracing::warn!(
                            "virtiofsd runs without a sandbox, as this host refuses namespaces: {error}"
                        );
                    }
                    return Ok(backend);
                }
                Err(failure) => {
                    let program = self.program.clone();
                    first.get_or_insert(StartError::Failed { program, folder: folder.clone(), failure });
                }
            }
        }
        Err(first.unwrap_or(StartError::Missing))
    }

    /// Whether it is the one in Rust.
    fn is_rust(&self) -> io::Result<bool> {
        let output = Command::new(&self.program).arg("--help").stdin(Stdio::null()).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).contains("--shared-dir"))
    }

    /// Starts it, with a connection that waits for it.
    fn spawn(
        &self,
        folder: &Path,
        is_read_only: bool,
        confinement: Confinement,
        is_rust: bool,
    ) -> io::Result<(UnixStream, Helper)> {
        // Nobody else can connect: the folder of the socket is ours, and is gone before the program runs.
        let place = tempfile::tempdir()?;
        let path = place.path().join("socket");
        let listener = UnixListener::bind(&path)?;
        let socket = UnixStream::connect(&path)?;
        drop(place);

        let mut command = Command::new(&self.program);
        command.args(arguments(folder, listener.as_raw_fd(), confinement, is_rust));
        command.env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let needs_user = confinement == Confinement::Namespaces && !geteuid().is_root();
        if needs_user || is_read_only {
            let ids = [geteuid().as_raw(), getegid().as_raw()].map(|id| format!("0 {id} 1\n"));
            let prepare = move || {
                enter_namespaces(needs_user.then_some(&ids), is_read_only)?;
                Ok(())
            };
            // SAFETY: the closure makes system calls that are safe between fork and exec, and nothing else.
            unsafe { command.pre_exec(prepare) };
        }
        let helper = Helper::start(command, vec![OwnedFd::from(listener)])?;
        Ok((socket, helper))
    }
}

/// The program's arguments, with which it takes its connection from the listening socket with the number `listener`.
fn arguments(folder: &Path, listener: i32, confinement: Confinement, is_rust: bool) -> Vec<OsString> {
    let sandbox = match confinement {
        // The root is no place that pivot_root(2) could move, and there is nothing outside of it.
        Confinement::Namespaces if folder == Path::new("/") => "chroot",
        Confinement::Namespaces => "namespace",
        Confinement::Chroot => "chroot",
        Confinement::None => "none",
    };
    let mut arguments: Vec<OsString> = vec![format!("--fd={listener}").into()];
    if is_rust {
        arguments.extend(["--shared-dir".into(), folder.into(), format!("--sandbox={sandbox}").into()]);
        arguments.extend(["--cache=auto", "--log-level=error"].map(OsString::from));
        return arguments;
    }
    // In a list of options a comma and a backslash have a backslash before them.
    let mut source = b"source=".to_vec();
    for byte in folder.as_os_str().as_bytes() {
        if matches!(byte, b',' | b'\\') {
            source.push(b'\\');
        }
        source.push(*byte);
    }
    arguments.extend([
        "-o".into(),
        OsStr::from_bytes(&source).to_owned(),
        "-o".into(),
        format!("sandbox={sandbox},cache=auto,log_level=err").into(),
    ]);
    arguments
}

/// Between fork and exec: enters a user namespace in which this user is root, if `ids` are given (the lines of its maps of users and
/// of groups), and a namespace of mounts in which everything is read-only, if asked to.
fn enter_namespaces(ids: Option<&[String; 2]>, is_read_only: bool) -> Result<(), Errno> {
    let mut flags = UnshareFlags::empty();
    flags.set(UnshareFlags::NEWUSER, ids.is_some());
    flags.set(UnshareFlags::NEWNS, is_read_only);
    // SAFETY: the process has one thread, and shares no descriptors with another by these flags.
    unsafe { unshare_unsafe(flags) }?;
    if let Some([users, groups]) = ids {
        for (file, text) in [
            (c"/proc/self/setgroups", "deny"),
            (c"/proc/self/uid_map", users),
            (c"/proc/self/gid_map", groups),
        ] {
            let file = rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&file, text.as_bytes())?;
        }
    }
    if is_read_only {
        let attributes = libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_RDONLY,
            attr_clr: 0,
            // Mounts come and go here unseen by others, and those of others unseen here.
            propagation: libc::MS_PRIVATE,
            userns_fd: 0,
        };
        // SAFETY: the path is a C string, the structure has the size that is given, and the call writes to neither.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                libc::AT_FDCWD,
                c"/".as_ptr(),
                libc::AT_RECURSIVE,
                &raw const attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error()
                .raw_os_error()
                .map_or(Errno::INVAL, Errno::from_raw_os_error));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn both_programs_have_their_arguments() {
        let words = |is_rust, confinement| {
            let words = arguments("/a,b\\c".as_ref(), 7, confinement, is_rust);
            words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            words(false, Confinement::Chroot),
            "--fd=7 -o source=/a\\,b\\\\c -o sandbox=chroot,cache=auto,log_level=err"
        );
        assert_eq!(
            words(true, Confinement::None),
            "--fd=7 --shared-dir /a,b\\c --sandbox=none --cache=auto --log-level=error"
        );
    }

    #[test]
    fn the_first_program_is_found() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let find =
            || Virtiofsd::find_in([&first, &second].into_iter().map(|folder| folder.path().to_owned()));
        for folder in [&first, &second] {
            fs::write(folder.path().join(NAME), "").unwrap();
        }
        let text = find().err().unwrap().to_string();
        assert!(text.contains("Debian's package virtiofsd") && text.contains("qemu-system-common"), "{text}");
        for folder in [&second, &first] {
            let program = folder.path().join(NAME);
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            assert_eq!(find().unwrap().program, program);
        }
    }
}
