//! Vectors of aarch64: NEON's, which all machines of the architecture have.

use std::arch::aarch64::*;

use super::{LANES, Vector};

/// Eight values.
#[derive(Clone, Copy)]
pub(in super::super) struct Neon(int16x8_t);

#[inline(always)]
fn unsigned(a: int16x8_t) -> uint16x8_t {
    vreinterpretq_u16_s16(a)
}

#[inline(always)]
fn signed(a: uint16x8_t) -> int16x8_t {
    vreinterpretq_s16_u16(a)
}

/// A number of bits, which is far below 16.
#[inline(always)]
fn count(bits: u32) -> i16 {
    i16::from(bits.to_le_bytes()[0])
}

impl Vector for Neon {
    const STEPS: usize = LANES / 8;

    #[inline(always)]
    fn load(values: &[i16; LANES], step: usize) -> Self {
        let values: &[i16; 8] = &values.as_chunks().0[step];
        // SAFETY: it reads as many values as there are.
        Self(unsafe { vld1q_s16(values.as_ptr()) })
    }

    #[inline(always)]
    fn store(self, values: &mut [i16; LANES], step: usize) {
        let values: &mut [i16; 8] = &mut values.as_chunks_mut().0[step];
        // SAFETY: it writes as many values as there are.
        unsafe { vst1q_s16(values.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn splat(value: i16) -> Self {
        Self(vdupq_n_s16(value))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(vaddq_s16(self.0, other.0))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(vsubq_s16(self.0, other.0))
    }

    #[inline(always)]
    fn saturating_add(self, other: Self) -> Self {
        Self(vqaddq_s16(self.0, other.0))
    }

    #[inline(always)]
    fn saturating_sub(self, other: Self) -> Self {
        Self(vqsubq_s16(self.0, other.0))
    }

    #[inline(always)]
    fn mean(self, other: Self) -> Self {
        Self(signed(vrhaddq_u16(unsigned(self.0), unsigned(other.0))))
    }

    #[inline(always)]
    fn scale(self, other: Self) -> Self {
        Self(vqrdmulhq_s16(self.0, other.0))
    }

    #[inline(always)]
    fn high(self, other: Self) -> Self {
        Self({
            let (a, b) = (unsigned(self.0), unsigned(other.0));
            let low = vmull_u16(vget_low_u16(a), vget_low_u16(b));
            let products = (vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(vmull_high_u16(a, b)));
            // The upper half of each product.
            signed(vuzp2q_u16(products.0, products.1))
        })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(vminq_s16(self.0, other.0))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(vmaxq_s16(self.0, other.0))
    }

    #[inline(always)]
    fn min_unsigned(self, other: Self) -> Self {
        Self(signed(vminq_u16(unsigned(self.0), unsigned(other.0))))
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Self(vorrq_s16(self.0, other.0))
    }

    #[inline(always)]
    fn shl(self, bits: u32) -> Self {
        Self(vshlq_s16(self.0, vdupq_n_s16(count(bits))))
    }

    #[inline(always)]
    fn shr<const BITS: u32>(self) -> Self {
        Self(vshlq_s16(self.0, vdupq_n_s16(-count(BITS))))
    }

    #[inline(always)]
    fn if_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
        Self(vbslq_s16(vcgtq_s16(self.0, other.0), then.0, otherwise.0))
    }
}
