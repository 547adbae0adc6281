//! Runs a machine of the soak: starts it, lets happen what its plan says, and waits for its end.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::{
        net::UnixStream,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use vmm::machine::config::DeviceRequest;

use super::{
    host::{Folder, Place},
    inject,
    plan::{Action, COMMANDS, Guest, Plan, Reader},
};
use crate::{bare_metal::BareMetal, guest, programs, supervision::Supervised};

/// The longest time from the event that ends a machine to its end. minivmm has a limit of 20 s for each part of it.
const LIMIT: Duration = Duration::from_secs(60);
/// If a machine takes longer to end after its stop, and its main thread has hardly run meanwhile, a part is stuck, or nearly so. It is
/// recorded where its threads wait. A main thread that has run is at work, for example on a long report.
const LONG: Duration = Duration::from_secs(10);
/// The time that a main thread at work runs in [`LONG`] on a busy host.
const WORK: Duration = Duration::from_secs(1);

/// The most of a stream that is kept, in bytes.
const KEPT: usize = 256 << 10;

/// The plan of faults for guests that stream: some of everything.
const FAULTS: &str = r#"
[[rule]]
name = "flip"
on = "frame.dma"
action = "flip"
bits = 100000
when = { probability = 0.1 }

[[rule]]
name = "lost"
on = "irq"
action = "lose"
when = { every = 40 }
"#;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
    /// Not within the limit: the soak has killed it.
    Hang,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Hang => f.write_str("hang"),
        }
    }
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Self::Signal(status.signal().unwrap_or(0)), Self::Status)
    }
}

/// A machine that has ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub end: End,
    pub took: Duration,
    /// The event that was to end it, with the time from there to the end.
    pub stopped: Option<(String, Duration)>,
    /// The errors of system calls, and how often each was injected.
    pub injected: Vec<(String, u64)>,
    /// The signals that it got.
    pub signals: Vec<Signal>,
    /// The end of standard error, if that was read.
    pub stderr: String,
    pub problems: Vec<String>,
}

/// Runs the machine of `plan`, which writes its files into `folder`.
pub(super) fn run(plan: &Plan, place: &Place, folder: &Folder) -> io::Result<Ran> {
    let inputs = tempfile::Builder::new().prefix("inputs-").tempdir_in(place.path())?;
    let mut command = command(plan, folder, inputs.path())?;
    let group = match plan.shortage {
        Some(shortage) => place.limit(&mut command, shortage)?,
        None => None,
    };
    // It is the last: its filter holds up further calls until the command has started.
    let supervision = plan.injection.map(|_| inject::prepare(&mut command)).transpose()?;
    let begun = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    // With it go our ends of its descriptors.
    drop(command);
    let mut child = child?;
    let injected = match (supervision, plan.injection) {
        (Some(supervision), Some(chances)) => Some(inject::begin(supervision, chances)?),
        _ => None,
    };
    let [out, err] = plan.readers;
    let stdout = child.stdout.take().map(|stream| Stream::new(stream, out));
    let stderr = child.stderr.take().map(|stream| Stream::new(stream, err));
    let mut machine =
        Machine { child, folder, begun, signals: Vec::new(), waits: None, shifted: 0, ctl: Vec::new() };
    let (end, stopped) = machine.live(plan);
    let took = begun.elapsed();
    let mut problems = Vec::new();
    if end == End::Hang {
        problems.push(format!("no end within {} s: {}", LIMIT.as_secs(), machine.kill()));
    }
    let injected = injected.and_then(Supervised::end).map(|injector| injector.counts).unwrap_or_default();
    machine.restore_clock();
    let Machine { signals, waits, ctl, .. } = machine;
    if let (Some(waits), Some((how, after))) = (waits, &stopped)
        && !waits.is_empty()
        && end != End::Hang
    {
        problems.push(format!("it took {} s to end after {how}: {waits}", after.as_secs()));
    }
    for (verb, mut client) in ctl {
        if !end_client(&mut client) {
            problems.push(format!("ctl {verb} does not end after its machine"));
        }
    }
    drop(group);
    drop(stdout.map(Stream::end));
    let stderr = stderr.map(Stream::end).unwrap_or_default();
    Ok(Ran { end, took, stopped, injected, signals, stderr, problems })
}

