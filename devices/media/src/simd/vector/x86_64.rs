//! Vectors for x86_64, with AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::{
    implement::vector,
    operations::{LANES, Vector},
};

/// The operand of a shift by `bits`.
#[inline(always)]
fn count(bits: u32) -> __m128i {
    // SAFETY: every machine of the architecture has SSE2.
    unsafe { _mm_cvtsi32_si128(bits.cast_signed()) }
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
