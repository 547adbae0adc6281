//! What a booted kernel says about its reserved memory, and how it differs from a prediction.

use std::{fmt, ops::Range};

use cma::check::{Arch, Finding, NodeOutcome, Reference, Region, Report};

use super::{platform::INITRD, tree::Tree};

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

/// A CMA area in debugfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area {
    /// Its name: that of its node.
    pub name: String,
    /// Its first page.
    pub base_pfn: u64,
    /// Its pages; 0 if the kernel could not activate it.
    pub count: u64,
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
    /// The CMA areas of debugfs. None without debugfs.
    pub areas: Option<Vec<Area>>,
    /// CmaTotal of /proc/meminfo, in bytes.
    pub cma_total: u64,
    /// The ranges of System RAM in /proc/iomem, ascending.
    pub ram: Vec<Range<u64>>,
    /// The reserved ranges in /proc/iomem.
    pub reserved: Vec<Range<u64>>,
    /// What Linux allocated for itself, also if it freed it later.
    pub own: Vec<Range<u64>>,
    /// The addresses of the windows that Linux reserved beside the regions.
    pub windows: Vec<u64>,
    /// The kernel's messages.
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

/// Whether a line is the end of the report of a crash.
pub fn is_crash(line: &str) -> bool {
    line.contains("end trace")
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
        let mut is_for_region = false;
        for line in lines {
            if let Some(words) = line.strip_prefix("log pools: ") {
                answer.take(&words.split(' ').collect::<Vec<_>>());
            } else if let Some(resource) = line.strip_prefix("iomem ") {
                answer.take_resource(resource);
            } else if line == "areas" {
                answer.areas = Some(Vec::new());
            } else if let (Some(area), Some(areas)) = (line.strip_prefix("area "), &mut answer.areas) {
                areas.extend(self::area(area));
            } else if let Some(size) = line.strip_prefix("CmaTotal:") {
                let kib: u64 = size.trim().trim_end_matches(" kB").parse().unwrap_or(0);
                answer.cma_total = kib << 10;
            } else if line.contains("memblock_") {
                answer.take_allocation(line, &mut is_for_region);
            } else {
                let of_log = line.strip_prefix("log ");
                answer.windows.extend(of_log.and_then(window));
                answer.log.push(of_log.unwrap_or(line).to_owned());
            }
        }
        answer
    }

    /// Takes a line of /proc/iomem.
    fn take_resource(&mut self, line: &str) {
        let Some((range, name)) = line.trim_start().split_once(" : ") else { return };
        let Some(range) = hex_range(range) else { return };
        match name {
            "System RAM" => self.ram.push(range),
            // A region that covers the kernel's image is not listed there (arch/arm64/kernel/setup.c, request_standard_resources).
            "reserved" | "Kernel code" | "Kernel data" => self.reserved.push(range),
            _ => {}
        }
    }

    /// Takes a message of memblock=debug (mm/memblock.c). One says who asks for memory, and if there is some, the next one says which. What
    /// Linux allocates for a region is that region's.
    fn take_allocation(&mut self, line: &str, is_for_region: &mut bool) {
        if line.contains("memblock_phys_alloc_range: ") {
            *is_for_region = line.contains("reserved_mem");
        } else if let Some((_, range)) = line.split_once("memblock_reserve: [") {
            let is_allocation = range.contains(" memblock_");
            let range = range.split(']').next().unwrap_or_default().replace("0x", "");
            self.own.extend(hex_range(&range).filter(|_| is_allocation && !*is_for_region));
            *is_for_region = false;
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

/// `START-LAST`, in hexadecimal digits.
fn hex_range(text: &str) -> Option<Range<u64>> {
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, last) = text.split_once('-')?;
    Some(number(start)?..number(last)?.saturating_add(1))
}

/// The address in "cma: Reserved 64 MiB at 0x00000000bc000000" (mm/cma.c, cma_declare_contiguous_nid).
fn window(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("cma: Reserved ")?;
    let digits = rest.split_once(" at 0x")?.1;
    let end = digits.find(|digit: char| !digit.is_ascii_hexdigit()).unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], 16).ok()
}

/// `NAME BASE_PFN COUNT`, in decimal digits as debugfs has them.
fn area(line: &str) -> Option<Area> {
    let mut words = line.split(' ');
    let name = words.next()?.to_owned();
    let (base_pfn, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Area { name, base_pfn, count })
}

