//! What only machines of this architecture can be asked for: nothing yet.

use kvm_ioctls::Kvm;

/// Options of the command line that only this architecture has.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {}

impl Options {
    /// Decides what was left open by what this host's KVM has.
    ///
    /// # Errors
    /// What was asked for and this host does not have, in a sentence.
    pub fn settle(&mut self, _: &Kvm) -> Result<(), String> {
        Ok(())
    }

    /// Most vCPUs: APIC ids of 8 bits, of which 255 is the broadcast.
    pub fn cpus_max(&self) -> u8 {
        254
    }
}
