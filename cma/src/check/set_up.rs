//! The second pass over the regions: addresses for regions without one, and the creation of pools.

use super::{
    Level, NodeOutcome,
    ranges::{Ranges, at},
    regions::{Boot, CMA_SETUP, Checked, RESERVE, tuples},
    tree::number,
};
use crate::size;

/// The end of ZONE_DMA32 on x86_64 and on aarch64.
const ZONE_BORDER: u64 = 4 << 30;
/// `compatible` of regions that a specific driver sets up if it is built in (RESERVEDMEM_OF_DECLARE).
const DRIVERS: [(&str, &str); 4] = [
    ("fsl,qman-fqd", "drivers/soc/fsl/qbman/qman_ccsr.c, qman_fqd"),
    ("fsl,qman-pfdr", "drivers/soc/fsl/qbman/qman_ccsr.c, qman_pfdr"),
    ("fsl,bman-fbpr", "drivers/soc/fsl/qbman/bman_ccsr.c, bman_fbpr"),
    ("nvidia,tegra210-emc-table", "drivers/memory/tegra/tegra210-emc-table.c, tegra210_emc_table_init"),
];

const ALLOC_SIZE: &str = "drivers/of/of_reserved_mem.c, __reserved_mem_alloc_size";
const DMA_SETUP: &str = "kernel/dma/coherent.c, rmem_dma_setup";
const DMA_INIT: &str = "kernel/dma/coherent.c, dma_init_coherent_memory; kernel/iomem.c, memremap";
const SWIOTLB_SETUP: &str = "kernel/dma/swiotlb.c, rmem_swiotlb_setup";
const CMA_INIT: &str = "mm/cma.c, cma_init_reserved_mem";
const CMA_ACTIVATE: &str = "mm/cma.c, cma_activate_area";

