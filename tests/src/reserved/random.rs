//! Random trees of reserved memory: right ones, and every mistake that people make.

use super::{
    contest,
    platform::{INITRD, RAM},
    surroundings,
    tree::{Item, Node, USER, Value, cells},
};
use crate::differential::Random;

/// The start of the memory that regions use. Below lie the kernel, the initramfs and the tree.
pub const FREE: u64 = 0x5000_0000;
/// A kibibyte.
pub const K: u64 = 1 << 10;
/// A mebibyte.
pub const M: u64 = 1 << 20;
/// Near the end of 64-bit addresses.
const TOP: u64 = 0xffff_ffff_ffe0_0000;
/// The compatible of a pool.
const POOL: &str = "shared-dma-pool";
/// The phandle of the first region.
const PHANDLE: u32 = 0x100;
/// The phandle of a node that is no region, but has the name of one.
const NAMESAKE: u32 = 0x80;

/// True in this percentage of cases.
pub fn chance(random: &mut Random, percent: u64) -> bool {
    random.below(100) < percent
}

/// The regions that a tree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Regions {
    /// A few of any kind.
    Few,
    /// More than the kernel's list has room for, of any kind.
    Many,
    /// The same, all without an address.
    Dynamic,
    /// More CMA pools than Linux has areas.
    Pools,
}

/// The items of the tree with this seed.
pub fn items(seed: u64) -> Vec<Item> {
    let random = &mut Random::new(seed);
    let mut items = surroundings::memory(random);
    surroundings::buses(random, &mut items);
    for _ in 0..random.pick(&[0, 0, 0, 1, 2]) {
        let base = FREE + random.below(RAM[1] - FREE) / M * M;
        contest::reserve(&mut items, base, random.pick(&[4 * K, M, 16 * M]));
    }
    let (regions, count) = match random.below(100) {
        0..2 => (Regions::Many, 60 + random.below(10)),
        2..4 => (Regions::Dynamic, 62 + random.below(8)),
        4..7 => (Regions::Pools, 18 + random.below(8)),
        _ => (Regions::Few, random.below(13)),
    };
    let mut users = Vec::new();
    let mut taken = Vec::new();
    for index in 0..count {
        let region = region(random, index, regions, &mut taken);
        let namesake =
            chance(random, 2).then(|| Node::new(region.name.clone()).cells("phandle", &[NAMESAKE]));
        users.extend(namesake.map(Item::Top));
        items.push(if chance(random, 1) { Item::Second(region) } else { Item::Region(region) });
        let phandle = PHANDLE + u32::try_from(index).unwrap_or(0);
        let mut references = vec![phandle];
        if chance(random, 12) {
            references.push(random.pick(&[PHANDLE, phandle, 0x999, 0, NAMESAKE]));
        }
        let mut user = Node::new(format!("user{index}")).strings("compatible", &[USER]);
        if chance(random, 4) {
            user = user.strings("status", &[random.pick(&["disabled", "okay", "ok"])]);
        }
        users.push(Item::Top(user.cells("memory-region", &references)));
    }
    items.extend(users);
    items.push(Item::Top(Node::new("plain").strings("compatible", &[USER])));
    if chance(random, 8) {
        items.push(match random.below(5) {
            0 => Item::Parent("ranges", None),
            1 => Item::Parent("#address-cells", Some(Value::Cells(vec![1]))),
            2 => Item::Parent("#size-cells", None),
            3 => Item::Parent("#size-cells", Some(Value::Cells(vec![1]))),
            _ => Item::Parent("ranges", Some(Value::Cells(vec![0, 0, 0, 0, 0, 0]))),
        });
    }
    surroundings::chosen(random, &mut items);
    surroundings::words(random, &mut items);
    for number in 0..random.pick(&[0, 0, 1, 1, 2, 3]) {
        contest::contest(random, &mut items, number);
    }
    items
}

