//! Fields of registers.

/// The lowest `bits` of a word, up to 16.
pub(super) fn low(word: u32, bits: u32) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "the mask has at most 16 bits")]
    let field = (word & ((1 << bits) - 1)) as u16;
    field
}

/// The lowest `bits` of a word, up to 16, as a signed number.
pub(super) fn signed(word: u32, bits: u32) -> i16 {
    let unused = 16 - bits;
    (low(word, bits) << unused).cast_signed() >> unused
}

/// The lowest byte of a word.
pub(super) fn byte(word: u32) -> u8 {
    word.to_le_bytes()[0]
}
