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

use tracing::{Level, Metadata, callsite::Identifier};
use tracing_subscriber::{
    Layer as _,
    filter::{ParseError, Targets},
    fmt::MakeWriter,
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
    pub fn new(filter: &str) -> Result<Self, ParseError> {
        let targets: Targets = filter.parse()?;
        let log = Self::to(io::stderr());
        let lines = tracing_subscriber::fmt::layer().with_writer(log.lines()).without_time();
        // A terminal has colours, unless its user has said otherwise (NO_COLOR).
        let lines = if io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
        tracing_subscriber::registry().with(lines.with_filter(targets)).init();
        Ok(log)
    }

    /// A log that a thread of its own writes to `stream`.
    fn to(stream: impl Write + Send + 'static) -> Self {
        let (sender, messages) = sync_channel(WAITING_MAX);
        let lines = Lines { sender, sources: Arc::default() };
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

    /// Writes a line of minivmm itself, after the messages so far.
    pub fn say(&self, line: &str) {
        self.lines.say(line);
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
}

/// A place in the program that logs.
#[derive(Debug)]
struct Source {
    /// Its module, and its level.
    name: String,
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
        let name = format!("{:>5} {}", metadata.level(), metadata.target());
        let is_limited = *metadata.level() <= Level::WARN;
        Self { name, is_limited, begun: Instant::now(), count: 0, lost: 0 }
    }

    /// A line with the number of lost messages, if there are any.
    fn take_lost(&mut self) -> Vec<u8> {
        match std::mem::take(&mut self.lost) {
            0 => Vec::new(),
            lost => format!("{}: {lost} more messages like this were not printed\n", self.name).into_bytes(),
        }
    }
}

impl Lines {
    /// Writes a line of minivmm itself, after the messages so far.
    pub fn say(&self, line: &str) {
        self.send(format!("{line}\n").into_bytes());
    }

    /// Writes the messages that still wait, and the number of lost messages. Further messages are lost.
    pub fn end(&self) {
        let lost: Vec<u8> = self.sources().values_mut().flat_map(Source::take_lost).collect();
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
        let line = [source.take_lost(), text.to_vec()].concat();
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
        let mut log = Log::to(stream);
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
            log.say("minivmm: the end");
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
        let mut log = Log::to(Stuck);
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
        let log = Log::to(Closed);
        log.say("a line");
    }
}
