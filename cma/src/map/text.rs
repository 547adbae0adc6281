//! A map for a terminal.

use std::fmt::Write as _;

use super::{Cell, LEGEND, Map, human};
use crate::area::plural;

/// Number of cells in a line.
const COLUMNS: usize = 64;
/// Maximum number of lines.
const ROWS: u64 = 32;

impl Map {
    /// The map as lines of about 80 characters, with a character for each cell of 2^n pages. Repeated
    /// lines are replaced by a `*`, as in `hexdump`.
    pub fn to_text(&self) -> String {
        let mut text =
            format!("{} at {:#x}, {}: {}\n", self.name, self.base, human(self.size), self.statistics());
        let (pages_per_cell, symbols) = self.symbols(COLUMNS as u64 * ROWS);
        let _ = writeln!(text, "a character is {}: {LEGEND}", human(pages_per_cell * self.page_size));
        let mut last: &[char] = &[];
        let mut left_out = false;
        let lines = symbols.chunks(COLUMNS);
        let count = lines.len();
        for (row, line) in lines.enumerate() {
            if line == last && row + 1 < count {
                if !left_out {
                    text.push_str("*\n");
                }
                left_out = true;
            } else {
                let page = (row * COLUMNS) as u64 * pages_per_cell;
                let _ = writeln!(text, "{:#012x} {}", self.address(page), line.iter().collect::<String>());
                (last, left_out) = (line, false);
            }
        }
        for owner in self.owners() {
            let pages = owner.pages.end - owner.pages.start;
            let _ =
                writeln!(text, "{:#012x} {}, {}", self.address(owner.pages.start), owner.name, plural(pages));
        }
        text
    }

    /// The map as at most `most` characters, which [`LEGEND`] explains. Each is for the same number of pages, a power of two, which
    /// is returned before them.
    pub fn symbols(&self, most: u64) -> (u64, Vec<char>) {
        let pages_per_cell = self.pages().div_ceil(most.max(1)).max(1).next_power_of_two();
        let cells = self.pages().div_ceil(pages_per_cell);
        let cell = |index: u64| self.cell(index * pages_per_cell..(index + 1) * pages_per_cell);
        (pages_per_cell, (0..cells).map(|index| symbol(cell(index))).collect())
    }
}

fn symbol(cell: Cell) -> char {
    match cell {
        Cell::Free => '.',
        Cell::WrittenBefore => '-',
        Cell::Allocated { whole: false } => '+',
        Cell::Allocated { whole: true } => '#',
        Cell::Written { whole: false } => 'w',
        Cell::Written { whole: true } => 'W',
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Window,
        map::{Map, tests::small},
    };

    #[test]
    fn the_small_map() {
        let text = small().to_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "isp at 0x40000000, 128 KiB: 9 of 32 pages allocated (28.1 %), largest free run 10 pages (40 KiB)",
                "a character is 4 KiB: . free  + partly allocated  # allocated  w partly, W wholly allocated and \
                 written by a device  - free, written before",
                "0x0040000000 ........WWWW....####....-.....#.",
                "0x0040008000 buffer 0, 4 pages",
                "0x0040010000 buffer 1, 4 pages",
            ]
        );
    }

    #[test]
    fn equal_lines_are_left_out() {
        let window = Window { name: "big".into(), base: 0x1_0000_0000, size: 4 << 30, ..Default::default() };
        let mut map = Map::new(&window);
        map.allocated.insert(80_000..80_001);
        let text = map.to_text();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(lines[0].starts_with("0x0100000000 ...") && lines[1] == "*", "{text}");
        assert!(lines[2].starts_with("0x0110000000 ") && lines[2].contains('+'), "{text}");
        assert!(lines[3].starts_with("0x0118000000 ...") && lines[4] == "*", "{text}");
        assert!(lines[5].starts_with("0x01f8000000 ...") && lines[5].len() <= 80, "{text}");
    }

    #[test]
    fn a_window_of_no_pages() {
        let window = Window { name: "none".into(), ..Default::default() };
        assert_eq!(Map::new(&window).to_text().lines().count(), 2);
    }
}
