//! Vectors for aarch64, with NEON, which every machine of the architecture has.

use std::arch::aarch64::*;

use super::{
    implement::vector,
    operations::{LANES, Vector},
};

#[inline]
#[target_feature(enable = "neon")]
fn unsigned(a: int16x8_t) -> uint16x8_t {
    vreinterpretq_u16_s16(a)
}

#[inline]
#[target_feature(enable = "neon")]
fn signed(a: uint16x8_t) -> int16x8_t {
    vreinterpretq_s16_u16(a)
}

#[inline]
#[target_feature(enable = "neon")]
fn mean(a: int16x8_t, b: int16x8_t) -> int16x8_t {
    signed(vrhaddq_u16(unsigned(a), unsigned(b)))
}

#[inline]
#[target_feature(enable = "neon")]
fn min_unsigned(a: int16x8_t, b: int16x8_t) -> int16x8_t {
    signed(vminq_u16(unsigned(a), unsigned(b)))
}

/// The upper halves of the products of unsigned values.
#[inline]
#[target_feature(enable = "neon")]
fn high(a: int16x8_t, b: int16x8_t) -> int16x8_t {
    let (a, b) = (unsigned(a), unsigned(b));
    let low = vreinterpretq_u16_u32(vmull_u16(vget_low_u16(a), vget_low_u16(b)));
    signed(vuzp2q_u16(low, vreinterpretq_u16_u32(vmull_high_u16(a, b))))
}

#[inline]
#[target_feature(enable = "neon")]
fn shift_right(a: int16x8_t, bits: int16x8_t) -> int16x8_t {
    vshlq_s16(a, vnegq_s16(bits))
}

/// The operand of a shift by `bits`, which are below 16.
#[inline(always)]
fn count(bits: u32) -> int16x8_t {
    // SAFETY: the machine has the instruction.
    unsafe { vdupq_n_s16(i16::from(bits.to_le_bytes()[0])) }
}

vector! {
    /// Eight values.
    Neon(int16x8_t), 8,
    load(from) => vld1q_s16(from);
    store(to, value) => vst1q_s16(to, value);
    splat(value) => vdupq_n_s16(value);
    {
        add => vaddq_s16;
        sub => vsubq_s16;
        saturating_add => vqaddq_s16;
        saturating_sub => vqsubq_s16;
        mean => mean;
        scale => vqrdmulhq_s16;
        high => high;
        min => vminq_s16;
        max => vmaxq_s16;
        min_unsigned => min_unsigned;
        or => vorrq_s16;
    }
    shl(a, bits) => vshlq_s16(a, bits);
    shr(a, bits) => shift_right(a, bits);
    greater(a, b) => vcgtq_s16(a, b);
    pick(mask, a, b) => vbslq_s16(mask, a, b);
}
