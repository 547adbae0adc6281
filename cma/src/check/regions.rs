//! The handling of the children of /reserved-memory in early boot, in the kernel's order.

use std::{collections::BTreeMap, ops::Range};

use super::{
    Finding, Kernel, Level, NodeOutcome, Region, finding,
    ranges::{Ranges, at},
    tree::{ROOT, Tree, number},
};

/// Maximum number of regions that are kept for set-up (drivers/of/of_reserved_mem.c, MAX_RESERVED_REGIONS).
const MAX_REGIONS: usize = 64;

const CHECK_ROOT: &str = "drivers/of/fdt.c, __reserved_mem_check_root";
const SCAN: &str = "drivers/of/fdt.c, fdt_scan_reserved_mem";
const RESERVE_REG: &str = "drivers/of/fdt.c, __reserved_mem_reserve_reg";
pub(super) const RESERVE: &str = "drivers/of/fdt.c, early_init_dt_reserve_memory";
const SAVE_NODE: &str = "drivers/of/of_reserved_mem.c, fdt_reserved_mem_save_node";
const OVERLAP: &str = "drivers/of/of_reserved_mem.c, __rmem_check_for_overlap";
pub(super) const CMA_SETUP: &str = "kernel/dma/contiguous.c, rmem_cma_setup";

/// A region and its node in the tree.
pub(super) struct Checked {
    pub(super) node: usize,
    pub(super) region: Region,
    /// Its position in the kernel's list, which the kernel searches for phandles. None if it is not in the list.
    pub(super) rank: Option<usize>,
    /// Whether a device can use it, if it is a pool.
    pub(super) usable: bool,
}

impl Checked {
    pub(super) fn say(&mut self, level: Level, source: &'static str, text: impl Into<String>) {
        self.region.findings.push(finding(level, source, text));
    }

    pub(super) fn end(&mut self, outcome: NodeOutcome, source: &'static str, rule: impl Into<String>) {
        self.region.outcome = outcome;
        self.region.rule = rule.into();
        self.region.source = source;
    }

    /// Like [`Self::end`], with an error.
    pub(super) fn fail(&mut self, outcome: NodeOutcome, source: &'static str, rule: impl Into<String>) {
        let rule = rule.into();
        self.say(Level::Error, source, rule.clone());
        self.end(outcome, source, rule);
    }

    pub(super) fn range(&self) -> Option<Range<u64>> {
        Some(at(self.region.base?, self.region.size?))
    }
}

/// The state while regions are set up.
pub(super) struct Boot<'t, 'a> {
    pub(super) tree: &'t Tree<'a>,
    pub(super) kernel: &'t Kernel,
    /// The root's cells of an address and of a size.
    pub(super) cells: (usize, usize),
    /// The RAM by the tree. Empty if a boot loader fills it in.
    pub(super) ram: Ranges,
    /// The RAM of each NUMA node, by the node's number.
    pub(super) nodes: BTreeMap<u64, Ranges>,
    /// The memory that memblock has reserved.
    pub(super) reserved: Ranges,
    /// The memory that memblock does not map.
    pub(super) unmapped: Ranges,
    /// Whether the kernel's command line has `cma=`.
    pub(super) cmdline: bool,
    pub(super) cma_areas: usize,
}