/// The differences between a prediction for `tree` and a kernel's answer.
pub fn differences(report: &Report, tree: &Tree, answer: &Answer) -> Vec<Difference> {
    let difference = |kind: &str, text: String| Difference { kind: kind.to_owned(), text };
    match (answer.end, report.panics) {
        // It crashed, and what waits for the end of the crash hangs.
        (End::Silent, false) if report.may_panic && answer.log.iter().any(|line| is_crash(line)) => {
            return Vec::new();
        }
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
            let last = answer.log.len().saturating_sub(40);
            let text = format!("the check does not say so: {:#?}", &answer.log[last..]);
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
    found.extend(of_window(report, answer).map(|text| difference("window", text)));
    found.extend(of_areas(report, answer).map(|text| difference("areas", text)));
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
                    region.size,
                    base_of(region)
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
    let region = report.regions.iter().find(|region| Some(&region.node) == reference.pool.as_ref())?;
    let (mut base, size) = (base_of(region)?, region.size?);
    if *gets == Some(NodeOutcome::CoherentCarveout) {
        // A carveout begins with a whole page (kernel/dma/coherent.c, dma_init_coherent_memory).
        base = base / report.kernel.page_size * report.kernel.page_size;
    }
    // Smaller pools have no room for the buffer.
    if size < 0x2000 {
        return None;
    }
    let inside = got.buffer.is_some_and(|buffer| buffer >= base && buffer - base < size);
    // The pages of a pool that is not active are the page allocator's, which may give them for the buffer. CmaTotal lacks them. Pages that
    // the page allocator got twice may be in use.
    let is_cma = *gets == Some(NodeOutcome::CmaPool);
    let expected = !is_cma || is_active(&region.findings) && !is_given_twice(region, report);
    (expected && !inside).then(|| {
        format!("{predicted}, and the buffer is at {:#x?}, outside of {base:#x} and {size:#x}", got.buffer)
    })
}

/// Whether Linux gives the pages of a window to the page allocator, by the findings on it.
pub fn is_active(findings: &[Finding]) -> bool {
    !findings.iter().any(|finding| finding.text.contains("could not be activated"))
}

/// Whether the page allocator gets pages of a pool from another one, too.
fn is_given_twice(pool: &Region, report: &Report) -> bool {
    let place = |region: &Region| {
        let start = base_of(region).filter(|_| region.outcome == NodeOutcome::CmaPool)?;
        Some(start..start.saturating_add(region.size?))
    };
    let Some(own) = place(pool) else { return false };
    let others = report.regions.iter().filter(|region| region.node != pool.node).filter_map(place);
    others.into_iter().any(|other| other.start < own.end && own.start < other.end)
}

/// Memory below is the machine's.
const FIRST: u64 = 1 << 20;

/// From here on, whatever is reserved has a reason in the tree, or Linux allocated it.
const KNOWN: u64 = INITRD[0];

/// Differences in /proc/iomem: System RAM is the same, and the same is reserved but for what Linux allocates for itself. x86_64 shows its
/// e820 map only.
fn of_memory(report: &Report, answer: &Answer) -> Option<String> {
    let (expected, ram) = (merged(&report.memory.ram), merged(&answer.ram));
    if expected != ram {
        return Some(format!("System RAM is {expected:x?} by the check, and {ram:x?} by the kernel"));
    }
    if report.kernel.arch == Arch::X86_64 {
        return None;
    }
    let page = report.kernel.page_size;
    let pages = |ranges: &[Range<u64>]| {
        let outward = |range: &Range<u64>| {
            range.start / page * page..range.end.checked_next_multiple_of(page).unwrap_or(range.end)
        };
        within(&merged(&ranges.iter().map(outward).collect::<Vec<_>>()), &ram)
    };
    let (predicted, reserved, own) =
        (pages(&report.memory.reserved), pages(&answer.reserved), pages(&answer.own));
    if let Some(missing) = without(&predicted, &reserved).into_iter().next() {
        return Some(format!(
            "{missing:x?} is reserved by the check, and by the kernel only {reserved:x?} is"
        ));
    }
    let more = without(&without(&reserved, &predicted), &own).into_iter().find(|range| range.end > KNOWN)?;
    Some(format!("{more:x?} is reserved by the kernel, and by the check only {predicted:x?} is"))
}

/// The parts of `ranges` that are in `others`. Both are ascending.
fn within(ranges: &[Range<u64>], others: &[Range<u64>]) -> Vec<Range<u64>> {
    let part =
        |range: &Range<u64>, other: &Range<u64>| range.start.max(other.start)..range.end.min(other.end);
    let parts = ranges.iter().flat_map(|range| others.iter().map(move |other| part(range, other)));
    parts.filter(|part| !part.is_empty()).collect()
}

/// The parts of `ranges` that are not in `others`. Both are ascending.
fn without(ranges: &[Range<u64>], others: &[Range<u64>]) -> Vec<Range<u64>> {
    let starts = std::iter::once(0).chain(others.iter().map(|other| other.end));
    let ends = others.iter().map(|other| other.start).chain([u64::MAX]);
    let gaps: Vec<Range<u64>> = starts.zip(ends).map(|(start, end)| start..end).collect();
    within(ranges, &gaps)
}

/// A difference in the place of the window that Linux reserves beside the regions. Linux allocates other memory before it, so that the
/// window may be elsewhere than the check says. Each place between is then in use.
fn of_window(report: &Report, answer: &Answer) -> Option<String> {
    let expected = report.memory.window.as_ref();
    let (count, all) = (report.memory.numa.len() + usize::from(expected.is_some()), &answer.windows);
    if all.len() != count {
        return Some(format!(
            "the check expects {count} windows beside the regions, and the kernel has {all:x?}"
        ));
    }
    let (expected, found) = (expected?, *all.first()?);
    if expected.start == found {
        return None;
    }
    if report.default_window.base.is_some() {
        return Some(format!(
            "the window beside the regions is at {expected:x?} by the check, and at {found:#x}"
        ));
    }
    let Range { start, end } = expected.clone();
    let (size, block) = (end - start, report.kernel.pageblock);
    let used = merged(&[&answer.own[..], &report.memory.reserved].concat());
    let used = without(&used, &[found..found + size]);
    let is_free = |base: &u64| {
        let place = *base..base + size;
        let place = std::slice::from_ref(&place);
        without(place, &report.memory.ram).is_empty() && within(place, &used).is_empty()
    };
    let candidates = if start > found { found + block..start + block } else { start..found };
    let candidates = (candidates.start..candidates.end).step_by(usize::try_from(block).ok()?);
    let free = candidates.chain([start]).find(is_free)?;
    Some(format!(
        "the window beside the regions is at {start:#x} by the check, and at {found:#x}, although {free:#x} is free"
    ))
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

/// Differences in the CMA areas of debugfs: those of nodes by name, place and size, and the number of others, of which there is the
/// default window.
fn of_areas(report: &Report, answer: &Answer) -> Option<String> {
    let page = report.kernel.page_size;
    let Some(areas) = &answer.areas else {
        // Debian's kernels for arm64 do not have it (CONFIG_CMA_DEBUGFS).
        return (report.kernel.arch == Arch::X86_64)
            .then(|| "the guest has no CMA areas in debugfs".to_owned());
    };
    let areas: Vec<&Area> = areas.iter().filter(|area| area.count > 0).collect();
    let pools: Vec<&Region> = pools(report).collect();
    let is_of = |region: &Region, area: &Area| {
        region.node.rsplit('/').next() == Some(area.name.as_str())
            && region.size == Some(area.count * page)
            && base_of(region).is_none_or(|base| base == area.base_pfn * page)
    };
    if let Some(missing) = pools.iter().find(|region| !areas.iter().any(|area| is_of(region, area))) {
        return Some(format!("{} is a CMA pool by the check, and debugfs has {areas:?}", missing.node));
    }
    let others = areas.iter().filter(|area| !pools.iter().any(|region| is_of(region, area))).count();
    let expected = usize::from(own_window(report) > 0) + report.memory.numa.len();
    (others != expected).then(|| {
        format!("the check expects {expected} CMA areas beside those of nodes, and debugfs has {areas:?}")
    })
}

/// The CMA pools that Linux gives to the page allocator.
fn pools(report: &Report) -> impl Iterator<Item = &Region> + Clone {
    let is_pool = |region: &&Region| region.outcome == NodeOutcome::CmaPool && is_active(&region.findings);
    report.regions.iter().filter(is_pool)
}

/// The bytes of the window that Linux reserves beside the regions and gives to the page allocator.
fn own_window(report: &Report) -> u64 {
    let window = report.memory.window.as_ref().filter(|_| is_active(&report.default_window.findings));
    window.map_or(0, |window| window.end - window.start)
}

fn of_default(report: &Report, answer: &Answer) -> Option<String> {
    let window = &report.default_window;
    let pools = pools(report);
    let numa: u64 = report.memory.numa.iter().map(|range| range.end - range.start).sum();
    let total = own_window(report) + numa + pools.clone().filter_map(|region| region.size).sum::<u64>();
    if answer.cma_total != total {
        return Some(format!(
            "by the check all windows have {total:#x} bytes, and by the kernel {:#x}",
            answer.cma_total
        ));
    }
    let got = answer.got.iter().find(|got| got.index.is_none())?;
    let within =
        |base: u64, size: u64| got.buffer.is_some_and(|buffer| buffer >= base && buffer - base < size);
    let base = match &window.node {
        Some(node) => pools.clone().find(|region| region.node == *node).and_then(base_of),
        None => window.base.filter(|_| own_window(report) > 0),
    };
    let place = base.zip(window.size);
    let right = match place {
        Some((base, size)) => within(base, size),
        // No node's window serves it.
        None => !pools
            .filter_map(|region| base_of(region).zip(region.size))
            .any(|(base, size)| within(base, size)),
    };
    (!right).then(|| format!("the check says {window}, and the kernel's buffer is at {:#x?}", got.buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_of_debugfs_are_read() {
        let lines =
            ["areas", "area r1@50000000 327680 1024", "area reserved 400000 0", "END"].map(str::to_owned);
        let area = |name: &str, base_pfn, count| Area { name: name.to_owned(), base_pfn, count };
        let expected = vec![area("r1@50000000", 327_680, 1024), area("reserved", 400_000, 0)];
        assert_eq!(Answer::parse(&lines).areas, Some(expected));
        assert_eq!(Answer::parse(&["END".to_owned()]).areas, None);
    }
}
