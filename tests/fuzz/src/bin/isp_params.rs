//! No buffer of the ISP's parameters makes the parser panic, changes anything if it is wrong, or lets a value through that the ISP
//! refuses.

#![no_main]

use devices::{
    camera::uapi::{self, FLAG_DISABLE, FLAG_ENABLE, PARAMS_MAX},
    media::isp::{Overrides, Params},
};
use fuzz::Start;

/// A buffer with blocks: (type, flags, body).
fn buffer(blocks: &[(u16, u16, Vec<u8>)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (kind, flags, body) in blocks {
        data.extend(kind.to_le_bytes());
        data.extend(flags.to_le_bytes());
        data.extend((body.len() as u32 + 8).to_le_bytes());
        data.extend(body);
    }
    [&1_u32.to_le_bytes()[..], &(data.len() as u32).to_le_bytes(), &data].concat()
}

/// For each block its smallest and its largest values, and its absence; and all blocks at once.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut all = Vec::new();
    for (kind, ranges) in uapi::blocks() {
        let body = |end: usize| ranges.iter().flat_map(|range| (range[end] as u16).to_le_bytes()).collect();
        for end in 0..2 {
            seeds.push(buffer(&[(kind, FLAG_ENABLE, body(end))]));
        }
        seeds.push(buffer(&[(kind, FLAG_DISABLE, Vec::new())]));
        all.push((kind, 0, body(1)));
    }
    seeds.push(buffer(&all));
    seeds
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let (mut overrides, mut params) = (Overrides::default(), Params::neutral());
    let taken = uapi::take(&mut overrides, bytes);
    overrides.apply(&mut params);
    assert_eq!(params.check(), Ok(()));
    match taken {
        Ok(length) => assert!(length <= bytes.len().min(PARAMS_MAX)),
        Err(_) => assert_eq!(params, Params::neutral()),
    }
});
