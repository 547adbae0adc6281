//! What the files of a board say, before anything is judged.

use std::ops::Range;

use super::{
    error::BoardError,
    files::Files,
    live_tree,
    log::{Log, Meminfo},
    windows::{self, KnownWindow},
};
use crate::{
    PAGE_SIZE,
    area::{self, CMA_ALIGNMENT, Rules},
    check::config::Config,
};

/// The most text of logs that is read, in bytes.
const MAX_LOG: usize = 64 << 20;

/// What the files of a board say.
#[derive(Debug, Clone)]
pub struct Board {
    /// The kernel's release, as `uname -r` prints it.
    pub release: Option<String>,
    /// The machine, as `uname -m` prints it.
    pub machine: Option<String>,
    /// The size of a page in bytes.
    pub page_size: u64,
    /// The board's name.
    pub model: Option<String>,
    /// The rules of the kernel's version.
    pub rules: Rules,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// The kernel's configuration.
    pub config: Option<String>,
    /// CONFIG_CMA_ALIGNMENT, if the configuration is known.
    pub cma_alignment: Option<u32>,
    /// The flattened device tree.
    pub tree: Option<Vec<u8>>,
    /// The RAM of /proc/iomem; empty without real addresses.
    pub ram: Vec<Range<u64>>,
    /// /proc/meminfo.
    pub meminfo: Meminfo,
    /// The windows.
    pub windows: Vec<KnownWindow>,
    /// The kernel log.
    pub log: Log,
    /// What the files do not say, and what is assumed instead.
    pub assumed: Vec<String>,
    /// What is missing, and what cannot be said without it.
    pub missing: Vec<String>,
}

/// Files that are neither logs nor read otherwise.
const NOT_LOGS: [&str; 9] = [
    "buddyinfo",
    "pagetypeinfo",
    "vmstat",
    "page_owner",
    "version",
    "uname",
    "page_size",
    "missing",
    "README",
];

impl Board {
    /// What a log alone says.
    ///
    /// # Errors
    /// If it says nothing about contiguous memory, or contradicts itself.
    pub fn of_log(text: &str) -> Result<Self, BoardError> {
        Self::of_files(&Files::from([("dmesg".to_owned(), text.as_bytes().to_vec())]))
    }

    /// What files say: those of an archive of `minivmm collect`, or copies with the same names. All other text files are read
    /// as logs.
    ///
    /// # Errors
    /// If they say nothing about contiguous memory, are of two boards, or contradict each other.
    pub fn of_files(files: &Files) -> Result<Self, BoardError> {
        let text = |name: &str| {
            let named = |path: &&String| path.rsplit('/').next() == Some(name) && !live_tree::has(path);
            files.keys().find(named).map(|path| String::from_utf8_lossy(&files[path]).into_owned())
        };
        let log = Log::read(&logs(files));
        let mut meminfo = log.meminfo;
        text("meminfo").iter().flat_map(|text| text.lines()).for_each(|line| meminfo.take(line));
        let version = text("version").and_then(|text| Log::read(&text).release);
        let uname = text("uname").unwrap_or_default();
        let mut uname = uname.split_whitespace().map(printable);
        let release = uname.next().or(version);
        if let (Some(log), Some(uname)) = (&log.release, &release)
            && log != uname
        {
            return Err(BoardError::OtherRelease { log: log.clone(), uname: uname.clone() });
        }
        let release = release.or_else(|| log.release.clone());
        let machine = uname.next().or_else(|| log.arch.map(str::to_owned));
        let mut assumed = Vec::new();
        let rules = rules(&log, release.as_deref(), &mut assumed);
        let page_size = text("page_size").and_then(|text| text.trim().parse().ok());
        let page_size =
            page_size.filter(|size: &u64| size.is_power_of_two() && (PAGE_SIZE..=1 << 20).contains(size));
        let config = text("config").or_else(|| text(".config"));
        let configured = config.as_deref().and_then(|config| Config::read(config).page_size());
        let page_size = page_size.or(configured).or_else(|| page_size_of(&log)).unwrap_or_else(|| {
            assumed.push("pages of 4K".to_owned());
            PAGE_SIZE
        });
        let windows = windows::find(files, &log, page_size, rules)?;
        let tree = files.values().find(|bytes| bytes.starts_with(&[0xd0, 0x0d, 0xfe, 0xed])).cloned();
        let said = text("missing").unwrap_or_default();
        let board = Self {
            cmdline: text("cmdline").map(|text| text.trim().to_owned()).or_else(|| log.cmdline.clone()),
            cma_alignment: config.as_deref().and_then(|config| Config::read(config).alignment()),
            config,
            tree: tree.or_else(|| live_tree::flatten(files)),
            ram: text("iomem").map(|text| ram(&text)).unwrap_or_default(),
            model: log.model.clone().or_else(|| live_tree::model(files)),
            missing: said.lines().filter(|line| !line.is_empty()).take(100).map(printable).collect(),
            release,
            machine,
            page_size,
            rules,
            meminfo,
            windows,
            log,
            assumed,
        };
        let log = &board.log;
        let of_use = !log.failures.is_empty() || !log.notes.is_empty() || board.tree.is_some();
        if !of_use && board.windows.is_empty() && board.meminfo.cma_total.is_none() {
            return Err(BoardError::Nothing);
        }
        board.check_failures()?;
        Ok(board)
    }

