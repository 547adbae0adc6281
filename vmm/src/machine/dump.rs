//! The memory dump of a guest that panicked.

use std::time::Duration;

use super::running::Machine;
use crate::{arch, observe::memory_dump::MemoryDump};

/// How long the vCPUs may take to stop. One that waits for a device takes longer, and is in the dump without its registers.
const PATIENCE: Duration = Duration::from_secs(5);

impl Machine {
    /// Stops the guest and its devices, and writes `dump`. Returns its path if it is whole.
    pub(super) fn dump_memory(&self, dump: MemoryDump) -> Option<String> {
        self.devices.built.iter().for_each(|built| built.device.pause());
        if !self.vcpus.pause_within(PATIENCE) {
            tracing::warn!("a vCPU did not stop for the memory dump, which lacks its registers");
        }
        let hands = self.vcpus.hands();
        let registers = (0..self.cpus).map(|index| {
            let read = hands.ask(index.into(), |vcpu| arch::core_registers(vcpu));
            read.and_then(Result::ok).unwrap_or([0; arch::CORE_REGISTERS])
        });
        let registers: Vec<_> = registers.collect();
        let view = self.kernel_memory.view(&self.memory);
        let path = dump.path().display().to_string();
        match dump.write(&self.memory, &registers, view.as_ref()) {
            Ok(()) => Some(path),
            Err(error) => {
                tracing::warn!("the memory dump {path} cannot be written: {error}");
                None
            }
        }
    }
}
