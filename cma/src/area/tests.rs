//! Compares the allocator with hand-checked numbers, and with a reference that examines every bit.

use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::PAGE_SIZE;

/// 64 MiB at 1 GiB.
fn window() -> Area {
    Area::new("isp", 0x40000, 16384, 0).unwrap()
}

fn alloc(area: &mut Area, count: u64, align: u32) -> Result<u64, i32> {
    area.alloc(count, align).map(|granted| granted.pfn).map_err(|error| error.errno)
}

#[test]
fn what_fits_in_64_mib() {
    // 1080p YUYV, NV12 and RGB24, 720p YUYV.
    for (width, height, bits, pages, fit) in [
        (1920, 1080, 16, 1013, 16),
        (1920, 1080, 12, 760, 21),
        (1920, 1080, 24, 1519, 10),
        (1280, 720, 16, 450, 32),
    ] {
        let size = width * height * bits / 8_u64;
        assert_eq!((size.div_ceil(PAGE_SIZE), dma_alignment(size)), (pages, 8));
        let mut area = window();
        assert_eq!(area.fits(pages, 8), fit);
        for left in (0..fit).rev() {
            area.alloc(pages, 8).unwrap();
            assert_eq!(area.fits(pages, 8), left);
        }
        assert_eq!(alloc(&mut area, pages, 8), Err(-12));
        assert_eq!(area.used(), pages * fit);
    }
}

#[test]
fn what_the_kernel_prints() {
    let mut area = window();
    for _ in 0..21 {
        area.alloc(760, 8).unwrap();
    }
    area.release(0x40000 + 768, 760);
    let error = area.alloc(1013, 8).unwrap_err();
    // There are 8 pages between the buffers. The second buffer is free and joins its neighbours. 256 pages are left at the end.
    let runs: Vec<String> = (0..20)
        .filter(|n| *n != 1)
        .map(|n| if n == 0 { "776@760".into() } else { format!("8@{}", n * 768 + 760) })
        .chain(["264@16120".into()])
        .collect();
    let dmesg = area.dmesg(&error);
    assert_eq!(dmesg[0], "cma: cma_alloc: isp: alloc failed, req-size: 1013 pages, ret: -12");
    let line = format!("cma: number of available pages: {}=> 1184 free of 16384 total pages", runs.join("+"));
    assert_eq!(dmesg[1..], [line]);
    assert_eq!(
        error.to_string(),
        "the CMA area isp has no 1013 pages at alignment 8: no run of free pages is long enough at that alignment"
    );
    area.alloc(264, 3).unwrap();
    assert_eq!(area.fits(1, 0), area.count() - area.used());
}

#[test]
fn a_full_area_has_no_runs_to_list() {
    let mut area = Area::new("isp", 0, 4, 0).unwrap();
    assert_eq!(alloc(&mut area, 4, 0), Ok(0));
    let error = area.alloc(1, 0).unwrap_err();
    assert_eq!(area.dmesg(&error)[1], "cma: number of available pages: => 0 free of 4 total pages");
    assert!(area.largest_hole().is_empty());
    let statistics = area.statistics();
    assert_eq!((statistics.maxchunk, statistics.maxchunk_pfn, statistics.free_runs), (0, None, 0));
    assert_eq!(statistics.histogram, []);
}

#[test]
fn what_is_refused_before_a_search_prints_nothing() {
    let mut area = window();
    for (count, reason) in
        [(0, Reason::ZeroPages), (16385, Reason::LargerThanArea), (u64::MAX, Reason::LargerThanArea)]
    {
        let error = area.alloc(count, 8).unwrap_err();
        assert_eq!((error.reason, error.errno, area.dmesg(&error).len()), (reason, -12, 0));
        assert_eq!(area.fits(count, 8), 0);
    }
    assert_eq!(alloc(&mut area, 16384, 52), Err(-12));
    assert_eq!(alloc(&mut area, 16384, 18), Ok(0x40000));
    // The base is a multiple of 2^18 pages, but not of 2^19.
    area.release(0x40000, 16384);
    assert_eq!(alloc(&mut area, 1, 19), Err(-12));
    assert_eq!(alloc(&mut area, 1, u32::MAX), Err(-12));
}

