//! An interrupt line: an eventfd that the machine connects to an interrupt controller's input (irqfd).

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use event_manager::{EventOps, EventSet, EventSubscriber, Events};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// How an interrupt is signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Each rising edge is one interrupt.
    Edge,
    /// The interrupt is pending while the line is high.
    Level,
}

/// An interrupt line. Clones are handles to the same line.
///
/// On an edge-triggered line each [`raise`](Self::raise) is one interrupt; edges that come faster than the interrupt
/// controller takes them merge, as on a wire.
///
/// A level-triggered line is high from [`raise`](Self::raise) to [`lower`](Self::lower). The interrupt controller takes the
/// line down when the guest ends the interrupt (EOI) and signals the resample eventfd; a line that is still high then is
/// asserted again ([KVM_IRQFD with KVM_IRQFD_FLAG_RESAMPLE](https://docs.kernel.org/virt/kvm/api.html#kvm-irqfd)). A line
/// that goes low before the guest has taken the interrupt stays pending: the guest takes one interrupt for which the device
/// has no cause.
#[derive(Debug, Clone)]
pub struct IrqLine(Arc<Line>);

#[derive(Debug)]
struct Line {
    event: EventFd,
    level: Option<Level>,
}

#[derive(Debug)]
struct Level {
    is_high: AtomicBool,
    /// It was asserted, and the guest has not ended the interrupt yet.
    is_in_service: AtomicBool,
    resample: EventFd,
}

impl IrqLine {
    /// An edge-triggered line that nothing is connected to yet.
    ///
    /// # Errors
    /// The error of eventfd(2), when the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Self::with_trigger(Trigger::Edge)
    }

    /// A line that nothing is connected to yet.
    ///
    /// # Errors
    /// The error of eventfd(2), when the process has no file descriptor left.
    pub fn with_trigger(trigger: Trigger) -> io::Result<Self> {
        let event = || EventFd::new(EFD_NONBLOCK);
        let level = match trigger {
            Trigger::Edge => None,
            Trigger::Level => Some(Level {
                is_high: AtomicBool::new(false),
                is_in_service: AtomicBool::new(false),
                resample: event()?,
            }),
        };
        Ok(Self(Arc::new(Line { event: event()?, level })))
    }

    /// Raises one edge, or takes a level-triggered line high. Nothing waits: a line that is raised already stays so.
    pub fn raise(&self) {
        let was_high = self.0.level.as_ref().is_some_and(|level| level.is_high.swap(true, Ordering::AcqRel));
        if !was_high {
            self.signal();
        }
    }

    /// Takes a level-triggered line low. An edge-triggered line has no level.
    pub fn lower(&self) {
        if let Some(level) = &self.0.level {
            level.is_high.store(false, Ordering::Release);
        }
    }

    /// Takes a level-triggered line high or low.
    pub fn set(&self, is_high: bool) {
        if is_high { self.raise() } else { self.lower() }
    }

    /// Takes what was signalled since the last call, as an interrupt controller does: true if there was an interrupt.
    pub fn take(&self) -> bool {
        self.0.event.read().is_ok()
    }

    /// The guest has ended the interrupt: a level-triggered line that is still high is asserted again.
    pub fn end_of_interrupt(&self) {
        let Some(level) = &self.0.level else { return };
        level.is_in_service.store(false, Ordering::Release);
        if level.is_high.load(Ordering::Acquire) {
            self.signal();
        }
    }

    /// Whether a level-triggered line was asserted, and the guest has not ended the interrupt yet: it is pending, or its handler runs.
    pub fn is_in_service(&self) -> bool {
        self.0.level.as_ref().is_some_and(|level| level.is_in_service.load(Ordering::Acquire))
    }

    /// The eventfd behind the line, for the machine to connect (KVM_IRQFD).
    pub fn eventfd(&self) -> &EventFd {
        &self.0.event
    }

    /// The eventfd by which the interrupt controller tells that the guest has ended the interrupt, for a level-triggered
    /// line. The machine puts [`Resampler`] on its event loop.
    pub fn resample_eventfd(&self) -> Option<&EventFd> {
        self.0.level.as_ref().map(|level| &level.resample)
    }

    fn signal(&self) {
        if let Some(level) = &self.0.level {
            level.is_in_service.store(true, Ordering::Release);
        }
        // The only error is EAGAIN at 2^64-2 pending edges: the line is raised already.
        let _ = self.0.event.write(1);
    }
}

impl vm_superio::Trigger for IrqLine {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.raise();
        Ok(())
    }
}

/// The part of a level-triggered line that runs on the event loop.
#[derive(Debug)]
pub struct Resampler(pub IrqLine);

impl EventSubscriber for Resampler {
    fn process(&self, _events: Events, _ops: &mut EventOps<'_>) {
        if let Some(resample) = self.0.resample_eventfd() {
            let _ = resample.read();
            self.0.end_of_interrupt();
        }
    }

    fn init(&self, ops: &mut EventOps<'_>) {
        if let Some(resample) = self.0.resample_eventfd() {
            // The only error is that the descriptor is registered already.
            let _ = ops.add(Events::new(resample, EventSet::IN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_edge_is_an_interrupt_and_edges_merge() {
        let line = IrqLine::new().unwrap();
        assert!(!line.take());
        line.raise();
        line.clone().raise();
        assert!(line.take() && !line.take());
        line.lower();
        line.end_of_interrupt();
        assert!(!line.take() && line.resample_eventfd().is_none() && !line.is_in_service());
    }

    #[test]
    fn a_level_is_asserted_until_it_is_low_at_the_end_of_an_interrupt() {
        let line = IrqLine::with_trigger(Trigger::Level).unwrap();
        assert!(!line.is_in_service());
        line.raise();
        line.raise();
        assert!(line.take() && !line.take(), "one assertion");
        line.end_of_interrupt();
        assert!(line.take() && line.is_in_service(), "it is still high");
        line.lower();
        assert!(line.is_in_service(), "the handler is not done");
        line.end_of_interrupt();
        assert!(!line.take() && !line.is_in_service());
        // Low and high again before the guest ends the interrupt.
        line.set(true);
        line.set(false);
        line.set(true);
        assert!(line.take());
        line.end_of_interrupt();
        assert!(line.take());
    }
}
