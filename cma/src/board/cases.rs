//! The requests of a board that failed, one by one: why, by the rules of its kernel's version.

use std::ops::Range;

use super::{
    case::{Case, Moment, Question},
    cause::Cause,
    facts::Board,
    log::{Failure, Listing},
    remedies::Refused,
    windows::KnownWindow,
};
use crate::{
    area::{Area, Rules, Why, plural},
    map::Map,
};

/// The most different requests that are judged.
const MOST_CASES: usize = 20;

/// What a kernel means by an answer (mm/cma.c, cma_alloc; mm/page_alloc.c, alloc_contig_range).
fn meaning(errno: i32, rules: Rules) -> &'static str {
    let one_answer = rules == Rules::V7_2;
    match errno {
        0 => "the request is granted",
        -12 if one_answer => {
            "ENOMEM: there was no memory to move pages to; a search without result is -16 since 6.15"
        }
        -12 => {
            "ENOMEM: no free run was long enough at the alignment, or there was no memory to move pages to"
        }
        -16 if one_answer => {
            "EBUSY: no free run was long enough at the alignment, or pages in it could not be moved away; since 6.15 both are -16"
        }
        -16 => "EBUSY: a free run was long enough, but pages in each one could not be moved away",
        -4 => "EINTR: the process that asked was ended by a signal while pages were moved away",
        -22 => "EINVAL: the pages are not of one zone, or not pages of a window",
        _ => "an answer that cma_alloc itself does not give",
    }
}

/// The requests that failed, and the one that the question is about.
pub(super) fn cases(board: &Board, pageblock: u64, question: &Question) -> Vec<Case> {
    let mut groups: Vec<(&Failure, &Failure, u64)> = Vec::new();
    for failure in &board.log.failures {
        let same = groups.iter().position(|(first, ..)| {
            (&first.window, first.pages, first.errno) == (&failure.window, failure.pages, failure.errno)
        });
        if let Some(same) = same {
            let (_, last, count) = &mut groups[same];
            // A failure without a list does not hide one with a list.
            if failure.listing.is_some() || last.listing.is_none() {
                *last = failure;
            }
            *count += 1;
        } else if groups.len() < MOST_CASES {
            groups.push((failure, failure, 1));
        }
    }
    let mut cases: Vec<Case> =
        groups.into_iter().map(|(first, last, count)| failed(board, pageblock, first, last, count)).collect();
    if let Some(pages) = question.pages {
        cases.extend(asked(board, pageblock, question, pages));
    }
    cases
}

/// The window of a failure: by its name, by its number of pages, or the only one.
pub(super) fn window_of<'a>(board: &'a Board, failure: &Failure) -> Option<&'a KnownWindow> {
    if let Some(name) = &failure.window
        && let Some(window) = board.named(name)
    {
        return Some(window);
    }
    let total = failure.listing.as_ref().and_then(|listing| listing.total);
    let fits = |window: &&KnownWindow| {
        let named = failure.window.is_some() && !window.name.is_empty();
        !named && total.is_none_or(|total| board.fits(window, total))
    };
    let mut candidates = board.windows.iter().filter(fits);
    candidates.next().filter(|_| candidates.next().is_none())
}

