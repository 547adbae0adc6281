//! The allocator against hand-checked numbers, and against one that looks at every bit.

use proptest::prelude::*;

use super::*;

/// 64 MiB at 1 GiB.
fn window() -> Area {
    Area::new("isp", 0x40000, 16384, 0).unwrap()
}

fn alloc(area: &mut Area, count: u64, align: u32) -> Result<u64, i32> {
    area.alloc(count, align).map(|granted| granted.pfn).map_err(|error| error.reason.errno())
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
    // Between the buffers lie 8 pages each; the second is free and joins its neighbours; 256 are left at the end.
    let runs: Vec<String> = (0..20)
        .filter(|n| *n != 1)
        .map(|n| if n == 0 { "776@760".into() } else { format!("8@{}", n * 768 + 760) })
        .chain(["264@16120".into()])
        .collect();
    assert_eq!(error.dmesg[0], "cma: cma_alloc: isp: alloc failed, req-size: 1013 pages, ret: -12");
    let line = format!("cma: number of available pages: {}=> 1184 free of 16384 total pages", runs.join("+"));
    assert_eq!(error.dmesg[1..], [line]);
    assert_eq!(
        error.to_string(),
        "the CMA area isp has no 1013 pages at alignment 8: no run of free pages is long enough at that alignment"
    );
    area.alloc(264, 3).unwrap();
    assert_eq!(area.fits(1, 0), area.count - area.used());
}

#[test]
fn a_full_area_has_no_runs_to_list() {
    let mut area = Area::new("isp", 0, 4, 0).unwrap();
    assert_eq!(alloc(&mut area, 4, 0), Ok(0));
    let error = area.alloc(1, 0).unwrap_err();
    assert_eq!(error.dmesg[1], "cma: number of available pages: => 0 free of 4 total pages");
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
        assert_eq!((error.reason, error.reason.errno(), error.dmesg.len()), (reason, -12, 0));
        assert_eq!(area.fits(count, 8), 0);
    }
    assert_eq!(alloc(&mut area, 16384, 52), Err(-12));
    assert_eq!(alloc(&mut area, 16384, 18), Ok(0x40000));
    // The base is a multiple of 2^18 pages and of no more.
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
    // Only the pages asked for are migrated: page 100 is behind them.
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
    assert_eq!(error.dmesg[0], "cma: cma_alloc: isp: alloc failed, req-size: 1013 pages, ret: -16");
    assert_eq!(error.dmesg[1], "cma: number of available pages: 16384@0=> 16384 free of 16384 total pages");
    assert_eq!(area.used(), 0);
    assert_eq!(area.fits(1013, 8), 0);
    // No candidate at all is -ENOMEM, busy or not.
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
    // The place of a run is in bits.
    let error = area.alloc(45, 0).unwrap_err();
    assert_eq!(error.dmesg[1], "cma: number of available pages: 8@2+44@5=> 52 free of 64 total pages");
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
}

/// What is done to an area.
#[derive(Debug, Clone)]
enum Step {
    Alloc(u64, u32),
    /// The how-manieth live allocation, modulo their number.
    Free(usize),
    Busy(u64, u64),
    Idle(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..90, 0_u32..9).prop_map(|(count, align)| Step::Alloc(count, align)),
        3 => any::<usize>().prop_map(Step::Free),
        1 => (0_u64..600, 1_u64..30).prop_map(|(page, count)| Step::Busy(page, count)),
        1 => (0_u64..600, 1_u64..200).prop_map(|(page, count)| Step::Idle(page, count)),
    ]
}

/// The same allocator, a page and a place at a time.
struct Reference {
    base: u64,
    order: u32,
    used: Vec<bool>,
    busy: Vec<bool>,
}

impl Reference {
    fn pages(&self, page: u64, count: u64) -> Range<usize> {
        let end = (page + count).min(self.used.len() as u64);
        usize::try_from(page.min(end)).unwrap()..usize::try_from(end).unwrap()
    }

    fn alloc(&mut self, count: u64, align: u32) -> Result<u64, i32> {
        let block = 1 << self.order;
        let whole = count.next_multiple_of(block);
        let mut answer = Err(-12);
        for page in (0..self.used.len() as u64).step_by(1 << self.order) {
            // In blocks, as an area may begin in the middle of one.
            let aligned = ((self.base >> self.order) + page / block)
                .is_multiple_of(1 << align.saturating_sub(self.order));
            let inside = page + whole <= self.used.len() as u64;
            if !aligned || !inside || self.used[self.pages(page, whole)].contains(&true) {
                continue;
            }
            if self.busy[self.pages(page, count)].contains(&true) {
                answer = Err(-16);
                continue;
            }
            let pages = self.pages(page, whole);
            self.used[pages].fill(true);
            return Ok(self.base + page);
        }
        answer
    }

    fn free(&mut self, pfn: u64, count: u64) {
        let pages = self.pages(pfn - self.base, count.next_multiple_of(1 << self.order));
        self.used[pages].fill(false);
    }

    /// Lengths of the free runs.
    fn holes(&self) -> Vec<u64> {
        let runs = self.used.split(|used| *used);
        runs.map(|run| run.len() as u64).filter(|len| *len > 0).collect()
    }
}

proptest! {
    #[test]
    fn as_the_reference(
        base in 0_u64..5000, blocks in 1_u64..600, order in 0_u32..4,
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let count = (blocks >> order).max(1) << order;
        let mut area = Area::new("isp", base, count, order).unwrap();
        let len = usize::try_from(count).unwrap();
        let mut reference = Reference { base, order, used: vec![false; len], busy: vec![false; len] };
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
                    let pages = reference.pages(page, count);
                    reference.busy[pages].fill(true);
                }
                Step::Idle(page, count) => {
                    area.set_idle(base + page..base + page + count);
                    let pages = reference.pages(page, count);
                    reference.busy[pages].fill(false);
                }
            }
            let used = reference.used.iter().filter(|used| **used).count() as u64;
            let holes = reference.holes();
            let statistics = area.statistics();
            prop_assert_eq!(statistics.used, used);
            prop_assert_eq!(statistics.maxchunk, holes.iter().copied().max().unwrap_or(0));
            prop_assert_eq!(statistics.free_runs, holes.len() as u64);
            for (order, runs) in (0..).zip(&statistics.histogram) {
                prop_assert_eq!(*runs, holes.iter().filter(|hole| hole.ilog2() == order).count() as u64);
            }
            prop_assert_eq!(statistics.busy, reference.busy.iter().filter(|busy| **busy).count() as u64);
        }
        let fits = area.fits(7, 2);
        prop_assert_eq!(area.fill(7, 2), fits);
        prop_assert_eq!(area.fits(7, 2), 0);
        prop_assert_eq!(fits, std::iter::from_fn(|| reference.alloc(7, 2).ok()).count() as u64);
    }
}
