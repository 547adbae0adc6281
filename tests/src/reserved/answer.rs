//! What a booted kernel says about its reserved memory, and how it differs from a prediction.

use std::{fmt, ops::Range};

use cma::check::{Arch, NodeOutcome, Origin, Reference, Region, Report};

use super::tree::Tree;

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// The guest's program printed everything.
    Answered,
    /// The kernel panicked.
    Panicked,
    /// Neither.
    #[default]
    Silent,
}

/// A region in the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The node's name.
    pub name: String,
    /// Its first address.
    pub base: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Whether a device can ask for it.
    pub is_pool: bool,
}

/// What a device got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The device's node.
    pub user: String,
    /// The number of the entry of its memory-region. None for a device without any.
    pub index: Option<usize>,
    /// The return value of of_reserved_mem_device_init_by_idx; 0 without an entry.
    pub errno: i32,
    /// The kind of the pool: `cma`, `coherent` or `other`.
    pub kind: String,
    /// The address of a buffer that the device then allocated. None if it got none.
    pub buffer: Option<u64>,
}

/// A kernel's answer to a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// How the boot ended.
    pub end: End,
    /// The kernel's table of regions.
    pub regions: Vec<Known>,
    /// What devices got.
    pub got: Vec<Got>,
    /// CmaTotal of /proc/meminfo, in bytes.
    pub cma_total: u64,
    /// The ranges of System RAM in /proc/iomem, ascending.
    pub ram: Vec<Range<u64>>,
    /// The reserved ranges in /proc/iomem.
    pub reserved: Vec<Range<u64>>,
    /// The kernel's messages about reserved memory, or its last lines.
    pub log: Vec<String>,
}

/// A difference between a prediction and an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs: a smaller tree must differ in the same.
    pub kind: String,
    /// A sentence with both values.
    pub text: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.text)
    }
}

/// A line of the console without the time of a message of the kernel.
pub fn plain(line: &str) -> &str {
    let text = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    text.filter(|(time, _)| time.bytes().all(|byte| matches!(byte, b' ' | b'.' | b'0'..=b'9')))
        .map_or(line, |(_, text)| text)
}

impl Answer {
    /// Parses the lines of a boot.
    pub fn parse(lines: &[String]) -> Self {
        let end = match lines.last().map(String::as_str) {
            Some("END") => End::Answered,
            Some(line) if line.contains("Kernel panic") => End::Panicked,
            _ => End::Silent,
        };
        let mut answer = Self { end, ..Self::default() };
        for line in lines {
            if let Some(words) = line.strip_prefix("log pools: ") {
                answer.take(&words.split(' ').collect::<Vec<_>>());
            } else if let Some(resource) = line.strip_prefix("iomem ") {
                answer.take_resource(resource);
            } else if let Some(size) = line.strip_prefix("CmaTotal:") {
                let kib: u64 = size.trim().trim_end_matches(" kB").parse().unwrap_or(0);
                answer.cma_total = kib << 10;
            } else {
                answer.log.push(line.strip_prefix("log ").unwrap_or(line).to_owned());
            }
        }
        answer
    }

    /// Takes a line of /proc/iomem.
    fn take_resource(&mut self, line: &str) {
        let Some((range, name)) = line.trim_start().split_once(" : ") else { return };
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let Some((start, last)) =
            range.split_once('-').and_then(|(start, last)| number(start).zip(number(last)))
        else {
            return;
        };
        let range = start..last.saturating_add(1);
        match name {
            "System RAM" => self.ram.push(range),
            "reserved" => self.reserved.push(range),
            _ => {}
        }
    }

