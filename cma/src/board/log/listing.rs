//! The list of free runs that the kernel prints after a failed request (mm/cma.c, cma_debug_show_areas).

use serde::Serialize;

use crate::area::{Area, AreaError, Rules};

/// The largest window whose list is rebuilt, in pages: 64 GiB of 4 KiB. A line of a log can claim any number.
const MOST_PAGES: u64 = 1 << 24;

/// A free run of a list: `4@572`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FreeRun {
    /// Its pages.
    pub pages: u64,
    /// The number of its first bit in the bitmap of its range.
    pub bit: u64,
}

/// The free runs of a window at the moment of a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The runs of each range. A window has one range up to Linux 6.14.
    pub ranges: Vec<Vec<FreeRun>>,
    /// The free pages, by the end of the list; null if the end is missing.
    pub free: Option<u64>,
    /// The pages of the window, by the end of the list; null if the end is missing.
    pub total: Option<u64>,
    /// Whether the list is whole: it has its end, and its runs are as many pages as the end says.
    pub whole: bool,
}

impl Listing {
    /// The pages of the runs.
    pub fn listed(&self) -> u64 {
        self.runs().map(|run| run.pages).fold(0, u64::saturating_add)
    }

    /// The longest run.
    pub fn longest(&self) -> u64 {
        self.runs().map(|run| run.pages).max().unwrap_or(0)
    }

    fn runs(&self) -> impl Iterator<Item = &FreeRun> {
        self.ranges.iter().flatten()
    }

    /// The pages of a bit, as an order: the smallest one with which the runs do not overlap. A list has lengths in pages, and
    /// positions in bits.
    pub fn order_per_bit(&self) -> u32 {
        (0..16).find(|order| self.fits(*order)).unwrap_or(0)
    }

    fn fits(&self, order: u32) -> bool {
        let end = |run: &FreeRun| run.bit.saturating_add(run.pages >> order);
        let whole = self.runs().all(|run| run.pages.trailing_zeros() >= order);
        let apart = self
            .ranges
            .iter()
            .all(|runs| runs.windows(2).all(|two| end(&two[0]) <= two[1].bit.saturating_sub(1)));
        let inside = self.total.is_none_or(|total| self.runs().all(|run| end(run) <= total >> order));
        whole && apart && inside
    }

    /// The area in this state. `ranges` are the first page and the pages of each range where they are known; otherwise the first
    /// range begins at `base_pfn`, and a range ends with its last free run or with the window.
    ///
    /// # Errors
    /// If there is no such area.
    pub fn area(
        &self,
        name: &str,
        base_pfn: u64,
        ranges: Option<&[(u64, u64)]>,
        rules: Rules,
    ) -> Result<Area, AreaError> {
        let order = self.order_per_bit();
        let assumed = self.assumed_ranges(base_pfn, order);
        let known = ranges.filter(|known| {
            let total: u64 = known.iter().map(|(_, pages)| *pages).fold(0, u64::saturating_add);
            known.len() == assumed.len() && self.total.is_none_or(|listed| listed == total)
        });
        let ranges = known.unwrap_or(&assumed);
        let count = ranges.iter().map(|(_, pages)| *pages).fold(0, u64::saturating_add);
        if count > MOST_PAGES {
            return Err(AreaError::TooLarge { name: name.to_owned(), base_pfn, count });
        }
        let free: Vec<Vec<_>> = self
            .ranges
            .iter()
            .map(|runs| runs.iter().map(|run| run.bit..run.bit.saturating_add(run.pages >> order)).collect())
            .collect();
        Area::of_free_runs(name, ranges, &free, order, rules)
    }

    fn assumed_ranges(&self, base_pfn: u64, order: u32) -> Vec<(u64, u64)> {
        let end = |runs: &Vec<FreeRun>| {
            let last = runs.last().map_or(1, |run| run.bit.saturating_add(run.pages >> order));
            last.checked_shl(order).unwrap_or(u64::MAX)
        };
        let mut ranges = Vec::new();
        let mut next = base_pfn;
        let mut left = self.total.unwrap_or(0);
        for (index, runs) in self.ranges.iter().enumerate() {
            let pages = if index + 1 == self.ranges.len() { left.max(end(runs)) } else { end(runs) };
            ranges.push((next, pages));
            left = left.saturating_sub(pages);
            next = next.saturating_add(pages);
        }
        ranges
    }
}

