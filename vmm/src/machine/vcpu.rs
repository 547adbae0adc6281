//! vCPU threads: they run the guest, hand its loads and stores to the bus, and stop on request.

use std::{
    io,
    ops::ControlFlow,
    os::unix::thread::JoinHandleExt,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, channel},
    },
    thread::{JoinHandle, Thread},
    time::{Duration, Instant},
};

use devices::{bus::Bus, machine_events::MachineEvents};
use kvm_ioctls::{VcpuExit, VcpuFd};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::{
    eventfd::{EFD_NONBLOCK, EventFd},
    signal::{SIGRTMIN, register_signal_handler},
};

use super::holds::Holds;
use crate::{
    arch::{self, VcpuEnd},
    sandbox::{self, Kind},
};

/// Stack of a vCPU's thread, in bytes. The default of 2 MiB becomes a huge page at its first touch on hosts that
/// have transparent huge pages always on: most of what minivmm takes beyond guest memory.
const STACK: usize = 256 << 10;

/// The threads of a machine's vCPUs. Dropping it stops and joins them.
#[derive(Debug)]
pub struct Vcpus {
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    ends: Receiver<VcpuEnd>,
    rounds_halted: u32,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// Whether the threads have to leave KVM_RUN and wait.
    pause: AtomicBool,
    /// Number of threads that wait.
    waiting: AtomicUsize,
    /// Number of vCPUs that found themselves halted for good since the last look.
    halted: AtomicUsize,
    /// Number of returns of KVM_RUN.
    exits: AtomicU64,
    /// The vCPUs that a debugger holds.
    holds: Holds,
    /// The record in which a panic is the last thing that the guest does. None if it runs on.
    until_panic: Option<Arc<MachineEvents>>,
    /// Wakes the event loop when a vCPU has sent its end, or waits.
    event: EventFd,
}

impl Shared {
    /// Whether the vCPU `index` has to wait.
    fn must_wait(&self, index: usize) -> bool {
        self.pause.load(Ordering::SeqCst)
            || self.holds.is_held(index)
            || self.until_panic.as_ref().is_some_and(|events| events.reported().panicked)
    }

