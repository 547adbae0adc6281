//! `minivmm run`: boots a guest, and leaves the report, the trace and the timeline of the run.

use std::{
    env, fs,
    io::{self, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::{self, ExitCode},
    time::{Duration, Instant},
};

use clap::Args;
use devices::faults::Trace;
use serde::Serialize as _;
use tracing_subscriber::filter::ParseError;

use super::{
    duration,
    error::CliError,
    machine_args::{GuestArgs, MachineArgs, config},
    output::write,
};
use crate::{
    api::server::Server,
    boot::load::load,
    guest::{
        output::Output,
        whole_file::{WholeFile, folder_of},
    },
    lab::{self, Bridge, Host, Place},
    machine::{
        Machine, MachineError, Streams,
        config::Config,
        gdb::link::{GdbOption, GdbPlace, Link},
        kvm::{self, KvmError},
        prepare_places, reserve_files,
        signals::{self, Signals},
        watch::{self, Watch},
    },
    observe::{
        exit_status::Reason,
        json_lines::JsonLines,
        log::{self, Log},
        memory_dump::MemoryDump,
        metrics::{file::MetricsFile, output::MetricsOutput, place::MetricsPlace, server::MetricsServer},
        report::{MachineOutcome, Report},
        timeline,
    },
    sandbox,
};

/// The arguments of `minivmm run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten, next_help_heading = "Machine")]
    pub(super) machine: MachineArgs,
    #[command(flatten)]
    pub(super) guest: GuestArgs,
    /// Folder for the files that --exec's command leaves in the guest's /out
    ///
    /// The guest has /out on a disk, so guest memory does not limit the files. The disk takes space beside the folder until the
    /// machine ends: at most half of what is free there, or 64G. The files take at most as much, and are at most 1000000 with their
    /// folders; further files are skipped and counted in the report. Links that are in DIR are not followed.
    #[arg(long, value_name = "DIR", requires = "exec")]
    pub(super) out: Option<PathBuf>,
    /// End the machine after this time: 30s, 5m, 1h, or a number of seconds
    ///
    /// The machine is ended in order, and the exit status is 124.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(super) timeout: Option<Duration>,
    /// Time for the guest to come up, as --timeout takes it
    ///
    /// After this time a guest of --exec that has not made its boot mark is ended with the likely reason, and the exit status is
    /// 123. Without --exec, minivmm prints the reason if the guest has printed nothing.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "2m", hide_short_help = true)]
    pub(super) boot_timeout: Duration,
    /// Write a report of the run to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Write a trace of the fault injection to this file: a line of JSON each time a rule fires
    #[arg(long, value_name = "FILE", requires = "faults", hide_short_help = true)]
    pub(super) trace: Option<PathBuf>,
    /// Write a timeline of frames, interrupts, faults and the guest's marks to this file, for ui.perfetto.dev
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) timeline: Option<PathBuf>,
    /// Write the flattened device tree to this file, then boot
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) dump_dtb: Option<PathBuf>,
    /// Copy the output of the guest's serial console to this file
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) console_log: Option<PathBuf>,
    /// Create this socket, through which `minivmm ctl` controls the machine
    #[arg(long, value_name = "FILE")]
    pub(super) api_socket: Option<PathBuf>,
    /// Write the machine's figures for Prometheus to this file every 5 s, or serve them at unix:FILE
    ///
    /// The file is replaced as a whole, and has the last figures when the machine has ended; a name that ends with `.prom` in the folder of
    /// node_exporter's textfile collector is collected. `unix:FILE` is a Unix socket: `curl --unix-socket FILE http://localhost/metrics`.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) metrics: Option<MetricsPlace>,
    /// Serve gdb's remote protocol at this Unix socket, or at tcp:PORT
    ///
    /// The port is one of 127.0.0.1. The guest waits for the debugger before its first instruction, or with `,nowait` at the end runs at once. In gdb, `target
    /// remote FILE` attaches, each vCPU is a thread, and addresses are those of the guest's page tables. After `detach`, and when the
    /// debugger's connection breaks, the guest runs without breakpoints.
    #[arg(long, value_name = "FILE")]
    pub(super) gdb: Option<GdbOption>,
    /// Write the guest's memory and registers to this file if its kernel panics: an ELF core for gdb and drgn
    ///
    /// Pages of zeroes are holes in the file. With the kernel's symbols, as a guest image has them in `vmlinux.debug`, the core has the
    /// kernel's virtual addresses too. The file is for this user alone.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) dump_on_panic: Option<PathBuf>,
    #[arg(long, value_name = "WHERE", value_enum, default_value_t, hide_possible_values = true, help = lab::HELP)]
    pub(super) host: Host,
    /// Boot on this host's KVM even where `minivmm doctor` says that Linux cannot run, for bare-metal guests
    #[arg(long, hide_short_help = true)]
    pub(super) any_host: bool,
    /// Confine minivmm's threads before the guest runs: on, or off for debuggers
    ///
    /// In the sandbox no thread gains rights, has capabilities, starts programs, or reaches other files than those that these
    /// options name. A forbidden system call ends the machine.
    #[arg(
        long,
        value_name = "MODE",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        hide_short_help = true
    )]
    pub(super) sandbox: sandbox::Mode,
    /// Messages that minivmm logs on stderr: error, warn, info, debug, or module=level,...
    #[arg(long, value_name = "FILTER", default_value = "warn", hide_short_help = true)]
    pub(super) log: String,
    /// Form of minivmm's own messages on stderr: text for people, or a JSON object in each line
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        hide_short_help = true
    )]
    pub(super) log_format: log::Format,
}

