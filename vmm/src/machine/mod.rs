//! The machine: memory, vCPUs and devices put together, run until something ends it.

mod answers;
mod captures;
pub mod config;
mod devices;
mod dump;
mod error;
mod event_loop;
mod events;
mod figures;
mod finish;
pub mod gdb;
mod holds;
pub mod kvm;
mod limits;
mod lock;
mod metrics;
mod places;
mod requests;
mod running;
pub mod signals;
mod start;
mod streams;
mod told;
mod trim;
pub mod vcpu;
pub mod wakeups;
pub mod watch;

pub use error::MachineError;
pub use places::{prepare_places, reserve_files};
pub use running::Machine;
pub use streams::Streams;
