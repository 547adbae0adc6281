//! The steps by which the guest's program gives a window a bitmap, pins pages and makes the request (vmm/guest/hold.c).

use std::{fmt::Write as _, ops::Range};

use cma::map::Pages;

/// The alignment of the largest buffers, in pages: 2^CONFIG_CMA_ALIGNMENT.
const ALIGNED: u64 = 1 << cma::area::CMA_ALIGNMENT;

/// The most buffers that the guest's program holds.
pub(super) const MOST_BUFFERS: usize = 65536;

/// Buffers that fill `run` exactly, each of which begins where it is aligned: the dma-buf heap aligns a buffer to its size, rounded up
/// to a power of two, up to 256 pages (drivers/dma-buf/heaps/cma_heap.c, cma_heap_allocate).
fn buffers(run: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut start = run.start;
    std::iter::from_fn(move || {
        let aligned = 1_u64 << start.trailing_zeros().min(ALIGNED.trailing_zeros());
        let rest = run.end.checked_sub(start).filter(|rest| *rest > 0)?;
        let end = start + if aligned == ALIGNED { rest } else { aligned.min(rest) };
        Some(std::mem::replace(&mut start, end)..end)
    })
}

/// The steps that allocate `used` of a window without buffers. None if they need too many buffers.
///
/// Buffers fill the whole window in order, so that each gets the first free page. Then those of the free runs are freed.
pub(super) fn occupy(used: &Pages) -> Option<String> {
    let mut runs: Vec<_> = used.runs().map(|run| (run, true)).collect();
    runs.extend(used.holes().map(|run| (run, false)));
    runs.sort_by_key(|(run, _)| run.start);
    // Free pages after the last one in use need no buffers.
    while runs.last().is_some_and(|(_, used)| !used) {
        runs.pop();
    }
    let (mut steps, mut free, mut count) = (String::new(), String::new(), 0);
    for (run, used) in runs {
        for buffer in buffers(run) {
            let _ = writeln!(steps, "h {count} {}", buffer.end - buffer.start);
            if !used {
                let _ = writeln!(free, "c {count}");
            }
            count += 1;
        }
    }
    (count <= MOST_BUFFERS).then(|| format!("{steps}{free}v\n"))
}

/// The steps that pin pages so that each place for a request of `pages` pages has a pinned one.
pub(super) fn pin(used: &Pages, pages: u64) -> String {
    let each = (pages / 2).max(1);
    let mut steps = String::new();
    for hole in used.holes().filter(|hole| hole.end - hole.start >= pages) {
        let mut start = hole.start;
        while start + each <= hole.end {
            let _ = writeln!(steps, "t {start} {each}");
            start += each;
        }
    }
    steps + "p\n"
}

/// A bitmap as debugfs prints it: decimal words of 32 bits.
pub(super) fn bitmap(used: &Pages) -> String {
    let mut words = vec![0_u32; usize::try_from(used.window_pages().div_ceil(32)).unwrap_or(0)];
    for page in used.runs().flatten() {
        if let Some(word) = usize::try_from(page / 32).ok().and_then(|index| words.get_mut(index)) {
            *word |= 1 << (page % 32);
        }
    }
    words.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use cma::area::{Area, dma_alignment};

    use super::*;

    fn pages(end: u64, runs: &[Range<u64>]) -> Pages {
        let mut pages = Pages::empty(end);
        runs.iter().for_each(|run| pages.insert(run.clone()));
        pages
    }

    #[test]
    fn the_model_gets_the_bitmap() {
        for runs in [
            &[0..3, 7..300, 301..302, 600..1024][..],
            &[1..2, 255..257, 511..1000],
            &[],
            &[0..1024],
            &[5..6, 1023..1024],
        ] {
            let wanted = pages(1024, runs);
            let mut area = Area::new("isp", 0x40000, 1024, 0).unwrap();
            let mut held = std::collections::BTreeMap::new();
            for step in occupy(&wanted).unwrap().lines() {
                let words: Vec<_> = step.split(' ').collect();
                let number = |index: usize| words[index].parse::<u64>().unwrap();
                match words[0] {
                    "h" => {
                        let pfn = area.alloc(number(2), dma_alignment(number(2) * 4096)).unwrap().pfn;
                        held.insert(number(1), (pfn, number(2)));
                    }
                    "c" => {
                        let (pfn, count) = held[&number(1)];
                        assert!(area.release(pfn, count));
                    }
                    _ => assert_eq!(area.allocated(), wanted, "{runs:?}"),
                }
            }
            assert_eq!(area.allocated(), wanted, "{runs:?}");
            assert_eq!(Pages::parse(&bitmap(&wanted), 1024).unwrap(), wanted);
        }
    }

    #[test]
    fn pins_are_in_each_place() {
        let used = pages(1024, &[0..100, 500..501, 900..1024]);
        for count in [1, 2, 7, 64, 300, 399] {
            let mut area = Area::new("isp", 0x40000, 1024, 0).unwrap();
            for run in used.runs() {
                // The last page of each tile is the worst one to pin.
                assert!(area.alloc(run.end - run.start, 0).is_ok());
            }
            for line in pin(&used, count).lines().filter(|line| line.starts_with('t')) {
                let words: Vec<u64> = line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
                let last = 0x40000 + words[0] + words[1] - 1;
                area.set_busy(last..last + 1);
            }
            let mut whole = Area::of_free_runs(
                "isp",
                &[(0x40000, 1024)],
                &[used.holes().collect()],
                0,
                cma::area::Rules::V6_1,
            )
            .unwrap();
            for line in pin(&used, count).lines().filter(|line| line.starts_with('t')) {
                let words: Vec<u64> = line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
                whole.set_busy(0x40000 + words[0] + words[1] - 1..0x40000 + words[0] + words[1]);
            }
            assert!(whole.alloc(count, 0).is_err(), "{count}");
        }
    }

    #[test]
    fn too_many_buffers() {
        let every_other: Vec<_> = (0..200_000_u64).step_by(2).map(|page| page..page + 1).collect();
        assert_eq!(occupy(&pages(200_000, &every_other)), None);
    }
}