fn failed(board: &Board, pageblock: u64, first: &Failure, last: &Failure, count: u64) -> Case {
    let window = window_of(board, last);
    let name = last.window.clone().or_else(|| window.map(KnownWindow::label));
    let name = name.unwrap_or_else(|| "a window".to_owned());
    let base_pfn = window.and_then(|window| window.base).map_or(0, |base| base / board.page_size);
    let rules = if board.release.is_some() { board.rules } else { last.rules };
    let ranges: Option<Vec<_>> = window
        .and_then(|window| window.now.as_ref())
        .map(|area| area.ranges().map(|range| (range.start, range.end - range.start)).collect());
    let listed = last.listing.as_ref().filter(|listing| listing.whole);
    let listed = listed.and_then(|listing| listing.area(&name, base_pfn, ranges.as_deref(), rules).ok());
    let now = window.and_then(|window| window.now.clone());
    let (state, area) = match (listed, now) {
        (Some(area), _) => (Moment::Failure, Some(area)),
        (None, Some(area)) => (Moment::Collected, Some(area)),
        (None, None) => (Moment::None, None),
    };
    let align = last.align.unwrap_or_else(|| board.dma_alignment(last.pages));
    let pages_of_window = area
        .as_ref()
        .map(Area::count)
        .or_else(|| last.listing.as_ref().and_then(|listing| listing.total))
        .or_else(|| window.map(|window| window.size / board.page_size));
    let why = area.as_ref().map(|area| area.why(last.pages, align));
    let (cause, sentence) = judge(last, rules, why.as_ref(), state, pages_of_window);
    let refused = Refused {
        cause,
        pages: last.pages,
        why: why.as_ref().filter(|_| state == Moment::Failure || cause.is_of_the_bitmap()),
        size: pages_of_window.map(|pages| pages.saturating_mul(board.page_size)),
        origin: window.and_then(|window| window.origin),
        page_size: board.page_size,
        pageblock,
    };
    Case {
        window: name,
        pages: last.pages,
        bytes: last.pages.saturating_mul(board.page_size),
        errno: last.errno,
        meaning: meaning(last.errno, rules),
        align,
        align_assumed: last.align.is_none(),
        count,
        line: Some(first.line),
        first: first.seconds,
        last: last.seconds,
        state,
        cause,
        sentence,
        cma_free: board.meminfo.cma_free.filter(|_| state == Moment::None && cause != Cause::Killed),
        busy: if cause == Cause::Busy { busy(board, window) } else { Vec::new() },
        remedies: refused.remedies(),
        maps: area.as_ref().map(|area| drawn(area, board.page_size, Some(align))).unwrap_or_default(),
        why,
        area,
    }
}

/// The pages that alloc_contig_range found busy, in the window if its place is known.
fn busy(board: &Board, window: Option<&KnownWindow>) -> Vec<Range<u64>> {
    let pages = window.and_then(|window| {
        let base = window.base? / board.page_size;
        Some(base..base.saturating_add(window.size / board.page_size))
    });
    let inside = |pfns: &&Range<u64>| pages.as_ref().is_none_or(|pages| pages.contains(&pfns.start));
    let mut busy: Vec<_> = board.log.busy.iter().filter(inside).cloned().collect();
    busy.sort_by_key(|pfns| (pfns.start, pfns.end));
    busy.dedup();
    busy
}

/// Why a request of the log failed, and the same as a sentence.
fn judge(
    failure: &Failure,
    rules: Rules,
    why: Option<&Why>,
    state: Moment,
    pages_of_window: Option<u64>,
) -> (Cause, String) {
    let (pages, errno) = (failure.pages, failure.errno);
    if errno == -4 {
        return (
            Cause::Killed,
            "a signal ended the process that asked while pages were moved away".to_owned(),
        );
    }
    if let Some(total) = pages_of_window
        && pages > total
    {
        return (Cause::LargerThanWindow, format!("the window has only {}", plural(total)));
    }
    let no_result = matches!((errno, rules), (-12, Rules::V6_1 | Rules::V6_12) | (-16, Rules::V7_2));
    let cannot_move = errno == -16;
    let no_memory = errno == -12;
    if !no_result && !cannot_move && !no_memory {
        return (
            Cause::Unknown,
            format!("the kernel's answer {errno} has nothing to do with the pages in use"),
        );
    }
    let Some(why) = why else {
        return match failure.listing.as_ref() {
            Some(Listing { free: Some(free), total: Some(total), .. }) if no_result && *free < pages => {
                (Cause::Full, format!("only {free} of {} are free", plural(*total)))
            }
            Some(listing) if listing.listed() > 0 => (
                Cause::Unknown,
                format!(
                    "the list of free pages is not whole; its longest run has {}, as far as it goes",
                    plural(listing.longest())
                ),
            ),
            _ if cannot_move && rules != Rules::V7_2 => {
                (Cause::Busy, "pages in each free run that is long enough could not be moved away".to_owned())
            }
            _ if no_memory && rules == Rules::V7_2 => {
                (Cause::NoMemoryToMigrate, "there was no memory to move pages to".to_owned())
            }
            _ => (Cause::Unknown, "the log does not show which pages were free".to_owned()),
        };
    };
    let fits = why.pfn.is_some();
    let then = if state == Moment::Collected { ", by the bitmap of another moment" } else { "" };
    if !no_result && !fits && cannot_move && state == Moment::Failure {
        return (
            Cause::Busy,
            "pages could not be moved away, and the list, which was printed later, has no run of this length any more".to_owned(),
        );
    }
    if fits && no_memory {
        return (
            Cause::NoMemoryToMigrate,
            format!(
                "a free run is long enough{then}, so there was no memory to move its pages to, or the run was freed later"
            ),
        );
    }
    if fits {
        let busy = format!("a free run is long enough{then}, so pages in it could not be moved away");
        return (Cause::Busy, busy);
    }
    if !no_result && cannot_move {
        return (
            Cause::Busy,
            "pages in each free run that was long enough could not be moved away".to_owned(),
        );
    }
    of_the_bitmap(why, then)
}

