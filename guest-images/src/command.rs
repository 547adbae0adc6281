//! Runs other programs, and reports a failure in one sentence.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::error::Error;

/// Runs `command` to its end and returns its standard output as text.
///
/// # Errors
/// If it cannot be started, or if its exit status is not 0. The sentence then ends with its last line on stderr.
pub(crate) fn output(command: &mut Command) -> Result<String, Error> {
    let output = capture(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it printed nothing");
    Err(failed(command, format!("failed ({}): {last}", output.status)))
}

/// Runs `command` to its end, whatever its exit status.
pub(crate) fn capture(command: &mut Command) -> Result<Output, Error> {
    command.output().map_err(|error| failed(command, format!("cannot be run: {error}")))
}

/// Runs a long `command` to its end. Its output goes to the file `log`, and each line of its standard
/// output to `line`. `stdin` is its standard input. It gets SIGTERM when this process ends.
///
/// # Errors
/// If it cannot be started, or if its exit status is not 0. The sentence then ends with its first error message.
pub(crate) fn follow(
    command: &mut Command,
    stdin: Stdio,
    log: &Path,
    mut line: impl FnMut(&str),
) -> Result<(), Error> {
    let unwritable = |error| Error::io("cannot write the log", log)(error);
    let mut log_file = File::create(log).map_err(unwritable)?;
    let stderr = log_file.try_clone().map_err(unwritable)?;
    let end_with_us = || set_parent_process_death_signal(Some(Signal::TERM)).map_err(io::Error::from);
    // SAFETY: the closure only makes a system call that is safe between fork and exec.
    unsafe { command.pre_exec(end_with_us) };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .map_err(|error| failed(command, format!("cannot be run: {error}")))?;
    if let Some(stdout) = child.stdout.take() {
        for said in BufReader::new(stdout).split(b'\n') {
            let said = said.map_err(|error| failed(command, format!("cannot be read from: {error}")))?;
            line(&String::from_utf8_lossy(&said));
            log_file.write_all(&[&said, &b"\n"[..]].concat()).map_err(unwritable)?;
        }
    }
    let status = child.wait().map_err(|error| failed(command, format!("cannot be waited for: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read(log).map_err(unwritable)?;
    let text = String::from_utf8_lossy(&text);
    let error = text.lines().find(|line| line.contains("rror")).or(text.lines().last()).unwrap_or_default();
    Err(failed(command, format!("failed ({status}): {}; see {}", error.trim(), log.display())))
}

/// The error for `command` with this `outcome`.
pub(crate) fn failed(command: &Command, outcome: String) -> Error {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    Error::Command { command: line, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_the_command_and_its_last_words() {
        let error =
            output(Command::new("sh").args(["-c", "echo first >&2; echo last >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("`sh -c") && text.ends_with("(exit status: 3): last"), "{text}");
        let error = output(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert!(error.to_string().contains("`/nonexistent/program` cannot be run"), "{error}");
    }

    #[test]
    fn a_long_command_is_followed_line_by_line() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo 'Error: bad' >&2; echo two; exit 2"]);
        let error = follow(&mut command, Stdio::null(), log.path(), |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one", "two"]);
        assert!(error.unwrap_err().to_string().contains("(exit status: 2): Error: bad; see /"));
    }
}
