//! Where RAM is: memory nodes or the boot loader's RAM, limits of it, zones and NUMA nodes.

use std::{collections::BTreeMap, ops::Range};

use super::{
    cmdline::Cmdline,
    dma,
    finding::{Finding, Level, finding},
    kernel::{Arch, Boot, Kernel},
    ranges::{Ranges, at},
    tree::{ROOT, Tree, number, tuples},
};
use crate::area::Rules;

pub(super) const PARSE_MEMORY_NODES: &str = "drivers/of/of_numa.c, of_numa_parse_memory_nodes";
const SCAN_MEMORY: &str = "drivers/of/fdt.c, early_init_dt_scan_memory";

/// The end of 32-bit addresses.
const BORDER: u64 = 4 << 30;
/// The largest 32-bit address.
const MAX_32: u64 = BORDER - 1;

/// The RAM.
#[derive(Debug)]
pub(super) struct Ram {
    /// What Linux uses.
    pub(super) memory: Ranges,
    /// What the memory nodes or the boot loader describe.
    described: Ranges,
    /// What limits it: `mem=` and `linux,usable-memory-range`.
    limits: Vec<&'static str>,
    /// Whether a boot loader described it, not the tree.
    pub(super) given: bool,
    /// What Linux uses of the RAM of each NUMA node, by the node's number.
    pub(super) nodes: BTreeMap<u64, Ranges>,
    /// The addresses at which a zone ends and another one begins, with the name of the lower zone.
    pub(super) zone_ends: Vec<(u64, &'static str)>,
    /// The end of low memory, which is that of RAM on 64-bit architectures.
    pub(super) low_end: u64,
    /// The end of the addresses for a default window.
    pub(super) window_limit: u64,
}

impl Ram {
    /// The RAM by the tree, the command line and the boot loader. `cells` are the root's.
    pub(super) fn read(
        tree: &Tree<'_>,
        (kernel, boot, cmdline): (&Kernel, &Boot, &Cmdline),
        cells: Option<(usize, usize)>,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let mut memory = Ranges::default();
        let mut nodes = BTreeMap::<u64, Ranges>::new();
        if boot.ram.is_empty() {
            let described = described_by(tree, kernel, cells, findings);
            let reason = without_nodes(tree, kernel.rules, cells, &described);
            if let Some(reason) = &reason
                && described.iter().any(|(id, _)| id.is_some())
            {
                let text = format!("Linux uses no NUMA nodes, because {reason} (\"Faking a node\")");
                findings.push(finding(Level::Warning, PARSE_MEMORY_NODES, text));
            }
            for (id, range) in described {
                memory.insert(range.clone());
                if let (Some(id), None) = (id, &reason) {
                    nodes.entry(id).or_default().insert(range);
                }
            }
        } else {
            boot.ram
                .iter()
                .filter_map(|ram| added(kernel, ram.start, ram.end - ram.start))
                .for_each(|ram| memory.insert(ram));
        }
        let described = memory.clone();
        let mut limits = Vec::new();
        if limit_by_usable_range(tree, cells, &mut memory) {
            limits.push("linux,usable-memory-range");
        }
        if limit_by_mem(kernel, cmdline, &mut memory) {
            limits.push("mem=");
        }
        let unused: Ranges = described.without(&[&memory]).into_iter().collect();
        for ram in nodes.values_mut() {
            unused.iter().for_each(|range| ram.remove(&range));
        }
        let given = !boot.ram.is_empty();
        let mut ram = Self {
            memory,
            described,
            limits,
            given,
            nodes,
            zone_ends: Vec::new(),
            low_end: u64::MAX,
            window_limit: 0,
        };
        ram.set_zones(tree, kernel, cmdline);
        ram
    }

    /// Whether the RAM is known. Otherwise a boot loader fills it in.
    pub(super) fn is_known(&self) -> bool {
        !self.described.is_empty()
    }

    /// Whether a boot loader may describe more RAM than the tree.
    pub(super) fn may_grow(&self) -> bool {
        !self.given && self.limits.is_empty()
    }

    /// Whether any of `range` is RAM. True if the RAM is unknown.
    pub(super) fn overlaps(&self, range: &Range<u64>) -> bool {
        !self.is_known() || self.memory.overlaps(range)
    }

