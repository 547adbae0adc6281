//! Fault injection: faults of devices, by a plan.
//!
//! A [`Plan`] is a list of rules in TOML. A device consults it at named points: a rule says at which of the events there it
//! fires, and what goes wrong then. Events are counted, not timed. A random choice depends on the seed, the rule's name and the
//! event's number alone: the same plan and seed do the same again, and another rule changes nothing of it. Each firing is on
//! record ([`Firing`]).
//!
//! This module knows no device. A device declares its points with [`fault_point!`], lists them in a [`Table`], and holds a
//! [`FaultHandle`]. The parser, the manual and the effect come from the same declaration: the effect is a `match` on the enum,
//! which does not compile while an action has no effect.
//!
//! ```
//! use devices::faults::{Event, FaultHandle, FaultPoint as _, Faults, Ids, Plan, SIGNED, Table, fault_point};
//!
//! fault_point! {
//!     /// A descriptor is done, and the device is about to say so: one event for each.
//!     enum Done = "descriptor.done" [channel] {
//!         /// The device does not say so.
//!         Lost = "lost",
//!         /// The device says that this many bytes more, or fewer, are done.
//!         Count { bytes: i64 in SIGNED } = "count",
//!     }
//! }
//!
//! static FAULTS: Table = Table {
//!     title: "Copy engine",
//!     ids: Ids::Numbered("copier"),
//!     windows: false,
//!     channels: 1,
//!     channel_names: &["descriptors"],
//!     points: &[Done::POINT],
//! };
//!
//! /// The number of bytes that the device says are done, if it says so.
//! fn said(faults: &FaultHandle, bytes: i64) -> Option<i64> {
//!     let Some(fault) = faults.consult::<Done>(Event::PLAIN.on_channel(0)) else { return Some(bytes) };
//!     match fault.action {
//!         Done::Lost => None,
//!         Done::Count { bytes: more } => Some(bytes + more),
//!     }
//! }
//!
//! let plan = "[[rule]]\nname = 'r'\non = 'descriptor.done'\naction = 'count'\nbytes = -8\nwhen = { nth = 2 }";
//! let faults = Faults::new(Plan::read(plan, &[&FAULTS])?, 1);
//! let handle = FaultHandle::new(faults.clone(), "copier0");
//! assert_eq!([said(&handle, 64), said(&handle, 64)], [Some(64), Some(56)]);
//! assert_eq!(said(&FaultHandle::none(), 64), Some(64));
//! assert_eq!(faults.trace().firings[0].device.as_deref(), Some("copier0"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod action;
mod bits;
mod engine;
mod event;
mod feed;
pub mod fields;
mod handle;
mod plan;
mod read;
mod reference;
mod registers;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod timeline;
mod vocabulary;

pub use action::Action;
pub use bits::flip_bits;
pub use engine::Faults;
pub use event::{Change, Event, Firing, RuleStatus, Trace};
pub use feed::Fed;
pub use fields::PlanError;
pub use handle::{Fault, FaultHandle};
pub use plan::{MachineDevice, Plan, Rule, START, When};
pub use read::rules;
pub use reference::reference;
pub use registers::{MmioRead, MmioWrite, RegisterWrite};
pub use table::{
    BITS, FaultPoint, Ids, Parameter, Point, Row, SEVERAL, SIGNED, Scope, Shown, Table, UNSIGNED, fault_point,
};
pub use timeline::{Happening, Moment, Occurrence, Timeline};
