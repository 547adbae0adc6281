//! Arithmetic of the kernels: 16 bits wide, of a form that compilers turn into one vector instruction each.

/// The largest linear value: 14 bits.
pub(super) const LINEAR_MAX: i16 = (1 << 14) - 1;

/// The largest value behind the tone curve: 255 in steps of 1/64.
pub(super) const CODED_MAX: i16 = 255 << 6;

#[inline(always)]
pub(super) fn add(a: i16, b: i16) -> i16 {
    a.wrapping_add(b)
}

#[inline(always)]
pub(super) fn sub(a: i16, b: i16) -> i16 {
    a.wrapping_sub(b)
}

/// The mean, rounded up, of two that are not negative.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean fits")]
pub(super) fn mean(a: i16, b: i16) -> i16 {
    (u32::from(a as u16).wrapping_add(u32::from(b as u16)).wrapping_add(1) >> 1) as i16
}

/// `a` times `b`, which is in steps of 2^-15, rounded. Not for -1 times -1.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "below 1 by 16 bits")]
pub(super) fn scale(a: i16, b: i16) -> i16 {
    (((i32::from(a) * i32::from(b)) >> 14).wrapping_add(1) >> 1) as i16
}

/// `value`, which is not negative, times `gain` in steps of 2^-14 and below 4, cut off at [`LINEAR_MAX`].
#[inline(always)]
#[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "14 bits")]
pub(super) fn amplify(value: i16, gain: u16) -> i16 {
    let product = (u32::from((value as u16) << 2).wrapping_mul(u32::from(gain)) >> 16) as u16;
    product.min(LINEAR_MAX as u16) as i16
}

#[inline(always)]
pub(super) fn clamp_linear(value: i16) -> i16 {
    value.clamp(0, LINEAR_MAX)
}

#[inline(always)]
pub(super) fn clamp_coded(value: i16) -> i16 {
    value.clamp(0, CODED_MAX)
}

/// A value behind the tone curve as a code of eight bits, in the lower half of a word.
#[inline(always)]
#[expect(clippy::cast_sign_loss, reason = "it is not negative")]
pub(super) fn code(value: i16) -> u16 {
    (add(value, 32) >> 6) as u16
}
