//! What makes one virtio device different from another: the trait that each implements.

use std::os::fd::RawFd;

use virtio_bindings::{
    virtio_config::VIRTIO_F_VERSION_1,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};
use virtio_queue::Queue;
use vmm_sys_util::eventfd::EventFd;

use super::queue::{QueueError, Queues};
use crate::platform::{Counters, unchangeable};

/// What the transport and the rings can do.
pub(crate) const RING_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// What makes one virtio device different from another.
///
/// The transport calls one method at a time. An error of a `process_` method is the driver's doing (a malformed
/// queue): the device stops, and says that it needs a reset.
pub trait VirtioDevice: Send {
    /// The device's number in the virtio specification (`VIRTIO_ID_*`).
    fn id(&self) -> u32;

    /// The largest size of each of the device's queues, a power of two.
    fn queue_sizes(&self) -> Vec<u16>;

    /// The features of this kind of device, beside those of the transport and the rings.
    fn features(&self) -> u64 {
        0
    }

    /// The features of the transport and the rings that the device can do: some of `RING_FEATURES`.
    fn ring_features(&self) -> u64 {
        RING_FEATURES
    }

    /// The device's configuration space.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    /// The driver is about to be ready, with these `queues`. For a device whose queues another program processes.
    fn hand_over(&mut self, _queues: &[Queue]) {}
    /// The driver writes `data` at `offset` of the configuration space.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// The driver is ready, and both sides agreed on `features`.
    fn start(&mut self, _features: u64) {}

    /// The driver starts over: all is as before the first [`start`](Self::start).
    fn reset(&mut self) {}

    /// The driver made buffers available in queue `index`.
    ///
    /// # Errors
    /// If the content of the queue is malformed.
    fn process_queue(&mut self, index: usize, queues: &mut Queues<'_>) -> Result<(), QueueError>;

    /// Signalled when the host's side of the device has something for the guest.
    fn host_event(&self) -> Option<&EventFd> {
        None
    }

    /// A descriptor that is readable while the host's side has something for the guest, for a device whose thread polls it.
    fn host_poll(&self) -> Option<RawFd> {
        None
    }

    /// The [`host_event`](Self::host_event) came, or [`host_poll`](Self::host_poll) is readable. The driver may not be ready: the
    /// queues are empty then.
    ///
    /// # Errors
    /// If the content of a queue is malformed.
    fn process_host_event(&mut self, _queues: &mut Queues<'_>) -> Result<(), QueueError> {
        Ok(())
    }

    /// The user gives a key a new value while the machine runs, which changes the configuration space.
    ///
    /// # Errors
    /// As [`PlatformDevice::set`](crate::platform::PlatformDevice::set).
    fn set(&mut self, key: &str, _value: &str) -> Result<(), String> {
        Err(unchangeable(key))
    }

    /// What the device counts.
    fn counters(&self) -> Counters {
        Counters::new()
    }
}
