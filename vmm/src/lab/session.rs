//! One run of the lab: starts the emulator, moves bytes, waits for the command's end.

use std::{
    env,
    fs::File,
    io,
    io::{IsTerminal as _, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::Pid,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};

use super::{
    error::LabError,
    flow::{Flow, Sink},
    host_cpu::HostCpu,
    image, qemu,
    recipe::Recipe,
    relay::{self, Side},
    script::{self, Script},
    settings::{Lab, Note, Output},
    terminal::{self, Escape, RawTerminal},
};
use crate::api::server::{Socket, WHAT};

type Signals = SignalDelivery<UnixStream, SignalOnly>;

/// How long the command may take to end after a signal.
const GRACE: Duration = Duration::from_secs(15);
/// The longest time in which a lab comes up: many times what it takes on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// How long the last answers of the command's socket may take when it has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// The time between two looks for a free CPU.
const SEEK: Duration = Duration::from_secs(1);

/// The signals that are passed on, and their names in the lab.
const PASSED: [(i32, &str); 4] = [(SIGHUP, "HUP"), (SIGINT, "INT"), (SIGQUIT, "QUIT"), (SIGTERM, "TERM")];

/// Runs `command`; with `input` and captured output, or else with our own streams.
pub(super) fn run(
    lab: &Lab,
    command: &[std::ffi::OsString],
    input: Option<&[u8]>,
) -> Result<Output, LabError> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let terminal = input.is_none() && stdin.is_terminal() && stdout.is_terminal();
    let errors = !(terminal && stderr.is_terminal());
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source| LabError::Io { what, source }
    };

    let size = terminal.then(|| terminal::size(stdin.as_fd()).unwrap_or("24 80".into()));

    let writable = lab.writable_folders()?;
    let recipe = Recipe::of(lab.arch);
    let image = image::prepare(recipe, lab.arch, &lab.note)?;
    let mark = mark().map_err(failed("cannot read /dev/urandom"))?;
    let text = Script {
        command,
        directory: &env::current_dir().map_err(failed("cannot find the working directory"))?,
        network: lab.network.is_some(),
        userland: image.userland.is_some(),
        environment: &script::environment(lab.programs.as_deref()).map_err(failed("cannot make a PATH"))?,
        writable: &writable,
        mark: &mark,
        terminal: size.as_deref(),
        errors,
    }
    .text();
    let log_file = match &lab.log {
        Some(path) => Some(File::create(path).map_err(LabError::io("cannot create the log", path))?),
        None => None,
    };

    let begun = Instant::now();
    let cpu = if recipe.one_host_cpu {
        Some(HostCpu::take().map_err(failed("cannot choose a CPU for the lab"))?)
    } else {
        None
    };
    let mut machine = qemu::Builder::new(recipe, lab.machine.as_deref(), lab.memory, lab.cpus);
    machine.boot(&image.kernel, image.initramfs_with(&text)?, recipe.cmdline);
    machine.share("root", "/".as_ref(), false);
    if let Some(folder) = &image.userland {
        machine.share("userland", folder, false);
    }
    if let Some(ports) = &lab.network {
        machine.network(ports);
    }
    for (index, folder) in writable.iter().enumerate() {
        machine.share(&format!("share{index}"), folder, true);
    }
    let bound = lab.sockets.iter().map(|(_, path)| Socket::bind(WHAT, path));
    let clients = bound.collect::<Result<Vec<_>, _>>()?;
    let socket = failed("cannot make a socket for the lab");
    let ports = (|| {
        let stdio = if terminal {
            let port = machine.terminal()?;
            (port.try_clone()?, port)
        } else {
            (machine.port("stdin")?, machine.port("stdout")?)
        };
        let stderr = if errors { Some(machine.port("stderr")?) } else { None };
        // When the lab's init has found the control port, it has all.
        let relayed =
            lab.sockets.iter().map(|(name, _)| machine.port(name)).collect::<io::Result<Vec<_>>>()?;
        io::Result::Ok((stdio.0, stdio.1, stderr, relayed, machine.port("control")?))
    })();
    let (in_port, out_port, err_port, relayed, control) = ports.map_err(socket)?;
    let mut signals = if lab.pass_signals || terminal {
        Some(signals(terminal).map_err(failed("cannot watch for signals"))?)
    } else {
        None
    };
    // They end with the emulator, which therefore goes before them, whatever way this function ends.
    let relays = clients
        .into_iter()
        .zip(relayed)
        .map(|(clients, port)| Relay::begin(clients, port))
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed("cannot serve the lab's socket"))?;
    (lab.note)(Note::Booting);
    let (qemu, log) = machine
        .start(cpu.as_ref().map(|cpu| cpu.set))
        .map_err(failed(&format!("cannot start {}", recipe.qemu)))?;

    let sink = |fd| if input.is_some() { Sink::Memory(Vec::new()) } else { Sink::Descriptor(fd) };
    let source = input.is_none().then_some(stdin.as_fd());
    let mut session = Session {
        lab,
        begun,
        started: false,
        status: None,
        input: Flow::to_port(input.unwrap_or_default(), source, &in_port),
        outputs: vec![Flow::from_port(&out_port, &mark, sink(stdout.as_fd()))],
        control: Some(control),
        lines: Vec::new(),
        log: Some(log),
        log_file,
        tail: Vec::new(),
        terminal: terminal.then_some(stdin.as_fd()),
        raw: None,
        escape: Escape::default(),
        ending: None,
        cpu,
        emulator: qemu.pid(),
        sought: Instant::now(),
    };
    if let Some(port) = &err_port {
        session.outputs.push(Flow::from_port(port, &mark, sink(stderr.as_fd())));
    }
    let output = session.run(signals.as_mut());
    if output.is_ok() {
        relays.iter().for_each(|relay| relay.wait(LAST_ANSWERS));
    }
    drop(qemu);
    output
}

