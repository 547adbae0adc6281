//! Finds memory for a region without an address (drivers/of/of_reserved_mem.c, __reserved_mem_alloc_size).

use std::ops::Range;

use super::{
    early::{Checked, Early},
    finding::Level,
    memblock::{Free, Holder, Request},
    report::NodeOutcome,
    tree::{number, tuples},
};
use crate::{area::Rules, size};

const ALLOC_SIZE: &str = "drivers/of/of_reserved_mem.c, __reserved_mem_alloc_size";
const TOP_DOWN: &str = "mm/memblock.c, __memblock_find_range_top_down";

/// What a region asks for.
struct Wanted {
    size: u64,
    align: u64,
    /// Where it may lie, each tried in turn.
    ranges: Vec<Range<u64>>,
    has_ranges: bool,
}

impl Early<'_, '_> {
    /// Reserves memory for a region. False if it gets none, which the region then says.
    pub(super) fn allocate(&mut self, index: usize, region: &mut Checked) -> bool {
        let wanted = match self.wanted(region) {
            Ok(wanted) => wanted,
            Err((level, rule)) => {
                region.fail(level, NodeOutcome::Refused, ALLOC_SIZE, rule);
                return false;
            }
        };
        (region.region.base, region.region.size) = (None, Some(wanted.size));
        region.range = None;
        let free = self.memblock.free_memory();
        let Some(base) = wanted.ranges.iter().find_map(|within| self.find(&free, &wanted, within)) else {
            self.no_room(region, &wanted);
            return false;
        };
        let range = self.kernel.range(base, wanted.size);
        if !range.is_empty() {
            self.memblock.reserve(range.clone(), Holder::Region(index));
        }
        if self.tree.has(region.node, "no-map") {
            self.memblock.unmap(range.clone(), Holder::Region(index));
        }
        if self.ram.is_known() {
            region.region.placed = Some(base);
            region.range = Some(range);
            if wanted.align > 0 && !wanted.align.is_power_of_two() && !base.is_multiple_of(wanted.align) {
                let text = format!(
                    "its alignment {:#x} is not a power of two: Linux uses it as a mask, and places it at {base:#x}, which is no \
                     multiple",
                    wanted.align
                );
                region.say(Level::Warning, TOP_DOWN, text);
            }
        }
        true
    }

    fn wanted(&self, region: &mut Checked) -> Result<Wanted, (Level, String)> {
        let (tree, kernel, node) = (self.tree, self.kernel, region.node);
        let (address, size) = (4 * self.cells.0, 4 * self.cells.1);
        let length = |name: &str, unit: usize, value: &[u8]| {
            let found = value.len();
            format!(
                "its {name} has {found} bytes; by the root's cells it must have {unit} (\"invalid {name} property\")"
            )
        };
        let error = |text: String| Err((Level::Error, text));
        let wanted = match tree.property(node, "size") {
            None => return error("its reg has size zero, and it has no size property".to_owned()),
            Some(value) if value.len() != size => return error(length("size", size, value)),
            Some(value) => kernel.address(number(value)),
        };
        let mut align = match tree.property(node, "alignment") {
            None => 0,
            Some(value) if value.len() != address => return error(length("alignment", address, value)),
            Some(value) => kernel.address(number(value)),
        };
        let asks_for_cma = self.asks_for_cma(node);
        if asks_for_cma && kernel.rules == Rules::V7_2 && self.is_bypassed(node) {
            let rule =
                "cma= on the command line makes the default window instead (-EBUSY); Linux reserves nothing";
            return Err((Level::Warning, rule.to_owned()));
        }
        if asks_for_cma && kernel.options.dma_cma {
            align = align.max(kernel.pageblock);
        }
        let everywhere = 0..u64::MAX;
        let tuple = address + size;
        let (ranges, has_ranges) = match tree.property(node, "alloc-ranges") {
            None => (vec![everywhere], false),
            Some(value) if !value.len().is_multiple_of(tuple) && kernel.rules == Rules::V7_2 => {
                let text = format!(
                    "its alloc-ranges has {} bytes; a tuple of address and size has {tuple}: Linux ignores it",
                    value.len()
                );
                region.say(Level::Warning, ALLOC_SIZE, text);
                (vec![everywhere], false)
            }
            Some(value) if !value.len().is_multiple_of(tuple) => {
                return error(length("alloc-ranges", tuple, value));
            }
            Some(value) => {
                let range = |(base, size): (u64, u64)| {
                    let base = kernel.address(base);
                    // An end of 0 or 1, which a sum that wraps gives, stands for any end (include/linux/memblock.h).
                    match kernel.address(base.wrapping_add(size)) {
                        0 | 1 => base..u64::MAX,
                        end => base..end.max(base),
                    }
                };
                (tuples(value, self.cells).map(range).collect(), true)
            }
        };
        Ok(Wanted { size: wanted, align, ranges, has_ranges })
    }

    fn find(&self, free: &Free, wanted: &Wanted, within: &Range<u64>) -> Option<u64> {
        // Beside an earlier region (__reserved_mem_alloc_in_range).
        let beside =
            |address: u64| self.done.iter().any(|range| range.start <= address && address <= range.end);
        let bottom_up = self.kernel.rules != Rules::V6_1
            && wanted.has_ranges
            && beside(within.start)
            && !beside(within.end);
        let request = Request { size: wanted.size, align: wanted.align, within: within.clone(), bottom_up };
        free.find(self.kernel, &request)
    }

    /// Says why a region gets no memory, and who has it.
    fn no_room(&self, region: &mut Checked, wanted: &Wanted) {
        let align = wanted.align.max(1);
        let room = self.memblock.free_memory().largest(align, &wanted.ranges);
        let within = if wanted.has_ranges { "its alloc-ranges" } else { "RAM" };
        let [size_text, align_text, room_text] = [wanted.size, align, room].map(size::format);
        let is_beyond = wanted.has_ranges
            && self.ram.may_grow()
            && wanted.ranges.iter().any(|range| self.ram.lack(range).is_some())
            && wanted.ranges.iter().all(|range| self.ram.memory.bytes(range) < wanted.size)
            && self.memblock.free_memory_with(&wanted.ranges).largest(align, &wanted.ranges) >= wanted.size;
        if is_beyond {
            region.is_placeholder = true;
            let rule = format!(
                "its alloc-ranges reach beyond the RAM of the tree, which has room for {room_text} of {size_text} there: if the boot \
                 loader adds no RAM there, it gets no memory (-ENOMEM, \"failed to allocate memory\")"
            );
            region.fail(Level::Warning, NodeOutcome::Refused, ALLOC_SIZE, rule);
            return;
        }
        let mut rule = format!(
            "there is no room for {size_text} at a multiple of {align_text} in {within}, only for {room_text} (-ENOMEM, \"failed to \
             allocate memory\")"
        );
        let holders = self.memblock.holders(&wanted.ranges);
        if !holders.is_empty() {
            let names = holders.iter().take(3).map(|(range, holder)| {
                let name = match holder {
                    Holder::Other(name) => (*name).to_owned(),
                    Holder::Region(index) => self.paths[*index].clone(),
                };
                format!("{name} ({} at {:#x})", size::format(range.end - range.start), range.start)
            });
            let more = holders.len().saturating_sub(3);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            rule +=
                &format!("; before it, memory there went to {}{more}", names.collect::<Vec<_>>().join(", "));
        }
        region.fail(Level::Error, NodeOutcome::Refused, ALLOC_SIZE, rule);
    }
}
