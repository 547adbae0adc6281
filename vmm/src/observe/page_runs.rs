//! Bitmaps of pages as runs.

/// The set bits of `bitmap` as runs of (first, count).
pub fn runs(bitmap: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (word, bits) in (0_u64..).zip(bitmap) {
        for bit in (0..64).filter(|bit| bits >> bit & 1 == 1) {
            let page = word * 64 + bit;
            match runs.last_mut() {
                Some((first, count)) if *first + *count == page => *count += 1,
                _ => runs.push((page, 1)),
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cross_words() {
        assert_eq!(runs(&[0b0110 | 1 << 63, 0b1011]), [(1, 2), (63, 3), (67, 1)]);
        assert_eq!(runs(&[]), []);
    }
}
