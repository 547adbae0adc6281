//! The machine: memory, vCPUs and devices put together, run until something ends it.

mod captures;
pub mod config;
mod devices;
mod error;
mod finish;
pub mod kvm;
mod limits;
mod requests;
pub mod signals;
pub mod vcpu;
pub mod wakeups;
pub mod watch;

use std::{
    fs::{self, File},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::devices::{bus::Bus, faults::Faults, machine_events::MachineEvents};
use event_manager::{EventManager, EventSubscriber, SubscriberOps};
use kvm_ioctls::{Kvm, VmFd};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::timerfd::TimerFd;

use self::devices::{DeviceBuilder, Devices, TERMINAL};
use crate::{
    api::server::Server,
    arch::{self, VcpuEnd},
    boot::{
        kernel_options::{Compression, embedded_config},
        load::Loaded,
        memory,
    },
    guest::{files::Files, input::Input, output::Output, serial_log::SerialLog, terminal},
    machine::{
        config::Config,
        limits::Limit,
        signals::Signals,
        vcpu::Vcpus,
        wakeups::{Wake, Wakeups},
        watch::Watch,
    },
    observe::{
        boot_failure::Evidence,
        report::{MachineOutcome, Report, overhead, since_process_start},
    },
    sandbox::{self, SandboxError, violation},
};
pub use error::MachineError;
use error::{event_loop, host, kvm};
use finish::LAST_LINES;
use requests::Requests;

/// Where a machine's streams go on the host.
pub struct Streams {
    /// The guest's terminal, or the command's standard output.
    pub stdout: Output,
    /// The command's standard error.
    pub stderr: Output,
    /// A copy of the serial port's output, to the file from [`prepare_places`].
    pub console_log: Option<Output>,
    /// The signals that end the machine, where the machine is this process' only job. Without a command it then has the
    /// terminal, too.
    pub signals: Option<Signals>,
    /// The watch over the machine's end.
    pub watch: Watch,
    /// The socket for requests to the machine while it runs.
    pub api: Option<Server>,
}

/// The interval of checks for changes that make no event: the guest halted for good, or opened its serial port.
const TICK: Duration = Duration::from_millis(500);

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
    watch: Watch,
    tick: TimerFd,
    /// The time limit of the run.
    time_limit: Option<Limit>,
    /// The time limit of the guest's way to its boot mark; none once that is over.
    boot_limit: Option<Limit>,
    stdout: Output,
    /// One output of each thread that writes.
    outputs: Vec<Output>,
    windows: Vec<cma::Window>,
    memory_size: u64,
    cpus: u8,
    overhead_at_boot_mark: Option<u64>,
    /// Folder of `--out`.
    out: Option<PathBuf>,
    /// Whether the guest runs one command and hands back its status.
    exec: bool,
    /// Where the kernel lies in guest memory.
    kernel: Range<u64>,
    /// The compression of the initrd, if it is compressed.
    compression: Option<&'static Compression>,
    _vm: VmFd,
    memory: GuestMemoryMmap,
}

