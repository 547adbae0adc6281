//! The one CPU of this machine that a lab's emulator runs on.
//!
//! QEMU 7.2 changes a CPU's pending events (`interrupt_request`) without a lock when the emulated CPU enters or leaves a
//! guest (target/i386/tcg/sysemu/svm_helper.c), while its main loop raises timers and interrupts there: now and then one
//! is lost, and the lab or the guest waits for it for ever. Threads that share a CPU do not meet in the middle of an
//! instruction.

use std::{
    fs::{self, File},
    io,
};

use rustix::{
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// A CPU, which other labs leave alone for as long as this lives, if there are enough.
pub(super) struct HostCpu {
    /// The CPU, alone in a set.
    pub set: CpuSet,
    lock: Option<File>,
}

impl HostCpu {
    /// Takes a CPU that no other lab on this machine has, or else any.
    pub(super) fn take() -> io::Result<Self> {
        if let Some(own) = Self::take_own()? {
            return Ok(own);
        }
        let cpus = allowed()?;
        let shared = std::process::id() as usize % cpus.len().max(1);
        Ok(Self { set: only(cpus.get(shared).copied().unwrap_or_default()), lock: None })
    }

    /// Takes a CPU that no other lab on this machine has, if there is one: it has the lock (flock(2)) on the CPU's folder in sysfs.
    fn take_own() -> io::Result<Option<Self>> {
        let is_free = |cpu: &usize| {
            let folder = File::open(format!("/sys/devices/system/cpu/cpu{cpu}")).ok()?;
            folder.try_lock().is_ok().then_some(Self { set: only(*cpu), lock: Some(folder) })
        };
        Ok(allowed()?.iter().find_map(is_free))
    }

    /// Whether other labs may have the CPU, too.
    pub(super) fn may_be_shared(&self) -> bool {
        self.lock.is_none()
    }

    /// Moves an emulator from a shared CPU to one that has become free. The emulator stands still meanwhile, so that its threads are
    /// never on two CPUs at once.
    pub(super) fn seek(&mut self, emulator: Pid) -> io::Result<()> {
        let Some(own) = Self::take_own()? else { return Ok(()) };
        kill_process(emulator, Signal::STOP)?;
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let moved = match waitid(WaitId::Pid(emulator), stopped) {
            Ok(Some(state)) if state.stopped() => move_threads(emulator, &own.set),
            // It has ended.
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        };
        kill_process(emulator, Signal::CONT)?;
        moved?;
        *self = own;
        Ok(())
    }
}

/// Gives all threads of a process the CPUs in `set`.
fn move_threads(process: Pid, set: &CpuSet) -> io::Result<()> {
    for thread in fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()))? {
        let number = thread?.file_name().to_string_lossy().parse().ok();
        if let Some(number) = number.and_then(Pid::from_raw) {
            sched_setaffinity(Some(number), set)?;
        }
    }
    Ok(())
}

/// The CPUs that this process may use.
fn allowed() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect())
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
        let locked: Vec<CpuSet> =
            taken.iter().filter(|cpu| !cpu.may_be_shared()).map(|cpu| cpu.set).collect();
        assert!(locked.len() <= count && taken.last().unwrap().may_be_shared());
        for (index, set) in locked.iter().enumerate() {
            assert!(!locked[..index].contains(set));
        }
    }

    #[test]
    fn an_emulator_moves_to_a_cpu_that_becomes_free() {
        let mut sleep = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&sleep);
        let mut cpu = HostCpu { set: only(allowed().unwrap()[0]), lock: None };
        sched_setaffinity(Some(pid), &cpu.set).unwrap();
        // Other labs may have all CPUs for a while.
        while cpu.may_be_shared() {
            cpu.seek(pid).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!((sched_getaffinity(Some(pid)).unwrap(), cpu.set.count()), (cpu.set, 1));
        let state = fs::read_to_string(format!("/proc/{}/stat", sleep.id())).unwrap();
        assert!(!state.contains(") T "), "{state}");
        sleep.kill().unwrap();
        sleep.wait().unwrap();
    }
}