/// Why the bitmap has no place for a request.
fn of_the_bitmap(why: &Why, then: &str) -> (Cause, String) {
    let length = |run: &Range<u64>| run.end - run.start;
    let (free, longest) = (why.free, length(&why.largest_hole));
    if why.pages > why.count {
        return (Cause::LargerThanWindow, format!("the window has only {}", plural(why.count)));
    }
    if free < why.pages {
        return (Cause::Full, format!("only {free} of {} are free{then}", plural(why.count)));
    }
    if longest < why.pages {
        return (
            Cause::Fragmented,
            format!(
                "{free} of {} are free{then}, but the longest free run has {}",
                plural(why.count),
                plural(longest)
            ),
        );
    }
    let aligned = match length(&why.largest_aligned_hole) {
        0 => "no free page is".to_owned(),
        pages => format!("the longest free run from such a page on has {}", plural(pages)),
    };
    (
        Cause::Misaligned,
        format!(
            "a free run of {} is long enough{then}, but a buffer of this size begins at a multiple of {}, and {aligned}",
            plural(longest),
            plural(1 << why.align.min(52)),
        ),
    )
}

/// The answer to `--request`.
fn asked(board: &Board, pageblock: u64, question: &Question, pages: u64) -> Option<Case> {
    // Without debugfs, the state of the last failure is the best one.
    let of_failure = || {
        let failure = board.log.failures.iter().rev().find(|failure| failure.listing.is_some())?;
        let case = failed(board, pageblock, failure, failure, 1);
        case.area.map(|area| (case.window, area, Moment::Failure, window_of(board, failure)))
    };
    let named = |window: &&KnownWindow| question.window.as_ref().is_none_or(|name| window.name == *name);
    let of_debugfs = board.windows.iter().filter(|window| window.now.is_some()).find(named);
    let of_debugfs = of_debugfs
        .and_then(|window| Some((window.label(), window.now.clone()?, Moment::Collected, Some(window))));
    let (window, area, state, known) = of_debugfs.or_else(of_failure)?;
    let align = question.align.unwrap_or_else(|| board.dma_alignment(pages));
    let why = area.why(pages, align);
    let (cause, sentence) = if why.pfn.is_some() {
        (Cause::Unknown, "a free run is long enough".to_owned())
    } else {
        of_the_bitmap(&why, "")
    };
    let refused = Refused {
        cause,
        pages,
        why: Some(&why),
        size: Some(area.count().saturating_mul(board.page_size)),
        origin: known.and_then(|window| window.origin),
        page_size: board.page_size,
        pageblock,
    };
    Some(Case {
        window,
        pages,
        bytes: pages.saturating_mul(board.page_size),
        errno: why.errno,
        meaning: meaning(why.errno, area.rules()),
        align,
        align_assumed: question.align.is_none(),
        count: 0,
        line: None,
        first: None,
        last: None,
        state,
        cause,
        sentence,
        cma_free: None,
        busy: Vec::new(),
        remedies: if why.pfn.is_some() { Vec::new() } else { refused.remedies() },
        maps: drawn(&area, board.page_size, Some(align)),
        why: Some(why),
        area: Some(area),
    })
}

/// The maps of an area, with marks at the multiples of an alignment.
pub(super) fn drawn(area: &Area, page_size: u64, align: Option<u32>) -> Vec<Map> {
    let mut maps = Map::of_area(area, page_size);
    maps.iter_mut()
        .for_each(|map| map.alignment = align.filter(|align| *align > 0).map(|align| 1 << align.min(52)));
    maps
}
