//! The guest in which a board's failure happens again: its machine, its steps, and what cannot be the same there.

use cma::{
    PAGE_SIZE,
    area::{Area, Rules, plural},
    board::{Board, Case, Cause, Moment},
    map::Pages,
    size,
};
use guest_images::{Arch, Kind, Release};
use serde::Serialize;

use super::{error::ReproduceError, steps};
use crate::{
    arch,
    boot::images::{self, ImageError},
};

/// What a guest has besides its windows, in bytes.
const REST: u64 = 192 << 20;
/// The longest name of a window (Devicetree Specification 0.4, section 2.2.1).
const NAME: usize = 31;

/// A guest, and what happens in it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Plan {
    /// The guest image.
    pub(super) image: String,
    /// The machine's options.
    pub(super) machine: Vec<String>,
    /// The window's name in the guest, without the unit address.
    pub(super) window: String,
    /// The pages of the request.
    pub(super) pages: u64,
    /// The board's answer.
    pub(super) errno: i32,
    /// The answer that the model expects of the guest.
    pub(super) expected: i32,
    /// What is not the same as on the board, as sentences.
    pub(super) differences: Vec<String>,
    /// The steps of the guest's program.
    #[serde(skip)]
    pub(super) steps: String,
    /// The bitmap, as debugfs prints it.
    #[serde(skip)]
    pub(super) bitmap: String,
    /// Names of the other windows, and the pages in use there.
    #[serde(skip)]
    pub(super) others: Vec<(String, u64)>,
}

/// The kernel of a guest.
struct Guest {
    image: String,
    rules: Rules,
    page_size: u64,
    pageblock: u64,
    /// An image whose kernel is nearer to the board's, and which is not built.
    nearer: Option<String>,
}

impl Plan {
    /// The guest for a case of a board, with `image` or the image nearest to the board's kernel.
    ///
    /// # Errors
    /// If the failure cannot be brought about, or if there is no image.
    pub(super) fn new(board: &Board, case: &Case, image: Option<&str>) -> Result<Self, ReproduceError> {
        let impossible = |what: String| ReproduceError::Impossible { case: plural(case.pages), what };
        match case.cause {
            Cause::Killed => {
                return Err(impossible(
                    "a signal ended the process, which is no state of the window".to_owned(),
                ));
            }
            Cause::NoMemoryToMigrate => {
                let what =
                    "it depends on the free memory outside the window at that moment, which no file has";
                return Err(impossible(what.to_owned()));
            }
            _ => {}
        }
        let Some(area) = &case.area else {
            return Err(impossible("no file shows which pages of the window were free".to_owned()));
        };
        let guest = guest(board, image)?;
        let mut differences = kernel_differences(board, &guest);
        let used = used(area, &mut differences);
        if case.cause == Cause::Busy && area.why(case.pages, case.align).pfn.is_none() {
            let what =
                "its pages were busy before the free pages were listed, and the list has no place for it";
            return Err(impossible(what.to_owned()));
        }
        let used = rounded(used, &guest, &mut differences);
        let window = guest_name(&case.window);
        if window != case.window {
            differences
                .push(format!("the window is called {window}, with its address where the tree names it"));
        }
        differences.push(
            "the window is where the guest has room for it, and is the guest's default window".to_owned(),
        );
        if case.state == Moment::Collected {
            differences.push(
                "the bitmap is the one in debugfs, which is of another moment than the failure".to_owned(),
            );
        }
        let mut all = steps::occupy(&used).ok_or_else(|| {
            impossible(format!("its window needs more than {} buffers", steps::MOST_BUFFERS))
        })?;
        if case.cause == Cause::Busy {
            all += &steps::pin(&used, case.pages);
            differences.push(
                "the pages that cannot be moved are in pipes, one in each place for the request".to_owned(),
            );
        }
        let by_heap = case.align == cma::area::order(case.pages).min(cma::area::CMA_ALIGNMENT);
        if !by_heap && case.align != 0 {
            let what = format!("its alignment of 2^{} pages is not that of the DMA API", case.align);
            return Err(impossible(what));
        }
        all += &format!("{} {}\n", if by_heap { 'r' } else { 'd' }, case.pages);
        let from = if by_heap { "a dma-buf heap" } else { "debugfs" };
        differences.push(format!("the request comes from {from}, not from the board's driver"));
        let expected = expected(&used, case, &guest);
        if expected != case.errno {
            differences.push(format!(
                "the answer: Linux {} says {expected} where the board says {}",
                guest.rules, case.errno
            ));
        }
        let Machine { words, others } = machine(board, case, &guest, &window, &used, &mut differences)?;
        Ok(Self {
            image: guest.image,
            machine: words,
            window,
            pages: case.pages,
            errno: case.errno,
            expected,
            differences,
            bitmap: steps::bitmap(&used),
            steps: all,
            others,
        })
    }
}

