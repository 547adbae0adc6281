//! Bits that are flipped by chance.

use chacha20::{ChaCha8Rng, rand_core::Rng as _};

use super::event::Change;

/// Flips this number of bits of `bytes`, which are copied from or to `address`, if that is known. Returns the changes there.
pub fn flip_bits(bytes: &mut [u8], bits: u32, random: &mut ChaCha8Rng, address: Option<u64>) -> Vec<Change> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let change = |_| {
        let bit = random.next_u64() % (8 * bytes.len() as u64);
        let at = bit / 8;
        let byte = &mut bytes[usize::try_from(at).ok()?];
        let before = *byte;
        *byte ^= 1 << (bit % 8);
        Some(Change { address: address? + at, before, after: *byte })
    };
    (0..bits).filter_map(change).collect()
}

/// Returns `value` with this number of bits flipped.
pub(super) fn flip_word(value: u32, bits: u32, random: &mut ChaCha8Rng) -> u32 {
    (0..bits).fold(value, |value, _| value ^ 1 << (random.next_u64() % 32))
}
