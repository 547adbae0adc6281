//! The scratch disk for the guest's /out: an unnamed sparse file beside the folder of `--out`, with an empty ext4 file system.
//!
//! The file system is written here and not by a program in the guest, because then it takes the guest no time. All of the file is a
//! hole but the first blocks: inode tables are zero, and the bitmaps of the groups after the first are marked as not written
//! (uninit_bg). The layout is described in the kernel's Documentation/filesystems/ext4.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

/// The name by which the guest's init finds the disk.
pub const SERIAL: &str = "minivmm-out";

/// Size of a block in bytes.
const BLOCK: u64 = 4096;
/// Blocks in a group: as many as one block of a bitmap describes.
const GROUP_BLOCKS: u64 = 8 * BLOCK;
/// Size of a group, the unit of the disk's size, in bytes.
const GROUP: u64 = GROUP_BLOCKS * BLOCK;
/// The largest disk. Larger ones would take longer to mount.
const SIZE_MAX: u64 = 64 << 30;
/// Inodes in a group: one for each 16 KiB.
const GROUP_INODES: u64 = 8192;
const INODE_BYTES: u64 = 256;
const TABLE_BLOCKS: u64 = GROUP_INODES * INODE_BYTES / BLOCK;
const DESCRIPTOR_BYTES: u64 = 32;

/// The root folder's inode. Those before the first one that is free are reserved.
const ROOT_INODE: u32 = 2;
const FIRST_INODE: u32 = 11;
const USED_INODES: u64 = 10;

/// bg_flags: the bitmap of inodes, and that of blocks, is not written; the inode table is zero.
const INODE_UNINIT: u16 = 1 << 0;
const BLOCK_UNINIT: u16 = 1 << 1;
const INODE_ZEROED: u16 = 1 << 2;

/// s_feature_compat: dir_index.
const COMPATIBLE: u32 = 1 << 5;
/// s_feature_incompat: filetype, extents.
const INCOMPATIBLE: u32 = 1 << 1 | 1 << 6;
/// s_feature_ro_compat: sparse_super, large_file, huge_file, gdt_csum, dir_nlink, extra_isize.
const READ_ONLY_COMPATIBLE: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6;

const UUID: [u8; 16] = *b"minivmm's /out..";

/// Creates the disk beside `folder`. Returns it with its size in bytes.
///
/// # Errors
/// If the folder cannot be written.
pub fn create(folder: &Path) -> io::Result<(File, u64)> {
    let file = tempfile::tempfile_in(folder)?;
    let size = size_beside(folder)?;
    format(&file, size)?;
    Ok((file, size))
}

/// The size of a disk beside `folder`, in bytes: at most half of the space that is free there, because at the end its files are in
/// the folder, too.
///
/// # Errors
/// If the host does not say how much space is free.
pub fn size_beside(folder: &Path) -> io::Result<u64> {
    // By the folder, and not by the file: without a name, a file on a 9p share such as the lab's has no metadata.
    let free = rustix::fs::statvfs(folder)?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    Ok((free / 2).clamp(GROUP, SIZE_MAX) / GROUP * GROUP)
}

/// Writes an empty file system of `size` bytes, whole groups, to the empty `file`.
///
/// # Errors
/// If the file cannot be written.
pub fn format(file: &File, size: u64) -> io::Result<()> {
    // This gives the file its length, on a 9p share too.
    file.write_all_at(&[0], size - 1)?;
    file.write_all_at(&first_blocks(size / GROUP), 0)
}

/// Where the parts of a group are.
struct Group {
    block_bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
    /// The number of blocks that are in use.
    used_blocks: u64,
}

