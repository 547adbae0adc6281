//! Access to guest memory: a device has access only through a [`DmaPort`].
//!
//! A port knows the device's DMA mask and the windows that the device may touch. It implements [`GuestMemory`](vm_memory::GuestMemory),
//! vm-memory's trait for memory behind an IOMMU: virtio queues and `Bytes` accesses work through it unchanged, and every access passes
//! [`DmaPort::check`] first. The port records the pages that were written, and it is where the faults of a plan hit transfers.

mod discard;
mod faults;
#[cfg(fuzzing)]
pub mod fuzzing;
mod port;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use discard::DiscardError;
pub(crate) use faults::{ReadFault, WriteFault};
pub use port::{CleanCaches, DmaError, DmaPort, DmaRefusal, RECORD_UNIT};
pub use read::DmaRead;
pub use write::DmaWrite;