    /// Takes the words of a line of the module (tests/guest/pools/pools.c).
    fn take(&mut self, words: &[&str]) {
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(u64::MAX);
        match *words {
            ["region", name, base, size, pool] => self.regions.push(Known {
                name: name.to_owned(),
                base: number(base),
                size: number(size),
                is_pool: pool == "pool",
            }),
            ["init", user, index, errno, kind] => self.got.push(Got {
                user: user.to_owned(),
                index: index.parse().ok(),
                errno: errno.parse().unwrap_or(i32::MIN),
                kind: kind.to_owned(),
                buffer: None,
            }),
            ["alloc", user, index, address] => {
                let index = index.parse().ok();
                let buffer = (address != "none").then(|| number(address));
                match self.got.iter_mut().rev().find(|got| got.user == user && got.index == index) {
                    Some(got) => got.buffer = buffer,
                    None => self.got.push(Got {
                        user: user.to_owned(),
                        index,
                        errno: 0,
                        kind: "none".to_owned(),
                        buffer,
                    }),
                }
            }
            _ => {}
        }
    }

    fn region(&self, path: &str) -> Option<&Known> {
        let name = path.rsplit('/').next()?;
        self.regions.iter().find(|known| known.name == name)
    }
}

/// The differences between a prediction for `tree` and a kernel's answer.
pub fn differences(report: &Report, tree: &Tree, answer: &Answer) -> Vec<Difference> {
    let difference = |kind: &str, text: String| Difference { kind: kind.to_owned(), text };
    match (answer.end, report.panics) {
        (End::Silent, _) => {
            let last = answer.log.last().map_or("nothing", String::as_str);
            return vec![difference(
                "silence",
                format!("the guest neither answered nor panicked; it said last: {last}"),
            )];
        }
        (End::Panicked, false) if report.may_panic => return Vec::new(),
        (End::Panicked, false) => {
            let reason =
                answer.log.last().and_then(|line| line.split("not syncing: ").nth(1)).unwrap_or_default();
            let text = format!("the check does not say so: {:?}", answer.log);
            return vec![difference(&format!("panic, {reason}"), text)];
        }
        (End::Panicked, true) => return Vec::new(),
        (End::Answered, true) => {
            return vec![difference("panic", "the check predicts a panic, and the kernel boots".to_owned())];
        }
        (End::Answered, false) => {}
    }
    let mut found = Vec::new();
    for region in &report.regions {
        found.extend(of_region(region, answer.region(&region.node)).map(|text| difference("region", text)));
    }
    for user in report.users.iter().filter(|user| user.enabled) {
        let name = user.node.rsplit('/').next().unwrap_or_default();
        for reference in user.references.iter().filter(|_| tree.is_asked(name)) {
            let got = answer.got.iter().find(|got| got.user == name && got.index == Some(reference.index));
            found.extend(
                of_reference(&user.node, reference, report, got).map(|text| difference("device", text)),
            );
        }
    }
    found.extend(of_memory(report, answer).map(|text| difference("memory", text)));
    found.extend(of_default(report, answer).map(|text| difference("default", text)));
    found
}

fn of_region(region: &Region, known: Option<&Known>) -> Option<String> {
    let is_there =
        matches!(region.outcome, NodeOutcome::NoMap | NodeOutcome::Reserved) || region.outcome.is_pool();
    let predicted = format!("{} is {}", region.node, region.outcome);
    match known {
        None if is_there => Some(format!("{predicted} by the check, and the kernel does not have it")),
        None => None,
        Some(known) if known.is_pool != region.outcome.is_pool() => {
            Some(format!("{predicted} by the check, and the kernel has {known:?}"))
        }
        Some(known) if is_there => {
            let place = base_of(region).is_some_and(|base| base != known.base);
            let size = region.size.is_some_and(|size| size != known.size);
            (place || size).then(|| {
                format!(
                    "{predicted} of {:#x?} at {:#x?} by the check, and the kernel has {known:x?}",
                    region.size, region.base
                )
            })
        }
        Some(_) => None,
    }
}

