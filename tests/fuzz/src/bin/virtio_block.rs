//! No driver makes the block device panic, hang, change the length of a raw file, make an image of qcow2 unreadable, or write outside
//! the buffers that it was given. After a reset it works.

#![no_main]

use std::{
    fs::File,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::Path,
};

use devices::virtio::block::{Block, DiskFile, Format, SECTOR};
use fuzz::{Input, Start, virtio};

/// Size of the disk in bytes.
const SIZE: u64 = 64 * SECTOR;

/// The number of its queues.
const QUEUES: u8 = 2;

thread_local! {
    static FILE: File = File::from(rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC).expect("there is memory"));
}

/// An image of an empty disk in the format qcow2: the header, the table of reference counts, a block of these, and the first table, in
/// clusters of a sector (QEMU's docs/interop/qcow2.txt).
fn image() -> Vec<u8> {
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    header.extend([0; 12]);
    header.extend(9_u32.to_be_bytes());
    header.extend(SIZE.to_be_bytes());
    header.extend([0, 1].map(u32::to_be_bytes).concat());
    header.extend([3 * SECTOR, SECTOR].map(u64::to_be_bytes).concat());
    header.extend(1_u32.to_be_bytes());
    header.extend([0; 12 + 24]);
    header.extend([4_u32, 104].map(u32::to_be_bytes).concat());
    let mut image = vec![0; 4 * SECTOR as usize];
    image[..header.len()].copy_from_slice(&header);
    image[512..520].copy_from_slice(&(2 * SECTOR).to_be_bytes());
    image[1024..1032].copy_from_slice(&[1_u16; 4].map(u16::to_be_bytes).concat());
    image
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
    FILE.with(|file| {
        // The last byte decides on the format.
        let is_image = bytes.last().is_some_and(|last| last % 2 == 1);
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let open =
            |format| DiskFile::open(Path::new(&path), Some(format), false).expect("the file is a disk");
        let disk = if is_image {
            file.set_len(0).and_then(|()| file.write_all_at(&image(), 0)).expect("there is memory");
            open(Format::Qcow2)
        } else {
            file.set_len(0).and_then(|()| file.set_len(SIZE)).expect("there is memory");
            open(Format::Raw)
        };
        let block = Block::stepped(disk, "serial", QUEUES.into());
        let mut rig = virtio::drive(block, false, bytes, &header, &mut |_| {});
        let get_id = [8_u32, 0, 0, 0].map(u32::to_le_bytes).concat();
        assert_eq!(rig.ask::<21>(0, &get_id), *b"serial\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        let read = [0_u32, 0, 5, 0].map(u32::to_le_bytes).concat();
        let before = rig.ask::<513>(0, &read);
        assert_eq!(before[512], 0, "a sector is readable");
        let flush = [4_u32, 0, 0, 0].map(u32::to_le_bytes).concat();
        assert_eq!(rig.ask::<1>(0, &flush), [0]);
        drop(rig);
        if is_image {
            let mut rig =
                virtio::drive(Block::stepped(open(Format::Qcow2), "", 1), false, &[], &header, &mut |_| {});
            assert_eq!(rig.ask::<513>(0, &read), before, "the image has what was flushed");
        } else {
            assert_eq!(file.metadata().expect("it is open").size(), SIZE, "the disk keeps its size");
        }
    });
});
