//! The placement of windows in the guest's RAM.

use std::ops::Range;

use crate::{Window, size, spec::WindowSpec};

/// The guest memory in which windows are placed, and the limits of their addresses.
#[derive(Debug, Clone)]
pub struct PlacementLimits<'a> {
    /// The ranges of the guest's RAM, each with its NUMA node, ascending, without overlap.
    pub ram: &'a [(u32, Range<u64>)],
    /// The ranges that are in use, each with a name for errors.
    pub taken: &'a [(&'a str, Range<u64>)],
    /// The unit of base and size: the kernel's pageblock (mm/cma.c, cma_init_reserved_mem).
    pub pageblock: u64,
    /// Windows without a base lie below this address, except in a NUMA node that has no RAM there.
    pub below: u64,
    /// The number of bytes that they leave free at the end of each range of RAM.
    pub margin: u64,
}

/// Why a window cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The kernel would refuse it: "incorrect alignment of CMA region".
    #[error(
        "the CMA window {name} has the {what} {value:#x}, which is not a multiple of {unit} of {}; \
         {nearest:#x} would be", size::format(*.of)
    )]
    Misaligned {
        /// The window.
        name: String,
        /// Base or size.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The name of the unit.
        unit: &'static str,
        /// The unit.
        of: u64,
        /// The next multiple.
        nearest: u64,
    },
    /// It is larger than the guest's memory.
    #[error(
        "the CMA window {name} of {} is larger than the guest's memory of {}; make it smaller or --memory larger",
        size::format(*.size), size::format(*.memory)
    )]
    LargerThanMemory {
        /// The window.
        name: String,
        /// Its size.
        size: u64,
        /// The guest's memory.
        memory: u64,
    },
    /// The NUMA node does not exist.
    #[error(
        "the CMA window {name} is for NUMA node {node}, but the last node is {last}; --numa sets the number of nodes"
    )]
    NoNode {
        /// The window.
        name: String,
        /// The node that it asks for.
        node: u32,
        /// The last node of the guest.
        last: u32,
    },
    /// Its base is in another node.
    #[error(
        "the CMA window {name} at {range:#x?} lies in NUMA node {node}, not in node {wanted}; omit its base or its node"
    )]
    OtherNode {
        /// The window.
        name: String,
        /// Its range.
        range: Range<u64>,
        /// The node that has it.
        node: u32,
        /// The node that it asks for.
        wanted: u32,
    },
    /// It begins in one node and ends in another.
    #[error(
        "the CMA window {name} at {range:#x?} lies in more than one NUMA node; their RAM is {ram}; choose a base with \
         which one node has all of it, as a window has one zone (mm/cma.c, cma_activate_area)"
    )]
    AcrossNodes {
        /// The window.
        name: String,
        /// Its range.
        range: Range<u64>,
        /// The RAM.
        ram: String,
    },
    /// A fixed base outside of RAM.
    #[error("the CMA window {name} at {range:#x?} lies outside the guest's RAM, which is {ram}")]
    OutsideRam {
        /// The window.
        name: String,
        /// Its range.
        range: Range<u64>,
        /// The RAM.
        ram: String,
    },
    /// A fixed base over something else.
    #[error(
        "the CMA window {name} at {range:#x?} overlaps {other} at {other_range:#x?}; choose another base or omit it"
    )]
    Overlap {
        /// The window.
        name: String,
        /// Its range.
        range: Range<u64>,
        /// What it overlaps.
        other: String,
        /// The range of that.
        other_range: Range<u64>,
    },
    /// No free range is large enough.
    #[error(
        "there is no room for the CMA window {name} of {}: the largest free stretch of {} below {limit:#x} is {}; \
         make it smaller or --memory larger", size::format(*.size), ram_of(*.node), size::format(*.largest)
    )]
    NoRoom {
        /// The window.
        name: String,
        /// Its size.
        size: u64,
        /// The NUMA node that it is for.
        node: Option<u32>,
        /// The address that it must stay below.
        limit: u64,
        /// Size of the largest free range, in whole pageblocks.
        largest: u64,
    },
    /// Two windows have the same name.
    #[error("two CMA windows have the name {0}; give each its own")]
    SameName(String),
    /// Two default windows.
    #[error("the CMA windows {0} and {1} are both marked default; the kernel has one default window")]
    TwoDefaults(String, String),
}