    /// Why some of `range` is not RAM. None if all of it is, or if the RAM is unknown.
    pub(super) fn lack(&self, range: &Range<u64>) -> Option<String> {
        if !self.is_known() || self.memory.covers(range) {
            return None;
        }
        Some(if self.described.covers(range) {
            format!("{} limits RAM, so that not all of {range:#x?} is RAM", self.limits.join(" or "))
        } else if self.given {
            format!("no --ram covers all of {range:#x?}")
        } else {
            format!("no memory node covers all of {range:#x?}")
        })
    }

    fn start(&self) -> u64 {
        self.memory.iter().next().map_or(0, |range| range.start)
    }

    /// The end of RAM.
    pub(super) fn end(&self) -> u64 {
        self.memory.iter().next_back().map_or(u64::MAX, |range| range.end)
    }

    fn set_zones(&mut self, tree: &Tree<'_>, kernel: &Kernel, cmdline: &Cmdline) {
        self.low_end = self.end();
        let zone_dma = kernel.options.zone_dma;
        match kernel.arch {
            Arch::Arm64 => {
                let dma = self.dma_limit(dma::max_cpu_address(tree), kernel.rules);
                let dma32 = self.dma_limit(u64::MAX, kernel.rules);
                self.window_limit = if zone_dma { dma } else { dma32 };
                self.zone_ends =
                    [(dma, "ZONE_DMA"), (dma32, "ZONE_DMA32")][usize::from(!zone_dma)..].to_vec();
            }
            Arch::Arm => {
                self.low_end = kernel.lowmem_end.unwrap_or_else(|| self.low_memory_end(cmdline));
                self.window_limit = MAX_32;
                self.zone_ends = vec![(self.low_end, "low memory")];
            }
            Arch::Riscv => {
                self.window_limit = BORDER.min(self.end());
                self.zone_ends = vec![(BORDER, "ZONE_DMA32")];
            }
            Arch::X86_64 => {
                self.window_limit = self.end();
                self.zone_ends =
                    [(16 << 20, "ZONE_DMA"), (BORDER, "ZONE_DMA32")][usize::from(!zone_dma)..].to_vec();
            }
        }
        self.zone_ends.dedup_by_key(|(end, _)| *end);
    }

    /// The end of ZONE_DMA for devices that reach addresses up to `reach` (arch/arm64/mm/init.c, zone_sizes_init and max_zone_phys).
    fn dma_limit(&self, reach: u64, rules: Rules) -> u64 {
        let last = if rules == Rules::V6_1 {
            // A number of bits.
            let mask = if reach > MAX_32 { MAX_32 } else { (reach + 1).next_power_of_two() - 1 };
            match self.start() {
                start if start > MAX_32 => u64::MAX,
                start if start > mask => MAX_32,
                _ => mask,
            }
        } else if self.start() < MAX_32 {
            reach.min(MAX_32)
        } else {
            reach
        };
        last.min(self.end() - 1) + 1
    }