impl Machine {
    /// Builds a machine of `config` around its `loaded` memory, and starts the vCPUs. [`run`](Self::run) looks after it then. If the
    /// process has a [`sandbox`], all threads, this one too, are confined before the guest runs.
    ///
    /// # Errors
    /// The first thing that the host or KVM refuses.
    pub fn start(
        kvm_fd: &Kvm,
        config: &Config,
        loaded: Loaded,
        streams: Streams,
    ) -> Result<Self, MachineError> {
        let Loaded { memory, kernel, compression, windows, devices: entries, faults, .. } = loaded;

        let vm = arch::create_vm(kvm_fd).map_err(kvm("a virtual machine"))?;
        arch::set_up_vm(&vm).map_err(kvm("a virtual machine"))?;
        memory::register(&vm, &memory).map_err(kvm("guest memory"))?;
        let controllers =
            arch::InterruptControllers::create(&vm, config).map_err(kvm("interrupt controllers"))?;
        let mut vcpus = Vec::new();
        let (entry, kernel) = kernel.map(|kernel| (kernel.entry, kernel.range)).unwrap_or_default();
        for index in 0..config.cpus {
            let vcpu = vm.create_vcpu(u64::from(index)).map_err(kvm("a vCPU"))?;
            arch::set_up_vcpu(kvm_fd, &vm, &vcpu, index, config.cpus, entry)
                .map_err(kvm("a vCPU's state"))?;
            vcpus.push(vcpu);
        }
        controllers.start().map_err(kvm("interrupt controllers"))?;

        let mut manager = EventManager::new().map_err(|error| event_loop(&error))?;
        let serial_stdout = config.exec.is_none().then(|| streams.stdout.clone());
        let serial_outputs = serial_stdout.into_iter().chain(streams.console_log.clone()).collect();
        let (serial_log, serial_sink) = SerialLog::new(serial_outputs).map_err(host("an eventfd"))?;
        // Over an API socket rules can be added later.
        let are_consulted = config.faults.is_some() || config.timeline || streams.api.is_some();
        let builder = DeviceBuilder {
            vm: &vm,
            memory: &memory,
            manager: &mut manager,
            config,
            windows: &windows,
            events: Arc::new(MachineEvents::new().map_err(host("an eventfd"))?),
            faults: are_consulted.then(|| faults.clone()),
            bus: Bus::new(),
        };
        let (devices, bus) = builder.build(&entries, &streams, serial_sink)?;

        let mut tick = TimerFd::new().map_err(|error| host("a timer")(error.into()))?;
        tick.reset(TICK, Some(TICK)).map_err(|error| host("a timer")(error.into()))?;
        let signals = streams.signals;
        let interactive = signals.is_some() && config.exec.is_none();
        let input = if interactive {
            Some(Input::of_terminal().map_err(host("the terminal"))?)
        } else if devices.stdin_port.is_some() {
            Some(Input::of_command().map_err(host("a thread for stdin"))?)
        } else {
            None
        };
        if interactive && let Some((columns, rows)) = terminal::size() {
            devices.terminal.set_size(columns, rows);
        }
        let mut vcpus = Vcpus::start(vcpus, &memory, &Arc::new(bus)).map_err(host("a vCPU thread"))?;

        let mut sources = Wakeups::default();
        sources.add(devices.events.eventfd(), Wake::Guest);
        sources.add(vcpus.eventfd(), Wake::Vcpu);
        sources.add(serial_log.eventfd(), Wake::Serial);
        sources.add(devices.serial.room_event(), Wake::InputRoom);
        sources.add(devices.terminal.event(), Wake::InputRoom);
        let outputs: Vec<Output> =
            [Some(streams.stdout.clone()), streams.console_log].into_iter().flatten().collect();
        for output in outputs.iter().chain(devices.files.as_ref().map(Files::output)) {
            sources.add(output.room_event(), Wake::OutputRoom);
        }
        sources.add(&tick, Wake::Tick);
        if let Some(input) = &input {
            sources.add(input.eventfd(), Wake::Input);
        }
        if let Some(signals) = &signals {
            sources.add(signals, Wake::Signal);
        }
        if let Some(event) = violation::event() {
            sources.add(event, Wake::Violation);
        }
        let wakeups = Arc::new(Mutex::new(sources));
        manager.add_subscriber(wakeups.clone());
        let requests = match streams.api {
            Some(server) => Some(Requests::new(server, &mut manager, devices.events.clone(), faults)?),
            None => None,
        };

        // They open files at their first call.
        let _ = (overhead(), since_process_start());
        sandbox::enter_main().map_err(SandboxError::Host)?;
        vcpus.resume();

        Ok(Self {
            vcpus,
            devices,
            manager,
            wakeups,
            serial_log,
            input,
            signals,
            requests,
            watch: streams.watch,
            tick,
            time_limit: config.time_limit.and_then(Limit::new),
            boot_limit: config.boot_limit.and_then(Limit::new),
            outputs,
            stdout: streams.stdout,
            windows,
            memory_size: config.memory,
            cpus: config.cpus,
            overhead_at_boot_mark: None,
            out: config.out.clone(),
            exec: config.exec.is_some(),
            kernel,
            compression,
            _vm: vm,
            memory,
        })
    }