    /// Whether the failures of the log fit the windows.
    fn check_failures(&self) -> Result<(), BoardError> {
        for failure in self.log.failures.iter().filter(|failure| failure.line >= self.log.booted) {
            let Some(window) = failure.window.as_deref().and_then(|name| self.named(name)) else { continue };
            let Some(listed) = failure.listing.as_ref().and_then(|listing| listing.total) else { continue };
            let pages = window.size / self.page_size;
            if !self.fits(window, listed) {
                return Err(BoardError::OtherSize {
                    line: failure.line,
                    listed,
                    window: window.label(),
                    pages,
                });
            }
        }
        Ok(())
    }

    /// Whether a window can have this number of pages. The log has sizes in whole MiB.
    pub(super) fn fits(&self, window: &KnownWindow, pages: u64) -> bool {
        let size = pages.saturating_mul(self.page_size);
        if window.now.is_some() { size == window.size } else { size >> 20 == window.size >> 20 }
    }

    /// The alignment of a buffer of `pages` pages from the DMA API, as an order of pages (kernel/dma/contiguous.c, cma_alloc_aligned).
    pub fn dma_alignment(&self, pages: u64) -> u32 {
        area::order(pages).min(self.cma_alignment.unwrap_or(CMA_ALIGNMENT))
    }

    /// The window with this name.
    pub fn named(&self, name: &str) -> Option<&KnownWindow> {
        self.windows.iter().find(|window| window.name == name)
    }
}

/// A line without control characters, of a bounded length.
fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// A text in UTF-8, or in UTF-16 with its byte-order mark, in which some shells redirect output.
fn decoded(bytes: &[u8]) -> String {
    let order: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return String::from_utf8_lossy(bytes).into_owned(),
    };
    let (pairs, _) = bytes[2..].as_chunks::<2>();
    String::from_utf16_lossy(&pairs.iter().map(|pair| order(*pair)).collect::<Vec<_>>())
}

/// The text of all logs.
fn logs(files: &Files) -> String {
    let mut all = String::new();
    for (path, bytes) in files {
        let name = path.rsplit('/').next().unwrap_or(path);
        let other = NOT_LOGS.contains(&name)
            || ["cmdline", "iomem", "meminfo", "config", ".config"].contains(&name)
            || live_tree::has(path)
            || path.contains("/cma/")
            || path.starts_with("cma/")
            || path.ends_with(".dts")
            || bytes.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]);
        if !other && all.len() + bytes.len() <= MAX_LOG {
            all.push_str(&decoded(bytes));
            all.push('\n');
        }
    }
    all
}