impl Group {
    /// The group `index` of `groups`.
    fn new(index: u64, groups: u64) -> Self {
        let copy = if has_superblock(index) { 1 + descriptor_blocks(groups) } else { 0 };
        let block_bitmap = index * GROUP_BLOCKS + copy;
        let inode_bitmap = block_bitmap + 1;
        // The root folder's block comes before the first inode table, so that all that is not zero is in one piece.
        let root = u64::from(index == 0);
        let inode_table = inode_bitmap + 1 + root;
        Self { block_bitmap, inode_bitmap, inode_table, used_blocks: copy + 2 + root + TABLE_BLOCKS }
    }
}

/// Whether a group begins with a copy of the superblock and the descriptors (sparse_super): groups 0, 1, and powers of 3, 5 and 7.
fn has_superblock(index: u64) -> bool {
    let is_power_of = |base: u64| {
        let mut power = base;
        while power < index {
            power *= base;
        }
        power == index
    };
    index < 2 || [3, 5, 7].into_iter().any(is_power_of)
}

fn descriptor_blocks(groups: u64) -> u64 {
    (groups * DESCRIPTOR_BYTES).div_ceil(BLOCK)
}

/// The blocks of the file system up to the root's inode. The rest is zero.
fn first_blocks(groups: u64) -> Vec<u8> {
    let first = Group::new(0, groups);
    let mut image = vec![0; at(first.inode_table + 1)];
    let free_blocks: u64 =
        (0..groups).map(|index| GROUP_BLOCKS - Group::new(index, groups).used_blocks).sum();
    superblock(&mut image[1024..2048], groups, free_blocks);
    for index in 0..groups {
        let start = at(1) + at_byte(index * DESCRIPTOR_BYTES);
        descriptor(&mut image[start..start + at_byte(DESCRIPTOR_BYTES)], index, groups);
    }
    set_bits(&mut image[at(first.block_bitmap)..], 0..first.used_blocks);
    let inodes = &mut image[at(first.inode_bitmap)..];
    set_bits(inodes, 0..USED_INODES);
    // There are no inodes for the rest of the block.
    set_bits(inodes, GROUP_INODES..8 * BLOCK);

    // The root folder: its entries `.` and `..`, and its inode.
    let root = first.inode_bitmap + 1;
    for (offset, length, name) in [(0, 12, &b"."[..]), (12, low16(BLOCK) - 12, b"..")] {
        let entry = &mut image[at(root) + offset..];
        put(entry, 0, &ROOT_INODE.to_le_bytes());
        put(entry, 4, &length.to_le_bytes());
        // Length of the name; the type: a folder.
        put(entry, 6, &[name.len().to_le_bytes()[0], 2]);
        put(entry, 8, name);
    }
    let inode = &mut image[at(first.inode_table) + at_byte(u64::from(ROOT_INODE - 1) * INODE_BYTES)..];
    put(inode, 0, &0o040_755_u16.to_le_bytes());
    put(inode, 4, &low32(BLOCK).to_le_bytes());
    // Links; length in sectors; the block; the inode's additional fields.
    put(inode, 26, &2_u16.to_le_bytes());
    put(inode, 28, &8_u32.to_le_bytes());
    put(inode, 40, &low32(root).to_le_bytes());
    put(inode, 128, &32_u16.to_le_bytes());
    image
}

/// struct ext4_super_block.
fn superblock(to: &mut [u8], groups: u64, free_blocks: u64) {
    let numbers: [(usize, u32); 20] = [
        (0x00, low32(groups * GROUP_INODES)),
        (0x04, low32(groups * GROUP_BLOCKS)),
        (0x0c, low32(free_blocks)),
        (0x10, low32(groups * GROUP_INODES - USED_INODES)),
        // The size of blocks and clusters: 1024 << 2.
        (0x18, 2),
        (0x1c, 2),
        (0x20, low32(GROUP_BLOCKS)),
        (0x24, low32(GROUP_BLOCKS)),
        (0x28, low32(GROUP_INODES)),
        // No check is due after any number of mounts.
        (0x34, 0xffff_0000),
        // The magic number; a clean file system.
        (0x38, 0x0001_ef53),
        // After errors, go on.
        (0x3c, 1),
        // Revision 1.
        (0x4c, 1),
        (0x54, FIRST_INODE),
        (0x58, low32(INODE_BYTES)),
        (0x5c, COMPATIBLE),
        (0x60, INCOMPATIBLE),
        (0x64, READ_ONLY_COMPATIBLE),
        // The least and the wanted length of an inode's additional fields.
        (0x15c, 32 << 16 | 32),
        // s_flags: signed hashes of folders.
        (0x160, 1),
    ];
    for (offset, number) in numbers {
        put(to, offset, &number.to_le_bytes());
    }
    put(to, 0x68, &UUID);
    put(to, 0x78, SERIAL.as_bytes());
    // The hash of folders: half MD4.
    put(to, 0xfc, &[1]);
}

