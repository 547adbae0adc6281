//! The check of a device tree does not panic on any input. It prints only printable characters, and the source that it writes of a
//! tree has no others either.

#![no_main]

use cma::check::{Kernel, Tree, check};
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
        // A small number of CMA areas, so that they run out.
        let kernel = Kernel::new(4 << 20, 4096, 2).expect("the sizes are valid");
        let text = check(&tree, &kernel).to_string();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        tree.to_source();
    }
});
