//! Scenarios about NUMA nodes: the source of a device's buffers if the device and its window are in different nodes.

use cma::{
    PAGE_SIZE, Window,
    area::{Area, Rules},
    dma::{Device, DmaOutcome, Memory},
};
use vmm::arch;

use super::{Fields, Observation, Scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "the-wrong-node-works",
        claim: "an allocation fails if the window and the device are in different NUMA nodes",
        truth: "the window is remote memory, and works: the kernel uses the device's window in any node (kernel/dma/contiguous.c, \
                dma_alloc_contiguous), and the frames arrive there. On x86_64 a device of the tree is in no node",
        play: the_wrong_node_works,
    },
    Scenario {
        name: "a-node-has-its-own-area",
        claim: "a device's buffers come from its own NUMA node",
        truth: "only if the node has a CMA area, which arm64 reserves with cma_pernuma=, and only for a device without a \
                window that does not request a zone. If that area is full, they come from the default window \
                (kernel/dma/contiguous.c, dma_alloc_contiguous). On x86_64, 6.1 reserves no such areas, and no device of the \
                tree is in a node: all buffers come from the default window",
        play: a_node_has_its_own_area,
    },
];

/// Whether Linux reads the nodes of devices, and has CMA areas of nodes: see numa.rs of the `arch` modules.
const NODES_OF_DEVICES: bool = cfg!(target_arch = "aarch64");

/// Shell functions for scripts in a guest. `free_cma NODE` prints the number of a node's free CMA pages. `stream FRAMES MEASURE
/// ARGUMENTS` streams this number of frames with v4l2-ctl, runs MEASURE while the buffers are allocated, and prints the number of
/// bytes received.
const FUNCTIONS: &str = r#"free_cma() { sed -n 's/^nr_free_cma //p' /sys/devices/system/node/node$1/vmstat; }
    used() { cat /sys/kernel/debug/cma/$1*/used 2> /dev/null || echo 0; }
    stream() {
        frames=$1; measure=$2; shift 2
        v4l2-ctl "$@" --stream-count=$frames --stream-to=- 2> /dev/null | {
            # v4l2-ctl waits until the pipe has room.
            dd bs=4096 count=1 iflag=fullblock of=/dev/null 2> /dev/null
            $measure
            echo bytes=$((4096 + $(wc -c)))
        }
    }
    "#;

/// The area of a window.
fn area(name: &str, base: u64, size: u64) -> Area {
    let window = Window { name: name.to_owned(), base, size, ..Default::default() };
    Area::of_window(&window, 0, Rules::V6_1).expect("the window is an area")
}

/// The memory for a CMA device. It has no buddy allocator, which these scenarios do not reach.
fn memory(areas: Vec<Area>, nodes: Vec<Option<usize>>) -> Memory {
    Memory { areas, default: Some(0), nodes, zones: Vec::new(), zone_dma_last: u64::from(u32::MAX) }
}

/// Pages in use of area `index`.
fn pages_of(outcomes: &[DmaOutcome], index: usize, pages: u64) -> u64 {
    outcomes.iter().filter(|outcome| outcome.area == Some(index)).count() as u64 * pages
}

