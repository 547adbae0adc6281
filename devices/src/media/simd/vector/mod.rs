//! Vectors of 16-bit values: what the hot kernels are written in, and how each set of instructions does it.
//!
//! Each operation is one instruction of AVX2, AVX-512 and NEON, and the same to the bit in all of them; [`Scalar`] says what
//! it is.

/// Values of the widest vector. Line buffers hold a whole number of them.
pub(in crate::media) const LANES: usize = 32;

/// As many values as a register holds; [`LANES`] is a multiple of it.
pub(in crate::media) trait Vector: Copy {
    /// Its part of [`LANES`] values.
    const STEPS: usize;

    /// Part `step` of the values.
    fn load(values: &[i16; LANES], step: usize) -> Self;
    /// Becomes part `step` of the values.
    fn store(self, values: &mut [i16; LANES], step: usize);
    /// One value in all places.
    fn splat(value: i16) -> Self;
    /// The sum, cut to 16 bits.
    fn add(self, other: Self) -> Self;
    /// The difference, cut to 16 bits.
    fn sub(self, other: Self) -> Self;
    /// The sum, or what of 16 bits is nearest to it.
    fn saturating_add(self, other: Self) -> Self;
    /// The difference, or what of 16 bits is nearest to it.
    fn saturating_sub(self, other: Self) -> Self;
    /// The mean of two that are not negative, rounded up.
    fn mean(self, other: Self) -> Self;
    /// The product with what is in steps of 2^-15, rounded. Not for -1 times -1.
    fn scale(self, other: Self) -> Self;
    /// The upper 16 bits of the product, both without signs.
    fn high(self, other: Self) -> Self;
    /// The smaller one.
    fn min(self, other: Self) -> Self;
    /// The larger one.
    fn max(self, other: Self) -> Self;
    /// The smaller one, both without signs.
    fn min_unsigned(self, other: Self) -> Self;
    /// All bits of both.
    fn or(self, other: Self) -> Self;
    /// Multiplied by a power of two, cut to 16 bits.
    fn shl(self, bits: u32) -> Self;
    /// Divided by a power of two, rounded down.
    fn shr<const BITS: u32>(self) -> Self;
    /// `then` where this is larger than `other`, and `otherwise` elsewhere.
    fn if_greater(self, other: Self, then: Self, otherwise: Self) -> Self;

    /// The nearest of what lies between the two.
    #[inline(always)]
    fn clamp(self, least: i16, most: i16) -> Self {
        self.max(Self::splat(least)).min(Self::splat(most))
    }
}

/// What any machine can do.
#[derive(Clone, Copy)]
pub(in crate::media) struct Scalar([i16; 8]);

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
    reason = "this is the arithmetic of 16 bits"
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

/// Writes a vector of which each operation is an instruction. Only kernels that were compiled for these instructions use it,
/// where the machine has them (`level::kernel!`). `count`, beside its use, makes a number of bits what the shifts take.
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
        pub(in crate::media) struct $name($register);

        impl Vector for $name {
            const STEPS: usize = LANES / $lanes;

            #[inline(always)]
            fn load(values: &[i16; LANES], step: usize) -> Self {
                let values: &[i16; $lanes] = &values.as_chunks().0[step];
                let $pointer = values.as_ptr();
                // SAFETY: it reads as many values as there are, at any address, and the machine has the instruction.
                Self(unsafe { $load })
            }

            #[inline(always)]
            fn store(self, values: &mut [i16; LANES], step: usize) {
                let values: &mut [i16; $lanes] = &mut values.as_chunks_mut().0[step];
                let ($to, $stored) = (values.as_mut_ptr(), self.0);
                // SAFETY: it writes as many values as there are, to any address, and the machine has the instruction.
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
pub(in crate::media) use aarch64::Neon;
#[cfg(target_arch = "x86_64")]
pub(in crate::media) use x86_64::{Avx2, Avx512};
