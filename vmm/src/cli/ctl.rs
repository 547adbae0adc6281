//! `minivmm ctl SOCKET VERB`: sends a request to a running machine over its API socket, and prints the answer, or what happens.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use cma::{Window, map::Map, size};
use devices::faults::{Plan, PlanError, RuleStatus};
use indexmap::IndexMap;

use crate::{
    api::{
        Answer, Event, FaultsRequest, FramesRequest, GuestWindow, OwnedRun, Reader, Request, SetRequest,
        Status, Verb,
        client::{Client, ClientError},
    },
    boot::tree_faults::fault_tables,
    guest::terminal,
    observe::{
        capture::{Capture, CaptureError},
        exit_status::Reason,
        report::DeviceReport,
        words::counted,
    },
};

/// How long to wait for an answer. A machine answers within 10 s, if only with an error.
const PATIENCE: Duration = Duration::from_secs(30);

/// The arguments of `minivmm ctl`.
#[derive(Debug, Args)]
pub struct CtlArgs {
    /// The --api-socket of the machine
    socket: PathBuf,
    /// The request
    #[arg(value_enum)]
    verb: Verb,
    /// For faults: list, add FILE, remove NAME or trigger NAME [default: list]; for frames: pause, step, step N or resume; for
    /// set: ID KEY=VALUE
    #[arg(value_name = "WORD")]
    more: Vec<String>,
    /// Print the machine's answer as a line of JSON; of events, each
    #[arg(long)]
    json: bool,
    /// For devices, frames and capture: only this device, as in camera0
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// For cma: only the window whose name begins with this
    #[arg(long, value_name = "NAME")]
    window: Option<String>,
    /// For cma: who reads the windows: memory, for minivmm itself, or the guest's agent
    #[arg(long, value_name = "READER", value_enum, hide_possible_values = true)]
    from: Option<Reader>,
    /// For cma: also draw the window into this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// For capture: write the frame to this file, as PNG, instead of drawing it
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// For capture: draw one frame after another, until Ctrl-C
    #[arg(long, conflicts_with_all = ["png", "json"])]
    follow: bool,
}

/// Why no answer was printed.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The machine cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// --from with another verb than cma.
    #[error("--from is for the verb cma; omit it")]
    NoReader,
    /// --svg or --window with another verb than cma.
    #[error("--svg and --window are for the verb cma; omit them")]
    NoWindows,
    /// --png or --follow with another verb than capture.
    #[error("--png and --follow are for the verb capture; omit them")]
    NoCapture,
    /// --device with a verb that takes none.
    #[error("--device is for the verbs devices, frames and capture; omit it")]
    NoDevice,
    /// Wrong words behind the verb.
    #[error("{0}")]
    Words(String),
    /// The plan cannot be read.
    #[error("the plan {} cannot be read: {source}; name a readable file", path.display())]
    ReadPlan {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mistake.
    #[error("{}:{error}", path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What, and where.
        error: PlanError,
    },
    /// There is no such window, or more than one to draw.
    #[error("{wanted} must name one of the guest's windows: {names}")]
    Windows {
        /// The option.
        wanted: &'static str,
        /// The names of the windows.
        names: String,
    },
    /// The captured frame.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The file of --svg or --png.
    #[error("the picture {} cannot be written: {source}; choose a writable folder", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The machine cannot do it.
    #[error("{0}")]
    Refused(String),
}

impl CtlError {
    /// The reason for minivmm's exit status.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Client(error) => client_reason(error),
            Self::NoWindows
            | Self::NoReader
            | Self::NoCapture
            | Self::NoDevice
            | Self::Windows { .. }
            | Self::Words(_)
            | Self::ReadPlan { .. }
            | Self::Plan { .. }
            | Self::Write { .. } => Reason::BadRequest,
            Self::Capture(_) | Self::Refused(_) => Reason::Failed,
        }
    }
}

/// The reason for minivmm's exit status when a machine cannot be asked.
pub(super) fn client_reason(error: &ClientError) -> Reason {
    match error {
        ClientError::Connect { .. } | ClientError::NoAnswer { .. } => Reason::BadRequest,
        ClientError::Connection { .. } => Reason::Failed,
    }
}

