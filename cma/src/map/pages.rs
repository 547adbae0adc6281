//! A set of pages of a window, in the format of the kernel's debugfs.

use std::ops::Range;

/// A set of pages, counted from the window's base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    words: Vec<u64>,
    /// Number of pages of the window. All members are below it.
    end: u64,
}

/// Why a text is not the bitmap of the window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// A word is not a number of 32 bits.
    #[error("word {index} of the bitmap is \"{word}\", not a decimal number below 2^32")]
    Word {
        /// Its index, from 0.
        index: u64,
        /// The beginning of its text, with control characters escaped.
        word: String,
    },
    /// The number of words is wrong.
    #[error("the bitmap has {found} words of 32 bits; a bitmap of {pages} pages has {wanted}")]
    Length {
        /// Number of words found.
        found: u64,
        /// Number of words expected.
        wanted: u64,
        /// Pages of the window.
        pages: u64,
    },
    /// A page is beyond the end of the window.
    #[error("the bitmap says that page {page} is allocated, but the window has {pages} pages")]
    Beyond {
        /// The page.
        page: u64,
        /// Pages of the window.
        pages: u64,
    },
}

impl Pages {
    /// The empty set, for a window of `pages` pages.
    pub fn empty(pages: u64) -> Self {
        // A set with more words than usize::MAX would not fit in memory.
        Self { words: vec![0; usize::try_from(pages.div_ceil(64)).unwrap_or(usize::MAX)], end: pages }
    }

    /// Number of pages of the window.
    pub fn window_pages(&self) -> u64 {
        self.end
    }

    /// Parses the format of `cma/NAME/bitmap` in debugfs: decimal words of 32 bits, the lowest bit first, with a bit for each
    /// of `pages` pages (order_per_bit is 0 for windows of the DMA API).
    ///
    /// # Errors
    /// If the text is not a bitmap of `pages` pages.
    ///
    /// ```
    /// # use cma::map::Pages;
    /// let pages = Pages::parse("6 0 1\n", 96)?;
    /// assert_eq!(pages.runs().collect::<Vec<_>>(), [1..3, 64..65]);
    /// # Ok::<(), cma::map::PageError>(())
    /// ```
    pub fn parse(text: &str, pages: u64) -> Result<Self, PageError> {
        let wanted = pages.div_ceil(32);
        let found = u64::try_from(text.split_ascii_whitespace().count()).unwrap_or(u64::MAX);
        if found != wanted {
            return Err(PageError::Length { found, wanted, pages });
        }
        let mut set = Self::empty(pages);
        for (index, word) in (0_u64..).zip(text.split_ascii_whitespace()) {
            let digits = word.bytes().all(|byte| byte.is_ascii_digit());
            let Some(bits) = word.parse::<u32>().ok().filter(|_| digits) else {
                let word = word.chars().take(40).flat_map(char::escape_debug).collect();
                return Err(PageError::Word { index, word });
            };
            if let Some(word) = set.words.get_mut(index_of(index / 2)) {
                *word |= u64::from(bits) << (index % 2 * 32);
            }
        }
        match set.words.last() {
            Some(last) if !pages.is_multiple_of(64) && last >> (pages % 64) != 0 => {
                let page = pages / 64 * 64 + u64::from(63 - last.leading_zeros());
                Err(PageError::Beyond { page, pages })
            }
            _ => Ok(set),
        }
    }

    /// Adds those of `pages` that are in the window.
    pub fn insert(&mut self, pages: Range<u64>) {
        for (word, mask) in masks(pages.start..pages.end.min(self.end)) {
            self.words[word] |= mask;
        }
    }

    /// Removes `pages`.
    pub fn remove(&mut self, pages: Range<u64>) {
        for (word, mask) in masks(pages.start..pages.end.min(self.end)) {
            self.words[word] &= !mask;
        }
    }

    /// The number of pages in the set.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The number of `pages` that are in the set.
    pub fn count_in(&self, pages: Range<u64>) -> u64 {
        masks(pages.start..pages.end.min(self.end))
            .map(|(word, mask)| u64::from((self.words[word] & mask).count_ones()))
            .sum()
    }

    /// The maximal runs of adjacent pages of the set, ascending.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        self.alternate(0)
    }

    /// The maximal runs of adjacent pages of the window that are not in the set, ascending.
    pub fn holes(&self) -> impl Iterator<Item = Range<u64>> {
        self.alternate(u64::MAX)
    }

    /// The longest hole: the first one if several have this length, empty without a hole.
    pub fn longest_hole(&self) -> Range<u64> {
        let longer = |best: Range<u64>, hole: Range<u64>| {
            if hole.end - hole.start > best.end - best.start { hole } else { best }
        };
        self.holes().fold(0..0, longer)
    }

    /// The first of `pages` that is in the set.
    pub fn first_in(&self, pages: Range<u64>) -> Option<u64> {
        self.next(pages, 0)
    }

    /// The last of `pages` that is in the set.
    pub fn last_in(&self, pages: Range<u64>) -> Option<u64> {
        let mut words = masks(pages.start..pages.end.min(self.end))
            .rev()
            .map(|(index, mask)| (index as u64 * 64, self.words[index] & mask));
        let (page, word) = words.find(|(_, word)| *word != 0)?;
        Some(page + u64::from(word.ilog2()))
    }

    /// The first of `pages` that is a page of the window and not in the set.
    pub fn first_not_in(&self, pages: Range<u64>) -> Option<u64> {
        self.next(pages, u64::MAX)
    }

    /// The runs of the set, or the holes if all bits of `flip` are set.
    fn alternate(&self, flip: u64) -> impl Iterator<Item = Range<u64>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let start = self.next(from..self.end, flip)?;
            let end = self.next(start..self.end, !flip).unwrap_or(self.end);
            from = end;
            Some(start..end)
        })
    }

    /// The first of `pages` that is in the set, or that is not if all bits of `flip` are set.
    fn next(&self, pages: Range<u64>, flip: u64) -> Option<u64> {
        let end = pages.end.min(self.end);
        if pages.start >= end {
            return None;
        }
        let (first, last) = (index_of(pages.start / 64), index_of(end.div_ceil(64)));
        let mut words = (pages.start / 64..).zip(&self.words[first..last]).map(|(index, word)| {
            let from = pages.start.saturating_sub(index * 64);
            (index, (word ^ flip) & (u64::MAX << from))
        });
        let (index, word) = words.find(|(_, word)| *word != 0)?;
        Some(index * 64 + u64::from(word.trailing_zeros())).filter(|page| *page < end)
    }
}

