//! The event loop of a machine: looks after it until something ends it.

use std::sync::PoisonError;

use super::{
    devices::{Devices, TERMINAL},
    error::{MachineError, event_loop, host},
    limits::Limit,
    running::Machine,
    wakeups::Wake,
};
use crate::{
    arch::VcpuEnd,
    guest::{files::Files, terminal},
    observe::{
        process::overhead,
        report::{MachineOutcome, Report},
    },
    sandbox::violation,
};

impl Machine {
    /// Looks after the machine until something ends it, and reports.
    ///
    /// # Errors
    /// If the host fails: the event loop, standard output, the output folder of a guest that ended well.
    pub fn run(mut self) -> Result<Report, MachineError> {
        let outcome = loop {
            self.manager.run().map_err(|error| event_loop(&error))?;
            let looked = self.look_after();
            // It counts more than its consequences.
            if let Some(reason) = violation::first() {
                break MachineOutcome::Failed { reason };
            }
            if let Some(outcome) = looked? {
                break outcome;
            }
        };
        self.finish(outcome)
    }

    /// Handles the causes of a wakeup. Returns an outcome if the machine has to end.
    fn look_after(&mut self) -> Result<Option<MachineOutcome>, MachineError> {
        let woken = self.wakeups.lock().unwrap_or_else(PoisonError::into_inner).take();
        let tick = woken.contains(&Wake::Tick);
        let mut outcome = None;
        for wake in woken {
            match wake {
                Wake::Guest => {
                    let _ = self.devices.events.eventfd().read();
                }
                Wake::OutputRoom => {
                    for output in self.outputs.iter().chain(self.devices.files.as_ref().map(Files::output)) {
                        let _ = output.room_event().read();
                    }
                    self.devices.terminal.resume_output();
                    self.serial_log.pump().map_err(host("writing the console log"))?;
                }
                Wake::Serial => {
                    self.serial_log.pump().map_err(host("writing the console log"))?;
                }
                Wake::Vcpu => outcome = outcome.or(self.vcpus.end().map(MachineOutcome::from)),
                Wake::Input | Wake::InputRoom => {
                    if self.pump_input() {
                        outcome = Some(MachineOutcome::Quit);
                    }
                }
                // The caller looks at it.
                Wake::Violation => {}
                Wake::Signal => outcome = outcome.or(self.signal()),
                Wake::Tick => {
                    let _ = self.tick.wait();
                    // A guest that opens its serial port makes no event.
                    if self.pump_input() {
                        outcome = Some(MachineOutcome::Quit);
                    }
                    if self.vcpus.look_for_halt() {
                        outcome = outcome.or(Some(MachineOutcome::Halted));
                    }
                    outcome = outcome.or_else(|| self.check_limits());
                }
            }
        }
        // Before the requests: who listens from now on knows of it already.
        self.tell_events(tick);
        outcome = outcome.or(self.answer_requests());
        self.tell_events(false);
        self.serve_metrics();
        if let Some(debugger) = &mut self.debugger {
            debugger.look(&mut self.manager, &self.vcpus);
        }
        if let Some(error) = self.stdout.error() {
            return Err(MachineError::Stdout(error));
        }
        let reported = self.devices.events.reported();
        if reported.booted.is_some() && self.overhead_at_boot_mark.is_none() {
            self.overhead_at_boot_mark = Some(overhead());
        }
        // What the guest reports counts more than the way it ended.
        let exit = reported.exit.map(|status| MachineOutcome::Exit { status });
        if let Some(end) = self.devices.control.end().or(exit) {
            return Ok(Some(end));
        }
        if reported.panicked {
            return Ok(Some(MachineOutcome::Panic));
        }
        Ok(outcome)
    }

    /// Looks at the time limits. Returns an outcome if one ends the machine.
    fn check_limits(&mut self) -> Option<MachineOutcome> {
        if let Some(seconds) = self.time_limit.and_then(Limit::passed) {
            return Some(MachineOutcome::TimedOut { seconds });
        }
        if self.devices.is_up() {
            self.boot_limit = None;
        }
        let seconds = self.boot_limit.and_then(Limit::passed)?;
        self.boot_limit = None;
        if self.exec {
            return Some(MachineOutcome::NotBooted { seconds });
        }
        // The output of a guest is on the screen already.
        if self.serial_log.is_empty() && !self.devices.terminal.is_driven() {
            tracing::warn!(
                "the guest has not come up after {seconds} s; likely reason: {}",
                self.boot_failure()
            );
        }
        None
    }

    /// Hands input to the guest: a command's to its port, the keyboard's to the terminal that the guest reads, which is the virtio
    /// console if the guest has a driver for it and else the serial port. Input waits until the guest has opened it. Returns true
    /// if the user asked minivmm to quit.
    fn pump_input(&mut self) -> bool {
        let Devices { terminal, serial, stdin_port, .. } = &self.devices;
        let _ = terminal.event().read();
        let _ = serial.room_event().read();
        let send = |data: &[u8]| {
            if let Some(port) = *stdin_port {
                terminal.send(port, data)
            } else if terminal.is_driven() {
                terminal.send(TERMINAL, data)
            } else if serial.is_open() {
                serial.enqueue(data)
            } else {
                0
            }
        };
        let Some(input) = &mut self.input else { return false };
        let quits = input.pump(send);
        if let Some(port) = *stdin_port
            && input.is_at_end()
        {
            terminal.close(port);
        }
        quits
    }

    fn signal(&mut self) -> Option<MachineOutcome> {
        let (end, resized) = self.signals.as_mut()?.pending();
        if resized && let Some((columns, rows)) = terminal::size() {
            self.devices.terminal.set_size(columns, rows);
        }
        end.map(|signal| MachineOutcome::Signal { signal })
    }
}

impl From<VcpuEnd> for MachineOutcome {
    fn from(end: VcpuEnd) -> Self {
        match end {
            VcpuEnd::Halted => Self::Halted,
            VcpuEnd::PoweredOff => Self::Exit { status: 0 },
            VcpuEnd::Reset => Self::Reset,
            VcpuEnd::Failed(reason) => Self::Failed { reason },
        }
    }
}
