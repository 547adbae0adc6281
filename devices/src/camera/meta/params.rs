//! Buffers of parameters: checked field by field, then taken as a whole, or not at all.

use super::{BLOCKS, Block, BlockType, FLAG_DISABLE, FLAG_ENABLE, HEADER, Kind, PARAMS_VERSION};
use crate::camera::isp::{DefectPixel, Detail, Params};

/// Bytes of a buffer that has all blocks.
pub const PARAMS_MAX: usize = {
    let (mut size, mut index) = (HEADER, 0);
    while index < BLOCKS.len() {
        size += BLOCKS[index].size();
        index += 1;
    }
    size
};

/// What is wrong with a buffer of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, thiserror::Error)]
#[error("the parameters are wrong at {offset}, in the block of type {kind} at {block}: reason {reason}")]
pub struct ParamsFault {
    /// One of the constants; 0: nothing is.
    pub reason: u32,
    /// The type of the block; 0 for the buffer's header.
    pub kind: u16,
    /// Where the block begins in the buffer, in bytes.
    pub block: u32,
    /// Where the field begins that is wrong, likewise.
    pub offset: u32,
}

impl ParamsFault {
    /// An unknown version.
    pub const VERSION: u32 = 1;
    /// The blocks would take more than the buffer has.
    pub const DATA_SIZE: u32 = 2;
    /// A block would take more than is left.
    pub const TRUNCATED: u32 = 3;
    /// An unknown type of block.
    pub const TYPE: u32 = 4;
    /// Unknown flags, or both.
    pub const FLAGS: u32 = 5;
    /// Not the size of such a block.
    pub const SIZE: u32 = 6;
    /// A second block of a type.
    pub const DUPLICATE: u32 = 7;
    /// A value out of its field's range.
    pub const RANGE: u32 = 8;
}

/// What the guest set of the ISP's parameters.
#[derive(Debug)]
pub struct Settings {
    /// Of these only what was set counts.
    params: Params,
    /// Which blocks were.
    given: [bool; BLOCKS.len()],
}

/// What a buffer has for a block.
#[derive(Debug, Clone, Copy)]
enum Given<'a> {
    Disabled,
    /// Its body, which is right.
    Values(&'a [u8]),
}

impl Default for Settings {
    fn default() -> Self {
        Self { params: Params::neutral(), given: [false; BLOCKS.len()] }
    }
}

impl Settings {
    /// Takes all that the buffer `bytes` has; how many bytes of it that were.
    ///
    /// # Errors
    /// The first thing that is wrong; then nothing has changed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, ParamsFault> {
        let (length, blocks) = parse(bytes)?;
        for ((block, given), is_given) in BLOCKS.iter().zip(blocks).zip(&mut self.given) {
            match given {
                None => continue,
                Some(Given::Disabled) => copy(block.kind, &Params::neutral(), &mut self.params),
                Some(Given::Values(body)) => set(block.kind, body, &mut self.params),
            }
            *is_given = true;
        }
        Ok(length)
    }

    /// Puts what was set into `params`.
    pub fn apply(&self, params: &mut Params) {
        for (block, _) in BLOCKS.iter().zip(self.given).filter(|(_, given)| *given) {
            copy(block.kind, &self.params, params);
        }
    }

    /// Whether white balance was set.
    pub fn has_white_balance(&self) -> bool {
        self.given[BlockType::WhiteBalance as usize - 1]
    }
}

/// What `bytes` has for each block, and how many bytes that are.
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

/// The block at `at` in `data`, what is given for it, and its length.
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

/// Sets of `params` what the block `kind` has, to its body's values.
fn set(kind: BlockType, body: &[u8], params: &mut Params) {
    let mut words = words(body);
    let mut next = || words.next().unwrap_or_default();
    match kind {
        BlockType::BlackLevel => params.black_level.fill_with(next),
        BlockType::DefectPixel => params.defect_pixel = DefectPixel { threshold: next() },
        BlockType::LensShading => {
            let mesh = params.lens_shading.get_or_insert_default();
            mesh.as_flattened_mut().as_flattened_mut().fill_with(next);
        }
        BlockType::AwbRange => params.awb_range.fill_with(next),
        BlockType::WhiteBalance => params.white_balance.fill_with(next),
        BlockType::ColourMatrix => {
            let mut next = || next().cast_signed();
            params.colour_matrix.as_flattened_mut().fill_with(&mut next);
            params.colour_offset.fill_with(next);
        }
        BlockType::ToneCurve => params.tone_curve.points.fill_with(next),
        BlockType::Detail => {
            let [threshold, denoise, sharpen, limit] = std::array::from_fn(|_| next());
            params.detail = Detail { threshold, denoise, sharpen, limit };
        }
        BlockType::DigitalGain => params.digital_gain = next(),
    }
}

/// Sets of `to` what the block `kind` has, as it is in `from`.
fn copy(kind: BlockType, from: &Params, to: &mut Params) {
    match kind {
        BlockType::BlackLevel => to.black_level = from.black_level,
        BlockType::DefectPixel => to.defect_pixel = from.defect_pixel,
        BlockType::LensShading => to.lens_shading.clone_from(&from.lens_shading),
        BlockType::AwbRange => to.awb_range = from.awb_range,
        BlockType::WhiteBalance => to.white_balance = from.white_balance,
        BlockType::ColourMatrix => {
            to.colour_matrix = from.colour_matrix;
            to.colour_offset = from.colour_offset;
        }
        BlockType::ToneCurve => to.tone_curve = from.tone_curve,
        BlockType::Detail => to.detail = from.detail,
        BlockType::DigitalGain => to.digital_gain = from.digital_gain,
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

/// An offset in a buffer, which is small.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
