//! Random trees of reserved memory: right ones, and every mistake that people make.

use super::{
    platform::RAM,
    tree::{Item, Node, USER, Value, cells},
};
use crate::differential::Random;

/// The start of the memory that regions use. Below lie the kernel, the initramfs and the tree.
const FREE: u64 = 0x5000_0000;
const K: u64 = 1 << 10;
const M: u64 = 1 << 20;
/// The phandle of the first region.
const PHANDLE: u32 = 0x100;

fn chance(random: &mut Random, percent: u64) -> bool {
    random.below(100) < percent
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[usize::try_from(random.below(of.len() as u64)).unwrap_or(0)]
}

/// The items of the tree with this seed.
pub fn items(seed: u64) -> Vec<Item> {
    let random = &mut Random::new(seed);
    let mut items = memory(random);
    for _ in 0..pick(random, &[0, 0, 0, 1, 2]) {
        let base = FREE + random.below(RAM[1] - FREE) / M * M;
        let entry = Item::Reservation(base, pick(random, &[4 * K, M, 16 * M]).min(RAM[1] - base));
        let overlaps = |item: &Item| matches!(item, Item::Reservation(other, size) if base < other + size && *other < base + 16 * M);
        if !items.iter().any(overlaps) {
            items.push(entry);
        }
    }
    let many = chance(random, 4);
    let count = if many { 58 + random.below(12) } else { 2 + random.below(12) };
    let mut users = Vec::new();
    let mut taken = Vec::new();
    for index in 0..count {
        let region = region(random, index, many, &mut taken);
        items.push(Item::Region(region));
        let phandle = PHANDLE + u32::try_from(index).unwrap_or(0);
        let mut references = vec![phandle];
        if chance(random, 8) {
            references.push(pick(random, &[PHANDLE, phandle, 0x999]));
        }
        let mut user = Node::new(format!("user{index}")).strings("compatible", &[USER]);
        if chance(random, 4) {
            user = user.strings("status", &[pick(random, &["disabled", "okay", "ok"])]);
        }
        users.push(Item::Top(user.cells("memory-region", &references)));
    }
    items.extend(users);
    items.push(Item::Top(Node::new("plain").strings("compatible", &[USER])));
    if chance(random, 3) {
        items.push(match random.below(4) {
            0 => Item::Parent("ranges", None),
            1 => Item::Parent("#address-cells", Some(Value::Cells(vec![1]))),
            2 => Item::Parent("#size-cells", None),
            _ => Item::Parent("ranges", Some(Value::Cells(vec![0, 0, 0, 0, 0, 0]))),
        });
    }
    items.extend(words(random).map(Item::Word));
    items
}

fn words(random: &mut Random) -> impl Iterator<Item = String> {
    let cma = chance(random, 25).then(|| {
        let words = [
            "cma=64M",
            "cma=16M@0x60000000",
            "cma=0",
            "cma=1M",
            "cma=6M@0x70100000",
            "cma=1M@0x50100000",
            "cma=512M",
            "cma=3G",
            "cma=32M@0x58000000-0x60000000",
            "cma=32M@0-0x60000000",
            "cma=64M@0x20000000",
        ];
        pick(random, &words).to_owned()
    });
    let mem = chance(random, 4).then(|| pick(random, &["mem=1G", "mem=1536M", "mem=512M"]).to_owned());
    cma.into_iter().chain(mem)
}

/// The memory nodes, and nodes that look like some.
fn memory(random: &mut Random) -> Vec<Item> {
    let node = |base: u64, size: u64| {
        Node::new(format!("memory@{base:x}"))
            .strings("device_type", &["memory"])
            .numbers("reg", &[base, size])
    };
    let [start, end] = RAM;
    let mut nodes = match random.below(10) {
        0 => vec![node(start, 0x4000_0000), node(0x8000_0000, end - 0x8000_0000)],
        1 => vec![node(start, 0x3000_0000), node(0x9000_0000, end - 0x9000_0000)],
        2 => vec![
            Node::new("memory")
                .strings("device_type", &["memory"])
                .numbers("reg", &[start, 0x2000_0000, 0x8000_0000, 0x1000_0000]),
        ],
        3 => vec![node(start, 0x6000_0000)],
        4 => vec![
            node(start, 0x4000_0000),
            Node::new("memory@80000000").numbers("reg", &[0x8000_0000, 0x4000_0000]),
        ],
        5 => vec![node(start, 0x4000_0000), node(0x8000_0000, 0x4000_0000).strings("status", &["disabled"])],
        _ => vec![node(start, end - start)],
    };
    if chance(random, 2) {
        nodes.push(node(0xb000_0000, 0));
    }
    nodes.into_iter().map(Item::Top).collect()
}

