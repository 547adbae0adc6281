//! One run of the lab: starts the emulator, moves bytes, waits for the command's end.

use std::{
    env,
    fs::File,
    io,
    io::{IsTerminal as _, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
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
    image::{self, Image},
    qemu::{self, Begin},
    recipe::Recipe,
    relay::{self, host::Relay},
    script::{self, Script},
    settings::{Lab, Note, Output},
    state::State,
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

/// An error that has many causes.
const NO_SOCKET: &str = "cannot make a socket for the lab";

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
    let is_terminal = input.is_none() && stdin.is_terminal() && stdout.is_terminal();
    let terminal = is_terminal.then_some(stdin.as_fd());
    let recipe = Recipe::of(lab.arch);
    let run = Run {
        lab,
        command,
        input,
        terminal,
        errors: !(is_terminal && stderr.is_terminal()),
        writable: lab.writable_folders()?,
        recipe,
        image: image::prepare(recipe, lab.arch, &lab.note)?,
    };
    let mut cpu = if recipe.one_host_cpu {
        Some(HostCpu::take().map_err(LabError::of("cannot choose a CPU for the lab"))?)
    } else {
        None
    };
    let mut signals = if lab.pass_signals || is_terminal {
        Some(signals(is_terminal).map_err(LabError::of("cannot watch for signals"))?)
    } else {
        None
    };
    // Who wants the kernel's messages wants to see it boot.
    let state = if lab.log.is_none() { run.state(cpu.as_ref(), signals.as_ref())? } else { None };
    let mut started = false;
    if let Some((state, file)) = state {
        match run.once(Some(file), &mut cpu, signals.as_mut(), &mut started) {
            Err(LabError::Died { log }) if !started => {
                (lab.note)(&Note::NotContinued(log));
                state.remove();
            }
            output => return output,
        }
    }
    run.once(None, &mut cpu, signals.as_mut(), &mut started)
}

/// What a run needs, whether the lab boots or continues from a saved state.
struct Run<'a> {
    lab: &'a Lab,
    command: &'a [std::ffi::OsString],
    input: Option<&'a [u8]>,
    /// Our terminal, if the command gets one.
    terminal: Option<BorrowedFd<'a>>,
    /// Whether standard error has its own port.
    errors: bool,
    writable: Vec<PathBuf>,
    recipe: &'static Recipe,
    image: Image,
}

/// Our ends of the machine's ports.
struct Ports {
    stdin: UnixStream,
    stdout: UnixStream,
    stderr: Option<UnixStream>,
    /// One for each socket, with its path.
    relayed: Vec<(PathBuf, UnixStream)>,
    script: UnixStream,
    control: UnixStream,
}

