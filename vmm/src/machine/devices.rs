//! Builds the devices of a machine and connects them: to the bus, to interrupt lines, to the event loop.

use std::{
    io::{self, Write},
    ops::Range,
    sync::Arc,
};

use ::devices::{
    bus::{Bus, RegionDevice},
    dma::DmaPort,
    faults::{FaultHandle, Faults},
    irq::{IrqLine, Resampler},
    machine_events::MachineEvents,
    media::FrameSource,
    platform::{Parts, PlatformDevice},
    serial::SerialDevice,
    virtio::{
        block::{Disk, DiskFile},
        console::{Console, ConsoleHandle, Sink},
        mmio::MmioTransport,
    },
};
use cma::Window;
use event_manager::{EventManager, SubscriberOps};
use kvm_ioctls::{IoEventAddress, VmFd};
use vm_memory::GuestMemoryMmap;

use super::{
    config::Config,
    error::{MachineError, host, kvm},
    streams::Streams,
    wakeups::Subscriber,
};
use crate::{
    arch,
    boot::platform::{Entry, Maker},
    guest::{
        agent::{Control, port},
        areas::Agent,
        files::Files,
        out_disk,
        serial_log::SerialSink,
    },
    observe::{process::since_process_start, report::DeviceReport},
};

/// The console's port that is the guest's terminal.
pub(super) const TERMINAL: usize = 0;

/// A device of the registry in its machine.
pub(super) struct Built {
    /// Its name in reports, plans of faults and experiments.
    pub(super) id: String,
    /// Its name in the registry.
    pub(super) kind: &'static str,
    pub(super) device: Arc<dyn PlatformDevice>,
    /// Its DMA port, which records its writes.
    dma: Option<DmaPort>,
}

/// The devices, as the event loop uses them.
pub(super) struct Devices {
    pub(super) events: Arc<MachineEvents>,
    pub(super) serial: Arc<SerialDevice>,
    pub(super) console: Arc<MmioTransport<Console>>,
    pub(super) terminal: ConsoleHandle,
    pub(super) control: Control,
    pub(super) agent: Agent,
    /// The console's port of the guest's agent.
    pub(super) agent_port: usize,
    /// The console's port for the command's input, if there is input.
    pub(super) stdin_port: Option<usize>,
    pub(super) files: Option<Files>,
    /// The disk for the guest's /out.
    pub(super) disk: Option<Arc<Disk>>,
    /// The devices of the registry, in the order of the options.
    pub(super) built: Vec<Built>,
    pub(super) faults: Option<Faults>,
}

impl Devices {
    /// Seconds from the start of the process to the boot mark, if that was made.
    pub(super) fn seconds_to_boot_mark(&self) -> Option<f64> {
        let mark = self.events.reported().booted?;
        let process = since_process_start()?;
        Some(process.saturating_sub(mark.elapsed()).as_secs_f64())
    }

    /// Whether the guest has come up: it has made its boot mark, or its agent listens.
    pub(super) fn is_up(&self) -> bool {
        self.events.reported().booted.is_some() || self.terminal.is_open(self.agent_port)
    }

    /// The pages of each window that the devices wrote to, as a bitmap.
    pub(super) fn written(&self) -> Vec<(Range<u64>, Vec<u64>)> {
        let mut windows: Vec<(Range<u64>, Vec<u64>)> = Vec::new();
        let ports = self.built.iter().filter_map(|built| built.dma.as_ref());
        for (range, bitmap) in ports.flat_map(DmaPort::written) {
            match windows.iter_mut().find(|(known, _)| *known == range) {
                Some((_, words)) => words.iter_mut().zip(bitmap).for_each(|(word, more)| *word |= more),
                None => windows.push((range, bitmap)),
            }
        }
        windows
    }

    /// Whether a device has written to each of `windows`.
    pub(super) fn touched(&self, windows: &[Window]) -> Vec<bool> {
        let ports = || self.built.iter().filter_map(|built| built.dma.as_ref());
        let is_touched = |window: &Window| {
            let range = window.range();
            ports().flat_map(DmaPort::touched).any(|(known, is_touched)| is_touched && *known == range)
        };
        windows.iter().map(is_touched).collect()
    }

    /// The counters of the devices, in the order in which the machine has them.
    pub(super) fn reports(&self) -> Vec<DeviceReport> {
        let report = |built: &Built| DeviceReport::new(built.id.clone(), built.kind, built.device.counters());
        self.built.iter().map(report).collect()
    }

