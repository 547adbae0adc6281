//! The areas of a running kernel, read from its memory without its help: where they are by the kernel's symbols, and what they
//! look like by its types. Where no file has the symbols, both are found in the kernel's memory. The files and the memory come from a guest or a user, so nothing in them is trusted.

pub mod btf;
pub mod elf;
pub mod owners;
pub mod search;

use std::ops::Range;

use crate::area::{Area, AreaError, Rules};
use btf::{Layout, Types};

/// Bytes that can be read from any place: a file, or memory.
pub trait Source {
    /// Reads `to.len()` bytes from `at`. False if they are not all there.
    fn read(&self, at: u64, to: &mut [u8]) -> bool;
}

impl<F: Fn(u64, &mut [u8]) -> bool> Source for F {
    fn read(&self, at: u64, to: &mut [u8]) -> bool {
        self(at, to)
    }
}

/// The most areas that a kernel has (CONFIG_CMA_AREAS), and the most ranges of one (mm/cma.h, CMA_MAX_RANGES).
const AREAS_MAX: u32 = 1024;
const RANGES_MAX: u64 = 64;
/// CMA_MAX_NAME (include/linux/cma.h).
const NAME_MAX: usize = 64;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// The file of symbols.
    #[error("the kernel's symbols cannot be read: {0}")]
    Symbols(&'static str),
    /// A symbol is missing.
    #[error("the kernel has no symbol {0}; its configuration needs CONFIG_CMA")]
    Symbol(&'static str),
    /// The file of types.
    #[error("the kernel's types (BTF) cannot be read: {0}")]
    Types(&'static str),
    /// A type or a member of one is missing.
    #[error("the kernel's types (BTF) have no {0}")]
    Layout(&'static str),
    /// Memory that is not there.
    #[error(
        "the kernel's memory cannot be read at {0:#x}; the symbols and the types may be those of another kernel"
    )]
    Memory(u64),
    /// A number that no kernel has.
    #[error(
        "the kernel's memory has {what} {number}; the symbols and the types may be those of another kernel"
    )]
    Number {
        /// Its name.
        what: &'static str,
        /// The number.
        number: u64,
    },
    /// An area that cannot exist.
    #[error(transparent)]
    Area(#[from] AreaError),
}

/// The kernel's layout of an area (mm/cma.h). Since 6.15 an area has several ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CmaLayout {
    size: u64,
    order_per_bit: u64,
    name: u64,
    ranges: Ranges,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ranges {
    One(RangeLayout),
    Many { count: u64, first: u64, size: u64, of: RangeLayout },
}

/// The offsets of the fields of one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RangeLayout {
    base_pfn: u64,
    count: u64,
    bitmap: u64,
}

impl RangeLayout {
    fn of(layout: &Layout) -> Result<Self, LiveError> {
        let offset = |name| {
            layout.offset(name).ok_or(LiveError::Layout("member base_pfn, count or bitmap of an area"))
        };
        Ok(Self { base_pfn: offset("base_pfn")?, count: offset("count")?, bitmap: offset("bitmap")? })
    }
}

impl CmaLayout {
    /// Finds it in the types of a kernel.
    ///
    /// # Errors
    /// If these are not a kernel's types, or those of a kernel without CMA.
    pub fn of(types: &[u8]) -> Result<Self, LiveError> {
        let types = Types::read(types).ok_or(LiveError::Types("it has not the form of BTF"))?;
        let cma = types.structure("cma").ok_or(LiveError::Layout("struct cma"))?;
        let ranges = match (cma.offset("ranges"), cma.offset("nranges")) {
            (Some(first), Some(count)) => {
                let range =
                    types.structure("cma_memrange").ok_or(LiveError::Layout("struct cma_memrange"))?;
                Ranges::Many { count, first, size: range.size, of: RangeLayout::of(&range)? }
            }
            _ => Ranges::One(RangeLayout::of(&cma)?),
        };
        let offset =
            |name| cma.offset(name).ok_or(LiveError::Layout("member order_per_bit or name of struct cma"));
        Ok(Self { size: cma.size, order_per_bit: offset("order_per_bit")?, name: offset("name")?, ranges })
    }
}

/// The place of the areas in a kernel's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array {
    /// The address of the first one.
    pub start: u64,
    /// How many there are.
    pub length: Length,
}

/// The number of a kernel's areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// It is a variable at this address.
    At(u64),
    /// It was found with the array, of which the kernel does not change the length after its start.
    Found(u32),
}

