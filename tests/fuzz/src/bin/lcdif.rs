//! No sequence of stores and loads makes the display controller `lcdif` panic, hang, grow, or write to memory. After a reset it shows a
//! frame. The controller is stepped: accesses come also while it reads a frame, and its time is the input's.

#![no_main]

#[path = "../../../../devices/tests/pokes/lcdif.rs"]
mod lcdif;

use fuzz::{Start, guest::memory};
use lcdif::{MEMORY, Poked};

/// Frames of both formats and of sizes and times that do not fit, and what can come in the middle of one.
fn seeds() -> Vec<Vec<u8>> {
    // The upper two bits of the first byte step the controller.
    const BEGIN: u8 = 0;
    const FINISH: u8 = 1 << 6;
    const NONE: u8 = 3 << 6;
    let poke = |what: u8, pick: u8, [a, b, c, d]: [u8; 4], e: u8, f: u8| [what, pick, a, b, c, d, e, f];
    let start = |pixel: u8| poke(5 | NONE, pixel, [0, 0x50, 0, 0], 0, 0);
    let time = poke(10 | BEGIN, 5, [0; 4], 0, 0);
    let acknowledge = poke(11 | FINISH, 0, [0; 4], 0, 0);
    // The first look starts the panel's clock.
    let frame = [time, time, acknowledge];
    let mut middles = vec![
        poke(0 | NONE, 0, [0; 4], 0, 0),
        poke(1 | NONE, 0, [0; 4], 1, 31),
        poke(7 | NONE, 0, [0, 0, 3, 0], 0, 0),
        poke(8 | NONE, 1, [0xff; 4], 0, 0),
        poke(8 | NONE, 0, [0, 1, 0, 1], 0, 0),
        poke(9 | NONE, 1, [0xff; 4], 0, 0),
        poke(9 | NONE, 0, [0; 4], 0, 0),
        poke(12 | NONE, 0, [0; 4], 0, 0),
        poke(12 | NONE, 8, [0; 4], 0, 0),
        poke(12 | NONE, 66, [0; 4], 0, 0),
        poke(13 | NONE, 0, [0; 4], 0, 0),
    ];
    // Every register is set, and each bit of the first two is inverted.
    middles.extend((0..13).map(|pick| poke(0 | NONE, pick, [0xff, 0x0f, 0x10, 0x13], 0, 0)));
    middles.extend((0..64).map(|bit| poke(1 | NONE, bit / 32, [0; 4], 3, bit)));
    let mut seeds = Vec::new();
    let mut all = Vec::new();
    for (pixel, middle) in (0..).zip(middles) {
        let pokes = [&[start(pixel & 1), time, time, middle, acknowledge][..], &frame, &frame].concat();
        seeds.push(pokes.as_flattened().to_vec());
        all.extend(pokes.as_flattened());
    }
    // One after another: inputs of this length are tried, too.
    seeds.push(all);
    seeds
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let mut poked = Poked::new(&memory(MEMORY));
    for number in bytes.as_chunks().0 {
        poked.poke(u64::from_le_bytes(*number));
    }
    poked.check();
});
