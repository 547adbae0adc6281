//! The virtio devices and their transport.
//!
//! A device is a [`VirtioDevice`]: its type, and its processing of a queue. [`mmio::MmioTransport`] is everything
//! else: the registers, the negotiation, the queues' set-up, notifications and interrupts. A device's work happens on the
//! event loop's thread, that of a [`block::Disk`] on threads of its own. vCPU threads only touch registers.

use vmm_sys_util::eventfd::EventFd;

pub mod block;
pub mod console;
mod faults;
pub mod mmio;
mod platform;
pub mod queue;
pub mod request;
pub mod rng;

#[cfg(test)]
mod testing;

pub(crate) use faults::FAULTS;
use queue::{QueueError, Queues};

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

    /// The device's configuration space.
    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

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

    /// The [`host_event`](Self::host_event) came. The driver may not be ready: the queues are empty then.
    ///
    /// # Errors
    /// If the content of a queue is malformed.
    fn process_host_event(&mut self, _queues: &mut Queues<'_>) -> Result<(), QueueError> {
        Ok(())
    }
}