#[test]
fn the_base_counts_for_the_alignment() {
    // 3 pages before a multiple of 256.
    let mut area = Area::new("isp", 0x400fd, 1024, 0).unwrap();
    assert_eq!(alloc(&mut area, 200, 8), Ok(0x40100));
    assert_eq!(alloc(&mut area, 1, 0), Ok(0x400fd));
    assert_eq!(alloc(&mut area, 2, 1), Ok(0x400fe));
    assert_eq!(alloc(&mut area, 200, 8), Ok(0x40200));
    assert_eq!(area.fits(200, 8), 2);
}

#[test]
fn busy_pages_are_passed_over_by_the_alignment() {
    let mut area = window();
    area.set_busy(0x40000 + 100..0x40000 + 101);
    area.set_busy(0x40000 + 530..0x40000 + 531);
    let granted = area.alloc(300, 8).unwrap();
    assert_eq!(granted, Allocation { pfn: 0x40000 + 768, busy: vec![0x40000, 0x40000 + 256, 0x40000 + 512] });
    // Only the requested pages are migrated: page 100 comes after them.
    assert_eq!(alloc(&mut area, 100, 8), Ok(0x40000));
    area.set_idle(0..u64::MAX);
    assert_eq!(area.statistics().busy, 0);
    assert_eq!(alloc(&mut area, 300, 8), Ok(0x40000 + 256));
}

#[test]
fn busy_candidates_to_the_end_are_ebusy() {
    let mut area = window();
    area.set_busy(0..u64::MAX);
    let error = area.alloc(1013, 8).unwrap_err();
    assert_eq!((error.reason, error.busy.len()), (Reason::Busy, 61));
    let dmesg = area.dmesg(&error);
    assert_eq!(dmesg[0], "cma: cma_alloc: isp: alloc failed, req-size: 1013 pages, ret: -16");
    assert_eq!(dmesg[1], "cma: number of available pages: 16384@0=> 16384 free of 16384 total pages");
    assert_eq!(area.used(), 0);
    assert_eq!(area.fits(1013, 8), 0);
    // Without a candidate the answer is -ENOMEM, even if pages are busy.
    assert_eq!(alloc(&mut area, 16384, 19), Err(-12));
}

#[test]
fn release_checks_the_first_page_and_nothing_else() {
    let mut area = window();
    area.alloc(16384, 0).unwrap();
    assert!(!area.release(0x3ffff, 8) && !area.release(0x44000, 1));
    assert_eq!(area.used(), 16384);
    assert!(area.release(0x40010, 16) && area.release(0x40000, 16) && area.release(0x40010, 16));
    assert_eq!(area.largest_hole(), 0x40000..0x40020);
    assert!(area.release(0x43ff0, u64::MAX));
    assert_eq!(area.statistics().histogram, [0, 0, 0, 0, 1, 1]);
}

#[test]
fn a_bit_of_several_pages() {
    let mut area = Area::new("isp", 0x40000, 64, 2).unwrap();
    assert_eq!(alloc(&mut area, 5, 0), Ok(0x40000));
    assert_eq!((area.used(), area.largest_hole()), (8, 0x40008..0x40040));
    assert_eq!(alloc(&mut area, 1, 4), Ok(0x40010));
    // The position of a run is in bits.
    let error = area.alloc(45, 0).unwrap_err();
    assert_eq!(area.dmesg(&error)[1], "cma: number of available pages: 8@2+44@5=> 52 free of 64 total pages");
    assert_eq!(area.allocated().runs().collect::<Vec<_>>(), [0..8, 16..20]);
    assert!(area.release(0x40000, 1));
    assert_eq!(area.used(), 8);
}

