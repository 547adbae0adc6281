//! A map as a picture.
//!
//! The picture shows the whole window, an enlarged detail if the allocated pages are close together, and a list of
//! the owners. A cell stands for 2^n pages.

use std::{fmt::Write as _, ops::Range};

use super::{Cell, Map, Owner, human};
use crate::area::plural;

/// Width of the picture, in its own units, like all lengths in this file.
const WIDTH: f64 = 1000.0;
/// Width of the space left of the grids, which has the addresses.
const GUTTER: f64 = 128.0;
/// Width of a grid.
const GRID: f64 = 832.0;
const MARGIN: f64 = 40.0;
/// Maximum number of owners in the list.
const LISTED: usize = 24;

const INK: &str = "#1d2733";
const FAINT: &str = "#5b6876";
const FREE: &str = "#e6eaef";
const MARK: &str = "#c0392b";
/// Width of the mark of an alignment.
const MARK_WIDTH: f64 = 3.0;
/// The marks of an alignment are at least this many cells apart. Denser ones are not drawn.
const MARK_DISTANCE: u64 = 8;

const STYLE: &str = "text{font-family:'DejaVu Sans','Helvetica Neue',Arial,sans-serif;font-size:13px;fill:#1d2733}\
    .title{font-size:22px;font-weight:bold}\
    .head{font-size:14px;font-weight:bold}\
    .faint{fill:#5b6876}\
    .mono{font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace;font-size:11px}\
    .label{font-size:11px;font-weight:bold;paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}\
    .small{font-size:8.5px;stroke-width:2px}";

impl Cell {
    fn colour(self) -> &'static str {
        match self {
            Self::Free => FREE,
            Self::WrittenBefore => "#c3cfe8",
            Self::Allocated { whole: false } => "#f8d7a4",
            Self::Allocated { whole: true } => "#eda63a",
            Self::Written { whole: false } => "#94cabd",
            Self::Written { whole: true } => "#1f8a70",
        }
    }
}

/// The legend: cells, their meaning, and the width of the entry.
const LEGEND: [(&[Cell], &str, f64); 4] = [
    (&[Cell::Free], "free", 90.0),
    (
        &[Cell::Allocated { whole: true }, Cell::Allocated { whole: false }],
        "allocated, partly allocated",
        255.0,
    ),
    (&[Cell::Written { whole: true }, Cell::Written { whole: false }], "and written by a device", 250.0),
    (&[Cell::WrittenBefore], "free, written before", 0.0),
];

impl Map {
    /// The map as a self-contained SVG picture.
    pub fn to_svg(&self) -> String {
        let mut body = String::new();
        let mut y = self.title(&mut body);
        if let Some(alignment) = self.alignment.filter(|alignment| Grid::overview(self, y).marks(*alignment))
        {
            rect(&mut body, MARGIN + 5.0, y + 11.0, MARK_WIDTH, 13.0, MARK);
            let what = format!(
                "multiple of {alignment} pages: the last request, which failed, can begin only at such a page"
            );
            text(&mut body, MARGIN + 20.0, y + 22.0, "", &what);
            y += 22.0;
        }

        let overview = Grid::overview(self, y + 46.0);
        let detail = Grid::detail(self, &overview);
        overview.caption(&mut body, self, "The whole window");
        overview.cells(&mut body, self);
        y = overview.bottom();
        match &detail {
            Some(detail) => {
                overview.frame(&mut body, &detail.range, INK, 2.0);
                detail.caption(&mut body, self, "Detail: the part in the frame");
                detail.cells(&mut body, self);
                detail.owners(&mut body, self.owners(), "label");
                y = detail.bottom();
            }
            None => overview.owners(&mut body, self.owners(), "label small"),
        }
        for grid in std::iter::once(&overview).chain(&detail) {
            grid.alignment(&mut body, self);
        }
        y = self.list(&mut body, y + 34.0);

        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" \
             viewBox=\"0 0 {WIDTH} {y}\">\n<style>{STYLE}</style>\n\
             <rect width=\"{WIDTH}\" height=\"{y}\" fill=\"#fff\"/>\n{body}</svg>\n"
        )
    }

    /// Name, addresses, size, statistics and the legend. Returns the y of their end.
    fn title(&self, body: &mut String) -> f64 {
        let title = format!("CMA window {}", self.name);
        text(body, MARGIN, 48.0, "title", &title);
        let last = self.base + self.size.saturating_sub(1);
        let place = format!("{:#x} – {last:#x}, {}", self.base, human(self.size));
        let line = format!("{place}. {}.", self.statistics());
        text(body, MARGIN, 74.0, "faint", &line);
        let mut x = MARGIN;
        for (cells, what, width) in LEGEND {
            for cell in cells {
                rect(body, x, 91.0, 13.0, 13.0, cell.colour());
                x += 17.0;
            }
            text(body, x + 3.0, 102.0, "", what);
            x += width - 17.0;
        }
        104.0
    }

    /// The owners, one a line. Returns the y of their end.
    fn list(&self, body: &mut String, mut y: f64) -> f64 {
        for owner in self.owners().iter().take(LISTED) {
            let pages = owner.pages.end - owner.pages.start;
            text(body, GUTTER, y, "", &owner.name);
            text(body, GUTTER + 210.0, y, "mono", &format!("{:#x}", self.address(owner.pages.start)));
            let size = format!("{} ({})", plural(pages), human(pages * self.page_size));
            text(body, GUTTER + 340.0, y, "faint", &size);
            let written = self.written.count_in(owner.pages.clone());
            text(body, GUTTER + 530.0, y, "faint", &format!("{written} written by a device"));
            y += 20.0;
        }
        if self.owners().len() > LISTED {
            let more = format!("and {} more", self.owners().len() - LISTED);
            text(body, GUTTER, y, "faint", &more);
            y += 20.0;
        }
        y + 8.0
    }
}

