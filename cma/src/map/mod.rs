//! Maps of a CMA window: the allocated pages, their owners, and the pages that devices wrote.

pub(crate) mod pages;
mod svg;
mod text;

use std::ops::Range;

pub use pages::{PageError, Pages};

use crate::{PAGE_SIZE, Window, area::Area};

/// The meaning of the characters of a map as text.
pub const LEGEND: &str = ". free  + partly allocated  # allocated  w partly, W wholly allocated and written by a device  \
                          - free, written before";

/// A named range of a window, for example a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its name on the map.
    pub name: String,
    /// Its pages, counted from the window's base.
    pub pages: Range<u64>,
}

/// The content of a CMA window at one moment.
///
/// ```
/// use cma::{Window, map::{Map, Pages}};
///
/// let window = Window { name: "isp".into(), base: 0x4000_0000, size: 64 << 20, ..Default::default() };
/// let mut map = Map::new(&window);
/// map.allocated = Pages::parse("65535 0 0 3", 128)?;
/// # Ok::<(), cma::map::PageError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Map {
    /// The window's name.
    pub name: String,
    /// Its first address.
    pub base: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Size of a page in bytes: [`PAGE_SIZE`], unless the board has other pages.
    pub page_size: u64,
    /// The pages that the kernel has allocated.
    pub allocated: Pages,
    /// The pages that devices wrote to, at that moment or before.
    pub written: Pages,
    /// The alignment of a request that failed, in pages. The picture marks its multiples among the page frame numbers.
    pub alignment: Option<u64>,
    owners: Vec<Owner>,
}

/// A range of memory that is not in the window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} at {addresses:#x?} is not in the CMA window, which is {window:#x?}")]
pub struct OutsideError {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Range<u64>,
    /// The addresses of the window.
    pub window: Range<u64>,
}

impl Map {
    /// The map of an empty window.
    pub fn new(window: &Window) -> Self {
        let empty = Pages::empty(window.size / PAGE_SIZE);
        Self {
            name: window.name.clone(),
            base: window.base,
            size: window.size,
            page_size: PAGE_SIZE,
            allocated: empty.clone(),
            written: empty,
            alignment: None,
            owners: Vec::new(),
        }
    }

    /// The maps of an area on a board with pages of `page_size` bytes: one for each of its ranges.
    pub fn of_area(area: &Area, page_size: u64) -> Vec<Self> {
        let several = area.ranges().count() > 1;
        let maps = area.range_bitmaps().enumerate().map(|(index, (pfns, allocated))| Self {
            name: if several { format!("{}, range {index}", area.name()) } else { area.name().to_owned() },
            base: pfns.start.saturating_mul(page_size),
            size: (pfns.end - pfns.start).saturating_mul(page_size),
            page_size,
            written: Pages::empty(allocated.window_pages()),
            allocated,
            alignment: None,
            owners: Vec::new(),
        });
        maps.collect()
    }

    /// Adds `name` as the owner of the pages that contain the `bytes` bytes at `address`.
    ///
    /// # Errors
    /// If they are not in the window.
    pub fn add_owner(&mut self, name: &str, address: u64, bytes: u64) -> Result<(), OutsideError> {
        let end = address.saturating_add(bytes);
        let window = self.base..self.base.saturating_add(self.size);
        if address < window.start || end > window.end || bytes == 0 {
            return Err(OutsideError { name: name.to_owned(), addresses: address..end, window });
        }
        let pages = (address - self.base) / self.page_size..(end - self.base).div_ceil(self.page_size);
        let at = self.owners.partition_point(|owner| owner.pages.start <= pages.start);
        self.owners.insert(at, Owner { name: name.to_owned(), pages });
        Ok(())
    }

    /// The owners, by address.
    pub fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// Pages of the window.
    pub fn pages(&self) -> u64 {
        self.size / self.page_size
    }

    /// The longest free run: the first one if several have this length, empty if no page is free.
    pub fn largest_free_run(&self) -> Range<u64> {
        self.allocated.longest_hole()
    }

    /// The pages of `range` that are multiples of `alignment`, by their page frame number.
    fn multiples(&self, range: Range<u64>, alignment: u64) -> impl Iterator<Item = u64> {
        let first = self.base / self.page_size;
        let next = (first + range.start).next_multiple_of(alignment.max(1)) - first;
        (next..range.end).step_by(usize::try_from(alignment.max(1)).unwrap_or(usize::MAX))
    }

    /// The address of a page.
    fn address(&self, page: u64) -> u64 {
        self.base + page * self.page_size
    }

    /// "600 of 65536 pages allocated (0.9 %), largest free run 64512 pages (252 MiB)"
    pub fn statistics(&self) -> String {
        let (used, pages, hole) = (self.allocated.count(), self.pages(), self.largest_free_run());
        let hole = hole.end - hole.start;
        #[expect(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = used as f64 * 100.0 / pages.max(1) as f64;
        let hole_size = human(hole * self.page_size);
        format!(
            "{used} of {pages} pages allocated ({percent:.1} %), largest free run {hole} pages ({hole_size})"
        )
    }

