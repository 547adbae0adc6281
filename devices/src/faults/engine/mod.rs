//! A plan at work: which rules fire while a machine runs, and the record of them.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use chacha20::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sha2::{Digest, Sha256};

use super::{
    action::Action,
    event::{Event, Firing, RuleStatus, Trace},
    feed::{Fed, Feed},
    plan::{MachineDevice, Plan, Rule, START},
    table::{Point, interest},
    timeline::{Happening, Occurrence, Timeline},
};
use crate::machine_events::MachineEvents;

/// The most firings on record: further ones are only counted.
const MOST_FIRINGS: usize = 100_000;

/// The most changed bytes on record, over all firings: as many as a single firing can have. Further ones are only counted.
const MOST_CHANGES: usize = 1 << 20;

/// An active plan, shared by everything that consults it. Rules can be added and removed meanwhile.
#[derive(Debug, Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The interests of all rules. A point without interest does not take the lock.
    interests: AtomicU64,
    state: Mutex<State>,
    /// For those who listen while the machine runs.
    feed: Feed,
    /// The devices of the machine, in the order of a trace.
    devices: Vec<MachineDevice>,
}

#[derive(Debug)]
struct State {
    plan: String,
    seed: u64,
    rules: Vec<(Rule, Counts)>,
    state: String,
    /// The last mark that the guest made.
    mark: Option<String>,
    timeline: Option<Timeline>,
    firings: Vec<Firing>,
    /// The number of firings that found no room on record.
    more: u64,
    /// The number of changed bytes on record.
    changes: usize,
    /// The number of changed bytes that found no room on record.
    more_changes: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    events: u64,
    firings: u64,
    /// The frames of its devices.
    frames: u64,
    /// It fires at the next event that it counts.
    triggered: bool,
}

/// Where an event comes from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The id of the device; none for an event of a CMA window.
    pub(super) device: Option<Arc<str>>,
    /// The name of that window, or of the window that the device uses.
    pub(super) window: Option<Arc<str>>,
}

/// A rule that fires at an event.
pub(super) struct Fired {
    pub(super) action: Action,
    /// The random numbers for the choices that the action leaves open.
    pub(super) random: ChaCha8Rng,
    /// Where the firing is on record.
    pub(super) firing: Option<usize>,
}

impl Faults {
    /// Begins `plan`. Random choices depend on `seed`.
    pub fn new(plan: Plan, seed: u64) -> Self {
        Self::of_machine(plan, seed, Vec::new(), false)
    }

    /// Begins `plan` for a machine with these devices; with a timeline if `recorded`.
    pub fn of_machine(plan: Plan, seed: u64, devices: Vec<MachineDevice>, recorded: bool) -> Self {
        let state = State {
            plan: plan.text,
            seed,
            rules: plan.rules.into_iter().map(|rule| (rule, Counts::default())).collect(),
            state: START.to_owned(),
            mark: None,
            timeline: recorded.then(Timeline::new),
            firings: Vec::new(),
            more: 0,
            changes: 0,
            more_changes: 0,
        };
        let interests = AtomicU64::new(state.interests());
        Self {
            shared: Arc::new(Shared { interests, state: Mutex::new(state), feed: Feed::default(), devices }),
        }
    }

    /// Whether a rule may have something to say at `point`.
    #[inline]
    pub(super) fn acts_on(&self, point: &Point) -> bool {
        self.shared.interests.load(Ordering::Relaxed) & point.interest() != 0
    }

    /// The rule that fires at `event`, if one does.
    pub(super) fn consult(&self, source: &Source, point: &'static Point, event: Event) -> Option<Fired> {
        self.state().consult(&self.shared.feed, source, point, event)
    }

    /// The guest marks where it is.
    pub fn mark(&self, text: &str) {
        let mut state = self.state();
        state.mark = Some(text.to_owned());
        let mark = || Happening::Mark(text.to_owned());
        state.note(mark);
        self.shared.feed.note(mark);
    }

    /// The device of `source` raises its interrupt.
    pub(super) fn interrupted(&self, source: &Source) {
        // Only a timeline wants to know, and with one all interests are set.
        if self.shared.interests.load(Ordering::Relaxed) == u64::MAX
            && let Some(device) = &source.device
        {
            self.state().note(|| Happening::Interrupt(device.clone()));
        }
    }

    /// The guest resets the device of `source`.
    pub(super) fn was_reset(&self, source: &Source) {
        let Some(device) = &source.device else { return };
        let reset = || Happening::Reset(device.clone());
        self.shared.feed.note(reset);
        if self.shared.interests.load(Ordering::Relaxed) == u64::MAX {
            self.state().note(reset);
        }
    }

