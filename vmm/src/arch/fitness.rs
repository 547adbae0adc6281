//! Judges by what a tiny guest did whether Linux can run on this host's KVM. No time is measured: a busy host gets the same
//! answer as an idle one.
//!
//! Some hosts offer a /dev/kvm that emulates privileged code (a PVM without hardware virtualization interprets ring 0,
//! and leaves SYSCALL in ring 3): Linux cannot run there, small bare-metal guests can.

/// Accepts the privilege or exception level that the tiny guest's instruction `syscall` led to, if it is the kernel's.
///
/// # Errors
/// Why Linux cannot run there.
pub(super) fn accept(level: u8, kernel: u8, syscall: &str) -> Result<(), String> {
    if level == kernel {
        return Ok(());
    }
    Err(format!("{syscall} leads to privilege level {level} instead of {kernel}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_call_has_to_reach_the_kernels_level() {
        assert_eq!(accept(1, 1, "SVC"), Ok(()));
        assert!(accept(3, 0, "SYSCALL").unwrap_err().contains("leads to privilege level 3"));
    }
}