/// The areas in `array`, which are of this layout. `memory` has the kernel's addresses; its areas take at most `pages_max` pages
/// together.
///
/// # Errors
/// If the memory is not that of such a kernel.
pub fn areas(
    memory: &dyn Source,
    layout: &CmaLayout,
    array: Array,
    pages_max: u64,
) -> Result<Vec<Area>, LiveError> {
    let number = match array.length {
        Length::At(variable) => word32(memory, variable)?,
        Length::Found(number) => number,
    };
    if number > AREAS_MAX {
        return Err(LiveError::Number { what: "a number of areas,", number: number.into() });
    }
    let mut left = pages_max;
    (0..u64::from(number))
        .map(|index| {
            area(memory, layout, array.start.wrapping_add(index.wrapping_mul(layout.size)), &mut left)
        })
        .collect()
}

fn area(memory: &dyn Source, layout: &CmaLayout, at: u64, left: &mut u64) -> Result<Area, LiveError> {
    let order = word32(memory, at.wrapping_add(layout.order_per_bit))?;
    if order > 31 {
        return Err(LiveError::Number { what: "an order_per_bit of", number: order.into() });
    }
    let mut name = [0; NAME_MAX];
    let name_at = at.wrapping_add(layout.name);
    if !memory.read(name_at, &mut name) {
        return Err(LiveError::Memory(name_at));
    }
    let name = printable(&name);
    let (mut ranges, mut free) = (Vec::new(), Vec::new());
    let mut add = |range_at: u64, of: &RangeLayout| {
        let field = |offset| word64(memory, range_at.wrapping_add(offset));
        let (base_pfn, count, bitmap) = (field(of.base_pfn)?, field(of.count)?, field(of.bitmap)?);
        if count > *left {
            return Err(LiveError::Number { what: "an area whose pages are", number: count });
        }
        *left -= count;
        ranges.push((base_pfn, count));
        free.push(free_runs(memory, bitmap, count >> order)?);
        Ok(())
    };
    match &layout.ranges {
        Ranges::One(of) => add(at, of)?,
        Ranges::Many { count, first, size, of } => {
            let number = word32(memory, at.wrapping_add(*count))?.into();
            if number > RANGES_MAX {
                return Err(LiveError::Number { what: "an area whose ranges are", number });
            }
            for index in 0..number {
                add(at.wrapping_add(*first).wrapping_add(size.wrapping_mul(index)), of)?;
            }
        }
    }
    // No request is made: of the rules only the number of ranges matters.
    let rules = if matches!(layout.ranges, Ranges::One(_)) { Rules::V6_1 } else { Rules::V7_2 };
    Ok(Area::of_free_runs(&name, &ranges, &free, order, rules)?)
}

/// The runs of zeroes in a bitmap of `bits` bits: words of 64 bits, the lowest first.
fn free_runs(memory: &dyn Source, bitmap: u64, bits: u64) -> Result<Vec<Range<u64>>, LiveError> {
    const PIECE: u64 = 4096;
    let mut runs: Vec<Range<u64>> = Vec::new();
    let mut bytes = vec![0; usize::try_from(PIECE / 8).unwrap_or(0)];
    for first in (0..bits).step_by(usize::try_from(PIECE).unwrap_or(1)) {
        let here = PIECE.min(bits - first);
        let piece = &mut bytes[..usize::try_from(here.div_ceil(64) * 8).unwrap_or(0)];
        let at = bitmap.wrapping_add(first / 8);
        if !memory.read(at, piece) {
            return Err(LiveError::Memory(at));
        }
        for bit in 0..here {
            let is_used = piece[usize::try_from(bit / 8).unwrap_or(0)] >> (bit % 8) & 1 == 1;
            let bit = first + bit;
            match runs.last_mut() {
                _ if is_used => {}
                Some(run) if run.end == bit => run.end += 1,
                _ => runs.push(bit..bit + 1),
            }
        }
    }
    Ok(runs)
}

/// The text of a field that ends with a zero, or with its last byte. Nothing in it moves a terminal's cursor.
fn printable(field: &[u8]) -> String {
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).chars().flat_map(char::escape_debug).collect()
}

fn word32(memory: &dyn Source, at: u64) -> Result<u32, LiveError> {
    let mut bytes = [0; 4];
    if memory.read(at, &mut bytes) { Ok(u32::from_le_bytes(bytes)) } else { Err(LiveError::Memory(at)) }
}

fn word64(memory: &dyn Source, at: u64) -> Result<u64, LiveError> {
    let mut bytes = [0; 8];
    if memory.read(at, &mut bytes) { Ok(u64::from_le_bytes(bytes)) } else { Err(LiveError::Memory(at)) }
}

#[cfg(test)]
mod tests;
