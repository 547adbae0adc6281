//! The log of minivmm on stderr. Writing to it never waits and never fails: the reader of stderr cannot stop the machine, and a
//! guest cannot flood it.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, Builder},
    time::{Duration, Instant},
};

use serde_json::json;
use tracing::{Level, Metadata, callsite::Identifier};
use tracing_subscriber::{
    Layer as _,
    filter::{ParseError, Targets},
    fmt::{
        MakeWriter,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::sandbox::{self, Kind};

/// The most warnings of one source in a [`PERIOD`]. Other messages come only on request (`--log`), and are not limited.
const MOST: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// The most messages that wait for the reader of stderr. Further messages are lost.
const WAITING_MAX: usize = 1024;

/// The longest wait at the end for the reader of stderr.
const PATIENCE: Duration = Duration::from_secs(1);

/// The form of messages on stderr.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object in each line, with `timestamp`, `level`, `target`, `message`, and the fields of the message.
    Json,
}

impl Format {
    /// The line for a message of minivmm itself, which people see as `minivmm: MESSAGE`.
    pub fn line(self, level: Level, message: &str) -> String {
        match self {
            Self::Text => format!("minivmm: {message}\n"),
            Self::Json => self.of_module(level, "minivmm", message),
        }
    }

    /// The line for a message of the module `target`.
    fn of_module(self, level: Level, target: &str, message: &str) -> String {
        if self == Self::Text {
            return format!("{level:>5} {target}: {message}\n");
        }
        let mut timestamp = String::new();
        // Formatting into a string succeeds.
        let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
        let level = level.as_str();
        let line = json!({ "timestamp": timestamp, "level": level, "target": target, "message": message });
        format!("{line}\n")
    }
}

/// What the thread that writes takes.
enum Message {
    Text(Vec<u8>),
    /// The thread drops the sender when it has written all messages before.
    End(#[expect(dead_code, reason = "only its drop matters")] SyncSender<()>),
}

/// The log. Dropping it writes the messages that still wait, and the number of lost messages.
pub struct Log {
    lines: Lines,
    /// The messages and their stream, until [`begin`](Log::begin).
    waiting: Option<(Receiver<Message>, Box<dyn Write + Send>)>,
}

impl Log {
    /// Makes the log of this process on stderr, with the messages that `filter` selects. They wait for [`begin`](Self::begin).
    ///
    /// # Errors
    /// If the filter is malformed.
    pub fn new(filter: &str, format: Format) -> Result<Self, ParseError> {
        let targets: Targets = filter.parse()?;
        let log = Self::to(io::stderr(), format);
        let lines = tracing_subscriber::fmt::layer().with_writer(log.lines());
        // A terminal has colours, unless its user has said otherwise (NO_COLOR).
        let lines = if io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
        let lines = match format {
            Format::Text => lines.without_time().with_filter(targets).boxed(),
            Format::Json => lines.json().flatten_event(true).with_filter(targets).boxed(),
        };
        tracing_subscriber::registry().with(lines).init();
        Ok(log)
    }

    /// A log that a thread of its own writes to `stream`.
    fn to(stream: impl Write + Send + 'static, format: Format) -> Self {
        let (sender, messages) = sync_channel(WAITING_MAX);
        let lines = Lines { sender, sources: Arc::default(), format };
        Self { lines, waiting: Some((messages, Box::new(stream))) }
    }

    /// Starts the thread that writes. It is confined if the process has a sandbox by now.
    pub fn begin(&mut self) {
        if let Some((messages, stream)) = self.waiting.take() {
            let builder = Builder::new().name("log".to_owned());
            // Without the thread all messages are lost, and the machine runs.
            let _ = sandbox::start(Kind::Log, None, builder, move || write(messages, stream));
        }
    }

    /// Writes a message of minivmm itself, after the messages so far.
    pub fn say(&self, message: &str) {
        self.lines.say(message);
    }

    /// A way to the log for another thread, which may outlive the log.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.begin();
        self.lines.end();
    }
}

/// Writes messages to `stream`. A stream that takes no more makes no difference: the next message is tried again.
fn write(messages: Receiver<Message>, mut stream: impl Write) {
    for message in messages {
        match message {
            Message::Text(text) => _ = stream.write_all(&text).and_then(|()| stream.flush()),
            Message::End(_) => return,
        }
    }
}

/// The way of messages to the thread. Clones share it.
#[derive(Debug, Clone)]
pub struct Lines {
    sender: SyncSender<Message>,
    sources: Arc<Mutex<HashMap<Identifier, Source>>>,
    format: Format,
}

/// A place in the program that logs.
#[derive(Debug)]
struct Source {
    level: Level,
    /// Its module.
    target: String,
    /// Whether it has at most [`MOST`] messages in a period.
    is_limited: bool,
    /// When the period began.
    begun: Instant,
    /// Its messages in this period.
    count: u32,
    /// Number of lost messages that no line has reported.
    lost: u64,
}

impl Source {
    fn new(metadata: &Metadata<'_>) -> Self {
        let (level, target) = (*metadata.level(), metadata.target().to_owned());
        let is_limited = level <= Level::WARN;
        Self { level, target, is_limited, begun: Instant::now(), count: 0, lost: 0 }
    }

    /// A line with the number of lost messages, if there are any.
    fn take_lost(&mut self, format: Format) -> Vec<u8> {
        match std::mem::take(&mut self.lost) {
            0 => Vec::new(),
            lost => {
                let message = format!("{lost} more messages like this were not printed");
                format.of_module(self.level, &self.target, &message).into_bytes()
            }
        }
    }
}

impl Lines {
    /// Writes a message of minivmm itself, after the messages so far.
    pub fn say(&self, message: &str) {
        self.send(self.format.line(Level::INFO, message).into_bytes());
    }

    /// Writes the messages that still wait, and the number of lost messages. Further messages are lost.
    pub fn end(&self) {
        let lost: Vec<u8> =
            self.sources().values_mut().flat_map(|source| source.take_lost(self.format)).collect();
        if !lost.is_empty() {
            self.send(lost);
        }
        let (written, wait) = sync_channel(0);
        let mut end = Message::End(written);
        let until = Instant::now() + PATIENCE;
        while let Err(TrySendError::Full(again)) = self.sender.try_send(end) {
            if Instant::now() >= until {
                return;
            }
            end = again;
            thread::sleep(PATIENCE / 100);
        }
        let _ = wait.recv_timeout(PATIENCE);
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, HashMap<Identifier, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns false if the message was lost.
    fn send(&self, text: Vec<u8>) -> bool {
        self.sender.try_send(Message::Text(text)).is_ok()
    }
}

/// The writer of one message.
#[derive(Debug)]
pub struct Line<'a> {
    lines: &'a Lines,
    source: Option<Identifier>,
}

impl Write for Line<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut sources = self.lines.sources();
        let source = self.source.as_ref().and_then(|source| sources.get_mut(source));
        let Some(source) = source else {
            self.lines.send(text.to_vec());
            return Ok(text.len());
        };
        if source.begun.elapsed() >= PERIOD {
            (source.begun, source.count) = (Instant::now(), 0);
        }
        if source.is_limited && source.count == MOST {
            source.lost += 1;
            return Ok(text.len());
        }
        source.count += 1;
        let lost = source.lost;
        let line = [source.take_lost(self.lines.format), text.to_vec()].concat();
        if !self.lines.send(line) {
            source.lost = lost + 1;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, source: None }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        let id = metadata.callsite();
        self.sources().entry(id.clone()).or_insert_with(|| Source::new(metadata));
        Line { lines: self, source: Some(id) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Logs by `work`, and returns the text of the log.
    fn logged(work: impl FnOnce(&Log)) -> String {
        let (mut reader, stream) = io::pipe().unwrap();
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        let mut log = Log::to(stream, Format::Text);
        log.begin();
        let lines = tracing_subscriber::fmt::layer().with_writer(log.lines()).without_time().with_ansi(false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || work(&log));
        drop(log);
        reading.join().unwrap()
    }

    #[test]
    fn a_source_is_limited_and_its_losses_are_told_once() {
        const COUNT: usize = 5000;
        let text = logged(|log| {
            (0..COUNT).for_each(|number| tracing::warn!("queue {number}"));
            tracing::warn!("another source");
            log.say("the end");
            (0..100).for_each(|number| tracing::info!("detail {number}"));
        });
        let printed = text.lines().filter(|line| line.contains("queue ")).count();
        let lost: usize = text
            .lines()
            .filter_map(|line| line.strip_suffix(" more messages like this were not printed"))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap())
            .sum();
        assert_eq!(printed + lost, COUNT, "{text}");
        assert!((1..COUNT / 10).contains(&printed), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("detail ")).count(), 100, "{text}");
        assert!(text.contains("another source\n") && text.contains("minivmm: the end\n"), "{text}");
    }

    #[test]
    fn each_line_of_json_is_an_object() {
        let (mut reader, stream) = io::pipe().unwrap();
        let mut log = Log::to(stream, Format::Json);
        log.begin();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(log.lines())
            .with_ansi(false)
            .json()
            .flatten_event(true);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            (0..2 * MOST).for_each(|number| tracing::warn!(device = 2, "queue \"{number}\""));
            log.say("the last lines of its console:\n  one\n  two");
        });
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &lines {
            let names = ["timestamp", "level", "target", "message"];
            assert!(names.iter().all(|name| line[name].is_string()), "{line}");
        }
        assert_eq!((&lines[0]["level"], &lines[0]["message"]), (&"WARN".into(), &"queue \"0\"".into()));
        assert_eq!(lines[0]["device"], 2);
        let said = lines.iter().find(|line| line["target"] == "minivmm").unwrap();
        assert_eq!(said["message"], "the last lines of its console:\n  one\n  two");
        let lost = lines.last().unwrap();
        assert_eq!(lost["message"], format!("{MOST} more messages like this were not printed"));
        assert_eq!((&lost["level"], &lost["target"]), (&"WARN".into(), &lines[0]["target"]));
    }

    #[test]
    fn a_stream_that_takes_nothing_stops_nobody() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                loop {
                    thread::park();
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let start = Instant::now();
        let mut log = Log::to(Stuck, Format::Text);
        log.begin();
        (0..2 * WAITING_MAX).for_each(|_| log.say("a line"));
        drop(log);
        assert!(start.elapsed() < 10 * PATIENCE);
    }

    #[test]
    fn a_stream_that_is_closed_fails_nobody() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = Log::to(Closed, Format::Text);
        log.say("a line");
    }
}
