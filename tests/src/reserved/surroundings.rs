//! What a random tree has beside its regions: memory nodes, buses, /chosen and words of the command line.

use super::{
    platform::{HIGH_RAM, RAM},
    random::{K, M, chance},
    tree::{Item, Node, Value, cells},
};
use crate::differential::Random;

/// The memory nodes, and nodes that look like some.
pub fn memory(random: &mut Random) -> Vec<Item> {
    let of = |base: u64, reg: &[u64]| {
        Node::new(format!("memory@{base:x}")).strings("device_type", &["memory"]).numbers("reg", reg)
    };
    let node = |base: u64, size: u64| of(base, &[base, size]);
    let [start, end] = RAM;
    let mut others = Vec::new();
    let mut nodes = match random.below(24) {
        0 => vec![node(start, 0x4000_0000), node(0x8000_0000, end - 0x8000_0000)],
        1 => {
            if chance(random, 30) {
                others.push(Item::Word("mem=1G".to_owned()));
            }
            vec![node(start, 0x3000_0000), node(0x9000_0000, end - 0x9000_0000)]
        }
        2 => vec![of(start, &[start, 0x2000_0000, 0x8000_0000, 0x1000_0000])],
        // A pool in the section of the end of RAM, or beyond.
        3 => {
            let size = random.pick(&[0x6000_0000, 0x6400_0000]);
            others.extend(chance(random, 50).then(|| pool(random, 'n', 0xa400_0000)));
            vec![node(start, size)]
        }
        4 => vec![
            node(start, 0x4000_0000),
            Node::new("memory@80000000").numbers("reg", &[0x8000_0000, 0x4000_0000]),
        ],
        5 => vec![node(start, 0x4000_0000), node(0x8000_0000, 0x4000_0000).strings("status", &["disabled"])],
        // A pool in two NUMA nodes.
        6 | 7 => {
            others.extend(chance(random, 50).then(|| pool(random, 'n', 0x8000_0000 - 8 * M)));
            vec![
                node(start, 0x4000_0000).cells("numa-node-id", &[0]),
                node(0x8000_0000, end - 0x8000_0000).cells("numa-node-id", &[1]),
            ]
        }
        8 | 13 => {
            if chance(random, 60) {
                let words = [
                    "cma=8M@0-0x200000000",
                    "cma=64M@0-0x120000000",
                    "cma=16M@0x110000000",
                    "cma=8M@0-0x102000000",
                ];
                others.push(Item::Word(random.pick(&words).to_owned()));
            }
            vec![node(start, end - start), node(HIGH_RAM[0], HIGH_RAM[1] - HIGH_RAM[0])]
        }
        9 => vec![node(start, end - start).numbers("linux,usable-memory", &[start, 0x6000_0000])],
        10 => vec![node(start, 0x5000_0800), node(0x9000_0800, 0x2000_0000)],
        11 => {
            let mut rest = cells(&[0x8000_0000, 0x4000_0000]);
            rest.push(0);
            let node_with_rest = Node::new("memory@80000000").strings("device_type", &["memory"]);
            vec![node(start, 0x4000_0000), node_with_rest.with("reg", Value::Cells(rest))]
        }
        12 => {
            // It looks like RAM, and is a region.
            others.push(Item::Region(node(0xb000_0000, 16 * M)));
            vec![node(start, 0x6000_0000)]
        }
        _ => vec![node(start, end - start)],
    };
    // The last node decides about NUMA.
    let has_numa = nodes.iter().any(|node| node.properties.iter().any(|(name, _)| name == "numa-node-id"));
    if chance(random, if has_numa { 25 } else { 2 }) {
        nodes.push(node(0xb800_0000, 0));
    }
    nodes.into_iter().map(Item::Top).chain(others).collect()
}

/// A CMA pool at `base`. `letter` makes names differ.
fn pool(random: &mut Random, letter: char, base: u64) -> Item {
    let node =
        Node::new(format!("{letter}@{base:x}")).strings("compatible", &["shared-dma-pool"]).mark("reusable");
    Item::Region(node.numbers("reg", &[base, random.pick(&[4 * M, 16 * M, 64 * M])]))
}