fn ram_of(node: Option<u32>) -> String {
    node.map_or_else(|| "RAM".to_owned(), |node| format!("the RAM of NUMA node {node}"))
}

/// Gives each window a name and an address.
///
/// Windows with a base keep it. The others are then placed in order, each as high as possible below the limit, because the
/// kernel image and its early allocations (low memory for drivers, the crash kernel, bounce
/// buffers) are low. If no window is marked default, the first one becomes the default.
///
/// # Errors
/// The first window that cannot be placed, and why.
pub fn place(specs: &[WindowSpec], limits: &PlacementLimits<'_>) -> Result<Vec<Window>, PlaceError> {
    // A region that is not a CMA window is the default only on request.
    let first = specs.iter().position(|spec| !spec.not_reusable && !spec.no_map);
    let any_default = specs.iter().any(|spec| spec.default);
    let mut windows: Vec<Window> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| Window {
            name: spec.name.clone().unwrap_or_else(|| format!("cma{index}")),
            base: spec.base.unwrap_or(0),
            size: spec.size,
            default: spec.default || (!any_default && first == Some(index)),
            node: spec.node,
            within: spec.alloc_ranges.clone(),
            align: spec.align,
            reusable: !spec.not_reusable,
            no_map: spec.no_map,
        })
        .collect();

    let mut defaults = windows.iter().filter(|window| window.default);
    if let (Some(one), Some(other)) = (defaults.next(), defaults.next()) {
        return Err(PlaceError::TwoDefaults(one.name.clone(), other.name.clone()));
    }
    for (index, window) in windows.iter().enumerate() {
        if windows[..index].iter().any(|other| other.name == window.name) {
            return Err(PlaceError::SameName(window.name.clone()));
        }
        check_size(window, limits)?;
        let last = limits.ram.iter().map(|(node, _)| *node).max().unwrap_or(0);
        if let Some(node) = window.node.filter(|node| *node > last) {
            return Err(PlaceError::NoNode { name: window.name.clone(), node, last });
        }
    }

    let mut taken: Vec<(String, Range<u64>)> =
        limits.taken.iter().map(|(name, range)| ((*name).to_owned(), range.clone())).collect();
    for (window, _) in windows.iter_mut().zip(specs).filter(|(_, spec)| spec.base.is_some()) {
        window.node = Some(check_fixed(window, limits, &taken)?);
        taken.push((format!("the CMA window {}", window.name), window.range()));
    }
    for window in windows.iter().filter(|window| window.within.is_some()) {
        check_within(window, limits)?;
    }
    let to_be_placed = |spec: &WindowSpec| spec.base.is_none() && spec.alloc_ranges.is_none();
    for (window, _) in windows.iter_mut().zip(specs).filter(|(_, spec)| to_be_placed(spec)) {
        let limit = upper_limit(limits, window.node);
        let holes = holes(limits, &taken, window.node, limit);
        let align = window.align.unwrap_or(1).max(limits.pageblock);
        let highest = |(node, hole): &(u32, Range<u64>)| {
            let base = hole.end.checked_sub(window.size)? / align * align;
            (base >= hole.start).then_some((*node, base))
        };
        let Some((node, base)) = holes.iter().rev().find_map(highest) else {
            let largest = holes.iter().map(|(_, hole)| hole.end - hole.start).max().unwrap_or(0);
            let (name, size, node) = (window.name.clone(), window.size, window.node);
            return Err(PlaceError::NoRoom { name, size, node, limit, largest });
        };
        (window.base, window.node) = (base, Some(node));
        taken.push((format!("the CMA window {}", window.name), window.range()));
    }
    Ok(windows)
}

