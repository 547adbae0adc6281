//! Bytes that tests send through disks, shares and networks, and their hashes.

use sha2::{Digest as _, Sha256};

/// `count` bytes. No two words of 8 bytes are equal, so data at a wrong offset differs.
pub fn bytes(count: usize) -> Vec<u8> {
    let mut data = vec![0; count];
    // A loop over slices: an iterator of bytes takes minutes for gigabytes in an emulated lab.
    for (word, bytes) in (1_u64..).zip(data.chunks_mut(8)) {
        let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
    data
}

/// The SHA-256 hash as `sha256sum` prints it.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
