//! Memory that several parts of a random tree want: regions, /memreserve/, `cma=` and the header of a crashed kernel.
//!
//! Two CMA pools in the same memory are left out: a kernel with them can fail anywhere.

use super::{
    platform::RAM,
    random::{FREE, K, M, chance},
    tree::{Item, Node, Value, cells},
};
use crate::differential::Random;

/// Where memory that Linux chooses often lies: below the ends of RAM and of the zone for DMA.
const ENDS: [u64; 5] = [0x8000_0000, 0x9000_0000, 0xa000_0000, RAM[1], RAM[1]];

/// The address and size of a region with a valid `reg` in the guest's RAM.
fn range(item: &Item) -> Option<(u64, u64)> {
    let Item::Region(node) = item else { return None };
    let (_, Value::Cells(reg)) = node.properties.iter().find(|(name, _)| name == "reg")? else { return None };
    let [base_high, base_low, size_high, size_low, ..] = reg[..] else { return None };
    let number = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    let (base, size) = (number(base_high, base_low), number(size_high, size_low));
    (size > 0 && base >= FREE && base.checked_add(size)? <= RAM[1]).then_some((base, size))
}

/// Whether a region becomes a CMA pool, perhaps.
fn is_reusable(item: &Item) -> bool {
    matches!(item, Item::Region(node) if node.properties.iter().any(|(name, _)| name == "reusable"))
}

/// Adds a reservation, unless it overlaps another one or is not in RAM.
pub fn reserve(items: &mut Vec<Item>, base: u64, size: u64) {
    let overlaps = |item: &Item| matches!(item, Item::Reservation(other, length) if base < other + length && *other < base + size);
    if base >= FREE && base + size <= RAM[1] && !items.iter().any(overlaps) {
        items.push(Item::Reservation(base, size));
    }
}

/// Adds a region before or after the others: the kernel reserves them in the order of the tree.
fn insert(random: &mut Random, items: &mut Vec<Item>, node: Node) {
    let first = items.iter().position(|item| matches!(item, Item::Region(_))).unwrap_or(items.len());
    items.insert(if chance(random, 50) { first } else { items.len() }, Item::Region(node));
}

/// Adds contested memory. `number` makes names differ.
pub fn contest(random: &mut Random, items: &mut Vec<Item>, number: u64) {
    let small = random.pick(&[4 * K, M, 8 * M]);
    let at_end = random.pick(&ENDS) - small * (1 + random.below(2));
    let node = |base: u64, reg: &[u64]| Node::new(format!("z{number}@{base:x}")).numbers("reg", reg);
    let pool = |node: Node| node.strings("compatible", &["shared-dma-pool"]);
    let ranges: Vec<(u64, u64)> = items.iter().filter_map(range).collect();
    let (base, size) = if ranges.is_empty() { (at_end, small) } else { random.pick(&ranges) };
    let target = items.iter().position(|item| range(item) == Some((base, size)));
    let is_pool = target.is_some_and(|target| is_reusable(&items[target]));
    match random.below(14) {
        0 => reserve(items, at_end, small),
        1 => reserve(items, base, small),
        // Memory of both a region and /memreserve/.
        2 => {
            reserve(items, at_end, small);
            let node = node(at_end, &[at_end, small]);
            let node = if chance(random, 60) { node.mark("no-map") } else { node };
            insert(random, items, node);
        }
        // The kernel frees a pool that it refuses, and what else is there.
        3 => {
            reserve(items, at_end, small);
            let node = pool(node(at_end, &[at_end - 4 * K, small + 4 * K])).mark("reusable");
            insert(random, items, node);
        }
        4 if is_pool => {
            let wide = pool(node(base - 4 * K, &[base - 4 * K, size + 4 * K])).mark("reusable");
            items.insert(target.unwrap_or(0), Item::Region(wide));
        }
        5 => {
            let size = random.pick(&["2M", "4M", "3M"]);
            items.push(Item::Word(format!("cma={size}@{base:#x}")));
        }
        6 => items.push(Item::Word(format!("cma=4M@{:#x}", at_end & !(4 * M - 1)))),
        7 => items.push(Item::Chosen("linux,elfcorehdr", Value::Cells(cells(&[base, 4 * K])))),
        8 if !is_pool => insert(random, items, pool(node(base, &[base, small])).mark("no-map")),
        // The second tuple is contested.
        9 => {
            let free = FREE + random.below(0x6000_0000) / M * M;
            insert(random, items, pool(node(free, &[free, M, base, 4 * K])).mark("no-map"));
        }
        // The last page of a region, and one more.
        10 if !is_pool => {
            let last = base + size - 4 * K.min(size);
            let node = node(last, &[last, 8 * K]);
            let node = if chance(random, 50) { node.mark("no-map") } else { node };
            insert(random, items, node);
        }
        // One without an address beside others.
        11 => {
            let dynamic = |name: &str, size: u64, from: u64, within: u64| {
                let node = Node::new(format!("z{number}{name}")).numbers("size", &[size]);
                Item::Region(node.numbers("alloc-ranges", &[from, within]))
            };
            items.push(dynamic("a", 8 * M, 0x6000_0000, 16 * M));
            if chance(random, 50) {
                items.push(dynamic("b", 8 * M, 0x6400_0000, 16 * M));
            }
            let from = random.pick(&[0x6080_0000, 0x6090_0000, 0x6100_0000, 0x6110_0000]);
            items.push(dynamic(
                "c",
                random.pick(&[4 * K, 2 * M]),
                from,
                random.pick(&[M, 16 * M, 0x6480_0000 - from]),
            ));
        }
        // A part of a page at the end of RAM, of which Linux uses the rest.
        12 => {
            let at = random.pick(&ENDS) - random.pick(&[5000, 4096 + 512, 8192 - 64, 2048]);
            let node = node(at, &[at, random.pick(&[5000, 4096, 1024])]).mark("no-map");
            let node = if chance(random, 50) { pool(node).mark("reusable") } else { node };
            insert(random, items, node);
        }
        _ => {
            let node = node(base, &[base, small]);
            let node = if chance(random, 60) { node.mark("no-map") } else { node };
            insert(random, items, node);
        }
    }
}
