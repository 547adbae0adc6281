//! The symbols and sections of an ELF file of 64 bits, little-endian (System V ABI, chapter 4): reads only what is asked for.

use super::{LiveError, Source};

/// Sizes of an entry in the table of sections and in that of symbols.
const SECTION: usize = 64;
const SYMBOL: usize = 24;
const SHT_SYMTAB: u32 = 2;
/// The most bytes of a table of symbols or names, or of a section: a kernel has some MiB.
const TABLE_MAX: u64 = 256 << 20;

/// A section: its name in the table of names, its type, the section it refers to, and its place in the file.
#[derive(Debug, Clone, Copy)]
struct Section {
    name: u32,
    kind: u32,
    link: u32,
    offset: u64,
    size: u64,
}

/// An ELF file.
pub struct Elf<'a> {
    file: &'a dyn Source,
    sections: Vec<Section>,
    names: Option<Section>,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl<'a> Elf<'a> {
    /// Reads the table of sections.
    ///
    /// # Errors
    /// If it is no such file.
    pub fn read(file: &'a dyn Source) -> Result<Self, LiveError> {
        let mut header = [0; 64];
        let is_elf = file.read(0, &mut header) && header.starts_with(b"\x7fELF\x02\x01");
        if !is_elf || usize::from(u16_at(&header, 58)) != SECTION {
            return Err(LiveError::Symbols("the file is not an ELF file of 64 bits with sections"));
        }
        let mut table = vec![0; usize::from(u16_at(&header, 60)) * SECTION];
        if !file.read(u64_at(&header, 40), &mut table) {
            return Err(LiveError::Symbols("the ELF file is truncated"));
        }
        let section = |entry: &[u8]| Section {
            name: u32_at(entry, 0),
            kind: u32_at(entry, 4),
            link: u32_at(entry, 40),
            offset: u64_at(entry, 24),
            size: u64_at(entry, 32),
        };
        let sections: Vec<Section> = table.chunks_exact(SECTION).map(section).collect();
        let names = sections.get(usize::from(u16_at(&header, 62))).copied();
        Ok(Self { file, sections, names })
    }

    /// The content of the section `name`, if there is one in the file.
    pub fn section(&self, name: &str) -> Option<Vec<u8>> {
        let names = self.content(&self.names?)?;
        let is_named = |section: &&Section| {
            let rest = names.get(section.name as usize..).unwrap_or_default();
            rest.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
        };
        self.content(self.sections.iter().find(is_named)?)
    }

    /// The values of the symbols `wanted`, of which each can be absent.
    ///
    /// # Errors
    /// If there is no table of symbols.
    pub fn symbols<const N: usize>(&self, wanted: [&str; N]) -> Result<[Option<u64>; N], LiveError> {
        let stripped = LiveError::Symbols("the file has no table of symbols; name an unstripped vmlinux");
        let symbols =
            self.sections.iter().find(|section| section.kind == SHT_SYMTAB).ok_or(stripped.clone())?;
        let names = self.sections.get(symbols.link as usize).and_then(|names| self.content(names));
        let (Some(symbols), Some(names)) = (self.content(symbols), names) else { return Err(stripped) };
        let mut found = [None; N];
        for symbol in symbols.chunks_exact(SYMBOL) {
            let rest = names.get(u32_at(symbol, 0) as usize..).unwrap_or_default();
            for (value, name) in found.iter_mut().zip(wanted) {
                let is_it = rest.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0));
                if is_it && value.is_none() {
                    *value = Some(u64_at(symbol, 8));
                }
            }
        }
        Ok(found)
    }

    fn content(&self, section: &Section) -> Option<Vec<u8>> {
        const PIECE: usize = 1 << 16;
        let size = usize::try_from(section.size).ok().filter(|_| section.size <= TABLE_MAX)?;
        let mut content = Vec::new();
        // A size that the file does not have takes no memory.
        while content.len() < size {
            let (done, piece) = (content.len(), PIECE.min(size - content.len()));
            content.resize(done + piece, 0);
            if !self.file.read(section.offset.checked_add(done as u64)?, &mut content[done..]) {
                return None;
            }
        }
        Some(content)
    }
}
