//! Options of machines of this architecture alone: none yet.

use kvm_ioctls::Kvm;

/// Options of the command line that only this architecture has.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {}

impl Options {
    /// Chooses values for options that were left open, by the abilities of this host's KVM.
    ///
    /// # Errors
    /// A sentence that names an option that this host cannot fulfil.
    pub fn settle(&mut self, _: &Kvm) -> Result<(), String> {
        Ok(())
    }

    /// Most vCPUs: APIC ids of 8 bits, of which 255 is the broadcast.
    pub fn cpus_max(&self) -> u8 {
        254
    }
}
