//! How the samples of a raw line lie in memory: in bytes, in little-endian words of 16 bits, or packed as MIPI CSI-2 does.

/// A layout of raw samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A byte a sample, of 8 bits.
    Bytes,
    /// 16 bits a sample, in the low ones.
    Words,
    /// MIPI CSI-2's RAW10 or RAW12: the upper eight bits of four samples, or of two, then a byte with their lower ones
    /// (CSI-2 specification, sections 11.4.4 and 11.4.5; `V4L2_PIX_FMT_SRGGB10P` and `V4L2_PIX_FMT_SRGGB12P`).
    Mipi,
}

impl Packing {
    /// Packs a line of samples of `bits` bits; where the last group of the packing is not full, black fills it.
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
}

/// Packs each `N` samples into `M` bytes.
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
    fn samples_are_where_the_specifications_have_them() {
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
}