/// A grid of cells, in rows from left to right.
struct Grid {
    y: f64,
    cell: (f64, f64),
    columns: u64,
    pages_per_cell: u64,
    range: Range<u64>,
}

impl Grid {
    /// A grid for `range` with at most `rows` rows and the fewest pages in a cell.
    fn new(range: Range<u64>, y: f64, columns: u64, rows: u64, height: f64) -> Self {
        let pages_per_cell = (range.end - range.start).div_ceil(columns * rows).next_power_of_two();
        Self { y, cell: (GRID / columns as f64, height), columns, pages_per_cell, range }
    }

    fn overview(map: &Map, y: f64) -> Self {
        Self::new(0..map.pages(), y, 128, 32, 11.0)
    }

    /// A grid of the allocated part, if its cells have fewer pages than those of the overview.
    fn detail(map: &Map, overview: &Self) -> Option<Self> {
        let of_owners = map.owners().iter().map(|owner| owner.pages.clone());
        let (start, end) = map
            .allocated
            .runs()
            .chain(of_owners)
            .fold((u64::MAX, 0), |(start, end), run| (start.min(run.start), end.max(run.end)));
        if start >= end {
            return None;
        }
        let y = overview.bottom() + 46.0;
        let unit = overview.pages_per_cell.min(64);
        let range = start / unit * unit..end.next_multiple_of(unit).min(map.pages());
        let detail = Self::new(range, y, 64, 16, 17.0);
        (detail.pages_per_cell < overview.pages_per_cell).then_some(detail)
    }

    fn rows(&self) -> u64 {
        (self.range.end - self.range.start).div_ceil(self.columns * self.pages_per_cell)
    }

    fn bottom(&self) -> f64 {
        self.top(self.rows())
    }

    fn left(&self, column: u64) -> f64 {
        GUTTER + column as f64 * self.cell.0
    }

    fn top(&self, row: u64) -> f64 {
        self.y + row as f64 * self.cell.1
    }

