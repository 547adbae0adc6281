//! The layouts of raw samples in memory: bytes, little-endian words of 16 bits, and the packing of MIPI CSI-2.

/// A layout of raw samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A byte for each sample of 8 bits.
    Bytes,
    /// A word of 16 bits for each sample, which is in the low bits.
    Words,
    /// RAW10 or RAW12 of MIPI CSI-2: the upper eight bits of four samples, or of two, and then a byte with their lower bits
    /// (CSI-2 specification, sections 11.4.4 and 11.4.5; `V4L2_PIX_FMT_SRGGB10P` and `V4L2_PIX_FMT_SRGGB12P`).
    Mipi,
}

impl Packing {
    /// Packs a line of samples of `bits` bits. An incomplete last group is filled with zeros.
    pub fn pack(self, samples: &[u16], bits: u32, line: &mut [u8]) {
        let upper = |sample: u16| (sample >> (bits - 8)).to_le_bytes()[0];
        match (self, bits) {
            (Self::Bytes, _) => {
                for (byte, &sample) in line.iter_mut().zip(samples) {
                    *byte = upper(sample);
                }
            }
            (Self::Words, _) => {
                for (word, sample) in line.as_chunks_mut().0.iter_mut().zip(samples) {
                    *word = sample.to_le_bytes();
                }
            }
            (Self::Mipi, 10) => groups(samples, line, |[a, b, c, d]: [u16; 4]| {
                let lower = (a & 3) | (b & 3) << 2 | (c & 3) << 4 | (d & 3) << 6;
                [upper(a), upper(b), upper(c), upper(d), lower.to_le_bytes()[0]]
            }),
            (Self::Mipi, _) => groups(samples, line, |[a, b]: [u16; 2]| {
                let lower = (a & 15) | (b & 15) << 4;
                [upper(a), upper(b), lower.to_le_bytes()[0]]
            }),
        }
    }

    /// Reads the samples of `bits` bits of a packed line.
    pub fn unpack(self, line: &[u8], bits: u32, samples: &mut [u16]) {
        match (self, bits) {
            (Self::Bytes, _) => {
                for (sample, &byte) in samples.iter_mut().zip(line) {
                    *sample = u16::from(byte) << (bits - 8);
                }
            }
            (Self::Words, _) => {
                for (sample, word) in samples.iter_mut().zip(line.as_chunks().0) {
                    // The bits above those of a sample have no meaning.
                    *sample = u16::from_le_bytes(*word) & ((1 << bits) - 1);
                }
            }
            (Self::Mipi, 10) => ungroup(line, samples, |[a, b, c, d, lower]: [u8; 5]| {
                let low = |at: u32| u16::from(lower >> (2 * at) & 3);
                [(a, 0), (b, 1), (c, 2), (d, 3)].map(|(upper, at)| u16::from(upper) << 2 | low(at))
            }),
            (Self::Mipi, _) => ungroup(line, samples, |[a, b, lower]: [u8; 3]| {
                let low = |at: u32| u16::from(lower >> (4 * at) & 15);
                [(a, 0), (b, 1)].map(|(upper, at)| u16::from(upper) << 4 | low(at))
            }),
        }
    }
}

/// Reads groups of `N` samples from `M` bytes each.
fn ungroup<const N: usize, const M: usize>(
    line: &[u8],
    samples: &mut [u16],
    unpack: impl Fn([u8; M]) -> [u16; N],
) {
    for (samples, bytes) in samples.chunks_mut(N).zip(line.as_chunks().0) {
        samples.copy_from_slice(&unpack(*bytes)[..samples.len()]);
    }
}

/// Packs groups of `N` samples into `M` bytes each.
fn groups<const N: usize, const M: usize>(
    samples: &[u16],
    line: &mut [u8],
    pack: impl Fn([u16; N]) -> [u8; M],
) {
    let (whole, rest) = samples.as_chunks();
    let mut last = [0; N];
    last[..rest.len()].copy_from_slice(rest);
    for (bytes, &group) in line.as_chunks_mut().0.iter_mut().zip(whole.iter().chain([&last])) {
        *bytes = pack(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_packed_as_the_specifications_say() {
        fn packed<const N: usize>(packing: Packing, bits: u32, samples: &[u16]) -> [u8; N] {
            let mut line = [0xee; N];
            packing.pack(samples, bits, &mut line);
            line
        }
        let samples = [0x3ff, 0x001, 0x156, 0x2aa];
        assert_eq!(packed(Packing::Words, 10, &samples), [0xff, 3, 1, 0, 0x56, 1, 0xaa, 2]);
        assert_eq!(packed(Packing::Mipi, 10, &samples), [0xff, 0, 0x55, 0xaa, 0b10_10_01_11]);
        assert_eq!(packed(Packing::Mipi, 10, &samples[..2]), [0xff, 0, 0, 0, 0b01_11]);
        assert_eq!(packed(Packing::Mipi, 12, &[0xabc, 0x123]), [0xab, 0x12, 0x3c]);
        assert_eq!(packed(Packing::Bytes, 8, &[0xab, 0x12]), [0xab, 0x12]);
        assert_eq!(packed(Packing::Bytes, 10, &samples), [0xff, 0, 0x55, 0xaa]);
    }

    #[test]
    fn unpacking_undoes_packing() {
        for (packing, bits, bytes) in [
            (Packing::Bytes, 8, 6),
            (Packing::Words, 12, 12),
            (Packing::Mipi, 10, 10),
            (Packing::Mipi, 12, 9),
        ] {
            let samples: [u16; 6] = std::array::from_fn(|at| (0x5a3c_u16 >> at) & ((1 << bits) - 1));
            let (mut line, mut read) = (vec![0xee; bytes], [0; 6]);
            packing.pack(&samples, bits, &mut line);
            packing.unpack(&line, bits, &mut read);
            assert_eq!(read, samples, "{packing:?} {bits}");
        }
    }
}