/// A region. `taken` has the memory of those with an address: two CMA pools in the same memory make a kernel fail anywhere.
fn region(random: &mut Random, index: u64, regions: Regions, taken: &mut Vec<(u64, u64)>) -> Node {
    let few = regions == Regions::Few;
    let size = match regions {
        Regions::Few => size(random),
        Regions::Pools => random.pick(&[2 * M, 4 * M]),
        Regions::Many | Regions::Dynamic => random.pick(&[64 * K, 2 * M]),
    };
    let dynamic = regions == Regions::Dynamic || chance(random, 45);
    let mut base = None;
    if !dynamic {
        let step =
            if regions == Regions::Pools { 4 * M } else { random.pick(&[2 * M, 4 * M, 4 * M, M, 4 * K]) };
        for _ in 0..16 {
            let candidate = FREE + random.below(RAM[1] - FREE) / step * step;
            let overlaps =
                taken.iter().any(|(other, length)| candidate < other + length && *other < candidate + size);
            if !overlaps || chance(random, 1) {
                base = Some(candidate);
                break;
            }
        }
        if chance(random, 4) {
            let elsewhere =
                [0x2000_0000, RAM[1] - 2 * M, RAM[1], 0xffe0_0000, 0x1_0000_0000, 0x1_1000_0000, TOP];
            base = Some(random.pick(&elsewhere));
        }
    }
    let name = base.map_or_else(|| format!("r{index}"), |base| format!("r{index}@{base:x}"));
    let mut node = Node::new(name);
    node = if regions == Regions::Pools {
        node.strings("compatible", &[POOL])
    } else {
        compatible(random, node)
    };
    node = match base {
        Some(TOP) => node.numbers("reg", &[TOP, size]),
        Some(base) => {
            taken.push((base, size));
            addressed(random, node, base, size)
        }
        None if few => sized(random, node, size),
        None => node.numbers("size", &[size]),
    };
    node = if regions == Regions::Pools { node.mark("reusable") } else { marks(random, node) };
    if few && chance(random, 5) {
        node = node.strings("status", &[random.pick(&["disabled", "okay", "ok", "fail"])]);
    }
    let own = PHANDLE + u32::try_from(index).unwrap_or(0);
    match random.below(100) {
        // The first region's, too.
        0..3 => node.cells("phandle", &[PHANDLE]),
        3..6 => node.cells("linux,phandle", &[own]),
        6 => node.cells("phandle", &[0]).cells("linux,phandle", &[own]),
        _ => node.cells("phandle", &[own]),
    }
}

fn size(random: &mut Random) -> u64 {
    match random.below(20) {
        0 => 0,
        1 => 4 * K,
        2 => 64 * K,
        3 => M,
        4 => 3 * M,
        5 => 4 * M + 4 * K,
        6 => 5000,
        7 => 256 * M,
        8 => 700 * M,
        9 | 10 => 2 * M,
        11 | 12 => 4 * M,
        13 | 14 => 8 * M,
        15 | 16 => 16 * M,
        _ => 32 * M,
    }
}

fn compatible(random: &mut Random, node: Node) -> Node {
    match random.below(20) {
        0..14 => node.strings("compatible", &[POOL]),
        14 => node.strings("compatible", &["restricted-dma-pool"]),
        15 => node.strings("compatible", &["example,pool", POOL]),
        16 => node.strings("compatible", &["example,framebuffer"]),
        17 => node.strings(
            "compatible",
            &[random.pick(&["shared-dma-pools", "Shared-DMA-Pool", "shared_dma_pool"])],
        ),
        _ => node,
    }
}

