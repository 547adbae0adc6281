//! The command line.

pub mod check;
pub mod ctl;
pub mod doctor;
pub mod model;
pub mod replay;

use std::{
    env, fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command as Process, ExitCode, Stdio},
};

use clap::{Args, Parser, Subcommand};
use cma::{size, spec::WindowSpec};
use devices::{
    REGISTRY,
    faults::{Plan, PlanError},
    platform::{Registration, options},
};
use tracing_subscriber::{
    filter::{ParseError, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use check::{CheckArgs, CheckError};
use ctl::{CtlArgs, CtlError};
use model::{ModelArgs, ModelError};
use replay::{ReplayArgs, ReplayError};

use crate::{
    api::server::{Server, SocketError},
    arch,
    boot::{
        error::LoadError,
        images::{self, Image, ImageError},
        load::{load, load_with},
        tree_faults::fault_tables,
    },
    experiment::{self, ExperimentArgs, ExperimentError},
    guest::output::Output,
    machine::{
        Machine, MachineError, Streams,
        config::{CmaMode, Config, DeviceRequest, registered},
        kvm::{self, KvmError},
        prepare_places,
        signals::Signals,
    },
    observe::{
        report::{MachineOutcome, Report},
        timeline,
    },
};

/// Boots a Linux guest that has a CMA window and a camera which DMAs frames into it.
#[derive(Debug, Parser)]
#[command(
    name = "minivmm",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  minivmm --cma 256M                                   a shell in a guest with a 256 MiB window and /dev/video0
  minivmm --cma 256M --exec 'cat /proc/meminfo'        one command's output, and its exit status
  minivmm --cma 64M --cma size=32M,name=isp --camera window=isp,timing=stall
  minivmm dtb --cma 256M                               the device tree that this guest would get
  minivmm check board.dtb                              what Linux makes of a board's reserved memory, and why
  minivmm --cma 256M --api-socket vm.sock              a guest that `minivmm ctl vm.sock status` asks how it is
  minivmm model fill.cma                               what the kernel's allocator would do, without a guest
  minivmm experiment run torn.toml                     faults on purpose, and a verdict on how the driver took them

Keys: Ctrl-A x stops the machine, Ctrl-A h says the keys.
Exit status: the guest command's own with --exec; 2 for a bad request; 1 for a failure of the machine, a guest's
panic or reset among them; 128 + N after signal N; otherwise 0."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

impl Cli {
    /// The machine options, where the command takes some.
    fn machine(&self) -> Option<&MachineArgs> {
        match &self.command {
            None => Some(&self.run.machine),
            Some(Command::Run(run)) => Some(&run.machine),
            Some(Command::Dtb { machine, .. } | Command::Check { machine, .. }) => Some(machine),
            Some(_) => None,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot a guest (the default command)
    Run(RunArgs),
    /// Print the generated device tree as source, for the same machine options
    Dtb {
        #[command(flatten)]
        machine: MachineArgs,
        /// Write the flattened tree (DTB) to this file instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Say what Linux makes of each reserved-memory node of a device tree, or of these machine options, and why
    #[command(after_help = check::HELP)]
    Check {
        #[command(flatten)]
        check: CheckArgs,
        #[command(flatten)]
        machine: MachineArgs,
    },
    /// Run an allocation script on a model of the kernel's CMA allocator: answers, messages, map, statistics
    Model(ModelArgs),
    /// Talk to a running machine, by the socket of its --api-socket
    Ctl(CtlArgs),
    /// Run the machine of a --report again, with the same faults, and compare what went wrong
    Replay(ReplayArgs),
    /// Put a guest's driver through faults on purpose, and say how it took them
    Experiment(ExperimentArgs),
    /// Say whether this host can run Linux guests, and what to do if not
    Doctor,
}

#[derive(Debug, Args)]
struct MachineArgs {
    #[arg(long, value_name = "SPEC", help = cma_help())]
    cma: Vec<WindowSpec>,
    /// How the guest is told of the default window: by the device tree, by cma= on the command line, or by both
    #[arg(long, value_name = "MODE", value_enum, default_value_t, hide_possible_values = true)]
    cma_mode: CmaMode,
    /// Guest memory, with K, M or G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size::parse)]
    memory: u64,
    /// Back guest memory with 2 MiB pages of the host's pool
    #[arg(long)]
    hugepages: bool,
    /// Number of vCPUs
    #[arg(long, value_name = "N", default_value_t = 1)]
    cpus: u8,
    #[arg(long, value_name = "N", default_value_t = 1, help = numa_help())]
    numa: u8,
    /// The guest image, of those that the builder of guest-images has built
    #[arg(long, value_name = "NAME", default_value = images::DEFAULT, conflicts_with = "kernel")]
    image: String,
    #[arg(long, value_name = "FILE", help = kernel_help())]
    kernel: Option<PathBuf>,
    /// Initramfs or initrd [default: the guest image's, if the kernel is]
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// The guest kernel's unit for CMA windows, its pageblock [default: the guest image's, or 4M]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pageblock: Option<u64>,
    /// Append to the kernel command line
    #[arg(long, value_name = "TEXT", default_value = "")]
    cmdline: String,
    /// A device, may be repeated: NAME[,KEY=VALUE]...; `help` lists the devices, `NAME,help` the keys of one
    #[arg(long, value_name = "NAME", value_parser = parse_device)]
    device: Vec<DeviceArg>,
    #[arg(long, value_name = "SPEC", value_parser = parse_camera, help = camera_help())]
    camera: Vec<Option<DeviceRequest>>,
    /// Run one command in the guest instead of a shell, and end with its exit status
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// Seed of everything random: the guest's entropy device, the camera's noise, faults
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What goes wrong on purpose: a plan, as devices/FAULTS.md describes it
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    #[command(flatten)]
    arch: arch::Options,
}

/// The value of `--device`.
#[derive(Debug, Clone)]
enum DeviceArg {
    /// A list of all devices is asked for.
    List,
    /// The keys of this device are asked for.
    Keys(&'static Registration),
    /// A device is asked for.
    Request(DeviceRequest),
}

/// The device of the short form `--camera SPEC`, and of a machine without either option.
const CAMERA: &str = "camera";

fn cma_help() -> String {
    format!(
        "A CMA window, may be repeated: a size (256M), or these fields with commas between\n{}",
        WindowSpec::HELP
    )
}

fn numa_help() -> String {
    format!("Number of NUMA nodes, among which memory and vCPUs are divided\n{}", arch::NUMA_HELP)
}

fn kernel_help() -> String {
    format!("{} instead of a guest image's", arch::KERNEL_FORMATS)
}

fn camera_help() -> String {
    let keys = registered(CAMERA).map_or_else(|error| error, |camera| options::help(camera.keys));
    format!(
        "A camera, may be repeated; short for --device camera,SPEC: none, or any of these fields with commas between\n{keys}"
    )
}

fn parse_camera(text: &str) -> Result<Option<DeviceRequest>, String> {
    if text == "none" { Ok(None) } else { DeviceRequest::new(CAMERA, text).map(Some) }
}

fn parse_device(text: &str) -> Result<DeviceArg, String> {
    match text.split_once(',') {
        None if text == "help" => Ok(DeviceArg::List),
        Some((name, "help")) => registered(name).map(DeviceArg::Keys),
        _ => text.parse().map(DeviceArg::Request),
    }
}

/// The help that a `--device` among these asks for.
fn device_help(devices: &[DeviceArg]) -> Option<String> {
    devices.iter().find_map(|device| match device {
        DeviceArg::List => {
            let width = REGISTRY.iter().map(|device| device.name.len()).max().unwrap_or(0);
            let line = |device: &&Registration| format!("{:width$}  {}\n", device.name, device.summary);
            Some(
                REGISTRY.iter().map(line).collect::<String>()
                    + "\n--device NAME,help lists the keys of one.\n",
            )
        }
        DeviceArg::Keys(device) => {
            Some(format!("{}: {}\n{}\n", device.name, device.summary, options::help(device.keys)))
        }
        DeviceArg::Request(_) => None,
    })
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    machine: MachineArgs,
    /// Folder for what the guest leaves in /out when --exec's command has ended
    #[arg(long, value_name = "DIR", requires = "exec")]
    out: Option<PathBuf>,
    /// Write a report of the run to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write what the plan of faults did to this file, a line of JSON for each time that a rule fired
    #[arg(long, value_name = "FILE", requires = "faults")]
    trace: Option<PathBuf>,
    /// Write what happened and when to this file: frames, interrupts, faults and the guest's marks, for ui.perfetto.dev
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
    /// Write the flattened device tree to this file, then boot
    #[arg(long, value_name = "FILE")]
    dump_dtb: Option<PathBuf>,
    /// Copy what the guest prints on its serial console to this file
    #[arg(long, value_name = "FILE")]
    console_log: Option<PathBuf>,
    /// Make this socket, by which `minivmm ctl` talks to the machine
    #[arg(long, value_name = "FILE")]
    api_socket: Option<PathBuf>,
    /// Boot also where `minivmm doctor` says that Linux cannot run: for bare-metal guests
    #[arg(long)]
    any_host: bool,
    /// What minivmm logs on stderr: error, warn, info, debug, or module=level,...
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("{0}")]
    Request(LoadError),
    #[error("{0}")]
    Device(String),
    #[error(
        "the log filter \"{filter}\" is not understood: {reason}; give a level such as debug, or module=level"
    )]
    LogFilter { filter: String, reason: String },
    #[error(transparent)]
    Kvm(#[from] KvmError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Check(CheckError),
    #[error(transparent)]
    Model(ModelError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Ctl(CtlError),
    #[error(transparent)]
    Experiment(ExperimentError),
    #[error(transparent)]
    Replay(ReplayError),
    #[error("{} cannot be written: {source}; name a file in a folder that can", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the plan of faults {} cannot be read: {source}; name a file that can", path.display())]
    ReadPlan { path: PathBuf, source: io::Error },
    #[error("{}:{error}", path.display())]
    Plan { path: PathBuf, error: PlanError },
    #[error("the report {} cannot be written: {source}", path.display())]
    Report { path: PathBuf, source: io::Error },
    #[error(
        "the tree cannot be printed as source: {0}; install the package device-tree-compiler, or give --out FILE.dtb"
    )]
    Dtc(String),
}

impl CliError {
    fn exit_status(&self) -> u8 {
        match self {
            Self::Request(LoadError::Memory(_)) => 1,
            Self::Image(_)
            | Self::Request(_)
            | Self::Device(_)
            | Self::LogFilter { .. }
            | Self::Write { .. }
            | Self::ReadPlan { .. }
            | Self::Plan { .. }
            | Self::Socket(_)
            | Self::Machine(MachineError::Out { .. } | MachineError::ConsoleLog { .. }) => 2,
            Self::Check(error) => error.exit_status(),
            Self::Model(error) => error.exit_status(),
            Self::Ctl(error) => error.exit_status(),
            Self::Experiment(error) => error.exit_status(),
            Self::Replay(error) => error.exit_status(),
            Self::Kvm(_) | Self::Machine(_) | Self::Dtc(_) | Self::Report { .. } => 1,
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(help) = cli.machine().and_then(|machine| device_help(&machine.device)) {
        // A reader that closed the pipe has read enough.
        let _ = io::stdout().write_all(help.as_bytes());
        return ExitCode::SUCCESS;
    }
    let result = match cli.command {
        None => run(cli.run),
        Some(Command::Run(args)) => run(args),
        Some(Command::Dtb { machine, out }) => dtb(machine, out.as_deref()),
        Some(Command::Check { check, machine }) => self::check(&check, machine),
        Some(Command::Model(args)) => model::main(&args).map_err(CliError::Model),
        Some(Command::Ctl(args)) => ctl::main(&args).map_err(CliError::Ctl),
        Some(Command::Replay(args)) => replay::main(&args).map_err(CliError::Replay),
        Some(Command::Experiment(args)) => experiment::main(args, machine_of).map_err(CliError::Experiment),
        Some(Command::Doctor) => Ok(doctor()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("minivmm: {error}");
        ExitCode::from(error.exit_status())
    })
}

fn doctor() -> ExitCode {
    let (report, fit) = doctor::examine();
    // Whoever closed the pipe knows enough.
    let _ = write!(io::stdout(), "{report}");
    if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn dtb(machine: MachineArgs, out: Option<&Path>) -> Result<ExitCode, CliError> {
    let (tree, _) = tree(machine)?;
    match out {
        Some(path) => write(path, &tree)?,
        None => print_source(&tree).map_err(CliError::Dtc)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(check: &CheckArgs, machine: MachineArgs) -> Result<ExitCode, CliError> {
    let done = if let Some(file) = &check.file {
        check::file(file, machine.pageblock.unwrap_or(arch::PAGEBLOCK), check)
    } else {
        let (tree, pageblock) = tree(machine)?;
        check::guest(&tree, pageblock, check)
    };
    done.map_err(CliError::Check)
}

/// The generated tree, and the pageblock that it is made for.
fn tree(machine: MachineArgs) -> Result<(Vec<u8>, u64), CliError> {
    // The tree can be looked at before there is an image: nothing but the windows' places depends on it.
    let kernel = machine.kernel.clone();
    let (config, image) = config(machine)?;
    let kernel = kernel.or_else(|| image.is_ok().then(|| config.kernel.clone()));
    let tree = load_with(&config, kernel.as_deref()).map_err(CliError::Request)?.tree;
    Ok((tree, config.pageblock))
}

fn print_source(tree: &[u8]) -> Result<(), String> {
    let mut dtc = Process::new("dtc")
        .args(["-I", "dtb", "-O", "dts", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("dtc: {error}"))?;
    if let Some(mut stdin) = dtc.stdin.take() {
        stdin.write_all(tree).map_err(|error| format!("dtc: {error}"))?;
    }
    let status = dtc.wait().map_err(|error| format!("dtc: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("dtc ended with {status}")) }
}

fn write(path: &Path, data: &[u8]) -> Result<(), CliError> {
    fs::write(path, data).map_err(|source| CliError::Write { path: path.to_owned(), source })
}

/// The configuration that the options mean, and whether the image that they need is there.
fn config(args: MachineArgs) -> Result<(Config, Result<(), ImageError>), CliError> {
    let faults = args.faults.as_deref().map(read_plan).transpose()?;
    let own = args.kernel.map(|kernel| Image { kernel, initrd: None, pageblock: arch::PAGEBLOCK });
    let (image, found) = match own.map_or_else(|| images::find(&args.image), Ok) {
        Ok(image) => (image, Ok(())),
        Err(error) => {
            (Image { kernel: PathBuf::new(), initrd: None, pageblock: arch::PAGEBLOCK }, Err(error))
        }
    };
    let others = args.device.into_iter().filter_map(|device| match device {
        DeviceArg::Request(request) => Some(request),
        DeviceArg::List | DeviceArg::Keys(_) => None,
    });
    let is_default = args.camera.is_empty();
    let mut devices: Vec<DeviceRequest> = args.camera.into_iter().flatten().chain(others).collect();
    // A machine for which no camera is asked, and which is not to be without, has one.
    if is_default && !devices.iter().any(|device| device.registration.name == CAMERA) {
        devices.insert(0, DeviceRequest::new(CAMERA, "").map_err(CliError::Device)?);
    }
    let config = Config {
        memory: args.memory,
        hugepages: args.hugepages,
        cpus: args.cpus,
        numa: args.numa,
        arch: args.arch,
        kernel: image.kernel,
        initrd: args.initrd.or(image.initrd),
        cmdline: args.cmdline,
        pageblock: args.pageblock.unwrap_or(image.pageblock),
        windows: args.cma,
        cma_mode: args.cma_mode,
        devices,
        faults,
        timeline: false,
        exec: args.exec,
        out: None,
        seed: args.seed,
        console_log: None,
    };
    Ok((config, found))
}

/// The machine with these options, to which an experiment adds its own.
///
/// # Errors
/// If they are none, or are the experiment's: a sentence that says why.
fn machine_of(words: &[String]) -> Result<experiment::Machine, String> {
    let cli = Cli::try_parse_from(["minivmm", "run"].into_iter().chain(words.iter().map(String::as_str)));
    let run = match cli {
        Ok(Cli { command: Some(Command::Run(run)), .. }) => run,
        Ok(_) => return Err("these are no options of minivmm run".to_owned()),
        Err(error) => {
            let text = error.to_string();
            return Err(text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned());
        }
    };
    let RunArgs { machine, out, report, trace, console_log, .. } = &run;
    let own = out.is_some() || report.is_some() || trace.is_some() || console_log.is_some();
    if own || machine.exec.is_some() || machine.seed.is_some() || machine.faults.is_some() {
        return Err("--exec, --seed, --faults, --trace, --out, --report and --console-log are the experiment's own; leave \
                    them out"
            .to_owned());
    }
    // An image that is not there is refused by the machine's own minivmm, which names it.
    let (config, _) = config(run.machine).map_err(|error| error.to_string())?;
    let files = [config.kernel].into_iter().chain(config.initrd).collect();
    Ok(experiment::Machine { memory: config.memory, files })
}

fn run(args: RunArgs) -> Result<ExitCode, CliError> {
    start_log(&args.log)?;
    let (mut config, image) = config(args.machine)?;
    image?;
    config.timeline = args.timeline.is_some();
    config.out = args.out;
    config.console_log = args.console_log;
    let opened = kvm::open_kvm();
    if let Ok(kvm) = &opened {
        config.arch.settle(kvm).map_err(KvmError::Options)?;
    }
    // What else was asked for is looked at before the host is.
    let loaded = load(&config).map_err(CliError::Request)?;
    if let Some(path) = &args.dump_dtb {
        write(path, &loaded.tree)?;
    }
    // A report that cannot be written is better refused before the run than after.
    let report_file = args.report.as_deref().map(ReportFile::open).transpose()?;
    let trace_file = args.trace.as_deref().map(ReportFile::open).transpose()?;
    let timeline_file = args.timeline.as_deref().map(ReportFile::open).transpose()?;

    let console_log = prepare_places(&config)?;
    let api = args.api_socket.as_deref().map(Server::bind).transpose()?;

    let opened = opened?;
    if !args.any_host {
        kvm::check_fit(&opened)?;
    }
    let streams =
        streams(console_log, api).map_err(|source| MachineError::Host { what: "signal handlers", source })?;
    let machine = Machine::start(&opened, &config, loaded, streams)?;
    let faults = machine.faults();
    let mut report = machine.run()?;
    report.arguments = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(file) = report_file {
        file.write(serde_json::to_vec_pretty(&report))?;
    }
    if let (Some(file), Some(trace)) = (trace_file, &report.faults) {
        let lines: Result<Vec<_>, _> = trace.firings.iter().map(serde_json::to_string).collect();
        file.write(
            lines.map(|lines| lines.iter().flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()),
        )?;
    }
    if let (Some(file), Some(faults)) = (timeline_file, faults)
        && let Some((begun, moments)) = faults.timeline()
    {
        file.write(serde_json::to_vec(&timeline::of(faults.devices(), begun, &moments)))?;
    }
    explain(&report, &config);
    Ok(ExitCode::from(exit_status(&report, &config)))
}

/// A plan of faults from a file.
fn read_plan(path: &Path) -> Result<Plan, CliError> {
    let text =
        fs::read_to_string(path).map_err(|source| CliError::ReadPlan { path: path.to_owned(), source })?;
    Plan::read(&text, &fault_tables()).map_err(|error| CliError::Plan { path: path.to_owned(), error })
}

/// This process' own streams and signals.
fn streams(console_log: Option<fs::File>, api: Option<Server>) -> io::Result<Streams> {
    let signals = Signals::take_over()?;
    let stdout = Output::new(signals.writer(&io::stdout())?);
    let stderr = Output::new(signals.writer(&io::stderr())?);
    Ok(Streams { stdout, stderr, console_log, signals: Some(signals), api })
}

/// Where `--report` goes. A file appears whole or stays as it was, and is never written through a link that a guest
/// left in its `--out` folder; a pipe or a terminal is written to.
enum ReportFile {
    Whole(tempfile::NamedTempFile, PathBuf),
    Stream(fs::File, PathBuf),
}

impl ReportFile {
    fn open(path: &Path) -> Result<Self, CliError> {
        let error = |source| CliError::Write { path: path.to_owned(), source };
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = fs::File::options().write(true).open(path).map_err(error)?;
            return Ok(Self::Stream(file, path.to_owned()));
        }
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new()
            .prefix(".minivmm-report-")
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(error)?;
        Ok(Self::Whole(file, path.to_owned()))
    }

    fn write(self, json: serde_json::Result<Vec<u8>>) -> Result<(), CliError> {
        let json = json.map_err(io::Error::from);
        let (result, path) = match self {
            Self::Stream(mut file, path) => (json.and_then(|json| file.write_all(&json)), path),
            Self::Whole(mut file, path) => {
                let written = json.and_then(|json| file.write_all(&json));
                let renamed =
                    written.and_then(|()| file.persist(&path).map(drop).map_err(|error| error.error));
                (renamed, path)
            }
        };
        result.map_err(|source| CliError::Report { path, source })
    }
}

/// The exit status. A command that never handed back a status has failed, however the machine ended.
fn exit_status(report: &Report, config: &Config) -> u8 {
    match report.outcome {
        MachineOutcome::Halted | MachineOutcome::Stopped if config.exec.is_some() => 1,
        _ => report.outcome.exit_status(),
    }
}

/// Says on stderr how the machine ended, where that is not what was asked for.
fn explain(report: &Report, config: &Config) {
    let what = match &report.outcome {
        MachineOutcome::Exit { .. } => return,
        MachineOutcome::Quit => "stopped by Ctrl-A x".to_owned(),
        MachineOutcome::Signal { signal } => format!("stopped by signal {signal}"),
        MachineOutcome::Stopped => "stopped by a request on the API socket".to_owned(),
        MachineOutcome::PoweredOff => "the guest powered off before its command had ended".to_owned(),
        MachineOutcome::Panic => "the guest's kernel panicked".to_owned(),
        MachineOutcome::Halted => "the guest halted".to_owned(),
        MachineOutcome::Reset => "the guest reset itself; minivmm does not start it again".to_owned(),
        MachineOutcome::Failed { reason } => reason.clone(),
    };
    eprintln!("minivmm: {what}");
    let failed = matches!(
        report.outcome,
        MachineOutcome::Panic | MachineOutcome::Reset | MachineOutcome::Failed { .. }
    );
    // Without a command they are on the screen already.
    if config.exec.is_some() && failed && !report.last_console_lines.is_empty() {
        eprintln!("minivmm: the last lines of its console:");
        for line in &report.last_console_lines {
            eprintln!("  {line}");
        }
    }
}

fn start_log(filter: &str) -> Result<(), CliError> {
    let targets: Targets = filter.parse().map_err(|error: ParseError| CliError::LogFilter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).without_time();
    tracing_subscriber::registry().with(lines).with(targets).init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_tree_in_a_file_has_no_machine_options() {
        let mut command = Cli::command();
        command.build();
        let arguments = |name| command.find_subcommand(name).unwrap().get_arguments();
        let machine: Vec<_> = arguments("dtb").map(clap::Arg::get_id).collect();
        let file = arguments("check").find(|argument| argument.get_id() == "file").unwrap();
        let conflicts = command.find_subcommand("check").unwrap().get_arg_conflicts_with(file);
        for argument in arguments("check").map(clap::Arg::get_id).filter(|id| machine.contains(id)) {
            let conflict = conflicts.iter().any(|other| other.get_id() == argument);
            assert_eq!(conflict, !["pageblock", "help"].contains(&argument.as_str()), "{argument}");
        }
    }

    #[test]
    fn run_is_the_default_command() {
        let cli = Cli::parse_from(["minivmm", "--cma", "256M", "--cpus", "2"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.run.machine.cma, ["256M".parse().unwrap()]);
        assert!(matches!(
            Cli::parse_from(["minivmm", "run", "--cma", "1G"]).command,
            Some(Command::Run(args)) if args.machine.cma[0].size == 1 << 30
        ));
        assert!(Cli::try_parse_from(["minivmm", "--cma", "0"]).is_err());
        assert!(Cli::try_parse_from(["minivmm", "--colour"]).is_err());
        assert!(Cli::try_parse_from(["minivmm", "--out", "x"]).is_err());
    }
}