    /// The devices that make frames, with their ids.
    pub(super) fn frame_sources(&self) -> Vec<(&str, &dyn FrameSource)> {
        self.built.iter().filter_map(|built| Some((built.id.as_str(), built.device.frames()?))).collect()
    }
}

/// Puts devices on the bus, on interrupt lines and on the event loop.
pub(super) struct DeviceBuilder<'a> {
    pub(super) vm: &'a VmFd,
    pub(super) memory: &'a GuestMemoryMmap,
    pub(super) manager: &'a mut EventManager<Subscriber>,
    pub(super) config: &'a Config,
    pub(super) windows: &'a [Window],
    pub(super) events: Arc<MachineEvents>,
    /// None where no rule can ever be added.
    pub(super) faults: Option<Faults>,
    pub(super) bus: Bus,
}

impl DeviceBuilder<'_> {
    /// Walks the list once and builds each device.
    pub(super) fn build(
        mut self,
        entries: &[Entry],
        streams: &Streams,
        serial_sink: SerialSink,
    ) -> Result<(Devices, Bus), MachineError> {
        let agent = Agent::new(self.config.memory);
        let control = Control::new(self.faults.clone());
        let ports = ConsolePorts::new(self.config, streams, &control, &agent)?;
        let (agent_port, stdin_port, files) = (ports.agent_port, ports.stdin_port, ports.files);
        let (mut serial_sink, mut console_ports) = (Some(serial_sink), Some((ports.terminal, ports.named)));
        let (mut serial, mut console, mut terminal, mut disk, mut built) =
            (None, None, None, None, Vec::new());
        for entry in entries {
            let mut parts = self.parts(entry)?;
            let device: Arc<dyn PlatformDevice> = match &entry.maker {
                Maker::Serial => {
                    let sink: Box<dyn Write + Send> = match serial_sink.take() {
                        Some(sink) => Box::new(sink),
                        None => Box::new(io::sink()),
                    };
                    let device = SerialDevice::new(parts.interrupt()?, sink).map_err(host("an eventfd"))?;
                    serial.insert(Arc::new(device)).clone()
                }
                Maker::Console => {
                    let (output, named) =
                        console_ports.take().unwrap_or_else(|| (Box::new(io::sink()), Vec::new()));
                    let device = Console::new(output, named).map_err(host("an eventfd"))?;
                    terminal = Some(device.handle());
                    let transport = MmioTransport::new(device, parts.dma()?, parts.interrupt()?);
                    let transport = transport.map_err(host("an eventfd"))?.with_faults(parts.faults);
                    console.insert(Arc::new(transport)).clone()
                }
                Maker::Disk => disk.insert(Arc::new(self.disk(parts)?)).clone(),
                Maker::Spec(spec) => {
                    let dma = parts.dma.clone();
                    let device = spec.build(parts)?;
                    if entry.kind != entry.id {
                        let device = device.clone();
                        built.push(Built { id: entry.id.clone(), kind: entry.kind, device, dma });
                    }
                    device
                }
            };
            self.connect(entry, &device)?;
        }
        let (Some(serial), Some(console), Some(terminal)) = (serial, console, terminal) else {
            unreachable!("the platform's list has a serial port and a console");
        };
        let (events, faults) = (self.events, self.faults);
        let devices = Devices {
            events,
            serial,
            console,
            terminal,
            control,
            agent,
            agent_port,
            stdin_port,
            files,
            disk,
            built,
            faults,
        };
        Ok((devices, self.bus))
    }

    /// The disk for the guest's /out.
    fn disk(&self, parts: Parts) -> Result<Disk, MachineError> {
        let path = self.config.out.clone().unwrap_or_default();
        let (file, size) = out_disk::create(&path).map_err(|source| MachineError::Out { path, source })?;
        // No plan of faults applies to it.
        let parts =
            Parts { dma: parts.dma.map(|dma| dma.without_faults()), faults: FaultHandle::none(), ..parts };
        Ok(Disk::new(DiskFile::raw(file, size), out_disk::SERIAL, 1, 1, parts)?)
    }

    /// The parts that the device of `entry` is built from.
    fn parts(&mut self, entry: &Entry) -> Result<Parts, MachineError> {
        let mut interrupts = Vec::new();
        for (&gsi, interrupt) in entry.lines.iter().zip(&entry.resources.interrupts) {
            let line = IrqLine::with_trigger(interrupt.trigger).map_err(host("an eventfd"))?;
            if let Some(resample) = line.resample_eventfd() {
                let registered = self.vm.register_irqfd_with_resample(line.eventfd(), resample, gsi);
                registered.map_err(kvm("an irqfd with resampling"))?;
                self.manager.add_subscriber(Arc::new(Resampler(line.clone())));
            } else {
                self.vm.register_irqfd(line.eventfd(), gsi).map_err(kvm("an irqfd"))?;
            }
            interrupts.push(line);
        }
        let faults = self.faults.clone();
        let faults = faults.map_or_else(FaultHandle::none, |faults| FaultHandle::new(faults, &entry.id));
        let dma = entry.resources.dma.as_ref().map(|needs| {
            let permitted: Vec<_> = entry.window.iter().map(|&index| self.windows[index].range()).collect();
            let port = DmaPort::new(self.memory.clone(), needs.address_bits, &permitted);
            let port = port.with_faults(faults.clone());
            match arch::CLEAN_CACHES {
                Some(clean) if !needs.coherent => port.not_coherent(clean),
                _ => port,
            }
        });
        // Two devices of a kind do not have the same noise.
        let seed = self.config.seed.map(|seed| seed.wrapping_add(entry.number.into()));
        Ok(Parts { id: entry.id.clone(), interrupts, dma, seed, faults, events: self.events.clone() })
    }

    /// Puts a device that is built in its place.
    fn connect(&mut self, entry: &Entry, device: &Arc<dyn PlatformDevice>) -> Result<(), MachineError> {
        for (region, range) in entry.regions.iter().enumerate() {
            let name = entry.nodes[0].name.as_str();
            self.bus.insert(
                name,
                range.clone(),
                Arc::new(RegionDevice { device: device.clone(), region }),
            )?;
        }
        for doorbell in device.doorbells() {
            let address = IoEventAddress::Mmio(entry.regions[doorbell.region].start + doorbell.offset);
            let registered = self.vm.register_ioevent(doorbell.event, &address, doorbell.value);
            registered.map_err(kvm("an ioeventfd"))?;
        }
        if let Some(subscriber) = device.clone().subscriber() {
            self.manager.add_subscriber(subscriber);
        }
        Ok(())
    }
}

