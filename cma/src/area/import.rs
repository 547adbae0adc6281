//! Imports the area of a real board from copies of its debugfs files.

use std::ops::Range;

use super::{allocator::Area, error::AreaError, rules::Rules};
use crate::map::pages::{PageError, Pages};

/// The texts of the files in /sys/kernel/debug/cma/NAME (mm/cma_debug.c, cma_debugfs_add_one).
#[derive(Debug, Clone, Copy)]
pub struct Debugfs<'a> {
    /// The first page.
    pub base_pfn: &'a str,
    /// Pages.
    pub count: &'a str,
    /// Pages of a bit, as an order. Only the lower 32 bits are valid: the kernel prints an unsigned int as an unsigned
    /// long (cma_debugfs_get), so the upper half contains the next field.
    pub order_per_bit: &'a str,
    /// The bitmap: decimal words of 32 bits, the lowest bit first.
    pub bitmap: &'a str,
}

/// Why these texts do not describe an area.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {problem}")]
pub struct ImportError {
    /// Which file.
    pub file: &'static str,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: ImportProblem,
}

/// What can be wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportProblem {
    /// It is not what debugfs prints.
    #[error("\"{0}\" is not a decimal number below 2^64; the file contains only one such number")]
    Number(String),
    /// The file is empty.
    #[error("there is no number; copy the file again, as root")]
    Empty,
    /// The area cannot exist.
    #[error(transparent)]
    Area(#[from] AreaError),
    /// It is not a bitmap, or not the bitmap of this area.
    #[error(transparent)]
    Bitmap(#[from] PageError),
}

impl Area {
    /// The area of a board. No page is busy: debugfs does not show which pages cannot be migrated.
    ///
    /// # Errors
    /// If a text is not what debugfs prints, or if the texts contradict each other.
    pub fn of_debugfs(name: &str, files: Debugfs<'_>, rules: Rules) -> Result<Self, ImportError> {
        let base_pfn = number("base_pfn", files.base_pfn)?;
        let count = number("count", files.count)?;
        let order_per_bit = number("order_per_bit", files.order_per_bit)? & u64::from(u32::MAX);
        let order_per_bit = u32::try_from(order_per_bit).unwrap_or(u32::MAX);
        let mut area = Self::of_ranges(name, &[(base_pfn, count)], order_per_bit, rules)
            .map_err(|error| ImportError { file: "count", line: 1, problem: error.into() })?;
        let bitmap = bitmap(files.bitmap, count >> order_per_bit)?;
        area.ranges.iter_mut().for_each(|range| range.bitmap = bitmap.clone());
        // Whole bits: debugfs does not show how many pages each request was for.
        area.available = area.free();
        Ok(area)
    }

    /// The area of a board with several ranges: `ranges` are the texts of base_pfn and bitmap in its folders ranges/N, since 6.15.
    /// debugfs does not show the pages of a range. They are whole words of the bitmap, because a range is whole pageblocks.
    ///
    /// # Errors
    /// If a text is not what debugfs prints, or if the texts contradict each other.
    pub fn of_debugfs_ranges(
        name: &str,
        count: &str,
        order_per_bit: &str,
        ranges: &[(&str, &str)],
        rules: Rules,
    ) -> Result<Self, ImportError> {
        let in_count = |error: AreaError| ImportError { file: "count", line: 1, problem: error.into() };
        let count = number("count", count)?;
        let order = number("order_per_bit", order_per_bit)? & u64::from(u32::MAX);
        let order = u32::try_from(order).unwrap_or(u32::MAX);
        let mut found = Vec::new();
        let mut bitmaps = Vec::new();
        for (base_pfn, text) in ranges {
            let words = text.split_ascii_whitespace().count() as u64;
            let pages = (words * 32).checked_shl(order).filter(|pages| pages >> order == words * 32);
            found.push((number("base_pfn", base_pfn)?, pages.unwrap_or(u64::MAX)));
            bitmaps.push(bitmap(text, words * 32)?);
        }
        let mut area = Self::of_ranges(name, &found, order, rules).map_err(in_count)?;
        if area.count() != count {
            let name = name.to_owned();
            return Err(in_count(AreaError::Count { name, count, ranges: area.count() }));
        }
        area.ranges.iter_mut().zip(bitmaps).for_each(|(range, bitmap)| range.bitmap = bitmap);
        area.available = area.free();
        Ok(area)
    }

    /// The area whose free bits are `free`, for each range: the state that the kernel lists after a failed request. No page is busy.
    ///
    /// # Errors
    /// If there is no such area.
    pub fn of_free_runs(
        name: &str,
        ranges: &[(u64, u64)],
        free: &[Vec<Range<u64>>],
        order_per_bit: u32,
        rules: Rules,
    ) -> Result<Self, AreaError> {
        let mut area = Self::of_ranges(name, ranges, order_per_bit, rules)?;
        for (index, range) in area.ranges.iter_mut().enumerate() {
            range.bitmap.insert(0..range.count >> order_per_bit);
            for run in free.get(index).into_iter().flatten() {
                range.bitmap.remove(run.clone());
            }
        }
        area.available = area.free();
        Ok(area)
    }
}

/// Reads a bitmap of `bits` bits.
fn bitmap(text: &str, bits: u64) -> Result<Pages, ImportError> {
    Pages::parse(text, bits).map_err(|error| {
        let line = match &error {
            PageError::Word { index, .. } => line_of(text, *index),
            PageError::Beyond { page, .. } => line_of(text, page / 32),
            PageError::Length { .. } => text.lines().count().max(1),
        };
        ImportError { file: "bitmap", line, problem: error.into() }
    })
}

/// The only word of a text.
fn number(file: &'static str, text: &str) -> Result<u64, ImportError> {
    let mut value = None;
    for (line, text) in (1..).zip(text.lines()) {
        for word in text.split_ascii_whitespace() {
            let digits = word.bytes().all(|byte| byte.is_ascii_digit());
            let number = word.parse().ok().filter(|_| digits && value.is_none());
            value = Some(number.ok_or_else(|| {
                let word = word.chars().take(40).flat_map(char::escape_debug).collect();
                ImportError { file, line, problem: ImportProblem::Number(word) }
            })?);
        }
    }
    value.ok_or(ImportError { file, line: 1, problem: ImportProblem::Empty })
}

/// The line of a word, from 1. The first word is word 0.
fn line_of(text: &str, word: u64) -> usize {
    let lines = (1..).zip(text.lines());
    let mut words = lines.flat_map(|(line, text)| text.split_ascii_whitespace().map(move |_| line));
    words.nth(usize::try_from(word).unwrap_or(usize::MAX)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn import(files: [&str; 4]) -> Result<Area, ImportError> {
        let [base_pfn, count, order_per_bit, bitmap] = files;
        Area::of_debugfs("linux,cma", Debugfs { base_pfn, count, order_per_bit, bitmap }, Rules::V6_1)
    }

    #[test]
    fn a_window_of_a_board() {
        let area = import(["262144\n", "128\n", "0\n", "4294967295 3 0 2147483648\n"]).unwrap();
        assert_eq!(area.ranges().collect::<Vec<_>>(), [0x40000..0x40080]);
        assert_eq!(area.allocated().runs().collect::<Vec<_>>(), [0..34, 127..128]);
        assert_eq!((area.used(), area.largest_hole()), (35, 0x40022..0x4007f));
        // The kernel prints the field after order_per_bit with it. Copied text files can have other line ends.
        let area = import(["262144\r\n", "128", " 12884901889\n\n", "1\n2\n"]).unwrap();
        assert_eq!((area.order_per_bit(), area.used()), (1, 4));
        assert_eq!(area.allocated().runs().collect::<Vec<_>>(), [0..2, 66..68]);
        let files = Debugfs { base_pfn: "0", count: "8", order_per_bit: "2", bitmap: "1" };
        let mut area = Area::of_debugfs("isp", files, Rules::V7_2).unwrap();
        assert_eq!((area.used(), area.alloc(5, 0).unwrap_err().errno), (4, -16));
    }

    #[test]
    fn a_window_of_two_ranges() {
        let of = |count, ranges: &[(&str, &str)]| {
            Area::of_debugfs_ranges("isp", count, "0", ranges, Rules::V7_2).map_err(|error| error.to_string())
        };
        let area = of("96", &[("64", "1"), ("512", "0 4294967295\n")]).unwrap();
        assert_eq!(area.ranges().collect::<Vec<_>>(), [64..96, 512..576]);
        assert_eq!((area.used(), area.largest_hole()), (33, 512..544));
        let error = of("128", &[("64", "1"), ("512", "0 0")]).unwrap_err();
        assert!(
            error.contains("count, line 1: the CMA area isp has 128 pages, but its ranges have 96"),
            "{error}"
        );
        assert!(of("64", &[("64", "x"), ("0", "0")]).unwrap_err().contains("word 0 of the bitmap is \"x\""));
        assert!(of("64", &[("64", "0"), ("80", "0")]).unwrap_err().contains("two ranges with the page 0x50"));
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        for (files, sentence) in [
            (["", "1", "0", "0"], "base_pfn, line 1: there is no number; copy the file again, as root"),
            (["\n0x10", "1", "0", "0"], "base_pfn, line 2: \"0x10\" is not a decimal number below 2^64"),
            (["0", "18446744073709551616", "0", "0"], "count, line 1: \"18446744073709551616\" is not"),
            (["0", "+1", "0", "0"], "count, line 1: \"+1\" is not"),
            (
                ["0", "64 \n 64", "0", "0"],
                "count, line 2: \"64\" is not a decimal number below 2^64; the file contains only",
            ),
            (["0", "0", "0", "0"], "count, line 1: the CMA area linux,cma has no pages"),
            (["0", "64", "\u{1b}[2J", "0"], "order_per_bit, line 1: \"\\u{1b}[2J\" is not"),
            (
                ["0", "3", "1", "0"],
                "count, line 1: the CMA area linux,cma has 3 pages, which is not a multiple",
            ),
            (
                ["0", "64", "4294967295", "0"],
                "count, line 1: the CMA area linux,cma has 64 pages, which is not a mul",
            ),
            (["0", "999999999999", "0", "0"], "count, line 1: the CMA area linux,cma of 999999999999 pages"),
            (["18446744073709551615", "32", "0", "0"], "count, line 1: the CMA area linux,cma of 32 pages"),
            (
                ["0", "64", "0", "0"],
                "bitmap, line 1: the bitmap has 1 words of 32 bits; a bitmap of 64 pages has 2",
            ),
            (["0", "64", "0", "0\n0\n0\n"], "bitmap, line 3: the bitmap has 3 words"),
            (
                ["0", "96", "0", "0 1\nx"],
                "bitmap, line 2: word 2 of the bitmap is \"x\", not a decimal number",
            ),
            (["0", "64", "0", "\n0 \u{1b}"], "bitmap, line 2: word 1 of the bitmap is \"\\u{1b}\""),
            (["0", "33", "0", "0\n2"], "bitmap, line 2: the bitmap says that page 33 is allocated"),
            (["0", "64", "0", ""], "bitmap, line 1: the bitmap has 0 words"),
        ] {
            let error = import(files).unwrap_err().to_string();
            assert!(error.starts_with(sentence), "{files:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_texts_panic(base in "[0-9 x\n]{0,21}", count in "[0-9]{0,4}", order in "[0-9]{0,11}", bitmap in "[0-9 \n]{0,60}") {
            if let Err(error) = import([&base, &count, &order, &bitmap]) {
                prop_assert!(!error.to_string().contains(char::is_control), "{error}");
            }
        }

        #[test]
        fn what_debugfs_prints_is_read_back(runs in prop::collection::vec((0_u64..500, 1_u64..40), 0..9), order in 0_u32..3) {
            let mut area = Area::new("isp", 0x1234, 512, order).unwrap();
            for (page, pages) in runs {
                area.set_busy(0x1234..0x1234 + page);
                let _ = area.alloc(pages, 0);
            }
            let words: Vec<u64> = (0..512_u64 >> order >> 5)
                .map(|word| {
                    let bits = word * 32..word * 32 + 32;
                    let set = |bit: &u64| area.allocated().first_in(bit << order..(bit << order) + 1).is_some();
                    bits.filter(set).map(|bit| 1 << (bit % 32)).sum()
                })
                .collect();
            let bitmap = words.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
            let again = import(["4660", "512", &order.to_string(), &bitmap]).unwrap();
            prop_assert_eq!(again.allocated(), area.allocated());
        }
    }
}
