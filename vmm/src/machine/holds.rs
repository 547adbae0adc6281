//! Holds single vCPUs for a debugger, and has their threads work on them meanwhile: KVM's requests of a vCPU are for its own thread.

use std::{
    collections::BTreeSet,
    mem,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread::Thread,
    time::Duration,
};

use kvm_bindings::kvm_debug_exit_arch;
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::lock::lock;
use crate::arch::{self, Stepping, stops::Stops};

/// How long the thread of a vCPU may work: a host can be busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// Work for the thread of a vCPU that waits.
type Job = Box<dyn FnOnce(&mut VcpuFd) + Send>;

/// Why a vCPU stopped for the debugger.
#[derive(Debug, Clone, Copy)]
pub enum Cause {
    /// KVM says why.
    Exit(kvm_debug_exit_arch),
    /// It stands at a breakpoint instruction that KVM does not report.
    Trap,
}

/// The vCPUs of a machine, as a debugger has them.
#[derive(Debug, Default)]
pub struct Holds {
    vcpus: Vec<Hold>,
    /// The virtual addresses of the breakpoint instructions, and what else stops the vCPUs.
    traps: Mutex<(BTreeSet<u64>, Stops)>,
    /// Whether there are traps, so that a guest without a debugger takes no lock.
    has_traps: AtomicBool,
    /// The stops that were not looked at.
    stops: Mutex<Vec<(usize, Cause)>>,
}

/// One vCPU.
#[derive(Default)]
struct Hold {
    /// Whether the vCPU has to wait.
    is_held: AtomicBool,
    /// Whether it waits.
    waits: AtomicBool,
    jobs: Mutex<Vec<Job>>,
    /// What it needs back when it stops.
    stepping: Mutex<Stepping>,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold").field("is_held", &self.is_held).field("waits", &self.waits).finish()
    }
}

impl Holds {
    /// For `count` vCPUs, of which none is held.
    pub fn new(count: usize) -> Self {
        Self { vcpus: (0..count).map(|_| Hold::default()).collect(), ..Self::default() }
    }

    /// The number of vCPUs.
    pub fn count(&self) -> usize {
        self.vcpus.len()
    }

    /// Whether the vCPU has to wait.
    pub fn is_held(&self, index: usize) -> bool {
        self.vcpus[index].is_held.load(Ordering::SeqCst)
    }

    /// Holds the vCPU, or lets it go. The caller wakes its thread.
    pub fn hold(&self, index: usize, hold: bool) {
        self.vcpus[index].is_held.store(hold, Ordering::SeqCst);
    }

    /// Whether all vCPUs wait.
    pub fn all_wait(&self) -> bool {
        self.vcpus.iter().all(|vcpu| vcpu.waits.load(Ordering::SeqCst))
    }

    /// In the thread of a vCPU: it waits from now on, or no more.
    pub(super) fn waits(&self, index: usize, waits: bool) {
        self.vcpus[index].waits.store(waits, Ordering::SeqCst);
    }

    /// In the thread of a vCPU that waits: does the work that came.
    pub(super) fn work(&self, index: usize, vcpu: &mut VcpuFd) {
        for job in mem::take(&mut *lock(&self.vcpus[index].jobs)) {
            job(vcpu);
        }
    }

    /// Has the thread of a vCPU that waits do `job`. None if it does not wait, or takes too long.
    pub fn ask<T: Send + 'static>(
        &self,
        index: usize,
        thread: &Thread,
        job: impl FnOnce(&mut VcpuFd) -> T + Send + 'static,
    ) -> Option<T> {
        let vcpu = self.vcpus.get(index).filter(|vcpu| vcpu.waits.load(Ordering::SeqCst))?;
        let (sender, done) = sync_channel(1);
        lock(&vcpu.jobs).push(Box::new(move |vcpu: &mut VcpuFd| drop(sender.send(job(vcpu)))));
        thread.unpark();
        done.recv_timeout(PATIENCE).ok()
    }

    /// What stops the vCPUs, and where the breakpoint instructions are, for the next run.
    pub fn set_traps(&self, traps: BTreeSet<u64>, stops: Stops) {
        self.has_traps.store(!traps.is_empty(), Ordering::SeqCst);
        *lock(&self.traps) = (traps, stops);
    }

    /// The state that a vCPU needs back after its step.
    pub fn steps(&self, index: usize, stepping: Stepping) {
        *lock(&self.vcpus[index].stepping) = stepping;
    }

    /// In the thread of a vCPU that stops: restores that state.
    pub(super) fn end_step(&self, index: usize, vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
        let stepping = mem::take(&mut *lock(&self.vcpus[index].stepping));
        arch::end_step(vcpu, stepping)
    }

    /// In the thread of a vCPU: takes the exit that KVM made for the debugger. A breakpoint instruction of the guest's own goes back
    /// to the guest. Returns whether the vCPU is held now.
    pub(super) fn stop(
        &self,
        index: usize,
        vcpu: &VcpuFd,
        exit: &kvm_debug_exit_arch,
    ) -> Result<bool, kvm_ioctls::Error> {
        if let Some(pc) = arch::breakpoint_of(vcpu, exit)? {
            let traps = lock(&self.traps);
            if !traps.0.contains(&pc) {
                arch::inject_breakpoint(vcpu, exit, &traps.1)?;
                return Ok(false);
            }
        }
        self.stopped(index, Cause::Exit(*exit));
        Ok(true)
    }

    /// In the thread of a vCPU: whether it can stand at a breakpoint instruction after `exit`.
    pub(super) fn may_be_trap(&self, exit: &VcpuExit<'_>) -> bool {
        self.has_traps.load(Ordering::Relaxed) && arch::may_be_trap(exit)
    }

    /// In the thread of a vCPU: if it stands at a breakpoint instruction, the vCPU is held. Returns whether it is.
    pub(super) fn trap(&self, index: usize, vcpu: &mut VcpuFd) -> Result<bool, kvm_ioctls::Error> {
        let stands = arch::stand_at_trap(vcpu, &lock(&self.traps).0)?;
        if stands {
            self.stopped(index, Cause::Trap);
        }
        Ok(stands)
    }

    fn stopped(&self, index: usize, cause: Cause) {
        self.hold(index, true);
        lock(&self.stops).push((index, cause));
    }

    /// Takes the stops since the last call.
    pub fn take_stops(&self) -> Vec<(usize, Cause)> {
        mem::take(&mut *lock(&self.stops))
    }
}
