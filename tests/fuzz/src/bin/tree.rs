//! The check of a device tree does not panic on any input. It prints only printable characters, and the source that it writes of a
//! tree has no others either.

#![no_main]

use cma::check::{Arch, Boot, Kernel, Rules, Tree, check};
use fuzz::Start;

fn words() -> Vec<String> {
    let words = [
        "reserved-memory",
        "#address-cells",
        "#size-cells",
        "ranges",
        "reg",
        "size",
        "alignment",
        "alloc-ranges",
        "reusable",
        "no-map",
        "linux,cma-default",
        "shared-dma-pool",
        "compatible",
        "memory-region",
        "phandle",
        "status",
        "okay",
        "memory@0",
        "device_type",
        "memory",
        "chosen",
        "bootargs",
        "cma=64M",
    ];
    words.map(|word| format!("{word}\0")).into()
}

fuzz::target!(Start { words: words(), ..Start::default() }, |blob| {
    if let Ok(tree) = Tree::read(blob) {
        for rules in Rules::ALL {
            for arch in [Arch::Arm64, Arch::Arm] {
                // A small number of CMA areas, so that they run out.
                let kernel = Kernel::debian(rules, arch, 4096).expect("the page size is valid");
                let kernel = Kernel { cma_areas: 2, ..kernel };
                let text = check(&tree, &kernel, &Boot::default()).to_string();
                assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            }
        }
        tree.to_source();
    }
});