    /// The end of low memory on 32-bit Arm with 3 GiB of user space (arch/arm/mm/mmu.c, adjust_lowmem_bounds).
    fn low_memory_end(&self, cmdline: &Cmdline) -> u64 {
        const PAGE_OFFSET: u64 = 0xc000_0000;
        const VMALLOC_END: u64 = 0xff80_0000;
        const VMALLOC_OFFSET: u64 = 8 << 20;
        let largest = VMALLOC_END - PAGE_OFFSET - (32 << 20) - VMALLOC_OFFSET;
        let vmalloc = cmdline.vmalloc.unwrap_or(240 << 20).clamp(16 << 20, largest);
        let limit = VMALLOC_END - PAGE_OFFSET - vmalloc - VMALLOC_OFFSET + self.start();
        let low = self.memory.iter().filter(|range| range.start < limit);
        low.map(|range| range.end.min(limit)).max().unwrap_or(u64::MAX)
    }
}

/// A range of RAM as Linux adds it: whole pages (drivers/of/fdt.c, early_init_dt_add_memory_arch), on 32-bit Arm below 4 GiB
/// (arch/arm/kernel/setup.c, arm_add_memory).
fn added(kernel: &Kernel, base: u64, size: u64) -> Option<Range<u64>> {
    let page = kernel.page_size;
    let mut end = at(base, size).end;
    if kernel.has_32_bit_addresses() {
        end = end.min(MAX_32);
    }
    let range = base.checked_next_multiple_of(page)?..end / page * page;
    (!range.is_empty()).then_some(range)
}

/// Why Linux uses no NUMA nodes: it reads all nodes with device_type = "memory", also those that it does not take for RAM, and since 6.12 the
/// last one decides. None if it uses them.
fn without_nodes(
    tree: &Tree<'_>,
    rules: Rules,
    cells: Option<(usize, usize)>,
    described: &[(Option<u64>, Range<u64>)],
) -> Option<String> {
    let mut last = Some("no memory node has a numa-node-id".to_owned());
    for node in tree.nodes().filter(|node| tree.text(*node, "device_type") == Some(b"memory")) {
        let Some(id) = tree.property(node, "numa-node-id") else {
            if rules != Rules::V6_1 {
                last = Some(format!("the last memory node, {}, has no numa-node-id", tree.path(node)));
            }
            continue;
        };
        let reg = tree.property(node, "reg").unwrap_or_default();
        let has_address = cells.is_some_and(|cells| tuples(reg, cells).next().is_some());
        if id.len() < 4 || !has_address {
            let lack = if has_address { "whole numa-node-id" } else { "address" };
            return Some(format!("{} has no {lack} (\"bad property in memory node\")", tree.path(node)));
        }
        last = None;
    }
    let uncovered = described.iter().find(|(id, range)| id.is_none() && !range.is_empty());
    last.or_else(|| uncovered.map(|(_, range)| format!("the RAM {range:#x?} has no numa-node-id")))
}

/// The RAM of the memory nodes, each range with its NUMA node ([`PARSE_MEMORY_NODES`]).
fn described_by(
    tree: &Tree<'_>,
    kernel: &Kernel,
    cells: Option<(usize, usize)>,
    findings: &mut Vec<Finding>,
) -> Vec<(Option<u64>, Range<u64>)> {
    let mut described = Vec::new();
    let Some(cells) = cells else { return described };
    let mut without_type = false;
    for node in tree.nodes() {
        let at_root = node != ROOT && tree.parent(node) == ROOT;
        let is_memory = tree.text(node, "device_type") == Some(b"memory");
        let reg = tree.property(node, "linux,usable-memory").or_else(|| tree.property(node, "reg"));
        let reg = reg.unwrap_or_default();
        let has_size = tuples(reg, cells).any(|(_, size)| size > 0);
        if !at_root || !is_memory {
            let name = tree.base_name(node);
            if at_root && name == "memory" && has_size {
                without_type = true;
                let text = format!(
                    "{} has a size and no device_type = \"memory\": Linux does not take it for RAM, unless the boot loader adds \
                     the property",
                    tree.path(node)
                );
                findings.push(finding(Level::Warning, SCAN_MEMORY, text));
            } else if is_memory && !tree.is_meta(node) {
                let text = format!("{} is not at the root: Linux does not take it for RAM", tree.path(node));
                findings.push(finding(Level::Warning, SCAN_MEMORY, text));
            }
            continue;
        }
        if !tree.is_available(node) {
            let text = format!(
                "{} has a status that is not \"okay\": Linux does not take it for RAM",
                tree.path(node)
            );
            findings.push(finding(Level::Note, SCAN_MEMORY, text));
            continue;
        }
        if !reg.len().is_multiple_of(4 * (cells.0 + cells.1)) {
            let done = if kernel.rules == Rules::V7_2 { "all of it" } else { "the rest" };
            let text = format!(
                "the reg of {} has {} bytes, which are no whole tuples of {}: Linux ignores {done}",
                tree.path(node),
                reg.len(),
                4 * (cells.0 + cells.1)
            );
            findings.push(finding(Level::Warning, SCAN_MEMORY, text));
            if kernel.rules == Rules::V7_2 {
                continue;
            }
        }
        let id = tree.property(node, "numa-node-id").and_then(|id| id.get(..4)).map(number);
        let ranges = tuples(reg, cells).filter_map(|(base, size)| added(kernel, base, size));
        described.extend(ranges.map(|range| (id, range)));
    }
    if described.is_empty() && !without_type {
        findings.push(finding(
            Level::Note,
            SCAN_MEMORY,
            "no memory node has a size, because a boot loader fills it in: the check assumes that regions are in RAM",
        ));
    }
    described
}

/// Limits RAM to the ranges of /chosen/linux,usable-memory-range (drivers/of/fdt.c, early_init_dt_check_for_usable_mem_range). False
/// if there are none.
fn limit_by_usable_range(tree: &Tree<'_>, cells: Option<(usize, usize)>, memory: &mut Ranges) -> bool {
    let usable = tree.chosen().and_then(|chosen| tree.property(chosen, "linux,usable-memory-range"));
    let (Some(usable), Some(cells), false) = (usable, cells, memory.is_empty()) else { return false };
    let mut ranges = tuples(usable, cells).map(|(base, size)| at(base, size)).take(2);
    let Some(first) = ranges.next() else { return false };
    if !first.is_empty() {
        memory.keep(&first);
    }
    ranges.for_each(|range| memory.insert(range));
    true
}

/// Limits RAM by `mem=`. Returns whether an option on the command line does so.
fn limit_by_mem(kernel: &Kernel, cmdline: &Cmdline, memory: &mut Ranges) -> bool {
    let page_mask = !(kernel.page_size - 1);
    let (Some((last, _)), Some(start)) = (cmdline.mem.last(), memory.iter().next().map(|range| range.start))
    else {
        return false;
    };
    let limit = match kernel.arch {
        Arch::Arm => {
            // Each one is a range of RAM; the memory nodes do not count (arch/arm/kernel/setup.c, early_mem).
            *memory = Ranges::default();
            for (size, base) in &cmdline.mem {
                added(kernel, base.unwrap_or(start), *size)
                    .into_iter()
                    .for_each(|range| memory.insert(range));
            }
            return true;
        }
        // Each removes what is beyond; zero does nothing (arch/x86/kernel/e820.c, parse_memopt).
        Arch::X86_64 => {
            let Some(least) = cmdline.mem.iter().map(|(size, _)| *size).filter(|size| *size > 0).min() else {
                return false;
            };
            memory.keep(&(0..least));
            return true;
        }
        Arch::Arm64 => last & page_mask,
        Arch::Riscv => cmdline.mem.iter().map(|(size, _)| size & page_mask).min().unwrap_or(0),
    };
    // The size of all RAM (mm/memblock.c, memblock_mem_limit_remove_map and memblock_enforce_memory_limit).
    let mut left = limit;
    let end = memory.iter().find_map(|range| {
        let size = range.end - range.start;
        let end = (left <= size).then(|| range.start + left);
        left = left.saturating_sub(size);
        end
    });
    match end {
        Some(end) if limit > 0 => memory.keep(&(0..end)),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(parts: &[(u64, u64)]) -> Ranges {
        let mut ram = Ranges::default();
        parts.iter().for_each(|(base, size)| ram.insert(at(*base, *size)));
        ram
    }

    #[test]
    fn mem_limits_ram_as_each_architecture_does() {
        const M: u64 = 1 << 20;
        let limited = |arch, text: &str| {
            let kernel = Kernel::debian(Rules::V6_12, arch, 4096).unwrap();
            let mut ram = ram(&[(0x4000_0000, 512 * M), (0x8000_0000, 512 * M)]);
            let any = limit_by_mem(&kernel, &Cmdline::read(text.as_bytes(), arch), &mut ram);
            (any, ram.iter().map(|range| (range.start, (range.end - range.start) / M)).collect::<Vec<_>>())
        };
        let all = vec![(0x4000_0000, 512), (0x8000_0000, 512)];
        for (arch, text, expected) in [
            (Arch::Arm64, "", (false, all.clone())),
            (Arch::Arm64, "mem=2G", (false, all.clone())),
            (Arch::Arm64, "mem=256M mem=768M", (true, vec![(0x4000_0000, 512), (0x8000_0000, 256)])),
            (Arch::Riscv, "mem=256M mem=768M", (true, vec![(0x4000_0000, 256)])),
            (Arch::Arm, "mem=768M", (true, vec![(0x4000_0000, 768)])),
            (Arch::Arm, "mem=16M@1G mem=16M@2G", (true, vec![(0x4000_0000, 16), (0x8000_0000, 16)])),
            (Arch::X86_64, "mem=0x50000000", (true, vec![(0x4000_0000, 256)])),
            (Arch::X86_64, "mem=0x50000000 mem=0 mem=2G", (true, vec![(0x4000_0000, 256)])),
            (Arch::X86_64, "mem=0", (false, all.clone())),
        ] {
            assert_eq!(limited(arch, text), expected, "{arch} {text}");
        }
    }
}
