//! Empty images of qcow2, for tests: version 3, with clusters of 64 KiB (QEMU's docs/interop/qcow2.txt).

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// The part of the disk that an entry of the first table is for: a cluster of entries for clusters.
const PER_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
const HEADER_BYTES: u32 = 104;

/// Creates an image of a disk of `size` bytes. Its clusters are the header, the table of reference counts, a block of these, and
/// the first table.
///
/// # Errors
/// If the file cannot be written.
///
/// # Panics
/// If the first table does not fit in a cluster.
pub fn create(path: &Path, size: u64) -> io::Result<()> {
    let entries = u32::try_from(size.div_ceil(PER_ENTRY)).expect("the disk is small");
    assert!(u64::from(entries) <= CLUSTER / 8, "one cluster has the first table");
    let file = File::create(path)?;
    file.set_len(4 * CLUSTER)?;
    let mut header = b"QFI\xfb".to_vec();
    header.extend(3_u32.to_be_bytes());
    // No backing file.
    header.extend([0; 12]);
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    // No encryption; the first table; the table of reference counts; no snapshots; no features.
    header.extend([0, entries].map(u32::to_be_bytes).concat());
    header.extend([3 * CLUSTER, CLUSTER].map(u64::to_be_bytes).concat());
    header.extend(1_u32.to_be_bytes());
    header.extend([0; 12 + 24]);
    // Reference counts have 1 << 4 bits.
    header.extend([4, HEADER_BYTES].map(u32::to_be_bytes).concat());
    file.write_all_at(&header, 0)?;
    file.write_all_at(&(2 * CLUSTER).to_be_bytes(), CLUSTER)?;
    file.write_all_at(&[1_u16; 4].map(u16::to_be_bytes).concat(), 2 * CLUSTER)
}
