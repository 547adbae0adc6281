//! No sequence of stores and loads makes the camera panic, hang, or write outside the posted buffers. After a reset it streams. The
//! camera is stepped: accesses come also while it makes a frame, and its time is the input's.

#![no_main]

#[path = "../../../../devices/tests/pokes/mod.rs"]
mod pokes;

use fuzz::{Start, guest::memory};
use pokes::{MEMORY, Poked};

/// The cameras. An input selects one by its first byte.
const CAMERAS: [&str; 3] = ["timing=stall", "timing=free,fps=1000", "timing=stall,noise=no"];

/// Streams of frames with and without statistics and parameters, with and without time between them, and resets in the middle.
fn seeds() -> Vec<Vec<u8>> {
    // `what` has two bits for the step of the camera.
    const RUN: u8 = 2 << 6;
    const BEGIN: u8 = 0;
    const FINISH: u8 = 1 << 6;
    let enable = [9, 0, 15, 0, 0, 0, 0, 0];
    let acknowledge = [10 | RUN, 0, 0, 0, 0, 0, 0, 0];
    let mut seeds = Vec::new();
    for camera in 0..CAMERAS.len() as u8 {
        for format in 0..28 {
            let frame = [18, 0, 0, 0x80, 0, 0, format, 0];
            let time = [15 | RUN, 0, 255, 0, 0, 0, 0, 0];
            let mut seed = vec![camera];
            for poke in [enable, frame, time, acknowledge, frame, time, acknowledge] {
                seed.extend(poke);
            }
            seeds.push(seed);
        }
        let (frame, statistics) = ([18, 0, 0, 0x80, 0, 0, 0, 0], [16, 0, 0, 0x80, 2, 0, 0, 0]);
        let params = [17, 0, 0, 0x80, 3, 0, 1, 1];
        let time = [15 | BEGIN, 0, 255, 0, 0, 0, 0, 0];
        let reset = [13, 0, 0, 0, 0, 0, 0, 0];
        let mut seed = vec![camera];
        for poke in
            [enable, statistics, params, frame, time, [10 | FINISH, 0, 0, 0, 0, 0, 0, 0], frame, time, reset]
        {
            seed.extend(poke);
        }
        seed.extend([10 | FINISH, 0, 0, 0, 0, 0, 0, 0]);
        seeds.push(seed);
    }
    seeds
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let memory = memory(MEMORY);
    let mut poked = Poked::new(CAMERAS[usize::from(first & 0x7f) % CAMERAS.len()], &memory, true);
    for number in rest.as_chunks().0 {
        poked.poke(u64::from_le_bytes(*number));
    }
    // A frame takes as long as all the rest of most inputs.
    poked.check(first & 0x80 == 0);
});
