//! Reads the memory dump of a guest: the registers of its vCPUs, and its memory by the kernel's addresses.

use std::{
    fs::File,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

use cma::live::elf::Elf;
use vmm::arch::{CORE_REGISTERS, ELF_MACHINE};

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// The place of the registers in elf_prstatus (include/linux/elfcore.h).
const REGISTERS: usize = 112;

/// A memory dump.
pub struct CoreDump {
    file: File,
    /// The place in the file, the virtual address and the length of each segment.
    segments: Vec<(u64, u64, u64)>,
    /// The registers of each vCPU.
    pub registers: Vec<Vec<u64>>,
    /// What the kernel says of itself.
    pub vmcoreinfo: String,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("it is 8 bytes"))
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("it is 4 bytes"))
}

impl CoreDump {
    /// The dump in the file `path`.
    ///
    /// # Panics
    /// If it is no ELF core of this architecture.
    pub fn open(path: &Path) -> Self {
        let file = File::open(path).expect("there is a dump");
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).expect("it has a header");
        let machine = u16::from_le_bytes([header[18], header[19]]);
        assert!(header.starts_with(b"\x7fELF\x02\x01") && header[16] == 4 && machine == ELF_MACHINE);
        let count = usize::from(u16::from_le_bytes([header[56], header[57]]));
        let mut headers = vec![0; count * PROGRAM_HEADER];
        file.read_exact_at(&mut headers, HEADER as u64).expect("it has program headers");
        let mut core = Self { file, segments: Vec::new(), registers: Vec::new(), vmcoreinfo: String::new() };
        for header in headers.chunks(PROGRAM_HEADER) {
            let (place, address, length) = (word(header, 8), word(header, 16), word(header, 32));
            match half(header, 0) {
                PT_LOAD => core.segments.push((place, address, length)),
                PT_NOTE => {
                    let mut notes = vec![0; usize::try_from(length).expect("it is short")];
                    core.file.read_exact_at(&mut notes, place).expect("it has notes");
                    core.read_notes(&notes);
                }
                kind => panic!("a segment of type {kind}"),
            }
        }
        core
    }

    fn read_notes(&mut self, mut notes: &[u8]) {
        while !notes.is_empty() {
            let (name, content, kind) = (half(notes, 0) as usize, half(notes, 4) as usize, half(notes, 8));
            let content_at = 12 + name.next_multiple_of(4);
            let content_here = &notes[content_at..content_at + content];
            match (&notes[12..12 + name], kind) {
                (b"CORE\0", 1) => {
                    let registers = content_here[REGISTERS..].chunks(8).take(CORE_REGISTERS);
                    self.registers.push(registers.map(|register| word(register, 0)).collect());
                }
                (b"VMCOREINFO\0", 0) => self.vmcoreinfo = String::from_utf8_lossy(content_here).into_owned(),
                (name, kind) => panic!("a note {name:?} of type {kind}"),
            }
            notes = &notes[content_at + content.next_multiple_of(4)..];
        }
    }

    /// The bytes at a virtual address, if the dump has them.
    pub fn read(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let is_in = |(_, start, size): &&(u64, u64, u64)| {
            *start != 0 && address >= *start && address - start + length as u64 <= *size
        };
        let (place, start, _) = self.segments.iter().find(is_in)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, place + (address - start)).ok()?;
        Some(bytes)
    }

    /// The number at a virtual address.
    ///
    /// # Panics
    /// If the dump does not have it.
    #[track_caller]
    pub fn number(&self, address: u64) -> u64 {
        let bytes = self.read(address, 8).unwrap_or_else(|| panic!("the dump lacks {address:#x}"));
        word(&bytes, 0)
    }

    /// The length of the file, and the bytes that it takes on its disk.
    ///
    /// # Panics
    /// If the file is gone.
    pub fn sizes(&self) -> (u64, u64) {
        let metadata = self.file.metadata().expect("the file is open");
        (metadata.len(), metadata.blocks() * 512)
    }
}

/// The addresses of the symbols of the kernel in the file `path`.
///
/// # Panics
/// If it lacks one.
pub fn symbols<const N: usize>(path: &Path, names: [&str; N]) -> [u64; N] {
    let file = File::open(path).expect("there are symbols");
    let read = |at: u64, to: &mut [u8]| file.read_exact_at(to, at).is_ok();
    let found = Elf::read(&read).and_then(|elf| elf.symbols(names)).expect("it has symbols");
    found.map(|address| address.expect("it has the symbol"))
}
