//! Where guests run: on this host's KVM, or in the lab, in which this command runs once more.

use std::{
    env,
    ffi::OsString,
    io::{self, Write as _},
    iter,
};

use clap::ValueEnum;
use kvm_ioctls::Kvm;
use tracing::Level;

use super::{
    error::LabError,
    inside::is_inside,
    settings::{Lab, Note},
};
use crate::{
    machine::kvm::{KvmError, check_fit},
    observe::{exit_status::Reason, log::Format},
};

/// Where guests are to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Host {
    /// This host's KVM if it can run Linux, else the lab
    #[default]
    Auto,
    /// This host's KVM
    Kvm,
    /// The lab: an emulated machine with a full KVM
    Lab,
}

/// The help of `--host`.
pub const HELP: &str = "Where the guest runs: kvm is this host's KVM, lab an emulated machine with a full KVM, auto is kvm where it can \
                        run Linux and lab elsewhere. Ctrl-] three times ends the lab";

/// Where guests run.
pub enum Place {
    /// On this KVM.
    Here(Kvm),
    /// In the lab, for this reason.
    Lab(String),
}

/// Why guests run nowhere.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// This host's KVM cannot run them.
    #[error("{0}{advice}", advice = if is_inside() { "" } else { "; --host lab runs guests in an emulated machine" })]
    Kvm(#[from] KvmError),
    /// The lab cannot.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// minivmm itself is not found.
    #[error("the program minivmm cannot be found again, to run it in the lab: {0}; install it anew")]
    Program(io::Error),
}

impl HostError {
    /// The reason for minivmm's exit status.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Lab(LabError::Request(_) | LabError::Socket(_)) => Reason::BadRequest,
            Self::Lab(LabError::Timeout { .. }) => Reason::TimeLimit,
            Self::Lab(LabError::Signal(number)) => Reason::Signal(*number),
            Self::Kvm(_) | Self::Lab(_) | Self::Program(_) => Reason::Failed,
        }
    }
}

/// Decides where guests run, by what came of opening this host's KVM. `needs_linux` is false for guests that run on a KVM
/// which cannot run Linux, too.
///
/// # Errors
/// If they are to run here, and cannot.
pub fn place(host: Host, opened: Result<Kvm, KvmError>, needs_linux: bool) -> Result<Place, HostError> {
    if host == Host::Lab && !is_inside() {
        return Ok(Place::Lab("--host lab is given".to_owned()));
    }
    let fit = opened.and_then(|kvm| {
        if needs_linux {
            check_fit(&kvm)?;
        }
        Ok(kvm)
    });
    match fit {
        Ok(kvm) => Ok(Place::Here(kvm)),
        Err(error) if host == Host::Kvm || is_inside() => Err(error.into()),
        Err(error) => Ok(Place::Lab(error.to_string())),
    }
}

/// Prints a message on stderr, which may be closed.
fn say(what: &str, format: Format) {
    let _ = io::stderr().write_all(format.line(Level::INFO, what).as_bytes());
}

/// Prints a note, except the two that every lab has.
fn say_what_is_unusual(note: &Note, format: Format) {
    if !matches!(note, Note::Booting | Note::Up(_)) {
        say(&note.to_string(), format);
    }
}

/// Runs this command once more, in a lab that has room for guests of `memory` bytes, and returns its exit status. It says so, and
/// the `reason`, on stderr in this `format`.
///
/// # Errors
/// If there is no lab.
pub fn run_in_lab(reason: &str, memory: u64, format: Format) -> Result<u8, HostError> {
    /// What a lab has for minivmm and files besides guests, in MiB.
    const REST: u64 = 1536;
    /// The least memory of a lab, in MiB.
    const LEAST: u32 = 3072;
    say(&format!("{reason}; running in the lab, an emulated machine with a full KVM"), format);
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let program = env::current_exe().map_err(HostError::Program)?;
    // In whole GiB, for each size of a lab has its saved state.
    let memory = (memory >> 20).saturating_add(REST).next_multiple_of(1024).try_into().unwrap_or(u32::MAX);
    let say_note: fn(&Note) = match format {
        Format::Text => |note| say_what_is_unusual(note, Format::Text),
        Format::Json => |note| say_what_is_unusual(note, Format::Json),
    };
    let lab = Lab::new().memory(LEAST.max(memory)).timeout(None).pass_signals().note(say_note);
    let lab = lab.for_minivmm(&words)?;
    Ok(lab.run(iter::once(program.into_os_string()).chain(words))?)
}
