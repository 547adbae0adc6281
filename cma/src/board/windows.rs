//! The windows of a board: those in debugfs, and those that the log says the boot placed.

use crate::{
    area::{Area, Debugfs, Rules},
    board::{
        error::BoardError,
        files::Files,
        log::{Log, Origin},
    },
};

/// A window of a board.
#[derive(Debug, Clone)]
pub struct KnownWindow {
    /// Its name, as the kernel prints it; empty if no file has it.
    pub name: String,
    /// Its first address.
    pub base: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
    /// How it came to be, if the log says it.
    pub origin: Option<Origin>,
    /// Its state, from debugfs.
    pub now: Option<Area>,
}

impl KnownWindow {
    /// Its name, or its address.
    pub fn label(&self) -> String {
        match (self.name.as_str(), self.base) {
            ("", Some(base)) => format!("the unnamed window at {base:#x}"),
            ("", None) => "the unnamed window".to_owned(),
            (name, _) => name.to_owned(),
        }
    }
}

/// The windows of `files`, and of the log if debugfs does not have them.
///
/// # Errors
/// If a window's files are not what debugfs prints, or if the log is of another boot.
pub(super) fn find(
    files: &Files,
    log: &Log,
    page_size: u64,
    rules: Rules,
) -> Result<Vec<KnownWindow>, BoardError> {
    let mut windows = Vec::new();
    for path in files.keys() {
        let Some(folder) = path.strip_suffix("/order_per_bit") else { continue };
        if let Some(area) = in_debugfs(files, folder, rules)? {
            let base = area.ranges().next().map(|range| range.start.saturating_mul(page_size));
            windows.push(KnownWindow {
                name: area.name().to_owned(),
                base,
                size: area.count().saturating_mul(page_size),
                origin: None,
                now: Some(area),
            });
        }
    }
    let from_debugfs = windows.len();
    // The only window is that of the failures, whose name the log has.
    let named = log.failures.iter().find_map(|failure| failure.window.clone());
    let only = named.filter(|_| log.windows.len() == 1);
    for placed in &log.windows {
        // A window of several ranges has no address in the log. Sizes there are in whole MiB.
        let same = windows.iter_mut().find(|window| {
            window.size >> 20 == placed.size >> 20 && (placed.base.is_none() || window.base == placed.base)
        });
        match same {
            Some(window) => window.origin = Some(placed.origin),
            None if from_debugfs > 0 => {
                return Err(BoardError::OtherWindows {
                    line: placed.line,
                    size: placed.size,
                    base: placed.base,
                    found: windows[..from_debugfs].iter().map(KnownWindow::label).collect(),
                });
            }
            None => windows.push(KnownWindow {
                // `cma=` and the configuration make a window of this name (kernel/dma/contiguous.c, dma_contiguous_reserve_area).
                name: placed.name.clone().or_else(|| only.clone()).unwrap_or_else(|| match placed.origin {
                    Origin::Kernel => "reserved".to_owned(),
                    Origin::Tree => String::new(),
                }),
                base: placed.base,
                size: placed.size,
                origin: Some(placed.origin),
                now: None,
            }),
        }
    }
    Ok(windows)
}

/// The window whose files are in `folder`. None if its bitmap was not copied.
fn in_debugfs(files: &Files, folder: &str, rules: Rules) -> Result<Option<Area>, BoardError> {
    let bytes = |file: &str| files.get(&format!("{folder}/{file}"));
    let text = |file: &str| bytes(file).map(|bytes| String::from_utf8_lossy(bytes));
    let name: String =
        folder.rsplit('/').next().unwrap_or(folder).chars().flat_map(char::escape_debug).collect();
    let refused = |source| BoardError::Window { folder: folder.to_owned(), source };
    let (Some(count), Some(order)) = (text("count"), text("order_per_bit")) else { return Ok(None) };
    if bytes("ranges/1/base_pfn").is_some() {
        let ranges: Vec<_> = (0..crate::area::MAX_RANGES)
            .map_while(|index| {
                text(&format!("ranges/{index}/base_pfn")).zip(text(&format!("ranges/{index}/bitmap")))
            })
            .collect();
        let ranges: Vec<_> = ranges.iter().map(|(base, bitmap)| (&**base, &**bitmap)).collect();
        return Area::of_debugfs_ranges(&name, &count, &order, &ranges, Rules::V7_2)
            .map(Some)
            .map_err(refused);
    }
    let base = text("base_pfn").or_else(|| text("ranges/0/base_pfn"));
    let bitmap = text("bitmap").or_else(|| text("ranges/0/bitmap"));
    let (Some(base_pfn), Some(bitmap)) = (&base, &bitmap) else { return Ok(None) };
    let files = Debugfs { base_pfn, count: &count, order_per_bit: &order, bitmap };
    Area::of_debugfs(&name, files, rules).map(Some).map_err(refused)
}