fn of_reference(user: &str, reference: &Reference, report: &Report, got: Option<&Got>) -> Option<String> {
    let Reference { index, target, errno, gets, .. } = reference;
    let target = target.as_deref().unwrap_or("nothing");
    let predicted = format!("{user}, entry {index}, {target}: the check says {errno} and {gets:?}");
    let Some(got) = got else { return Some(format!("{predicted}, and the kernel has no such device")) };
    let kind = match gets {
        Some(NodeOutcome::CmaPool) => "cma",
        Some(NodeOutcome::CoherentCarveout) => "coherent",
        Some(_) => "other",
        None if *errno == 0 => "other",
        None => "-",
    };
    if got.errno != *errno || got.kind != kind {
        return Some(format!("{predicted}, and the kernel {} and {}", got.errno, got.kind));
    }
    let region = report.regions.iter().find(|region| region.node == target)?;
    let (base, size) = (base_of(region)?, region.size?);
    // Smaller pools have no room for the buffer.
    if gets.is_none() || size < 0x2000 {
        return None;
    }
    let inside = got.buffer.is_some_and(|buffer| buffer >= base && buffer - base < size);
    (!inside).then(|| {
        format!("{predicted}, and the buffer is at {:#x?}, outside of {base:#x} and {size:#x}", got.buffer)
    })
}

/// Memory below is the machine's.
const FIRST: u64 = 1 << 20;

/// Differences in /proc/iomem: System RAM is the same, and what the check knows to be reserved is reserved. Linux also reserves memory
/// for itself. x86_64 shows its e820 map only.
fn of_memory(report: &Report, answer: &Answer) -> Option<String> {
    let (expected, ram) = (merged(&report.memory.ram), merged(&answer.ram));
    if expected != ram {
        return Some(format!("System RAM is {expected:x?} by the check, and {ram:x?} by the kernel"));
    }
    if report.kernel.arch == Arch::X86_64 {
        return None;
    }
    let (page, reserved) = (report.kernel.page_size, merged(&answer.reserved));
    let pages = report.memory.reserved.iter().map(|range| {
        range.start / page * page..range.end.checked_next_multiple_of(page).unwrap_or(range.end)
    });
    let in_ram = pages.flat_map(|range| {
        let part = move |ram: &Range<u64>| ram.start.max(range.start)..ram.end.min(range.end);
        ram.iter().map(part).filter(|part| !part.is_empty()).collect::<Vec<_>>()
    });
    let covers =
        |part: &Range<u64>| reserved.iter().any(|range| range.start <= part.start && part.end <= range.end);
    let missing = in_ram.into_iter().find(|part| !covers(part))?;
    Some(format!("{missing:x?} is reserved by the check, and by the kernel only {reserved:x?} is"))
}

/// Ranges in order, without those that touch, above [`FIRST`].
fn merged(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> =
        ranges.iter().filter(|range| range.start >= FIRST && !range.is_empty()).cloned().collect();
    sorted.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    merged
}

/// Its address by the prediction.
fn base_of(region: &Region) -> Option<u64> {
    region.base.or(region.placed)
}

/// The size of a default window by the configuration of Debian's kernels, which also exists where a node is the default window that
/// Linux sets up later.
const CONFIGURED: u64 = 64 << 20;

fn of_default(report: &Report, answer: &Answer) -> Option<String> {
    let window = &report.default_window;
    let pools = report.regions.iter().filter(|region| region.outcome == NodeOutcome::CmaPool);
    let by_node = window.origin == Origin::Node;
    let own = if by_node { 0 } else { window.size.unwrap_or(0) };
    let total = own + pools.clone().filter_map(|region| region.size).sum::<u64>();
    if answer.cma_total != total && !(by_node && answer.cma_total == total + CONFIGURED) {
        return Some(format!(
            "by the check all windows have {total:#x} bytes, and by the kernel {:#x}",
            answer.cma_total
        ));
    }
    let got = answer.got.iter().find(|got| got.index.is_none())?;
    let within =
        |base: u64, size: u64| got.buffer.is_some_and(|buffer| buffer >= base && buffer - base < size);
    let node = pools.clone().find(|region| Some(&region.node) == window.node.as_ref());
    let place = node.map_or(window.base, base_of).zip(window.size);
    let right = match place {
        Some((base, size)) => within(base, size),
        // No node's window serves it.
        None => !pools
            .filter_map(|region| base_of(region).zip(region.size))
            .any(|(base, size)| within(base, size)),
    };
    (!right).then(|| format!("the check says {window}, and the kernel's buffer is at {:#x?}", got.buffer))
}