/// The words that `pages` lie in, each with the bits of these pages.
fn masks(pages: Range<u64>) -> impl DoubleEndedIterator<Item = (usize, u64)> {
    let words = if pages.is_empty() { 0..0 } else { pages.start / 64..pages.end.div_ceil(64) };
    words.map(move |word| {
        let from = pages.start.max(word * 64) % 64;
        let count = pages.end.min(word * 64 + 64) - word * 64 - from;
        (index_of(word), u64::MAX >> (64 - count) << from)
    })
}

/// An index into words. A value that does not fit in a usize becomes one beyond the end of every slice.
fn index_of(word: u64) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_text() {
        let pages = Pages::parse("4294967295 1 0\n", 96).unwrap();
        assert_eq!(pages.runs().collect::<Vec<_>>(), [0..33]);
        assert_eq!(pages.count(), 33);
        let pages = Pages::parse("0 0 2147483648 7", 99).unwrap();
        assert_eq!(pages.runs().collect::<Vec<_>>(), [95..99]);
        assert_eq!(Pages::parse("", 0).unwrap().runs().count(), 0);
    }

    #[test]
    fn hostile_texts_are_refused() {
        for text in ["x", "-1", "+1", "4294967296", "0x10", "1.0", "\u{661}"] {
            let error = Pages::parse(text, 32).unwrap_err();
            assert_eq!(error, PageError::Word { index: 0, word: text.into() });
        }
        for (text, found) in [("", 0), ("0", 1), ("0 0 0", 3)] {
            let error = Pages::parse(text, 64).unwrap_err();
            assert_eq!(error, PageError::Length { found, wanted: 2, pages: 64 });
        }
        assert_eq!(Pages::parse("8", 3).unwrap_err(), PageError::Beyond { page: 3, pages: 3 });
        assert_eq!(Pages::parse("0 0 32", 68).unwrap_err(), PageError::Beyond { page: 69, pages: 68 });
        // No memory is allocated for a window whose bitmap is longer than the text.
        assert!(matches!(Pages::parse("0", u64::MAX), Err(PageError::Length { .. })));
    }

    #[test]
    fn what_lies_beyond_the_window_is_not_inserted() {
        let mut pages = Pages::empty(70);
        pages.insert(60..1000);
        pages.insert(80..90);
        assert_eq!(pages.runs().collect::<Vec<_>>(), [60..70]);
        assert_eq!(pages.count_in(65..u64::MAX), 5);
        assert_eq!(pages.count_in(90..95), 0);
        assert_eq!(pages.first_in(0..62), Some(60));
        assert_eq!(pages.first_in(70..1000), None);
        assert_eq!(pages.first_not_in(60..1000), None);
        pages.remove(64..u64::MAX);
        assert_eq!(pages.holes().collect::<Vec<_>>(), [0..60, 64..70]);
    }

    proptest! {
        #[test]
        fn as_a_list_of_bools(ranges in prop::collection::vec((0_u64..200, 0_u64..80, any::<bool>()), 0..6), from in 0_u64..210, len in 0_u64..210) {
            let mut pages = Pages::empty(190);
            let mut list = [false; 190];
            for (start, len, add) in ranges {
                let range = start..start + len;
                if add { pages.insert(range.clone()) } else { pages.remove(range.clone()) }
                list.iter_mut().zip(0..).filter(|(_, page)| range.contains(page)).for_each(|(bit, _)| *bit = add);
            }
            let set = |page: &u64| usize::try_from(*page).is_ok_and(|page| list.get(page) == Some(&true));
            prop_assert_eq!(pages.count_in(from..from + len), (from..from + len).filter(set).count() as u64);
            prop_assert_eq!(pages.first_in(from..from + len), (from..from + len).find(set));
            prop_assert_eq!(pages.last_in(from..from + len), (from..from + len).rev().find(set));
            let unset = |page: &u64| *page < 190 && !set(page);
            prop_assert_eq!(pages.first_not_in(from..from + len), (from..from + len).find(unset));
            prop_assert_eq!(pages.holes().flatten().collect::<Vec<_>>(), (0..190).filter(unset).collect::<Vec<_>>());
            let runs: Vec<_> = pages.runs().collect();
            prop_assert!(runs.is_sorted_by(|one, next| one.end < next.start));
            prop_assert!(runs.iter().all(|run| !run.is_empty()));
            prop_assert_eq!(runs.into_iter().flatten().collect::<Vec<_>>(), (0..190).filter(set).collect::<Vec<_>>());
        }

        #[test]
        fn no_text_panics(text in "[0-9 \n-]{0,60}", pages in 0_u64..300) {
            let _ = Pages::parse(&text, pages);
        }
    }
}
