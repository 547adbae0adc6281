//! The early boot: reserves and sets up the children of /reserved-memory, in the order of the kernel's version.

use std::ops::Range;

use super::{
    cmdline::Cmdline,
    early::{Checked, Early, INITRD, RESERVE},
    finding::{Finding, Level, finding},
    kernel::{Arch, Boot, Kernel},
    memblock::{Holder, Memblock},
    misplaced, order, overlap,
    ram::Ram,
    ranges::{Ranges, at},
    report::{DefaultWindow, EINVAL, Memory, NodeOutcome, Region},
    tree::{ROOT, Tree, number, tuples},
};
use crate::area::Rules;

/// Maximum number of regions that are kept for set-up by 6.1, and of regions without an address since
/// (include/linux/of_reserved_mem.h, MAX_RESERVED_REGIONS).
const MAX_REGIONS: usize = 64;

const SCAN: &str = "drivers/of/of_reserved_mem.c, fdt_scan_reserved_mem";
const CHECK_ROOT: &str = "drivers/of/of_reserved_mem.c, __reserved_mem_check_root";
const RESERVE_REG: &str = "drivers/of/of_reserved_mem.c, __reserved_mem_reserve_reg";
const SAVE_NODE: &str = "drivers/of/of_reserved_mem.c, fdt_reserved_mem_save_node";

/// The result of the early boot.
pub(super) struct Outcome {
    /// The children of /reserved-memory in the order of the tree.
    pub(super) regions: Vec<Checked>,
    pub(super) window: DefaultWindow,
    /// Whether the kernel panics at boot.
    pub(super) panics: bool,
    /// Whether it may crash later.
    pub(super) may_panic: bool,
    pub(super) memory: Memory,
}

/// How the first pass leaves a region.
enum Scanned {
    /// Its memory is reserved.
    Static,
    /// Linux has to find memory for it.
    Dynamic,
    /// Linux does nothing more.
    Done,
}

/// Examines the children of /reserved-memory. `findings` receives findings on the tree as a whole.
pub(super) fn check(tree: &Tree<'_>, kernel: &Kernel, boot: &Boot, findings: &mut Vec<Finding>) -> Outcome {
    let bootargs = tree.chosen().and_then(|chosen| tree.text(chosen, "bootargs"));
    let text = boot.cmdline.as_ref().map_or(bootargs.unwrap_or_default(), |text| text.as_bytes());
    let cmdline = Cmdline::read(text, kernel.arch);
    for other in &cmdline.others {
        let text =
            format!("{other}= on the command line is not judged: it also reserves memory or changes the RAM");
        findings.push(finding(Level::Note, "Documentation/admin-guide/kernel-parameters.txt", text));
    }
    let parent = tree.top_level("reserved-memory");
    let root = root_cells(tree);
    let ram = Ram::read(tree, (kernel, boot, &cmdline), root.as_ref().ok().copied(), findings);
    misplaced::check(tree, parent, findings);

    let mut memblock = Memblock::default();
    memblock.memory = ram.memory.clone();
    if !ram.is_known() {
        memblock.memory.insert(0..u64::MAX);
    }
    let mut early = Early {
        tree,
        kernel,
        cells: root.as_ref().copied().unwrap_or((1, 1)),
        ram,
        memblock,
        linear: Ranges::default(),
        cmdline,
        paths: Vec::new(),
        others: Vec::new(),
        done: Vec::new(),
        areas: Vec::new(),
        default: None,
        replaced: Vec::new(),
        dma_default: None,
        window: DefaultWindow::default(),
        guessed: Ranges::default(),
        beside: None,
        numa: Vec::new(),
        panics: false,
        may_panic: false,
    };
    early.reserve_initrd();
    let mut regions: Vec<Checked> = Vec::new();
    let is_read = match parent {
        None => {
            let text = "there is no /reserved-memory: Linux reserves nothing for devices";
            findings.push(finding(Level::Note, SCAN, text));
            false
        }
        Some(parent) => {
            regions = tree.children(parent).map(|node| untouched(tree, node)).collect();
            early.paths = regions.iter().map(|region| region.region.node.clone()).collect();
            match root.and_then(|cells| check_parent(tree, parent, cells, findings)) {
                Ok(()) => true,
                Err(rule) => {
                    let text = format!("{rule}; Linux ignores all of /reserved-memory");
                    findings.push(finding(Level::Error, CHECK_ROOT, text));
                    for region in &mut regions {
                        region.end(NodeOutcome::Ignored, CHECK_ROOT, "Linux ignores all of /reserved-memory");
                    }
                    false
                }
            }
        }
    };
    if is_read {
        early.boot(&mut regions);
    } else {
        early.reserve_others();
        early.reserve_default_window(&regions);
    }
    early.activate(&mut regions);
    early.look_at_elfcorehdr(findings);
    early.look_at_carveouts(&mut regions);
    overlap::check(tree, &mut regions);
    early.name_default(&mut regions);
    same_phandle(tree, &mut regions);
    let reserved = early.memblock.reserved().without(&[&early.guessed]);
    let memory =
        Memory { ram: early.system_ram().iter().collect(), reserved, window: early.beside, numa: early.numa };
    Outcome { regions, window: early.window, panics: early.panics, may_panic: early.may_panic, memory }
}

