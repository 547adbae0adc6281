//! The parser of buffers of parameters. It checks every field, and takes a buffer as a whole or not at all.

use super::table::{BLOCKS, Block, BlockType, FLAG_DISABLE, FLAG_ENABLE, HEADER, Kind, PARAMS_VERSION};
use media::isp::{DefectPixel, Detail, Overrides, Params, ToneCurve};

/// The number of bytes of a buffer with all blocks.
pub const PARAMS_MAX: usize = {
    let (mut size, mut index) = (HEADER, 0);
    while index < BLOCKS.len() {
        size += BLOCKS[index].size();
        index += 1;
    }
    size
};

/// The type of each block, and the smallest and the largest value of each of the 16-bit words of its body.
pub fn blocks() -> impl Iterator<Item = (u16, Vec<[i32; 2]>)> {
    BLOCKS.iter().map(|block| {
        let words =
            block.body.fields.iter().flat_map(|field| std::iter::repeat_n(field.range, field.count()));
        (block.kind as u16, words.collect())
    })
}

/// A fault of a buffer of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, thiserror::Error)]
#[error("the parameters are wrong at {offset}, in the block of type {kind} at {block}: reason {reason}")]
pub struct ParamsFault {
    /// One of the constants, or 0 for no fault.
    pub reason: u32,
    /// The type of the block, or 0 for the header of the buffer.
    pub kind: u16,
    /// The offset of the block in the buffer, in bytes.
    pub block: u32,
    /// The offset of the wrong field in the buffer, in bytes.
    pub offset: u32,
}

impl ParamsFault {
    /// The version is unknown.
    pub const VERSION: u32 = 1;
    /// The blocks are longer than the buffer.
    pub const DATA_SIZE: u32 = 2;
    /// A block is longer than the rest of the buffer.
    pub const TRUNCATED: u32 = 3;
    /// The type of a block is unknown.
    pub const TYPE: u32 = 4;
    /// The flags are unknown, or both are set.
    pub const FLAGS: u32 = 5;
    /// The size is not that of a block of the type.
    pub const SIZE: u32 = 6;
    /// A type of block occurs twice.
    pub const DUPLICATE: u32 = 7;
    /// A value is out of the range of its field.
    pub const RANGE: u32 = 8;
}

/// The content of a buffer for one block.
#[derive(Debug, Clone, Copy)]
enum Given<'a> {
    /// The stage of the block is switched off.
    Disabled,
    /// The body of the block, whose fields are within their ranges.
    Values(&'a [u8]),
}

/// Takes all blocks of the buffer `bytes` into `overrides`. Returns the number of bytes of the buffer that they take.
///
/// # Errors
/// The first fault of the buffer; then nothing has changed.
pub fn take(overrides: &mut Overrides, bytes: &[u8]) -> Result<usize, ParamsFault> {
    let (length, blocks) = parse(bytes)?;
    for (block, given) in BLOCKS.iter().zip(blocks) {
        match given {
            None => {}
            Some(Given::Disabled) => disable(block.kind, overrides),
            Some(Given::Values(body)) => set(block.kind, body, overrides),
        }
    }
    Ok(length)
}

