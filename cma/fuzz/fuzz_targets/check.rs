//! The check of a device tree does not panic on any input, and prints only printable characters.

#![no_main]

use cma::check::{Kernel, Tree, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|blob: &[u8]| {
    let Ok(tree) = Tree::read(blob) else { return };
    // A small number of CMA areas, so that they run out.
    let kernel = Kernel::new(4 << 20, 4096, 2).expect("the sizes are valid");
    let text = check(&tree, &kernel).to_string();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
});
