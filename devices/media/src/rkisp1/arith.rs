//! The range of samples, and arithmetic modulo a word's size for kernels that the compiler vectorises.

pub(super) use std::num::Wrapping as W;

/// The largest sample: 12 bits.
pub(super) const MOST: i16 = (1 << 12) - 1;

/// A word of a kernel as 32 bits.
#[inline(always)]
pub(super) fn wide(value: i16) -> W<i32> {
    W(i32::from(value))
}

/// The nearest value from `least` to `most`, which have 16 bits.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the limits have 16 bits")]
pub(super) fn narrow(value: W<i32>, least: i16, most: i16) -> i16 {
    value.0.max(i32::from(least)).min(i32::from(most)) as i16
}

/// The nearest sample.
#[inline(always)]
pub(super) fn sample(value: W<i32>) -> i16 {
    narrow(value, 0, MOST)
}

/// The nearest code from `least` to `most`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the limits have 8 bits")]
pub(super) fn code(value: W<i32>, least: u8, most: u8) -> u8 {
    value.0.max(i32::from(least)).min(i32::from(most)) as u8
}

/// The absolute value of a difference of samples.
#[inline(always)]
pub(super) fn distance(a: i16, b: i16) -> i16 {
    a.wrapping_sub(b).wrapping_abs()
}