/// Gathers a list from the lines that it takes. printk begins a new line when one is full, and mail programs break lines.
#[derive(Debug, Default)]
pub(super) struct Reader {
    ranges: Vec<String>,
    /// What follows `=>`, once that was read.
    end: Option<Vec<u64>>,
    /// Lines in succession that belong to something else.
    others: u32,
}

/// Lines of other messages among those of a list, at most.
const OTHERS: u32 = 8;
/// Ranges of a list, at most.
const RANGES: usize = crate::area::MAX_RANGES;

impl Reader {
    /// Reads a line, or the part of the first line after its heading. False if the list is over.
    pub(super) fn feed(&mut self, mut line: &str) -> bool {
        let mut found = false;
        if let Some((_, rest)) = line.split_once("cma: range ") {
            let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            if let Some(rest) = digits.strip_prefix(':').filter(|_| self.ranges.len() < RANGES) {
                self.ranges.push(String::new());
                (line, found) = (rest, true);
            }
        }
        for word in line.split_whitespace() {
            found |= self.word(word);
        }
        // "cma: " alone ends a range.
        found |= line.trim_end().ends_with("cma:");
        self.others = if found { 0 } else { self.others + 1 };
        self.others <= OTHERS && self.end.as_ref().is_none_or(|numbers| numbers.len() < 2)
    }

    fn word(&mut self, word: &str) -> bool {
        if let Some(numbers) = &mut self.end {
            let number = word.parse::<u64>().ok().filter(|_| numbers.len() < 2);
            numbers.extend(number);
            return number.is_some() || ["free", "of", "total", "pages"].contains(&word);
        }
        let (list, end) = match word.split_once("=>") {
            Some((list, end)) => (list, Some(end)),
            None => (word, None),
        };
        let is_list = list.chars().all(|c| c.is_ascii_digit() || "@+".contains(c));
        // A number alone belongs to the list if a break of the line cut a run in two.
        let goes_on =
            list.contains('@') || self.ranges.last().is_some_and(|range| range.ends_with(['@', '+']));
        if !is_list || (end.is_none() && !goes_on) {
            return false;
        }
        if !list.is_empty() {
            if self.ranges.is_empty() {
                self.ranges.push(String::new());
            }
            if let Some(range) = self.ranges.last_mut() {
                range.push_str(list);
            }
        }
        if let Some(end) = end {
            self.end = Some(end.parse().into_iter().collect());
        }
        true
    }