impl Run<'_> {
    /// The machine, without what it begins with. It has devices for all that a lab may be given, so that most labs have the same, and one
    /// saved state.
    fn machine(&self) -> io::Result<(qemu::Builder, Ports)> {
        /// The number of shares is a multiple of this.
        const SHARES: usize = 4;
        let lab = self.lab;
        let mut machine = qemu::Builder::new(self.recipe, lab.machine.as_deref(), lab.memory, lab.cpus);
        machine.share("root", "/".as_ref(), false);
        if let Some(folder) = &self.image.userland {
            machine.share("userland", folder, false);
        }
        for index in 0..self.writable.len().max(1).next_multiple_of(SHARES) {
            let folder = self.writable.get(index);
            let path = folder.map_or("/".as_ref(), PathBuf::as_path);
            machine.share(&format!("share{index}"), path, folder.is_some());
        }
        machine.network(lab.network.as_deref());
        let (stdin, stdout) = if self.terminal.is_some() {
            let terminal = machine.terminal()?;
            machine.idle_port("stdin");
            machine.idle_port("stdout");
            (terminal.try_clone()?, terminal)
        } else {
            machine.idle_terminal();
            (machine.port("stdin")?, machine.port("stdout")?)
        };
        let stderr = if self.errors {
            Some(machine.port("stderr")?)
        } else {
            machine.idle_port("stderr");
            None
        };
        let mut relayed = Vec::new();
        for name in relay::NAMES {
            match lab.sockets.iter().find(|(of, _)| *of == name) {
                Some((_, path)) => relayed.push((path.clone(), machine.port(name)?)),
                None => machine.idle_port(name),
            }
        }
        let script = machine.port("script")?;
        // When the lab's init has found this port, it has all.
        let control = machine.port("control")?;
        Ok((machine, Ports { stdin, stdout, stderr, relayed, script, control }))
    }

    fn boot(&self) -> Begin<'_> {
        Begin::Boot {
            kernel: &self.image.kernel,
            initramfs: &self.image.initramfs,
            cmdline: self.recipe.cmdline,
        }
    }

    /// Opens the saved state, or saves it first. Returns none if saving fails or a signal arrives.
    fn state(
        &self,
        cpu: Option<&HostCpu>,
        signals: Option<&Signals>,
    ) -> Result<Option<(State, File)>, LabError> {
        let (machine, ports) = self.machine().map_err(LabError::of(NO_SOCKET))?;
        let saved = State::of(&self.image, &machine).and_then(|state| {
            if let Some(file) = state.open() {
                return Ok(Some((state, file)));
            }
            (self.lab.note)(&Note::Saving);
            let stop = signals.map(|signals| signals.get_read().as_fd());
            state.save(machine, &ports.control, self.boot(), cpu.map(|cpu| cpu.set), stop, BOOT_LIMIT)?;
            Ok(state.open().map(|file| (state, file)))
        });
        Ok(saved.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                (self.lab.note)(&Note::NotSaved(error.to_string()));
            }
            None
        }))
    }

    /// Runs the command in a lab that continues from `state`, or boots. It tells whether the command has `started`.
    fn once(
        &self,
        state: Option<File>,
        cpu: &mut Option<HostCpu>,
        signals: Option<&mut Signals>,
        started: &mut bool,
    ) -> Result<Output, LabError> {
        let lab = self.lab;
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let no_randomness = || LabError::of("cannot read /dev/urandom");
        let mark = random().map_err(no_randomness())?;
        let seed = random().map_err(no_randomness())?;
        let size = self.terminal.map(|terminal| terminal::size(terminal).unwrap_or("24 80".into()));
        let log_file = match &lab.log {
            Some(path) => Some(File::create(path).map_err(LabError::io("cannot create the log", path))?),
            None => None,
        };
        let (machine, ports) = self.machine().map_err(LabError::of(NO_SOCKET))?;
        let Ports { stdin: in_port, stdout: out_port, stderr: err_port, relayed, script, control } = ports;
        let bound =
            relayed.into_iter().map(|(path, port)| Socket::bind(WHAT, &path).map(|socket| (socket, port)));
        let clients = bound.collect::<Result<Vec<_>, _>>()?;
        let begun = Instant::now();
        let text = Script {
            command: self.command,
            directory: &env::current_dir().map_err(LabError::of("cannot find the working directory"))?,
            network: lab.network.is_some(),
            userland: self.image.userland.is_some(),
            environment: &script::environment(
                lab.programs.as_deref(),
                lab.sockets.iter().map(|(name, _)| *name),
            )
            .map_err(LabError::of("cannot make a PATH"))?,
            writable: &self.writable,
            mark: &mark,
            fresh: state.is_some().then(|| (SystemTime::now(), &*seed)),
            terminal: size.as_deref(),
            errors: self.errors,
        }
        .text();
        // They end with the emulator, which therefore goes before them, whatever way this function ends.
        let relays = clients
            .into_iter()
            .map(|(clients, port)| Relay::begin(clients, port))
            .collect::<io::Result<Vec<_>>>()
            .map_err(LabError::of("cannot serve the lab's socket"))?;
        (lab.note)(&Note::Booting);
        let begin = state.map_or_else(|| self.boot(), Begin::Saved);
        let (qemu, log) = machine
            .start(begin, cpu.as_ref().map(|cpu| cpu.set))
            .map_err(LabError::of(&format!("cannot start {}", self.recipe.qemu)))?;

        let captures = self.input.is_some();
        let sink = |fd| if captures { Sink::Memory(Vec::new()) } else { Sink::Descriptor(fd) };
        let source = (!captures).then_some(stdin.as_fd());
        let mut session = Session {
            lab,
            begun,
            started,
            status: None,
            script: Flow::to_port(&text, None, &script),
            input: Flow::to_port(self.input.unwrap_or_default(), source, &in_port),
            outputs: vec![Flow::from_port(&out_port, &mark, sink(stdout.as_fd()))],
            control: Some(control),
            lines: Vec::new(),
            log: Some(log),
            log_file,
            tail: Vec::new(),
            terminal: self.terminal,
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
        let output = session.run(signals);
        if output.is_ok() {
            relays.iter().for_each(|relay| relay.wait(LAST_ANSWERS));
        }
        drop(qemu);
        output
    }
}

