//! The time of `minivmm check` on trees of 1,000 and 10,000 nodes: ten times the nodes must not take much more than ten times as long.

use std::{error::Error, hint, time::Instant};

use cma::check::{Arch, Boot, Kernel, Rules, Tree, check};
use serde::Serialize;
use vm_fdt::FdtWriter;

/// The fastest counts: another program can slow a round down, and nothing can speed it up.
const ROUNDS: usize = 15;
/// Numbers of nodes.
const NODES: [u32; 2] = [1_000, 10_000];
/// Goals: the time for the larger tree in milliseconds, and how much longer it takes than the smaller one.
const GOAL_MS: f64 = 1000.0;
const GOAL_TIMES: f64 = 20.0;

/// The results for a tree.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    /// Nodes of the tree.
    nodes: u32,
    /// Bytes of the tree.
    bytes: usize,
    /// Time to read it and to check it.
    milliseconds: f64,
    /// Whether the time is within the goals.
    goal_met: bool,
}

/// A tree of which a half are regions, of all kinds, and a half are devices that refer to them.
fn blob(nodes: u32) -> Result<Vec<u8>, vm_fdt::Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    for name in ["#address-cells", "#size-cells"] {
        fdt.property_u32(name, 2)?;
    }
    let memory = fdt.begin_node("memory@0")?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[0, 1 << 40])?;
    fdt.end_node(memory)?;
    let parent = fdt.begin_node("reserved-memory")?;
    for name in ["#address-cells", "#size-cells"] {
        fdt.property_u32(name, 2)?;
    }
    fdt.property_null("ranges")?;
    let regions = nodes / 2;
    for index in 0..regions {
        let base = u64::from(index) << 22;
        let region = fdt.begin_node(&format!("region@{base:x}"))?;
        fdt.property_phandle(index + 1)?;
        match index % 4 {
            0 => fdt.property_null("no-map")?,
            1 => {
                fdt.property_string("compatible", "shared-dma-pool")?;
                fdt.property_null("reusable")?;
            }
            2 => fdt.property_u32("memory-region", index)?,
            _ => {}
        }
        // Some without an address, which get some memory beside all others, and some that overlap the next one.
        if index % 1000 == 7 {
            fdt.property_u64("size", 1 << 21)?;
        } else {
            fdt.property_array_u64("reg", &[base, if index % 10 == 3 { 3 << 21 } else { 1 << 21 }])?;
        }
        fdt.end_node(region)?;
    }
    fdt.end_node(parent)?;
    for index in 0..nodes - regions {
        let device = fdt.begin_node(&format!("device@{index:x}"))?;
        fdt.property_array_u32("memory-region", &[index % regions + 1, (index * 7) % regions + 1])?;
        fdt.end_node(device)?;
    }
    fdt.end_node(root)?;
    fdt.finish()
}

pub(crate) fn run() -> Result<Vec<Figures>, Box<dyn Error>> {
    let kernel = Kernel::debian(Rules::V6_12, Arch::Arm64, 4096)?;
    println!("\nThe check of a device tree, the fastest of {ROUNDS} rounds");
    let mut all: Vec<Figures> = Vec::new();
    for nodes in NODES {
        let blob = blob(nodes)?;
        let time = || -> Result<f64, Box<dyn Error>> {
            let begun = Instant::now();
            hint::black_box(check(&Tree::read(&blob)?, &kernel, &Boot::default()));
            Ok(begun.elapsed().as_secs_f64() * 1e3)
        };
        let times = (0..ROUNDS).map(|_| time()).collect::<Result<Vec<f64>, _>>()?;
        let milliseconds = times.into_iter().fold(f64::INFINITY, f64::min);
        let times = all.first().map_or(1.0, |first| milliseconds / first.milliseconds);
        let goal_met = milliseconds < GOAL_MS && times < GOAL_TIMES;
        println!("{nodes:>6} nodes{milliseconds:>10.1} ms{times:>8.1} times  {}", crate::verdict(goal_met));
        all.push(Figures { nodes, bytes: blob.len(), milliseconds, goal_met });
    }
    Ok(all)
}
