//! The place of the soak: its abilities, the folders of machines, small disks, and limits.

use std::{
    env, fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Resource, Rlimit, geteuid, set_child_subreaper, setrlimit};

use super::plan::{Abilities, Shortage};
use crate::{guest, host, lab};

/// The group of the control groups of machines, in a lab.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Where the machines of a worker run.
#[derive(Debug)]
pub(super) struct Place {
    folder: tempfile::TempDir,
    abilities: Abilities,
    /// Whether control groups limit memory.
    has_cgroups: bool,
}

/// The folder of a machine.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    is_mounted: bool,
}

impl Place {
    /// Prepares a place. As root, its mounts are seen by this process and its children alone.
    pub(super) fn prepare() -> io::Result<Self> {
        // Its path is found through /proc/self/exe, which in a lab changes with the view of mounts.
        guest::minivmm();
        // Processes that a machine leaves become children of this one.
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let folder = tempfile::Builder::new().prefix("minivmm-soak-").tempdir()?;
        // SAFETY: the call changes this process' view of mounts and no memory.
        let apart = geteuid().is_root() && unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
        // What is mounted below is not seen by others. A disk in memory has files without a name, which a lab's has not.
        let mounts = apart
            && mount(&["--make-rprivate", "/"]).is_ok()
            && mount(&["-t", "tmpfs", "-o", "size=512m", "soak", &text(folder.path())]).is_ok();
        let is_lab = lab::is_inside();
        let abilities =
            Abilities { linux: host::unfit().is_none() && is_lab, mounts, clock: is_lab && mounts };
        // In a lab this changes nobody else's groups.
        let control = Path::new(CGROUPS).join("cgroup.subtree_control");
        let has_cgroups = is_lab && fs::write(control, "+memory").is_ok();
        Ok(Self { folder, abilities, has_cgroups })
    }

    pub(super) fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// A new folder for the files of the machine `index`, on a disk of its own with this number of KiB if there is one.
    pub(super) fn folder(&self, index: u64, disk: Option<u64>) -> io::Result<Folder> {
        let path = self.folder.path().join(index.to_string());
        fs::create_dir(&path)?;
        if let Some(size) = disk {
            mount(&["-t", "tmpfs", "-o", &format!("size={size}k"), "soak", &text(&path)])?;
        }
        Ok(Folder { path, is_mounted: disk.is_some() })
    }

    /// The folder in which machines have their folders.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Lets `command` run short of something. Returns the control group, which is removed after the command's end.
    pub(super) fn limit(&self, command: &mut Command, shortage: Shortage) -> io::Result<Option<Cgroup>> {
        let (resource, limit) = match shortage {
            Shortage::Memory(mebibytes) if self.has_cgroups => {
                let group = Cgroup::new(mebibytes << 20)?;
                let processes = fs::File::options().write(true).open(group.0.join("cgroup.procs"))?;
                let enter = move || rustix::io::write(&processes, b"0").map(drop).map_err(io::Error::from);
                // SAFETY: the closure makes a system call that is safe between fork and exec, and nothing else.
                unsafe { command.pre_exec(enter) };
                return Ok(Some(group));
            }
            Shortage::Memory(mebibytes) => (Resource::As, mebibytes << 20),
            Shortage::Descriptors(count) => (Resource::Nofile, count),
            Shortage::FileSize(bytes) => (Resource::Fsize, bytes),
        };
        let limits = move || {
            let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
            setrlimit(resource, limit).map_err(io::Error::from)
        };
        // SAFETY: the closure makes a system call that is safe between fork and exec, and nothing else.
        unsafe { command.pre_exec(limits) };
        Ok(None)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.abilities.mounts {
            let _ = run(Command::new("umount").arg("-l").arg(self.folder.path()));
        }
    }
}

impl Folder {
    /// The path of a file in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names of the files in it.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(text(Path::new(&entry?.file_name()))));
        names.collect()
    }

    /// Copies it to `kept`, with a `description`.
    pub(super) fn keep(&self, kept: &Path, description: &str) -> io::Result<()> {
        fs::create_dir_all(kept)?;
        fs::write(kept.join("machine.txt"), description)?;
        for name in self.names()? {
            let from = self.path(&name);
            if from.is_file() {
                fs::copy(from, kept.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes it.
    pub(super) fn remove(self) -> io::Result<()> {
        if self.is_mounted {
            // At once for all to see, and in fact when nobody uses it any more.
            run(Command::new("umount").args(["-l"]).arg(&self.path))?;
        }
        fs::remove_dir_all(self.path)
    }
}

/// A control group with a limit of memory. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    fn new(bytes: u64) -> io::Result<Self> {
        let group = Self(Path::new(CGROUPS).join(format!("soak-{}", std::process::id())));
        fs::create_dir(&group.0)?;
        fs::write(group.0.join("memory.max"), bytes.to_string())?;
        Ok(group)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn mount(arguments: &[&str]) -> io::Result<()> {
    run(Command::new("mount").args(arguments))
}

fn run(command: &mut Command) -> io::Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(env::split_paths(&path).chain(["/sbin".into(), "/bin".into()]));
    let output = command.env("PATH", path.unwrap_or_default()).stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))))
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
