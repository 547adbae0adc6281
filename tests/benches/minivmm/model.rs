//! The model's cma_alloc, which searches the bitmap by words, compared with a search by bits.
//!
//! Windows are filled with buffers of many sizes, some of which are then freed at random. A request that such a
//! window refuses must search all of it. Both implementations answer every request, and the answers must be equal.

use std::{error::Error, hint, time::Instant};

use cma::{PAGE_SIZE, area::Area, size};
use serde::Serialize;

use crate::median;

/// The request of a 1080p YUYV frame: pages, and their alignment as an order of pages.
const REQUEST: (u64, u32) = (1013, 8);
const WINDOWS: [u64; 2] = [256 << 20, 16 << 30];
/// The allocated part of the windows, in percent.
const FULL: [u64; 3] = [0, 50, 95];
/// The first page: a multiple of the alignment plus one, so that places have an offset.
const BASE_PFN: u64 = 0x10_0001;
/// Odd, for medians.
const ROUNDS: usize = 7;
/// Number of allocations of a round, for the model and for the reference.
const ALLOCATIONS: [u32; 2] = [200, 5];
/// Goal for the ratio of the reference's time to the model's.
const GOAL: f64 = 10.0;

/// The results for a window.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Bytes of the window.
    window: u64,
    /// The allocated part, in percent.
    percent_full: u64,
    /// Whether the request was granted.
    granted: bool,
    /// Time of an allocation and, if it was granted, its release.
    nanoseconds: f64,
    /// The same for the search by bits.
    nanoseconds_bit_by_bit: f64,
    /// Whether the reference takes at least ten times as long.
    goal_met: bool,
}

pub(crate) fn run() -> Result<Vec<Figures>, Box<dyn Error>> {
    let (pages, align) = REQUEST;
    println!("\nThe allocator model: {pages} pages at alignment {align}, medians of {ROUNDS} rounds");
    println!("{:<8}{:>8}{:>10}{:>14}{:>16}{:>8}", "window", "full", "", "ns", "ns bit by bit", "times");
    let mut all = Vec::new();
    for window in WINDOWS {
        for percent_full in FULL {
            let mut area = filled(window / PAGE_SIZE, percent_full)?;
            let mut reference = Reference::of(&area);
            let answer = area.clone().alloc(pages, align).ok().map(|granted| granted.pfn);
            if answer != reference.alloc() {
                return Err(format!("the model answers {answer:x?}, which the reference does not").into());
            }
            reference = Reference::of(&area);
            let model = time(ALLOCATIONS[0], || {
                if let Ok(granted) = area.alloc(pages, align) {
                    area.release(hint::black_box(granted.pfn), pages);
                }
            });
            let bit_by_bit = time(ALLOCATIONS[1], || {
                if let Some(pfn) = reference.alloc() {
                    reference.release(hint::black_box(pfn));
                }
            });
            let times = bit_by_bit / model;
            let figures = Figures {
                window,
                percent_full,
                granted: answer.is_some(),
                nanoseconds: model,
                nanoseconds_bit_by_bit: bit_by_bit,
                goal_met: times >= GOAL,
            };
            println!(
                "{:<8}{:>6} %{:>10}{:>14.0}{:>16.0}{:>8.0}  {}",
                size::format(window),
                percent_full,
                if figures.granted { "granted" } else { "refused" },
                model,
                bit_by_bit,
                times,
                crate::verdict(figures.goal_met)
            );
            all.push(figures);
        }
    }
    Ok(all)
}

/// Time of a call in nanoseconds. Each round has `calls` calls.
fn time(calls: u32, mut call: impl FnMut()) -> f64 {
    median((0..ROUNDS).map(|_| {
        let begun = Instant::now();
        (0..calls).for_each(|_| call());
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    }))
}

/// A window that was filled, and in which random buffers were then freed until this part of it is left.
fn filled(count: u64, percent: u64) -> Result<Area, Box<dyn Error>> {
    let mut area = Area::new("bench", BASE_PFN, count, 0)?;
    let mut random = Random(1);
    let mut buffers = Vec::new();
    let mut misses = 0;
    while percent > 0 && misses < 8 {
        let pages = 1 + random.below(600);
        match area.alloc(pages, 0) {
            Ok(granted) => buffers.push((granted.pfn, pages)),
            Err(_) => misses += 1,
        }
    }
    while area.used() * 100 > count * percent {
        let index = usize::try_from(random.below(buffers.len() as u64))?;
        let (pfn, pages) = buffers.swap_remove(index);
        area.release(pfn, pages);
    }
    Ok(area)
}

/// Reproducible pseudorandom numbers (Knuth's linear congruential generator).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A bitmap with the search of lib/bitmap.c (bitmap_find_next_zero_area_off), by bits.
struct Reference {
    words: Vec<u64>,
    size: u64,
}

impl Reference {
    fn of(area: &Area) -> Self {
        let size = area.count();
        let mut reference = Self { words: vec![0; word(size) + 1], size };
        area.allocated().runs().flatten().for_each(|page| reference.set(page, true));
        reference
    }

    fn bit(&self, index: u64) -> bool {
        self.words[word(index)] >> (index % 64) & 1 == 1
    }

    fn set(&mut self, index: u64, to: bool) {
        let bit = 1 << (index % 64);
        if to { self.words[word(index)] |= bit } else { self.words[word(index)] &= !bit }
    }

    fn alloc(&mut self) -> Option<u64> {
        let (count, mask) = (REQUEST.0, (1 << REQUEST.1) - 1);
        let offset = BASE_PFN & mask;
        let mut start = 0;
        loop {
            let clear = (start..self.size).find(|&index| !self.bit(index))?;
            let index = ((clear + offset + mask) & !mask) - offset;
            let end = index + count;
            if end > self.size {
                return None;
            }
            match (index..end).find(|&index| self.bit(index)) {
                Some(set) => start = set + 1,
                None => {
                    (index..end).for_each(|index| self.set(index, true));
                    return Some(BASE_PFN + index);
                }
            }
        }
    }

    fn release(&mut self, pfn: u64) {
        let start = pfn - BASE_PFN;
        (start..start + REQUEST.0).for_each(|index| self.set(index, false));
    }
}

/// Index of the word with a bit.
fn word(bit: u64) -> usize {
    usize::try_from(bit / 64).unwrap_or(usize::MAX)
}