/// The rules of the release, or those that the log's messages have.
fn rules(log: &Log, release: Option<&str>, assumed: &mut Vec<String>) -> Rules {
    if let Some(rules) = release.and_then(Rules::of_release) {
        return rules;
    }
    if let Some(failure) = log.failures.last() {
        assumed.push(format!("the rules of Linux {}, from the form of the messages", failure.rules));
        return failure.rules;
    }
    assumed.push(format!("the rules of Linux {}", Rules::default()));
    Rules::default()
}

/// The page size by which a window of the log has as many pages as a failure's list says.
fn page_size_of(log: &Log) -> Option<u64> {
    let totals = log.failures.iter().filter_map(|failure| failure.listing.as_ref()?.total);
    let mut sizes = totals.flat_map(|total| {
        log.windows.iter().filter_map(move |window| {
            window.size.checked_div(total).filter(|size| size * total == window.size)
        })
    });
    sizes.find(|size| [PAGE_SIZE, 4 * PAGE_SIZE, 16 * PAGE_SIZE].contains(size))
}

/// The RAM in /proc/iomem. Without root all addresses are zero.
fn ram(iomem: &str) -> Vec<Range<u64>> {
    let range = |line: &str| {
        let (range, name) = line.split_once(" : ")?;
        let (first, last) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        let (first, last) = (address(first)?, address(last)?);
        (name.trim() == "System RAM" && first < last).then(|| first..last.saturating_add(1))
    };
    iomem.lines().filter_map(range).take(1024).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_of_iomem() {
        let iomem =
            "00000000-3b3fffff : System RAM\n  00210000-0190ffff : Kernel code\nfe000000-fe0000ff : serial\n";
        assert_eq!(ram(iomem), [0..0x3b40_0000]);
        assert_eq!(ram("00000000-00000000 : System RAM\nx-y : System RAM\n-\n"), []);
    }

    #[test]
    fn pages_of_64k_by_the_number_of_pages() {
        let log = "Reserved memory: created CMA memory pool at 0x0000000080000000, size 512 MiB
            cma: cma_alloc: isp: alloc failed, req-size: 4 pages, ret: -12
            cma: number of available pages: 3@0=> 3 free of 8192 total pages";
        let board = Board::of_log(log).unwrap();
        assert_eq!((board.page_size, board.rules), (65536, Rules::V6_1));
        assert_eq!(board.assumed, ["the rules of Linux 6.1, from the form of the messages"]);
    }

    #[test]
    fn a_log_in_utf_16() {
        let log = "cma: cma_alloc: isp: alloc failed, req-size: 4 pages, ret: -12\r\n";
        for (mark, order) in
            [([0xff, 0xfe], u16::to_le_bytes as fn(u16) -> [u8; 2]), ([0xfe, 0xff], u16::to_be_bytes)]
        {
            let bytes = mark.into_iter().chain(log.encode_utf16().flat_map(order)).collect();
            let board = Board::of_files(&Files::from([("dmesg".to_owned(), bytes)])).unwrap();
            assert_eq!(board.log.failures[0].pages, 4);
        }
    }

    #[test]
    fn a_window_of_half_a_mebibyte_more() {
        let log = "Reserved memory: created CMA memory pool at 0x0000000080000000, size 4 MiB
            cma: cma_alloc: isp: alloc failed, req-size: 4 pages, ret: -12
            cma: number of available pages: 3@0=> 3 free of 1152 total pages";
        let board = Board::of_log(log).unwrap();
        assert_eq!((board.page_size, board.windows.len()), (4096, 1));
    }

    #[test]
    fn texts_without_any_of_it() {
        for text in ["", "hello\n", "usb 1-1: new device\n"] {
            assert_eq!(Board::of_log(text).unwrap_err(), BoardError::Nothing, "{text}");
        }
    }
}
