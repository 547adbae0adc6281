//! No sequence of stores and loads makes the camera panic, hang, or write outside the posted buffers. After a reset it streams.

#![no_main]

#[path = "../../tests/pokes/mod.rs"]
mod pokes;

use libfuzzer_sys::fuzz_target;
use pokes::Poked;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let mut poked = Poked::new(["timing=stall", "timing=free,fps=1000", "timing=stall,sensor=yes"][usize::from(first % 3)]);
    for number in rest.as_chunks().0 {
        poked.poke(u64::from_le_bytes(*number));
    }
    poked.check();
});