/// Buses, whose `dma-ranges` say where the zone for DMA ends, and pools there.
pub fn buses(random: &mut Random, items: &mut Vec<Item>) {
    let bus = |name: String, ranges: &[u64]| {
        let bus = Node::new(name).cells("#address-cells", &[2]).cells("#size-cells", &[2]);
        bus.numbers("dma-ranges", ranges)
    };
    for number in 0..random.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 2]) {
        let ranges = [
            [0, 0x4000_0000, 0x4000_0000],
            [0, 0x4000_0000, 0x5000_0000],
            [0, 0, 0x4000_0000],
            [0x4000_0000, 0x4000_0000, 0x6000_0000],
            [0, 0, 0x2_0000_0000],
        ];
        let outer = bus(format!("bus{number}"), &random.pick(&ranges));
        let outer = if chance(random, 20) { outer.strings("status", &["disabled"]) } else { outer };
        items.push(Item::Top(outer));
        if chance(random, 30) {
            let inner = [[0, 0, 0x3000_0000], [0, 0x4000_0000, 0x2000_0000]];
            items.push(Item::Top(bus(format!("bus{number}/bus"), &random.pick(&inner))));
        }
        if chance(random, 50) {
            let end = random.pick(&[0x7000_0000, 0x8000_0000, 0x9000_0000]);
            items.push(pool(random, if number == 0 { 'b' } else { 'c' }, end - 8 * M));
        }
    }
}

/// Properties of /chosen: which RAM may be used, and memory of a crashed kernel.
pub fn chosen(random: &mut Random, items: &mut Vec<Item>) {
    if chance(random, 5) {
        let ranges: [&[u64]; 3] = [
            &[0x4000_0000, 0x5000_0000],
            &[0x4000_0000, 0x4000_0000, 0xa000_0000, 0x1000_0000],
            &[0x4000_0000, 0x3000_0000, 0x8000_0000, 0x1000_0000, 0xb000_0000, 0x800_0000],
        ];
        let usable = Value::Cells(cells(random.pick(&ranges)));
        items.push(Item::Chosen("linux,usable-memory-range", usable));
    }
    if chance(random, 6) {
        let base = random.pick(&[0x6000_0000, 0x7010_0000, 0x8000_0000 - 64 * K, RAM[1] - 64 * K]);
        items.push(Item::Chosen("linux,elfcorehdr", Value::Cells(cells(&[base, 64 * K]))));
    }
}

/// Words of the command line.
pub fn words(random: &mut Random, items: &mut Vec<Item>) {
    let cma = [
        "cma=64M",
        "cma=16M@0x60000000",
        "cma=0",
        "cma=1M",
        "cma=5M",
        "cma=6M@0x70100000",
        "cma=1M@0x50100000",
        "cma=512M",
        "cma=3G",
        "cma=32M@0x58000000-0x60000000",
        "cma=32M@0-0x60000000",
        "cma=32M@0x58000000-0x5a100000",
        "cma=2M@0x58000000-0x58100000",
        "cma=64M@0x20000000",
        "cma=32M@0xbf000000",
        "cma=8M@0-0x200000000",
        "cma=8M@0-0xa0000000",
        "cma=4M@0-0x100000",
        "cma=0100M",
        "cma=32768k",
        "cma=33554432",
        "cma=0x2000000@0x60000000",
        "cma=16M@0x60000000 cma=32M",
        "cma=32M cma=16M",
        "x=\"a cma=32M\"",
        "-- cma=32M",
    ];
    if chance(random, 45) {
        if chance(random, 3) {
            // Linux does not read what comes after so long a word.
            items.push(Item::Word("x".repeat(2048)));
        }
        items.push(Item::Word(random.pick(&cma).to_owned()));
    }
    if chance(random, 9) {
        let mem = ["mem=1G", "mem=1536M", "mem=512M", "mem=1048579k", "mem=1G mem=1536M", "mem=0"];
        items.insert(0, Item::Word(random.pick(&mem).to_owned()));
    }
}
