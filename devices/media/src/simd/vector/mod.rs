//! Vectors of 16-bit values, for kernels: the operations, and their implementation for each instruction set.
//!
//! Nearly every operation is one instruction of AVX2, AVX-512 and NEON, and its result is the same to the bit in all of them.
//! [`Scalar`] defines the result.

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

/// Implements [`Vector`] with the given instructions. Only kernels that are compiled for these instructions use the type, and
/// only where the machine has them (`level::kernel!`). A function `count` beside the use converts a number of bits to the
/// operand of the shifts.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! vector {
    (
        $(#[$attribute:meta])* $name:ident($register:ty), $lanes:literal,
        load($pointer:ident) => $load:expr; store($to:ident, $stored:ident) => $store:expr;
        splat($value:ident) => $splat:expr;
        { $($operation:ident => $instruction:ident;)* }
        shl($shl_a:ident, $bits:ident) => $shl:expr;
        shr($shr_a:ident, $shr_bits:ident) => $shr:expr;
        greater($left:ident, $right:ident) => $greater:expr;
        pick($mask:ident, $if:ident, $else:ident) => $pick:expr;
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name($register);

        impl Vector for $name {
            const STEPS: usize = LANES / $lanes;

            #[inline(always)]
            fn load(values: &[i16; LANES], step: usize) -> Self {
                let values: &[i16; $lanes] = &values.as_chunks().0[step];
                let $pointer = values.as_ptr();
                // SAFETY: it reads exactly the values of the array, without alignment, and the machine has the instruction.
                Self(unsafe { $load })
            }

            #[inline(always)]
            fn store(self, values: &mut [i16; LANES], step: usize) {
                let values: &mut [i16; $lanes] = &mut values.as_chunks_mut().0[step];
                let ($to, $stored) = (values.as_mut_ptr(), self.0);
                // SAFETY: it writes exactly the values of the array, without alignment, and the machine has the instruction.
                unsafe { $store }
            }

            #[inline(always)]
            fn splat($value: i16) -> Self {
                // SAFETY: the machine has the instruction.
                Self(unsafe { $splat })
            }

            $(
                #[inline(always)]
                fn $operation(self, other: Self) -> Self {
                    // SAFETY: the machine has the instruction.
                    Self(unsafe { $instruction(self.0, other.0) })
                }
            )*

            #[inline(always)]
            fn shl(self, bits: u32) -> Self {
                let ($shl_a, $bits) = (self.0, count(bits));
                // SAFETY: the machine has the instruction.
                Self(unsafe { $shl })
            }

            #[inline(always)]
            fn shr<const BITS: u32>(self) -> Self {
                let ($shr_a, $shr_bits) = (self.0, count(BITS));
                // SAFETY: the machine has the instruction.
                Self(unsafe { $shr })
            }

            #[inline(always)]
            fn if_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
                let ($left, $right) = (self.0, other.0);
                // SAFETY: the machine has the instruction.
                let $mask = unsafe { $greater };
                let ($if, $else) = (then.0, otherwise.0);
                // SAFETY: the machine has the instruction.
                Self(unsafe { $pick })
            }
        }
    };
}

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::Neon;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{Avx2, Avx512};
