//! The network device (virtio 1.2, section 5.1), on a network of the host: by passt (`stream`), or a tap device (`tap`).
//!
//! A thread of the device moves frames, and waits for nothing: a frame that the host does not take yet stays in the guest's queue, and
//! one that the guest has no buffer for stays on the host's side, where its socket or tap device has room for some. Frames are dropped
//! and counted while the guest has no driver or the link is down, and if they are malformed.
//!
//! The offloads are those that pay: to a tap device, the guest's checksums and segments (TSO) go as they are. passt has none of them; its
//! link has an MTU of 65520 bytes instead, so the guest's segments are as long. Buffers are mergeable: the driver offers small ones, and
//! a long frame takes several.
//!
//! passt sends a guest's echo request (ping) by a socket of the host, which the host permits to the groups of the sysctl
//! `net.ipv4.ping_group_range`. The passt of Debian 12 does not know 10.0.2.2 as the host then (its icmp.c): the request goes to the
//! address 10.0.2.2 of the host's network. Where QEMU's network is between, as in a lab, it returns the router's "destination unreachable"
//! as an echo reply with sequence number 0. When the guest has shut down its half of a connection, that passt does not tell it the host's
//! end after further data of the host, and resets the connection after a minute (its tcp.c).

mod device;
mod link;
mod passt;
mod spec;
mod stream;
mod tap;
#[cfg(test)]
mod tests;

pub use device::Net;
pub use passt::Forward;
pub use spec::{NetSpec, Network, REGISTRATION};
pub use tap::AGREE_REQUEST;
