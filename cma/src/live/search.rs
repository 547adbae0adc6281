//! Finds in a kernel's image what a file of symbols would tell: its types by their header, and its array of areas by a window that is
//! known.

use std::ops::Range;

use super::{AREAS_MAX, CmaLayout, LiveError, NAME_MAX, RangeLayout, Ranges, Source, word32, word64};

/// The beginning of the types: magic, version 1, no flags, a header of 24 bytes (Documentation/bpf/btf.rst).
const HEADER: u64 = 0x0000_0018_0001_eb9f;
const HEADER_SIZE: u64 = 24;
/// The most bytes of the types. A kernel with all its drivers has some MiB.
const TYPES_MAX: u64 = 64 << 20;

/// The layout of an area by the types in `image`, in whose `range` they begin.
///
/// # Errors
/// If there are no types, or those of a kernel without CMA.
pub fn layout(image: &dyn Source, range: Range<u64>) -> Result<CmaLayout, LiveError> {
    let nothing = LiveError::Types(
        "there are none in the kernel's memory; its configuration needs CONFIG_DEBUG_INFO_BTF",
    );
    // The linker aligns them to 4 bytes.
    find(image, range, 4, |at, word| {
        if word != HEADER {
            return None;
        }
        let (strings, length) = (word32(image, at + 16).ok()?, word32(image, at + 20).ok()?);
        let size = HEADER_SIZE + u64::from(strings) + u64::from(length);
        // The same bytes can be in code that handles types. Nothing is allocated for types that are not all there.
        let is_there = strings > 0 && size <= TYPES_MAX && image.read(at + size - 1, &mut [0]);
        let mut types = vec![0; usize::try_from(size).ok().filter(|_| is_there)?];
        image.read(at, &mut types).then_some(())?;
        match CmaLayout::of(&types) {
            Err(LiveError::Types(_)) => None,
            found => Some(found),
        }
    })
    .unwrap_or(Err(nothing))
}

/// The address and the length of the array of areas in `image`, which is in `range`. One of its areas is a window: `is_window` knows
/// windows by their first page and number of pages. All of them end below the page `end`.
pub fn array(
    image: &dyn Source,
    layout: &CmaLayout,
    range: Range<u64>,
    end: u64,
    is_window: impl Fn(u64, u64) -> bool,
) -> Option<(u64, u32)> {
    let (of, first) = match &layout.ranges {
        Ranges::One(of) => (of, 0),
        Ranges::Many { of, first, .. } => (of, *first),
    };
    let is_area = |at: u64| is_area(image, layout, of, at.wrapping_add(first), at, end);
    let found = find(image, range.clone(), 8, |at, base| {
        let at = at.checked_sub(of.base_pfn + first).filter(|_| base != 0 && base < end)?;
        let count = word64(image, at + first + of.count).ok()?;
        (is_window(base, count) && is_area(at)).then_some(at)
    })?;
    let step = |at: &u64| at.checked_sub(layout.size).filter(|at| range.contains(at) && is_area(*at));
    let start = std::iter::successors(Some(found), step).take(AREAS_MAX as usize).last()?;
    let areas = (0..AREAS_MAX).take_while(|index| is_area(start + u64::from(*index) * layout.size));
    Some((start, u32::try_from(areas.count()).unwrap_or(0)))
}

/// Whether an area is at `at`, with its first range at `range`: memory that can be its own, a bitmap, a small order and a name.
fn is_area(image: &dyn Source, layout: &CmaLayout, of: &RangeLayout, range: u64, at: u64, end: u64) -> bool {
    let field = |offset: u64| word64(image, range.wrapping_add(offset)).unwrap_or(0);
    let (base, count, bitmap) = (field(of.base_pfn), field(of.count), field(of.bitmap));
    let is_memory = base != 0 && count != 0 && base.checked_add(count).is_some_and(|last| last <= end);
    // A bitmap is in the kernel's half of the addresses. The array is zero before the kernel fills it in.
    let has_bitmap = bitmap >> 63 == 1 && bitmap != u64::MAX;
    let order = word32(image, at.wrapping_add(layout.order_per_bit)).unwrap_or(u32::MAX);
    let mut name = [0; NAME_MAX];
    let is_named = image.read(at.wrapping_add(layout.name), &mut name) && {
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(0);
        length > 0 && name[..length].iter().all(u8::is_ascii_graphic)
    };
    is_memory && has_bitmap && order <= 31 && is_named
}

/// The first result of `look` for the addresses in `range` that are multiples of `step`, and the words of 64 bits there. Memory that
/// cannot be read is left out.
fn find<T>(
    image: &dyn Source,
    range: Range<u64>,
    step: usize,
    mut look: impl FnMut(u64, u64) -> Option<T>,
) -> Option<T> {
    const PIECE: u64 = 64 << 10;
    const WORD: u64 = 8;
    let mut bytes = vec![0; usize::try_from(PIECE).ok()?];
    let mut next = range.start.next_multiple_of(WORD);
    while next.checked_add(WORD).is_some_and(|end| end <= range.end) {
        // Pieces overlap, so that no word is in two of them.
        let length = PIECE.min(range.end - next);
        let piece = &mut bytes[..usize::try_from(length).ok()?];
        if image.read(next, piece) {
            let words = piece.windows(8).step_by(step).zip((next..).step_by(step));
            for (word, at) in words {
                let found = look(at, u64::from_le_bytes(word.try_into().ok()?));
                if found.is_some() {
                    return found;
                }
            }
        }
        next += if length == PIECE { PIECE - WORD } else { length };
    }
    None
}
