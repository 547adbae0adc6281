//! The two paths of the memory interface: what each does with a frame.

use media::yuv::Quantization;

/// The main and the self path.
pub(in crate::rkisp1) const PATHS: usize = 2;
/// Index of the main path. The self path is the other one.
pub(in crate::rkisp1) const MAIN: usize = 0;

/// A plane in guest memory, as a path has it in its shadow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::rkisp1) struct Plane {
    pub(in crate::rkisp1) address: u32,
    /// In bytes.
    pub(in crate::rkisp1) size: u32,
}

/// The order of a picture's components in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rkisp1) enum Write {
    /// Y, Cb and Cr in a plane each.
    Planar,
    /// Y, and Cb with Cr.
    SemiPlanar,
    /// Y Cb Y Cr in one plane.
    Interleaved,
    /// Raw samples, a byte each.
    Raw8,
    /// Raw samples, two bytes each.
    Raw16,
    /// 16 bits a pixel: red in the upper five, green in six, blue in the lower five.
    Rgb565,
    /// 32 bits a pixel: blue in the lowest byte, then green and red.
    Rgb888,
}

/// What a path does with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rkisp1) struct PathConfig {
    pub(in crate::rkisp1) write: Write,
    /// Cb and Cr are exchanged.
    pub(in crate::rkisp1) swap: bool,
    pub(in crate::rkisp1) planes: [Plane; 3],
    /// Pixels from the start of a line to that of the next; none for lines without a gap.
    pub(in crate::rkisp1) stride: Option<u32>,
    /// The range of Y'CbCr that becomes RGB.
    pub(in crate::rkisp1) range: Quantization,
}

/// What a path took at its last update.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shadow {
    /// `MI_MP_ENABLE` and `MI_RAW_ENABLE`, or `MI_SP_ENABLE`.
    pub(super) enables: u32,
    pub(super) control: u32,
    pub(super) planes: [Plane; 3],
}

impl Write {
    /// The order that a format field of `MI_CTRL` selects; none for the reserved value.
    pub(super) fn of_components(field: u32) -> Option<Self> {
        match field {
            0 => Some(Self::Planar),
            1 => Some(Self::SemiPlanar),
            2 => Some(Self::Interleaved),
            _ => None,
        }
    }
}
