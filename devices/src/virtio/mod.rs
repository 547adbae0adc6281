//! The virtio devices and their transport.
//!
//! A device is a [`VirtioDevice`]: its type, and its processing of a queue. [`mmio::MmioTransport`] is everything
//! else: the registers, the negotiation, the queues' set-up, notifications and interrupts. A device's work happens on the
//! event loop's thread, on threads of the device if it uses files or sockets of the host, or in another program
//! ([`vhost_user::VhostUser`]). vCPU threads only touch registers.

pub mod balloon;
pub mod block;
pub mod console;
mod device;
mod event_thread;
mod faults;
pub mod mmio;
pub mod net;
mod platform;
pub mod queue;
pub mod request;
pub mod rng;
mod served;
pub mod vhost_user;
pub mod vsock;

#[cfg(test)]
mod testing;

pub use device::VirtioDevice;
pub(crate) use faults::FAULTS;