fn addressed(random: &mut Random, node: Node, base: u64, size: u64) -> Node {
    match random.below(40) {
        0 => node.numbers("reg", &[base, size, base + 64 * M, M]),
        1 => node.with("reg", Value::Cells(cells(&[base, size])[1..].to_vec())),
        6 => node.with("reg", Value::Cells(cells(&[base, size])[1..].to_vec())).numbers("size", &[size]),
        9 => node.with("reg", Value::Mark).numbers("size", &[size]),
        7 => node.numbers("reg", &[0, 0]),
        8 => node.numbers("reg", &[base, size, base + 64 * M, 0]),
        2 => node.numbers("reg", &[base, size / 2]),
        3 => node.numbers("reg", &[base, 0]).numbers("size", &[size]),
        4 => node.numbers("reg", &[base, size]).numbers("size", &[2 * size]),
        5 => node.numbers("reg", &[base, size]).numbers("alignment", &[16 * M]),
        10 => node.numbers("reg", &[base + 0xe00, size]),
        _ => node.numbers("reg", &[base, size]),
    }
}

fn sized(random: &mut Random, node: Node, size: u64) -> Node {
    let mut node = match random.below(40) {
        0 => node.cells("size", &[u32::try_from(size).unwrap_or(0)]),
        1 => node,
        _ => node.numbers("size", &[size]),
    };
    match random.below(20) {
        0..6 => {
            let align = random.pick(&[4 * K, 64 * K, M, 2 * M, 4 * M, 8 * M, 64 * M]);
            node = node.numbers("alignment", &[align]);
        }
        6 => node = node.numbers("alignment", &[random.pick(&[0, 1, 3 * M, 5000])]),
        7 if random.below(2) == 0 => node = node.cells("alignment", &[0x20_0000]),
        _ => {}
    }
    match random.below(20) {
        0 | 1 => {
            // Beside what other such regions get.
            let start = random.pick(&[0x6000_0000, 0x6080_0000, 0x6100_0000]);
            node = node.numbers("alloc-ranges", &[start, random.pick(&[8 * M, 16 * M, 64 * M])]);
        }
        2..5 => {
            let start = FREE + random.below(0x6000_0000) / M * M;
            node = node.numbers("alloc-ranges", &[start, random.pick(&[16 * M, 64 * M, 512 * M])]);
        }
        5 => node = node.numbers("alloc-ranges", &[0x1000_0000, 64 * M, 0x6000_0000, 64 * M]),
        6 => node = node.numbers("alloc-ranges", &[0x6000_0000, M, 0x7000_0000, 256 * M]),
        7 => node = node.numbers("alloc-ranges", &[0x1_0000_0000, 0x1000_0000]),
        8 if random.below(2) == 0 => node = node.cells("alloc-ranges", &[0, 0x6000_0000, 0x1000_0000]),
        9 if random.below(2) == 0 => node = node.with("alloc-ranges", Value::Mark),
        // The end is 0, which stands for any.
        10 if random.below(2) == 0 => {
            node = node.numbers("alloc-ranges", &[0x8000_0000, 0x8000_0000_u64.wrapping_neg()]);
        }
        // Beside the initramfs.
        11 => node = node.numbers("alloc-ranges", &[INITRD[0] - M, INITRD[1] + M - INITRD[0]]),
        _ => {}
    }
    node
}

fn marks(random: &mut Random, mut node: Node) -> Node {
    match random.below(20) {
        0..11 => node = node.mark("reusable"),
        11 => node = node.mark("reusable").mark("no-map"),
        12 => node = node.mark(random.pick(&["resuable", "re-usable", "no_map", "nomap"])),
        13..17 => node = node.mark("no-map"),
        _ => {}
    }
    if chance(random, 15) {
        node = node.mark("linux,cma-default");
    }
    if chance(random, 4) {
        node = node.mark(random.pick(&["linux,dma-default", "linux,cma_default", "linux,default-cma"]));
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_the_same_for_the_same_seed() {
        assert_eq!(items(7), items(7));
        assert_ne!(items(7), items(8));
        let regions = (0..200).flat_map(items).filter(|item| matches!(item, Item::Region(_))).count();
        assert!((1000..4000).contains(&regions), "{regions}");
    }
}
