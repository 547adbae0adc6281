//! The stores by which Linux's driver has a picture encoded, for tests and programs without an operating system.

use super::{picture::Format, regs::*};

/// A store of the guest: offset, value.
pub type Store = (u32, u32);

/// A picture and its scan in memory.
#[derive(Debug, Clone, Copy)]
pub struct Picture {
    /// Its format.
    pub format: Format,
    /// Width and height in blocks of 16 pixels.
    pub blocks: [u32; 2],
    /// Pixels at the right that are not encoded, 0, 4, 8 or 12, and at the bottom, 0 to 15.
    pub over: [u32; 2],
    /// The addresses of its planes.
    pub planes: [u32; 3],
    /// Where the scan goes, and how many bytes it may have.
    pub output: u32,
    /// See `output`.
    pub limit: u32,
}

/// Has `picture` encoded, with divisors that are all `divisor`.
pub fn encode(picture: &Picture, divisor: u8) -> impl Iterator<Item = Store> + use<> {
    let Picture { format, blocks: [width, height], over, planes, output, limit } = *picture;
    let format = match format {
        Format::Planar => ENC_FMT_PLANAR,
        Format::SemiPlanar => ENC_FMT_SEMI_PLANAR,
        Format::Yuyv => ENC_FMT_YUYV,
        Format::Uyvy => ENC_FMT_UYVY,
    };
    let start = START_FORMAT_JPEG
        | START_INTRA
        | START_ENABLE
        | width << START_WIDTH.trailing_zeros()
        | height << START_HEIGHT.trailing_zeros();
    let tables = [LUMA_QUANT, CHROMA_QUANT].into_iter().flat_map(move |table| {
        (0..QUANT_WORDS).map(move |word| (table + 4 * word, u32::from_be_bytes([divisor; 4])))
    });
    let [right, bottom] = over;
    let rest = [
        (ENCODE_START, START_FORMAT_JPEG),
        (LUMA_INFO, 16 * width),
        (OVER_FILL, (right / 4) << OVER_FILL_RIGHT.trailing_zeros() | bottom),
        (ENC_CTRL1, format),
        (OUTPUT_STREAM, output),
        (STR_BUF_LIMIT, limit),
        (IN_PLANE_0, planes[0]),
        (IN_PLANE_1, planes[1]),
        (IN_PLANE_2, planes[2]),
        (ENCODE_START, start),
    ];
    tables.chain(rest)
}
