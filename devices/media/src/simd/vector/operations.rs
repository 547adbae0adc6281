//! The operations of a vector.

/// Values of the widest vector. Line buffers hold a whole number of them.
pub(crate) const LANES: usize = 32;

/// The values of one register. [`LANES`] is a multiple of their number.
pub(crate) trait Vector: Copy {
    /// The number of vectors in [`LANES`] values.
    const STEPS: usize;

    /// Loads vector `step` of the values.
    fn load(values: &[i16; LANES], step: usize) -> Self;
    /// Stores it as vector `step` of the values.
    fn store(self, values: &mut [i16; LANES], step: usize);
    /// A vector with the same value in all lanes.
    fn splat(value: i16) -> Self;
    /// The sum, modulo 2^16.
    fn add(self, other: Self) -> Self;
    /// The difference, modulo 2^16.
    fn sub(self, other: Self) -> Self;
    /// The sum, saturated to 16 bits.
    fn saturating_add(self, other: Self) -> Self;
    /// The difference, saturated to 16 bits.
    fn saturating_sub(self, other: Self) -> Self;
    /// The mean of two non-negative values, rounded up.
    fn mean(self, other: Self) -> Self;
    /// The product, where `other` is in units of 2^-15, rounded. Not for -32768 times -32768.
    fn scale(self, other: Self) -> Self;
    /// The upper 16 bits of the product of unsigned values.
    fn high(self, other: Self) -> Self;
    /// The smaller value.
    fn min(self, other: Self) -> Self;
    /// The larger value.
    fn max(self, other: Self) -> Self;
    /// The smaller of two unsigned values.
    fn min_unsigned(self, other: Self) -> Self;
    /// The bitwise or.
    fn or(self, other: Self) -> Self;
    /// The product with `2^bits`, modulo 2^16.
    fn shl(self, bits: u32) -> Self;
    /// The quotient by `2^BITS`, rounded down.
    fn shr<const BITS: u32>(self) -> Self;
    /// `then` in lanes where this is greater than `other`, and `otherwise` in the others.
    fn if_greater(self, other: Self, then: Self, otherwise: Self) -> Self;

    /// The nearest value from `least` to `most`.
    #[inline(always)]
    fn clamp(self, least: i16, most: i16) -> Self {
        self.max(Self::splat(least)).min(Self::splat(most))
    }
}
