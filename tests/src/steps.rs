//! A guest that runs a script in steps: at each it waits for the test, which looks at the host meanwhile.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Lines, Read as _, Write as _},
    ops::Range,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};
use tempfile::TempDir;
use vmm::observe::report::Report;

use crate::guest;

/// A shell function for the script: waits until the test lets the guest go on.
const PRELUDE: &str = "step() { read -r next; }\n";

/// The machine.
pub struct Stepped {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    folder: TempDir,
}

impl Stepped {
    /// Starts a machine with `arguments` (words), whose guest runs `script`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(arguments: &str, script: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let mut minivmm = Command::new(guest::minivmm());
        minivmm.args(arguments.split_whitespace()).args(["--timeout", "110"]);
        minivmm.arg("--report").arg(folder.path().join("report")).arg("--out").arg(folder.path());
        minivmm.args(["--exec", &format!("{PRELUDE}{script}")]);
        minivmm.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = guest::spawn(&mut minivmm);
        let input = child.stdin.take().expect("it is a pipe");
        let output = child.stdout.take().expect("it is a pipe");
        Self { child, input, lines: BufReader::new(output).lines(), folder }
    }

    /// The next line that the guest prints.
    ///
    /// # Panics
    /// If the guest ends instead. The message has minivmm's errors.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let line = self.lines.next().map(|line| line.expect("it is text"));
        line.unwrap_or_else(|| panic!("the guest has ended: {}", self.errors()))
    }

    /// All further lines, to the end of the guest.
    ///
    /// # Panics
    /// If they are no text.
    pub fn rest(&mut self) -> String {
        self.lines.by_ref().map(|line| line.expect("it is text") + "\n").collect()
    }

    /// Lets the guest go on after a step.
    ///
    /// # Panics
    /// If the guest has ended.
    pub fn go_on(&mut self) {
        writeln!(self.input).expect("the guest reads");
    }

    /// The folder of the guest's files, once it has ended.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Guest memory that is in the host's memory, in MiB.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.expect("a process has shared memory") / 1024
    }

    /// The part of `range`, in bytes from the beginning of guest memory, that is in the host's memory, in MiB.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn resident_within(&self, range: Range<u64>) -> u64 {
        let folder = format!("/proc/{}/fd", self.child.id());
        let mut files = fs::read_dir(folder).expect("it runs").map(|entry| entry.expect("it runs").path());
        let is_memory = |file: &Path| {
            let to = fs::read_link(file).unwrap_or_default();
            to.to_string_lossy().starts_with("/memfd:guest-memory")
        };
        let file = files.find(|file| is_memory(file)).expect("guest memory is a file");
        let file = File::open(file).expect("its file can be opened again");
        let (mut at, mut found) = (range.start, 0);
        while at < range.end {
            let begin = match seek(&file, SeekFrom::Data(at)) {
                Ok(begin) => begin.min(range.end),
                Err(Errno::NXIO) => break,
                Err(error) => panic!("guest memory has no holes: {error}"),
            };
            at = seek(&file, SeekFrom::Hole(begin)).expect("a hole follows").min(range.end);
            found += at.saturating_sub(begin);
        }
        found >> 20
    }

    /// Waits for the end of the guest.
    ///
    /// # Panics
    /// If its exit status is not 0, or minivmm has printed an error.
    pub fn end(&mut self) -> Report {
        let errors = self.errors();
        let status = self.child.wait().expect("it is a child");
        assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
        let report = fs::read(self.folder.path().join("report")).expect("there is a report");
        serde_json::from_slice(&report).expect("the report is one")
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut errors).expect("they are text");
        }
        errors
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        // It has ended, unless the test panics.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