    /// Waits in the thread of the vCPU `index` until it may run, or the machine ends. Works for a debugger meanwhile.
    fn wait(&self, index: usize, vcpu: &mut VcpuFd) -> Result<(), kvm_ioctls::Error> {
        self.holds.end_step(index, vcpu)?;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.holds.waits(index, true);
        let _ = self.event.write(1);
        while self.must_wait(index) && !self.stop.load(Ordering::Relaxed) {
            self.holds.work(index, vcpu);
            std::thread::park();
        }
        self.holds.waits(index, false);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

/// What a debugger does with the vCPUs. Clones share it.
#[derive(Debug, Clone)]
pub struct Hands {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
}

impl Hands {
    /// The vCPUs, as a debugger has them.
    pub fn holds(&self) -> &Holds {
        &self.shared.holds
    }

    /// Has the thread of the vCPU `index`, which waits, do `job`. None if it does not wait, or takes too long.
    pub fn ask<T: Send + 'static>(
        &self,
        index: usize,
        job: impl FnOnce(&mut VcpuFd) -> T + Send + 'static,
    ) -> Option<T> {
        self.shared.holds.ask(index, self.threads.get(index)?, job)
    }

    /// Lets the vCPU `index` run.
    pub fn let_go(&self, index: usize) {
        self.shared.holds.hold(index, false);
        self.threads[index].unpark();
    }
}

impl Vcpus {
    /// Starts a thread for each of `vcpus`. They wait for [`resume`](Self::resume), and again after a panic that is recorded in
    /// `until_panic`.
    ///
    /// # Errors
    /// If the host refuses a thread, a signal handler or a file descriptor.
    pub fn start(
        vcpus: Vec<VcpuFd>,
        memory: &GuestMemoryMmap,
        bus: &Arc<Bus>,
        until_panic: Option<Arc<MachineEvents>>,
    ) -> io::Result<Self> {
        // The signal only makes KVM_RUN return with EINTR.
        extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
        register_signal_handler(SIGRTMIN(), nothing).map_err(io::Error::from)?;

        let (sender, ends) = channel();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            pause: AtomicBool::new(true),
            waiting: AtomicUsize::new(0),
            halted: AtomicUsize::new(0),
            exits: AtomicU64::new(0),
            holds: Holds::new(vcpus.len()),
            until_panic,
            event: EventFd::new(EFD_NONBLOCK)?,
        });
        let (ready, all_ready) = channel::<()>();
        let mut started = Self { threads: Vec::new(), shared, ends, rounds_halted: 0 };
        for (index, mut vcpu) in vcpus.into_iter().enumerate() {
            let (memory, bus) = (memory.clone(), bus.clone());
            let (shared, sender, ready) = (started.shared.clone(), sender.clone(), ready.clone());
            let run = move || {
                start_threads_of_kvm(&mut vcpu);
                drop(ready);
                let ran =
                    panic::catch_unwind(AssertUnwindSafe(|| run(index, &mut vcpu, &memory, &bus, &shared)));
                let end = ran.unwrap_or_else(|_| {
                    Some(VcpuEnd::Failed("a vCPU thread panicked, which is a bug of minivmm".to_owned()))
                });
                if let Some(end) = end {
                    // The machine may have ended meanwhile: then nobody receives it.
                    let _ = sender.send(end);
                    let _ = shared.event.write(1);
                }
            };
            let builder = std::thread::Builder::new().name(format!("vcpu{index}")).stack_size(STACK);
            started.threads.push(sandbox::start(Kind::Vcpu, None, builder, run)?);
        }
        // The threads drop their ends when they are ready.
        drop(ready);
        let _ = all_ready.recv();
        Ok(started)
    }

    /// Becomes readable when a vCPU has ended, then [`end`](Self::end) says how, or waits in a pause.
    pub fn eventfd(&self) -> &EventFd {
        &self.shared.event
    }

    /// How a vCPU ended, if one did.
    pub fn end(&self) -> Option<VcpuEnd> {
        let _ = self.shared.event.read();
        self.ends.try_recv().ok()
    }

    /// Checks whether all CPUs have halted for good. The caller calls it at intervals. With the interrupt controllers in the kernel, KVM
    /// does not report that. True when two checks in a row found it.
    ///
    /// In a pause it only sends the signal again, because a thread that was about to run may have missed it.
    pub fn look_for_halt(&mut self) -> bool {
        if self.is_pausing() || (0..self.threads.len()).any(|index| self.shared.holds.is_held(index)) {
            self.kick();
            return false;
        }
        let all = self.shared.halted.swap(0, Ordering::Relaxed) == self.threads.len();
        self.rounds_halted = if all { self.rounds_halted + 1 } else { 0 };
        self.kick();
        self.rounds_halted >= 2
    }

    /// Lets the vCPUs leave the guest, each at its next exit, and wait.
    pub fn pause(&self) {
        self.shared.pause.store(true, Ordering::SeqCst);
        self.kick();
    }

    /// Lets the vCPUs leave the guest, and returns when all wait. False if they do not within `patience`.
    pub fn pause_within(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        self.pause();
        while !self.are_paused() {
            if begun.elapsed() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
            // A thread that was about to run may have missed the signal.
            self.kick();
        }
        true
    }

    /// Lets the vCPUs continue.
    pub fn resume(&mut self) {
        self.shared.pause.store(false, Ordering::SeqCst);
        // A vCPU that the pause's signal found halted does not count.
        self.shared.halted.store(0, Ordering::Relaxed);
        self.rounds_halted = 0;
        self.unpark();
    }

    /// Whether a pause was requested and has not ended.
    pub fn is_pausing(&self) -> bool {
        self.shared.pause.load(Ordering::SeqCst)
    }

    /// Whether all vCPUs wait, so that the guest does not run.
    pub fn are_paused(&self) -> bool {
        self.is_pausing() && self.shared.waiting.load(Ordering::SeqCst) == self.threads.len()
    }

    /// How often a vCPU has left the guest for minivmm.
    pub fn exits(&self) -> u64 {
        self.shared.exits.load(Ordering::Relaxed)
    }

    /// The vCPUs for a debugger.
    pub fn hands(&self) -> Hands {
        let threads = self.threads.iter().map(|thread| thread.thread().clone()).collect();
        Hands { shared: self.shared.clone(), threads }
    }

    /// Lets the vCPUs leave the guest for a debugger, each at its next exit, and wait.
    pub fn hold(&self) {
        (0..self.threads.len()).for_each(|index| self.shared.holds.hold(index, true));
        self.kick();
    }

    fn unpark(&self) {
        self.threads.iter().for_each(|thread| thread.thread().unpark());
    }

    fn kick(&self) {
        for thread in self.threads.iter().filter(|thread| !thread.is_finished()) {
            // SAFETY: the thread was not joined, so its handle is valid; the signal has a handler.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), SIGRTMIN()) };
        }
    }
}

