//! The debugger of `--gdb`: the event loop serves gdb's remote protocol, for one client at a time.
//!
//! While a debugger is attached, its commands stop all vCPUs and let them run. When it leaves, or its connection breaks, its
//! breakpoints are removed and the guest runs on. A client that sends no valid packets is disconnected.

mod breakpoints;
pub mod link;
mod target;

use std::{
    mem,
    sync::{Arc, Mutex},
};

use event_manager::{EventManager, SubscriberId, SubscriberOps};
use gdbstub::{
    common::Signal,
    stub::{GdbStub, MultiThreadStopReason, state_machine::GdbStubStateMachine},
};
use vm_memory::GuestMemoryMmap;

use self::{
    link::{Link, Replies},
    target::{Guest, thread_id},
};
use super::{lock::lock, vcpu::Vcpus, wakeups::Subscriber};
use crate::arch::stops::Facilities;

/// Longest packet of gdb's, in bytes.
const PACKET_MAX: usize = 16 << 10;

type Session = GdbStubStateMachine<'static, Guest, Replies>;

/// The state of the guest, as a debugger has it.
enum Phase {
    /// The guest runs.
    Running,
    /// The vCPUs are about to stop.
    Stopping(Why),
    /// All vCPUs wait.
    Stopped,
}

/// Why the vCPUs stop.
#[derive(Clone, Copy)]
enum Why {
    /// A debugger came.
    Attach,
    /// The debugger asked for it.
    Interrupt,
    /// A vCPU is at a breakpoint, has made a step, and so on.
    Stop(MultiThreadStopReason<u64>),
    /// The debugger is gone.
    Leave,
}

/// The debugger's end of a machine.
pub(super) struct Debugger {
    link: Arc<Mutex<Link>>,
    subscriber: SubscriberId,
    replies: Replies,
    guest: Guest,
    session: Option<Session>,
    phase: Phase,
}

impl Debugger {
    /// Serves `link` by the event loop of `manager`. If it `waits`, the guest does not run before a debugger lets it.
    pub(super) fn new(
        (link, waits): (Link, bool),
        manager: &mut EventManager<Subscriber>,
        vcpus: &Vcpus,
        memory: &GuestMemoryMmap,
        facilities: Facilities,
    ) -> Self {
        let replies = link.replies();
        let link = Arc::new(Mutex::new(link));
        let subscriber = manager.add_subscriber(link.clone());
        let guest = Guest::new(vcpus.hands(), memory.clone(), facilities);
        if waits {
            vcpus.hold();
        }
        let phase = if waits { Phase::Stopped } else { Phase::Running };
        Self { link, subscriber, replies, guest, session: None, phase }
    }

    /// Handles what the debugger sent and what the vCPUs did since the last call.
    pub(super) fn look(&mut self, manager: &mut EventManager<Subscriber>, vcpus: &Vcpus) {
        for (index, cause) in self.guest.take_stops() {
            // The other stops come again: each vCPU stands where it stopped.
            if matches!(self.phase, Phase::Running) {
                self.phase = Phase::Stopping(Why::Stop(self.guest.reason(index, cause)));
                vcpus.hold();
            }
        }
        let has_client = lock(&self.link).has_client();
        if !has_client && self.session.take().is_some() {
            self.leave(vcpus);
        }
        if has_client && self.session.is_none() {
            self.attach(vcpus);
        }
        loop {
            self.stopped();
            if !self.read(vcpus) {
                break;
            }
        }
        self.settle(manager);
    }

    /// Tells the debugger that the machine ends.
    pub(super) fn end(&mut self, manager: &mut EventManager<Subscriber>, status: u8) {
        if let Some(Session::Running(running)) = self.session.take() {
            let _ = running.report_stop(&mut self.guest, MultiThreadStopReason::Exited(status));
            self.settle(manager);
        }
    }

    /// Writes what the client takes, and waits for its next event.
    fn settle(&mut self, manager: &mut EventManager<Subscriber>) {
        if let Ok(mut ops) = manager.event_ops(self.subscriber) {
            lock(&self.link).settle(&mut ops);
        }
    }