/// The host's end of the connections to a socket of the machine in the lab.
struct Relay {
    thread: Option<JoinHandle<io::Result<()>>>,
    _socket: Socket,
}

impl Relay {
    fn begin(socket: Socket, port: UnixStream) -> io::Result<Self> {
        port.set_nonblocking(true)?;
        let port = File::from(OwnedFd::from(port));
        let listener = socket.listener.try_clone()?;
        let thread = thread::Builder::new().name("relay".into());
        #[expect(clippy::disallowed_methods, reason = "this process runs no machine")]
        let thread = thread.spawn(move || relay::run(Side::Host(listener), port))?;
        Ok(Self { thread: Some(thread), _socket: socket })
    }

    /// Waits until the last answer is with its client, at most for `limit`.
    fn wait(&self, limit: Duration) {
        let begun = Instant::now();
        let is_finished = || self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        while !is_finished() && begun.elapsed() < limit {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A stream that broke ended with the emulator.
            let _ = thread.join();
        }
    }
}

/// What no command writes by chance: 128 random bits.
fn mark() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn signals(terminal: bool) -> io::Result<Signals> {
    let (read, write) = UnixStream::pair()?;
    let size = terminal.then_some(SIGWINCH);
    let passed = PASSED.into_iter().map(|(signal, _)| signal);
    Signals::with_pipe(read, write, SignalOnly, passed.chain(size))
}

struct Session<'a> {
    lab: &'a Lab,
    begun: Instant,
    /// Whether the command has begun.
    started: bool,
    /// The command's exit status, once it is known.
    status: Option<u8>,
    input: Flow<'a>,
    outputs: Vec<Flow<'a>>,
    control: Option<UnixStream>,
    /// What came from the control port and is not a whole line yet.
    lines: Vec<u8>,
    log: Option<UnixStream>,
    log_file: Option<File>,
    /// The end of the log.
    tail: Vec<u8>,
    /// Our terminal, if the command has one.
    terminal: Option<BorrowedFd<'a>>,
    raw: Option<RawTerminal<'a>>,
    escape: Escape,
    /// The signal that was passed on to the command, and when that has to have ended.
    ending: Option<(i32, Instant)>,
    /// The CPU of the emulator, if it has to stay on one.
    cpu: Option<HostCpu>,
    emulator: Pid,
    /// When a CPU of its own was sought for the emulator.
    sought: Instant,
}

