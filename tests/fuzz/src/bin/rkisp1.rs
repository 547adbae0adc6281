//! No sequence of stores and loads makes the camera `rkisp1` panic, hang, grow, or write outside the memory that it may write. After a
//! reset it streams. The camera is stepped: accesses come also while it makes a frame, and its time is the input's.

#![no_main]

#[path = "../../../../devices/tests/pokes/rkisp1.rs"]
mod rkisp1;

use fuzz::{Start, guest::memory};
use rkisp1::{MEMORY, Poked};

/// The cameras. An input selects one by its first byte.
const CAMERAS: [&str; 3] = ["scene=gradient", "scene=flat,noise=no", "sensor=imx290,scene=gradient"];

/// Frames of each format of the two paths, with blocks that are on, with a resizer, and with a reset, a stop and a view in the middle.
fn seeds() -> Vec<Vec<u8>> {
    // The upper two bits of the first byte step the camera.
    const BEGIN: u8 = 0;
    const FINISH: u8 = 1 << 6;
    const NONE: u8 = 3 << 6;
    const START: u8 = 14;
    let address = [0, 0x60, 0, 0];
    let poke = |what: u8, pick: u8, [a, b, c, d]: [u8; 4], e: u8, f: u8| [what, pick, a, b, c, d, e, f];
    let start = |formats: u8, second: u8, range: u8| poke(START | NONE, formats, address, second, range);
    let time = poke(13 | BEGIN, 100, [0; 4], 0, 0);
    let acknowledge = poke(12 | FINISH, 0, [0; 4], 0, 0);
    // The first look starts the sensor's clock.
    let frame = [time, time, acknowledge];
    let mut seeds = Vec::new();
    for formats in 0..64 {
        for second in [0, 1] {
            let pokes = [&[start(formats << 1 | second, second, formats << 2)][..], &frame, &frame].concat();
            seeds.push([&[formats % 3][..], pokes.as_flattened()].concat());
        }
    }
    // Every register, beside a frame; what goes wrong in the middle of one.
    for first in (0..=u8::MAX).step_by(16) {
        let block = |pick: u8| poke(1 | NONE, pick, [0xff, 0x01, 0x10, 0x13], u8::from(first >= 128), 0);
        let blocks: Vec<_> = (first..=first + 15).map(block).collect();
        let pokes = [&[start(0, 1, 0)][..], &blocks, &frame].concat();
        seeds.push([&[0][..], pokes.as_flattened()].concat());
    }
    let middles = [
        poke(15 | NONE, 0, [0; 4], 0, 0),
        poke(15 | NONE, 8, [0; 4], 0, 0),
        poke(11 | NONE, 0, [0, 2, 0, 0], 0, 0),
        poke(18 | NONE, 1, [0; 4], 0, 0),
        poke(17 | NONE, 0, [0; 4], 0, 0),
        poke(19 | NONE, 0, [0, 0x80, 0x40, 0x20], 0x0f, 0),
        poke(19 | NONE, 1, [0, 0x80, 0x40, 0x20], 0xff, 0),
        poke(16 | NONE, 2, [0xff; 4], 0, 0),
        poke(20 | NONE, 4, [40, 8, 0xff, 0], 2, 0),
        poke(7 | NONE, 3, [1; 4], 0x1d, 3),
        poke(8 | NONE, 0, [2, 0, 0, 0], 6, 0),
        poke(21 | NONE, 0, [0; 4], 0, 0),
    ];
    let mut all = vec![0];
    for middle in middles {
        let pokes = [&[start(2, 1, 0), time, time, middle, acknowledge][..], &frame, &frame].concat();
        seeds.push([&[1][..], pokes.as_flattened()].concat());
        all.extend(pokes.as_flattened());
    }
    // One after another: inputs of this length are tried, too.
    seeds.push(all);
    seeds
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let memory = memory(MEMORY);
    let mut poked = Poked::new(CAMERAS[usize::from(*first) % CAMERAS.len()], &memory);
    for number in rest.as_chunks().0 {
        poked.poke(u64::from_le_bytes(*number));
    }
    poked.check();
});
