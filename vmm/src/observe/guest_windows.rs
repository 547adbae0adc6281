//! The CMA windows as the guest's kernel has them, with the processes that own their pages.

use std::ops::Range;

use cma::{PAGE_SIZE, area::Area, live::owners::Owner};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{kernel_memory::KernelAreas, page_runs::runs};

/// Who reads the kernel's CMA areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Reader {
    /// minivmm, from guest memory, without the guest's help
    Memory,
    /// The guest's agent, from debugfs
    Agent,
}

/// A CMA window as the guest's kernel has it. Pages are counted from its base and have 4096 bytes, whatever the kernel's
/// have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuestWindow {
    /// The kernel's name for it: that of its node with the address, `reserved` for `cma=`.
    pub name: String,
    /// First address.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
    /// Pages of a bit of the bitmap, as an order.
    pub order_per_bit: u32,
    /// Number of its pages that are allocated.
    pub pages_allocated: u64,
    /// These pages as runs of (first page, number of pages).
    pub runs_allocated: Vec<(u64, u64)>,
    /// The pages that devices wrote to since the start, in the same form.
    pub runs_written: Vec<(u64, u64)>,
    /// The processes that allocated these pages. Null if they are unknown: the kernel's command line needs `page_owner=on`, its
    /// configuration `CONFIG_PAGE_OWNER`, and minivmm its symbols.
    pub owners: Option<Vec<OwnedRun>>,
    /// Who read the area.
    pub read_by: Reader,
}

/// Pages in a row that one process allocated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OwnedRun {
    /// The first page, counted from the window's base.
    pub first: u64,
    /// Number of pages.
    pub pages: u64,
    /// The name of the task: the first 15 characters of the program's, if the task did not change it.
    pub comm: String,
    /// Number of the task. It may have ended since.
    pub pid: u32,
    /// Number of its process.
    pub tgid: u32,
}

/// The windows in the order of their addresses. `written` has a bitmap of pages for each range of addresses that devices wrote to.
pub fn guest_windows(
    found: &KernelAreas,
    written: &[(Range<u64>, Vec<u64>)],
    read_by: Reader,
) -> Vec<GuestWindow> {
    let written: Vec<_> = written.iter().map(|(range, bitmap)| (range.start, runs(bitmap))).collect();
    let window = |area| guest_window(area, found, &written, read_by);
    let mut windows: Vec<_> = found.areas.iter().map(window).collect();
    windows.sort_by_key(|window| window.base);
    windows
}

/// The window that an area of the guest's kernel is. `written` has runs of pages of 4 KiB, each list with the address from which
/// its pages are counted.
fn guest_window(
    area: &Area,
    found: &KernelAreas,
    written: &[(u64, Vec<(u64, u64)>)],
    read_by: Reader,
) -> GuestWindow {
    let page_size = found.page_size;
    let base = area.ranges().next().map_or(0, |range| range.start) * page_size;
    let size = area.count() * page_size;
    let scale = page_size / PAGE_SIZE;
    let allocated = area.allocated();
    let inside = |run: Range<u64>| {
        let run = run.start.max(base)..run.end.min(base + size);
        (!run.is_empty()).then(|| ((run.start - base) / PAGE_SIZE, (run.end - run.start) / PAGE_SIZE))
    };
    let addresses = written.iter().flat_map(|(start, runs)| {
        runs.iter().map(move |(first, count)| start + first * PAGE_SIZE..start + (first + count) * PAGE_SIZE)
    });
    GuestWindow {
        name: area.name().to_owned(),
        base,
        size,
        order_per_bit: area.order_per_bit() + scale.ilog2(),
        pages_allocated: allocated.count() * scale,
        runs_allocated: allocated
            .runs()
            .map(|run| (run.start * scale, (run.end - run.start) * scale))
            .collect(),
        runs_written: addresses.filter_map(inside).collect(),
        owners: found.owners.as_ref().map(|owners| owned_runs(area, owners, scale)),
        read_by,
    }
}

/// The owners of the pages of `area`, of which each has `scale` pages of 4 KiB. The pages of a second range follow those of the first.
fn owned_runs(area: &Area, owners: &[(Range<u64>, Owner)], scale: u64) -> Vec<OwnedRun> {
    let mut runs = Vec::new();
    let mut before = 0;
    for range in area.ranges() {
        for (run, owner) in owners {
            let (start, end) = (run.start.max(range.start), run.end.min(range.end));
            if start < end {
                let Owner { comm, pid, tgid } = owner.clone();
                let first = (before + start - range.start) * scale;
                runs.push(OwnedRun { first, pages: (end - start) * scale, comm, pid, tgid });
            }
        }
        before += range.end - range.start;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(page_size: u64) -> KernelAreas {
        KernelAreas { page_size, ..Default::default() }
    }

    #[test]
    fn a_window_has_what_was_written_inside() {
        let area = Area::new("isp@100000", 0x100, 64, 0).unwrap();
        // Pages 0xfe to 0x101, 0x110, and 0x13f to 0x140, counted from an alloc-range's start; another window.
        let written = [(0xf0_000, vec![(14, 4), (32, 1), (79, 2)]), (0x20_0000, vec![(0, 4)])];
        let window = guest_window(&area, &found(4096), &written, Reader::Memory);
        assert_eq!(window.runs_written, [(0, 2), (16, 1), (63, 1)]);
        assert_eq!((window.base, window.size), (0x10_0000, 64 << 12));
    }

    #[test]
    fn larger_pages_are_counted_in_ours() {
        let mut area = Area::new("isp@1000000", 0x100, 64, 0).unwrap();
        area.alloc(3, 0).unwrap();
        let owner = Owner { comm: "v4l2-ctl".into(), pid: 12, tgid: 11 };
        let owners = Some(vec![(0x90..0x91, owner.clone()), (0x101..0x103, owner)]);
        let found = KernelAreas { owners, ..found(65536) };
        let window = guest_window(&area, &found, &[(0x100_0000, vec![(5, 1)])], Reader::Agent);
        assert_eq!((window.base, window.size, window.order_per_bit), (0x100_0000, 64 << 16, 4));
        assert_eq!((window.pages_allocated, window.runs_allocated), (48, vec![(0, 48)]));
        assert_eq!(window.runs_written, [(5, 1)]);
        let comm = "v4l2-ctl".to_owned();
        assert_eq!(window.owners, Some(vec![OwnedRun { first: 16, pages: 32, comm, pid: 12, tgid: 11 }]));
    }
}
