//! The checks after a machine of the soak: its end, its report, and what it has left.

use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use vmm::observe::report::{FORMAT_VERSION, Report};

use super::{
    host::Folder,
    plan::{Guest, Plan, Reader, Shortage},
    run::{End, Ran},
};

/// The time in which what a machine had is gone.
const SETTLED: Duration = Duration::from_secs(5);

/// What this process has that a machine could add to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ours {
    descriptors: usize,
    threads: usize,
    children: Vec<String>,
}

/// Counts them.
pub(super) fn ours() -> io::Result<Ours> {
    let count = |what| Ok::<_, io::Error>(fs::read_dir(format!("/proc/self/{what}"))?.count());
    Ok(Ours { descriptors: count("fd")?, threads: count("task")?, children: children()? })
}

/// Counts them until they are as `before`, for at most this time. A thread that was joined, and a process that was killed, take a moment
/// to go.
fn ours_within(time: Duration, before: &Ours) -> io::Result<Ours> {
    let begun = Instant::now();
    loop {
        let after = ours()?;
        if after == *before || begun.elapsed() > time {
            return Ok(after);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The processes whose parent is this one. It is the subreaper of what a machine leaves.
fn children() -> io::Result<Vec<String>> {
    let us = std::process::id().to_string();
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // PID (NAME) STATE PARENT: the name may have any character.
        let Some((name, rest)) = stat.rsplit_once(')') else { continue };
        if rest.split_whitespace().nth(1) == Some(&us) {
            children.push(format!("{name})"));
        }
    }
    Ok(children)
}

/// What is not as it should be.
pub(super) fn problems(plan: &Plan, ran: &Ran, folder: &Folder, before: &Ours) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_documented(plan, ran) {
        problems.push(format!("it ended with {}: {}", ran.end, last_line(&ran.stderr)));
    }
    if ran.stderr.contains("panicked at") {
        let line = ran.stderr.lines().find(|line| line.contains("panicked at"));
        problems.push(format!("a thread panicked: {}", line.unwrap_or_default()));
    }
    files(plan, ran, folder, &mut problems);
    match ours_within(SETTLED, before) {
        Ok(after) if after == *before => {}
        Ok(after) => problems.push(format!("it left {after:?} instead of {before:?}")),
        Err(error) => problems.push(format!("it cannot be seen what it left: {error}")),
    }
    problems
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or("it printed nothing, or was not read")
}

/// Whether the table of exit statuses has this end for such a machine.
fn is_documented(plan: &Plan, ran: &Ran) -> bool {
    let is_linux = matches!(plan.guest, Guest::Linux(_));
    let was_sent = |signal: i32| ran.signals.iter().any(|sent| sent.as_raw() == signal);
    let is_short = matches!(plan.shortage, Some(Shortage::Memory(_)));
    match ran.end {
        End::Hang => true, // It is a problem already.
        // Memory ran out: the kernel kills it, or an allocation fails.
        End::Signal(signal) if is_short && (signal == libc::SIGKILL || signal == libc::SIGABRT) => true,
        // Before minivmm takes over the signals, they end it.
        End::Signal(signal) => was_sent(signal),
        End::Status(status) => {
            // minivmm or its host failed; a file that is named cannot be read; the guest failed; the time limit.
            let ours: &[i32] = if is_linux { &[125, 123, 124, 143] } else { &[1, 2, 124, 0] };
            let own: &[i32] = match plan.guest {
                Guest::Bare("hello") => &[42],
                // A check of the guest can fail by an injected fault.
                Guest::Bare(_) | Guest::Stream(..) => &[],
                Guest::Linux("output") => &[0, 1, 141],
                Guest::Linux(_) => &[0, 1],
            };
            ours.contains(&status)
                || own.contains(&status)
                || (status > 128 && was_sent(status - 128))
                // The loader of a program cannot load a library.
                || (status == 127 && (plan.injection.is_some() || plan.shortage.is_some()))
        }
    }
}

/// Checks the files of the machine: no others than its options name, each whole.
fn files(plan: &Plan, ran: &Ran, folder: &Folder, problems: &mut Vec<String>) {
    let names = folder.names().unwrap_or_default();
    let was_killed = matches!(ran.end, End::Signal(_) | End::Hang);
    let is_known = |name: &str| {
        // Nobody removes the socket of a process that was killed; the next machine replaces it.
        plan.outputs.iter().any(|option| option.trim_start_matches('-') == name)
            && (name != "api-socket" || was_killed)
    };
    for name in names.iter().filter(|name| !is_known(name)) {
        problems.push(format!("it left the file {name}"));
    }
    partial(&folder.path("out"), problems);
    let read = |name: &str| fs::read_to_string(folder.path(name)).ok();
    match read("report").map(|json| serde_json::from_str::<Report>(&json)) {
        Some(Err(error)) => problems.push(format!("its report is not whole: {error}")),
        Some(Ok(report)) => {
            let status = End::Status(report.exit.status.into());
            let failed = [End::Status(1), End::Status(125)].contains(&ran.end);
            // A signal can come when the report is written already.
            if report.format_version != FORMAT_VERSION || (status != ran.end && !failed && !was_killed) {
                problems.push(format!("its report says {status}, and it ended with {}", ran.end));
            }
        }
        None => {
            let host_failed = plan.disk.is_some() || plan.shortage.is_some() || plan.injection.is_some();
            let failed = [End::Status(1), End::Status(125)].contains(&ran.end);
            // Without a reader of its standard output it fails.
            let is_unread = failed && plan.readers[0] == Reader::Closed;
            if !was_killed && !host_failed && !is_unread {
                problems.push(format!("it left no report: {}", last_line(&ran.stderr)));
            }
        }
    }
    let is_json = |text: &str| serde_json::from_str::<Value>(text).is_ok();
    if read("timeline").is_some_and(|timeline| !is_json(&timeline)) {
        problems.push("its timeline is not whole".to_owned());
    }
    if read("trace").is_some_and(|trace| !trace.lines().all(is_json)) {
        problems.push("its trace is not whole".to_owned());
    }
}

/// Looks for partial files below a folder.
fn partial(folder: &Path, problems: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() {
            problems.push(format!("it left the link {}", path.display()));
        } else if path.is_dir() {
            partial(&path, problems);
        } else if entry.file_name().to_string_lossy().starts_with(".minivmm-") {
            problems.push(format!("it left the partial file {}", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_this_process_are_found() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        assert!(children().unwrap().iter().any(|child| child.ends_with("(sleep)")));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