impl Session<'_> {
    fn run(mut self, mut signals: Option<&mut Signals>) -> Result<Output, LabError> {
        loop {
            if let Some(status) = self.status
                && self.outputs.iter().all(Flow::is_done)
            {
                let mut captured = self.outputs.into_iter().map(Flow::into_memory);
                let (stdout, stderr) =
                    (captured.next().unwrap_or_default(), captured.next().unwrap_or_default());
                return Ok(Output { status, stdout, stderr });
            }
            self.seek_cpu()?;
            let ready = self.wait(signals.as_deref())?;
            if ready.signal
                && let Some(signals) = signals.as_deref_mut()
            {
                self.take_signals(signals)?;
            }
            if ready.log {
                self.read_log()?;
            }
            if ready.control {
                self.read_control()?;
            }
            if ready.input {
                self.move_input()?;
            }
            for (flow, ready) in self.outputs.iter_mut().zip(ready.outputs) {
                if ready && let Err(source) = flow.step() {
                    return Err(LabError::Io { what: "cannot pass on the command's output".into(), source });
                }
            }
        }
    }

    /// Whether the emulator shares its CPU with another lab's.
    fn shares_cpu(&self) -> bool {
        self.cpu.as_ref().is_some_and(HostCpu::may_be_shared)
    }

    /// Looks now and then for a CPU that another lab has left, if the emulator shares one.
    fn seek_cpu(&mut self) -> Result<(), LabError> {
        if self.shares_cpu() && self.sought.elapsed() >= SEEK {
            self.sought = Instant::now();
            let emulator = self.emulator;
            let sought = self.cpu.as_mut().map_or(Ok(()), |cpu| cpu.seek(emulator));
            return sought.map_err(|source| LabError::Io {
                what: "cannot move the emulator to another CPU".into(),
                source,
            });
        }
        Ok(())
    }

    /// Waits until something can be done, for the time limit, or until a CPU is sought.
    fn wait(&self, signals: Option<&Signals>) -> Result<Ready, LabError> {
        loop {
            let left = self.limit().map(|limit| limit.saturating_sub(self.begun.elapsed()));
            if left == Some(Duration::ZERO) {
                return Err(self.timed_out());
            }
            let grace = self.ending.map(|(_, end)| end.saturating_duration_since(Instant::now()));
            if let (Some((signal, _)), Some(Duration::ZERO)) = (self.ending, grace) {
                return Err(LabError::Signal(signal));
            }
            let seek = self.shares_cpu().then(|| SEEK.saturating_sub(self.sought.elapsed()));
            let left = left.into_iter().chain(grace).chain(seek).min();
            let sources = [
                signals.map(|signals| (signals.get_read().as_fd(), PollFlags::IN)),
                self.log.as_ref().map(|log| (log.as_fd(), PollFlags::IN)),
                self.control.as_ref().map(|control| (control.as_fd(), PollFlags::IN)),
                // What is typed while the lab boots stays where it is: Ctrl-C still is the host's.
                self.input.interest().filter(|_| self.terminal.is_none() || self.raw.is_some()),
            ];
            let sources: Vec<_> =
                sources.into_iter().chain(self.outputs.iter().map(Flow::interest)).collect();
            let mut fds: Vec<PollFd<'_>> =
                sources.iter().flatten().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
            let timeout = left.and_then(|left| left.try_into().ok());
            match poll(&mut fds, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) => return Ok(Ready::default()),
                Err(error) => return Err(LabError::Io { what: "cannot poll".into(), source: error.into() }),
                Ok(_) => (),
            }
            let mut events = fds.iter().map(|fd| !fd.revents().is_empty());
            let mut ready = sources.iter().map(|source| source.is_some() && events.next().unwrap_or(false));
            let mut next = || ready.next().unwrap_or(false);
            return Ok(Ready {
                signal: next(),
                log: next(),
                control: next(),
                input: next(),
                outputs: ready.collect(),
            });
        }
    }

    /// The time limit from the session's begin on. A lab that does not come up has one also if the command has none.
    fn limit(&self) -> Option<Duration> {
        match self.lab.timeout {
            limit if self.started => limit,
            limit => Some(limit.map_or(BOOT_LIMIT, |limit| limit.min(BOOT_LIMIT))),
        }
    }

    fn timed_out(&self) -> LabError {
        let log =
            if self.started { String::new() } else { format!("; its last messages:\n{}", self.last_lines()) };
        LabError::Timeout { limit: self.limit().unwrap_or_default(), started: self.started, log }
    }

    fn take_signals(&mut self, signals: &mut Signals) -> Result<(), LabError> {
        for signal in signals.pending() {
            match PASSED.iter().find(|(passed, _)| *passed == signal) {
                Some((_, name)) if self.started && self.ending.is_none() => {
                    self.tell(&format!("signal {name}"));
                    self.ending = Some((signal, Instant::now() + GRACE));
                }
                Some(_) => return Err(LabError::Signal(signal)),
                None => {
                    if let Some(size) = self.terminal.and_then(terminal::size) {
                        self.tell(&format!("size {size}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells the lab's init.
    fn tell(&mut self, line: &str) {
        if let Some(control) = &mut self.control {
            // If the emulator is gone, the log's end tells.
            let _ = writeln!(control, "{line}");
        }
    }

    fn read_log(&mut self) -> Result<(), LabError> {
        /// More than a screen of messages.
        const KEPT: usize = 1 << 14;
        let Some(log) = &mut self.log else { return Ok(()) };
        let mut buffer = [0; 4096];
        let count = log.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            return Err(LabError::Died { log: self.last_lines() });
        }
        if let Some((file, path)) = self.log_file.as_mut().zip(self.lab.log.as_ref()) {
            file.write_all(&buffer[..count]).map_err(LabError::io("cannot write the log", path))?;
        }
        self.tail.extend(&buffer[..count]);
        let excess = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..excess);
        Ok(())
    }

    /// The last lines of the log.
    fn last_lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn read_control(&mut self) -> Result<(), LabError> {
        let Some(control) = &mut self.control else { return Ok(()) };
        let mut buffer = [0; 4096];
        let count = control.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            self.control = None;
        }
        self.lines.extend(&buffer[..count]);
        while let Some(end) = self.lines.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.lines.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            self.act_on(line.trim_end())?;
        }
        Ok(())
    }

    /// Acts on what the lab's init tells.
    fn act_on(&mut self, line: &str) -> Result<(), LabError> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (verb, rest.parse()) {
            ("started", _) => {
                self.started = true;
                (self.lab.note)(Note::Up(self.begun.elapsed()));
                if let Some(terminal) = self.terminal {
                    let raw = RawTerminal::new(terminal);
                    let what = "cannot put the terminal into raw mode".into();
                    self.raw = Some(raw.map_err(|source| LabError::Io { what, source })?);
                }
                Ok(())
            }
            ("exit", Ok(status)) => {
                self.status = Some(status);
                Ok(())
            }
            ("failed", _) => Err(LabError::Init { reason: rest.into(), log: self.last_lines() }),
            _ => Err(LabError::Init { reason: format!("said {line:?}"), log: self.last_lines() }),
        }
    }

    fn move_input(&mut self) -> Result<(), LabError> {
        let moved = self.input.step();
        if self.terminal.is_some() {
            return match moved {
                Ok(typed) if self.escape.completes(&typed, Instant::now()) => Err(LabError::Signal(SIGINT)),
                Ok(_) if !self.input.is_done() => Ok(()),
                // The terminal is gone.
                _ => Err(LabError::Signal(SIGHUP)),
            };
        }
        if moved.is_err() {
            // The command may end without having read its input; and input that we cannot read has ended.
            self.input.close();
        }
        Ok(())
    }
}

/// What can be done without waiting.
#[derive(Default)]
struct Ready {
    signal: bool,
    log: bool,
    control: bool,
    input: bool,
    outputs: Vec<bool>,
}
