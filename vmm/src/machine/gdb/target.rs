//! The guest as gdb's target: its vCPUs are threads, and its memory is what the page tables of a vCPU map.

use std::{collections::BTreeMap, mem, num::NonZeroUsize};

use gdbstub::{
    common::{Signal, Tid},
    stub::MultiThreadStopReason,
    target::{
        Target, TargetError, TargetResult,
        ext::{
            base::{
                BaseOps,
                multithread::{
                    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
                    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
                },
            },
            breakpoints::{
                Breakpoints as BreakpointsExt, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint,
                HwWatchpointOps, SwBreakpoint, SwBreakpointOps, WatchKind,
            },
            thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps},
        },
    },
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::breakpoints::Breakpoints;
use crate::{
    arch::{
        self, GdbArch, GdbRegisters,
        stops::{Facilities, SlotKind, Stop, Stops},
    },
    machine::{holds::Cause, vcpu::Hands},
};

/// The smallest page of every architecture: what is contiguous in virtual memory is so in physical memory within one.
const PAGE: u64 = 4096;
/// EFAULT.
const FAULT: u8 = 14;

/// The next run of a vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Continue,
    Step,
}

/// The guest of one machine.
pub(super) struct Guest {
    hands: Hands,
    memory: GuestMemoryMmap,
    breakpoints: Breakpoints,
    actions: BTreeMap<usize, Action>,
    /// Whether vCPUs without an action stay stopped.
    others_stay: bool,
    /// The vCPU that stopped last.
    current: usize,
    /// Whether the debugger let the guest run since the last look at this.
    pub(super) has_resumed: bool,
}

/// gdb's number of the vCPU `index`.
pub(super) fn thread_id(index: usize) -> Tid {
    NonZeroUsize::MIN.saturating_add(index)
}

fn index(tid: Tid) -> usize {
    tid.get() - 1
}

impl Guest {
    pub(super) fn new(hands: Hands, memory: GuestMemoryMmap, facilities: Facilities) -> Self {
        let breakpoints = Breakpoints::new(memory.clone(), facilities);
        let (actions, others_stay) = (BTreeMap::new(), false);
        Self { hands, memory, breakpoints, actions, others_stay, current: 0, has_resumed: false }
    }

    /// Takes the stops of vCPUs since the last call.
    pub(super) fn take_stops(&self) -> Vec<(usize, Cause)> {
        self.hands.holds().take_stops()
    }

    /// Whether all vCPUs wait.
    pub(super) fn has_stopped(&self) -> bool {
        self.hands.holds().all_wait()
    }

    /// The reason of a vCPU's stop, as gdb has it.
    pub(super) fn reason(&mut self, index: usize, cause: Cause) -> MultiThreadStopReason<u64> {
        self.current = index;
        let stop = match cause {
            Cause::Trap => Stop::Software,
            Cause::Exit(exit) => arch::stop_of(&exit, &self.breakpoints.stops().slots),
        };
        let tid = thread_id(index);
        match stop {
            Stop::Software => MultiThreadStopReason::SwBreak(tid),
            Stop::Hardware => MultiThreadStopReason::HwBreak(tid),
            Stop::Step => MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGTRAP },
            Stop::Watch(slot) => {
                let kind = match slot.kind {
                    SlotKind::Read => WatchKind::Read,
                    SlotKind::Write => WatchKind::Write,
                    SlotKind::Access | SlotKind::Execute => WatchKind::ReadWrite,
                };
                MultiThreadStopReason::Watch { tid, kind, addr: slot.address }
            }
        }
    }

    /// Removes all breakpoints.
    pub(super) fn clear(&mut self) {
        self.breakpoints.clear();
        self.actions.clear();
        self.others_stay = false;
    }

    /// Lets the vCPUs, which wait, run, each by its action.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let stops = self.breakpoints.stops();
        let holds = self.hands.holds();
        // The guest's own breakpoint instructions are told apart by these.
        holds.set_traps(self.breakpoints.traps(), stops.clone());
        let actions = mem::take(&mut self.actions);
        let mut result = Ok(());
        let default = (!self.others_stay).then_some(Action::Continue);
        let running =
            (0..holds.count()).filter_map(|index| Some((index, *actions.get(&index).or(default.as_ref())?)));
        let running: Vec<_> = running.collect();
        for &(index, action) in &running {
            if let Err(reason) = self.prepare(index, &stops, action) {
                result = Err(reason);
            }
        }
        running.into_iter().for_each(|(index, _)| self.hands.let_go(index));
        result
    }

    /// Sets the stops of a vCPU's next run.
    fn prepare(&self, index: usize, stops: &Stops, action: Action) -> Result<(), String> {
        let (stops, memory) = (stops.clone(), self.memory.clone());
        let set = move |vcpu: &mut _| arch::set_stops(vcpu, &memory, &stops, action == Action::Step);
        let stepping = self.ask(index, set)?.map_err(|error| format!("KVM_SET_GUEST_DEBUG: {error}"))?;
        self.hands.holds().steps(index, stepping);
        Ok(())
    }

    fn ask<T: Send + 'static>(
        &self,
        index: usize,
        job: impl FnOnce(&mut kvm_ioctls::VcpuFd) -> T + Send + 'static,
    ) -> Result<T, String> {
        self.hands.ask(index, job).ok_or_else(|| format!("vCPU {index} does not answer"))
    }

    /// The physical pieces of `length` bytes of virtual memory from `address`, as the vCPU `index` has it: up to the first page that
    /// is not mapped.
    fn pieces(&self, index: usize, address: u64, length: usize) -> Vec<(u64, usize)> {
        let memory = self.memory.clone();
        let translate = move |vcpu: &mut kvm_ioctls::VcpuFd| {
            let mut pieces = Vec::new();
            let (mut at, mut left) = (address, length);
            while left > 0 {
                let in_page = usize::try_from(PAGE - at % PAGE).unwrap_or(left).min(left);
                let Some(physical) = arch::physical(vcpu, &memory, at) else { break };
                pieces.push((physical, in_page));
                left -= in_page;
                at = at.wrapping_add(in_page as u64);
            }
            pieces
        };
        self.ask(index, translate).unwrap_or_default()
    }

    /// The physical address of a virtual one, as the current vCPU has it, or any.
    fn physical(&self, address: u64) -> Option<u64> {
        let all = std::iter::once(self.current).chain(0..self.hands.holds().count());
        all.filter_map(|index| self.pieces(index, address, 1).first().map(|(physical, _)| *physical)).next()
    }
}

