//! The layouts of structures, from the kernel's own format for types (Documentation/bpf/btf.rst).

/// The types.
pub struct Types<'a> {
    /// The entries, from type 1.
    types: Vec<Type<'a>>,
    strings: &'a [u8],
}

struct Type<'a> {
    name: u32,
    kind: u32,
    /// Whether the offsets of members share their word with the sizes of bit-fields.
    has_bits: bool,
    size: u32,
    /// What follows the entry.
    more: &'a [u8],
}

/// The layout of a structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Its size in bytes.
    pub size: u64,
    members: Vec<(String, u64)>,
}

impl Layout {
    /// The offset of a member, in bytes.
    pub fn offset(&self, name: &str) -> Option<u64> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, offset)| *offset)
    }
}

const MAGIC: u32 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// The most structures inside each other.
const DEPTH: u32 = 8;
/// The most members of a layout: that of a small structure.
const MEMBERS_MAX: usize = 1024;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The bytes behind the entry of a type of this kind, with `count` elements.
fn length_of_more(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Pointers, forward declarations, names, qualifiers, functions, floats, tags.
        2 | 7..=12 | 16 | 18 => 0,
        // Integers, variables, tags of declarations.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Members, sections, enumerations of 64 bits.
        STRUCT | UNION | 15 | 19 => 12 * count,
        // Enumerations, parameters.
        6 | 13 => 8 * count,
        _ => return None,
    })
}

impl<'a> Types<'a> {
    /// Reads the types. None if they are not of this form.
    pub fn read(data: &'a [u8]) -> Option<Self> {
        if word(data, 0)? & 0xffff != MAGIC {
            return None;
        }
        let header = word(data, 4)? as usize;
        let part = |at| {
            let start = header.checked_add(word(data, at)? as usize)?;
            data.get(start..start.checked_add(word(data, at + 4)? as usize)?)
        };
        let (mut rest, strings) = (part(8)?, part(16)?);
        let mut types = Vec::new();
        while !rest.is_empty() {
            let info = word(rest, 4)?;
            let kind = info >> 24 & 0x1f;
            let more = rest.get(12..12 + length_of_more(kind, (info & 0xffff) as usize)?)?;
            types.push(Type {
                name: word(rest, 0)?,
                kind,
                has_bits: info >> 31 == 1,
                size: word(rest, 8)?,
                more,
            });
            rest = &rest[12 + more.len()..];
        }
        Some(Self { types, strings })
    }

    fn string(&self, at: u32) -> &'a [u8] {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The layout of the structure `name`. The members of unnamed structures and unions in it count as its own.
    pub fn structure(&self, name: &str) -> Option<Layout> {
        let is_it = |found: &&Type<'_>| found.kind == STRUCT && self.string(found.name) == name.as_bytes();
        let found = self.types.iter().find(is_it)?;
        let mut members = Vec::new();
        self.add_members(found, 0, DEPTH, &mut members);
        Some(Layout { size: found.size.into(), members })
    }

    fn add_members(&self, of: &Type<'_>, base: u64, depth: u32, members: &mut Vec<(String, u64)>) {
        for member in of.more.chunks_exact(12) {
            let field = |at| word(member, at).unwrap_or(0);
            let bits = if of.has_bits { field(8) & 0x00ff_ffff } else { field(8) };
            let offset = base + u64::from(bits / 8);
            let name = self.string(field(0));
            if members.len() >= MEMBERS_MAX {
                return;
            }
            if !name.is_empty() {
                members.push((String::from_utf8_lossy(name).into_owned(), offset));
            } else if let Some(inner) = (field(4) as usize).checked_sub(1).and_then(|at| self.types.get(at))
                && [STRUCT, UNION].contains(&inner.kind)
                && depth > 0
            {
                self.add_members(inner, offset, depth - 1, members);
            }
        }
    }
}
