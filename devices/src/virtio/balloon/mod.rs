//! The balloon (virtio 1.2, section 5.5): the guest gives memory that it does not use back to the host.
//!
//! The host asks for a balloon of a size. The guest's driver takes as many pages from its own kernel and names them: the device gives
//! them back to the host ([`DmaPort::discard`](crate::dma::DmaPort::discard)). Pages that the guest takes out of the balloon are memory
//! again when it touches them. A driver also reports free pages that are in no balloon, in large blocks, and they go back likewise.
//!
//! A balloon is a request and no limit: a guest that touches a page of the balloon has it again. It concerns no memory but the guest's
//! own, so a hostile guest harms nobody but itself.
//!
//! The features, and why:
//!
//! - `VIRTIO_BALLOON_F_STATS_VQ`: the guest sends its statistics of memory.
//! - `VIRTIO_BALLOON_F_DEFLATE_ON_OOM`, unless `deflate-on-oom=no`: the guest takes pages back before it kills a program. Linux then
//!   leaves MemTotal as it is; without the feature MemTotal falls by the pages in the balloon.
//! - `VIRTIO_BALLOON_F_REPORTING`, unless `reporting=no`.
//! - `VIRTIO_BALLOON_F_PAGE_POISON`: Linux with `init_on_free=1` or `page_poison=1` expects a value in free pages, and reports pages
//!   to no device without this feature. Memory that went back contains zeroes, so the device keeps reported pages if the value is
//!   another.
//! - Not `VIRTIO_BALLOON_F_MUST_TELL_HOST`: a page is memory as soon as it is touched, before the device hears of it.
//! - Not `VIRTIO_BALLOON_F_FREE_PAGE_HINT`, which is for migration.
//!
//! A thread of the device gives memory back, in short passes: a vCPU that resets the device waits for one pass at most. `BALLOON.md`
//! beside this file is the user's page.

mod device;
mod pages;
mod size;
mod spec;
mod statistics;
#[cfg(test)]
mod tests;

pub use device::{Balloon, Options};
pub use spec::{BalloonSpec, REGISTRATION};
