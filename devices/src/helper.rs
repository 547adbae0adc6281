//! A program of the host that works for minivmm. It ends with its owner, whatever ends that.

use std::{
    env, fmt, fs, io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt as _, process::CommandExt as _},
    },
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, FdFlags, fcntl_setfd, read},
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, getppid, pidfd_open, pidfd_send_signal,
        set_parent_process_death_signal, waitid,
    },
};

/// The longest that a program may take to end after SIGKILL, or after the end of its connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest that a program which has closed its connection may take to end by itself.
const GRACE: Duration = Duration::from_secs(1);

/// The most that is kept of a program's messages, in bytes.
const KEPT: usize = 4096;

/// The longest line of a message that is quoted, in characters.
const QUOTED: usize = 300;

/// Finds `program` in the folders of PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    find_in(env::split_paths(&env::var_os("PATH").unwrap_or_default()), program)
}

/// Finds `program` in the first of `folders` that has it as an executable file.
pub(crate) fn find_in(folders: impl Iterator<Item = PathBuf>, program: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|there| there.is_file() && there.permissions().mode() & 0o111 != 0)
    };
    folders.map(|folder| folder.join(program)).find(is_program)
}

/// A running program; dropping it ends it. The kernel also ends it (SIGKILL) when the thread that started it ends.
#[derive(Debug)]
pub struct Helper {
    pid: Pid,
    process: OwnedFd,
    errors: Option<OwnedFd>,
}

impl Helper {
    /// Starts `command`, which inherits these descriptors with their numbers. It is in a process group of its own, so that Ctrl-C at
    /// the terminal does not reach it.
    ///
    /// Work between fork and exec that changes the user or the capabilities belongs into the command, and comes before the kernel is
    /// told to end the program.
    ///
    /// # Errors
    /// If the host refuses the program.
    pub fn start(mut command: Command, inherited: Vec<OwnedFd>) -> io::Result<Self> {
        command.process_group(0);
        let parent = getpid();
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            for descriptor in &inherited {
                fcntl_setfd(descriptor.as_fd(), FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls that are safe between fork and exec, and nothing else.
        unsafe { command.pre_exec(prepare) };
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => Ok(Self { pid, process, errors: child.stderr.take().map(OwnedFd::from) }),
            Err(error) => {
                // Both fail only if it has ended already.
                let _ = child.kill();
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    /// The number of its process, which no other one gets before this is dropped.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The reader of its standard error, if that is a pipe of the command. The first call has it.
    ///
    /// # Errors
    /// If the host refuses a file descriptor.
    pub fn take_messages(&mut self) -> io::Result<Option<Messages>> {
        self.errors.take().map(|errors| self.messages(errors)).transpose()
    }

    /// The reader of `errors`, the other end of its standard error.
    ///
    /// # Errors
    /// If the host refuses a file descriptor.
    pub fn messages(&self, errors: OwnedFd) -> io::Result<Messages> {
        Ok(Messages { process: self.process.try_clone()?, errors: Some(errors), said: Vec::new() })
    }

    /// Waits until it has ended, at most for `limit`; whether it has.
    pub fn ends_within(&self, limit: Duration) -> bool {
        is_ready_within(self.process.as_fd(), limit)
    }
}

/// Waits until there is something to read, at most for `limit`; whether there is.
fn is_ready_within(descriptor: BorrowedFd<'_>, limit: Duration) -> bool {
    let begun = Instant::now();
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], timeout.as_ref()) {
            Err(Errno::INTR) => {}
            result => return result.is_ok_and(|ready| ready > 0),
        }
    }
}

/// What a program prints on standard error.
pub struct Messages {
    process: OwnedFd,
    /// None at its end.
    errors: Option<OwnedFd>,
    said: Vec<u8>,
}

impl Messages {
    /// Readable when there is more; none at the end.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.errors.as_ref().map(OwnedFd::as_fd)
    }

    /// Reads once; whether something came.
    pub fn read(&mut self) -> bool {
        let mut buffer = [0; 1024];
        let result = self.errors.as_ref().map(|errors| read(errors, &mut buffer));
        match result {
            Some(Ok(count)) if count > 0 => {
                self.said.extend(&buffer[..count]);
                let excess = self.said.len().saturating_sub(KEPT);
                self.said.drain(..excess);
                true
            }
            Some(Err(Errno::AGAIN | Errno::INTR)) => false,
            _ => {
                self.errors = None;
                false
            }
        }
    }

    /// The program works: its messages so far are not the reason if it ends later.
    pub fn forget(&mut self) {
        while self.descriptor().is_some_and(|errors| is_ready_within(errors, Duration::ZERO)) && self.read() {
        }
        self.said.clear();
    }

