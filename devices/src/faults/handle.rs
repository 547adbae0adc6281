//! The handle by which a device consults a plan of faults.

use std::sync::Arc;

use chacha20::ChaCha8Rng;

use super::{
    engine::{Faults, Source},
    event::{Event, Firing},
    table::FaultPoint,
};

/// A device's way to the plan of its machine. Clones are cheap. Without a plan, a consultation is one branch.
#[derive(Debug, Clone, Default)]
pub struct FaultHandle(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    faults: Faults,
    source: Source,
}

/// A fault that happens now.
#[derive(Debug)]
pub struct Fault<P> {
    /// What the device does wrong.
    pub action: P,
    /// The random numbers for the choices that the action leaves open.
    pub random: ChaCha8Rng,
    /// Where the firing is on record.
    firing: Option<usize>,
}

impl FaultHandle {
    /// The handle of a device in a machine without a plan.
    pub const fn none() -> Self {
        Self(None)
    }

    /// The handle of the device `id`.
    pub fn new(faults: Faults, id: &str) -> Self {
        let device = faults.devices().iter().find(|device| device.id == id);
        let window = device.and_then(|device| device.window.as_deref()).map(Arc::from);
        Self::of(faults, Source { device: Some(Arc::from(id)), window })
    }

    /// The handle for events of the CMA window `name` itself, which are no device's.
    pub fn of_window(faults: Faults, name: &str) -> Self {
        Self::of(faults, Source { device: None, window: Some(Arc::from(name)) })
    }

    fn of(faults: Faults, source: Source) -> Self {
        Self(Some(Arc::new(Held { faults, source })))
    }

    #[inline]
    fn held(&self) -> Option<&Held> {
        if cfg!(feature = "no-hooks") { None } else { self.0.as_deref() }
    }

    /// Whether there is a plan. A device calls this before it keeps data that only an action needs.
    #[inline]
    pub fn is_some(&self) -> bool {
        self.held().is_some()
    }

    /// What goes wrong at this event of the point `P`, if anything does.
    #[inline]
    pub fn consult<P: FaultPoint>(&self, event: Event) -> Option<Fault<P>> {
        let held = self.held()?;
        if held.faults.acts_on(P::POINT) { held.consult(event) } else { None }
    }

    /// Whether a rule may act on the point `P`. It can be wrong on the safe side.
    #[inline]
    pub fn acts_on<P: FaultPoint>(&self) -> bool {
        self.held().is_some_and(|held| held.faults.acts_on(P::POINT))
    }

    /// Adds the effect of a fault to the record.
    pub fn record<P>(&self, fault: &Fault<P>, put: impl FnOnce(&mut Firing)) {
        if let (Some(held), Some(index)) = (self.held(), fault.firing) {
            held.faults.record(index, put);
        }
    }

    /// Puts on the timeline that the device raises its interrupt.
    #[inline]
    pub fn interrupted(&self) {
        if let Some(held) = self.held() {
            held.faults.interrupted(&held.source);
        }
    }

    /// Tells those who listen, and the timeline, that the guest resets the device.
    #[inline]
    pub fn was_reset(&self) {
        if let Some(held) = self.held() {
            held.faults.was_reset(&held.source);
        }
    }
}

impl Held {
    fn consult<P: FaultPoint>(&self, event: Event) -> Option<Fault<P>> {
        let fired = self.faults.consult(&self.source, P::POINT, event)?;
        // The action `none` has no effect on the device.
        let action = P::of(&fired.action)?;
        Some(Fault { action, random: fired.random, firing: fired.firing })
    }
}
