//! Vectors of x86_64: AVX2's and AVX-512's.

use std::arch::x86_64::*;

use super::{LANES, Vector};

/// A number of bits to shift by.
#[inline(always)]
fn count(bits: u32) -> __m128i {
    // SAFETY: all machines of the architecture have SSE2.
    unsafe { _mm_cvtsi32_si128(bits.cast_signed()) }
}

/// Writes a vector of which each operation is an instruction. Only kernels that were compiled for these instructions use it,
/// where the machine has them (`level::kernel!`).
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
        pub(in super::super) struct $name($register);

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

vector! {
    /// 16 values.
    Avx2(__m256i), 16,
    load(from) => _mm256_loadu_si256(from.cast());
    store(to, value) => _mm256_storeu_si256(to.cast(), value);
    splat(value) => _mm256_set1_epi16(value);
    {
    add => _mm256_add_epi16;
    sub => _mm256_sub_epi16;
    saturating_add => _mm256_adds_epi16;
    saturating_sub => _mm256_subs_epi16;
    mean => _mm256_avg_epu16;
    scale => _mm256_mulhrs_epi16;
    high => _mm256_mulhi_epu16;
    min => _mm256_min_epi16;
    max => _mm256_max_epi16;
    min_unsigned => _mm256_min_epu16;
    or => _mm256_or_si256;
    }
    shl(a, bits) => _mm256_sll_epi16(a, bits);
    shr(a, bits) => _mm256_sra_epi16(a, bits);
    greater(a, b) => _mm256_cmpgt_epi16(a, b);
    pick(mask, a, b) => _mm256_blendv_epi8(b, a, mask);
}

vector! {
    /// 32 values.
    Avx512(__m512i), 32,
    load(from) => _mm512_loadu_epi16(from);
    store(to, value) => _mm512_storeu_epi16(to, value);
    splat(value) => _mm512_set1_epi16(value);
    {
    add => _mm512_add_epi16;
    sub => _mm512_sub_epi16;
    saturating_add => _mm512_adds_epi16;
    saturating_sub => _mm512_subs_epi16;
    mean => _mm512_avg_epu16;
    scale => _mm512_mulhrs_epi16;
    high => _mm512_mulhi_epu16;
    min => _mm512_min_epi16;
    max => _mm512_max_epi16;
    min_unsigned => _mm512_min_epu16;
    or => _mm512_or_si512;
    }
    shl(a, bits) => _mm512_sll_epi16(a, bits);
    shr(a, bits) => _mm512_sra_epi16(a, bits);
    greater(a, b) => _mm512_cmpgt_epi16_mask(a, b);
    pick(mask, a, b) => _mm512_mask_mov_epi16(b, mask, a);
}