/// struct ext4_group_desc.
fn descriptor(to: &mut [u8], index: u64, groups: u64) {
    let Group { block_bitmap, inode_bitmap, inode_table, used_blocks } = Group::new(index, groups);
    let used_inodes = if index == 0 { USED_INODES } else { 0 };
    let flags = if index == 0 { INODE_ZEROED } else { INODE_ZEROED | INODE_UNINIT | BLOCK_UNINIT };
    let free_inodes = low16(GROUP_INODES - used_inodes);
    for (offset, block) in [(0, block_bitmap), (4, inode_bitmap), (8, inode_table)] {
        put(to, offset, &low32(block).to_le_bytes());
    }
    // Among them the number of folders, and that of the inodes at the end of the table that were never used.
    let numbers = [
        (12, low16(GROUP_BLOCKS - used_blocks)),
        (14, free_inodes),
        (16, u16::from(index == 0)),
        (18, flags),
        (28, free_inodes),
    ];
    for (offset, number) in numbers {
        put(to, offset, &number.to_le_bytes());
    }
    let checksum = crc16(crc16(crc16(0xffff, &UUID), &low32(index).to_le_bytes()), &to[..30]);
    put(to, 30, &checksum.to_le_bytes());
}

/// The kernel's crc16 (lib/crc16.c).
fn crc16(start: u16, data: &[u8]) -> u16 {
    data.iter().fold(start, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xa001 } else { 0 })
    })
}

fn put(to: &mut [u8], offset: usize, bytes: &[u8]) {
    to[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn set_bits(bitmap: &mut [u8], bits: std::ops::Range<u64>) {
    for bit in bits {
        bitmap[at_byte(bit / 8)] |= 1 << (bit % 8);
    }
}

/// Where `block` begins in the image.
fn at(block: u64) -> usize {
    at_byte(block * BLOCK)
}

// The numbers of a disk of at most SIZE_MAX bytes fit.

fn at_byte(byte: u64) -> usize {
    usize::try_from(byte).expect("the first blocks are few")
}

fn low32(number: u64) -> u32 {
    u32::try_from(number).expect("block numbers have 32 bits")
}

fn low16(number: u64) -> u16 {
    u16::try_from(number).expect("numbers in a group have 16 bits")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn checksums_are_the_kernels() {
        // The check value of CRC-16/ARC and of CRC-16/MODBUS.
        assert_eq!((crc16(0, b"123456789"), crc16(0xffff, b"123456789")), (0xbb3d, 0x4b37));
    }

    #[test]
    fn copies_of_the_superblock_are_in_few_groups() {
        let with: Vec<u64> = (0..400).filter(|index| has_superblock(*index)).collect();
        assert_eq!(with, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343]);
    }

    #[test]
    fn a_disk_is_a_hole_with_a_few_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let (file, size) = create(folder.path()).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.len(), size % GROUP), (size, 0));
        // A file system of huge pages, as the lab's, has a page of 2 MiB for each written piece.
        assert!(size >= GROUP && metadata.blocks() * 512 <= 4 * (2 << 20), "{metadata:?}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "it has no name");
    }
}