    /// Somebody listens to what happens from now on: firings, marks and resets. The first moment that
    /// [`take_moments`](Self::take_moments) has not taken wakes the event loop by `wakes`.
    pub fn begin_listening(&self, wakes: Arc<MachineEvents>) {
        self.shared.feed.begin(wakes);
    }

    /// Nobody listens any more.
    pub fn end_listening(&self) {
        self.shared.feed.end();
    }

    /// What happened since the last call, for those who listen.
    pub fn take_moments(&self) -> Fed {
        self.shared.feed.take()
    }

    /// What happened so far, if a timeline is kept. It ends here.
    pub fn take_timeline(&self) -> Option<Timeline> {
        self.state().timeline.take()
    }

    /// The devices of the machine.
    pub fn devices(&self) -> &[MachineDevice] {
        &self.shared.devices
    }

    /// Adds the rules of `plan` behind the present ones; they count from now on.
    ///
    /// # Errors
    /// The name of a rule that is there already. Then nothing is added.
    pub fn add(&self, plan: Plan) -> Result<(), String> {
        let mut state = self.state();
        let is_there = |rule: &Rule| state.rules.iter().any(|(other, _)| other.name == rule.name);
        if let Some(rule) = plan.rules.iter().find(|rule| is_there(rule)) {
            return Err(rule.name.clone());
        }
        state.plan += "\n# Added while the machine ran:\n";
        state.plan += &plan.text;
        state.rules.extend(plan.rules.into_iter().map(|rule| (rule, Counts::default())));
        self.shared.interests.store(state.interests(), Ordering::Relaxed);
        Ok(())
    }

    /// Removes the rule `name`; returns false if no rule has this name. Its firings stay on record.
    pub fn remove(&self, name: &str) -> bool {
        let mut state = self.state();
        let before = state.rules.len();
        state.rules.retain(|(rule, _)| rule.name != name);
        self.shared.interests.store(state.interests(), Ordering::Relaxed);
        state.rules.len() < before
    }

    /// Lets the rule `name` fire at the next event that it counts, regardless of its `when` and `times`; returns false if
    /// no rule has this name.
    pub fn trigger(&self, name: &str) -> bool {
        let mut state = self.state();
        let rule = state.rules.iter_mut().find(|(rule, _)| rule.name == name);
        rule.map(|(_, counts)| counts.triggered = true).is_some()
    }

    /// The rules, in their order.
    pub fn rules(&self) -> Vec<RuleStatus> {
        let status = |(rule, counts): &(Rule, Counts)| RuleStatus {
            name: rule.name.clone(),
            on: rule.on.into(),
            action: rule.action.clone(),
            events: counts.events,
            firings: counts.firings,
        };
        self.state().rules.iter().map(status).collect()
    }

    /// Adds to the record of the firing `index`.
    pub(super) fn record(&self, index: usize, put: impl FnOnce(&mut Firing)) {
        let mut state = self.state();
        let State { firings, changes, more_changes, .. } = &mut *state;
        let Some(firing) = firings.get_mut(index) else { return };
        *changes -= firing.changes.len();
        put(firing);
        let put = firing.changes.len();
        if put > MOST_CHANGES - *changes {
            firing.changes.truncate(MOST_CHANGES - *changes);
            firing.changes.shrink_to_fit();
        }
        *changes += firing.changes.len();
        *more_changes += (put - firing.changes.len()) as u64;
    }

