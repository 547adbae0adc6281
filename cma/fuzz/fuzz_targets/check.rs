//! No bytes make the check of a device tree panic, or print something that is no UTF-8 text of printable characters.

#![no_main]

use cma::check::{Kernel, Tree, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|blob: &[u8]| {
    let Ok(tree) = Tree::read(blob) else { return };
    // Few CMA areas, so that they run out.
    let kernel = Kernel::new(4 << 20, 4096, 2).expect("there are such kernels");
    let text = check(&tree, &kernel).to_string();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
});