/// The console's ports: the terminal, and those of the guest's agent.
struct ConsolePorts {
    terminal: Box<dyn Sink>,
    named: Vec<(String, Box<dyn Sink>)>,
    agent_port: usize,
    stdin_port: Option<usize>,
    files: Option<Files>,
}

impl ConsolePorts {
    fn new(
        config: &Config,
        streams: &Streams,
        control: &Control,
        agent: &Agent,
    ) -> Result<Self, MachineError> {
        let (files, files_sink): (_, Box<dyn Sink>) = match &config.out {
            Some(folder) => {
                let error = |source| MachineError::Out { path: folder.clone(), source };
                let files = Files::unpack_into(folder).map_err(error)?;
                let sink = Box::new(files.output().clone());
                (Some(files), sink)
            }
            None => (None, Box::new(io::sink())),
        };
        // A command's run is silent on the terminal: its output has ports of its own.
        let terminal: Box<dyn Sink> =
            if config.exec.is_some() { Box::new(io::sink()) } else { Box::new(streams.stdout.clone()) };
        let mut named: Vec<(&str, Box<dyn Sink>)> = vec![
            (port::STDOUT, Box::new(streams.stdout.clone())),
            (port::STDERR, Box::new(streams.stderr.clone())),
            (port::CONTROL, Box::new(control.clone())),
            (port::FILES, files_sink),
            (port::AGENT, Box::new(agent.clone())),
        ];
        if config.stdin {
            // It is the first: when the guest has the ports that init waits for, it knows that the host has opened this one.
            named.insert(0, (port::STDIN, Box::new(io::sink())));
        }
        // Port 0 is the terminal.
        let place = |port: &str| named.iter().position(|(name, _)| *name == port).map(|place| place + 1);
        let stdin_port = place(port::STDIN);
        let agent_port = place(port::AGENT).unwrap_or(named.len());
        let named = named.into_iter().map(|(name, sink)| (name.to_owned(), sink)).collect();
        Ok(Self { terminal, named, agent_port, stdin_port, files })
    }
}