/// Boots a guest, and looks after it until it ends.
pub(super) fn run(args: RunArgs) -> Result<ExitCode, CliError> {
    signals::ignore_file_size_signal();
    let mut log = new_log(&args.log, args.log_format)?;
    let (mut config, image) = config(args.machine, args.guest)?;
    image?;
    config.timeline = args.timeline.is_some();
    config.out = args.out;
    config.console_log = args.console_log;
    config.time_limit = args.timeout;
    config.boot_limit = Some(args.boot_timeout);
    // A terminal's input belongs to the shell that started minivmm.
    config.stdin = config.exec.is_some() && !io::stdin().is_terminal();
    let opened = kvm::open_kvm();
    if let Ok(kvm) = &opened {
        config.arch.settle(kvm).map_err(KvmError::Options)?;
    }
    // A mistake in the options is reported before one of the host.
    let loaded = load(&config).map_err(CliError::Request)?;
    if let Some(path) = &args.dump_dtb {
        write(path, &loaded.tree)?;
    }
    // A report that cannot be written is refused before the run.
    let report_file = args.report.as_deref().map(ReportFile::open).transpose()?;
    let trace_file = args.trace.as_deref().map(ReportFile::open).transpose()?;
    let timeline_file = args.timeline.as_deref().map(ReportFile::open).transpose()?;
    let dump = args.dump_on_panic.as_deref().map(|path| {
        MemoryDump::open(path).map_err(|source| CliError::Write { path: path.to_owned(), source })
    });
    let dump = dump.transpose()?;

    let console_log = prepare_places(&config)?;
    let reserved = reserve_files(&config)?;
    // In a lab the host has the socket's file, and this machine one of its own, which goes before the bridge to the host's.
    let mut api_bridge = args.api_socket.as_ref().and_then(|_| Bridge::find(lab::API));
    let api = args.api_socket.as_deref().map(|path| api_bridge.as_ref().map_or(path, Bridge::socket));
    let api = api.map(Server::bind).transpose()?;
    let mut metrics_bridge = match &args.metrics {
        Some(MetricsPlace::Socket(_)) => Bridge::find(lab::METRICS),
        _ => None,
    };
    let metrics = args.metrics.as_ref().map(|place| open_metrics(place, metrics_bridge.as_ref()));
    let metrics = metrics.transpose()?;
    let mut gdb_bridge = args.gdb.as_ref().and_then(|_| Bridge::find(lab::GDB));
    let gdb = args.gdb.as_ref().map(|option| {
        let inside = gdb_bridge.as_ref().map(|bridge| GdbPlace::Unix(bridge.socket().to_owned()));
        Link::bind(inside.as_ref().unwrap_or(&option.place)).map(|link| (link, option.waits))
    });
    let gdb = gdb.transpose()?;

    let opened = match lab::place(args.host, opened, !args.any_host)? {
        Place::Here(kvm) => kvm,
        Place::Lab(reason) => {
            // The minivmm in the lab opens all of them again. The files of devices stay reserved: the lab has no locks of this host.
            drop((loaded, report_file, trace_file, timeline_file, dump, console_log, api, gdb, metrics));
            log.begin();
            return Ok(ExitCode::from(lab::run_in_lab(&reason, config.memory, args.log_format)?));
        }
    };
    if args.sandbox == sandbox::Mode::On {
        let reports = [&report_file, &trace_file, &timeline_file].into_iter().flatten();
        let sockets = [api.as_ref().map(Server::folder), gdb.as_ref().and_then(|(link, _)| link.folder())];
        let folders = reports.filter_map(ReportFile::hand_over).chain(sockets.into_iter().flatten());
        let folders = folders.chain(dump.as_ref().map(MemoryDump::hand_over));
        let folders = folders.chain(metrics.as_ref().and_then(MetricsOutput::folder_of_socket));
        let folders = folders.chain(config.devices.iter().filter_map(|device| device.spec.folder()));
        let work = sandbox::Work { debugger: gdb.is_some(), dump: dump.is_some() };
        sandbox::begin(folders.map(Path::to_owned).collect(), work).map_err(MachineError::Sandbox)?;
    }
    // Each thread that starts from here on is confined.
    log.begin();
    for bridge in [&mut api_bridge, &mut gdb_bridge, &mut metrics_bridge].into_iter().flatten() {
        bridge.begin().map_err(|source| MachineError::Host { what: "the lab's socket", source })?;
    }
    let failed = Reason::Failed.status(config.exec.is_some());
    let streams = streams((console_log, dump), (api, gdb), args.timeout, &log, failed)
        .map_err(|source| MachineError::Host { what: "signal handlers or threads", source })?;
    let streams = Streams { metrics, ..streams };
    let watch = streams.watch.clone();
    drop(reserved);
    let machine = Machine::start(&opened, &config, loaded, streams)?;
    let faults = machine.faults();
    let mut report = machine.run()?;
    report.arguments = env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    watch.wait_for("the report");
    if let Some(file) = report_file {
        file.write(|writer| {
            report.serialize(&mut serde_json::Serializer::with_formatter(writer, JsonLines::default()))
        })?;
    }
    watch.wait_for("the trace");
    if let Some(Trace { more, more_changes, .. }) = &report.faults
        && more + more_changes > 0
    {
        log.say(&format!(
            "the record of faults is full: {more} later firings and {more_changes} later changes are not in it"
        ));
    }
    if let (Some(file), Some(trace)) = (trace_file, &report.faults) {
        file.write(|mut writer| {
            trace.firings.iter().try_for_each(|firing| {
                serde_json::to_writer(&mut writer, firing)?;
                writer.write_all(b"\n").map_err(serde_json::Error::io)
            })
        })?;
    }
    watch.wait_for("the timeline");
    if let (Some(file), Some(faults)) = (timeline_file, faults)
        && let Some(kept) = faults.take_timeline()
    {
        let timeline = timeline::of(faults.devices(), kept.begun, &kept.moments);
        file.write(|writer| serde_json::to_writer(writer, &timeline))?;
        if kept.lost > 0 {
            log.say(&format!("the timeline is full: {} later moments are not in it", kept.lost));
        }
    }
    // In a lab the answers that are on their way reach their clients.
    watch.wait_for("the lab's socket");
    drop((api_bridge, gdb_bridge, metrics_bridge));
    watch.end();
    explain(&report, &config, &log);
    Ok(ExitCode::from(report.exit.status))
}