#[test]
fn areas_that_cannot_be() {
    for (base, count, order, part) in [
        (0, 0, 0, "has no pages"),
        (0, MAX_PAGES + 1, 0, "too large"),
        (u64::MAX, 2, 0, "too large"),
        (u64::MAX / PAGE_SIZE, 2, 0, "too large"),
        (0, 6, 2, "not a multiple of the 2^2 pages of a bit"),
        (0, 4, u32::MAX, "not a multiple"),
    ] {
        let error = Area::new("isp", base, count, order).unwrap_err().to_string();
        assert!(error.starts_with("the CMA area isp ") && error.contains(part), "{error}");
    }
    assert!(Area::new("isp", 0, MAX_PAGES, 28).is_ok());
    for (ranges, rules, part) in [
        (
            &[][..],
            Rules::V7_2,
            "has 0 ranges; it has one with the rules of 6.1 and 6.12, and up to 8 with those of 7.2",
        ),
        (&[(0, 1), (1, 1)], Rules::V6_1, "has 2 ranges"),
        (&[(0, 1); 9], Rules::V7_2, "has 9 ranges"),
        (&[(0, 2), (1, 1)], Rules::V7_2, "has two ranges with the page 0x1"),
        (&[(0, MAX_PAGES), (MAX_PAGES, 1)], Rules::V7_2, "too large"),
    ] {
        let error = Area::of_ranges("isp", ranges, 0, rules).unwrap_err().to_string();
        assert!(error.starts_with("the CMA area isp ") && error.contains(part), "{error}");
    }
}

#[test]
fn messages_of_6_12_name_another_function() {
    let mut area = Area::of_ranges("isp", &[(0x40000, 64)], 0, Rules::V6_12).unwrap();
    assert_eq!(alloc(&mut area, 60, 0), Ok(0x40000));
    let error = area.alloc(8, 0).unwrap_err();
    assert_eq!(
        area.dmesg(&error),
        [
            "cma: __cma_alloc: isp: alloc failed, req-size: 8 pages, ret: -12",
            "cma: number of available pages: 4@60=> 4 free of 64 total pages",
        ]
    );
    let error = area.alloc(65, 0).unwrap_err();
    assert_eq!((error.errno, area.dmesg(&error).len()), (-12, 0));
}

#[test]
fn nothing_found_is_ebusy_since_6_15() {
    let mut area = Area::of_ranges("isp", &[(0x40000, 16384)], 0, Rules::V7_2).unwrap();
    for n in 0..16 {
        assert_eq!(alloc(&mut area, 1013, 8), Ok(0x40000 + n * 1024));
    }
    area.release(0x40000 + 1024, 1013);
    let error = area.alloc(2000, 8).unwrap_err();
    assert_eq!((error.reason, error.errno), (Reason::NoRun, -16));
    let dmesg = area.dmesg(&error);
    assert_eq!(dmesg[0], "cma: __cma_alloc_frozen: isp: alloc failed, req-size: 2000 pages, ret: -16");
    assert_eq!(dmesg[1], "cma: number of available pages: ");
    // The first run is not at bit 0, so it has a plus.
    assert!(dmesg[2].starts_with("cma: range 0: +1035@1013+11@3061+"), "{}", dmesg[2]);
    assert_eq!(dmesg[3..], ["cma: ", "=> 1189 free of 16384 total pages"]);
    // A request larger than the area is -EBUSY too, and has a message. A request for zero pages has none.
    for (count, errno, lines) in [(16385, -16, 5), (0, -12, 0)] {
        let error = area.alloc(count, 0).unwrap_err();
        assert_eq!((error.errno, area.dmesg(&error).len()), (errno, lines));
    }
    // A release beyond the end frees nothing.
    assert!(!area.release(0x43fff, 2) && !area.release(0x3ffff, 1));
    assert_eq!(area.used(), 15 * 1013);
}

#[test]
fn ranges_are_tried_one_after_the_other() {
    let ranges = [(0x40000, 512), (0x50080, 1024), (0x60000, 512)];
    let mut area = Area::of_ranges("hugetlb", &ranges, 0, Rules::V7_2).unwrap();
    assert_eq!(alloc(&mut area, 600, 8), Ok(0x50100));
    assert_eq!(alloc(&mut area, 600, 8), Err(-16));
    assert_eq!(area.alloc(1025, 0).unwrap_err().reason, Reason::LargerThanArea);
    area.set_busy(0x40000..0x40001);
    let granted = area.alloc(512, 0).unwrap();
    assert_eq!(granted, Allocation { pfn: 0x60000, busy: vec![0x40000] });
    assert_eq!(area.allocated().runs().collect::<Vec<_>>(), [640..1240, 1536..2048]);
    assert_eq!((area.used(), area.count(), area.largest_hole()), (1112, 2048, 0x40000..0x40200));
    let error = area.alloc(300, 8).unwrap_err();
    assert_eq!((error.reason, error.busy.len()), (Reason::Busy, 1));
    let dmesg = area.dmesg(&error);
    assert_eq!(dmesg[2], "cma: range 0: 512@0");
    assert_eq!(dmesg[4], "cma: range 1: 128@0+296@728");
    assert_eq!(dmesg[6], "cma: range 2: ");
    assert!(area.release(0x60000, 512) && !area.release(0x60200, 1));
    assert_eq!(area.fits(256, 8), 3);
}

