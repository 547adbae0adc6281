//! Scenarios about the allocator: searches and releases. The model does the same operations as the kernel.

use cma::{
    PAGE_SIZE, Window,
    area::{Area, Rules},
};
use guest_images::Kind;

use super::{Fields, Observation, Scenario, middle_window};
use crate::differential::{Answer, Operation, Place};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a-bit-is-a-page",
        claim: "a bit of the bitmap is a block of pages",
        truth: "a bit stands for 2^order_per_bit pages, and order_per_bit is 0 for windows of the device tree and of the DMA API \
                (kernel/dma/contiguous.c, rmem_cma_setup)",
        play: a_bit_is_a_page,
    },
    Scenario {
        name: "free-and-still-fails",
        claim: "a small request is granted if most of the window is free",
        truth: "a request needs one free run, and buffers do not move: with one page of every 64 in use, 98 % of the pages are free, \
                but no run has 64 pages (mm/cma.c, cma_alloc)",
        play: free_and_still_fails,
    },
    Scenario {
        name: "long-enough-but-not-aligned",
        claim: "a run that is long enough is granted",
        truth: "the DMA API and the dma-buf heaps align a request to its order, up to CONFIG_CMA_ALIGNMENT: a run of 300 pages \
                need not contain 256 aligned pages (lib/bitmap.c, bitmap_find_next_zero_area_off)",
        play: long_enough_but_not_aligned,
    },
    Scenario {
        name: "larger-than-the-window",
        claim: "every failure leaves a line in the kernel's log",
        truth: "a request that is larger than the window is refused without a search and without a message (mm/cma.c, cma_alloc)",
        play: larger_than_the_window,
    },
    Scenario {
        name: "neighbours-grow-together",
        claim: "a release does not merge free runs, so the window wears out",
        truth: "in a bitmap, adjacent clear bits are one run, whatever the order of the releases; the only fragmentation is the \
                holes between allocated buffers (mm/cma.c, cma_release)",
        play: neighbours_grow_together,
    },
];

fn a_bit_is_a_page() -> Vec<Observation> {
    let fields = Fields::of(
        "--camera none --cma 4M,default --cma 64M,name=isp",
        "echo order=$(cat $(window isp)/order_per_bit); echo words=$(wc -w < $(window isp)/bitmap)",
    );
    vec![
        // The file shows 64 bits, but the field has 32 (mm/cma_debug.c, cma_debugfs_get).
        Observation::new("order_per_bit", 0, fields.number("order") & 0xffff_ffff),
        Observation::new("words of 32 bits for 16384 pages", 16_384 / 32, fields.number("words")),
    ]
}

/// Does `operations` on a window through debugfs or, for the default window, through the dma-buf heap.
fn both(window: &Window, heap: bool, operations: &dyn Fn(u64) -> Vec<Operation>) -> Vec<(Answer, Answer)> {
    let spec = format!("{}M,name={},base={:#x}", window.size >> 20, window.name, window.base);
    let other = if window.default { "" } else { "--cma 4M,name=other,default" };
    let arguments = format!("{other} --cma {spec}");
    let area = Area::of_window(window, 0, Rules::V6_1).expect("the window is an area");
    Place { area: &area, kind: Kind::DEFAULT, arguments: &arguments, heap }.answers(operations)
}

fn errno(what: &str, (model, kernel): &(Answer, Answer)) -> Observation {
    let name = |answer: &Answer| match answer.errno {
        0 => "granted".to_owned(),
        error => format!("-{error}"),
    };
    Observation::new(what, name(model), name(kernel))
}

fn number(what: &str, (model, kernel): &(Answer, Answer), of: fn(&Answer) -> u64) -> Observation {
    Observation::new(what, of(model), of(kernel))
}

fn free_and_still_fails() -> Vec<Observation> {
    let window = middle_window("isp", 64 << 20, false);
    let answers = both(&window, false, &|_| {
        // debugfs frees the first pages of an allocation first.
        let comb = (0..256).flat_map(|_| [Operation::Alloc(64), Operation::Free(63)]);
        comb.chain([Operation::Alloc(64), Operation::Alloc(63)]).collect()
    });
    let [.., comb, large, small] = &answers[..] else { unreachable!("each operation has an answer") };
    vec![
        number("pages in use, of 16384", comb, |answer| answer.used),
        number("the longest free run", comb, |answer| answer.maxchunk),
        errno("a request for 64 pages", large),
        errno("a request for 63 pages", small),
    ]
}

fn long_enough_but_not_aligned() -> Vec<Observation> {
    let window = middle_window("cma0", 16 << 20, true);
    let pages = window.size / PAGE_SIZE;
    let answers = both(&window, true, &|taken| {
        vec![
            // A hole of 300 pages that begins at page 129.
            Operation::Alloc(129 - taken),
            Operation::Alloc(pages - 129),
            Operation::Free(300),
            Operation::Buffer(0, 256),
            Operation::Alloc(256),
        ]
    });
    vec![
        number("the longest free run", &answers[2], |answer| answer.maxchunk),
        errno("256 pages of the dma-buf heap, aligned to 256", &answers[3]),
        errno("256 pages at no alignment", &answers[4]),
    ]
}

fn larger_than_the_window() -> Vec<Observation> {
    let window = middle_window("isp", 16 << 20, false);
    let pages = window.size / PAGE_SIZE;
    let answers = both(&window, false, &|_| vec![Operation::Alloc(pages + 1), Operation::Alloc(pages)]);
    let fields = Fields::of(
        "--camera none --cma 4M,default --cma 16M,name=isp",
        "w=$(window isp)
         echo 4097 > $w/alloc; echo silent=$(said 'alloc failed')
         echo 4096 > $w/alloc; echo 1 > $w/alloc; echo full=$(said 'alloc failed, req-size: 1 pages, ret: -12')",
    );
    vec![
        errno("a request for 4097 pages of 4096", &answers[0]),
        Observation::new("a line in the kernel's log", "no", fields.text("silent")),
        errno("a request for all 4096", &answers[1]),
        Observation::new("a line when one more page is requested", "yes", fields.text("full")),
    ]
}

fn neighbours_grow_together() -> Vec<Observation> {
    let window = middle_window("cma0", 16 << 20, true);
    let mut observations = Vec::new();
    for (order, closed) in [("first, second, third", [0, 1, 2]), ("first, third, second", [0, 2, 1])] {
        let answers = both(&window, true, &|taken| {
            // Three adjacent buffers from page 512 on, and all other pages in use.
            let before = [Operation::Alloc(512 - taken)];
            let buffers = (0..3).map(|id| Operation::Buffer(id, 256));
            let rest = [Operation::Alloc(4096 - 512 - 3 * 256)];
            before.into_iter().chain(buffers).chain(rest).chain(closed.map(Operation::Close)).collect()
        });
        for (closed, answer) in (1..).zip(&answers[5..]) {
            let what = format!("{order}: the longest free run after {closed}");
            observations.push(number(&what, answer, |answer| answer.maxchunk));
        }
    }
    observations
}
