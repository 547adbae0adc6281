//! The machine: memory, vCPUs and devices put together, run until something ends it.

pub mod config;
mod inventory;
pub mod kvm;
mod requests;
pub mod signals;
pub mod vcpu;
pub mod wakeups;

use std::{
    fs::{self, File},
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use devices::{
    bus::{Bus, BusDevice},
    camera::{Camera, CameraError, CameraSpec},
    dma::DmaPort,
    exit::ExitDevice,
    faults::{FaultHandle, Faults},
    irq::IrqLine,
    machine_events::MachineEvents,
    pvpanic::PvPanic,
    serial::SerialDevice,
    virtio::{
        VirtioDevice,
        console::{Console, ConsoleHandle, Sink},
        mmio::{MmioTransport, QUEUE_NOTIFY},
        rng::Entropy,
    },
};
use event_manager::{EventManager, EventSubscriber, SubscriberOps};
use kvm_ioctls::{IoEventAddress, Kvm, VmFd};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::timerfd::TimerFd;

use crate::{
    api::server::Server,
    arch::{self, VcpuEnd},
    boot::{
        load::Loaded,
        memory,
        platform::{Entry, Kind},
    },
    guest::{
        agent::{Control, Files, port},
        areas::Agent,
        input::Input,
        output::Output,
        serial_log::{SerialLog, SerialSink},
        terminal,
    },
    machine::{
        config::Config,
        signals::Signals,
        vcpu::Vcpus,
        wakeups::{Wake, Wakeups},
    },
    observe::report::{FORMAT_VERSION, Outcome, Report, WindowReport, overhead, runs, since_process_start},
};
use requests::Requests;

/// Where a machine's streams go on the host.
pub struct Streams {
    /// The guest's terminal, or the command's standard output.
    pub stdout: Output,
    /// The command's standard error.
    pub stderr: Output,
    /// A copy of what the guest prints on its serial port, from [`prepare_places`].
    pub console_log: Option<File>,
    /// The machine is this process' only job: these signals end it and, without a command, it has the terminal.
    pub signals: Option<Signals>,
    /// Where somebody may ask the machine something while it runs.
    pub api: Option<Server>,
}

/// Why a machine could not be built or run.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// An ioctl of KVM.
    #[error("KVM refused {what}: {source}; `minivmm doctor` says what this host can do")]
    Kvm {
        /// What was asked.
        what: &'static str,
        /// What it answered.
        source: kvm_ioctls::Error,
    },
    /// `--out`.
    #[error("the output folder {} cannot be written to: {source}; give --out a folder that can", path.display())]
    Out {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `--console-log`.
    #[error("the console log {} cannot be written: {source}; name a file in a folder that can", path.display())]
    ConsoleLog {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two devices at one place.
    #[error(transparent)]
    Bus(#[from] devices::bus::BusError),
    /// The host refused a file descriptor or a thread.
    #[error("the host refused {what}: {source}")]
    Host {
        /// What was asked.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A camera cannot be as it was asked for.
    #[error(transparent)]
    Camera(#[from] CameraError),
    /// Standard output went away.
    #[error("standard output cannot be written to: {0}")]
    Stdout(io::Error),
    /// What the guest sent for `--out`.
    #[error("the files that the guest sent for {} could not be unpacked: {source}", path.display())]
    Files {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> MachineError {
    move |source| MachineError::Kvm { what, source }
}

fn host(what: &'static str) -> impl Fn(io::Error) -> MachineError {
    move |source| MachineError::Host { what, source }
}

/// How often what makes no event is looked at: a guest that halted for good, one that opened its serial port.
const TICK: Duration = Duration::from_millis(500);
/// The console's port that is the guest's terminal.
const TERMINAL: usize = 0;
/// That of the guest's agent.
const AGENT: usize = 5;
/// How many of the last console lines a report has.
const LAST_LINES: usize = 40;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Subscriber = Arc<dyn EventSubscriber>;

/// A machine whose guest runs. Fields are dropped in order: the vCPUs first, so that no guest runs when devices go.
pub struct Machine {
    vcpus: Vcpus,
    devices: Devices,
    manager: EventManager<Subscriber>,
    wakeups: Arc<Mutex<Wakeups>>,
    serial_log: SerialLog,
    input: Option<Input>,
    signals: Option<Signals>,
    requests: Option<Requests>,
    tick: TimerFd,
    stdout: Output,
    windows: Vec<cma::Window>,
    memory_size: u64,
    cpus: u8,
    overhead_at_boot_mark: Option<u64>,
    /// Folder of `--out`.
    out: Option<PathBuf>,
    /// The guest runs one command, whose status it has to hand back.
    exec: bool,
    _vm: VmFd,
    _memory: GuestMemoryMmap,
}

/// What the event loop needs of the devices.
struct Devices {
    events: Arc<MachineEvents>,
    serial: Arc<SerialDevice>,
    console: Arc<MmioTransport<Console>>,
    terminal: ConsoleHandle,
    control: Control,
    agent: Agent,
    files: Option<Files>,
    cameras: Vec<(Arc<Camera>, DmaPort)>,
    faults: Option<Faults>,
}

impl Devices {
    /// Seconds from the start of the process to the boot mark, if that was made.
    fn seconds_to_boot_mark(&self) -> Option<f64> {
        let mark = self.events.told().booted?;
        let process = since_process_start()?;
        Some(process.saturating_sub(mark.elapsed()).as_secs_f64())
    }

    /// What the cameras wrote of each window: a bitmap of its pages.
    fn written(&self) -> Vec<(Range<u64>, Vec<u64>)> {
        let mut windows: Vec<(Range<u64>, Vec<u64>)> = Vec::new();
        for (range, bitmap) in self.cameras.iter().flat_map(|(_, dma)| dma.written()) {
            match windows.iter_mut().find(|(known, _)| *known == range) {
                Some((_, words)) => words.iter_mut().zip(bitmap).for_each(|(word, more)| *word |= more),
                None => windows.push((range, bitmap)),
            }
        }
        windows
    }
}

impl Machine {
    /// Builds a machine around what was `loaded` for `config`, and starts its vCPUs; [`run`](Self::run) then looks
    /// after it.
    ///
    /// # Errors
    /// The first thing that cannot be had.
    pub fn start(
        kvm_fd: &Kvm,
        config: &Config,
        loaded: Loaded,
        mut streams: Streams,
    ) -> Result<Self, MachineError> {
        let Loaded { memory, kernel, windows, devices: entries, faults, .. } = loaded;

        let vm = kvm_fd.create_vm().map_err(kvm("a virtual machine"))?;
        arch::set_up_vm(&vm).map_err(kvm("a virtual machine"))?;
        memory::register(&vm, &memory).map_err(kvm("guest memory"))?;
        let controllers =
            arch::InterruptControllers::create(&vm, config).map_err(kvm("interrupt controllers"))?;
        let mut vcpus = Vec::new();
        let entry = kernel.map(|kernel| kernel.entry).unwrap_or_default();
        for index in 0..config.cpus {
            let vcpu = vm.create_vcpu(u64::from(index)).map_err(kvm("a vCPU"))?;
            arch::set_up_vcpu(kvm_fd, &vm, &vcpu, index, config.cpus, entry)
                .map_err(kvm("a vCPU's state"))?;
            vcpus.push(vcpu);
        }
        controllers.start().map_err(kvm("interrupt controllers"))?;

        let mut manager = EventManager::new().map_err(|error| event_loop(&error))?;
        let serial_stdout = config.exec.is_none().then(|| streams.stdout.clone());
        let (serial_log, serial_sink) =
            SerialLog::new(serial_stdout, streams.console_log.take()).map_err(host("an eventfd"))?;
        let place = Place { vm: &vm, memory: &memory, manager: &mut manager, bus: Bus::new() };
        let (devices, bus) =
            place.devices(config, &entries, &windows, faults.clone(), &streams, serial_sink)?;

        let mut tick = TimerFd::new().map_err(|error| host("a timer")(error.into()))?;
        tick.reset(TICK, Some(TICK)).map_err(|error| host("a timer")(error.into()))?;
        let signals = streams.signals;
        let interactive = signals.is_some() && config.exec.is_none();
        let input = interactive.then(Input::from_stdin).transpose().map_err(host("the terminal"))?;
        if interactive && let Some((columns, rows)) = terminal::size() {
            devices.terminal.set_size(columns, rows);
        }
        let vcpus = Vcpus::start(vcpus, &memory, &Arc::new(bus)).map_err(host("a vCPU thread"))?;

        let mut sources = Wakeups::default();
        sources.add(devices.events.eventfd(), Wake::Guest);
        sources.add(vcpus.eventfd(), Wake::Vcpu);
        sources.add(serial_log.eventfd(), Wake::Serial);
        sources.add(devices.serial.room_event(), Wake::InputRoom);
        sources.add(devices.terminal.event(), Wake::InputRoom);
        sources.add(&tick, Wake::Tick);
        if let Some(input) = &input {
            sources.add(input.eventfd(), Wake::Input);
        }
        if let Some(signals) = &signals {
            sources.add(signals, Wake::Signal);
        }
        let wakeups = Arc::new(Mutex::new(sources));
        manager.add_subscriber(wakeups.clone());
        let requests = streams.api.map(|server| Requests::new(server, &mut manager, faults));

        Ok(Self {
            vcpus,
            devices,
            manager,
            wakeups,
            serial_log,
            input,
            signals,
            requests,
            tick,
            stdout: streams.stdout,
            windows,
            memory_size: config.memory,
            cpus: config.cpus,
            overhead_at_boot_mark: None,
            out: config.out.clone(),
            exec: config.exec.is_some(),
            _vm: vm,
            _memory: memory,
        })
    }

    /// What goes wrong in it on purpose, if anything can.
    pub fn faults(&self) -> Option<Faults> {
        self.devices.faults.clone()
    }

    /// Looks after the machine until something ends it, and reports.
    ///
    /// # Errors
    /// If the host fails: the event loop, standard output, the output folder of a guest that ended well.
    pub fn run(mut self) -> Result<Report, MachineError> {
        let outcome = loop {
            self.manager.run().map_err(|error| event_loop(&error))?;
            if let Some(outcome) = self.look_after()? {
                break outcome;
            }
        };
        self.finish(outcome)
    }

    /// What woke the loop: moves on what waits, and says if the machine is to end.
    fn look_after(&mut self) -> Result<Option<Outcome>, MachineError> {
        let woken = lock(&self.wakeups).take();
        let mut outcome = None;
        for wake in woken {
            match wake {
                Wake::Guest => {
                    let _ = self.devices.events.eventfd().read();
                }
                Wake::Serial => {
                    self.serial_log.pump().map_err(host("writing the console log"))?;
                }
                Wake::Vcpu => outcome = outcome.or(self.vcpus.end().map(Outcome::from)),
                Wake::Input | Wake::InputRoom => {
                    if self.pump_input() {
                        outcome = Some(Outcome::Quit);
                    }
                }
                Wake::Signal => outcome = outcome.or(self.signal()),
                Wake::Tick => {
                    let _ = self.tick.wait();
                    // That the guest opened its serial port makes no event.
                    if self.pump_input() {
                        outcome = Some(Outcome::Quit);
                    }
                    if self.vcpus.look_for_halt() {
                        outcome = outcome.or(Some(Outcome::Halted));
                    }
                }
            }
        }
        outcome = outcome.or(self.answer_requests());
        if let Some(error) = self.stdout.error() {
            return Err(MachineError::Stdout(error));
        }
        let told = self.devices.events.told();
        if told.booted.is_some() && self.overhead_at_boot_mark.is_none() {
            self.overhead_at_boot_mark = Some(overhead());
        }
        // What the guest said before it ended counts more than how it ended.
        if let Some(status) = self.devices.control.exit().or(told.exit) {
            return Ok(Some(Outcome::Exit { status }));
        }
        if told.panicked {
            return Ok(Some(Outcome::Panic));
        }
        Ok(outcome)
    }

    /// Hands what was typed to the terminal that the guest reads from: the virtio console's if the guest has a driver
    /// for it, else the serial port's. Until that is open, what was typed waits.
    fn pump_input(&mut self) -> bool {
        let Devices { terminal, serial, .. } = &self.devices;
        let _ = terminal.event().read();
        let _ = serial.room_event().read();
        let send = |data: &[u8]| {
            if terminal.is_driven() {
                terminal.send(TERMINAL, data)
            } else if serial.is_open() {
                serial.enqueue(data)
            } else {
                0
            }
        };
        self.input.as_mut().is_some_and(|input| input.pump(send))
    }

    fn signal(&mut self) -> Option<Outcome> {
        let (end, resized) = self.signals.as_mut()?.pending();
        if resized && let Some((columns, rows)) = terminal::size() {
            self.devices.terminal.set_size(columns, rows);
        }
        end.map(|signal| Outcome::Signal { signal })
    }

    /// Stops the guest, brings home what is on its way, and makes the report.
    fn finish(self, outcome: Outcome) -> Result<Report, MachineError> {
        let Self { vcpus, devices, manager, mut serial_log, input, windows, stdout, .. } = self;
        drop(vcpus);
        let seconds_to_boot_mark = devices.seconds_to_boot_mark();
        devices.cameras.iter().for_each(|(camera, _)| camera.stop());
        let (written, reports) = (devices.written(), devices.reports());
        let Devices { console, terminal, control, files, faults, .. } = devices;
        console.drain();
        serial_log.pump().map_err(host("writing the console log"))?;
        drop(input);
        // The status may have been the last thing on its way. Without one, a command has failed, however the guest
        // ended.
        let outcome = match (control.exit(), outcome) {
            (Some(status), _) => Outcome::Exit { status },
            (None, Outcome::Exit { .. }) if self.exec => Outcome::PoweredOff,
            (None, outcome) => outcome,
        };
        // The last clones of the console hold the files port's sink: dropping them ends the stream.
        drop((manager, console, terminal));
        if let (Some(files), Some(path)) = (files, self.out)
            && let Err(source) = files.finish()
        {
            // A guest that was cut short cuts its files short: how it ended says more.
            if matches!(outcome, Outcome::Exit { .. }) {
                return Err(MachineError::Files { path, source });
            }
            tracing::warn!("the guest's files for {} are not complete: {source}", path.display());
        }
        if let Some(error) = stdout.error() {
            return Err(MachineError::Stdout(error));
        }
        let faults = faults.map(|faults| faults.trace()).filter(|trace| !trace.plan.is_empty());
        let windows = windows.into_iter().map(|window| window_report(window, &written)).collect();

        let ended_well = matches!(outcome, Outcome::Exit { .. });
        Ok(Report {
            format_version: FORMAT_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            arguments: Vec::new(),
            outcome,
            seconds_to_boot_mark,
            seconds: since_process_start().unwrap_or_default().as_secs_f64(),
            memory: self.memory_size,
            overhead_at_boot_mark: self.overhead_at_boot_mark,
            overhead_at_end: overhead(),
            windows,
            devices: reports,
            faults,
            last_console_lines: if ended_well { Vec::new() } else { serial_log.last_lines(LAST_LINES) },
        })
    }
}

impl From<VcpuEnd> for Outcome {
    fn from(end: VcpuEnd) -> Self {
        match end {
            VcpuEnd::Halted => Self::Halted,
            VcpuEnd::PoweredOff => Self::Exit { status: 0 },
            VcpuEnd::Reset => Self::Reset,
            VcpuEnd::Failed(reason) => Self::Failed { reason },
        }
    }
}

fn event_loop(error: &event_manager::Error) -> MachineError {
    MachineError::Host { what: "the event loop", source: io::Error::other(format!("{error:?}")) }
}

/// Prepares where the machine of `config` will write to on the host; returns the console log's file, if there is one.
///
/// # Errors
/// The place that cannot be written to.
pub fn prepare_places(config: &Config) -> Result<Option<File>, MachineError> {
    if let Some(path) = &config.out {
        check_writable(path).map_err(|source| MachineError::Out { path: path.clone(), source })?;
    }
    let create = |path: &PathBuf| {
        File::create(path).map_err(|source| MachineError::ConsoleLog { path: path.clone(), source })
    };
    config.console_log.as_ref().map(create).transpose()
}

/// Makes the folder if need be, and a file in it that has no name: a guest may have left any name there.
fn check_writable(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    tempfile::tempfile_in(folder).map(drop)
}

fn window_report(window: cma::Window, written: &[(Range<u64>, Vec<u64>)]) -> WindowReport {
    let bitmap = written.iter().find(|(range, _)| *range == window.range()).map(|(_, bitmap)| &bitmap[..]);
    let runs_written = runs(bitmap.unwrap_or_default());
    WindowReport {
        name: window.name,
        base: window.base,
        size: window.size,
        node: window.node,
        pages_written: runs_written.iter().map(|(_, count)| count).sum(),
        runs_written,
    }
}

/// Where devices are put: on the bus, on interrupt lines, in the event loop.
struct Place<'a> {
    vm: &'a VmFd,
    memory: &'a GuestMemoryMmap,
    manager: &'a mut EventManager<Subscriber>,
    bus: Bus,
}

impl Place<'_> {
    /// Walks the list once and makes each device.
    fn devices(
        mut self,
        config: &Config,
        entries: &[Entry],
        windows: &[cma::Window],
        faults: Faults,
        streams: &Streams,
        serial_sink: SerialSink,
    ) -> Result<(Devices, Bus), MachineError> {
        let events = Arc::new(MachineEvents::new().map_err(host("an eventfd"))?);
        let agent = Agent::new(config.memory);
        // Over an API socket rules can be added later.
        let are_consulted = config.faults.is_some() || config.timeline || streams.api.is_some();
        let faults = are_consulted.then_some(faults);
        let handle = |id: &str| match &faults {
            Some(faults) => FaultHandle::new(faults.clone(), id),
            None => FaultHandle::none(),
        };
        let control = Control::new(faults.clone());
        let mut files = None;
        let mut serial_sink = Some(serial_sink);
        let (mut serial, mut console, mut terminal, mut cameras) = (None, None, None, Vec::new());
        for entry in entries {
            let device: Arc<dyn BusDevice> = match &entry.kind {
                Kind::Serial => {
                    let sink: Box<dyn Write + Send> = match serial_sink.take() {
                        Some(sink) => Box::new(sink),
                        None => Box::new(io::sink()),
                    };
                    let device = SerialDevice::new(self.irq(entry)?, sink).map_err(host("an eventfd"))?;
                    serial.insert(Arc::new(device)).clone()
                }
                Kind::Exit => Arc::new(ExitDevice::new(events.clone())),
                Kind::Pvpanic => Arc::new(PvPanic::new(events.clone())),
                Kind::Console => {
                    let (device, unpacking) = console_device(config, streams, &control, &agent)?;
                    files = unpacking;
                    terminal = Some(device.handle());
                    console.insert(self.virtio(entry, device, handle("console"))?).clone()
                }
                Kind::Rng => {
                    let device = config.seed.map_or_else(Entropy::host, Entropy::seeded);
                    self.virtio(entry, device, handle("entropy"))?
                }
                Kind::Camera { spec, window, .. } => {
                    let permitted: Vec<_> = window.iter().map(|&index| windows[index].range()).collect();
                    let mut dma = DmaPort::new(self.memory.clone(), spec.address_bits, &permitted);
                    if !spec.coherent
                        && let Some(clean) = arch::CLEAN_CACHES
                    {
                        dma = dma.not_coherent(clean);
                    }
                    // Two cameras do not have the same noise.
                    let seed = config.seed.map(|seed| seed.wrapping_add(cameras.len() as u64));
                    let spec = CameraSpec { seed: spec.seed.or(seed), ..spec.clone() };
                    let faults = handle(&format!("camera{}", cameras.len()));
                    let device = Camera::with_faults(spec, dma.clone(), self.irq(entry)?, faults);
                    let device = Arc::new(device?);
                    cameras.push((device.clone(), dma));
                    device
                }
            };
            self.bus.insert(entry.name(), entry.range.clone(), device)?;
        }
        let (Some(serial), Some(console), Some(terminal)) = (serial, console, terminal) else {
            unreachable!("the platform's list has a serial port and a console");
        };
        Ok((Devices { events, serial, console, terminal, control, agent, files, cameras, faults }, self.bus))
    }

    /// The interrupt line of `entry`, connected to the guest's interrupt controller.
    fn irq(&self, entry: &Entry) -> Result<IrqLine, MachineError> {
        let line = IrqLine::new().map_err(host("an eventfd"))?;
        if let Some(irq) = entry.irq {
            self.vm.register_irqfd(line.eventfd(), irq).map_err(kvm("an irqfd"))?;
        }
        Ok(line)
    }

    /// A virtio device behind its transport: queue notifications go to the event loop without a stop of the vCPU
    /// in user space.
    fn virtio<D: VirtioDevice + 'static>(
        &mut self,
        entry: &Entry,
        device: D,
        faults: FaultHandle,
    ) -> Result<Arc<MmioTransport<D>>, MachineError> {
        let memory = DmaPort::unrestricted(self.memory.clone());
        let transport = MmioTransport::new(device, memory, self.irq(entry)?).map_err(host("an eventfd"))?;
        let transport = transport.with_faults(faults);
        let notify = IoEventAddress::Mmio(entry.range.start + QUEUE_NOTIFY);
        for (queue, event) in (0_u32..).zip(transport.queue_events()) {
            self.vm.register_ioevent(event, &notify, queue).map_err(kvm("an ioeventfd"))?;
        }
        let transport = Arc::new(transport);
        self.manager.add_subscriber(transport.clone());
        Ok(transport)
    }
}

/// The console with its ports: the terminal, and the agent's.
fn console_device(
    config: &Config,
    streams: &Streams,
    control: &Control,
    agent: &Agent,
) -> Result<(Console, Option<Files>), MachineError> {
    let (files, files_sink): (_, Sink) = match &config.out {
        Some(folder) => {
            let (files, sink) = Files::unpack_into(folder).map_err(host("a thread for --out"))?;
            (Some(files), Box::new(sink))
        }
        None => (None, Box::new(io::sink())),
    };
    // A command's run is silent on the terminal: its output has ports of its own.
    let terminal: Sink =
        if config.exec.is_some() { Box::new(io::sink()) } else { Box::new(streams.stdout.clone()) };
    let named: Vec<(&str, Sink)> = vec![
        (port::STDOUT, Box::new(streams.stdout.clone())),
        (port::STDERR, Box::new(streams.stderr.clone())),
        (port::CONTROL, Box::new(control.clone())),
        (port::FILES, files_sink),
        (port::AGENT, Box::new(agent.clone())),
    ];
    let named = named.into_iter().map(|(name, sink)| (name.to_owned(), sink)).collect();
    Ok((Console::new(terminal, named).map_err(host("an eventfd"))?, files))
}