    fn attach(&mut self, vcpus: &Vcpus) {
        lock(&self.replies.0).clear();
        let stub = GdbStub::builder(self.replies.clone()).packet_buffer_size(PACKET_MAX).build();
        let session = stub
            .map_err(|error| error.to_string())
            .and_then(|stub| stub.run_state_machine(&mut self.guest).map_err(|error| error.to_string()));
        match session {
            Ok(session) => self.session = Some(session),
            Err(error) => return self.refuse(&error),
        }
        match self.phase {
            // The last debugger is still leaving: its breakpoints go when the vCPUs wait.
            Phase::Running | Phase::Stopping(Why::Attach | Why::Interrupt | Why::Stop(_)) => {
                self.phase = Phase::Stopping(Why::Attach);
                vcpus.hold();
            }
            Phase::Stopping(Why::Leave) | Phase::Stopped => {}
        }
    }

    /// The debugger is gone.
    fn leave(&mut self, vcpus: &Vcpus) {
        match self.phase {
            Phase::Stopped => self.release(),
            Phase::Running | Phase::Stopping(_) => {
                self.phase = Phase::Stopping(Why::Leave);
                vcpus.hold();
            }
        }
    }

    /// Removes what the debugger put into the guest, and lets the guest run.
    fn release(&mut self) {
        self.guest.clear();
        if let Err(reason) = self.guest.run() {
            tracing::warn!("the guest may stop once more for the debugger that left: {reason}");
        }
        self.phase = Phase::Running;
    }

    /// Drops the client, which cannot be understood.
    fn refuse(&mut self, reason: &str) {
        tracing::debug!("the debugger is disconnected: {reason}");
        self.session = None;
        lock(&self.replies.0).clear();
        lock(&self.link).end();
    }

    /// If all vCPUs wait by now, does what they were stopped for.
    fn stopped(&mut self) {
        let Phase::Stopping(why) = self.phase else { return };
        if !self.guest.has_stopped() {
            return;
        }
        self.phase = Phase::Stopped;
        let interrupted =
            MultiThreadStopReason::SignalWithThread { tid: thread_id(0), signal: Signal::SIGINT };
        let session = match (why, self.session.take()) {
            (Why::Leave, None) => return self.release(),
            // The next debugger came meanwhile.
            (Why::Leave, session) => {
                self.guest.clear();
                self.session = session;
                return;
            }
            (Why::Stop(reason), Some(Session::Running(running))) => {
                running.report_stop(&mut self.guest, reason)
            }
            (Why::Interrupt, Some(Session::CtrlCInterrupt(interrupt))) => {
                interrupt.interrupt_handled(&mut self.guest, Some(interrupted))
            }
            // A stop and an interrupt at the same time: the stop counts.
            (Why::Stop(reason), Some(Session::CtrlCInterrupt(interrupt))) => {
                interrupt.interrupt_handled(&mut self.guest, Some(reason))
            }
            (_, session) => {
                self.session = session;
                return;
            }
        };
        self.become_state(session.map_err(|error| error.to_string()));
    }

    /// Reads what the debugger has sent. Returns whether there may be more to do.
    fn read(&mut self, vcpus: &Vcpus) -> bool {
        let may_read = matches!(
            (&self.phase, &self.session),
            (Phase::Stopped, Some(Session::Idle(_))) | (Phase::Running, Some(Session::Running(_)))
        );
        if !may_read {
            return false;
        }
        let Some(byte) = lock(&self.link).next_byte() else { return false };
        let next = match self.session.take() {
            Some(Session::Idle(idle)) => idle.incoming_data(&mut self.guest, byte),
            Some(Session::Running(running)) => running.incoming_data(&mut self.guest, byte),
            _ => return false,
        };
        self.become_state(next.map_err(|error| error.to_string()));
        if mem::take(&mut self.guest.has_resumed) {
            self.phase = Phase::Running;
        }
        match &self.session {
            Some(Session::CtrlCInterrupt(_)) => {
                self.phase = Phase::Stopping(Why::Interrupt);
                vcpus.hold();
            }
            // It detached, or cannot be understood.
            None => self.leave(vcpus),
            Some(_) => {}
        }
        true
    }

    fn become_state(&mut self, next: Result<Session, String>) {
        match next {
            Ok(Session::Disconnected(_)) => {
                self.session = None;
                lock(&self.link).end();
            }
            Ok(session) => self.session = Some(session),
            Err(reason) => self.refuse(&reason),
        }
    }
}