/// A pool: its kind, its source in the kernel, and the rule.
type Made = (NodeOutcome, &'static str, String);
/// A refusal: its severity, its source in the kernel, and the reason.
type Refusal = (Level, &'static str, String);

impl Boot<'_, '_> {
    /// Checks that there is room for a region without an address, and creates the pool that its `compatible` requests.
    pub(super) fn set_up(&mut self, region: &mut Checked) {
        let has_place = region.region.size.is_some_and(|size| size > 0);
        if !has_place && let Err(rule) = self.allocate(region) {
            region.fail(NodeOutcome::Refused, ALLOC_SIZE, rule);
            return;
        }
        match self.make_pool(region) {
            Some(Ok((outcome, source, rule))) => {
                region.end(outcome, source, rule);
                self.look_at_pool(region);
            }
            Some(Err((level, source, rule))) => {
                let rule = format!("{rule}; Linux frees its memory");
                region.say(level, source, rule.clone());
                region.end(NodeOutcome::Refused, source, rule);
            }
            None => {
                let (outcome, rule) = if self.tree.has(region.node, "no-map") {
                    (NodeOutcome::NoMap, "it has no-map, and its compatible does not request a pool")
                } else {
                    (NodeOutcome::Reserved, "its compatible does not request a pool, and it has no no-map")
                };
                region.end(outcome, RESERVE, rule);
                self.look_at_plain(region);
            }
        }
    }

    /// Checks that memblock would find room for this region alone. The addresses of the kernel and the initrd are unknown
    /// here. The error says why the region gets no address.
    fn allocate(&self, region: &mut Checked) -> Result<(), String> {
        let (tree, node) = (self.tree, region.node);
        let (address, size) = (4 * self.cells.0, 4 * self.cells.1);
        let length = |name: &str, unit: usize, value: &[u8]| {
            let found = value.len();
            Err(format!(
                "its {name} has {found} bytes; by the root's cells it must have {unit} (\"invalid {name} property\")"
            ))
        };
        let wanted = match tree.property(node, "size") {
            None => return Err("its reg has size zero, and it has no size property".to_owned()),
            Some(value) if value.len() != size => return length("size", size, value),
            Some(value) => number(value),
        };
        (region.region.base, region.region.size) = (None, Some(wanted));
        let mut align = match tree.property(node, "alignment") {
            None => 1,
            Some(value) if value.len() != address => return length("alignment", address, value),
            Some(value) => number(value).max(1),
        };
        if !align.is_power_of_two() {
            let text = format!("its alignment {align:#x} is not a power of two, which memblock requires");
            region.say(Level::Error, "mm/memblock.c, __memblock_find_range_top_down", text);
        }
        if self.is_pool(node) && tree.has(node, "reusable") && !tree.has(node, "no-map") {
            align = align.max(self.kernel.pageblock);
        }
        let (ranges, within) = match tree.property(node, "alloc-ranges") {
            None => (vec![0..u64::MAX], "RAM"),
            Some(value) if !value.len().is_multiple_of(address + size) => {
                return length("alloc-ranges", address + size, value);
            }
            Some(value) => {
                (tuples(value, self.cells).map(|(base, size)| at(base, size)).collect(), "its alloc-ranges")
            }
        };
        let mut taken = Ranges::default();
        self.reserved.iter().chain(self.unmapped.iter()).for_each(|range| taken.insert(range));
        let mut anywhere = Ranges::default();
        anywhere.insert(0..u64::MAX);
        let ram = if self.ram.is_empty() { &anywhere } else { &self.ram };
        let room = ranges.iter().map(|range| ram.room(&taken, align, range)).max().unwrap_or(0);
        if wanted <= room {
            return Ok(());
        }
        let [wanted, align, room] = [wanted, align, room].map(size::format);
        Err(format!(
            "there is no room for {wanted} at a multiple of {align} in {within}, only for {room} (-ENOMEM, \"failed to \
             allocate memory\")"
        ))
    }

    /// The pool that its `compatible` requests. None if it requests no pool.
    ///
    /// The kernel tries the kinds in the order of kernel/dma/Makefile until one succeeds (__reserved_mem_init_node).
    fn make_pool(&mut self, region: &Checked) -> Option<Result<Made, Refusal>> {
        let node = region.node;
        let mut made = None;
        if self.is_pool(node) {
            let cma = self.make_cma(region);
            // A reusable region cannot be a carveout either. The reason why it is not a CMA pool is more useful.
            let is_carveout = cma.is_err() && !self.tree.has(node, "reusable");
            made = Some(if is_carveout { Ok(self.make_carveout(node)) } else { cma });
        }
        if !matches!(made, Some(Ok(_))) && self.tree.is_compatible(node, "restricted-dma-pool") {
            made = Some(self.make_restricted(node));
        }
        made
    }

    fn make_cma(&mut self, region: &Checked) -> Result<Made, Refusal> {
        let (tree, node) = (self.tree, region.node);
        let refuse = |source, text: String| Err((Level::Error, source, text));
        if self.cmdline && tree.has(node, "linux,cma-default") {
            let text = "cma= on the command line makes the default window (-EBUSY, \"bypass ... node, using cmdline CMA \
                        params instead\")";
            return Err((Level::Warning, CMA_SETUP, text.to_owned()));
        }
        if !tree.has(node, "reusable") || tree.has(node, "no-map") {
            let text = "reusable and no-map exclude each other: the kernel must map CMA memory to use it meanwhile (-EINVAL)";
            return refuse(CMA_SETUP, text.to_owned());
        }
        let (base, size) = (region.region.base.unwrap_or(0), region.region.size.unwrap_or(0));
        if size == 0 {
            return refuse(CMA_INIT, "its size is zero (-EINVAL)".to_owned());
        }
        let pageblock = self.kernel.pageblock;
        for (what, value) in [("base", base), ("size", size)] {
            if !value.is_multiple_of(pageblock) {
                let nearest =
                    value.checked_next_multiple_of(pageblock).unwrap_or(value / pageblock * pageblock);
                let pageblock = size::format(pageblock);
                let text = format!(
                    "its {what} {value:#x} is not a multiple of the pageblock of {pageblock}; {nearest:#x} is \
                     (-EINVAL, \"incorrect alignment of CMA region\")"
                );
                return refuse(CMA_SETUP, text);
            }
        }
        if self.cma_areas == self.kernel.cma_areas {
            let text = format!(
                "there are {} CMA areas before it and no slot for another (-ENOSPC, \"Not enough slots for CMA reserved \
                 regions!\"); CONFIG_CMA_AREAS must be larger",
                self.cma_areas
            );
            return refuse(CMA_INIT, text);
        }
        self.cma_areas += 1;
        let text = "shared-dma-pool with reusable and without no-map, aligned to the pageblock";
        Ok((NodeOutcome::CmaPool, CMA_SETUP, text.to_owned()))
    }

    fn make_carveout(&self, node: usize) -> Made {
        let text = if self.tree.has(node, "no-map") {
            "shared-dma-pool with no-map and without reusable"
        } else {
            "shared-dma-pool without reusable, which CMA requires"
        };
        (NodeOutcome::CoherentCarveout, DMA_SETUP, text.to_owned())
    }

    fn make_restricted(&self, node: usize) -> Result<Made, Refusal> {
        for name in ["reusable", "linux,cma-default", "linux,dma-default", "no-map"] {
            if self.tree.has(node, name) {
                let text = format!("a restricted-dma-pool cannot have {name} (-EINVAL)");
                return Err((Level::Error, SWIOTLB_SETUP, text));
            }
        }
        let text = "restricted-dma-pool, if CONFIG_DMA_RESTRICTED_POOL is set";
        Ok((NodeOutcome::RestrictedDmaPool, SWIOTLB_SETUP, text.to_owned()))
    }

    /// Findings on a pool.
    fn look_at_pool(&self, region: &mut Checked) {
        let (tree, node, outcome) = (self.tree, region.node, region.region.outcome);
        let default = tree.has(node, "linux,cma-default");
        region.region.default = default && outcome == NodeOutcome::CmaPool;
        if default && !region.region.default {
            let text = "linux,cma-default does not make it the default window, because it is not a CMA pool";
            region.say(Level::Error, CMA_SETUP, text);
        }
        let range = region.range();
        let carveout = outcome == NodeOutcome::CoherentCarveout;
        if let Some(range) = &range
            && !carveout
            && self.lies_outside_ram(range)
        {
            let text = format!(
                "no memory node covers all of {range:#x?}: Linux cannot allocate memory that is not RAM"
            );
            region.say(Level::Warning, CMA_ACTIVATE, text);
        }
        if carveout && !tree.has(node, "no-map") && range.as_ref().is_none_or(|range| self.in_ram(range)) {
            let text = "no device can use it: it is mapped as RAM, and Linux does not map RAM again uncached (-EINVAL, \
                        \"memremap attempted on ram\"); for a CMA pool add reusable, for a carveout no-map";
            region.say(Level::Error, DMA_INIT, text);
            region.usable = false;
        }
        let of_nodes = |range| self.nodes.values().filter(|ram| ram.overlaps(range)).count();
        if outcome == NodeOutcome::CmaPool && range.as_ref().map_or(0, of_nodes) > 1 {
            let text =
                "it lies in more than one NUMA node, in two zones (\"CMA area ... could not be activated\")";
            region.say(Level::Error, CMA_ACTIVATE, text);
        }
        let crosses = range.is_some_and(|range| range.start < ZONE_BORDER && range.end > ZONE_BORDER);
        if outcome == NodeOutcome::CmaPool && crosses {
            let text =
                "it lies on both sides of 4 GiB, in two zones (\"CMA area ... could not be activated\")";
            region.say(Level::Error, CMA_ACTIVATE, text);
        }
    }

    /// Findings on memory that is only reserved.
    fn look_at_plain(&self, region: &mut Checked) {
        let (tree, node) = (self.tree, region.node);
        if let Some((name, source)) = DRIVERS.into_iter().find(|(name, _)| tree.is_compatible(node, name)) {
            region.say(Level::Note, source, format!("the driver of {name} uses it, if it is built in"));
        }
        for name in ["reusable", "linux,cma-default"] {
            if tree.has(node, name) {
                let text = format!("{name} has no effect without compatible = \"shared-dma-pool\"");
                region.say(Level::Warning, CMA_SETUP, text);
            }
        }
        let Some(range) = region.range() else { return };
        if region.region.outcome == NodeOutcome::Reserved && self.lies_outside_ram(&range) {
            let text = format!(
                "no memory node covers all of {range:#x?}: memory that is not RAM needs no reservation"
            );
            region.say(Level::Warning, RESERVE, text);
        }
        let page = self.kernel.page_size;
        if !range.start.is_multiple_of(page) || !range.end.is_multiple_of(page) {
            let page = size::format(page);
            let text = format!(
                "{range:#x?} does not consist of whole pages of {page}: Linux reserves the whole pages at its ends"
            );
            region.say(Level::Note, RESERVE, text);
        }
    }
}