fn the_wrong_node_works() -> Vec<Observation> {
    const BYTES: u64 = 640 * 480 * 2;
    const BUFFERS: u64 = 4;
    const FRAMES: u64 = 8;
    // Two halves of 512 MiB: a window in the middle of each.
    let start = arch::ram(1 << 30)[0].start;
    let (near, far) = (start + (256 << 20), start + (768 << 20));
    let fields = Fields::of(
        &format!(
            "--numa 2 --memory 1G --cma 16M,default,node=0,base={near:#x} --cma 64M,name=isp,node=1,base={far:#x} \
             --camera window=isp,node=0,timing=stall"
        ),
        &format!(
            "{FUNCTIONS}
             # A device in no node has no such file.
             echo device=$(cat /sys/bus/platform/drivers/minivmm-camera/*.camera/numa_node 2> /dev/null || echo none)
             echo before0=$(free_cma 0); echo before1=$(free_cma 1)
             measure() {{ echo after0=$(free_cma 0); echo after1=$(free_cma 1); }}
             stream {FRAMES} measure -v width=640,height=480,pixelformat=YUYV --stream-mmap={BUFFERS}
             set -- $(cat /sys/kernel/debug/minivmm-camera/*/extent); echo first=$(($1)); echo end=$(($2))"
        ),
    );
    let node = NODES_OF_DEVICES.then_some(0);
    let mut memory = memory(vec![area("cma0", near, 16 << 20), area("isp", far, 64 << 20)], vec![None; 2]);
    let camera = Device { area: Some(1), mask: u64::from(u32::MAX), node };
    let outcomes: Vec<_> = (0..BUFFERS).map(|_| memory.alloc(&camera, BYTES)).collect();
    let addresses = || outcomes.iter().filter_map(|outcome| outcome.address);
    let pages = BYTES.div_ceil(PAGE_SIZE);
    let taken =
        |node| fields.number(&format!("before{node}")).abs_diff(fields.number(&format!("after{node}")));
    let place = |address: u64| format!("{address:#x}");
    vec![
        Observation::new("the camera's node", node.map_or("none", |_| "0"), fields.text("device")),
        Observation::new("pages taken of node 0's windows", pages_of(&outcomes, 0, pages), taken(0)),
        Observation::new("pages taken of node 1's window", pages_of(&outcomes, 1, pages), taken(1)),
        Observation::new(
            "the first buffer is at",
            place(addresses().min().unwrap_or(0)),
            place(fields.number("first")),
        ),
        Observation::new(
            "the last one ends at",
            place(addresses().max().unwrap_or(0) + BYTES),
            place(fields.number("end")),
        ),
        Observation::new("bytes of 8 frames that arrive", FRAMES * BYTES, fields.number("bytes")),
    ]
}

fn a_node_has_its_own_area() -> Vec<Observation> {
    const BYTES: u64 = 1280 * 720 * 2;
    const BUFFERS: u64 = 10;
    const FRAMES: u64 = 12;
    const OF_NODE: u64 = 16 << 20;
    let base = arch::ram(1 << 30)[0].start + (256 << 20);
    let mut observations = Vec::new();
    for address_bits in [64, 32] {
        let fields = Fields::of(
            &format!(
                "--numa 2 --memory 1G --cma 64M,node=0,base={base:#x} --cmdline cma_pernuma={OF_NODE} \
                 --camera window=none,node=1,address-bits={address_bits},timing=stall"
            ),
            &format!(
                "{FUNCTIONS}
                 for node in 0 1; do
                     area=/sys/kernel/debug/cma/pernuma$node
                     [ -e $area ] && echo base$node=$(cat $area/base_pfn) || echo base$node=0
                 done
                 echo before=$(used cma0)
                 measure() {{ for area in cma0 pernuma0 pernuma1; do echo $area=$(used $area); done; }}
                 stream {FRAMES} measure -v width=1280,height=720,pixelformat=YUYV --stream-mmap={BUFFERS}"
            ),
        );
        let mut areas = vec![area("cma0", base, 64 << 20)];
        for node in (0..2).filter(|_| NODES_OF_DEVICES) {
            let base = fields.number(&format!("base{node}")) * PAGE_SIZE;
            areas.push(area(&format!("pernuma{node}"), base, OF_NODE));
        }
        let (nodes, node) =
            if NODES_OF_DEVICES { (vec![Some(1), Some(2)], Some(1)) } else { (vec![None; 2], None) };
        let mut memory = memory(areas, nodes);
        let camera = Device { area: None, mask: u64::MAX >> (64 - address_bits), node };
        let outcomes: Vec<_> = (0..BUFFERS).map(|_| memory.alloc(&camera, BYTES)).collect();
        let pages = BYTES.div_ceil(PAGE_SIZE);
        let what = |what: &str| format!("{address_bits} address lines: {what}");
        observations.extend([
            Observation::new(
                what("pages of node 1's area"),
                pages_of(&outcomes, 2, pages),
                fields.number("pernuma1"),
            ),
            Observation::new(
                what("pages of node 0's area"),
                pages_of(&outcomes, 1, pages),
                fields.number("pernuma0"),
            ),
            Observation::new(
                what("pages more of the default window"),
                pages_of(&outcomes, 0, pages),
                fields.number("cma0") - fields.number("before"),
            ),
            Observation::new(what("bytes of 12 frames that arrive"), FRAMES * BYTES, fields.number("bytes")),
        ]);
    }
    observations
}