/// Opens the destination of `--metrics`. In a lab, the machine's own socket goes before the `bridge` to the host's.
fn open_metrics(place: &MetricsPlace, bridge: Option<&Bridge>) -> Result<MetricsOutput, CliError> {
    Ok(match place {
        MetricsPlace::File(path) => {
            let write = |source| CliError::Write { path: path.clone(), source };
            MetricsOutput::File(MetricsFile::open(path).map_err(write)?)
        }
        MetricsPlace::Socket(path) => {
            MetricsOutput::Socket(MetricsServer::bind(bridge.map_or(path, Bridge::socket))?)
        }
    })
}

/// The streams and signals of this process, and the watch that ends it with the status `failed` if a part does not end.
fn streams(
    (console_log, dump): (Option<fs::File>, Option<MemoryDump>),
    (api, gdb): (Option<Server>, Option<(Link, bool)>),
    time_limit: Option<Duration>,
    log: &Log,
    failed: u8,
) -> io::Result<Streams> {
    let signals = Signals::take_over()?;
    let lines = log.lines();
    let watch = Watch::start(signals.ended(), watch::LOOKS, move |part| {
        lines.say(&format!("{part} did not end in time, and minivmm ends without it"));
        lines.end();
        process::exit(failed.into());
    })?;
    let until = time_limit.and_then(|limit| Instant::now().checked_add(limit));
    let [stdout, stderr] = Output::to([
        Box::new(signals.writer(&io::stdout(), until)?),
        Box::new(signals.writer(&io::stderr(), until)?),
    ])?;
    let console_log = match console_log {
        Some(file) => Some(Output::new(signals.writer(&file, until)?)?),
        None => None,
    };
    let signals = Some(signals);
    Ok(Streams { stdout, stderr, console_log, signals, watch, api, metrics: None, gdb, dump })
}