    fn caption(&self, body: &mut String, map: &Map, what: &str) {
        text(body, GUTTER, self.y - 9.0, "head", what);
        let cell = human(self.pages_per_cell * map.page_size);
        let scale = format!("a cell is {}, {cell}", plural(self.pages_per_cell));
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" class=\"faint\">{scale}</text>",
            GUTTER + GRID,
            self.y - 9.0
        );
    }

    /// The cells, with lines between them and the addresses of rows. Equal neighbours share a rectangle.
    fn cells(&self, body: &mut String, map: &Map) {
        let row_pages = self.columns * self.pages_per_cell;
        let labelled_rows = if self.rows() > 8 { 4 } else { 1 };
        for row in 0..self.rows() {
            let start = self.range.start + row * row_pages;
            let count = (self.range.end - start).div_ceil(self.pages_per_cell).min(self.columns);
            let cell = |column| {
                let page = start + column * self.pages_per_cell;
                map.cell(page..page + self.pages_per_cell)
            };
            let mut column = 0;
            while column < count {
                let kind = cell(column);
                let end = (column + 1..count).find(|&next| cell(next) != kind).unwrap_or(count);
                let width = self.left(end) - self.left(column);
                rect(body, self.left(column), self.top(row), width, self.cell.1, kind.colour());
                column = end;
            }
            if row % labelled_rows == 0 {
                let _ = writeln!(
                    body,
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" class=\"mono faint\">{:#x}</text>",
                    GUTTER - 8.0,
                    self.top(row) + self.cell.1 / 2.0 + 4.0,
                    map.address(start)
                );
            }
        }
        let mut lines = String::new();
        for column in 0..=self.columns {
            let _ = write!(lines, "M{} {}V{}", self.left(column), self.y, self.bottom());
        }
        for row in 0..=self.rows() {
            let _ = write!(lines, "M{} {}H{}", self.left(0), self.top(row), self.left(self.columns));
        }
        let _ = writeln!(body, "<path d=\"{lines}\" stroke=\"#fff\" stroke-width=\"1\"/>");
    }

    /// Whether multiples of `alignment` are far enough apart to be marked.
    fn marks(&self, alignment: u64) -> bool {
        alignment >= MARK_DISTANCE * self.pages_per_cell
    }

    /// A mark at each multiple of the map's alignment.
    fn alignment(&self, body: &mut String, map: &Map) {
        let Some(alignment) = map.alignment.filter(|alignment| self.marks(*alignment)) else { return };
        for page in map.multiples(self.range.clone(), alignment) {
            let cell = (page - self.range.start) / self.pages_per_cell;
            let x = self.left(cell % self.columns) - MARK_WIDTH / 2.0;
            rect(body, x, self.top(cell / self.columns), MARK_WIDTH, self.cell.1, MARK);
        }
    }

    /// The cells of `pages` in each row: row, first column, column after the last.
    fn stretches(&self, pages: &Range<u64>) -> Vec<(u64, u64, u64)> {
        let first = pages.start.saturating_sub(self.range.start) / self.pages_per_cell;
        let end = pages.end.saturating_sub(self.range.start).div_ceil(self.pages_per_cell);
        let rows = first / self.columns..end.div_ceil(self.columns);
        rows.map(|row| {
            let before = row * self.columns;
            (row, first.max(before) - before, end.min(before + self.columns) - before)
        })
        .collect()
    }

    /// An outline around the cells of `pages`.
    fn frame(&self, body: &mut String, pages: &Range<u64>, colour: &str, width: f64) {
        let stretches = self.stretches(pages);
        let (Some(&first), Some(&last)) = (stretches.first(), stretches.last()) else { return };
        let mut path = String::new();
        if stretches.len() == 2 && last.2 <= first.1 {
            // Two separate pieces.
            for (row, from, to) in stretches {
                let (left, right) = (self.left(from), self.left(to));
                let _ = write!(path, "M{left} {}H{right}V{}H{left}Z", self.top(row), self.top(row + 1));
            }
        } else {
            let (left, right) =
                (self.left(if stretches.len() > 1 { 0 } else { first.1 }), self.left(first.2));
            let _ = write!(path, "M{} {}H{right}", self.left(first.1), self.top(first.0));
            let _ = write!(path, "V{}H{}V{}", self.top(last.0), self.left(last.2), self.top(last.0 + 1));
            let _ = write!(path, "H{left}V{}H{}Z", self.top(first.0 + 1), self.left(first.1));
        }
        let _ = writeln!(
            body,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"/>"
        );
    }

    /// The outline of each owner, and its name if there is room.
    fn owners(&self, body: &mut String, owners: &[Owner], class: &str) {
        for owner in owners {
            self.frame(body, &owner.pages, FAINT, 1.2);
        }
        for owner in owners {
            let widest = self
                .stretches(&owner.pages)
                .into_iter()
                .min_by_key(|(_, from, to)| from.abs_diff(*to).wrapping_neg());
            let Some((row, from, to)) = widest else { continue };
            // An upper limit of the width of a letter.
            let letter = self.cell.1.min(13.0) * 0.55;
            let room = self.left(to) - self.left(from) - 8.0;
            if owner.name.chars().count() as f64 * letter <= room {
                let y = self.top(row) + self.cell.1 / 2.0 + self.cell.1.min(12.0) / 3.0;
                text(body, self.left(from) + 4.0, y, class, &owner.name);
            }
        }
    }
}

fn rect(body: &mut String, x: f64, y: f64, width: f64, height: f64, colour: &str) {
    let _ =
        writeln!(body, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{colour}\"/>");
}

fn text(body: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let _ = writeln!(body, "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{}</text>", escape(text));
}

