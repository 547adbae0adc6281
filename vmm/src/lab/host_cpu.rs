//! The one CPU of this machine that a lab's emulator runs on.
//!
//! QEMU 7.2 changes a CPU's pending events (`interrupt_request`) without a lock when the emulated CPU enters or leaves a
//! guest (target/i386/tcg/sysemu/svm_helper.c), while its main loop raises timers and interrupts there: now and then one
//! is lost, and the lab or the guest waits for it for ever. Threads that share a CPU do not meet in the middle of an
//! instruction.

use std::{fs::File, io};

use rustix::thread::{CpuSet, sched_getaffinity};

/// A CPU, which other labs leave alone for as long as this lives, if there are enough.
pub(super) struct HostCpu {
    /// The CPU, alone in a set.
    pub set: CpuSet,
    _lock: Option<File>,
}

impl HostCpu {
    /// Takes a CPU that no other lab on this machine has: it has the lock (flock(2)) on the CPU's folder in sysfs.
    pub(super) fn take() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
        for &cpu in &cpus {
            let folder = File::open(format!("/sys/devices/system/cpu/cpu{cpu}"));
            if let Ok(folder) = folder
                && folder.try_lock().is_ok()
            {
                return Ok(Self { set: only(cpu), _lock: Some(folder) });
            }
        }
        let shared = std::process::id() as usize % cpus.len().max(1);
        Ok(Self { set: only(cpus.get(shared).copied().unwrap_or_default()), _lock: None })
    }
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lab_has_its_own_as_far_as_they_go() {
        let count = sched_getaffinity(None).unwrap().count() as usize;
        let taken: Vec<HostCpu> = (0..=count).map(|_| HostCpu::take().unwrap()).collect();
        assert!(taken.iter().all(|cpu| cpu.set.count() == 1));
        // Other labs may be running. Locked CPUs are all different, the others may be any.
        let locked: Vec<CpuSet> = taken.iter().filter(|cpu| cpu._lock.is_some()).map(|cpu| cpu.set).collect();
        assert!(locked.len() <= count && taken.last().unwrap()._lock.is_none());
        for (index, set) in locked.iter().enumerate() {
            assert!(!locked[..index].contains(set));
        }
    }
}
