//! No sequence of stores and loads makes the JPEG encoder `vepu` panic, hang, grow, or write outside its window. After a reset it encodes a
//! picture. The encoder is stepped: accesses come also while it encodes.

#![no_main]

#[path = "../../../../devices/tests/pokes/vepu.rs"]
mod vepu;

use fuzz::{Start, guest::memory};
use vepu::{MEMORY, Poked};

/// Pictures of each format and of sizes that do not fit, and what can come in the middle of one.
fn seeds() -> Vec<Vec<u8>> {
    // The upper two bits of the first byte step the encoder.
    const BEGIN: u8 = 0;
    const FINISH: u8 = 1 << 6;
    const NONE: u8 = 3 << 6;
    let poke = |what: u8, pick: u8, [a, b, c, d]: [u8; 4], e: u8, f: u8| [what, pick, a, b, c, d, e, f];
    let encode = |format: u8, size: u8| poke(5 | NONE, format, [0, 0x50, 0, 1], size, 0);
    let work = poke(4 | BEGIN, 0, [0; 4], 0, 0);
    let acknowledge = poke(9 | FINISH, 0, [0; 4], 0, 0);
    let mut middles = vec![
        poke(0 | NONE, 11, [0; 4], 0, 0),
        poke(2 | NONE, 0, [0, 0, 3, 0], 0, 0),
        poke(8 | NONE, 3, [0xff; 4], 0, 0),
        poke(10 | NONE, 0, [0; 4], 0, 0),
        poke(10 | NONE, 16, [0; 4], 0, 0),
        poke(10 | NONE, 200, [0; 4], 0, 0),
        poke(11 | NONE, 0, [0x21, 0xff, 0xff, 0xff], 0, 0),
        poke(11 | NONE, 0, [0x61, 1, 0x10, 0], 0, 0),
    ];
    // Every register is set.
    middles.extend((0..14).map(|pick| poke(0 | NONE, pick, [0xff, 0x0f, 0x10, 0x13], 0, 0)));
    let mut seeds = Vec::new();
    let mut all = Vec::new();
    for (format, middle) in (0..).zip(middles) {
        let picture = [encode(format, 0x42), work, acknowledge];
        let pokes = [&[encode(format, 0x21), work, middle, acknowledge][..], &picture, &picture].concat();
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