/// The image that was asked for, or the built one whose kernel is nearest to the board's.
fn guest(board: &Board, image: Option<&str>) -> Result<Guest, ReproduceError> {
    let find = |kind: Kind| -> Result<Guest, ImageError> {
        let found = images::find(&kind.name())?;
        let large = matches!(kind, Kind::Large(_));
        let rules = kind.release().map_or(Rules::V6_1, rules_of);
        Ok(Guest {
            image: kind.name(),
            rules,
            page_size: if large { 16 * PAGE_SIZE } else { PAGE_SIZE },
            pageblock: found.pageblock,
            nearer: None,
        })
    };
    if let Some(name) = image {
        let Some(kind) = Kind::named(name) else {
            // This says which names there are.
            images::find(name)?;
            return Err(ReproduceError::Impossible {
                case: name.to_owned(),
                what: "the image is unknown".to_owned(),
            });
        };
        return Ok(find(kind)?);
    }
    let large = board.page_size == 16 * PAGE_SIZE;
    let distance = |kind: &Kind| {
        let rules = kind.release().map_or(Rules::V6_1, rules_of);
        // The answers differ more between 6.14 and 6.15 than between 6.1 and 6.12.
        let version = match (rules, board.rules) {
            (guest, board) if guest == board => 0,
            (Rules::V7_2, _) | (_, Rules::V7_2) => 4,
            _ => 2,
        };
        version + u32::from(matches!(kind, Kind::Large(_)) != large)
    };
    let mut kinds: Vec<Kind> = Arch::host()
        .kinds
        .iter()
        .copied()
        .filter(|kind| matches!(kind, Kind::Default(_) | Kind::Large(_)))
        .collect();
    kinds.sort_by_key(distance);
    let built = kinds.iter().find_map(|kind| find(*kind).ok());
    match (built, kinds.first()) {
        (Some(guest), Some(nearest)) => {
            let nearer = Some(nearest.name()).filter(|nearest| *nearest != guest.image);
            Ok(Guest { nearer, ..guest })
        }
        (Some(guest), None) => Ok(guest),
        (None, Some(kind)) => Ok(find(*kind)?),
        (None, None) => Ok(find(Kind::DEFAULT)?),
    }
}

/// The rules of our kernel's releases.
fn rules_of(release: Release) -> Rules {
    match release {
        Release::V6_1 => Rules::V6_1,
        Release::V6_12 => Rules::V6_12,
        Release::V7_2 => Rules::V7_2,
    }
}

fn kernel_differences(board: &Board, guest: &Guest) -> Vec<String> {
    let nearer = guest.nearer.as_ref().map_or_else(String::new, |image| {
        format!("; {image} is nearer, and `minivmm image build {image}` builds it")
    });
    let release = board
        .release
        .as_deref()
        .map_or_else(|| format!("Linux {}", board.rules), |release| format!("Linux {release}"));
    let mut differences = vec![format!(
        "the kernel: {release} on the board, our Linux {} in the guest (image {}){nearer}",
        guest.rules, guest.image
    )];
    if let Some(machine) = board.machine.as_deref().filter(|machine| *machine != arch::NAME) {
        differences.push(format!("the architecture: {machine} on the board, {} in the guest", arch::NAME));
    }
    if board.page_size != guest.page_size {
        let [board, guest] = [board.page_size, guest.page_size].map(size::format);
        differences.push(format!("pages of {board} on the board, of {guest} in the guest: the numbers of pages are the same, not the bytes"));
    }
    differences
}

/// The pages of an area in one range.
fn used(area: &Area, differences: &mut Vec<String>) -> Pages {
    if area.order_per_bit() > 0 {
        differences.push(format!(
            "a bit of the board's bitmap is {}, of the guest's 1 page",
            plural(1 << area.order_per_bit())
        ));
    }
    let ranges: Vec<_> = area.range_bitmaps().collect();
    if let [(_, pages)] = &ranges[..] {
        return pages.clone();
    }
    differences.push("the window has one range, with pages in use between those of the board".to_owned());
    // A range begins where the alignment of a request finds the same places.
    let unit = 1 << cma::area::CMA_ALIGNMENT;
    let length = |pages: &Pages| pages.window_pages().next_multiple_of(unit) + unit;
    let mut all = Pages::empty(ranges.iter().map(|(_, pages)| length(pages)).sum());
    all.insert(0..all.window_pages());
    let mut start = 0;
    for (_, pages) in &ranges {
        pages.holes().for_each(|hole| all.remove(start + hole.start..start + hole.end));
        start += length(pages);
    }
    all
}

/// The same pages in a window of whole pageblocks of the guest. What it has more is in use.
fn rounded(used: Pages, guest: &Guest, differences: &mut Vec<String>) -> Pages {
    let pages = used.window_pages();
    let whole = pages.next_multiple_of((guest.pageblock / guest.page_size).max(1));
    if whole == pages {
        return used;
    }
    differences.push(format!(
        "the window has {} more, which are in use: the guest's pageblock is {}",
        plural(whole - pages),
        size::format(guest.pageblock)
    ));
    let mut longer = Pages::empty(whole);
    longer.insert(0..whole);
    used.holes().for_each(|hole| longer.remove(hole));
    longer
}