/// 128 random bits, which no command writes by chance.
fn random() -> io::Result<String> {
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
    started: &'a mut bool,
    /// The command's exit status, once it is known.
    status: Option<u8>,
    /// What the lab's init shall do.
    script: Flow<'a>,
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
    cpu: &'a mut Option<HostCpu>,
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
            if ready.script {
                // If the emulator is gone, the log's end tells.
                let _ = self.script.step();
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
                self.script.interest(),
                // What comes while the lab boots stays where it is: another lab may have to take it, and Ctrl-C still is the host's.
                self.input.interest().filter(|_| *self.started),
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
                script: next(),
                input: next(),
                outputs: ready.collect(),
            });
        }
    }

    /// The time limit from the session's begin on. A lab that does not come up has one also if the command has none.
    fn limit(&self) -> Option<Duration> {
        match self.lab.timeout {
            limit if *self.started => limit,
            limit => Some(limit.map_or(BOOT_LIMIT, |limit| limit.min(BOOT_LIMIT))),
        }
    }

    fn timed_out(&self) -> LabError {
        let log = if *self.started {
            String::new()
        } else {
            format!("; its last messages:\n{}", self.last_lines())
        };
        LabError::Timeout { limit: self.limit().unwrap_or_default(), started: *self.started, log }
    }

    fn take_signals(&mut self, signals: &mut Signals) -> Result<(), LabError> {
        for signal in signals.pending() {
            match PASSED.iter().find(|(passed, _)| *passed == signal) {
                Some((_, name)) if *self.started && self.ending.is_none() => {
                    self.tell(&format!("signal {name}"));
                    self.ending = Some((signal, Instant::now() + GRACE));
                }
                Some(_) => return Err(LabError::Signal(signal)),
                None => self.tell_size(),
            }
        }
        Ok(())
    }

    /// Tells the lab's init the size of our terminal, if the command has one.
    fn tell_size(&mut self) {
        if *self.started
            && let Some(size) = self.terminal.and_then(terminal::size)
        {
            self.tell(&format!("size {size}"));
        }
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
            // For who saves its state.
            ("ready", _) => Ok(()),
            ("started", _) => {
                *self.started = true;
                (self.lab.note)(&Note::Up(self.begun.elapsed()));
                if let Some(terminal) = self.terminal {
                    let raw = RawTerminal::new(terminal);
                    let what = "cannot put the terminal into raw mode".into();
                    self.raw = Some(raw.map_err(|source| LabError::Io { what, source })?);
                    // It may have changed since the script was written.
                    self.tell_size();
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
    script: bool,
    input: bool,
    outputs: Vec<bool>,
}
