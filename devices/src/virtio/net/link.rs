//! The host's side of a network device: where frames go, and where they come from.

use std::{io, os::fd::RawFd};

/// The length of struct virtio_net_hdr_v1, with which every frame on the queues begins.
pub(super) const HEADER: usize = 12;

/// The longest frame in bytes: a segment of 64 KiB that offloads join, with its Ethernet header and a VLAN tag.
pub(super) const FRAME_MAX: usize = (64 << 10) + 18;
/// The shortest frame: two addresses and a type.
pub(super) const FRAME_MIN: usize = 14;

/// What became of a frame for the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way.
    Yes,
    /// There is no room now: the same frame has to be sent again later.
    Later,
    /// The host dropped it.
    Dropped,
}

/// A connection to a network of the host. No method waits.
///
/// A frame has its header of [`HEADER`] bytes before it. An error means that the connection is broken, for good.
pub(super) trait Link: Send {
    /// Readable if a frame may have come, and writable if there may be room.
    fn fd(&self) -> RawFd;

    /// The offloads that it can do (`VIRTIO_NET_F_*`).
    fn features(&self) -> u64;

    /// The largest packet in bytes, without the Ethernet header.
    fn mtu(&self) -> u16;

    /// The driver has chosen `features`.
    fn agree(&mut self, _features: u64) -> io::Result<()> {
        Ok(())
    }

    /// Puts the next frame into `frame`, which has room for the longest, and returns its length.
    fn receive(&mut self, frame: &mut [u8]) -> io::Result<Option<usize>>;

    /// Sends a frame.
    fn send(&mut self, frame: &[u8]) -> io::Result<Sent>;

    /// Hands over what was sent.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether something that was sent waits for room.
    fn is_waiting(&self) -> bool {
        false
    }
}