/// A region. `taken` has the memory of those with an address: two CMA pools in the same memory make a kernel fail anywhere.
fn region(random: &mut Random, index: u64, many: bool, taken: &mut Vec<(u64, u64)>) -> Node {
    let size = if many { pick(random, &[64 * K, 2 * M]) } else { size(random) };
    let dynamic = chance(random, 45);
    let mut base = None;
    if !dynamic {
        let step = pick(random, &[2 * M, 4 * M, 4 * M, M, 4 * K]);
        for _ in 0..16 {
            let candidate = FREE + random.below(RAM[1] - FREE) / step * step;
            let overlaps =
                taken.iter().any(|(other, length)| candidate < other + length && *other < candidate + size);
            if !overlaps || chance(random, 1) {
                base = Some(candidate);
                break;
            }
        }
        if chance(random, 1) {
            base = Some(pick(random, &[0x2000_0000, RAM[1] - 2 * M, RAM[1], 0x1_0000_0000]));
        }
    }
    let name = base.map_or_else(|| format!("r{index}"), |base| format!("r{index}@{base:x}"));
    let mut node = compatible(random, Node::new(name));
    node = match base {
        Some(base) => {
            taken.push((base, size));
            addressed(random, node, base, size)
        }
        None => sized(random, node, size),
    };
    node = marks(random, node);
    if chance(random, 5) {
        node = node.strings("status", &[pick(random, &["disabled", "okay", "ok", "fail"])]);
    }
    node.cells("phandle", &[PHANDLE + u32::try_from(index).unwrap_or(0)])
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
        0..14 => node.strings("compatible", &["shared-dma-pool"]),
        14 => node.strings("compatible", &["restricted-dma-pool"]),
        15 => node.strings("compatible", &["example,pool", "shared-dma-pool"]),
        16 => node.strings("compatible", &["example,framebuffer"]),
        17 => node.strings(
            "compatible",
            &[pick(random, &["shared-dma-pools", "Shared-DMA-Pool", "shared_dma_pool"])],
        ),
        _ => node,
    }
}

fn addressed(random: &mut Random, node: Node, base: u64, size: u64) -> Node {
    match random.below(40) {
        0 => node.numbers("reg", &[base, size, base + 64 * M, M]),
        1 => node.with("reg", Value::Cells(cells(&[base, size])[1..].to_vec())),
        // An empty reg is left out: 6.12 takes the bytes that follow it in the tree for an address.
        2 => node.numbers("reg", &[base, size / 2]),
        3 => node.numbers("reg", &[base, 0]).numbers("size", &[size]),
        4 => node.numbers("reg", &[base, size]).numbers("size", &[2 * size]),
        5 => node.numbers("reg", &[base, size]).numbers("alignment", &[16 * M]),
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
            let align = pick(random, &[4 * K, 64 * K, M, 2 * M, 4 * M, 8 * M, 64 * M]);
            node = node.numbers("alignment", &[align]);
        }
        6 => node = node.numbers("alignment", &[pick(random, &[0, 1, 3 * M, 5000])]),
        7 if random.below(2) == 0 => node = node.cells("alignment", &[0x20_0000]),
        _ => {}
    }
    match random.below(20) {
        0..5 => {
            let start = FREE + random.below(0x6000_0000) / M * M;
            node = node.numbers("alloc-ranges", &[start, pick(random, &[16 * M, 64 * M, 512 * M])]);
        }
        5 => node = node.numbers("alloc-ranges", &[0x1000_0000, 64 * M, 0x6000_0000, 64 * M]),
        6 => node = node.numbers("alloc-ranges", &[0x6000_0000, M, 0x7000_0000, 256 * M]),
        7 => node = node.numbers("alloc-ranges", &[0x1_0000_0000, 0x1000_0000]),
        8 if random.below(2) == 0 => node = node.cells("alloc-ranges", &[0, 0x6000_0000, 0x1000_0000]),
        9 if random.below(2) == 0 => node = node.with("alloc-ranges", Value::Mark),
        _ => {}
    }
    node
}

fn marks(random: &mut Random, mut node: Node) -> Node {
    match random.below(20) {
        0..11 => node = node.mark("reusable"),
        11 => node = node.mark("reusable").mark("no-map"),
        12 => node = node.mark(pick(random, &["resuable", "re-usable", "no_map", "nomap"])),
        13..17 => node = node.mark("no-map"),
        _ => {}
    }
    if chance(random, 15) {
        node = node.mark("linux,cma-default");
    }
    if chance(random, 4) {
        node = node.mark(pick(random, &["linux,dma-default", "linux,cma_default", "linux,default-cma"]));
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