#[test]
fn pages_that_were_asked_for_are_used_since_6_15() {
    let mut area = Area::of_ranges("isp", &[(0x40000, 64)], 2, Rules::V7_2).unwrap();
    assert_eq!(alloc(&mut area, 5, 0), Ok(0x40000));
    assert_eq!((area.used(), area.free()), (5, 56));
    assert_eq!(alloc(&mut area, 56, 0), Ok(0x40008));
    // No whole bit is free.
    assert_eq!((area.used(), area.free()), (61, 0));
    // If pages are released in other pieces than they were allocated, the count and the bitmap differ.
    assert!(area.release(0x40008, 53));
    assert_eq!((area.used(), area.free()), (8, 56));
    assert!(area.release(0x40000, 1) && area.release(0x40000, 7));
    assert_eq!((area.used(), area.free()), (0, 64));
    assert!(area.release(0x40000, 1));
    assert_eq!(area.used(), u64::MAX);
}

#[test]
fn the_count_of_available_pages_stops_a_search() {
    let mut area = Area::of_ranges("isp", &[(0, 64)], 3, Rules::V7_2).unwrap();
    assert_eq!(alloc(&mut area, 64, 0), Ok(0));
    // Both bits of the 9 pages are clear then, but the count is 9 pages.
    assert!(area.release(0, 9));
    assert_eq!(area.free(), 16);
    assert_eq!(alloc(&mut area, 10, 0), Err(-16));
    assert_eq!(alloc(&mut area, 9, 0), Ok(0));
}

#[test]
fn what_a_request_can_use() {
    let mut area = window();
    // 16 times 1013 of 16384.
    assert_eq!((area.unusable_free_index(1013, 8), area.unusable_free_index(1, 0)), (10, 0));
    // At that alignment the distance between places is 768 pages.
    assert_eq!(area.unusable_free_index(513, 8), (16384 - 21 * 513) * 1000 / 16384);
    area.fill(1013, 8);
    assert_eq!(area.unusable_free_index(1013, 8), 1000);
    assert_eq!(area.unusable_free_index(11, 0), 0);
    for n in [3, 5, 6] {
        area.release(0x40000 + n * 1024, 1013);
    }
    // 3 * 1013 + 16 * 11 pages are free. Two adjacent slots have room for 2000 pages at their common start.
    assert_eq!(area.unusable_free_index(2000, 8), (3215 - 2000) * 1000 / 3215);
    assert_eq!(area.largest_hole(), 0x40000 + 5 * 1024 - 11..0x40000 + 7 * 1024);
    assert_eq!(area.largest_hole_at(8), 0x40000 + 5 * 1024..0x40000 + 7 * 1024);
    assert_eq!(area.largest_hole_at(12), 0..0);
    area.fill(1, 0);
    assert_eq!((area.unusable_free_index(1, 0), area.largest_hole_at(0)), (1000, 0..0));
}

#[test]
fn rules_have_names() {
    for rules in Rules::ALL {
        assert_eq!(rules.to_string().parse(), Ok(rules));
    }
    let error = "6.2\u{1b}".parse::<Rules>().unwrap_err().to_string();
    assert!(error.starts_with("the rules \"6.2\\u{1b}\" are unknown; write 6.1 or 6.12 for"), "{error}");
}

/// An operation on an area.
#[derive(Debug, Clone)]
enum Step {
    Alloc(u64, u32),
    /// The index of a live allocation, modulo their number.
    Free(usize),
    Busy(u64, u64),
    Idle(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..90, 0_u32..9).prop_map(|(count, align)| Step::Alloc(count, align)),
        3 => any::<usize>().prop_map(Step::Free),
        1 => (0_u64..600, 1_u64..30).prop_map(|(page, count)| Step::Busy(page, count)),
        1 => (0_u64..600, 1_u64..200).prop_map(|(page, count)| Step::Idle(page, count)),
    ]
}

