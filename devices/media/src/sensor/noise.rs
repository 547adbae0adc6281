//! Noise of a sensor: normally distributed random numbers, a function of seed, frame and line.

use crate::random::split_mix;

/// The number of random numbers. A line has fewer pixels.
const LEN: usize = 1 << 14;

/// A table of random numbers with mean 0 and variance 1. Each line of each frame reads a different part of it. So lines can be
/// processed in any order, by several threads.
#[derive(Debug)]
pub(super) struct Noise {
    seed: u64,
    table: Vec<f32>,
}

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        // The sum of twelve uniform numbers between 0 and 1 has the variance 1, and is nearly normal. The sum of integers is the
        // same on every machine.
        let normal = |index| {
            let words = (3 * index..3 * index + 3).map(|word| split_mix(seed, word).to_le_bytes());
            let parts = words.flat_map(|bytes| bytes.as_chunks::<2>().0.to_vec());
            parts.map(|part| f64::from(u16::from_le_bytes(part))).sum::<f64>() / 65_536.0 - 6.0
        };
        let numbers: Vec<f64> = (0..LEN as u64).map(normal).collect();
        // Mean and variance of this sample differ a little from 0 and 1. They are corrected, so that they are right in every
        // long part of the table.
        let mean = numbers.iter().sum::<f64>() / LEN as f64;
        let deviation = (numbers.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / LEN as f64).sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "the precision suffices")]
        let mut table: Vec<f32> = numbers.iter().map(|n| ((n - mean) / deviation) as f32).collect();
        // The table is repeated, so that a line can begin anywhere in it.
        table.extend_from_within(..);
        Self { seed, table }
    }

    /// The [`LEN`] random numbers for line `y` of frame `sequence`.
    pub(super) fn line(&self, sequence: u32, y: u32) -> &[f32] {
        let index = u64::from(sequence) << 32 | u64::from(y);
        let start = (split_mix(self.seed ^ 0x5e_4507, index) >> 32) as usize % LEN;
        &self.table[start..start + LEN]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_normal() {
        let noise = Noise::new(1);
        let table = &noise.table[..LEN];
        let part = |limit: f32| table.iter().filter(|n| n.abs() < limit).count() as f64 / LEN as f64;
        for (limit, expected) in [(1.0, 0.6827), (2.0, 0.9545), (3.0, 0.9973)] {
            assert!((part(limit) - expected).abs() < 0.012, "{limit}: {}", part(limit));
        }
        assert!(table.iter().map(|&n| f64::from(n)).sum::<f64>().abs() < 1.0);
    }

    #[test]
    fn lines_differ_and_can_be_repeated() {
        let noise = Noise::new(1);
        assert_eq!(noise.line(3, 4), Noise::new(1).line(3, 4));
        assert_ne!(noise.line(3, 4)[..64], noise.line(3, 5)[..64]);
        assert_ne!(noise.line(3, 4)[..64], noise.line(4, 4)[..64]);
        assert_ne!(noise.line(3, 4)[..64], Noise::new(2).line(3, 4)[..64]);
    }
}
