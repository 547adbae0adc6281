//! The start of a machine: puts memory, vCPUs and devices together, confines the threads, and lets the guest run.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ::devices::{bus::Bus, faults::Faults, machine_events::MachineEvents};
use event_manager::{EventManager, SubscriberOps};
use kvm_ioctls::Kvm;
use vmm_sys_util::timerfd::TimerFd;

use super::{
    config::Config,
    devices::DeviceBuilder,
    error::{MachineError, event_loop, host, kvm},
    gdb::Debugger,
    limits::Limit,
    metrics::Metrics,
    requests::Requests,
    running::Machine,
    streams::Streams,
    told::Told,
    trim,
    vcpu::Vcpus,
    wakeups::{Wake, Wakeups},
};
use crate::{
    arch,
    boot::{load::Loaded, memory},
    guest::{files::Files, input::Input, output::Output, serial_log::SerialLog, terminal},
    observe::{
        kernel_memory::KernelMemory,
        process::{overhead, resident, since_process_start},
    },
    sandbox::{self, SandboxError, violation},
};

/// The interval of checks for changes that make no event: the guest halted for good, or opened its serial port.
const TICK: Duration = Duration::from_millis(500);

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
        let controllers = arch::InterruptControllers::create(&vm, config.cpus, &config.arch)
            .map_err(kvm("interrupt controllers"))?;
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
        let until_panic = streams.dump.as_ref().map(|_| devices.events.clone());
        let mut vcpus =
            Vcpus::start(vcpus, &memory, &Arc::new(bus), until_panic).map_err(host("a vCPU thread"))?;

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

        let metrics = streams.metrics.map(|output| Metrics::begin(output, &mut manager)).transpose();
        let metrics = metrics.map_err(host("a thread for metrics"))?;

        let is_debugged = streams.gdb.is_some();
        let debugger = streams
            .gdb
            .map(|gdb| Debugger::new(gdb, &mut manager, &vcpus, &memory, arch::facilities(kvm_fd)));

        let kernel_memory = KernelMemory::open(&config.kernel, &memory, kernel.clone(), windows.clone());
        // They open files at their first call.
        let _ = (overhead(), resident(), since_process_start());
        trim::give_back();
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
            told: Told::default(),
            metrics,
            debugger,
            watch: streams.watch,
            tick,
            time_limit: config.time_limit.and_then(Limit::new),
            // A debugger may stop the guest for any time.
            boot_limit: config.boot_limit.filter(|_| !is_debugged).and_then(Limit::new),
            outputs,
            stdout: streams.stdout,
            windows,
            memory_size: config.memory,
            cpus: config.cpus,
            overhead_at_boot_mark: None,
            out: config.out.clone(),
            exec: config.exec.is_some(),
            kernel_memory,
            dump: streams.dump,
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
}
