//! Judges by what a tiny guest did whether Linux can run on this host's KVM. No time is measured: a busy host gets the same
//! answer as an idle one.
//!
//! Some hosts offer a /dev/kvm that emulates privileged code (a PVM without hardware virtualization interprets ring 0,
//! and leaves SYSCALL in ring 3): Linux cannot run there, small bare-metal guests can.

use super::{KERNEL_LEVEL, SYSCALL};

/// Accepts the privilege or exception level that a tiny guest's system call led to, if it is the kernel's.
///
/// # Errors
/// Why Linux cannot run there.
pub(super) fn accept(level: u8) -> Result<(), String> {
    if level == KERNEL_LEVEL {
        return Ok(());
    }
    Err(format!("{SYSCALL} leads to privilege level {level} instead of {KERNEL_LEVEL}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_call_has_to_reach_the_kernels_level() {
        assert_eq!(accept(KERNEL_LEVEL), Ok(()));
        assert!(accept(3).unwrap_err().contains("leads to privilege level 3"));
    }
}