/// The content of `bytes` for each block, and the number of bytes that the blocks and the header take.
fn parse(bytes: &[u8]) -> Result<(usize, [Option<Given<'_>>; BLOCKS.len()]), ParamsFault> {
    let fault =
        |reason, offset: usize| ParamsFault { reason, offset: narrow(offset), ..ParamsFault::default() };
    let word = |at| read_u32(bytes, at).ok_or(fault(ParamsFault::DATA_SIZE, at));
    if word(0)? > PARAMS_VERSION {
        return Err(fault(ParamsFault::VERSION, 0));
    }
    let size = usize::try_from(word(4)?).unwrap_or(usize::MAX);
    let end = size.saturating_add(HEADER);
    let data = bytes.get(..end).filter(|_| end <= PARAMS_MAX).ok_or(fault(ParamsFault::DATA_SIZE, 4))?;
    let mut found = [None; BLOCKS.len()];
    let mut at = HEADER;
    while at < end {
        let (block, given, length) = parse_block(data, at)?;
        let found = &mut found[block.kind as usize - 1];
        if found.replace(given).is_some() {
            let (kind, at) = (block.kind as u16, narrow(at));
            return Err(ParamsFault { reason: ParamsFault::DUPLICATE, kind, block: at, offset: at });
        }
        at += length;
    }
    Ok((end, found))
}

/// The block at `at` in `data`, its content, and its length.
fn parse_block(data: &[u8], at: usize) -> Result<(&'static Block, Given<'_>, usize), ParamsFault> {
    let block = narrow(at);
    let truncated = ParamsFault { reason: ParamsFault::TRUNCATED, kind: 0, block, offset: block };
    let rest = &data[at..];
    let (Some(kind), Some(flags), Some(size)) = (read_u16(rest, 0), read_u16(rest, 2), read_u32(rest, 4))
    else {
        return Err(truncated);
    };
    let fault = |reason, within: usize| ParamsFault { reason, kind, block, offset: block + narrow(within) };
    let Some(known) = Block::find(kind) else {
        return Err(fault(ParamsFault::TYPE, 0));
    };
    if flags & !(FLAG_DISABLE | FLAG_ENABLE) != 0 || flags == FLAG_DISABLE | FLAG_ENABLE {
        return Err(fault(ParamsFault::FLAGS, 2));
    }
    let is_disabled = flags == FLAG_DISABLE;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size != known.size() && !(is_disabled && size == HEADER) {
        return Err(fault(ParamsFault::SIZE, 4));
    }
    let body = rest.get(HEADER..size).ok_or(fault(ParamsFault::TRUNCATED, 4))?;
    if is_disabled {
        return Ok((known, Given::Disabled, size));
    }
    let fields = known.body.fields.iter().flat_map(|field| std::iter::repeat_n(field, field.count()));
    for ((index, word), field) in words(body).enumerate().zip(fields) {
        let value = if matches!(field.kind, Kind::I16) { word.cast_signed().into() } else { i32::from(word) };
        if !(field.range[0]..=field.range[1]).contains(&value) {
            return Err(fault(ParamsFault::RANGE, HEADER + 2 * index));
        }
    }
    Ok((known, Given::Values(body), size))
}

/// Sets the parameters of the block `kind` to the values of its body.
fn set(kind: BlockType, body: &[u8], overrides: &mut Overrides) {
    let mut words = words(body);
    let mut next = || words.next().unwrap_or_default();
    match kind {
        BlockType::BlackLevel => overrides.black_level = Some(std::array::from_fn(|_| next())),
        BlockType::DefectPixel => overrides.defect_pixel = Some(DefectPixel { threshold: next() }),
        BlockType::LensShading => {
            let mesh = overrides.lens_shading.get_or_insert_default().get_or_insert_default();
            mesh.as_flattened_mut().as_flattened_mut().fill_with(next);
        }
        BlockType::AwbRange => overrides.awb_range = Some(std::array::from_fn(|_| next())),
        BlockType::WhiteBalance => overrides.white_balance = Some(std::array::from_fn(|_| next())),
        BlockType::ColourMatrix => {
            let mut next = || next().cast_signed();
            overrides.colour_matrix = Some(std::array::from_fn(|_| std::array::from_fn(|_| next())));
            overrides.colour_offset = Some(std::array::from_fn(|_| next()));
        }
        BlockType::ToneCurve => {
            overrides.tone_curve = Some(ToneCurve { points: std::array::from_fn(|_| next()) });
        }
        BlockType::Detail => {
            let [threshold, denoise, sharpen, limit] = std::array::from_fn(|_| next());
            overrides.detail = Some(Detail { threshold, denoise, sharpen, limit });
        }
        BlockType::DigitalGain => overrides.digital_gain = Some(next()),
    }
}

/// Sets the parameters of the block `kind` to values with which its stage does nothing.
fn disable(kind: BlockType, overrides: &mut Overrides) {
    let neutral = Params::neutral();
    match kind {
        BlockType::BlackLevel => overrides.black_level = Some(neutral.black_level),
        BlockType::DefectPixel => overrides.defect_pixel = Some(neutral.defect_pixel),
        BlockType::LensShading => overrides.lens_shading = Some(neutral.lens_shading),
        BlockType::AwbRange => overrides.awb_range = Some(neutral.awb_range),
        BlockType::WhiteBalance => overrides.white_balance = Some(neutral.white_balance),
        BlockType::ColourMatrix => {
            overrides.colour_matrix = Some(neutral.colour_matrix);
            overrides.colour_offset = Some(neutral.colour_offset);
        }
        BlockType::ToneCurve => overrides.tone_curve = Some(neutral.tone_curve),
        BlockType::Detail => overrides.detail = Some(neutral.detail),
        BlockType::DigitalGain => overrides.digital_gain = Some(neutral.digital_gain),
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks().0.iter().map(|word| u16::from_le_bytes(*word))
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_le_bytes(*word))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

/// An offset in a buffer. Buffers are small, so it never saturates.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
