//! The vector for every machine. It defines the result of each operation.

use super::operations::{LANES, Vector};

/// A vector for every machine, without vector instructions.
#[derive(Clone, Copy)]
pub(crate) struct Scalar([i16; 8]);

impl Scalar {
    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(i16, i16) -> i16) -> Self {
        let mut result = self;
        for i in 0..8 {
            result.0[i] = operation(self.0[i], other.0[i]);
        }
        result
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the arithmetic is that of 16 bits"
)]
impl Vector for Scalar {
    const STEPS: usize = LANES / 8;

    #[inline(always)]
    fn load(values: &[i16; LANES], step: usize) -> Self {
        Self(values.as_chunks().0[step])
    }

    #[inline(always)]
    fn store(self, values: &mut [i16; LANES], step: usize) {
        values.as_chunks_mut().0[step] = self.0;
    }

    #[inline(always)]
    fn splat(value: i16) -> Self {
        Self([value; 8])
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, i16::wrapping_add)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, i16::wrapping_sub)
    }

    #[inline(always)]
    fn saturating_add(self, other: Self) -> Self {
        self.zip(other, i16::saturating_add)
    }

    #[inline(always)]
    fn saturating_sub(self, other: Self) -> Self {
        self.zip(other, i16::saturating_sub)
    }

    #[inline(always)]
    fn mean(self, other: Self) -> Self {
        self.zip(other, |a, b| ((u32::from(a as u16) + u32::from(b as u16) + 1) >> 1) as i16)
    }

    #[inline(always)]
    fn scale(self, other: Self) -> Self {
        self.zip(other, |a, b| ((i32::from(a) * i32::from(b) + (1 << 14)) >> 15) as i16)
    }

    #[inline(always)]
    fn high(self, other: Self) -> Self {
        self.zip(other, |a, b| ((u32::from(a as u16) * u32::from(b as u16)) >> 16) as i16)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, std::cmp::Ord::min)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, std::cmp::Ord::max)
    }

    #[inline(always)]
    fn min_unsigned(self, other: Self) -> Self {
        self.zip(other, |a, b| (a as u16).min(b as u16) as i16)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    #[inline(always)]
    fn shl(self, bits: u32) -> Self {
        self.zip(self, |a, _| a.wrapping_shl(bits))
    }

    #[inline(always)]
    fn shr<const BITS: u32>(self) -> Self {
        self.zip(self, |a, _| a >> BITS)
    }

    #[inline(always)]
    fn if_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
        let mut result = otherwise;
        for i in 0..8 {
            result.0[i] = if self.0[i] > other.0[i] { then.0[i] } else { otherwise.0[i] };
        }
        result
    }
}