impl Drop for Vcpus {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.unpark();
        // A signal between a thread's look at `stop` and its KVM_RUN is lost: it is sent until all threads have ended.
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            self.kick();
            std::thread::sleep(Duration::from_millis(1));
        }
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported as the machine's end.
            let _ = thread.join();
        }
    }
}

/// Has KVM start the thread that it needs for each VM. Since Linux 6.13 that is a thread of this process, which starts at the first
/// KVM_RUN and is confined as the calling thread is; the sandbox permits no thread afterwards. The guest does not run.
fn start_threads_of_kvm(vcpu: &mut VcpuFd) {
    vcpu.set_kvm_immediate_exit(1);
    // It ends with EINTR. Another error comes again.
    let _ = vcpu.run();
    vcpu.set_kvm_immediate_exit(0);
}

/// Runs the guest until it ends. None if the machine stops it before.
fn run(
    index: usize,
    vcpu: &mut VcpuFd,
    memory: &GuestMemoryMmap,
    bus: &Bus,
    shared: &Shared,
) -> Option<VcpuEnd> {
    let end = loop {
        if shared.must_wait(index)
            && let Err(error) = shared.wait(index, vcpu)
        {
            break failed(vcpu, &format!("the end of a step: {error}"));
        }
        if shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        let left = vcpu.run();
        shared.exits.fetch_add(1, Ordering::Relaxed);
        match left {
            Ok(VcpuExit::MmioRead(address, data)) => {
                if !bus.read(address, data) {
                    tracing::debug!("load of {} bytes from {address:#x}, which no device has", data.len());
                }
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                if !bus.write(address, data) {
                    tracing::debug!("store of {data:02x?} to {address:#x}, which no device has");
                }
            }
            Ok(VcpuExit::Intr) => {}
            Ok(VcpuExit::Unsupported(reason)) => {
                if let Err(exit) = arch::handle_unnamed_exit(reason, vcpu, memory, bus) {
                    break failed(vcpu, &exit);
                }
            }
            Ok(VcpuExit::Debug(exit)) => {
                if let Err(error) = shared.holds.stop(index, vcpu, &exit) {
                    break failed(vcpu, &format!("a stop for the debugger: {error}"));
                }
            }
            Ok(exit) => {
                let may_be_trap = shared.holds.may_be_trap(&exit);
                let handled = arch::handle_exit(exit);
                match if may_be_trap { shared.holds.trap(index, vcpu) } else { Ok(false) } {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => break failed(vcpu, &format!("a stop for the debugger: {error}")),
                }
                match handled {
                    ControlFlow::Continue(()) => {}
                    ControlFlow::Break(Ok(end)) => break end,
                    ControlFlow::Break(Err(exit)) => break failed(vcpu, &exit),
                }
            }
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {
                if arch::halted_for_good(vcpu).unwrap_or(false) {
                    shared.halted.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => break failed(vcpu, &format!("KVM_RUN: {error}")),
        }
    };
    Some(end)
}

fn failed(vcpu: &VcpuFd, exit: &str) -> VcpuEnd {
    let at = arch::pc(vcpu).map_or_else(|error| error.to_string(), |pc| format!("{pc:#x}"));
    VcpuEnd::Failed(format!("KVM cannot continue the guest at {at}: {exit}"))
}
