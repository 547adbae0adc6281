//! The exit statuses of minivmm: the table that the help prints, and the status that a run ends with.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why minivmm ends: a row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The guest ended with this status of its own.
    Guest(u8),
    /// A user ended the machine.
    Stopped,
    /// The guest did not come to an end of its own.
    GuestFailed,
    /// The time limit was reached.
    TimeLimit,
    /// The options or the files that they name are wrong.
    BadRequest,
    /// minivmm or its host failed.
    Failed,
    /// This signal ended minivmm.
    Signal(i32),
}

/// The table's rows. The numbers stand for any.
const ROWS: [Reason; 7] = [
    Reason::Guest(0),
    Reason::GuestFailed,
    Reason::TimeLimit,
    Reason::BadRequest,
    Reason::Failed,
    Reason::Signal(0),
    Reason::Stopped,
];

impl Reason {
    /// The exit status. With `--exec` (`exec`) minivmm's own statuses are those of timeout(1) and docker-run(1), which programs
    /// seldom use themselves.
    pub fn status(self, exec: bool) -> u8 {
        match self {
            Self::Guest(status) => status,
            Self::TimeLimit => 124,
            Self::Signal(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
            Self::GuestFailed if exec => 123,
            Self::BadRequest | Self::Failed if exec => 125,
            // `ctl stop` ends a command as SIGTERM does.
            Self::Stopped if exec => 128 + 15,
            Self::GuestFailed | Self::Failed => 1,
            Self::BadRequest => 2,
            Self::Stopped => 0,
        }
    }

    /// The meaning of the status, for a person to read.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Guest(_) => {
                "the guest's own status: the command's, as a shell gives it (126, 127, 128+N), or 0 for a power-off"
            }
            Self::GuestFailed => {
                "the guest panicked, reset itself, halted, did not come up, did not load a module of --module, did not mount the \
                 userland of --root, or powered off before its command ended"
            }
            Self::TimeLimit => "the time limit of --timeout was reached",
            Self::BadRequest => "bad request: an option is wrong, or a file that it names",
            Self::Failed => "minivmm or its host failed",
            Self::Signal(_) => "signal N ended minivmm",
            Self::Stopped => "`minivmm ctl SOCKET stop`, or Ctrl-A x, ended the machine",
        }
    }
}

/// The table of exit statuses, for a person to read.
pub fn table() -> String {
    let mut table = "Exit status, with --exec and without:\n".to_owned();
    for row in ROWS {
        let [with, without] = [true, false].map(|exec| match row {
            Reason::Guest(_) => "0-255".to_owned(),
            Reason::Signal(_) => "128+N".to_owned(),
            _ => row.status(exec).to_string(),
        });
        // Writing to a String cannot fail.
        let _ = writeln!(table, "  {with:>5}  {without:>5}  {}", row.meaning());
    }
    table
        + "If a command ends with one of these statuses itself, the messages on stderr and --report show the difference."
}

/// The exit status that a run ends with, and its meaning. The names are stable in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExitStatus {
    /// The number.
    pub status: u8,
    /// Its meaning, for a person to read.
    pub meaning: String,
}

impl ExitStatus {
    /// The status for this reason, in a run with `--exec` or without.
    pub fn new(reason: Reason, exec: bool) -> Self {
        Self { status: reason.status(exec), meaning: reason.meaning().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_status() {
        for (reason, with_exec, without) in [
            (Reason::Guest(7), 7, 7),
            (Reason::GuestFailed, 123, 1),
            (Reason::TimeLimit, 124, 124),
            (Reason::BadRequest, 125, 2),
            (Reason::Failed, 125, 1),
            (Reason::Signal(2), 130, 130),
            (Reason::Stopped, 143, 0),
        ] {
            assert_eq!((reason.status(true), reason.status(false)), (with_exec, without), "{reason:?}");
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_reason() {
        let table = table();
        for line in [
            "  0-255  0-255  the guest's own status",
            "    123      1  the guest panicked",
            "    124    124  the time limit",
            "    125      2  bad request",
            "    125      1  minivmm or its host failed",
            "  128+N  128+N  signal N",
            "    143      0  `minivmm ctl SOCKET stop`",
        ] {
            assert!(table.lines().any(|of| of.starts_with(line)), "{line} is missing in\n{table}");
        }
    }
}