/// What the model says of the request in the guest.
fn expected(used: &Pages, case: &Case, guest: &Guest) -> i32 {
    let base = guest.pageblock / guest.page_size;
    let free: Vec<_> = used.holes().collect();
    let area = Area::of_free_runs(&case.window, &[(base, used.window_pages())], &[free], 0, guest.rules);
    let Ok(mut area) = area else { return case.errno };
    if case.cause == Cause::Busy {
        area.set_busy(0..u64::MAX);
    }
    area.why(case.pages, case.align).errno
}

/// A name that a node of a tree and `--cma` can have, without the unit address.
fn guest_name(name: &str) -> String {
    let name = name.split('@').next().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let name: String = name.chars().map(|c| if fits(c) { c } else { '-' }).take(NAME).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name
    } else {
        format!("w{name}").chars().take(NAME).collect()
    }
}

/// A machine with the board's windows.
struct Machine {
    /// Its options.
    words: Vec<String>,
    /// The other windows, and their pages in use.
    others: Vec<(String, u64)>,
}

/// The options of the machine, and the other windows with their pages in use.
fn machine(
    board: &Board,
    case: &Case,
    guest: &Guest,
    window: &str,
    used: &Pages,
    differences: &mut Vec<String>,
) -> Result<Machine, ReproduceError> {
    let bytes = used.window_pages().saturating_mul(guest.page_size);
    let mut total = bytes;
    let mut words: Vec<String> = Vec::new();
    // `cma=` and the configuration make a window of this name.
    if window == "reserved" {
        words.extend([
            "--cma".to_owned(),
            format!("{bytes},default"),
            "--cma-mode".to_owned(),
            "cmdline".to_owned(),
        ]);
    } else {
        words.extend(["--cma".to_owned(), format!("{bytes},name={window},default")]);
    }
    let mut others = Vec::new();
    for other in board.windows.iter().filter(|other| other.label() != case.window) {
        let pages =
            (other.size / board.page_size).saturating_mul(guest.page_size).next_multiple_of(guest.pageblock);
        let name = guest_name(&other.name);
        let taken = name == window || others.iter().any(|(taken, _)| *taken == name) || name == "reserved";
        let name = if taken || other.name.is_empty() { format!("other{}", others.len()) } else { name };
        total = total.saturating_add(pages);
        words.extend(["--cma".to_owned(), format!("{pages},name={name}")]);
        others.push((name, other.now.as_ref().map_or(0, |area| area.count() - area.free())));
    }
    if !others.is_empty() {
        differences.push(
            "the other windows have as many pages in use as on the board, but not the same ones".to_owned(),
        );
    }
    let memory = total.saturating_add(REST).next_multiple_of(64 << 20);
    if memory > arch::MEMORY_MAX {
        return Err(ReproduceError::Impossible {
            case: plural(case.pages),
            what: format!(
                "its windows have {}, and a guest has at most {}",
                size::format(total),
                size::format(arch::MEMORY_MAX)
            ),
        });
    }
    words.extend(["--memory".to_owned(), memory.to_string(), "--camera".to_owned(), "none".to_owned()]);
    Ok(Machine { words, others })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_guest_can_have() {
        for (name, wanted) in [
            ("linux,cma", "linux-cma"),
            ("isp@96000000", "isp"),
            ("reserved", "reserved"),
            ("0", "w0"),
            ("", "w"),
            ("a-very-long-name-of-a-window-on-a-board", "a-very-long-name-of-a-window-on"),
            ("x\u{1b}[2J", "x--2J"),
        ] {
            let name = guest_name(name);
            assert_eq!(name, wanted);
            assert!(format!("16M,name={name}").parse::<cma::spec::WindowSpec>().is_ok(), "{name}");
        }
    }

    #[test]
    fn ranges_stay_apart_and_windows_become_whole_pageblocks() {
        let free = [vec![10..20], vec![0..5, 100..300]];
        let area = Area::of_free_runs("isp", &[(512, 512), (4096, 600)], &free, 0, Rules::V7_2).unwrap();
        let mut differences = Vec::new();
        let pages = used(&area, &mut differences);
        // The second range begins at a multiple of 256 pages, after some in use.
        assert_eq!(pages.holes().collect::<Vec<_>>(), [10..20, 768..773, 868..1068]);
        let guest = Guest {
            image: "default".to_owned(),
            rules: Rules::V6_1,
            page_size: PAGE_SIZE,
            pageblock: 4 << 20,
            nearer: None,
        };
        let whole = rounded(pages, &guest, &mut differences);
        assert_eq!(whole.window_pages(), 2048);
        assert_eq!(whole.holes().count(), 3);
        assert_eq!(differences.len(), 2);
    }
}
