use std::os::unix::fs::MetadataExt as _;

use vm_memory::GuestAddress;

use super::*;
use crate::boot::memory;

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The program headers: type, offset, virtual and physical address, length.
fn program_headers(core: &[u8]) -> Vec<(u32, u64, u64, u64, u64)> {
    let count = usize::from(u16::from_le_bytes([core[56], core[57]]));
    let header = |index: usize| {
        let at = 64 + 56 * index;
        let kind = u32::from_le_bytes(core[at..at + 4].try_into().unwrap());
        assert_eq!(word(core, at + 32), word(core, at + 40));
        (kind, word(core, at + 8), word(core, at + 16), word(core, at + 24), word(core, at + 32))
    };
    (0..count).map(header).collect()
}

#[test]
fn a_dump_has_the_memory_with_holes_and_the_registers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let ram = [0x10_0000..0x90_0000, 0x1_0000_0000..0x1_0080_0000];
    let memory = memory::create(&ram, false).unwrap();
    memory.write_slice(b"first", GuestAddress(0x10_0000)).unwrap();
    memory.write_slice(b"second", GuestAddress(0x1_0030_1ffd)).unwrap();
    let info =
        [&11_u32.to_le_bytes()[..], &18_u32.to_le_bytes(), &[0; 4], b"VMCOREINFO\0\0OSRELEASE=6.1.172\n"];
    memory.write_slice(&info.concat(), GuestAddress(0x40_3000)).unwrap();

    let dump = MemoryDump::open(&path).unwrap();
    assert!(!path.exists());
    let mut registers = [[0; arch::CORE_REGISTERS]; 2];
    registers[1][5] = 0x1234_5678_9abc_def0;
    dump.write(&memory, &registers, None).unwrap();

    let core = fs::read(&path).unwrap();
    assert_eq!(core[..7], *b"\x7fELF\x02\x01\x01");
    assert_eq!((core[16], u16::from_le_bytes([core[18], core[19]])), (4, arch::ELF_MACHINE));
    let headers = program_headers(&core);
    let [(4, notes, 0, 0, length), (1, low, 0, 0x10_0000, 0x80_0000), (1, high, 0, 0x1_0000_0000, 0x80_0000)] =
        headers[..]
    else {
        panic!("{headers:#x?}")
    };
    assert_eq!((low % 4096, high - low, core.len() as u64), (0, 0x80_0000, high + 0x80_0000));
    let at = |place: u64, length: usize| &core[usize::try_from(place).unwrap()..][..length];
    assert_eq!(at(low, 5), b"first");
    assert_eq!(at(high + 0x30_1ffd, 6), b"second");
    assert_eq!(
        core.iter().skip(usize::try_from(low).unwrap()).filter(|byte| **byte != 0).count(),
        5 + 6 + 1 + 1 + 28
    );

    let notes = at(notes, usize::try_from(length).unwrap());
    let status = 12 + 8 + 112 + arch::CORE_REGISTERS * 8 + 8;
    assert_eq!(notes[12..20], *b"CORE\0\0\0\0");
    assert_eq!((notes[20 + 32], notes[status + 20 + 32]), (1, 2));
    assert_eq!(word(notes, status + 20 + 112 + 5 * 8), 0x1234_5678_9abc_def0);
    assert_eq!(notes[2 * status..2 * status + 4], 11_u32.to_le_bytes());
    assert_eq!(notes[2 * status + 24..2 * status + 42], *b"OSRELEASE=6.1.172\n");

    let metadata = fs::metadata(&path).unwrap();
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    assert_eq!(metadata.mode() & 0o777, 0o600);
}

#[test]
fn a_dump_that_is_not_written_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    fs::write(&path, "old").unwrap();
    drop(MemoryDump::open(&path).unwrap());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    let error = MemoryDump::open(folder.path()).unwrap_err().to_string();
    assert_eq!(error, "it is not a regular file");
    assert!(MemoryDump::open(&path.join("core")).is_err());
}

#[test]
fn all_memory_has_a_segment_and_runs_have_addresses() {
    let run = |address, physical, length| Run { address, physical, length };
    let runs = [
        run(0xffff_0000, 0x1800, 0x1000),
        // A device, and memory in part.
        run(0xffff_8000, 0x5000, 0x1000),
        run(0xffff_a000, 0x2800, 0x2000),
        // The same memory again, and the end of addresses.
        run(0xffff_f000, 0x2000, 0x800),
        run(0, u64::MAX - 10, 100),
    ];
    let load = |address, physical, length, place| Load { address, physical, length, place };
    assert_eq!(
        loads(&[0x1000..0x3000, 0x8000..0x9000], &runs),
        [
            load(0xffff_0000, 0x1800, 0x1000, 0x800),
            load(0xffff_a000, 0x2800, 0x800, 0x1800),
            load(0xffff_f000, 0x2000, 0x800, 0x1000),
            load(0, 0x1000, 0x800, 0),
            load(0, 0x8000, 0x1000, 0x2000),
        ]
    );
}
