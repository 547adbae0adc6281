//! The sizes of requests, and of the pieces in which they are carried out.

use crate::virtio::queue::MAX_CHAIN_BYTES;

/// The unit of addresses and lengths, in bytes.
pub const SECTOR: u64 = 512;

pub(super) const QUEUE_SIZE: u16 = 256;
/// The most buffers with data in a request: beside them are the header and the status.
pub(super) const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// The largest buffer in bytes, so that no request is longer than a chain may be.
pub(super) const SEGMENT_BYTES: u32 = 1 << 16;
const _: () = assert!(SEGMENTS as u64 * (SEGMENT_BYTES as u64) + SECTOR <= MAX_CHAIN_BYTES);

/// How much is copied between the file and the guest at once, in bytes.
pub(super) const CHUNK: usize = 256 << 10;
