//! The block device (virtio 1.2, section 5.2): a disk in a file of the host.
//!
//! A request's way: the driver's notification wakes the disk's own event loop ([`Disk`]), [`Block`] takes the request from its queue
//! and hands it to the pool (`pool`), a worker carries it out on the file (`media`, `content`), and gives it back to the queue. Only
//! workers wait for the file, and they hold no lock then: a slow file stops neither a vCPU nor other requests. A reset by the guest
//! waits for the requests that workers are at.

mod content;
mod device;
mod disk;
mod host_file;
mod limits;
mod media;
mod open;
mod pool;
mod spec;
#[cfg(test)]
mod tests;

pub use content::Format;
pub use device::Block;
pub use disk::Disk;
pub use limits::SECTOR;
pub use open::{DiskFile, OpenError};
pub use spec::{BlockSpec, DiskSpec, REGISTRATION};