/// The command line of the machine.
fn command(plan: &Plan, folder: &Folder, inputs: &Path) -> io::Result<Command> {
    let mut command = Command::new(guest::minivmm());
    command.args(["--host", "kvm", "--seed", "1"]);
    // cargo sets it, and each folder of it means more calls of the loader, which can fail before minivmm runs.
    command.env_remove("LD_LIBRARY_PATH");
    let bare = |name| BareMetal::new(name);
    match plan.guest {
        Guest::Bare(name) => {
            command.args(["--any-host", "--camera", "none", "--memory", "64M", "--kernel"]);
            command.arg(bare(name).build(inputs).config.kernel);
        }
        Guest::Stream(frames, has_faults) => {
            let mut guest = bare("stream");
            guest.config.windows = vec!["16M".parse().map_err(io::Error::other)?];
            let camera = DeviceRequest::new("camera", "timing=stall").map_err(io::Error::other)?;
            guest.config.devices = vec![camera];
            for (name, value) in [
                ("FORMAT", u32::from_le_bytes(*b"NV12").into()),
                ("WIDTH", 640),
                ("HEIGHT", 480),
                ("PLANES", 2),
                ("BUFFERS", 3),
                ("WARM_UP", 10),
                ("MEASURED", frames),
            ] {
                guest = guest.with(name, value);
            }
            command.args(["--any-host", "--cma", "16M", "--camera", "timing=stall", "--memory", "64M"]);
            command.arg("--kernel").arg(guest.build(inputs).config.kernel);
            if has_faults {
                let faults = inputs.join("faults.toml");
                fs::write(&faults, FAULTS)?;
                command.arg("--faults").arg(faults);
            }
        }
        Guest::Linux(name) => {
            let known = COMMANDS.iter().find(|(known, _)| *known == name);
            let script = known.map_or("true", |(_, script)| script);
            command.args(["--cma", "32M", "--memory", "256M", "--exec", script]);
        }
    }
    for option in &plan.outputs {
        command.arg(option).arg(folder.path(option.trim_start_matches('-')));
    }
    if let Some(seconds) = plan.timeout {
        command.args(["--timeout", &seconds.to_string()]);
    }
    // It does not outlive this process, and gets no signal of its terminal.
    programs::end_with_us(&mut command, Signal::KILL);
    command.process_group(0);
    Ok(command)
}

/// A machine that runs.
struct Machine<'a> {
    child: Child,
    folder: &'a Folder,
    begun: Instant,
    signals: Vec<Signal>,
    /// Where its threads waited, if it took long to end.
    waits: Option<String>,
    /// By how many seconds the clock was moved.
    shifted: i64,
    ctl: Vec<(&'static str, Child)>,
}

