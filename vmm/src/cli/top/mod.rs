//! `minivmm top SOCKET`: watches a running machine in the terminal, until a key or the machine's end.

mod screen;

use std::{
    collections::VecDeque,
    io::{self, IsTerminal},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use clap::Args;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers},
};

use self::screen::View;
use super::{ctl::client_reason, duration};
use crate::{
    api::{
        Answer, Request, Verb,
        client::{Client, ClientError},
    },
    machine::signals,
    observe::exit_status::Reason,
};

/// The end of `minivmm top --help`.
pub(super) const HELP: &str = "\
Keys:
  q, Ctrl-C    end; the machine runs on
  p            pause or resume the machine
  a            show the counters that are zero, too
  up, down     scroll

A counter has its value and its rate, counted over the last interval.";

/// How long to wait for a key before the next look at the connection.
const TICK: Duration = Duration::from_millis(100);
/// How long to wait for an answer that is on its way.
const MOMENT: Duration = Duration::from_millis(1);

/// The arguments of `minivmm top`.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// The --api-socket of the machine
    socket: PathBuf,
    /// Time between two looks at the machine, as --timeout of `minivmm run` takes it
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "1s")]
    interval: Duration,
}

/// Why a machine cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(super) enum TopError {
    /// The machine cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No terminal.
    #[error("top needs a terminal on stdin and stdout; use minivmm ctl SOCKET status in a script")]
    NoTerminal,
    /// The terminal.
    #[error("the terminal does not work: {0}; use minivmm ctl SOCKET status")]
    Terminal(#[from] io::Error),
}

impl TopError {
    /// The reason for minivmm's exit status.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Client(error) => client_reason(error),
            Self::NoTerminal => Reason::BadRequest,
            Self::Terminal(_) => Reason::Failed,
        }
    }
}

/// How the watch ended.
enum WatchEnd {
    /// By a key or a signal.
    Asked,
    /// The machine closed the connection.
    MachineEnded,
}

/// Watches the machine. Returns the text to print afterwards.
///
/// # Errors
/// If the machine cannot be asked, or the terminal does not work.
pub(super) fn main(args: &TopArgs) -> Result<String, TopError> {
    let client = Client::connect(&args.socket)?;
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    let ended = signals::ended()?;
    let mut terminal = ratatui::try_init()?;
    let done = watch(&mut terminal, client, args, &ended);
    ratatui::try_restore()?;
    Ok(match done? {
        WatchEnd::Asked => String::new(),
        WatchEnd::MachineEnded => format!("the machine at {} has ended\n", args.socket.display()),
    })
}

/// Asks, draws, and obeys the keys.
fn watch(
    terminal: &mut DefaultTerminal,
    mut client: Client,
    args: &TopArgs,
    ended: &AtomicBool,
) -> Result<WatchEnd, TopError> {
    let mut view = View::new(args.socket.display().to_string());
    // The requests that the machine has not answered.
    let mut asked: VecDeque<Verb> = VecDeque::new();
    let mut next = Instant::now();
    loop {
        let exchanged = exchange(&mut client, &mut view, &mut asked, &mut next, args.interval);
        match exchanged {
            Err(ClientError::Connection { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(WatchEnd::MachineEnded);
            }
            other => other?,
        }
        terminal.draw(|frame| view.draw(frame))?;
        if ended.load(Ordering::Relaxed) {
            return Ok(WatchEnd::Asked);
        }
        if !event::poll(TICK)? {
            continue;
        }
        // Another event is a new size of the terminal: the next round draws it.
        let Event::Key(key) = event::read()? else { continue };
        match key {
            KeyEvent { code: KeyCode::Char('q'), .. } => return Ok(WatchEnd::Asked),
            KeyEvent { code: KeyCode::Char('c'), modifiers: KeyModifiers::CONTROL, .. } => {
                return Ok(WatchEnd::Asked);
            }
            KeyEvent { code: KeyCode::Char('p'), .. } => {
                let verb = if view.is_paused() { Verb::Resume } else { Verb::Pause };
                client.send(&Request::new(verb))?;
                asked.push_back(verb);
            }
            KeyEvent { code: KeyCode::Char('a'), .. } => view.toggle_zeros(),
            KeyEvent { code: KeyCode::Up, .. } => view.scroll(-1),
            KeyEvent { code: KeyCode::Down, .. } => view.scroll(1),
            _ => {}
        }
    }
}

/// Takes the answers that have come into the view, and sends the next requests when it is time.
fn exchange(
    client: &mut Client,
    view: &mut View,
    asked: &mut VecDeque<Verb>,
    next: &mut Instant,
    interval: Duration,
) -> Result<(), ClientError> {
    if asked.is_empty() && Instant::now() >= *next {
        *next = Instant::now() + interval;
        // The areas come last: the guest's agent may have to read them.
        for verb in [Verb::Status, Verb::Faults, Verb::Cma] {
            client.send(&Request::new(verb))?;
            asked.push_back(verb);
        }
    }
    while !asked.is_empty()
        && let Some(line) = client.line(MOMENT)?
    {
        let answer = client.answer(&line)?;
        let verb = asked.pop_front();
        match answer {
            Answer::Status(status) => view.take_status(status),
            Answer::Faults(rules) => view.rules = rules,
            Answer::Cma(windows) => view.windows = Ok(windows),
            Answer::Error(sentence) if verb == Some(Verb::Cma) => view.windows = Err(sentence),
            Answer::Error(sentence) => view.message = Some(sentence),
            // The state shows what a key has done.
            Answer::Done {} => *next = Instant::now(),
            Answer::Devices(_) | Answer::Capture(_) | Answer::Event(_) => {}
        }
    }
    Ok(())
}