/// Examines the children of /reserved-memory in the order of the tree. `findings` receives findings on all of them.
pub(super) fn check(tree: &Tree<'_>, kernel: &Kernel, findings: &mut Vec<Finding>) -> Vec<Checked> {
    let Some(parent) = tree.top_level("reserved-memory") else {
        findings.push(finding(
            Level::Note,
            SCAN,
            "there is no /reserved-memory: Linux reserves nothing for devices",
        ));
        return Vec::new();
    };
    let mut regions: Vec<Checked> = tree.children(parent).map(|node| untouched(tree, node)).collect();
    let cells = match check_root(tree, parent, findings) {
        Ok(cells) => cells,
        Err(rule) => {
            findings.push(finding(
                Level::Error,
                CHECK_ROOT,
                format!("{rule}; Linux ignores all of /reserved-memory"),
            ));
            for region in &mut regions {
                region.end(NodeOutcome::Ignored, CHECK_ROOT, "Linux ignores all of /reserved-memory");
            }
            return regions;
        }
    };
    let (ram, nodes) = memory(tree, cells);
    let mut boot = Boot {
        tree,
        kernel,
        cells,
        ram,
        nodes,
        reserved: Ranges::default(),
        unmapped: Ranges::default(),
        cmdline: has_cmdline_cma(tree),
        cma_areas: 0,
    };
    if boot.ram.is_empty() && !regions.is_empty() {
        findings.push(finding(
            Level::Note,
            "drivers/of/fdt.c, early_init_dt_scan_memory",
            "no memory node has a size, because a boot loader fills it in: the check assumes that regions are in RAM",
        ));
    }
    tree.reservations().iter().for_each(|range| boot.reserved.insert(range.clone()));
    let mut count = 0;
    let mut order = Vec::new();
    for (index, region) in regions.iter_mut().enumerate() {
        if boot.scan(region) {
            count += 1;
            if count <= MAX_REGIONS {
                order.push(index);
            } else {
                let rule = format!(
                    "it is number {count} and there is room for {MAX_REGIONS} (\"not enough space for all defined regions\"): its \
                     memory is reserved, but nothing can use it"
                );
                region.fail(NodeOutcome::Refused, SAVE_NODE, rule);
            }
        }
    }
    // Regions without an address come first (__rmem_cmp).
    order.sort_by_key(|index| {
        let region = &regions[*index].region;
        region.base.map_or((0, 0), |base| (base, region.size.unwrap_or(0)))
    });
    for (rank, index) in order.iter().enumerate() {
        regions[*index].rank = Some(rank);
        boot.set_up(&mut regions[*index]);
    }
    let place: Vec<_> = order.iter().map(|index| regions[*index].range()).collect();
    for (later, index) in order.iter().enumerate() {
        for earlier in 0..later {
            if let (Some(one), Some(other)) = (&place[earlier], &place[later])
                && other.start < one.end
                && !other.is_empty()
            {
                overlap(&mut regions, order[earlier], *index, later - earlier == 1);
            }
        }
    }
    one_default(&mut regions, &order);
    same_phandle(tree, &mut regions);
    regions
}

fn untouched(tree: &Tree<'_>, node: usize) -> Checked {
    let region = Region {
        node: tree.path(node),
        outcome: NodeOutcome::Ignored,
        rule: String::new(),
        source: SCAN,
        base: None,
        size: None,
        default: false,
        findings: Vec::new(),
    };
    Checked { node, region, rank: None, usable: true }
}

/// The root's cells, if /reserved-memory is valid. Otherwise the error.
fn check_root(tree: &Tree<'_>, parent: usize, findings: &mut Vec<Finding>) -> Result<(usize, usize), String> {
    let cells = ["#address-cells", "#size-cells"].map(|name| (name, tree.cell(ROOT, name).unwrap_or(1)));
    for (name, cells) in cells {
        if ![1, 2].contains(&cells) {
            return Err(format!("the root has {name} = {cells}; it must be 1 or 2"));
        }
        match tree.cell(parent, name) {
            None => {
                return Err(format!(
                    "/reserved-memory has no {name}; it must be the same as the root's, {cells}"
                ));
            }
            Some(own) if own != cells => {
                return Err(format!(
                    "/reserved-memory has {name} = {own}; it must be the same as the root's, {cells}"
                ));
            }
            Some(_) => {}
        }
    }
    match tree.property(parent, "ranges") {
        None => return Err("/reserved-memory has no ranges; it must have an empty ranges property".to_owned()),
        Some([]) => {}
        Some(_) => findings.push(finding(
            Level::Warning,
            CHECK_ROOT,
            "/reserved-memory has a ranges property that is not empty; Linux ignores its content here, and does not translate \
             reg",
        )),
    }
    Ok((cells[0].1 as usize, cells[1].1 as usize))
}