    /// Whether it has read nothing yet.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.iter().all(String::is_empty) && self.end.is_none()
    }

    /// The list as far as it was read.
    pub(super) fn finish(self) -> Listing {
        let mut broken = false;
        let mut ranges: Vec<Vec<FreeRun>> = self
            .ranges
            .iter()
            .map(|text| {
                let mut runs: Vec<FreeRun> = Vec::new();
                for part in text.split('+').filter(|part| !part.is_empty()) {
                    let run = part
                        .split_once('@')
                        .and_then(|(pages, bit)| {
                            Some(FreeRun { pages: pages.parse().ok()?, bit: bit.parse().ok()? })
                        })
                        .filter(|run| run.pages > 0 && runs.last().is_none_or(|last| last.bit < run.bit));
                    broken |= run.is_none();
                    runs.extend(run);
                }
                runs
            })
            .collect();
        if ranges.is_empty() {
            ranges.push(Vec::new());
        }
        let [free, total] =
            [0, 1].map(|index| self.end.as_ref().and_then(|numbers| numbers.get(index)).copied());
        let mut listing = Listing { ranges, free, total, whole: false };
        // The kernel counts the pages of requests since 6.15, not whole bits, so the end can say more than the list.
        let counted = free.is_some_and(|free| {
            free == listing.listed() || (listing.order_per_bit() > 0 && free > listing.listed())
        });
        listing.whole = !broken && total.is_some() && counted && listing.fits(listing.order_per_bit());
        listing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Listing {
        let mut reader = Reader::default();
        for line in lines {
            if !reader.feed(line) {
                break;
            }
        }
        reader.finish()
    }

    #[test]
    fn a_list_of_one_line() {
        let list = read(&["4@572+7@585+346@1702=> 357 free of 2048 total pages"]);
        assert_eq!((list.free, list.total, list.whole), (Some(357), Some(2048), true));
        assert_eq!((list.listed(), list.longest(), list.order_per_bit()), (357, 346, 0));
        let area = list.area("isp", 0x1000, None, Rules::V6_1).unwrap();
        assert_eq!(area.ranges().collect::<Vec<_>>(), [0x1000..0x1800]);
        assert_eq!((area.free(), area.largest_hole()), (357, 0x1000 + 1702..0x1800));
    }

    #[test]
    fn lists_that_lines_break() {
        for lines in [
            // printk, with the prefix of a log.
            &[
                "4@572",
                "[ 12.0] +7@585",
                "Nov 29 08:00:01 host kernel: +346@1702=> 357 free of 2048 total pages",
            ][..],
            // A mail program, and a terminal.
            &["4@572+7@585+346@1702=>", "357 free of", "2048 total pages"],
            &["4@572+7@", "585+34", "6@1702=> 357 free of 2048 total pages"],
            // Another message in between.
            &[
                "4@572",
                "[ 12.0] usb 1-1: new device number 585",
                "[ 12.0] +7@585+346@1702=> 357 free of 2048 total pages",
            ],
        ] {
            let list = read(lines);
            assert!(list.whole && list.total == Some(2048), "{lines:?}: {list:?}");
        }
        let cut = read(&["4@572+7@585+3"]);
        assert_eq!((cut.listed(), cut.total, cut.whole), (11, None, false));
        let none = read(&["=> 0 free of 64 total pages"]);
        assert_eq!((none.free, none.whole, none.ranges.len()), (Some(0), true, 1));
    }

    #[test]
    fn ranges() {
        let list = read(&[
            "",
            "[ 1.0] cma: range 0: 4@0+6@10",
            "[ 1.0] cma: ",
            "[ 1.0] cma: range 1: +8@24",
            "[ 1.0] cma: ",
            "[ 1.0] => 18 free of 96 total pages",
        ]);
        assert_eq!(list.ranges.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert!(list.whole);
        let area = list.area("isp", 64, Some(&[(64, 32), (512, 64)]), Rules::V7_2).unwrap();
        assert_eq!((area.count(), area.free(), area.largest_hole()), (96, 18, 536..544));
        // Without the ranges, the second one begins where the last free run of the first ends.
        let area = list.area("isp", 64, None, Rules::V7_2).unwrap();
        assert_eq!((area.count(), area.free()), (96, 18));
    }

    #[test]
    fn bits_of_several_pages() {
        let list = read(&["16@0+8@8=> 24 free of 64 total pages"]);
        assert_eq!((list.order_per_bit(), list.whole), (2, true));
        assert_eq!(list.area("isp", 0, None, Rules::V6_1).unwrap().free(), 24);
    }

    #[test]
    fn hostile_lists() {
        for lines in [
            &["1@1+1@1=> 2 free of 64 total pages"][..],
            &["0@1=> 0 free of 64 total pages"],
            &["99999999999999999999@0=> 1 free of 64 total pages"],
            &["18446744073709551615@18446744073709551615=> 1 free of 18446744073709551615 total pages"],
            &["@@@+++=> 1 free of 2 total pages"],
        ] {
            let list = read(lines);
            assert!(!list.whole, "{list:?}");
            let _ = list.area("isp", 0, None, Rules::V6_1);
            let _ = list.area("isp", u64::MAX, None, Rules::V7_2);
        }
    }
}