    /// The record so far, in an order that does not depend on which thread came first.
    pub fn trace(&self) -> Trace {
        let state = self.state();
        let mut firings = state.firings.clone();
        let place = |name: &str| state.rules.iter().position(|(rule, _)| rule.name == name);
        let device = |id: &str| self.devices().iter().position(|device| device.id == id);
        firings.sort_by_cached_key(|firing| {
            let id = firing.device.clone();
            let of = id.as_deref().map(|id| device(id).unwrap_or(usize::MAX));
            (of, id, firing.frame, place(&firing.rule), firing.event)
        });
        let State { plan, seed, more, more_changes, .. } = &*state;
        Trace { plan: plan.clone(), seed: *seed, firings, more: *more, more_changes: *more_changes }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The points that rules or the timeline are interested in.
    fn interests(&self) -> u64 {
        if self.timeline.is_some() {
            return u64::MAX;
        }
        let of = |(rule, _): &(Rule, Counts)| interest(rule.on, rule.when.after.is_some());
        self.rules.iter().map(of).fold(0, |all, one| all | one)
    }

    fn consult(
        &mut self,
        feed: &Feed,
        source: &Source,
        point: &'static Point,
        event: Event,
    ) -> Option<Fired> {
        let occurrence = || Occurrence { device: source.device.clone(), point, event };
        self.note(|| Happening::Event(occurrence()));
        let Self { rules, state, mark, seed, .. } = self;
        let mut fired = None;
        for (index, (rule, counts)) in rules.iter_mut().enumerate() {
            if !rule.is_of(source) {
                continue;
            }
            counts.frames += u64::from(point.scope.tick);
            if rule.counts(point, &event, *counts, state, mark.as_deref()) {
                counts.events += 1;
                if fired.is_none() && (counts.triggered || rule.fires(*counts, *seed)) {
                    counts.triggered = false;
                    counts.firings += 1;
                    fired = Some((index, counts.events));
                }
            }
        }
        let (index, number) = fired?;
        let rule = &self.rules[index].0.clone();
        if let Some(next) = &rule.next_state {
            self.state.clone_from(next);
        }
        let window = || source.window.clone().filter(|_| source.device.is_none());
        let happening = || Happening::Fired {
            at: occurrence(),
            rule: rule.name.clone(),
            number,
            window: window(),
            action: rule.action.name().to_owned(),
        };
        self.note(happening);
        feed.note(happening);
        let firing = if self.firings.len() < MOST_FIRINGS {
            self.firings.push(Firing {
                device: source.device.as_deref().map(ToOwned::to_owned),
                window: window().as_deref().map(ToOwned::to_owned),
                frame: event.frame,
                on: point.name.into(),
                rule: rule.name.clone(),
                event: number,
                channel: event.channel,
                register: event.register,
                accessed: event.value,
                action: rule.action.clone(),
                address: None,
                changes: Vec::new(),
            });
            Some(self.firings.len() - 1)
        } else {
            self.more += 1;
            None
        };
        let mut random = generator(self.seed, &rule.name, number);
        // The first number decided whether the rule fires.
        random.next_u64();
        Some(Fired { action: rule.action.clone(), random, firing })
    }

    /// Puts something on the timeline, if there is one.
    fn note(&mut self, happening: impl FnOnce() -> Happening) {
        if let Some(timeline) = &mut self.timeline {
            timeline.note(happening());
        }
    }
}

impl Rule {
    /// Whether an event of `source` is of its device and window.
    fn is_of(&self, source: &Source) -> bool {
        (self.device.is_none() || self.device.as_deref() == source.device.as_deref())
            && (self.window.is_none() || self.window.as_deref() == source.window.as_deref())
    }

    /// Whether it counts `event`, which is of its device.
    fn counts(&self, point: &Point, event: &Event, counts: Counts, state: &str, mark: Option<&str>) -> bool {
        let is = |wanted: Option<u32>, is: Option<u32>| wanted.is_none() || wanted == is;
        let when = &self.when;
        self.on == point.name
            && point.takes(&self.action)
            && is(self.channel, event.channel)
            && is(when.register, event.register)
            && is(when.value, event.value)
            && self.state.as_deref().is_none_or(|wanted| wanted == state)
            && (when.mark.is_none() || when.mark.as_deref() == mark)
            && when.after.is_none_or(|after| counts.frames > after)
            && when
                .frames
                .as_ref()
                .is_none_or(|frames| event.frame.is_some_and(|frame| frames.contains(&frame)))
    }

    /// Whether it fires at the event that it counted last.
    fn fires(&self, counts: Counts, seed: u64) -> bool {
        let when = &self.when;
        self.times.is_none_or(|times| counts.firings < times)
            && when.nth.is_none_or(|nth| counts.events == nth)
            && when.every.is_none_or(|every| counts.events.is_multiple_of(every))
            && when.probability.is_none_or(|probability| {
                // The upper 53 bits, as many as a float has: from 0 to just below 1.
                let chance = (generator(seed, &self.name, counts.events).next_u64() >> 11) as f64
                    / (1_u64 << 53) as f64;
                chance < probability
            })
    }
}

/// The random numbers of a rule for an event. They do not depend on other rules and events.
fn generator(seed: u64, rule: &str, event: u64) -> ChaCha8Rng {
    let key = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(rule).finalize();
    let mut generator = ChaCha8Rng::from_seed(key.into());
    generator.set_stream(event);
    generator
}

#[cfg(test)]
mod tests;
