//! The pages that are in the balloon, and runs of page numbers.

use std::ops::Range;

/// The size of a page of the balloon, in bytes, whatever the guest's pages are (virtio 1.2, section 5.5.2).
pub(super) const PAGE: u64 = 4096;

/// A set of pages, a bit for each. It grows to the last page of RAM at most, as only pages of RAM are put in.
#[derive(Debug, Default)]
pub(super) struct Pages {
    words: Vec<u64>,
    count: u64,
}

impl Pages {
    /// The word of the page `number`, and the page's bit in it.
    fn place(number: u32) -> (usize, u64) {
        (number as usize / 64, 1 << (number % 64))
    }

    /// Puts a page in; false if it is in already.
    pub(super) fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = Self::place(number);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(is_new);
        is_new
    }

    /// Takes a page out; false if it is not in.
    pub(super) fn remove(&mut self, number: u32) -> bool {
        let (word, bit) = Self::place(number);
        let Some(word) = self.words.get_mut(word).filter(|word| **word & bit != 0) else { return false };
        *word &= !bit;
        self.count -= 1;
        true
    }

    /// Takes all pages out; their number.
    pub(super) fn clear(&mut self) -> u64 {
        std::mem::take(self).count
    }
}

/// The runs of adjacent pages among `numbers`, in ascending order: addresses of guest memory. A number that comes twice counts once.
pub(super) fn runs(numbers: &mut [u32]) -> impl Iterator<Item = Range<u64>> {
    numbers.sort_unstable();
    numbers.chunk_by(|one, next| next - one <= 1).filter_map(|run| {
        let (first, last) = (*run.first()?, *run.last()?);
        Some(u64::from(first) * PAGE..(u64::from(last) + 1) * PAGE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_in_once() {
        let mut pages = Pages::default();
        assert!(!pages.remove(5));
        assert_eq!([5, 5, 64, 1000].map(|number| pages.insert(number)), [true, false, true, true]);
        assert_eq!([5, 5, 6, 9999].map(|number| pages.remove(number)), [true, false, false, false]);
        assert_eq!((pages.clear(), pages.clear()), (2, 0));
        assert!(pages.insert(64));
    }

    #[test]
    fn adjacent_pages_are_one_run() {
        let found = |numbers: &[u32]| {
            let runs: Vec<_> =
                runs(&mut numbers.to_vec()).map(|run| (run.start / PAGE, run.end / PAGE)).collect();
            runs
        };
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[9, 7, 8, 3, 8]), [(3, 4), (7, 10)]);
        assert_eq!(found(&[u32::MAX, 0, u32::MAX - 1]), [(0, 1), (0xffff_fffe, 0x1_0000_0000)]);
    }
}