fn untouched(tree: &Tree<'_>, node: usize) -> Checked {
    let region = Region {
        node: tree.path(node),
        outcome: NodeOutcome::Ignored,
        rule: String::new(),
        source: SCAN,
        base: None,
        size: None,
        placed: None,
        default: false,
        findings: Vec::new(),
    };
    Checked { node, region, rank: None, use_error: 0, is_placeholder: false, range: None }
}

/// The root's cells of an address and of a size.
fn root_cells(tree: &Tree<'_>) -> Result<(usize, usize), String> {
    let cells = |name| match tree.cell(ROOT, name).unwrap_or(1) {
        cells @ (1 | 2) => Ok(cells as usize),
        cells => Err(format!("the root has {name} = {cells}; it must be 1 or 2")),
    };
    Ok((cells("#address-cells")?, cells("#size-cells")?))
}

/// The error if Linux ignores /reserved-memory.
fn check_parent(
    tree: &Tree<'_>,
    parent: usize,
    (address, size): (usize, usize),
    findings: &mut Vec<Finding>,
) -> Result<(), String> {
    for (name, cells) in [("#address-cells", address), ("#size-cells", size)] {
        match tree.cell(parent, name) {
            None => {
                return Err(format!(
                    "/reserved-memory has no {name}; it must be the same as the root's, {cells}"
                ));
            }
            Some(own) if own as usize != cells => {
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
    Ok(())
}

impl Early<'_, '_> {
    /// Reserves the initrd, where /chosen says that it is (drivers/of/fdt.c, early_init_dt_check_for_initrd).
    fn reserve_initrd(&mut self) {
        let Some(chosen) = self.tree.chosen() else { return };
        let address = |name| self.tree.property(chosen, name).map(number);
        if let (Some(start), Some(end)) = (address("linux,initrd-start"), address("linux,initrd-end")) {
            self.reserve_other(INITRD, start..end);
        }
    }

    /// Reserves the ELF header of a crash dump kernel (drivers/of/fdt.c, fdt_reserve_elfcorehdr).
    fn reserve_elfcorehdr(&mut self) {
        if let Some(range) = self.elfcorehdr().filter(|range| !self.memblock.is_reserved(range)) {
            self.reserve_other("the ELF header of the crashed kernel", range);
        }
    }

    /// The ELF header of the crashed kernel.
    fn elfcorehdr(&self) -> Option<Range<u64>> {
        let header = self.tree.chosen().and_then(|chosen| self.tree.property(chosen, "linux,elfcorehdr"));
        let (base, size) = header.and_then(|header| tuples(header, self.cells).next())?;
        (size > 0).then(|| at(base, size))
    }

    /// Whether Linux can read the ELF header of the crashed kernel, as it does without a check on 64-bit Arm and RISC-V.
    fn look_at_elfcorehdr(&mut self, findings: &mut Vec<Finding>) {
        let is_read = matches!(self.kernel.arch, Arch::Arm64 | Arch::Riscv) && self.ram.is_known();
        let Some(header) = self.elfcorehdr().filter(|_| is_read) else { return };
        let mapped = if self.linear.is_empty() {
            self.memblock.mapped().into_iter().collect()
        } else {
            self.linear.clone()
        };
        if !mapped.covers(&(header.start..header.start + 1)) {
            self.panics = true;
            let text = format!(
                "the ELF header of the crashed kernel (linux,elfcorehdr) at {:#x} is not in mapped RAM: Linux panics at boot when it \
                 reads it",
                header.start
            );
            findings.push(finding(Level::Error, "arch/arm64/kernel/crash_dump.c, elfcorehdr_read", text));
        }
    }

    fn reserve_memreserve(&mut self) {
        for range in self.tree.reservations() {
            self.reserve_other("/memreserve/", range.clone());
        }
    }

    /// Makes the reservations that are not regions (drivers/of/fdt.c, early_init_fdt_scan_reserved_mem).
    fn reserve_others(&mut self) {
        self.reserve_memreserve();
        self.reserve_elfcorehdr();
    }

    fn boot(&mut self, regions: &mut [Checked]) {
        if self.kernel.rules == Rules::V6_1 { self.boot_6_1(regions) } else { self.boot_since_6_12(regions) }
    }

    /// All regions are set up in the order of their addresses; those without an address come first (drivers/of/fdt.c,
    /// fdt_scan_reserved_mem; drivers/of/of_reserved_mem.c, fdt_init_reserved_mem).
    fn boot_6_1(&mut self, regions: &mut [Checked]) {
        self.reserve_memreserve();
        let mut saved = Vec::new();
        for (index, region) in regions.iter_mut().enumerate() {
            if !matches!(self.scan(index, region), Scanned::Done) {
                saved.push(index);
            }
        }
        for (count, index) in saved.iter().enumerate().skip(MAX_REGIONS) {
            let rule = format!(
                "it is number {} and there is room for {MAX_REGIONS} (\"not enough space for all defined regions\"): its \
                 memory is reserved, but nothing can use it",
                count + 1
            );
            regions[*index].fail(Level::Error, NodeOutcome::Refused, SAVE_NODE, rule);
        }
        saved.truncate(MAX_REGIONS);
        self.reserve_elfcorehdr();
        order::sort(&mut saved, |index| {
            let region = &regions[*index].region;
            region.base.map_or((0, 0), |base| (base, region.size.unwrap_or(0)))
        });
        for (rank, index) in saved.into_iter().enumerate() {
            let region = &mut regions[index];
            region.rank = Some(rank);
            let has_memory = region.region.base.is_some() && region.region.size.is_some_and(|size| size > 0);
            if region.is_placeholder {
                continue;
            }
            if has_memory || self.allocate(index, region) {
                self.set_up(index, region);
            }
        }
        self.map_memory();
        self.look_at_free_memory(regions);
        self.reserve_default_window(regions);
    }

    /// Regions without an address are set up in the order of the tree, then /memreserve/ is read, and the other regions are set up
    /// later, in the order of the tree (drivers/of/of_reserved_mem.c, fdt_scan_reserved_mem and fdt_scan_reserved_mem_reg_nodes, in
    /// 7.2 fdt_scan_reserved_mem_late).
    fn boot_since_6_12(&mut self, regions: &mut [Checked]) {
        self.reserve_elfcorehdr();
        let (mut fixed, mut dynamic) = (Vec::new(), Vec::new());
        for (index, region) in regions.iter_mut().enumerate() {
            match self.scan(index, region) {
                Scanned::Static => fixed.push(index),
                Scanned::Dynamic => dynamic.push(index),
                Scanned::Done => {}
            }
        }
        for (count, index) in dynamic.iter().enumerate().skip(MAX_REGIONS) {
            let rule = format!(
                "it is number {} without an address and there is room for {MAX_REGIONS} (\"too many defined dynamic regions\"): \
                 Linux reserves nothing",
                count + 1
            );
            regions[*index].fail(Level::Error, NodeOutcome::Refused, SCAN, rule);
        }
        dynamic.truncate(MAX_REGIONS);
        let mut rank = 0;
        for index in dynamic {
            if self.allocate(index, &mut regions[index]) {
                regions[index].rank = Some(rank);
                rank += 1;
                self.set_up(index, &mut regions[index]);
            }
        }
        self.map_memory();
        self.reserve_memreserve();
        // 32-bit Arm and RISC-V reserve the default window before they read the tree a second time.
        let is_early = matches!(self.kernel.arch, Arch::Arm | Arch::Riscv);
        let has_panicked = self.look_at_list(regions, rank + fixed.len());
        if is_early {
            self.reserve_default_window(regions);
        }
        for index in fixed {
            if regions[index].region.size.is_some_and(|size| size > 0) {
                regions[index].rank = Some(rank);
                rank += 1;
                self.set_up(index, &mut regions[index]);
            }
        }
        if !has_panicked {
            self.look_at_free_memory(regions);
        }
        if !is_early {
            self.reserve_default_window(regions);
        }
    }

    /// The first pass: reserves a region that has an address.
    fn scan(&mut self, index: usize, region: &mut Checked) -> Scanned {
        let (tree, node) = (self.tree, region.node);
        if !tree.is_available(node) {
            let rule = "its status is neither \"okay\" nor \"ok\", so Linux reserves nothing";
            region.end(NodeOutcome::Ignored, SCAN, rule);
            return Scanned::Done;
        }
        let tuple = 4 * (self.cells.0 + self.cells.1);
        let mut wrong = None;
        if let Some(reg) = tree.property(node, "reg") {
            if !reg.is_empty() && reg.len().is_multiple_of(tuple) {
                return self.scan_reg(index, region, reg);
            }
            if reg.is_empty() && self.kernel.rules == Rules::V6_12 {
                return self.scan_empty_reg(region, reg);
            }
            let rule = format!("its reg has {} bytes; a tuple of address and size has {tuple}", reg.len());
            if self.kernel.rules != Rules::V7_2 {
                let message = if reg.is_empty() { "" } else { " (\"invalid reg property\")" };
                region.fail(Level::Error, NodeOutcome::Ignored, RESERVE_REG, rule + message);
                return Scanned::Done;
            }
            wrong = Some(rule);
        }
        if tree.has(node, "size") {
            if let Some(rule) = wrong {
                region.say(Level::Warning, RESERVE_REG, rule + ": Linux ignores reg, and uses size");
            }
            return Scanned::Dynamic;
        }
        let rule = wrong.unwrap_or_else(|| "it has neither reg nor size".to_owned());
        region.fail(Level::Error, NodeOutcome::Ignored, SCAN, rule + ", so Linux reserves nothing");
        Scanned::Done
    }

    /// 6.12 does not look at the length of an empty `reg` when it reads the first tuple (fdt_scan_reserved_mem_reg_nodes).
    fn scan_empty_reg(&self, region: &mut Checked, reg: &[u8]) -> Scanned {
        let length = 4 * (self.cells.0 + self.cells.1);
        let read = self.tree.bytes_from(reg, length).and_then(|bytes| tuples(bytes, self.cells).next());
        let Some((base, size)) = read.filter(|(_, size)| *size > 0) else {
            let rule = "its reg has 0 bytes, so Linux reserves nothing";
            region.fail(Level::Error, NodeOutcome::Ignored, RESERVE_REG, rule);
            return Scanned::Done;
        };
        let (base, size) = (self.kernel.address(base), self.kernel.address(size));
        let text = format!(
            "its reg has 0 bytes: Linux reads what follows it in the tree, {size:#x} bytes at {base:#x}"
        );
        region.say(Level::Error, "drivers/of/of_reserved_mem.c, fdt_scan_reserved_mem_reg_nodes", text);
        (region.region.base, region.region.size) = (Some(base), Some(size));
        region.range = Some(self.kernel.range(base, size));
        Scanned::Static
    }

    fn scan_reg(&mut self, index: usize, region: &mut Checked, reg: &[u8]) -> Scanned {
        let kernel = self.kernel;
        let current = kernel.rules == Rules::V7_2;
        let all: Vec<_> = tuples(reg, self.cells)
            .map(|(base, size)| (kernel.address(base), kernel.address(size)))
            .collect();
        let Some((base, size)) = all.first().copied() else { return Scanned::Done };
        (region.region.base, region.region.size) = (Some(base), Some(size));
        region.range = Some(kernel.range(base, size));
        self.look_at_reg(region, reg, &all);
        if current && self.asks_for_cma(region.node) && self.is_bypassed(region.node) {
            let rule =
                "cma= on the command line makes the default window instead (-EBUSY); Linux reserves nothing";
            region.fail(
                Level::Warning,
                NodeOutcome::Refused,
                "kernel/dma/contiguous.c, rmem_cma_validate",
                rule,
            );
            return Scanned::Done;
        }
        let no_map = self.tree.has(region.node, "no-map");
        let (mut busy, mut empty) = (None, false);
        for (number, (base, size)) in all.iter().enumerate().take(if current { 1 } else { all.len() }) {
            let range = kernel.range(*base, *size);
            if *size == 0 {
                empty |= number > 0;
            } else if !no_map {
                self.memblock.reserve(range, Holder::Region(index));
            } else if self.ram.overlaps(&range) && self.memblock.is_reserved(&range) {
                busy = busy.or(Some(range));
                // A carveout would need a second mapping.
                if number == 0 {
                    region.use_error = EINVAL;
                }
            } else {
                self.memblock.unmap(range, Holder::Region(index));
            }
        }
        if empty {
            let text = "a tuple of its reg after the first has size zero (\"failed to reserve memory\")";
            region.say(Level::Error, RESERVE_REG, text);
        }
        if let Some(range) = busy {
            let earlier = if kernel.rules == Rules::V6_1 { ", or /memreserve/" } else { "" };
            let text = format!(
                "{range:#x?} stays mapped in spite of no-map: an earlier node has reserved it{earlier} (-EBUSY, \"failed to \
                 reserve memory\")"
            );
            region.say(Level::Error, RESERVE, text);
        }
        if (base, size) == (0, 0) {
            let rule = "its reg is zero: unless the boot loader fills it in, Linux reserves nothing";
            region.is_placeholder = true;
            region.fail(Level::Warning, NodeOutcome::Ignored, RESERVE_REG, rule);
            // 6.1 keeps a record of it, which takes part in its sort.
            return if kernel.rules == Rules::V6_1 { Scanned::Static } else { Scanned::Done };
        }
        if size == 0 && kernel.rules != Rules::V6_1 {
            let rule = "its reg has size zero (\"failed to reserve memory\"), so Linux reserves nothing";
            region.fail(Level::Error, NodeOutcome::Ignored, RESERVE_REG, rule);
        }
        Scanned::Static
    }

    /// Findings on a valid `reg`.
    fn look_at_reg(&self, region: &mut Checked, reg: &[u8], all: &[(u64, u64)]) {
        if all.len() > 1 {
            let count = all.len();
            let (level, text) = if self.kernel.rules == Rules::V7_2 {
                let text = format!(
                    "Linux reserves only the first of {count} tuples of its reg: the others are ordinary memory"
                );
                (Level::Warning, text)
            } else if self.is_pool(region.node) {
                let text = format!(
                    "devices see only the first of {count} tuples of its reg; the other memory is lost"
                );
                (Level::Warning, text)
            } else {
                (Level::Note, format!("devices see only the first of {count} tuples of its reg"))
            };
            region.say(level, RESERVE_REG, text);
        }
        let cut = tuples(reg, self.cells).zip(all).find(|(given, kept)| given != *kept);
        if let Some(((base, size), (kept_base, kept_size))) = cut {
            let text = format!(
                "its reg has {size:#x} bytes at {base:#x}, but addresses have 32 bits: Linux takes {kept_size:#x} bytes at \
                 {kept_base:#x}"
            );
            region.say(Level::Error, RESERVE_REG, text);
        }
        let address =
            self.tree.name(region.node).split_once('@').map(|(_, address)| address.replace(',', ""));
        let address = address.and_then(|address| u64::from_str_radix(&address, 16).ok());
        if let (Some(address), Some((base, _))) = (address, tuples(reg, self.cells).next())
            && address != base
        {
            let text = format!(
                "its unit address {address:x} is not its reg's first address {base:x}; Linux uses reg"
            );
            region.say(Level::Warning, RESERVE_REG, text);
        }
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
