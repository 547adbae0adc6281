//! Faults on purpose: what a device does wrong, by a plan.
//!
//! A [`Plan`] is a list of rules in TOML. A device that has one consults it at named points ([`Point`]): a rule says at
//! which of the events there it fires, and what then goes wrong ([`Action`]). Events are counted, not timed, and a random
//! choice depends on the seed, the rule's name and the event's number alone: the same plan and seed do the same again, and a
//! rule more changes nothing of what others do. What fired is on record ([`Firing`]). A device without a plan asks nobody.

mod engine;
pub mod fields;
mod plan;
mod read;
mod timeline;

pub use engine::{Change, Event, Fault, Faults, Firing, RuleStatus, Trace};
pub use fields::PlanError;
pub use plan::{Action, Device, Plan, Point, Rule, START, When, actions, reference};
pub use read::rules;
pub use timeline::{Moment, What};
