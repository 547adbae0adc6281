//! No driver makes the block device panic, hang, change the length of its file, or write outside the buffers that it was given. After
//! a reset it works.

#![no_main]

use std::{fs::File, os::unix::fs::MetadataExt as _};

use devices::virtio::block::{Block, DiskFile, SECTOR};
use fuzz::{Input, Start, virtio};

/// Size of the disk in bytes.
const SIZE: u64 = 64 * SECTOR;

/// The number of its queues.
const QUEUES: u8 = 2;

thread_local! {
    static FILE: File = File::from(rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC).expect("there is memory"));
}

/// A header: a type of request, and a sector mostly of the disk.
fn header(input: &mut Input<'_>) -> Vec<u8> {
    let [kind, sector, far] = input.array();
    let kind = [0, 1, 4, 8, 11, 13, u32::from(kind), 0][usize::from(kind % 8)];
    let far = if far == 0xff { u64::from(input.word()) << 32 } else { 0 };
    let mut header = [kind, 0].map(u32::to_le_bytes).concat();
    header.extend((u64::from(sector % 80) + far).to_le_bytes());
    if matches!(kind, 11 | 13) {
        // A range to discard or to zero.
        let [sector, count, flags, length] = input.array();
        header.extend(u64::from(sector % 80).to_le_bytes());
        header.extend([u32::from(count), u32::from(flags % 3)].map(u32::to_le_bytes).concat());
        header.truncate(header.len() - usize::from(length % 16 / 15));
    }
    header
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (kind, range) in [(0, &[][..]), (1, &[]), (2, &[]), (3, &[]), (4, &[3, 2, 0, 0]), (5, &[3, 2, 1, 0])]
    {
        let request = [&[kind, 1, 0], range].concat();
        seeds.extend(virtio::seeds(QUEUES, &request));
        // A whole sector to read or write, and the status.
        let mut seed = vec![2, 0x80, 7, 0];
        seed.extend(&request);
        let data = u8::from(kind == 0) | 0x10;
        seed.extend([2, 0, 1, data, 0, 0x20, 0, 2, 1, 0, 0x24, 1]);
        seeds.push(seed);
    }
    seeds
}

fuzz::target!(Start { seeds: seeds(), ..Start::default() }, |bytes| {
    let file = FILE.with(|file| {
        file.set_len(0).and_then(|()| file.set_len(SIZE)).expect("there is memory");
        file.try_clone().expect("there are descriptors")
    });
    let block = Block::stepped(DiskFile::raw(file, SIZE), "serial", QUEUES.into());
    let mut rig = virtio::drive(block, false, bytes, &header, &mut |_| {});
    let length = FILE.with(|file| file.metadata().expect("it is open").size());
    assert_eq!(length, SIZE, "the disk keeps its size");
    let get_id = [8_u32, 0, 0, 0].map(u32::to_le_bytes).concat();
    assert_eq!(rig.ask::<21>(0, &get_id), *b"serial\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
});