/// lib/bitmap.c, bitmap_find_next_zero_area_off, a bit at a time.
fn next_zero_area(map: &[bool], mut start: u64, nr: u64, align_mask: u64, align_offset: u64) -> u64 {
    let size = map.len() as u64;
    let next = |set: bool, size: u64, start: u64| {
        (start..size).find(|bit| map[usize::try_from(*bit).unwrap()] == set).unwrap_or(size)
    };
    loop {
        let index = next(false, size, start);
        let index = ((index + align_offset + align_mask) & !align_mask) - align_offset;
        let end = index + nr;
        if end > size {
            return end;
        }
        let i = next(true, end, index);
        if i >= end {
            return index;
        }
        start = i + 1;
    }
}

/// A transcription of mm/cma.c: cma_alloc of 6.1, and that of 7.2 with cma_range_alloc. alloc_contig_range checks the
/// busy pages.
struct Reference {
    rules: Rules,
    order_per_bit: u32,
    /// The base, a bool for each bit of the bitmap, and a bool for each page: whether it is busy.
    ranges: Vec<(u64, Vec<bool>, Vec<bool>)>,
    available_count: u64,
}

/// The indices of `count` pages or bits from `first` on, limited to those that exist.
fn indices(len: usize, first: u64, count: u64) -> Range<usize> {
    let index = |at: u64| usize::try_from(at).unwrap().min(len);
    index(first)..index(first + count)
}

impl Reference {
    fn bits(&self, pages: u64) -> u64 {
        pages.next_multiple_of(1 << self.order_per_bit) >> self.order_per_bit
    }

    fn alloc(&mut self, count: u64, align: u32) -> Result<u64, i32> {
        if count == 0 {
            return Err(-12);
        }
        let order_per_bit = self.order_per_bit;
        let bitmap_count = self.bits(count);
        let mut ret = if self.rules == Rules::V7_2 { -16 } else { -12 };
        for (base_pfn, bitmap, busy) in &mut self.ranges {
            let mask = if align <= order_per_bit { 0 } else { (1 << (align - order_per_bit)) - 1 };
            let offset = (*base_pfn & ((1 << align) - 1)) >> order_per_bit;
            let bitmap_maxno = bitmap.len() as u64;
            if bitmap_count > bitmap_maxno {
                continue;
            }
            let mut start = 0;
            loop {
                if self.rules == Rules::V7_2 && count > self.available_count {
                    break;
                }
                let bitmap_no = next_zero_area(bitmap, start, bitmap_count, mask, offset);
                if bitmap_no >= bitmap_maxno {
                    break;
                }
                let page = bitmap_no << order_per_bit;
                if !busy[indices(busy.len(), page, count)].contains(&true) {
                    let bits = indices(bitmap.len(), bitmap_no, bitmap_count);
                    bitmap[bits].fill(true);
                    self.available_count -= count;
                    return Ok(*base_pfn + page);
                }
                ret = -16;
                start = bitmap_no + mask + 1;
            }
        }
        Err(ret)
    }

    fn free(&mut self, pfn: u64, count: u64) {
        let bits = self.bits(count);
        let holds = |(base, _, busy): &&mut (u64, Vec<bool>, Vec<bool>)| {
            pfn >= *base && pfn - *base < busy.len() as u64
        };
        let (base, bitmap, _) = self.ranges.iter_mut().find(holds).unwrap();
        let bits = indices(bitmap.len(), (pfn - *base) >> self.order_per_bit, bits);
        bitmap[bits].fill(false);
        self.available_count += count;
    }

    fn set_busy(&mut self, pfn: u64, count: u64, to: bool) {
        for (base, _, busy) in &mut self.ranges {
            let end = (pfn + count).saturating_sub(*base);
            let first = pfn.saturating_sub(*base);
            let pages = indices(busy.len(), first, end - first);
            busy[pages].fill(to);
        }
    }

    /// mm/cma_debug.c, cma_used_get.
    fn used(&self) -> u64 {
        let (mut count, mut set) = (0, 0);
        for (_, bitmap, busy) in &self.ranges {
            count += busy.len() as u64;
            set += bitmap.iter().filter(|bit| **bit).count() as u64;
        }
        if self.rules == Rules::V7_2 { count - self.available_count } else { set << self.order_per_bit }
    }

