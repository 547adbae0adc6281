//! The judgement of a board: why its requests failed, by the rules of its kernel's version, and what would let them pass.

use serde::Serialize;

use super::{
    case::{Case, Moment, Question},
    cases::{cases, drawn, window_of},
    facts::Board,
    kernel,
    log::{BootNote, Failure, Listing, Meminfo, Origin},
    windows::KnownWindow,
};
use crate::{
    area::{Area, CMA_ALIGNMENT, Rules, Statistics, plural},
    check::{Level, Report},
    map::{Map, Pages, human},
};

/// A window of the board.
#[derive(Debug, Clone, Serialize)]
pub struct WindowState {
    /// Its name.
    pub name: String,
    /// Its first address.
    pub base: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
    /// How it came to be.
    pub origin: Option<Origin>,
    /// Its free space, from debugfs.
    pub statistics: Option<Statistics>,
    /// How the free space changed from failure to failure, as sentences.
    pub history: Vec<String>,
    /// The window, drawn from debugfs.
    #[serde(skip)]
    pub maps: Vec<Map>,
}

/// What is wrong on a board.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// The version of this format.
    pub version: u32,
    /// The board's name.
    pub model: Option<String>,
    /// The kernel's release.
    pub release: Option<String>,
    /// The machine, as `uname -m` prints it.
    pub machine: Option<String>,
    /// The version whose rules were applied.
    pub rules: Rules,
    /// The size of a page in bytes.
    pub page_size: u64,
    /// The unit of windows in bytes.
    pub pageblock: u64,
    /// /proc/meminfo.
    pub meminfo: Meminfo,
    /// What is wrong, as sentences, the most important first.
    pub summary: Vec<String>,
    /// What is assumed because no file has it.
    pub assumed: Vec<String>,
    /// What is missing, and what cannot be said without it.
    pub missing: Vec<String>,
    /// The requests that failed.
    pub cases: Vec<Case>,
    /// The windows.
    pub windows: Vec<WindowState>,
    /// Messages of the boot about windows that it did not make.
    pub boot: Vec<BootNote>,
    /// What Linux makes of the device tree; null without one.
    pub check: Option<Report>,
    /// Messages of drivers about memory that they did not get.
    pub drivers: Vec<String>,
}

impl Diagnosis {
    /// Judges a board.
    pub fn of(board: &Board, question: &Question) -> Self {
        let mut assumed = board.assumed.clone();
        let kernel = kernel::kernel(board, &mut assumed);
        // What a page of page-table entries maps, as most kernels have huge pages.
        let pageblock = board.page_size << (board.page_size.trailing_zeros() - 3);
        let pageblock = kernel.as_ref().map_or(pageblock, |kernel| kernel.pageblock);
        let check = kernel.map_or(Ok(None), |kernel| kernel::report(board, &kernel));
        let mut diagnosis = Self {
            version: 1,
            model: board.model.clone(),
            release: board.release.clone(),
            machine: board.machine.clone(),
            rules: board.rules,
            page_size: board.page_size,
            pageblock,
            meminfo: board.meminfo,
            summary: Vec::new(),
            assumed,
            missing: board.missing.clone(),
            cases: cases(board, pageblock, question),
            windows: board.windows.iter().map(|window| state(board, window)).collect(),
            boot: board.log.notes.clone(),
            drivers: board.log.drivers.clone(),
            check: None,
        };
        match check {
            Ok(check) => diagnosis.check = check,
            Err(error) => diagnosis.missing.push(format!("the device tree, as {error}")),
        }
        if diagnosis.cases.iter().any(|case| case.align_assumed && case.why.is_some()) {
            let alignment = board.cma_alignment.unwrap_or(CMA_ALIGNMENT);
            diagnosis.assumed.push(format!(
                "the alignment of the DMA API for each size, with CONFIG_CMA_ALIGNMENT={alignment}"
            ));
        }
        diagnosis.missing.extend(missing(board, &diagnosis.cases));
        if let Some(pages) = question.pages
            && !diagnosis.cases.iter().any(|case| case.count == 0)
        {
            let what = "the pages in use of a window, in debugfs or in a list after a failed request";
            diagnosis
                .missing
                .push(format!("{what}, so nothing is said about a request for {}", plural(pages)));
        }
        diagnosis.summary = diagnosis.summarise(board);
        diagnosis
    }

    /// Whether something is wrong.
    pub fn is_wrong(&self) -> bool {
        let in_the_tree = self.check.as_ref().is_some_and(|check| check.count(Level::Error) > 0);
        self.cases.iter().any(|case| case.errno != 0) || !self.boot.is_empty() || in_the_tree
    }

    fn summarise(&self, board: &Board) -> Vec<String> {
        let mut summary: Vec<String> = self.cases.iter().map(|case| case.headline(self.page_size)).collect();
        summary.extend(self.boot.iter().map(|note| format!("{}: {}", note.text, note.meaning)));
        if let Some(check) = &self.check {
            summary.extend(in_the_tree(check));
        }
        if board.log.more_failures > 0 {
            summary.push(format!("{} later failures in the log are not judged", board.log.more_failures));
        }
        if let (Some(total), false) = (board.meminfo.cma_total, self.windows.is_empty()) {
            let found: u64 = self.windows.iter().map(|window| window.size >> 10).sum();
            if found < total {
                summary.push(format!(
                    "CmaTotal is {total} kB, and the windows here have {found} kB: the files do not show all windows"
                ));
            }
        }
        if summary.is_empty() {
            summary.push("no request failed, and the boot reported no problem".to_owned());
        }
        summary
    }
}