impl Target for Guest {
    type Arch = GdbArch;
    type Error = String;

    fn base_ops(&mut self) -> BaseOps<'_, GdbArch, String> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    /// A debugger that steps by breakpoints of its own is told of them here.
    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        true
    }
}

impl MultiThreadBase for Guest {
    fn read_registers(&mut self, regs: &mut GdbRegisters, tid: Tid) -> TargetResult<(), Self> {
        let read = self.ask(index(tid), |vcpu| arch::read_registers(vcpu));
        *regs = read.ok().and_then(Result::ok).ok_or(TargetError::NonFatal)?;
        Ok(())
    }

    fn write_registers(&mut self, regs: &GdbRegisters, tid: Tid) -> TargetResult<(), Self> {
        let regs = regs.clone();
        let written = self.ask(index(tid), move |vcpu| arch::write_registers(vcpu, &regs));
        written.ok().and_then(Result::ok).ok_or(TargetError::NonFatal)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let mut done = 0;
        for (physical, length) in self.pieces(index(tid), start, data.len()) {
            let piece = &mut data[done..done + length];
            if self.memory.read_slice(piece, GuestAddress(physical)).is_err() {
                break;
            }
            self.breakpoints.hide(physical, piece);
            done += length;
        }
        if done == 0 && !data.is_empty() { Err(TargetError::Errno(FAULT)) } else { Ok(done) }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let mut rest = data;
        for (physical, length) in self.pieces(index(tid), start, data.len()) {
            let (piece, after) = rest.split_at(length);
            if !self.breakpoints.write_below(physical, piece) {
                break;
            }
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(TargetError::Errno(FAULT)) }
    }

    fn list_active_threads(&mut self, thread_is_active: &mut dyn FnMut(Tid)) -> Result<(), String> {
        // The first is the one that a debugger begins with.
        let others = (0..self.hands.holds().count()).filter(|index| *index != self.current);
        std::iter::once(self.current).chain(others).map(thread_id).for_each(thread_is_active);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Guest {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, String> {
        let text = format!("CPU {}", index(tid));
        let length = text.len().min(buf.len());
        buf[..length].copy_from_slice(&text.as_bytes()[..length]);
        Ok(length)
    }
}

impl MultiThreadResume for Guest {
    fn resume(&mut self) -> Result<(), String> {
        self.has_resumed = true;
        self.run()
    }

    fn clear_resume_actions(&mut self) -> Result<(), String> {
        self.actions.clear();
        self.others_stay = false;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), String> {
        self.actions.insert(index(tid), Action::Continue);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Guest {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), String> {
        self.actions.insert(index(tid), Action::Step);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Guest {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), String> {
        self.others_stay = true;
        Ok(())
    }
}

impl BreakpointsExt for Guest {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

type BreakpointKind = <GdbArch as gdbstub::arch::Arch>::BreakpointKind;

impl SwBreakpoint for Guest {
    fn add_sw_breakpoint(&mut self, address: u64, _: BreakpointKind) -> TargetResult<bool, Self> {
        let Some(physical) = self.physical(address) else { return Ok(false) };
        Ok(self.breakpoints.insert(address, physical))
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _: BreakpointKind) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.remove(address))
    }
}

impl HwBreakpoint for Guest {
    fn add_hw_breakpoint(&mut self, address: u64, _: BreakpointKind) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.watch(address, 1, SlotKind::Execute))
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _: BreakpointKind) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.unwatch(address, 1, SlotKind::Execute))
    }
}

fn slot_kind(kind: WatchKind) -> SlotKind {
    match kind {
        WatchKind::Write => SlotKind::Write,
        WatchKind::Read => SlotKind::Read,
        WatchKind::ReadWrite => SlotKind::Access,
    }
}

impl HwWatchpoint for Guest {
    fn add_hw_watchpoint(&mut self, address: u64, length: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.watch(address, length, slot_kind(kind)))
    }

    fn remove_hw_watchpoint(
        &mut self,
        address: u64,
        length: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        Ok(self.breakpoints.unwatch(address, length, slot_kind(kind)))
    }
}