/// The destination of `--report`. A file appears whole or stays as it was, and is never written through a link that a guest left in
/// its `--out` folder. A pipe or a terminal is written to.
enum ReportFile {
    Whole(WholeFile, PathBuf),
    Stream(fs::File, PathBuf),
}

impl ReportFile {
    fn open(path: &Path) -> Result<Self, CliError> {
        let error = |source| CliError::Write { path: path.to_owned(), source };
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = fs::File::options().write(true).open(path).map_err(error)?;
            return Ok(Self::Stream(file, path.to_owned()));
        }
        let file = WholeFile::beside(path, 0o666).map_err(error)?;
        Ok(Self::Whole(file, path.to_owned()))
    }

    /// Lets a confined thread finish the file. Returns the folder in which it gets its name then.
    fn hand_over(&self) -> Option<&Path> {
        match self {
            Self::Whole(file, path) => {
                file.give_to_owner_of_folder();
                Some(folder_of(path))
            }
            Self::Stream(..) => None,
        }
    }

    /// Writes what `json` writes, piece by piece: a report can be much larger than the memory that minivmm promises to take.
    fn write(self, json: impl FnOnce(&mut dyn Write) -> serde_json::Result<()>) -> Result<(), CliError> {
        let written = |file: &mut dyn Write| {
            let mut writer = BufWriter::new(file);
            json(&mut writer).map_err(io::Error::from).and_then(|()| writer.flush())
        };
        let (result, path) = match self {
            Self::Stream(mut file, path) => (written(&mut file), path),
            Self::Whole(mut file, path) => {
                let name = path.file_name().unwrap_or_default();
                (written(&mut file).and_then(|()| file.finish(name)), path)
            }
        };
        result.map_err(|source| CliError::Report { path, source })
    }
}

/// Says on stderr how the machine ended, unless it ended as it should.
fn explain(report: &Report, config: &Config, log: &Log) {
    let what = match &report.outcome {
        MachineOutcome::Exit { .. } => return,
        MachineOutcome::Quit => "stopped by Ctrl-A x".to_owned(),
        MachineOutcome::Signal { signal } => format!("stopped by signal {signal}"),
        MachineOutcome::Stopped => "stopped by a request on the API socket".to_owned(),
        MachineOutcome::TimedOut { seconds } => format!("stopped after {seconds} s, the limit of --timeout"),
        MachineOutcome::PoweredOff => "the guest powered off before its command had ended".to_owned(),
        MachineOutcome::NotBooted { seconds } => {
            format!("the guest did not come up within {seconds} s, the limit of --boot-timeout")
        }
        MachineOutcome::ModuleNotLoaded { module } => format!("the guest did not load the module {module}"),
        MachineOutcome::RootNotMounted { reason } => {
            format!("the guest did not mount the userland of --root: {reason}")
        }
        MachineOutcome::Panic => "the guest's kernel panicked".to_owned(),
        MachineOutcome::Halted => "the guest halted".to_owned(),
        MachineOutcome::Reset => "the guest reset itself; minivmm does not start it again".to_owned(),
        MachineOutcome::Failed { reason } => reason.clone(),
    };
    log.say(&what);
    if let Some(path) = &report.memory_dump {
        log.say(&format!("its memory is in {path}"));
    }
    if let Some(reason) = &report.boot_failure {
        log.say(&format!("likely reason: {reason}"));
    }
    // Without a command these lines are on the screen already.
    if config.exec.is_some() && !report.last_console_lines.is_empty() {
        let lines = report.last_console_lines.join("\n  ");
        log.say(&format!("the last lines of its console:\n  {lines}"));
    }
}

/// The log of minivmm on stderr.
fn new_log(filter: &str, format: log::Format) -> Result<Log, CliError> {
    Log::new(filter, format).map_err(|error: ParseError| CliError::LogFilter {
        filter: filter.to_owned(),
        reason: error.to_string(),
    })
}
