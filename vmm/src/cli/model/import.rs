//! A real board's CMA window, from copies of its debugfs files: draws its map, and says why a request fails there.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use cma::{
    PAGE_SIZE, Window,
    area::{Area, Debugfs, ImportError, Rules, Statistics, Why},
    map::Map,
};
use serde::Serialize;

/// Largest file in bytes: the bitmap of the largest area that is modelled has 92 MB.
const MAX_FILE: u64 = 100 << 20;

/// A board's window. Counts are in pages, which are taken to have 4096 bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Board {
    /// The folder's name, which in debugfs is the kernel's name for the window.
    pub name: String,
    /// The first page.
    pub base_pfn: u64,
    /// Pages of a bit of the bitmap, as an order.
    pub order_per_bit: u32,
    /// The numbers, as fields of the object.
    #[serde(flatten)]
    pub statistics: Statistics,
    /// The answer to `--request`; null without that option.
    pub request: Option<Why>,
    /// The window, drawn.
    #[serde(skip)]
    pub map: Map,
}

/// Why a folder does not describe a window.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// A file is missing, or is not text.
    #[error(
        "the file {} cannot be read: {source}; copy base_pfn, count, order_per_bit and bitmap from the board's \
         /sys/kernel/debug/cma/NAME into a folder, as text", path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too large.
    #[error("the file {} is larger than {MAX_FILE} bytes; copy it from the board again", .0.display())]
    TooLarge(PathBuf),
    /// More than one range (mm/cma_debug.c since Linux 6.15).
    #[error(
        "the window in {} has several ranges, which minivmm does not draw; copy the files of one, in ranges/N, and its number of \
         pages as count into another folder", .0.display()
    )]
    Ranges(PathBuf),
    /// The files are not what debugfs prints.
    #[error("{}, {source}", folder.display())]
    Import {
        /// The folder.
        folder: PathBuf,
        /// The mistake, its file and its line.
        source: ImportError,
    },
}

/// Reads the window in `folder`, and requests pages from it: `request` has their number, and an alignment unless it is the DMA
/// API's.
///
/// # Errors
/// If the folder does not have the files that debugfs has for a window.
pub fn read(folder: &Path, request: Option<(u64, Option<u32>)>, rules: Rules) -> Result<Board, BoardError> {
    if folder.join("ranges/1").exists() {
        return Err(BoardError::Ranges(folder.to_owned()));
    }
    let whole =
        fs::canonicalize(folder).map_err(|source| BoardError::Read { path: folder.to_owned(), source })?;
    let name = whole.file_name().unwrap_or_default().to_string_lossy();
    // Nothing in it moves a terminal's cursor.
    let name: String = name.chars().flat_map(char::escape_debug).collect();
    let text = |file| read_text(&folder.join(file));
    let (base_pfn, count) = (text("base_pfn")?, text("count")?);
    let (order_per_bit, bitmap) = (text("order_per_bit")?, text("bitmap")?);
    let files =
        Debugfs { base_pfn: &base_pfn, count: &count, order_per_bit: &order_per_bit, bitmap: &bitmap };
    let area = Area::of_debugfs(&name, files, rules)
        .map_err(|source| BoardError::Import { folder: folder.to_owned(), source })?;
    let base_pfn = area.ranges().next().map_or(0, |range| range.start);
    let (base, size) = (base_pfn * PAGE_SIZE, area.count() * PAGE_SIZE);
    let mut map = Map::new(&Window { name: name.clone(), base, size, ..Default::default() });
    map.allocated = area.allocated();
    let request = request.map(|(pages, align)| {
        let align = align.unwrap_or_else(|| cma::area::dma_alignment(pages.saturating_mul(PAGE_SIZE)));
        area.why(pages, align)
    });
    let order_per_bit = area.order_per_bit();
    Ok(Board { name, base_pfn, order_per_bit, statistics: area.statistics(), request, map })
}

fn read_text(path: &Path) -> Result<String, BoardError> {
    let error = |source| BoardError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    // One byte more than is allowed shows that the file is too large.
    File::open(path).map_err(error)?.take(MAX_FILE + 1).read_to_string(&mut text).map_err(error)?;
    if text.len() as u64 > MAX_FILE { Err(BoardError::TooLarge(path.to_owned())) } else { Ok(text) }
}

