//! The lab: a machine with a KVM that has no quirks, emulated, in which a command of the host's runs.
//!
//! The lab's root is the host's, read-only over 9p with an overlay in memory above: every program and file is there,
//! and what the command writes is gone afterwards, except in the folders named by [`Lab::writable`]. The command
//! has our environment (see [`IN_LAB`]), our working directory and the user id 0. There is no network but the loopback.

mod flow;
mod host_cpu;
mod image;
mod place;
mod qemu;
mod reach;
mod recipe;
mod relay;
mod script;
mod session;
mod terminal;

use std::{
    env,
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use guest_images::Arch;

use crate::api::server::SocketError;
pub use place::{HELP, Host, HostError, Place, place, run_in_lab};
pub use reach::{is_read, is_written};
pub use relay::Bridge;

/// Set in the lab's environment: there is no lab in a lab, and nothing is built there.
pub const IN_LAB: &str = "MINIVMM_IN_LAB";

/// Whether this process runs in a lab.
pub fn is_inside() -> bool {
    env::var_os(IN_LAB).is_some()
}

/// How to run a command in the lab.
///
/// Running it blocks. The emulator ends with the call, whatever way it returns, and with the calling thread.
#[derive(Debug, Clone)]
pub struct Lab {
    arch: &'static Arch,
    machine: Option<String>,
    memory: u32,
    cpus: u32,
    timeout: Option<Duration>,
    writable: Vec<PathBuf>,
    programs: Option<PathBuf>,
    socket: Option<PathBuf>,
    log: Option<PathBuf>,
    pass_signals: bool,
    note: fn(Note),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The lab's kernel is fetched and unpacked, which happens once.
    Preparing,
    /// The emulator was started.
    Booting,
    /// The command begins; booting took so long.
    Up(Duration),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preparing => f.write_str("Preparing the lab: fetching and unpacking its kernel, once"),
            Self::Booting => f.write_str("Booting the lab: an emulated machine with a full KVM"),
            Self::Up(duration) => write!(f, "The lab was up after {:.1} s", duration.as_secs_f32()),
        }
    }
}

/// Why a command was not run in the lab to its end.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A Debian package could not be fetched.
    #[error(transparent)]
    Debian(#[from] guest_images::Error),
    /// The kernel or the initramfs could not be made.
    #[error("the lab could not be prepared: {0}")]
    Prepare(String),
    /// A request that makes no sense.
    #[error("{0}")]
    Request(String),
    /// The socket of the machine in the lab.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A file, a stream or a system call.
    #[error("{what}: {source}")]
    Io {
        /// What could not be done, and with what.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The emulated machine ended before the command did.
    #[error("the lab's machine ended before the command did; its last messages:\n{log}")]
    Died {
        /// The last lines of its kernel's and of the emulator's messages.
        log: String,
    },
    /// The lab's init could not do its work.
    #[error("the lab's init {reason}; the machine's last messages:\n{log}")]
    Init {
        /// What it could not do.
        reason: String,
        /// As in [`LabError::Died`].
        log: String,
    },
    /// The time limit was reached.
    #[error("the time limit of {} s was reached while {}; the lab was ended{log}", limit.as_secs_f32(),
        if *started { "the command ran" } else { "the lab was booting" })]
    Timeout {
        /// The limit.
        limit: Duration,
        /// Whether the command had begun.
        started: bool,
        /// Empty if the command had begun, else the last messages.
        log: String,
    },
    /// A signal that asks us to end; see [`Lab::pass_signals`].
    #[error("the lab was ended by signal {0}")]
    Signal(i32),
}

impl LabError {
    /// For `map_err`: the error of not being able to do `action` with `path`.
    fn io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{action} {}", path.display());
        move |source| Self::Io { what, source }
    }

    /// The exit status that stands for this error: 124 for the time limit, as timeout(1) has it, 128 and its number
    /// for a signal, else 125, as docker(1) has it.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Timeout { .. } => 124,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(125),
            _ => 125,
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
            socket: None,
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

    /// Makes the socket `path` on the host. Its clients reach the API socket of the machine that the command runs.
    #[must_use]
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = Some(path.into());
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
    pub fn note(mut self, note: fn(Note)) -> Self {
        self.note = note;
        self
    }

    /// Runs `command` with our standard streams, and returns its exit status. If input and output are terminals
    /// the command has a terminal, too: of our size, with every key reaching it; Ctrl-] three times ends the lab.
    ///
    /// # Errors
    /// If the lab cannot be made or boot, or if it ends before the command does.
    pub fn run<S: Into<OsString>>(&self, command: impl IntoIterator<Item = S>) -> Result<u8, LabError> {
        session::run(self, &words(command)?, None).map(|output| output.status)
    }

    /// Runs `command` with `input` as its standard input, and returns what it wrote.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn output<S: Into<OsString>>(
        &self,
        command: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Result<Output, LabError> {
        session::run(self, &words(command)?, Some(input))
    }

    /// The writable folders as the lab's init needs them: absolute, without links.
    fn writable_folders(&self) -> Result<Vec<PathBuf>, LabError> {
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

/// The Debian packages that a lab for `arch` needs on this machine.
pub fn packages(arch: &Arch) -> &'static [&'static str] {
    recipe::Recipe::of(arch).packages
}

fn words<S: Into<OsString>>(command: impl IntoIterator<Item = S>) -> Result<Vec<OsString>, LabError> {
    let words: Vec<OsString> = command.into_iter().map(Into::into).collect();
    match words.first().map(|word| word.to_string_lossy()) {
        None => Err(LabError::Request("the lab was given no command; name one".into())),
        Some(word) if word.contains('=') => {
            // env(1) would take it for a variable.
            Err(LabError::Request(format!(
                "{word} is an assignment, not a command; write: env {word} COMMAND"
            )))
        }
        Some(_) => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_make_no_sense_are_refused_before_anything_boots() {
        let lab = Lab::new();
        for (command, expected) in [(&[][..], "no command"), (&["A=1", "true"][..], "assignment")] {
            let error = lab.run(command.iter().copied()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_status(), 125);
        }
        for folder in ["/", "/no/such/folder", "/etc/passwd"] {
            let error = Lab::new().writable(folder).run(["true"]).unwrap_err().to_string();
            assert!(error.contains(folder), "{error}");
        }
    }

    #[test]
    fn each_way_to_fail_has_its_exit_status() {
        let limit = Duration::from_secs(5);
        let timeout = LabError::Timeout { limit, started: true, log: String::new() };
        assert_eq!(timeout.exit_status(), 124);
        assert_eq!(
            timeout.to_string(),
            "the time limit of 5 s was reached while the command ran; the lab was ended"
        );
        assert_eq!(LabError::Signal(2).exit_status(), 130);
        assert_eq!(LabError::Died { log: String::new() }.exit_status(), 125);
    }
}