/// The complete tuples of a property of addresses and sizes.
pub(super) fn tuples(value: &[u8], (address, size): (usize, usize)) -> impl Iterator<Item = (u64, u64)> {
    let tuples = value.chunks_exact(4 * (address + size));
    tuples.map(move |tuple| (number(&tuple[..4 * address]), number(&tuple[4 * address..])))
}

/// The RAM by the memory nodes (drivers/of/fdt.c, early_init_dt_scan_memory), and the RAM of each NUMA node (drivers/of/of_numa.c,
/// of_numa_parse_memory_nodes).
fn memory(tree: &Tree<'_>, cells: (usize, usize)) -> (Ranges, BTreeMap<u64, Ranges>) {
    let (mut ram, mut nodes) = (Ranges::default(), BTreeMap::<u64, Ranges>::new());
    for node in tree.children(ROOT) {
        let is_memory = tree.strings(node, "device_type").next() == Some(b"memory");
        if is_memory && tree.is_available(node) {
            let reg = tree.property(node, "linux,usable-memory").or_else(|| tree.property(node, "reg"));
            let id = tree.property(node, "numa-node-id").filter(|id| id.len() == 4).map(number);
            for (base, size) in tuples(reg.unwrap_or_default(), cells) {
                ram.insert(at(base, size));
                if let Some(id) = id {
                    nodes.entry(id).or_default().insert(at(base, size));
                }
            }
        }
    }
    (ram, nodes)
}

/// Whether the command line in /chosen has cma=, from which kernel/dma/contiguous.c (early_cma) makes the default window.
fn has_cmdline_cma(tree: &Tree<'_>) -> bool {
    let chosen = tree.top_level("chosen");
    let cmdline = chosen.and_then(|chosen| tree.strings(chosen, "bootargs").next()).unwrap_or_default();
    cmdline.split(u8::is_ascii_whitespace).any(|word| word.starts_with(b"cma="))
}

impl Boot<'_, '_> {
    pub(super) fn is_pool(&self, node: usize) -> bool {
        self.tree.is_compatible(node, "shared-dma-pool")
    }

    /// Whether any of `range` is RAM. True if the RAM is unknown.
    pub(super) fn in_ram(&self, range: &Range<u64>) -> bool {
        self.ram.is_empty() || self.ram.overlaps(range)
    }

    /// Whether some of `range` is not RAM. False if the RAM is unknown.
    pub(super) fn lies_outside_ram(&self, range: &Range<u64>) -> bool {
        !self.ram.is_empty() && !self.ram.covers(range)
    }

    /// The first pass: reserves a region that has an address. True if the region is kept for the second pass.
    fn scan(&mut self, region: &mut Checked) -> bool {
        let (tree, node) = (self.tree, region.node);
        if !tree.is_available(node) {
            region.end(
                NodeOutcome::Ignored,
                SCAN,
                "its status is neither \"okay\" nor \"ok\", so Linux reserves nothing",
            );
            return false;
        }
        let Some(reg) = tree.property(node, "reg") else {
            if tree.has(node, "size") {
                return true;
            }
            region.fail(NodeOutcome::Ignored, SCAN, "it has neither reg nor size, so Linux reserves nothing");
            return false;
        };
        let tuple = 4 * (self.cells.0 + self.cells.1);
        if reg.is_empty() || !reg.len().is_multiple_of(tuple) {
            let rule = format!(
                "its reg has {} bytes; a tuple of address and size has {tuple} (\"invalid reg property\")",
                reg.len()
            );
            region.fail(NodeOutcome::Ignored, RESERVE_REG, rule);
            return false;
        }
        self.reserve(region, reg);
        true
    }