    /// Lengths of the free runs, in pages.
    fn holes(&self) -> Vec<u64> {
        let runs = self.ranges.iter().flat_map(|(_, bitmap, _)| bitmap.split(|bit| *bit));
        runs.map(|run| (run.len() as u64) << self.order_per_bit).filter(|len| *len > 0).collect()
    }
}

proptest! {
    #[test]
    fn as_the_reference(
        base in 0_u64..5000, order in 0_u32..4, rules in prop::sample::select(&Rules::ALL[..]),
        blocks in prop::collection::vec((0_u64..300, 1_u64..400), 1..4),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut end = base;
        let ranges: Vec<(u64, u64)> = blocks
            .iter()
            .take(if rules == Rules::V7_2 { 3 } else { 1 })
            .map(|(gap, blocks)| {
                let range = (end + gap, (blocks >> order).max(1) << order);
                end = range.0 + range.1;
                range
            })
            .collect();
        let mut area = Area::of_ranges("isp", &ranges, order, rules).unwrap();
        let list = |count| vec![false; usize::try_from(count).unwrap()];
        let mut reference = Reference {
            rules,
            order_per_bit: order,
            ranges: ranges.iter().map(|&(base, count)| (base, list(count >> order), list(count))).collect(),
            available_count: ranges.iter().map(|(_, count)| count).sum(),
        };
        let mut live: Vec<(u64, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Alloc(count, align) => {
                    let answer = alloc(&mut area, count, align);
                    prop_assert_eq!(answer, reference.alloc(count, align));
                    live.extend(answer.ok().map(|pfn| (pfn, count)));
                }
                Step::Free(index) if !live.is_empty() => {
                    let (pfn, count) = live.swap_remove(index % live.len());
                    prop_assert!(area.release(pfn, count));
                    reference.free(pfn, count);
                }
                Step::Free(_) => (),
                Step::Busy(page, count) => {
                    area.set_busy(base + page..base + page + count);
                    reference.set_busy(base + page, count, true);
                }
                Step::Idle(page, count) => {
                    area.set_idle(base + page..base + page + count);
                    reference.set_busy(base + page, count, false);
                }
            }
            let holes = reference.holes();
            let statistics = area.statistics();
            prop_assert_eq!(statistics.used, reference.used());
            prop_assert_eq!(statistics.maxchunk, holes.iter().copied().max().unwrap_or(0));
            prop_assert_eq!(statistics.free_runs, holes.len() as u64);
            prop_assert_eq!(area.free(), holes.iter().sum::<u64>());
            for (order, runs) in (0..).zip(&statistics.histogram) {
                prop_assert_eq!(*runs, holes.iter().filter(|hole| hole.ilog2() == order).count() as u64);
            }
            let busy = reference.ranges.iter().flat_map(|(.., busy)| busy).filter(|busy| **busy).count();
            prop_assert_eq!(statistics.busy, busy as u64);
        }
        area.set_idle(0..u64::MAX);
        reference.set_busy(0, u64::from(u32::MAX), false);
        // Exactly this number of pages is granted at an alignment.
        for align in [0, 3, 8] {
            let most = area.largest_hole_at(align);
            if !most.is_empty() {
                prop_assert!(area.clone().alloc(most.end - most.start, align).is_ok());
            }
            prop_assert!(area.clone().alloc(most.end - most.start + 1, align).is_err());
        }
        let fits = area.fits(7, 2);
        prop_assert_eq!(area.fill(7, 2), fits);
        prop_assert_eq!(area.fits(7, 2), 0);
        prop_assert_eq!(fits, std::iter::from_fn(|| reference.alloc(7, 2).ok()).count() as u64);
    }
}

#[test]
fn releases_have_rules() {
    for (release, rules) in [
        ("4.19.0-rc1", Some(Rules::V6_1)),
        ("5.10.110", Some(Rules::V6_1)),
        ("6.11.2", Some(Rules::V6_1)),
        ("6.12.25+rpt-rpi-v8", Some(Rules::V6_12)),
        ("6.14", Some(Rules::V6_12)),
        ("6.15-rc3", Some(Rules::V7_2)),
        ("7.2.1", Some(Rules::V7_2)),
        ("next", None),
        ("6", None),
    ] {
        assert_eq!(Rules::of_release(release), rules, "{release}");
    }
}