impl WindowState {
    /// Whether a case shows the window in the same state.
    pub(super) fn is_drawn_in(&self, cases: &[Case]) -> bool {
        let pages = |maps: &[Map]| -> Vec<Pages> { maps.iter().map(|map| map.allocated.clone()).collect() };
        cases.iter().any(|case| case.window == self.name && pages(&case.maps) == pages(&self.maps))
    }
}

impl Case {
    /// What happened, in one sentence.
    fn headline(&self, page_size: u64) -> String {
        let request = format!("{} ({})", plural(self.pages), human(self.pages.saturating_mul(page_size)));
        let window = &self.window;
        match (self.count, self.errno) {
            (0, 0) => format!("a request for {request} in {window} would pass"),
            (0, errno) => {
                format!("a request for {request} in {window} would fail with {errno}: {}", self.sentence)
            }
            (1, errno) => {
                format!("a request for {request} in {window} failed with {errno}: {}", self.sentence)
            }
            (count, errno) => {
                format!("{count} requests for {request} in {window} failed with {errno}: {}", self.sentence)
            }
        }
    }
}

fn state(board: &Board, window: &KnownWindow) -> WindowState {
    WindowState {
        name: window.label(),
        base: window.base,
        size: window.size,
        origin: window.origin,
        statistics: window.now.as_ref().map(Area::statistics),
        history: history(board, window),
        maps: window.now.as_ref().map(|area| drawn(area, board.page_size, None)).unwrap_or_default(),
    }
}

/// How the free space of a window changed from failure to failure.
fn history(board: &Board, window: &KnownWindow) -> Vec<String> {
    let listed: Vec<_> = board
        .log
        .failures
        .iter()
        .filter(|failure| window_of(board, failure).is_some_and(|of| std::ptr::eq(of, window)))
        .filter_map(|failure| Some((failure, failure.listing.as_ref().filter(|list| list.whole)?)))
        .collect();
    let [(first, begin), .., (last, end)] = &listed[..] else { return Vec::new() };
    let at = |failure: &Failure| {
        failure
            .seconds
            .map_or_else(|| format!("in line {}", failure.line), |seconds| format!("at {seconds:.1} s"))
    };
    let (before, after) = (begin.listed(), end.listed());
    let mut sentences = vec![format!(
        "{before} pages were free {}, the longest run {}; {after} {}, the longest run {}",
        at(first),
        plural(begin.longest()),
        at(last),
        plural(end.longest()),
    )];
    // The pages that are in use in every list.
    let used =
        |list: &Listing| -> Option<Pages> { Some(list.area("", 0, None, Rules::V7_2).ok()?.allocated()) };
    let mut always = used(begin);
    for (_, list) in &listed[1..] {
        always = always.zip(used(list)).filter(|(one, two)| one.window_pages() == two.window_pages()).map(
            |(mut one, two)| {
                two.holes().for_each(|hole| one.remove(hole));
                one
            },
        );
    }
    if let Some(always) = always {
        sentences.push(format!("{} are in use in all {} lists", plural(always.count()), listed.len()));
    }
    if after < before && begin.listed() > 0 {
        sentences.push(format!(
            "{} more pages are in use at the last failure than at the first: buffers that are not freed would look like this",
            before - after
        ));
    }
    sentences
}

/// The most findings about the tree that a summary has.
const MOST_FINDINGS: usize = 5;

/// The errors in the device tree, as sentences.
fn in_the_tree(check: &Report) -> Vec<String> {
    let of_regions = check.regions.iter().map(|region| (&region.node, &region.findings));
    let of_users = check
        .users
        .iter()
        .filter(|user| user.enabled)
        .flat_map(|user| user.references.iter().map(|reference| (&user.node, &reference.findings)));
    let general = check.findings.iter().filter(|finding| finding.level == Level::Error);
    let general = general.map(|finding| format!("the device tree: {}", finding.text));
    let of_nodes = of_regions.chain(of_users).flat_map(|(node, findings)| {
        let errors = findings.iter().filter(|finding| finding.level == Level::Error);
        errors.map(move |finding| format!("{node}: {}", finding.text))
    });
    let mut errors: Vec<_> = general.chain(of_nodes).collect();
    if errors.len() > MOST_FINDINGS {
        let more = errors.len() - MOST_FINDINGS;
        errors.truncate(MOST_FINDINGS);
        errors.push(format!("{more} more errors in the device tree"));
    }
    errors
}

/// What is missing for a full judgement.
fn missing(board: &Board, cases: &[Case]) -> Vec<String> {
    let mut missing = Vec::new();
    let unlisted = board.log.failures.iter().any(|failure| failure.listing.is_none());
    if unlisted && cases.iter().any(|case| case.state == Moment::None) {
        missing.push(
            "the free pages at the failure: up to 6.11 only kernels with CONFIG_CMA_DEBUG=y list them; the bitmap in debugfs \
             shows them at another moment"
                .to_owned(),
        );
    }
    if board.log.failures.iter().any(|failure| failure.listing.as_ref().is_some_and(|list| !list.whole)) {
        missing.push("a part of a list of free pages: copy the whole lines from the log".to_owned());
    }
    if board.windows.is_empty() && !cases.is_empty() {
        missing.push("the address of the window: the first messages of the boot have it".to_owned());
    }
    if board.tree.is_none() {
        missing.push("the device tree, so nothing is said about its nodes".to_owned());
    }
    missing
}

#[cfg(test)]
mod tests;