    /// The state of the pages of `cell` that are in the window.
    fn cell(&self, cell: Range<u64>) -> Cell {
        let allocated = self.allocated.count_in(cell.clone());
        let written = self.written.count_in(cell.clone());
        let pages = cell.end.min(self.pages()).saturating_sub(cell.start);
        match (allocated, written) {
            (0, 0) => Cell::Free,
            (0, _) => Cell::WrittenBefore,
            (_, 0) => Cell::Allocated { whole: allocated == pages },
            _ => Cell::Written { whole: allocated == pages },
        }
    }
}

/// The state of a cell of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// No page is allocated, and none was written.
    Free,
    /// No page is allocated, but devices wrote to some of them earlier.
    WrittenBefore,
    /// Some or all pages are allocated, and none was written.
    Allocated { whole: bool },
    /// Some or all pages are allocated, and devices wrote to some of them.
    Written { whole: bool },
}

/// A size in the largest unit in which it is at least 1, with one decimal if it is not a whole number.
pub fn human(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let (shift, unit) = units.into_iter().find(|(shift, _)| bytes >> shift > 0).unwrap_or((0, "bytes"));
    let tenths = (u128::from(bytes) * 10) >> shift;
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        tenth => format!("{}.{tenth} {unit}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 32 pages: buffers of four pages at 8 and 16, the first of which a device wrote, and an allocated page at 30 without an owner.
    pub(super) fn small() -> Map {
        let window =
            Window { name: "isp".into(), base: 0x4000_0000, size: 32 * PAGE_SIZE, ..Default::default() };
        let mut map = Map::new(&window);
        for (index, page) in [(1, 16), (0, 8)] {
            map.allocated.insert(page..page + 4);
            let address = map.base + page * PAGE_SIZE;
            map.add_owner(&format!("buffer {index}"), address, 3 * PAGE_SIZE + 1).unwrap();
        }
        map.allocated.insert(30..31);
        map.written.insert(8..12);
        map.written.insert(24..25);
        map
    }

    #[test]
    fn the_numbers_of_a_small_map() {
        let map = small();
        assert_eq!(map.allocated.count(), 9);
        assert_eq!(map.largest_free_run(), 20..30);
        assert_eq!(map.statistics(), "9 of 32 pages allocated (28.1 %), largest free run 10 pages (40 KiB)");
        let owners: Vec<_> = map.owners().iter().map(|o| (o.name.as_str(), o.pages.clone())).collect();
        assert_eq!(owners, [("buffer 0", 8..12), ("buffer 1", 16..20)]);
    }

    #[test]
    fn the_largest_free_run_at_the_edges() {
        let mut map = small();
        map.allocated = Pages::empty(32);
        assert_eq!(map.largest_free_run(), 0..32);
        map.allocated.insert(10..12);
        assert_eq!(map.largest_free_run(), 12..32);
        map.allocated.insert(0..32);
        assert_eq!(map.largest_free_run(), 0..0);
    }

    #[test]
    fn multiples_count_from_page_frame_zero() {
        let mut map = small();
        map.base += 3 * PAGE_SIZE;
        assert_eq!(map.multiples(0..32, 8).collect::<Vec<_>>(), [5, 13, 21, 29]);
        assert_eq!(map.multiples(13..29, 8).collect::<Vec<_>>(), [13, 21]);
        assert_eq!(map.multiples(0..32, 1 << 40).count(), 0);
    }

    #[test]
    fn what_a_cell_is() {
        let map = small();
        assert_eq!(map.cell(0..8), Cell::Free);
        assert_eq!(map.cell(8..12), Cell::Written { whole: true });
        assert_eq!(map.cell(8..16), Cell::Written { whole: false });
        assert_eq!(map.cell(16..20), Cell::Allocated { whole: true });
        assert_eq!(map.cell(24..28), Cell::WrittenBefore);
        assert_eq!(map.cell(28..36), Cell::Allocated { whole: false });
        assert_eq!(map.cell(30..31), Cell::Allocated { whole: true });
    }

    #[test]
    fn what_lies_elsewhere_is_refused() {
        let mut map = small();
        for (address, bytes) in
            [(0x3fff_f000, 8192), (0x4001_f000, 4097), (0x4000_0000, 0), (u64::MAX, u64::MAX), (0, 1)]
        {
            let error = map.add_owner("buffer 9", address, bytes).unwrap_err().to_string();
            assert!(error.starts_with("buffer 9 at ") && error.contains("0x40000000..0x40020000"), "{error}");
        }
        assert_eq!(map.owners().len(), 2);
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(human(0), "0 bytes");
        assert_eq!(human(4096), "4 KiB");
        assert_eq!(human(614_400), "600 KiB");
        assert_eq!(human((256 << 20) - (4 << 10)), "255.9 MiB");
        assert_eq!(human(4 << 30), "4 GiB");
    }
}
