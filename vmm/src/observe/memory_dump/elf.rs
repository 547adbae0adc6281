//! The headers and notes of an ELF core of 64 bits (System V ABI, chapters 4 and 5; Linux's include/uapi/linux/elf.h and elfcore.h).

use crate::arch;

/// The sizes of the file's header and of a program header.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const READ_WRITE_EXECUTE: u32 = 7;
const NT_PRSTATUS: u32 = 1;

/// Memory in the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Load {
    /// Its first virtual address; 0 if it has none.
    pub address: u64,
    /// Its first physical address.
    pub physical: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its place in the memory of the core, which follows the headers.
    pub place: u64,
}

/// A note: its name and type, and its content.
fn note(name: &str, kind: u32, content: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    let mut note = [length(name.len() + 1), length(content.len()), kind.to_le_bytes()].concat();
    for part in [&[name.as_bytes(), &[0]].concat(), content] {
        note.extend(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

/// The note with the registers of the vCPU `index`, in Linux's elf_prstatus.
pub(super) fn status(index: u8, registers: &[u64; arch::CORE_REGISTERS]) -> Vec<u8> {
    const PID: usize = 32;
    const REGISTERS: usize = 112;
    let mut status = vec![0; REGISTERS];
    // gdb tells threads apart by their numbers.
    status[PID..PID + 4].copy_from_slice(&(u32::from(index) + 1).to_le_bytes());
    status.extend(registers.iter().flat_map(|register| register.to_le_bytes()));
    // pr_fpvalid, and the end of the structure.
    status.extend([0; 8]);
    note("CORE", NT_PRSTATUS, &status)
}

/// The note with what the kernel says of itself.
pub(super) fn vmcoreinfo(text: &[u8]) -> Vec<u8> {
    note("VMCOREINFO", 0, text)
}

/// All that comes before the memory: whole pages of `page` bytes.
pub(super) fn headers(notes: &[u8], loads: &[Load], page: u64) -> Vec<u8> {
    let count = loads.len() + 1;
    let notes_at = HEADER + count * PROGRAM_HEADER;
    let memory_at = ((notes_at + notes.len()) as u64).next_multiple_of(page);
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    let half = |value: u16, bytes: &mut Vec<u8>| bytes.extend(value.to_le_bytes());
    half(ET_CORE, &mut bytes);
    half(arch::ELF_MACHINE, &mut bytes);
    bytes.extend(1_u32.to_le_bytes());
    // The entry point, the place of the program headers, that of section headers, and the flags.
    for word in [0, HEADER as u64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    let short = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
    for value in [HEADER, PROGRAM_HEADER, count, 0, 0, 0] {
        half(short(value), &mut bytes);
    }
    let mut program_header = |kind: u32, flags: u32, words: [u64; 6]| {
        bytes.extend([kind.to_le_bytes(), flags.to_le_bytes()].concat());
        bytes.extend(words.into_iter().flat_map(u64::to_le_bytes));
    };
    let length = notes.len() as u64;
    program_header(PT_NOTE, 0, [notes_at as u64, 0, 0, length, length, 4]);
    for Load { address, physical, length, place } in loads {
        let words = [memory_at + place, *address, *physical, *length, *length, page];
        program_header(PT_LOAD, READ_WRITE_EXECUTE, words);
    }
    bytes.extend(notes);
    bytes.resize(usize::try_from(memory_at).unwrap_or(bytes.len()), 0);
    bytes
}
