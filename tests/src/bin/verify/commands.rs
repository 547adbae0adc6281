//! The commands that stages run: each line of their output has the stage's subject before it, and they do not outlive us.

use std::{
    cell::{Cell, RefCell},
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use ::tests::programs::end_with_us;
use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, Signal, WaitId, WaitIdOptions, nice, waitid},
};

/// How much builds stand back for guests, whose tests have time limits (nice(2)).
const NICENESS: i32 = 10;

thread_local! {
    /// Time of CPUs that this thread's commands have used.
    static CPU_TIME: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// The first panics that this thread's commands have printed.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// How many lines of a panic are kept, and how many lines of all panics.
const PANIC_LINES: usize = 6;
const MOST_LINES: usize = 40;

/// Time of CPUs that the commands of this thread have used, with all programs that they waited for.
pub(crate) fn cpu_time() -> Duration {
    CPU_TIME.get()
}

/// The first panics that the commands of this thread have printed, as lines.
pub(crate) fn panics() -> Vec<String> {
    PANICS.take()
}

/// A command that builds: it stands back for the tests that run meanwhile.
pub(crate) fn in_background(mut command: Command) -> Command {
    let stand_back = || nice(NICENESS).map(drop).map_err(io::Error::from);
    // SAFETY: the closure makes a system call that is safe between fork and exec, and nothing else.
    unsafe { command.pre_exec(stand_back) };
    command
}

/// Runs `command` to its end and prints what it prints, with `who` before each line; `line` gets each line, too.
pub(crate) fn run(who: &str, command: Command, mut line: impl FnMut(&str)) -> Result<(), String> {
    let error = |error: io::Error| format!("{who} cannot be heard: {error}");
    let (printed, writer) = io::pipe().map_err(error)?;
    let stdout = writer.try_clone().map_err(error)?;
    let mut lines_of_panic = 0;
    follow(command, stdout.into(), writer.into(), printed, |text| {
        eprintln!("{who}: {text}");
        if text.contains(" panicked at ") {
            lines_of_panic = PANIC_LINES;
        }
        if lines_of_panic > 0 && !text.starts_with("stack backtrace:") {
            lines_of_panic -= 1;
            keep_line(text);
        } else {
            lines_of_panic = 0;
        }
        line(text);
    })
}

/// Keeps a line of a panic.
fn keep_line(text: &str) {
    PANICS.with_borrow_mut(|lines| {
        if lines.len() < MOST_LINES {
            lines.push(text.to_owned());
        }
    });
}

/// Runs `command` to its end as [`run`] does, but returns its standard output.
pub(crate) fn output(who: &str, command: Command) -> Result<String, String> {
    let error = |error: io::Error| format!("{who} cannot be heard: {error}");
    let (printed, writer) = io::pipe().map_err(error)?;
    let mut file = tempfile::tempfile().map_err(error)?;
    let stdout: File = file.try_clone().map_err(error)?;
    follow(command, stdout.into(), writer.into(), printed, |text| eprintln!("{who}: {text}"))?;
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).map_err(error)?;
    Ok(text)
}

fn follow(
    mut command: Command,
    stdout: Stdio,
    stderr: Stdio,
    printed: io::PipeReader,
    mut line: impl FnMut(&str),
) -> Result<(), String> {
    end_with_us(&mut command, Signal::TERM);
    let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
    let shown = shown(&command);
    // With it go our ends of the pipe, without which it would never be at its end.
    drop(command);
    let mut child = child.map_err(|error| format!("{shown} cannot be run: {error}"))?;
    for text in BufReader::new(printed).split(b'\n') {
        let text = text.map_err(|error| format!("{shown} cannot be heard: {error}"))?;
        line(&String::from_utf8_lossy(&text));
    }
    CPU_TIME.set(CPU_TIME.get() + wait_for_cpu_time(&child).unwrap_or_default());
    judge(&shown, child.wait())
}

/// Waits for the end of `child`, but leaves its status for the next who waits. The time of CPUs that it and those that it
/// waited for have used: utime, stime, cutime and cstime in proc_pid_stat(5).
fn wait_for_cpu_time(child: &Child) -> Option<Duration> {
    waitid(WaitId::Pid(Pid::from_child(child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).ok()?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: u64 = fields.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks * 1000 / clock_ticks_per_second()))
}

fn judge(command: &str, status: io::Result<ExitStatus>) -> Result<(), String> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command} ended with {status}")),
        Err(error) => Err(format!("{command} cannot be waited for: {error}")),
    }
}

/// A command as one types it.
fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
