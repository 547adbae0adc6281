//! Devices that another program of the host serves, by the protocol vhost-user.
//!
//! The transport is ours: registers, negotiation, the interrupt and its status. The program, the backend, maps guest memory, waits for
//! the driver's notifications on the eventfds of the doorbells, and processes the queues. It asks for an interrupt by an eventfd, which
//! wakes the thread of the `link`. That thread also sends the messages of the `protocol`. A vCPU that starts or resets the device
//! waits for it, at most for the link's time limit.
//!
//! A backend has all of guest memory. It is part of the machine, as the driver is part of the guest, but it cannot harm minivmm: what
//! it sends is checked, and if it ends or fails, the device says that it needs a reset.

mod device;
#[cfg(test)]
mod fake;
mod faults;
mod link;
mod protocol;
pub mod share;
mod spec;
#[cfg(test)]
mod tests;

pub use device::{Backend, ConfigSpace, Face, VhostUser};
pub use protocol::Failure;
pub use spec::{BackendSpec, REGISTRATION};