    /// The plan of faults at work, if there can be one.
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
            let looked = self.look_after();
            // It counts more than its consequences.
            if let Some(reason) = violation::first() {
                break MachineOutcome::Failed { reason };
            }
            if let Some(outcome) = looked? {
                break outcome;
            }
        };
        self.finish(outcome)
    }

    /// Handles the causes of a wakeup. Returns an outcome if the machine has to end.
    fn look_after(&mut self) -> Result<Option<MachineOutcome>, MachineError> {
        let woken = lock(&self.wakeups).take();
        let mut outcome = None;
        for wake in woken {
            match wake {
                Wake::Guest => {
                    let _ = self.devices.events.eventfd().read();
                }
                Wake::OutputRoom => {
                    for output in self.outputs.iter().chain(self.devices.files.as_ref().map(Files::output)) {
                        let _ = output.room_event().read();
                    }
                    self.devices.terminal.resume_output();
                    self.serial_log.pump().map_err(host("writing the console log"))?;
                }
                Wake::Serial => {
                    self.serial_log.pump().map_err(host("writing the console log"))?;
                }
                Wake::Vcpu => outcome = outcome.or(self.vcpus.end().map(MachineOutcome::from)),
                Wake::Input | Wake::InputRoom => {
                    if self.pump_input() {
                        outcome = Some(MachineOutcome::Quit);
                    }
                }
                // The caller looks at it.
                Wake::Violation => {}
                Wake::Signal => outcome = outcome.or(self.signal()),
                Wake::Tick => {
                    let _ = self.tick.wait();
                    // A guest that opens its serial port makes no event.
                    if self.pump_input() {
                        outcome = Some(MachineOutcome::Quit);
                    }
                    if self.vcpus.look_for_halt() {
                        outcome = outcome.or(Some(MachineOutcome::Halted));
                    }
                    outcome = outcome.or_else(|| self.check_limits());
                }
            }
        }
        outcome = outcome.or(self.answer_requests());
        if let Some(error) = self.stdout.error() {
            return Err(MachineError::Stdout(error));
        }
        let reported = self.devices.events.reported();
        if reported.booted.is_some() && self.overhead_at_boot_mark.is_none() {
            self.overhead_at_boot_mark = Some(overhead());
        }
        // What the guest reports counts more than the way it ended.
        let exit = reported.exit.map(|status| MachineOutcome::Exit { status });
        if let Some(end) = self.devices.control.end().or(exit) {
            return Ok(Some(end));
        }
        if reported.panicked {
            return Ok(Some(MachineOutcome::Panic));
        }
        Ok(outcome)
    }

    /// Looks at the time limits. Returns an outcome if one ends the machine.
    fn check_limits(&mut self) -> Option<MachineOutcome> {
        if let Some(seconds) = self.time_limit.and_then(Limit::passed) {
            return Some(MachineOutcome::TimedOut { seconds });
        }
        if self.devices.is_up() {
            self.boot_limit = None;
        }
        let seconds = self.boot_limit.and_then(Limit::passed)?;
        self.boot_limit = None;
        if self.exec {
            return Some(MachineOutcome::NotBooted { seconds });
        }
        // The output of a guest is on the screen already.
        if self.serial_log.is_empty() && !self.devices.terminal.is_driven() {
            tracing::warn!(
                "the guest has not come up after {seconds} s; likely reason: {}",
                self.boot_failure()
            );
        }
        None
    }

    /// The likely reason for a guest that has not come up.
    fn boot_failure(&self) -> String {
        let length = usize::try_from(self.kernel.end - self.kernel.start).unwrap_or(0);
        let mut image = vec![0; length];
        // A part that cannot be read stays zero.
        let _ = self.memory.read(&mut image, GuestAddress(self.kernel.start));
        let config = embedded_config(&image);
        let console = self.serial_log.last_lines(LAST_LINES);
        let evidence =
            Evidence { config: config.as_deref(), compression: self.compression, console: &console };
        evidence.likely_reason()
    }

    /// Hands input to the guest: a command's to its port, the keyboard's to the terminal that the guest reads, which is the virtio
    /// console if the guest has a driver for it and else the serial port. Input waits until the guest has opened it. Returns true
    /// if the user asked minivmm to quit.
    fn pump_input(&mut self) -> bool {
        let Devices { terminal, serial, stdin_port, .. } = &self.devices;
        let _ = terminal.event().read();
        let _ = serial.room_event().read();
        let send = |data: &[u8]| {
            if let Some(port) = *stdin_port {
                terminal.send(port, data)
            } else if terminal.is_driven() {
                terminal.send(TERMINAL, data)
            } else if serial.is_open() {
                serial.enqueue(data)
            } else {
                0
            }
        };
        let Some(input) = &mut self.input else { return false };
        let quits = input.pump(send);
        if let Some(port) = *stdin_port
            && input.is_at_end()
        {
            terminal.close(port);
        }
        quits
    }

    fn signal(&mut self) -> Option<MachineOutcome> {
        let (end, resized) = self.signals.as_mut()?.pending();
        if resized && let Some((columns, rows)) = terminal::size() {
            self.devices.terminal.set_size(columns, rows);
        }
        end.map(|signal| MachineOutcome::Signal { signal })
    }
}

impl From<VcpuEnd> for MachineOutcome {
    fn from(end: VcpuEnd) -> Self {
        match end {
            VcpuEnd::Halted => Self::Halted,
            VcpuEnd::PoweredOff => Self::Exit { status: 0 },
            VcpuEnd::Reset => Self::Reset,
            VcpuEnd::Failed(reason) => Self::Failed { reason },
        }
    }
}

/// Prepares the folder and the file that the machine of `config` writes to on the host. Returns the console log's file, if it has
/// one.
///
/// # Errors
/// The path that cannot be written to.
pub fn prepare_places(config: &Config) -> Result<Option<File>, MachineError> {
    if let Some(path) = &config.out {
        check_writable(path).map_err(|source| MachineError::Out { path: path.clone(), source })?;
    }
    let create = |path: &PathBuf| {
        File::create(path).map_err(|source| MachineError::ConsoleLog { path: path.clone(), source })
    };
    config.console_log.as_ref().map(create).transpose()
}

/// Checks the files that the devices of `config` need, and keeps others from them until what is returned is dropped. Without it the
/// machine can be built.
///
/// # Errors
/// The first file that cannot be used.
pub fn reserve_files(config: &Config) -> Result<Vec<Box<dyn Send>>, MachineError> {
    let reserved = config.devices.iter().filter_map(|request| {
        let kind = request.registration.name;
        request.spec.reserve().map_err(|reason| MachineError::File { kind, reason }).transpose()
    });
    reserved.collect()
}

/// Makes the folder unless it exists, and a file without a name in it: a guest may have left any name there.
fn check_writable(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    tempfile::tempfile_in(folder).map(drop)
}
