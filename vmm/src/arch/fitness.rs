//! Judges by a tiny guest's findings whether Linux can run on this host's KVM.
//!
//! Some hosts offer a /dev/kvm that emulates privileged code (a PVM without hardware virtualization interprets ring 0,
//! and leaves SYSCALL in ring 3): Linux cannot run there, small bare-metal guests can.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{KERNEL_LEVEL, KERNEL_MODE, SYSCALL};

/// The tiny guest's findings.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Turns of a two-instruction loop in the kernel's mode, in a second.
    pub loops_per_second: f64,
    /// The privilege or exception level that a system call led to.
    pub syscall_level: u8,
}

/// Fewer turns of the loop in a second mean that the kernel's mode is interpreted: it is at most 3 million there, 300
/// million in a CPU that is itself emulated.
const LOOPS_MIN: f64 = 10e6;

/// Turns of the timed loop: a tenth of a millisecond on a CPU, a hundredth of a second where it is interpreted.
pub(super) const LOOPS: u32 = 30_000;
/// The number of times that it is timed. The best time counts, as a busy host interrupts the others.
const ROUNDS: u32 = 5;

/// Turns of a loop in a second. `round` makes [`LOOPS`] turns.
///
/// # Errors
/// The error of a round.
pub(super) fn loops_per_second(mut round: impl FnMut() -> Result<(), String>) -> Result<f64, String> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        round()?;
        best = best.min(start.elapsed());
    }
    Ok(f64::from(LOOPS) / best.max(Duration::from_nanos(1)).as_secs_f64())
}

impl Probe {
    /// Why Linux cannot run on such a KVM, if it cannot.
    pub fn unfit_reason(&self) -> Option<String> {
        let Self { loops_per_second, syscall_level } = self;
        if *syscall_level != KERNEL_LEVEL {
            return Some(format!(
                "{SYSCALL} leads to privilege level {syscall_level} instead of {KERNEL_LEVEL}"
            ));
        }
        (*loops_per_second < LOOPS_MIN).then(|| {
            let millions = loops_per_second / 1e6;
            format!(
                "its {KERNEL_MODE} is interpreted, at {millions:.1} million turns of a small loop a second"
            )
        })
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millions = self.loops_per_second / 1e6;
        write!(f, "its {KERNEL_MODE} makes {millions:.1} million turns of a small loop a second")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unfit() {
        let reason =
            |loops_per_second, syscall_level| Probe { loops_per_second, syscall_level }.unfit_reason();
        assert_eq!(reason(300e6, KERNEL_LEVEL), None);
        assert!(reason(300e6, 3).unwrap().contains("privilege level 3"));
        assert!(reason(1.5e6, KERNEL_LEVEL).unwrap().contains("interpreted, at 1.5 million"));
    }
}
