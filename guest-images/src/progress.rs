//! Shows the progress of a build: bars if stderr is a terminal, otherwise a line from time to time.

use std::{
    fmt::Display,
    io::{self, Write as _},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The time between two lines about a long step in a log.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Prints a line on stderr. If nobody reads stderr, the line is lost.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A step of a build, from its creation until it is dropped or done.
pub(crate) struct Step {
    name: &'static str,
    bar: ProgressBar,
    start: Instant,
    /// Ends the thread when dropped.
    heartbeat: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Step {
    /// Begins the step `name` with an estimated number of parts, or 0 if it is unknown.
    pub(crate) fn begin(name: &'static str, length: u64) -> Self {
        let target = ProgressDrawTarget::stderr();
        let log = target.is_hidden();
        let bar = ProgressBar::with_draw_target(Some(length), target);
        let template = if length == 0 {
            "{spinner} {prefix:18} {elapsed:>4} {wide_msg}"
        } else {
            "{spinner} {prefix:18} {elapsed:>4} [{bar:24}] {percent:>3}% {wide_msg}"
        };
        // The template is a constant. If it were invalid, the default would be used.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(name);
        bar.enable_steady_tick(Duration::from_millis(200));
        let heartbeat = log.then(|| {
            say(format_args!("image: {name}"));
            heartbeat(name, bar.clone())
        });
        Self { name, bar, start: Instant::now(), heartbeat }
    }

    /// A part is done. `message` names it.
    pub(crate) fn advance(&self, message: &str) {
        self.bar.set_message(message.trim().to_owned());
        // The length is an estimate: the bar stays below it until the end.
        if self.bar.position() + 1 < self.bar.length().unwrap_or(u64::MAX) {
            self.bar.inc(1);
        }
    }

    /// The step has succeeded.
    pub(crate) fn done(mut self) {
        let took = clock(self.start.elapsed());
        if self.stop_heartbeat() {
            say(format_args!("image: {}: done in {took}", self.name));
        } else {
            self.bar.println(format!("✓ {:18} {took}", self.name));
            self.bar.finish_and_clear();
        }
    }

    /// Stops the thread, if it runs. True if it ran.
    fn stop_heartbeat(&mut self) -> bool {
        let Some((stop, thread)) = self.heartbeat.take() else { return false };
        drop(stop);
        // The thread can only panic if stderr is closed.
        let _ = thread.join();
        true
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.stop_heartbeat();
        self.bar.finish_and_clear();
    }
}

/// Prints the progress of `bar` on stderr from time to time, until the sender is dropped.
fn heartbeat(name: &'static str, bar: ProgressBar) -> (Sender<()>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        while receiver.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            let elapsed = clock(bar.elapsed());
            match bar.length() {
                None | Some(0) => say(format_args!("image: {name}: {elapsed}")),
                Some(length) => {
                    let percent = bar.position() * 100 / length;
                    say(format_args!("image: {name}: {percent}% in {elapsed}: {}", bar.message()));
                }
            }
        }
    });
    (sender, thread)
}

/// Minutes and seconds, as a clock shows them.
fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_stays_below_its_guessed_length() {
        let step = Step::begin("test", 3);
        for _ in 0..10 {
            step.advance(" CC  file.o");
        }
        assert_eq!((step.bar.position(), step.bar.message().as_str()), (2, "CC  file.o"));
        step.done();
    }

    #[test]
    fn times_are_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_millis(125_900)), "2:05");
    }
}