    fn reserve(&mut self, region: &mut Checked, reg: &[u8]) {
        let no_map = self.tree.has(region.node, "no-map");
        let (mut busy, mut empty, mut more) = (None, false, 0);
        for (index, (base, size)) in tuples(reg, self.cells).enumerate() {
            if index == 0 {
                (region.region.base, region.region.size) = (Some(base), Some(size));
            } else {
                more += 1;
            }
            let range = at(base, size);
            if size == 0 {
                empty |= index > 0;
            } else if !no_map {
                self.reserved.insert(range);
            } else if self.in_ram(&range) && self.reserved.overlaps(&range) {
                busy = busy.or(Some(range));
                // A carveout would need a second mapping.
                region.usable &= index > 0;
            } else {
                self.unmapped.insert(range);
            }
        }
        if empty {
            region.say(
                Level::Error,
                RESERVE_REG,
                "a tuple of its reg after the first has size zero (\"failed to reserve memory\")",
            );
        }
        if let Some(range) = busy {
            region.say(
                Level::Error,
                RESERVE,
                format!(
                    "{range:#x?} stays mapped in spite of no-map: an earlier node has reserved it, or \
                     /memreserve/ (-EBUSY, \"failed to reserve memory\")"
                ),
            );
        }
        if more > 0 {
            let pool = self.is_pool(region.node);
            let (level, loss) =
                if pool { (Level::Warning, "; the other memory is lost") } else { (Level::Note, "") };
            let text = format!("devices see only the first of {} tuples of its reg{loss}", more + 1);
            region.say(level, RESERVE_REG, text);
        }
        let address =
            self.tree.name(region.node).split_once('@').map(|(_, address)| address.replace(',', ""));
        let address = address.and_then(|address| u64::from_str_radix(&address, 16).ok());
        if let (Some(address), Some(base)) = (address, region.region.base)
            && address != base
        {
            let text = format!(
                "its unit address {address:x} is not its reg's first address {base:x}; Linux uses reg"
            );
            region.say(Level::Warning, RESERVE_REG, text);
        }
    }
}

/// Reports an overlap. The kernel compares only neighbours in the order of addresses.
fn overlap(regions: &mut [Checked], earlier: usize, later: usize, neighbours: bool) {
    let pool = [earlier, later].iter().any(|index| regions[*index].region.outcome.is_pool());
    let level = if pool { Level::Error } else { Level::Warning };
    let seen = if neighbours { "Linux logs it (\"OVERLAP DETECTED!\")" } else { "Linux does not notice" };
    let done = if pool { "and gives the same memory to both" } else { "and continues" };
    let other = regions[earlier].region.node.clone();
    regions[later].say(level, OVERLAP, format!("it overlaps {other}: {seen} {done}"));
}

/// Keeps the default mark of the last window in the kernel's order, and reports the others.
fn one_default(regions: &mut [Checked], order: &[usize]) {
    let defaults: Vec<usize> = order.iter().copied().filter(|index| regions[*index].region.default).collect();
    let Some((last, others)) = defaults.split_last() else { return };
    let winner = regions[*last].region.node.clone();
    for index in others {
        regions[*index].region.default = false;
        let text = format!(
            "it has linux,cma-default, but {winner} is the default window, because Linux sets it up last"
        );
        regions[*index].say(Level::Warning, CMA_SETUP, text);
    }
}

fn same_phandle(tree: &Tree<'_>, regions: &mut [Checked]) {
    for region in regions {
        let Some(phandle) = tree.phandle(region.node) else { continue };
        if let Some(first) = tree.find(phandle).filter(|first| *first != region.node) {
            let text = format!(
                "its phandle {phandle:#x} is also that of {}; references lead to that node",
                tree.path(first)
            );
            region.say(Level::Error, "drivers/of/base.c, of_find_node_by_phandle", text);
        }
    }
}