/// Sends the request, and prints the answer.
///
/// # Errors
/// If the machine cannot be reached, or cannot do the request.
pub fn main(args: &CtlArgs) -> Result<ExitCode, CtlError> {
    if args.verb != Verb::Cma && (args.svg.is_some() || args.window.is_some()) {
        return Err(CtlError::NoWindows);
    }
    if args.verb != Verb::Cma && args.from.is_some() {
        return Err(CtlError::NoReader);
    }
    if args.verb != Verb::Capture && (args.png.is_some() || args.follow) {
        return Err(CtlError::NoCapture);
    }
    if args.device.is_some() && !matches!(args.verb, Verb::Devices | Verb::Frames | Verb::Capture) {
        return Err(CtlError::NoDevice);
    }
    if args.verb == Verb::Events {
        return print_events(args).map(|()| ExitCode::SUCCESS);
    }
    loop {
        let is_read = print(&answer_text(args)?);
        if !args.follow || !is_read {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Prints `text`. Returns false if the reader has closed the pipe: it wants no more.
fn print(text: &str) -> bool {
    io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()).is_ok()
}

/// Prints the state of the machine and what happens in it, until it ends.
fn print_events(args: &CtlArgs) -> Result<(), CtlError> {
    let mut client = Client::connect(&args.socket)?;
    client.send(&request(args)?)?;
    loop {
        let Some(line) = client.line(PATIENCE)? else { continue };
        let answer = client.answer(&line)?;
        let is_read = match &answer {
            Answer::Error(sentence) => return Err(CtlError::Refused(sentence.clone())),
            _ if args.json => print(&line),
            Answer::Status(status) => print(&state_line(status)),
            Answer::Event(event) => print(&event_line(event)),
            // It is no part of the stream.
            _ => true,
        };
        if !is_read || matches!(answer, Answer::Event(Event::End { .. })) {
            return Ok(());
        }
    }
}

/// A line for an event.
fn event_line(event: &Event) -> String {
    let what = match event {
        Event::BootMark { .. } => "boot mark".to_owned(),
        // The guest chooses the text, and it is printed on a terminal.
        Event::Mark { text, .. } => format!("mark {}", text.replace(char::is_control, "?")),
        Event::Paused { .. } => "paused".to_owned(),
        Event::Resumed { .. } => "resumed".to_owned(),
        Event::Fired { device, window, frame, on, rule, event, action, .. } => {
            let of = device.as_ref().or(window.as_ref()).map_or(String::new(), |of| format!("{of}: "));
            let frame = frame.map_or(String::new(), |frame| format!(", frame {frame}"));
            format!("{of}rule {rule} fired: {action} on {on}, event {event}{frame}")
        }
        Event::WindowWritten { window, .. } => format!("window {window}: first write by a device"),
        Event::Reset { device, .. } => format!("{device}: reset"),
        Event::Panicked { .. } => "the guest's kernel panicked".to_owned(),
        Event::Lost { count, .. } => format!("{} lost", counted(*count, "event")),
        Event::End { exit, .. } => format!("end with status {}: {}", exit.status, exit.meaning),
    };
    format!("{:10.3} s  {what}\n", event.seconds())
}

/// Sends the request; the text to print.
fn answer_text(args: &CtlArgs) -> Result<String, CtlError> {
    let request = request(args)?;
    let mut client = Client::connect(&args.socket)?;
    client.send(&request)?;
    let line = client.line(PATIENCE)?.ok_or_else(|| ClientError::Connection {
        path: args.socket.clone(),
        source: io::ErrorKind::TimedOut.into(),
    })?;
    Ok(match client.answer(&line)? {
        Answer::Error(sentence) => return Err(CtlError::Refused(sentence)),
        Answer::Cma(windows) => {
            let text = windows_text(&windows, args)?;
            if args.json { line } else { text }
        }
        _ if args.json => line,
        Answer::Status(status) => status_text(&status),
        Answer::Devices(devices) => devices_text(&devices),
        Answer::Faults(rules) => rules_text(&rules)?,
        Answer::Capture(capture) => capture_text(&capture, args)?,
        // An event comes only in their stream.
        Answer::Done {} | Answer::Event(_) => String::new(),
    })
}

/// The request that the verb and the words behind it make.
fn request(args: &CtlArgs) -> Result<Request, CtlError> {
    let words: Vec<&str> = args.more.iter().map(String::as_str).collect();
    let request = Request { device: args.device.clone(), from: args.from, ..Request::new(args.verb) };
    Ok(match (args.verb, &words[..]) {
        (Verb::Faults, words) => Request { faults: Some(faults_request(words)?), ..request },
        (Verb::Frames, words) => Request { frames: Some(frames_request(words)?), ..request },
        (Verb::Set, words) => {
            let (id, set) = set_request(words)?;
            Request { device: Some(id), set: Some(set), ..request }
        }
        (_, []) => request,
        (_, [word, ..]) => {
            return Err(CtlError::Words(format!("unexpected word '{word}'; omit it")));
        }
    })
}

/// The device, and the key with its value.
fn set_request(words: &[&str]) -> Result<(String, SetRequest), CtlError> {
    if let [id, change] = words
        && let Some((key, value)) = change.split_once('=')
    {
        return Ok(((*id).to_owned(), SetRequest { key: key.to_owned(), value: value.to_owned() }));
    }
    Err(CtlError::Words(format!(
        "set needs ID KEY=VALUE, as in balloon0 size=128M, not '{}'",
        words.join(" ")
    )))
}

fn frames_request(words: &[&str]) -> Result<FramesRequest, CtlError> {
    let step = |count: &str| count.parse().ok().filter(|count| *count > 0).map(FramesRequest::Step);
    let request = match words {
        ["pause"] => Some(FramesRequest::Pause),
        ["step"] => Some(FramesRequest::Step(1)),
        ["step", count] => step(count),
        ["resume"] => Some(FramesRequest::Resume),
        _ => None,
    };
    request.ok_or_else(|| {
        CtlError::Words(format!("frames needs pause, step [N] or resume, not '{}'", words.join(" ")))
    })
}

fn faults_request(words: &[&str]) -> Result<FaultsRequest, CtlError> {
    Ok(match *words {
        [] | ["list"] => FaultsRequest::List,
        ["add", file] => {
            let path = PathBuf::from(file);
            let text = fs::read_to_string(&path)
                .map_err(|source| CtlError::ReadPlan { path: path.clone(), source })?;
            // An error here names the file; the machine knows only the text.
            Plan::read(&text, &fault_tables()).map_err(|error| CtlError::Plan { path, error })?;
            FaultsRequest::Add(text)
        }
        ["remove", name] => FaultsRequest::Remove(name.to_owned()),
        ["trigger", name] => FaultsRequest::Trigger(name.to_owned()),
        _ => {
            return Err(CtlError::Words(format!(
                "faults needs list, add FILE, remove NAME or trigger NAME, not '{}'",
                words.join(" ")
            )));
        }
    })
}

/// The captured frame as blocks, or the file that has it.
fn capture_text(capture: &Capture, args: &CtlArgs) -> Result<String, CtlError> {
    let Capture { device, sequence, format, .. } = capture;
    let title = format!("{device}, frame {sequence}, {format}");
    if let Some(path) = &args.png {
        fs::write(path, capture.file()?).map_err(|source| CtlError::Write { path: path.clone(), source })?;
        return Ok(format!("{title}: {}\n", path.display()));
    }
    // One line is for the title, one for the prompt.
    let (columns, rows) = terminal::size().unwrap_or((80, 24));
    let blocks = capture.blocks(columns.into(), rows.saturating_sub(2).into())?;
    // The next frame goes over this one: the cursor moves to the upper left corner, and the screen below is cleared.
    let home = if args.follow { "\x1b[H\x1b[J" } else { "" };
    Ok(format!("{home}{blocks}{title}\n"))
}

/// A line for each rule.
fn rules_text(rules: &[RuleStatus]) -> Result<String, CtlError> {
    if rules.is_empty() {
        return Ok("no rules\n".to_owned());
    }
    rules
        .iter()
        .map(|RuleStatus { name, on, action, events, firings }| {
            let action =
                serde_json::to_string(action).map_err(|error| CtlError::Refused(error.to_string()))?;
            let (firings, events) = (counted(*firings, "time"), counted(*events, "event"));
            Ok(format!("{name}: on {on} {action}, fired {firings} at {events}\n"))
        })
        .collect()
}

/// The windows' maps as text. With `--svg` one of them goes into a file as well.
fn windows_text(windows: &[GuestWindow], args: &CtlArgs) -> Result<String, CtlError> {
    let named = |window: &&GuestWindow| {
        args.window.as_ref().is_none_or(|name| window.name.starts_with(name.as_str()))
    };
    let chosen: Vec<_> = windows.iter().filter(named).collect();
    let names = || windows.iter().map(|window| window.name.as_str()).collect::<Vec<_>>().join(", ");
    if args.window.is_some() && chosen.is_empty() {
        return Err(CtlError::Windows { wanted: "--window", names: names() });
    }
    if let Some(path) = &args.svg {
        let [window] = chosen[..] else {
            return Err(CtlError::Windows { wanted: "--window, for --svg,", names: names() });
        };
        fs::write(path, map(window).to_svg())
            .map_err(|source| CtlError::Write { path: path.clone(), source })?;
    }
    if chosen.is_empty() {
        return Ok("the guest has no CMA windows\n".to_owned());
    }
    let read_by = match chosen[0].read_by {
        Reader::Memory => "minivmm, from guest memory",
        Reader::Agent => "the guest's agent, from debugfs",
    };
    let owners = |window| owner_lines(window).iter().map(|line| format!("{line}\n")).collect::<String>();
    let maps = chosen.into_iter().map(|window| map(window).to_text() + &owners(window));
    Ok(format!("{}read by {read_by}\n", maps.collect::<Vec<_>>().join("\n")))
}

/// A line for each process that owns pages of a window, the one with the most pages first. Pages are counted from the window's base.
pub(super) fn owner_lines(window: &GuestWindow) -> Vec<String> {
    /// The most lines, and the most runs in one. The JSON form has all.
    const LINES: usize = 16;
    const RUNS: usize = 8;
    let mut owners: IndexMap<(&str, u32), (u64, Vec<String>)> = IndexMap::new();
    for OwnedRun { first, pages, comm, tgid, .. } in window.owners.iter().flatten() {
        let run = if *pages == 1 { first.to_string() } else { format!("{first}-{}", first + pages - 1) };
        let (count, runs) = owners.entry((comm, *tgid)).or_default();
        *count += pages;
        runs.push(run);
    }
    owners.sort_by_key(|_, (pages, _)| std::cmp::Reverse(*pages));
    let more = |count: usize, shown: usize, noun| match count.saturating_sub(shown) {
        0 => String::new(),
        more => format!(" and {} more", counted(more as u64, noun)),
    };
    let hidden = more(owners.len(), LINES, "owner");
    let line = |((comm, process), (pages, runs)): ((&str, u32), (u64, Vec<String>))| {
        let (more, pages) = (more(runs.len(), RUNS, "run"), counted(pages, "page"));
        format!("owned by {comm}, pid {process}: {pages}, {}{more}", runs[..RUNS.min(runs.len())].join(" "))
    };
    let mut lines: Vec<String> = owners.into_iter().take(LINES).map(line).collect();
    lines.extend(Some(hidden.trim_start().to_owned()).filter(|hidden| !hidden.is_empty()));
    lines
}

/// The map of a window.
pub(super) fn map(window: &GuestWindow) -> Map {
    let (base, size) = (window.base, window.size);
    let mut map = Map::new(&Window { name: window.name.clone(), base, size, ..Default::default() });
    for (first, count) in &window.runs_allocated {
        map.allocated.insert(*first..first + count);
    }
    for (first, count) in &window.runs_written {
        map.written.insert(*first..first + count);
    }
    map
}

/// The first line of the state.
fn state_line(status: &Status) -> String {
    let booted = match status.seconds_to_boot_mark {
        Some(seconds) => format!("booted after {seconds:.2} s"),
        None => "not booted yet".to_owned(),
    };
    let paused = if status.paused { ", paused" } else { "" };
    format!("minivmm {}: running for {:.1} s, {booted}{paused}\n", status.version, status.seconds)
}

fn status_text(status: &Status) -> String {
    let mut text = format!(
        "{}{}, {} of memory\n",
        state_line(status),
        counted(status.cpus.into(), "vCPU"),
        size::format(status.memory)
    );
    // The node matters only in a guest with more than one NUMA node.
    let nodes = status.windows.iter().any(|window| window.node.is_some_and(|node| node > 0));
    for window in &status.windows {
        let node = window.node.filter(|_| nodes).map_or(String::new(), |node| format!(" in node {node}"));
        text += &format!(
            "window {} at {:#x}{node}, {}: {} written by devices\n",
            window.name,
            window.base,
            size::format(window.size),
            counted(window.pages_written, "page")
        );
    }
    text + &devices_text(&status.devices)
}

/// A line for each device.
fn devices_text(devices: &[DeviceReport]) -> String {
    let counters = |device: &DeviceReport| {
        let counters = device.counters.iter().map(|(name, count)| format!("{name} {count}"));
        counters.collect::<Vec<_>>().join(", ")
    };
    devices.iter().map(|device| format!("{}: {}\n", device.id, counters(device))).collect()
}