/// Prints it for people: the map, the numbers, and the answer to the request.
impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.map.to_text(), self.statistics)?;
        self.request.iter().try_for_each(|why| write!(f, "\n{why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn board(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let window = folder.path().join("linux,cma");
        fs::create_dir(&window).unwrap();
        for (name, text) in files {
            fs::write(window.join(name), text).unwrap();
        }
        (folder, window)
    }

    const FILES: [(&str, &str); 4] = [
        ("base_pfn", "262144\n"),
        ("count", "128\n"),
        ("order_per_bit", "4294967296\n"),
        ("bitmap", "4294967295 65535 0 4294901760\n"),
    ];

    #[test]
    fn what_people_read() {
        let (_folder, window) = board(&FILES);
        let board = read(&window, Some((60, None)), Rules::V6_1).unwrap();
        assert_eq!(
            board.to_string(),
            "linux,cma at 0x40000000, 512 KiB: 64 of 128 pages allocated (50.0 %), largest free run 64 pages (256 KiB)\n\
             a character is 4 KiB: . free  + partly allocated  # allocated  w partly, W wholly allocated and written by \
             a device  - free, written before\n\
             0x0040000000 ################################################................\n\
             0x0040040000 ................................................################\n\
             64 of 128 pages used, 0 busy; 1 free run, the longest (maxchunk) of 64 pages at pfn 0x40030\n\
             free runs of 64 to 127 pages: 1\n\
             a request for 60 pages at alignment 6: -12, no run of free pages is long enough at that alignment\n  \
             64 of 128 pages are free; the longest free run has 64 pages at pfn 0x40030; the longest free run that begins \
             at the alignment has 48 pages at pfn 0x40040\n  \
             each of these would make it succeed:\n  \
             - a request for 48 pages or fewer\n  \
             - an alignment of 4 or less\n  \
             - 12 pages freed at pfn 0x40040 to 0x4007b: the fewest of all places, but buffers are freed as a whole\n    \
             16 pages allocated at pfn 0x40070 to 0x4007f\n  \
             - a window that is 60 pages longer, of at least 752K"
        );
        let json = serde_json::to_value(&board).unwrap();
        assert_eq!(
            (&json["name"], &json["base_pfn"], &json["used"]),
            (&"linux,cma".into(), &262_144.into(), &64.into())
        );
        assert_eq!(
            json["request"]["cheapest"]["runs"],
            serde_json::json!([{"start": 0x40070, "end": 0x40080}])
        );
        assert_eq!(json["request"]["granted_at"], 4);
        assert!(
            serde_json::to_value(read(&window, None, Rules::V6_1).unwrap()).unwrap()["request"].is_null()
        );
        let board = read(&window, Some((60, Some(4))), Rules::V7_2).unwrap();
        assert_eq!(board.request.unwrap().pfn, Some(0x40030));
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let (_folder, window) = board(&FILES);
        for (file, text, part) in [
            (
                "bitmap",
                Some(&b"4294967295 65535\n0 x"[..]),
                "linux,cma, bitmap, line 2: word 3 of the bitmap is \"x\"",
            ),
            ("bitmap", Some(b"1 2 3"), "linux,cma, bitmap, line 1: the bitmap has 3 words of 32 bits"),
            ("count", Some(b"0x80"), "linux,cma, count, line 1: \"0x80\" is not a decimal number"),
            (
                "count",
                None,
                "linux,cma/count cannot be read: No such file or directory (os error 2); copy base_pfn,",
            ),
            (
                "base_pfn",
                Some(b"\xff"),
                "linux,cma/base_pfn cannot be read: stream did not contain valid UTF-8",
            ),
        ] {
            match text {
                Some(text) => fs::write(window.join(file), text).unwrap(),
                None => fs::remove_file(window.join(file)).unwrap(),
            }
            let error = read(&window, None, Rules::V6_1).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        fs::create_dir_all(window.join("ranges/1")).unwrap();
        let error = read(&window, None, Rules::V6_1).unwrap_err().to_string();
        assert!(error.contains("has several ranges, which minivmm does not draw"), "{error}");
        let error = read(&window.join("nowhere"), None, Rules::V6_1).unwrap_err().to_string();
        assert!(error.contains("nowhere cannot be read: No such file"), "{error}");
    }
}
