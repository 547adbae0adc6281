//! The ranges of values inside the ISP, and 16-bit arithmetic for kernels that the compiler vectorises.

/// The largest linear value: 14 bits.
pub(super) const LINEAR_MAX: i16 = (1 << 14) - 1;

/// The largest coded value, that is, a value behind the tone curve: 255 in units of 1/64.
pub(super) const CODED_MAX: i16 = 255 << 6;

/// The mean of two non-negative values, rounded up.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean fits")]
pub(super) fn mean(a: i16, b: i16) -> i16 {
    (u32::from(a as u16).wrapping_add(u32::from(b as u16)).wrapping_add(1) >> 1) as i16
}

/// The 8-bit code of a coded value, in the lower half of a word.
#[inline(always)]
#[expect(clippy::cast_sign_loss, reason = "a coded value is not negative")]
pub(super) fn code(value: i16) -> u16 {
    (value.wrapping_add(32) >> 6) as u16
}