/// The error if `value` is not a multiple of the unit.
fn check_aligned(
    window: &Window,
    (what, value): (&'static str, u64),
    (unit, of): (&'static str, u64),
) -> Result<(), PlaceError> {
    if value.is_multiple_of(of) {
        return Ok(());
    }
    let nearest = value.checked_next_multiple_of(of).unwrap_or(value / of * of);
    Err(PlaceError::Misaligned { name: window.name.clone(), what, value, unit, of, nearest })
}

/// The kernel's unit, with the name that an error gives it.
fn pageblock(limits: &PlacementLimits<'_>) -> (&'static str, u64) {
    ("the guest's pageblock", limits.pageblock)
}

fn check_size(window: &Window, limits: &PlacementLimits<'_>) -> Result<(), PlaceError> {
    let memory = limits.ram.iter().map(|(_, ram)| ram.end - ram.start).sum();
    if window.size > memory {
        return Err(PlaceError::LargerThanMemory { name: window.name.clone(), size: window.size, memory });
    }
    check_aligned(window, ("size", window.size), pageblock(limits))
}

/// The node that a window with a base lies in.
fn check_fixed(
    window: &Window,
    limits: &PlacementLimits<'_>,
    taken: &[(String, Range<u64>)],
) -> Result<u32, PlaceError> {
    check_aligned(window, ("base", window.base), pageblock(limits))?;
    check_aligned(window, ("base", window.base), ("its alignment", window.align.unwrap_or(1)))?;
    let range = window.base..window.base.saturating_add(window.size);
    let name = || window.name.clone();
    let inside = |(_, ram): &&(u32, Range<u64>)| ram.start <= range.start && range.end <= ram.end;
    let Some((node, _)) = limits.ram.iter().find(inside) else {
        let ram = list(limits.ram);
        let part =
            |(_, ram): &(u32, Range<u64>)| ram.end.min(range.end).saturating_sub(ram.start.max(range.start));
        let covered: u64 = limits.ram.iter().map(part).sum();
        return Err(if covered == window.size {
            PlaceError::AcrossNodes { name: name(), range, ram }
        } else {
            PlaceError::OutsideRam { name: name(), range, ram }
        });
    };
    if let Some(wanted) = window.node.filter(|wanted| wanted != node) {
        return Err(PlaceError::OtherNode { name: name(), range, node: *node, wanted });
    }
    if let Some((other, other_range)) =
        taken.iter().find(|(_, other)| other.start < range.end && range.start < other.end)
    {
        let (name, other, other_range) = (name(), other.clone(), other_range.clone());
        return Err(PlaceError::Overlap { name, range, other, other_range });
    }
    Ok(*node)
}

/// Checks that the guest's kernel has enough RAM to choose from.
fn check_within(window: &Window, limits: &PlacementLimits<'_>) -> Result<(), PlaceError> {
    let range = window.range();
    let room =
        |(_, ram): &(u32, Range<u64>)| ram.end.min(range.end).saturating_sub(ram.start.max(range.start));
    if limits.ram.iter().any(|ram| room(ram) >= window.size) {
        return Ok(());
    }
    Err(PlaceError::OutsideRam { name: window.name.clone(), range, ram: list(limits.ram) })
}

fn list(ram: &[(u32, Range<u64>)]) -> String {
    let nodes = ram.iter().any(|(node, _)| *node > 0);
    let one = |(node, ram): &(u32, Range<u64>)| {
        if nodes { format!("{ram:#x?} (node {node})") } else { format!("{ram:#x?}") }
    };
    ram.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// The address below which a window without a base lies, in `node` if it is for one.
fn upper_limit(limits: &PlacementLimits<'_>, node: Option<u32>) -> u64 {
    let mut of_node = limits.ram.iter().filter(|(other, _)| node.is_none_or(|node| node == *other));
    if of_node.any(|(_, ram)| ram.start < limits.below) { limits.below } else { u64::MAX }
}

/// The free ranges below the limit, in whole pageblocks, with their nodes, ascending. With `node` only those of this node.
fn holes(
    limits: &PlacementLimits<'_>,
    taken: &[(String, Range<u64>)],
    node: Option<u32>,
    limit: u64,
) -> Vec<(u32, Range<u64>)> {
    let mut taken: Vec<Range<u64>> = taken.iter().map(|(_, range)| range.clone()).collect();
    taken.sort_by_key(|range| range.start);
    let mut holes = Vec::new();
    let mut add = |node: u32, start: u64, end: u64| {
        let start = start.next_multiple_of(limits.pageblock);
        let end = end / limits.pageblock * limits.pageblock;
        if start < end {
            holes.push((node, start..end));
        }
    };
    for (of, ram) in limits.ram.iter().filter(|(of, _)| node.is_none_or(|node| node == *of)) {
        let end = ram.end.saturating_sub(limits.margin).min(limit);
        let mut at = ram.start;
        for range in taken.iter().filter(|range| range.start < end && range.end > ram.start) {
            if range.start > at {
                add(*of, at, range.start);
            }
            at = at.max(range.end);
        }
        if at < end {
            add(*of, at, end);
        }
    }
    holes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const M: u64 = 1 << 20;

    fn limits() -> PlacementLimits<'static> {
        PlacementLimits {
            ram: &[(0, 0..1024 * M), (0, 4096 * M..5120 * M)],
            taken: &[("the kernel", 0..48 * M), ("the initrd", 1010 * M..1024 * M)],
            pageblock: 4 * M,
            below: 4096 * M,
            margin: 0,
        }
    }

    fn placed(specs: &[&str]) -> Result<Vec<Window>, PlaceError> {
        let specs: Vec<WindowSpec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        place(&specs, &limits())
    }

    #[test]
    fn a_window_goes_high_below_the_initrd() {
        let windows = placed(&["256M"]).unwrap();
        let window = Window {
            name: "cma0".into(),
            base: 752 * M,
            size: 256 * M,
            default: true,
            node: Some(0),
            ..Default::default()
        };
        assert_eq!(windows, [window]);
    }

    /// Three nodes, the last above the limit.
    fn placed_in_nodes(specs: &[&str]) -> Result<Vec<Window>, PlaceError> {
        let ram = [(0, 0..512 * M), (1, 512 * M..1024 * M), (2, 4096 * M..5120 * M)];
        let specs: Vec<WindowSpec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        place(&specs, &PlacementLimits { ram: &ram, ..limits() })
    }

    #[test]
    fn a_window_is_in_the_node_that_it_asks_for() {
        let windows = placed_in_nodes(&[
            "64M,node=0",
            "64M,node=1",
            "64M",
            "64M,base=0x8000000",
            "128M,node=2",
            "64M,base=0x10000000,node=0",
            "64M,alloc-ranges=0-1G",
        ])
        .unwrap();
        let places: Vec<_> = windows.iter().map(|window| (window.node, window.base / M)).collect();
        let expected = [
            (Some(0), 448),
            (Some(1), 944),
            (Some(1), 880),
            (Some(0), 128),
            (Some(2), 4992),
            (Some(0), 256),
            (None, 0),
        ];
        assert_eq!(places, expected);
        // It fits in no node, although it would fit in both together.
        let error = placed_in_nodes(&["512M"]).unwrap_err().to_string();
        assert!(error.contains("the largest free stretch of RAM below 0x100000000 is 496M"), "{error}");
    }

    #[test]
    fn the_end_of_a_node_stays_free() {
        let ram = [(0, 0..512 * M), (1, 512 * M..1024 * M)];
        let specs = ["64M,node=0", "16M,base=0x1f000000"].map(|spec| spec.parse().unwrap());
        let windows = place(&specs, &PlacementLimits { ram: &ram, margin: 18 * M, ..limits() }).unwrap();
        assert_eq!(windows.iter().map(|window| window.base / M).collect::<Vec<_>>(), [428, 496]);
    }

    #[test]
    fn a_node_that_cannot_be_has_its_sentence() {
        for (spec, part) in [
            ("64M,node=3", "is for NUMA node 3, but the last node is 2; --numa sets"),
            (
                "512M,node=0",
                "no room for the CMA window cma0 of 512M: the largest free stretch of the RAM of NUMA node 0 below \
                 0x100000000 is 464M",
            ),
            ("64M,base=0x8000000,node=1", "at 0x8000000..0xc000000 lies in NUMA node 0, not in node 1; omit"),
            (
                "64M,base=0x1e000000",
                "at 0x1e000000..0x22000000 lies in more than one NUMA node; their RAM is 0x0..0x20000000 \
                 (node 0) and 0x20000000..0x40000000 (node 1)",
            ),
            ("64M,base=0x3e000000", "lies outside the guest's RAM, which is 0x0..0x20000000 (node 0) and"),
        ] {
            let error = placed_in_nodes(&[spec]).unwrap_err().to_string();
            assert!(error.contains(part), "{spec}: {error}");
        }
        assert!(placed(&["64M,node=1"]).unwrap_err().to_string().contains("the last node is 0"));
    }

    #[test]
    fn fixed_ones_come_first_and_the_marked_one_is_default() {
        let windows = placed(&["128M", "size=64M,name=isp,base=0x38000000,default"]).unwrap();
        assert_eq!(windows[1].range(), 896 * M..960 * M);
        assert_eq!(windows[0].range(), 768 * M..896 * M);
        assert_eq!(windows.iter().map(|window| window.default).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn the_default_is_a_cma_window_and_an_alignment_is_kept() {
        let windows = placed(&["64M,no-map", "64M,align=128M", "64M,not-reusable"]).unwrap();
        assert_eq!(windows.iter().map(|window| window.default).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(windows[1].base % (128 * M), 0);
        assert!(!windows[2].reusable && windows[0].no_map);
    }

    #[test]
    fn the_guest_places_what_has_a_range() {
        let windows = placed(&["64M,alloc-ranges=0x10000000-0x20000000", "896M"]).unwrap();
        assert_eq!(windows[0].range(), 256 * M..512 * M);
        assert_eq!(windows[1].base, 112 * M);
    }

    #[test]
    fn each_refusal_has_its_sentence() {
        for (specs, part) in [
            (&["3M"][..], "size 0x300000, which is not a multiple of the guest's pageblock of 4M; 0x400000"),
            (&["64M,base=0x8100000"], "base 0x8100000, which is not a multiple"),
            (&["4G"], "larger than the guest's memory of 2G"),
            (
                &["1G"],
                "no room for the CMA window cma0 of 1G: the largest free stretch of RAM below 0x100000000 is 960M",
            ),
            (&["512M", "512M"], "no room for the CMA window cma1"),
            (&["64M,base=0x3e000000"], "lies outside the guest's RAM, which is 0x0..0x40000000"),
            (&["64M,base=0x80000000"], "lies outside"),
            (&["64M,base=0xfffffffffc000000"], "lies outside"),
            (&["64M,base=0x2000000"], "overlaps the kernel at 0x0..0x3000000"),
            (&["64M,base=0x8000000", "64M,base=0xa000000"], "overlaps the CMA window cma0"),
            (
                &["64M,align=128M,base=0x8400000"],
                "base 0x8400000, which is not a multiple of its alignment of 128M",
            ),
            (&["64M,alloc-ranges=0x3e000000-0x50000000"], "lies outside the guest's RAM"),
            (&["64M,name=a", "64M,name=a"], "two CMA windows have the name a"),
            (&["64M,default", "64M,default"], "cma0 and cma1 are both marked default"),
        ] {
            let error = placed(specs).unwrap_err().to_string();
            assert!(error.contains(part), "{specs:?}: {error}");
        }
    }

    #[test]
    fn above_4g_only_by_base() {
        assert_eq!(placed(&["64M,base=0x100000000"]).unwrap()[0].base, 4096 * M);
    }

    proptest! {
        #[test]
        fn placed_windows_keep_every_rule(sizes in prop::collection::vec(1u64..80, 1..6)) {
            let specs: Vec<WindowSpec> =
                sizes.iter().map(|size| WindowSpec { size: size * 4 * M, ..Default::default() }).collect();
            let limits = limits();
            if let Ok(windows) = place(&specs, &limits) {
                for (index, window) in windows.iter().enumerate() {
                    check_fixed(window, &limits, &[]).unwrap();
                    let range = window.range();
                    let clear = |other: &Range<u64>| other.end <= range.start || range.end <= other.start;
                    prop_assert!(limits.taken.iter().all(|(_, taken)| clear(taken)));
                    prop_assert!(windows[..index].iter().all(|other| clear(&other.range())));
                    prop_assert!(range.end <= limits.below);
                }
            } else {
                prop_assert!(sizes.iter().sum::<u64>() * 4 > 1010 - 48 - 8 - 80 * 4);
            }
        }
    }
}
