//! The settings of a lab: its machine, its limits, and what it shares with the host.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use devices::virtio::net::Forward;
use guest_images::Arch;

use super::error::LabError;

/// How to run a command in the lab.
///
/// Running it blocks. The emulator ends with the call, whatever way it returns, and with the calling thread.
#[derive(Debug, Clone)]
pub struct Lab {
    pub(super) arch: &'static Arch,
    pub(super) machine: Option<String>,
    pub(super) memory: u32,
    pub(super) cpus: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) writable: Vec<PathBuf>,
    pub(super) programs: Option<PathBuf>,
    /// Sockets on the host, each with the name of its machine's socket in the lab.
    pub(super) sockets: Vec<(&'static str, PathBuf)>,
    pub(super) network: Option<Vec<Forward>>,
    pub(super) log: Option<PathBuf>,
    pub(super) pass_signals: bool,
    pub(super) note: fn(&Note),
}

/// What a command in the lab left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 and the signal's number if a signal ended it.
    pub status: u8,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// What the lab does while one waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The lab's kernel is fetched and unpacked, which happens once.
    Preparing,
    /// A lab boots, and its state is saved for all that follow, which happens once.
    Saving,
    /// The state could not be saved, for this reason.
    NotSaved(String),
    /// The lab that continued from the saved state ended before its command began, with these last messages.
    NotContinued(String),
    /// The emulator was started.
    Booting,
    /// The command begins; booting took so long.
    Up(Duration),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preparing => f.write_str("Preparing the lab: fetching and unpacking its kernel, once"),
            Self::Saving => f.write_str("Preparing the lab: booting it and saving its state, once"),
            Self::NotSaved(why) => write!(f, "The lab's state was not saved, so that each lab boots: {why}"),
            Self::NotContinued(log) => {
                write!(f, "A lab boots, for it could not continue from the saved state: {log}")
            }
            Self::Booting => f.write_str("Booting the lab: an emulated machine with a full KVM"),
            Self::Up(duration) => write!(f, "The lab was up after {:.1} s", duration.as_secs_f32()),
        }
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self {
            arch: Arch::host(),
            machine: None,
            memory: 3072,
            // Where all share one CPU of this machine (see host_cpu.rs) more only make each other wait.
            cpus: 1,
            timeout: Some(Duration::from_secs(600)),
            writable: Vec::new(),
            programs: None,
            sockets: Vec::new(),
            network: None,
            log: None,
            pass_signals: false,
            note: |_| (),
        }
    }
}

impl Lab {
    /// A lab of this machine's architecture with 3 GiB of memory, one CPU and a time limit of ten minutes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the lab CPUs of another architecture. What programs of this machine's root it does not run are hidden by
    /// busybox's and a few of Debian's.
    #[must_use]
    pub fn arch(mut self, arch: &'static Arch) -> Self {
        self.arch = arch;
        self
    }

    /// Makes the lab another machine than the one that serves best: `properties` are of QEMU's option -machine, as in
    /// `virtualization=off`, and overrule ours.
    #[must_use]
    pub fn machine(mut self, properties: impl Into<String>) -> Self {
        self.machine = Some(properties.into());
        self
    }

    /// Gives the lab `mib` MiB of memory, of which what the command writes outside of [`writable`](Self::writable)
    /// takes its share.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// Gives the lab `cpus` CPUs, which take turns.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Ends the lab after `limit`, booting included; None: never.
    #[must_use]
    pub fn timeout(mut self, limit: Option<Duration>) -> Self {
        self.timeout = limit;
        self
    }

    /// Lets the command write to the host's `folder`; may be called several times.
    #[must_use]
    pub fn writable(mut self, folder: impl Into<PathBuf>) -> Self {
        self.writable.push(folder.into());
        self
    }

    /// Puts `folder` before all else in the command's PATH.
    #[must_use]
    pub fn programs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.programs = Some(folder.into());
        self
    }

    /// Writes what the lab's kernel says to `file`. Without this its last lines are kept, for errors.
    #[must_use]
    pub fn log(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    /// Makes the socket `path` on the host. Its clients reach the socket of this `name` of the machine that the command runs.
    #[must_use]
    pub fn socket(mut self, name: &'static str, path: impl Into<PathBuf>) -> Self {
        self.sockets.push((name, path.into()));
        self
    }

    /// Gives the lab the network of the host's user. Each of `forwards` has its port of the host's 127.0.0.1 lead to the same port of
    /// the lab's 127.0.0.1.
    #[must_use]
    pub fn network(mut self, forwards: Vec<Forward>) -> Self {
        self.network = Some(forwards);
        self
    }

    /// Passes SIGINT, SIGTERM, SIGHUP and SIGQUIT on to the command, which then has some seconds to end. Before the command has
    /// begun, after these seconds, or with a second signal, the lab ends with [`LabError::Signal`]. For programs whose one job is
    /// the lab: from then on these signals do nothing else. Without it they end us, and the emulator with us.
    #[must_use]
    pub fn pass_signals(mut self) -> Self {
        self.pass_signals = true;
        self
    }

    /// Calls `note` with what happens before the command begins.
    #[must_use]
    pub fn note(mut self, note: fn(&Note)) -> Self {
        self.note = note;
        self
    }

    /// The writable folders as the lab's init needs them: absolute, without links.
    pub(super) fn writable_folders(&self) -> Result<Vec<PathBuf>, LabError> {
        self.writable
            .iter()
            .map(|folder| {
                let path = fs::canonicalize(folder)
                    .map_err(LabError::io("the lab cannot have the writable folder", folder))?;
                if path.is_dir() && path != Path::new("/") {
                    return Ok(path);
                }
                Err(LabError::Request(format!(
                    "{} cannot be writable in the lab; name a folder below the root",
                    folder.display()
                )))
            })
            .collect()
    }
}