/// Escapes a text for XML.
fn escape(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).fold(String::with_capacity(text.len()), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PAGE_SIZE;
    use crate::{Window, map::tests::small};

    /// Each element that is opened is closed, and attributes are quoted; returns how many of each there are.
    fn well_formed(svg: &str) -> std::collections::BTreeMap<String, usize> {
        let mut open = Vec::new();
        let mut seen = std::collections::BTreeMap::new();
        for part in svg.split('<').skip(1) {
            let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("no end: {part}"));
            assert!(!text.contains('>') && tag.matches('"').count() % 2 == 0, "{part}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap().to_owned();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name));
            } else {
                *seen.entry(name.clone()).or_insert(0) += 1;
                if !tag.ends_with('/') {
                    open.push(name);
                }
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        seen
    }

    fn window(size: u64) -> Map {
        Map::new(&Window { name: "a<b>&\"c\"\u{1}".into(), base: 0x3000_0000, size, ..Default::default() })
    }

    #[test]
    fn the_small_map() {
        let svg = small().to_svg();
        well_formed(&svg);
        assert!(svg.contains(">CMA window isp</text>"));
        assert!(svg.contains(
            "0x40000000 – 0x4001ffff, 128 KiB. 9 of 32 pages allocated (28.1 %), largest free run 10 pages (40 KiB)."
        ));
        assert!(svg.contains("a cell is 1 page, 4 KiB"));
        // Free, written, free, allocated, free, written before, free, allocated, free.
        let cells: Vec<&str> = svg
            .lines()
            .filter(|line| line.contains("height=\"11\""))
            .map(|line| &line[line.len() - 10..])
            .collect();
        let [free, written, allocated, before] = [FREE, "#1f8a70", "#eda63a", "#c3cfe8"];
        let wanted = [free, written, free, allocated, free, before, free, allocated, free];
        assert_eq!(cells, wanted.map(|colour| format!("{colour}\"/>")));
        // Each owner's name: in the list, as four cells are too narrow for it.
        assert_eq!(svg.matches(">buffer 0</text>").count(), 1);
        assert!(!svg.contains("Detail"));
    }

    #[test]
    fn windows_of_all_sizes_are_legible() {
        for (size, whole) in
            [(0, 1), (4096, 1), (64 << 20, 4), (256 << 20, 16), (4 << 30, 256), (1 << 40, 65_536)]
        {
            let mut map = window(size);
            for index in 0..4_u64 {
                let page = 512 + 256 * index;
                map.allocated.insert(page..page + 150);
                map.written.insert(page..page + 150);
                let _ = map.add_owner(&format!("buffer {index}"), map.base + page * PAGE_SIZE, 614_400);
            }
            let svg = map.to_svg();
            let seen = well_formed(&svg);
            let plural = if whole == 1 { "page" } else { "pages" };
            assert!(svg.contains(&format!("a cell is {whole} {plural}, ")), "{size}");
            assert!(svg.contains("a&lt;b&gt;&amp;&quot;c&quot;<"), "{size}");
            assert!(seen["rect"] < 400, "{size}: {seen:?}");
            if size > 4096 {
                // In the detail and in the list.
                assert_eq!(svg.matches(">buffer 3</text>").count(), 2, "{size}");
                let rows = svg.matches("text-anchor=\"end\" class=\"mono faint\"").count();
                assert!((4..=24).contains(&rows), "{size}: {rows}");
            }
        }
    }

    #[test]
    fn an_alignment_is_marked_where_it_is_legible() {
        let mut map = window(4 << 20);
        assert!(!map.to_svg().contains(MARK));
        map.alignment = Some(256);
        let svg = map.to_svg();
        well_formed(&svg);
        assert!(svg.contains("multiple of 256 pages: "), "{svg}");
        // The legend, and pages 0, 256, 512 and 768: each begins a row.
        assert_eq!(svg.matches(MARK).count(), 1 + 4);
        assert_eq!(svg.matches(&format!("x=\"126.5\" y=\"{}\" width=\"3\"", 172 + 22)).count(), 1, "{svg}");
        // A cell has 256 pages.
        let mut map = window(4 << 30);
        map.alignment = Some(256);
        assert!(!map.to_svg().contains(MARK));
    }

    #[test]
    fn a_window_full_of_holes() {
        let mut map = window(64 << 20);
        for page in (0..map.pages()).step_by(8) {
            map.allocated.insert(page..page + 4);
            map.add_owner("x", map.base + page * PAGE_SIZE, 1).unwrap();
        }
        let svg = map.to_svg();
        let seen = well_formed(&svg);
        assert!(!svg.contains("Detail") && svg.contains("and 2024 more"));
        assert!(seen["rect"] > 4000);
    }
}
