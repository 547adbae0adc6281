//! Folders of the host in the guest: virtio-fs (virtio 1.2, section 5.11), served by the program `virtiofsd`.

mod spec;
mod tag;
mod virtiofsd;

pub use spec::{REGISTRATION, ShareSpec};
pub use tag::{Tag, TagError};
pub use virtiofsd::StartError;
