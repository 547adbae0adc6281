//! The names of the guest agent's ports, and the host's end of its control port: takes the exit status and marks.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use devices::{faults::Faults, virtio::console::Sink};

use crate::observe::report::MachineOutcome;

/// Names of the agent's ports, as guest-images/init knows them.
pub mod port {
    /// The command's standard input. The port is there if there is input, and the host closes it at the end of the input.
    pub const STDIN: &str = "minivmm.stdin";
    /// The command's standard output.
    pub const STDOUT: &str = "minivmm.stdout";
    /// The command's standard error.
    pub const STDERR: &str = "minivmm.stderr";
    /// Lines from the guest: `mark TEXT` from any program that marks how far it is, and from the agent `out memory` if the guest
    /// cannot use the disk for /out, `exit N` at the end, or instead of the command `module NAME: REASON` if a module did not load and
    /// `root REASON` if the userland of --root was not mounted.
    pub const CONTROL: &str = "minivmm.control";
    /// The files in the guest's /out, as a tar stream: see `files`.
    pub const FILES: &str = "minivmm.files";
    /// Questions to the agent and its answers, while the guest runs: see `areas`.
    pub const AGENT: &str = "minivmm.agent";
}

/// Longest line of the agent, in bytes.
const LINE_MAX: usize = 4096;

/// The control port: collects lines, and keeps how the agent has ended. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Mutex<ControlState>>);

#[derive(Debug, Default)]
struct ControlState {
    line: Vec<u8>,
    end: Option<MachineOutcome>,
    warned: bool,
    /// The guest has said that its /out is in memory.
    out_in_memory: bool,
    /// The plan that marks go to.
    faults: Option<Faults>,
}

impl Control {
    /// A port whose marks go to `faults`.
    pub fn new(faults: Option<Faults>) -> Self {
        Self(Arc::new(Mutex::new(ControlState { faults, ..ControlState::default() })))
    }

    /// How the agent has ended, once it has reported that: with the command's exit status, or before the command.
    pub fn end(&self) -> Option<MachineOutcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).end.clone()
    }
}

impl Sink for Control {}

impl Write for Control {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in data {
            if byte != b'\n' {
                // A longer line is not the agent's: its end is dropped.
                if state.line.len() < LINE_MAX {
                    state.line.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut state.line)).into_owned();
            if let Some(mark) = line.strip_prefix("mark ") {
                if let Some(faults) = &state.faults {
                    faults.mark(mark.trim());
                }
                continue;
            }
            // Once, as below.
            if line == "out memory" {
                if !std::mem::replace(&mut state.out_in_memory, true) {
                    tracing::warn!(
                        "the guest's kernel lacks CONFIG_VIRTIO_BLK or CONFIG_EXT4_FS, so guest memory limits its files for --out"
                    );
                }
                continue;
            }
            match end(&line) {
                Some(end) if state.end.is_none() => state.end = Some(end),
                // The warning comes once, because the guest decides how many such lines there are.
                _ if !std::mem::replace(&mut state.warned, true) => {
                    tracing::warn!("unexpected line from the guest's agent: {line:?}");
                }
                _ => {}
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end that a line of the agent reports.
fn end(line: &str) -> Option<MachineOutcome> {
    // It is printed on a terminal.
    let printable = |text: &str| text.replace(char::is_control, "?");
    if let Some(module) = line.strip_prefix("module ") {
        return Some(MachineOutcome::ModuleNotLoaded { module: printable(module) });
    }
    if let Some(reason) = line.strip_prefix("root ") {
        return Some(MachineOutcome::RootNotMounted { reason: printable(reason) });
    }
    let status = line.strip_prefix("exit ")?.trim().parse().ok()?;
    Some(MachineOutcome::Exit { status })
}

#[cfg(test)]
mod tests {
    use devices::faults::{Event, FaultHandle, Plan, fault_point};

    use super::*;
    use crate::boot::tree_faults::fault_tables;

    #[test]
    fn the_exit_status_comes_in_pieces_and_once() {
        let mut control = Control::default();
        control.write_all(b"hello\nex").unwrap();
        assert_eq!(control.end(), None);
        control.write_all(b"it 7\nexit 8\n").unwrap();
        assert_eq!(control.end(), Some(MachineOutcome::Exit { status: 7 }));
    }

    #[test]
    fn a_module_that_did_not_load_is_an_end() {
        let mut control = Control::default();
        control.write_all(b"module x.ko: unknown \x1b[2Jsymbol\nexit 0\n").unwrap();
        let module = "x.ko: unknown ?[2Jsymbol".to_owned();
        assert_eq!(control.end(), Some(MachineOutcome::ModuleNotLoaded { module }));
        let mut control = Control::default();
        control.write_all(b"root no file system\nexit 0\n").unwrap();
        let reason = "no file system".to_owned();
        assert_eq!(control.end(), Some(MachineOutcome::RootNotMounted { reason }));
    }

    #[test]
    fn marks_are_passed_on() {
        let rule =
            "[[rule]]\nname = \"r\"\non = \"irq\"\naction = \"lose\"\nwhen = { mark = \"it streams\" }\n";
        fault_point! {
            /// An interrupt.
            enum Irq = "irq" [] {
                /// It is lost.
                Lose = "lose",
            }
        }
        let faults = Faults::new(Plan::read(rule, &fault_tables()).unwrap(), 1);
        let mut control = Control::new(Some(faults.clone()));
        let handle = FaultHandle::new(faults, "grabber0");
        let fires = || handle.consult::<Irq>(Event::PLAIN).is_some();
        for (said, then) in
            [("mark it\n", false), ("mark it stre", false), ("ams\n", true), ("mark \nexit 1\n", false)]
        {
            control.write_all(said.as_bytes()).unwrap();
            assert_eq!(fires(), then, "{said}");
        }
        assert_eq!(control.end(), Some(MachineOutcome::Exit { status: 1 }));
    }

    #[test]
    fn nonsense_is_no_status() {
        for line in [&b"exit\n"[..], b"exit 256\n", b"exit -1\n", b"exit x\n", &[b'a'; 100_000], b"\xff\n"] {
            let mut control = Control::default();
            control.write_all(line).unwrap();
            assert_eq!(control.end(), None);
        }
    }
}
