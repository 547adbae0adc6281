//! The socket device (virtio 1.2, section 5.10): streams between programs of the guest and of the host, without a network.
//!
//! The host's side is as Firecracker's (its docs/vsock.md). A program of the host connects to the device's Unix socket, sends
//! `CONNECT PORT\n`, and reads `OK PORT\n` when a program of the guest has accepted. A program of the guest that connects to port P of
//! the host (CID 2) reaches the program that listens at the Unix socket with `_P` behind the name of the device's.
//!
//! A thread of the device moves data, and never waits. What the guest sends is limited by the credit that it gets, what the host sends
//! stays in its socket until the guest has room. The number of connections has a limit.

mod connection;
mod device;
mod packet;
mod spec;
#[cfg(test)]
mod tests;

pub use device::Vsock;
pub use spec::{REGISTRATION, VsockSpec};