    /// How the program has ended, which it is about to do. None if it goes on.
    pub fn ending(&mut self) -> Option<Ending> {
        if !is_ready_within(self.process.as_fd(), GRACE) {
            return None;
        }
        // A program that it has started can have its standard error, and go on.
        while self.descriptor().is_some_and(|errors| is_ready_within(errors, Duration::ZERO)) && self.read() {
        }
        // Its owner takes its status when it is dropped.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.process.as_fd()), options).ok().flatten()?;
        if let Some(signal) = status.terminating_signal() {
            return Some(Ending::Killed(signal));
        }
        Some(match status.exit_status()? {
            0 => Ending::Done,
            status => Ending::Failed(status, last_line(&self.said)),
        })
    }
}

/// The last line of `text`.
fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    // passt has no system log where the host has none, and says so after each message.
    let is_message = |line: &&str| !line.is_empty() && !line.ends_with("to syslog");
    let line = text.lines().map(str::trim).rfind(is_message)?;
    Some(line.chars().filter(|character| !character.is_control()).take(QUOTED).collect())
}

/// How a program has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With status 0.
    Done,
    /// With another status. The last line of its messages since it worked, if there is one.
    Failed(i32, Option<String>),
    /// By this signal.
    Killed(i32),
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => write!(formatter, "with status 0"),
            Self::Failed(status, None) => write!(formatter, "with status {status}"),
            Self::Failed(status, Some(line)) => write!(formatter, "with status {status}; it said: {line}"),
            Self::Killed(signal) => write!(formatter, "by signal {signal}"),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // A confined thread may have another user, which cannot send it a signal. It ends with its connection, or else with us.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        if self.ends_within(PATIENCE) {
            let _ = waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::{fd::AsRawFd as _, unix::net::UnixStream},
        process::Stdio,
        thread,
    };

    use super::*;

    /// Starts a program that never ends by itself; returns it with a stream that ends when it does.
    fn start() -> (Helper, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000").stderr(Stdio::null());
        (Helper::start(command, vec![theirs.into()]).unwrap(), ours)
    }

    fn wait_for_end(mut stream: UnixStream) {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn it_ends_with_its_owner() {
        let (helper, stream) = start();
        assert!(!helper.ends_within(Duration::ZERO));
        drop(helper);
        wait_for_end(stream);
    }

    #[test]
    fn it_ends_when_the_owner_panics() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let owner = thread::spawn(move || {
            let (_helper, stream) = start();
            sender.send(stream).unwrap();
            panic!("this panic is part of the test");
        });
        assert!(owner.join().is_err());
        wait_for_end(receiver.recv().unwrap());
    }

    #[test]
    fn it_ends_with_the_thread_that_started_it() {
        let (helper, stream) = thread::spawn(start).join().unwrap();
        wait_for_end(stream);
        assert!(helper.ends_within(PATIENCE));
    }

    #[test]
    fn it_has_its_descriptors_and_says_what_is_wrong() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("cat <&{}; echo wrong >&2; exit 3", theirs.as_raw_fd()));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut helper = Helper::start(command, vec![theirs.into()]).unwrap();
        ours.write_all(b"text").unwrap();
        let mut messages = helper.take_messages().unwrap().unwrap();
        assert_eq!(messages.ending(), None, "it goes on");
        drop(ours);
        let ending = messages.ending().unwrap();
        assert_eq!(ending, Ending::Failed(3, Some("wrong".to_owned())));
        assert_eq!(ending.to_string(), "with status 3; it said: wrong");
        assert!(helper.take_messages().unwrap().is_none());
        drop(helper);
        assert_eq!(messages.ending(), None, "its status is taken");
    }

    /// Only a message after the start, of a program that failed, is the reason for its end.
    #[test]
    fn harmless_messages_are_not_quoted() {
        for (ends, expected) in [
            ("exit 0", Ending::Done),
            ("exit 4", Ending::Failed(4, None)),
            ("echo \"Failed to send 9 bytes to syslog\" >&2; exit 4", Ending::Failed(4, None)),
            ("kill -9 $$", Ending::Killed(9)),
        ] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("echo no IPv6 >&2; echo; read -r line; {ends}"));
            command.stdin(OwnedFd::from(theirs.try_clone().unwrap())).stdout(OwnedFd::from(theirs));
            command.stderr(Stdio::piped());
            let mut helper = Helper::start(command, Vec::new()).unwrap();
            let mut messages = helper.take_messages().unwrap().unwrap();
            // The program works.
            ours.read_exact(&mut [0]).unwrap();
            messages.forget();
            ours.write_all(b"end\n").unwrap();
            assert_eq!(messages.ending(), Some(expected), "{ends}");
        }
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error() {
        let error = Helper::start(Command::new("/no/such/program"), Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
