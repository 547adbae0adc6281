//! The end of a machine: stops the guest, collects the data that is still on its way, and makes the report.

use std::io;

use ::devices::{faults::Faults, platform::PlatformDevice as _};
use vm_memory::{Bytes as _, GuestAddress};

use super::{
    devices::Devices,
    error::{MachineError, host},
    events,
    running::Machine,
};
use crate::{
    api::Status,
    boot::kernel_options::embedded_config,
    guest::{files::Files, output::Output},
    observe::{
        boot_failure::Evidence,
        exit_status::ExitStatus,
        guest_windows::{Reader, guest_windows},
        process::{overhead, since_process_start},
        report::{FORMAT_VERSION, MachineOutcome, Report, WindowReport},
    },
    sandbox::{self, violation},
};

/// The number of console lines in a report.
const LAST_LINES: usize = 40;

impl Machine {
    /// Stops the guest, collects the data that is still on its way, and makes the report.
    pub(super) fn finish(mut self, outcome: MachineOutcome) -> Result<Report, MachineError> {
        let was_stopped = matches!(
            outcome,
            MachineOutcome::Signal { .. }
                | MachineOutcome::Stopped
                | MachineOutcome::Quit
                | MachineOutcome::TimedOut { .. }
        ) || violation::first().is_some();
        if was_stopped && let Some(signals) = &self.signals {
            // Output that its reader does not take at once is lost.
            signals.give_up();
        }
        // The host's terminal is restored whatever happens from here on.
        drop(self.input.take());
        self.outputs
            .iter()
            .chain(self.devices.files.as_ref().map(Files::output))
            .for_each(Output::be_patient);
        self.watch.wait_for("the console log");
        // The reason of a failed boot may be in the last lines.
        self.serial_log.pump().map_err(host("writing the console log"))?;
        if let Some(mut debugger) = self.debugger.take() {
            let status = if let MachineOutcome::Exit { status } = outcome { status } else { 1 };
            debugger.end(&mut self.manager, status);
        }
        self.watch.wait_for("the memory dump");
        let dump = self.dump.take().filter(|_| outcome == MachineOutcome::Panic);
        let memory_dump = dump.and_then(|dump| self.dump_memory(dump));
        let boot_failure = self.failed_to_boot(&outcome).then(|| self.boot_failure());
        let metrics = self.metrics.take().map(|metrics| (metrics, self.status()));
        let Self { vcpus, devices, manager, mut serial_log, windows, stdout, outputs, watch, .. } = self;
        watch.limit("the vCPUs");
        drop(vcpus);
        watch.limit("the devices");
        let seconds_to_boot_mark = devices.seconds_to_boot_mark();
        devices.built.iter().for_each(|built| built.device.stop());
        devices.disk.iter().for_each(|disk| disk.stop());
        let (written, reports) = (devices.written(), devices.reports());
        // The guest's files can lack data then, although its command has seen no error.
        let disk_failure = devices.disk.as_ref().and_then(|disk| disk.failure());
        let disk_failure = disk_failure.map(|error| io::Error::new(error.kind(), error.to_string()));
        let Devices { console, terminal, control, files, faults, .. } = devices;
        watch.wait_for("the guest's output");
        console.drain();
        serial_log.pump().map_err(host("writing the console log"))?;
        // The status may have been on its way. A command without a status has failed, however the guest ended.
        let outcome = match (control.end(), outcome) {
            (Some(end), _) => end,
            (None, MachineOutcome::Exit { .. }) if self.exec => MachineOutcome::PoweredOff,
            (None, outcome) => outcome,
        };
        // The last clones of the console hold the files port's sink: dropping them ends the stream.
        drop((manager, console, terminal));
        watch.wait_for("the files for --out");
        let (out, unpacked) = files.map(Files::finish).unzip();
        watch.wait_for("standard output and the console log");
        outputs.iter().for_each(Output::finish);
        // A forbidden call counts more than the way in which the guest ended, and can come in the last moment.
        let violation = violation::first().map(|reason| MachineOutcome::Failed { reason });
        let outcome = violation.unwrap_or(outcome);
        let unpacked = unpacked.unwrap_or(Ok(())).and(disk_failure.map_or(Ok(()), Err));
        if let (Err(source), Some(path)) = (unpacked, self.out) {
            // A guest that was cut short leaves incomplete files: its outcome says more.
            if matches!(outcome, MachineOutcome::Exit { .. }) {
                return Err(MachineError::Files { path, source });
            }
            tracing::warn!("the guest's files for {} are not complete: {source}", path.display());
        }
        if let Some(error) = stdout.error()
            && !matches!(outcome, MachineOutcome::Failed { .. })
        {
            return Err(MachineError::Stdout(error));
        }
        let plan = faults;
        let faults = plan.as_ref().map(Faults::trace).filter(|trace| !trace.plan.is_empty());
        let windows = windows.into_iter().map(|window| WindowReport::new(window, &written)).collect();

        let ended_well = matches!(outcome, MachineOutcome::Exit { .. });
        // The search for a kernel's symbols takes time, which the report of a guest that ended by itself does not need.
        let areas = || self.kernel_memory.areas(&self.memory, self.memory_size, true).ok();
        let found = if ended_well { None } else { areas() };
        let guest_windows = found.map(|found| guest_windows(&found, &written, Reader::Memory));
        let report = Report {
            format_version: FORMAT_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            arguments: Vec::new(),
            exit: ExitStatus::new(outcome.reason(), self.exec),
            outcome,
            seconds_to_boot_mark,
            seconds: since_process_start().unwrap_or_default().as_secs_f64(),
            memory: self.memory_size,
            overhead_at_boot_mark: self.overhead_at_boot_mark,
            overhead_at_end: overhead(),
            windows,
            guest_windows,
            devices: reports,
            out,
            faults,
            boot_failure,
            memory_dump,
            sandbox: sandbox::report(),
            last_console_lines: if ended_well { Vec::new() } else { serial_log.last_lines(LAST_LINES) },
        };
        if let Some((metrics, status)) = metrics {
            let Report { seconds, seconds_to_boot_mark, windows, devices, .. } = &report;
            let (windows, devices) = (windows.clone(), devices.clone());
            let (seconds, seconds_to_boot_mark) = (*seconds, *seconds_to_boot_mark);
            let status = Status { seconds, seconds_to_boot_mark, windows, devices, ..status };
            watch.wait_for("the metrics");
            metrics.finish(&status, plan.as_ref(), report.exit.status);
        }
        if let Some(requests) = &self.requests {
            requests.tell_last(events::last(plan.as_ref(), &report));
        }
        Ok(report)
    }
}

impl Machine {
    /// The likely reason for a guest that has not come up.
    pub(super) fn boot_failure(&self) -> String {
        let length = usize::try_from(self.kernel.end - self.kernel.start).unwrap_or(0);
        let mut image = vec![0; length];
        // A part that cannot be read stays zero.
        let _ = self.memory.read(&mut image, GuestAddress(self.kernel.start));
        let config = embedded_config(&image);
        let console = self.serial_log.last_lines(LAST_LINES);
        let evidence =
            Evidence { config: config.as_deref(), compression: self.compression, console: &console };
        evidence.likely_reason()
    }

    /// Whether the guest failed before its boot mark. A guest without a command may be one that makes no mark.
    fn failed_to_boot(&self, outcome: &MachineOutcome) -> bool {
        let failed = match outcome {
            MachineOutcome::NotBooted { .. } | MachineOutcome::Panic => true,
            MachineOutcome::Halted | MachineOutcome::Reset | MachineOutcome::TimedOut { .. } => self.exec,
            _ => false,
        };
        failed && !self.devices.is_up()
    }
}
