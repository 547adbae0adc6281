//! Runs a command in a lab, with our streams or with captured output.

use std::ffi::OsString;

use super::{
    error::LabError,
    session,
    settings::{Lab, Output},
};

impl Lab {
    /// Runs `command` with our standard streams, and returns its exit status. If input and output are terminals
    /// the command has a terminal, too: of our size, with every key reaching it; Ctrl-] three times ends the lab.
    ///
    /// # Errors
    /// If the lab cannot be made or boot, or if it ends before the command does.
    pub fn run<S: Into<OsString>>(&self, command: impl IntoIterator<Item = S>) -> Result<u8, LabError> {
        session::run(self, &words(command)?, None).map(|output| output.status)
    }

    /// Runs `command` with `input` as its standard input, and returns what it wrote.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn output<S: Into<OsString>>(
        &self,
        command: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Result<Output, LabError> {
        session::run(self, &words(command)?, Some(input))
    }
}

fn words<S: Into<OsString>>(command: impl IntoIterator<Item = S>) -> Result<Vec<OsString>, LabError> {
    let words: Vec<OsString> = command.into_iter().map(Into::into).collect();
    match words.first().map(|word| word.to_string_lossy()) {
        None => Err(LabError::Request("the lab was given no command; name one".into())),
        Some(word) if word.contains('=') => {
            // env(1) would take it for a variable.
            Err(LabError::Request(format!(
                "{word} is an assignment, not a command; write: env {word} COMMAND"
            )))
        }
        Some(_) => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_make_no_sense_are_refused_before_anything_boots() {
        let lab = Lab::new();
        for (command, expected) in [(&[][..], "no command"), (&["A=1", "true"][..], "assignment")] {
            let error = lab.run(command.iter().copied()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_status(), 125);
        }
        for folder in ["/", "/no/such/folder", "/etc/passwd"] {
            let error = Lab::new().writable(folder).run(["true"]).unwrap_err().to_string();
            assert!(error.contains(folder), "{error}");
        }
    }
}