impl Machine<'_> {
    /// Lets happen what the plan says, until the end.
    fn live(&mut self, plan: &Plan) -> (End, Option<(String, Duration)>) {
        let mut actions = plan.actions.iter().peekable();
        let mut stopped: Option<(String, Instant)> = None;
        let mut ran_before = Duration::ZERO;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return (status.into(), stopped.map(|(how, at)| (how, at.elapsed())));
            }
            let now = self.begun.elapsed();
            while let Some((_, action)) = actions.next_if(|(at, _)| now >= Duration::from_millis(*at)) {
                self.act(*action);
                if actions.peek().is_none() {
                    let how = match action {
                        Action::Signal(signal) => format!("signal {}", signal.as_raw()),
                        _ => "ctl stop".to_owned(),
                    };
                    stopped = Some((how, Instant::now()));
                    ran_before = guest::main_thread_has_run(self.child.id());
                }
            }
            if stopped.as_ref().is_some_and(|(_, at)| at.elapsed() > LONG) {
                let pid = self.child.id();
                let has_worked = guest::main_thread_has_run(pid).saturating_sub(ran_before) >= WORK;
                self.waits.get_or_insert_with(|| if has_worked { String::new() } else { guest::waits(pid) });
            }
            match &mut stopped {
                Some((_, at)) if at.elapsed() > LIMIT => {
                    return (End::Hang, stopped.map(|(how, at)| (how, at.elapsed())));
                }
                // The client may have met a socket that was not there yet, or is not there at all.
                Some((how, at)) if how == "ctl stop" && at.elapsed() > Duration::from_secs(12) => {
                    self.act(Action::Signal(Signal::TERM));
                    *how = "ctl stop, signal 15".to_owned();
                    *at = Instant::now();
                }
                _ => {}
            }
            thread::sleep(Duration::from_millis(3));
        }
    }

    fn act(&mut self, action: Action) {
        let socket = self.folder.path("api-socket");
        match action {
            Action::Signal(signal) => {
                // Until it is waited for, the number is the machine's.
                let _ = kill_process(Pid::from_child(&self.child), signal);
                self.signals.push(signal);
            }
            Action::Ctl(verb) => {
                let mut client = Command::new(guest::minivmm());
                client.arg("ctl").arg(socket).arg(verb);
                client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                self.ctl.extend(client.spawn().ok().map(|client| (verb, client)));
            }
            Action::Half => {
                // The machine may not have come as far.
                if let Ok(mut client) = UnixStream::connect(socket) {
                    let _ = client.write_all(b"{\"verb\":");
                }
            }
            Action::Clock(seconds) => {
                self.shifted += seconds;
                shift_clock(seconds);
            }
        }
    }

    fn restore_clock(&mut self) {
        if self.shifted != 0 {
            shift_clock(-std::mem::take(&mut self.shifted));
        }
    }

    /// Kills it, and says where its threads waited.
    fn kill(&mut self) -> String {
        let threads = guest::waits(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        threads
    }
}

/// Whether a client ends, as its machine has.
fn end_client(client: &mut Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        if !matches!(client.try_wait(), Ok(None)) {
            return true;
        }
        thread::sleep(Duration::from_millis(3));
    }
    let _ = client.kill();
    let _ = client.wait();
    false
}

fn shift_clock(seconds: i64) {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    now.tv_sec += seconds;
    // SAFETY: the kernel reads the structure.
    unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const now) };
}

/// A stream of minivmm, with its reader.
enum Stream {
    Reads(JoinHandle<String>),
    #[expect(dead_code, reason = "the pipe is kept open")]
    Stalls(Box<dyn Send>),
    Closed,
}

trait Pipe: io::Read + Send + 'static {}
impl Pipe for ChildStdout {}
impl Pipe for ChildStderr {}

impl Stream {
    fn new(mut pipe: impl Pipe, reader: Reader) -> Self {
        match reader {
            Reader::Closed => Self::Closed,
            Reader::Stalls => Self::Stalls(Box::new(pipe)),
            Reader::Reads => Self::Reads(thread::spawn(move || {
                let mut text = Vec::new();
                let mut piece = vec![0; 64 << 10];
                while let Ok(count @ 1..) = pipe.read(&mut piece) {
                    text.extend_from_slice(&piece[..count]);
                    let surplus = text.len().saturating_sub(KEPT);
                    text.drain(..surplus);
                }
                String::from_utf8_lossy(&text).into_owned()
            })),
        }
    }

    /// The end of what was read.
    fn end(self) -> String {
        match self {
            Self::Reads(thread) => thread.join().unwrap_or_default(),
            Self::Stalls(_) | Self::Closed => String::new(),
        }
    }
}
