//! The setup of an ISP: the frames that come in and go out, and the parameters in the form that the kernels take.

use std::io;

use super::{
    colour::{Tone, Yuv},
    demosaic::Matrix,
    detail::Strength,
    lens::{self, Mesh},
    params::{Params, ParamsError},
};
use crate::{
    format::{Format, Pixels},
    phase::Phase,
    rect::Rect,
    simd::{LANES, Level},
};

/// The number of pixels that a frame can have in each direction, before and after scaling.
pub const SIZES: std::ops::RangeInclusive<u32> = 32..=8192;

/// The frames that come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Width and height, both even.
    pub size: [u32; 2],
    /// The colours of the first pixels.
    pub phase: Phase,
    /// The bits of a sample: 8, 10, 12 or 14.
    pub bits: u32,
}

/// The frames that go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// The part of an incoming frame that is used.
    pub crop: Rect,
    /// Width and height, both even and not larger than those of that part.
    pub size: [u32; 2],
    /// The pixel format, which is not raw.
    pub format: &'static Format,
}

/// Why an ISP cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum IspError {
    /// The size of incoming or outgoing frames is not supported.
    #[error("a frame of the ISP cannot be {}x{}; both are even, from 32 to 8192", .0[0], .0[1])]
    Size([u32; 2]),
    /// The number of bits of a sample is not supported.
    #[error("samples cannot have {0} bits; they have 8, 10, 12 or 14")]
    Bits(u32),
    /// The crop is odd, or not within the frame.
    #[error(
        "the crop {}x{} at ({}, {}) is not an even part of a frame of {}x{}",
        crop.width, crop.height, crop.left, crop.top, size[0], size[1]
    )]
    Crop {
        /// The crop.
        crop: Rect,
        /// Width and height of the frame.
        size: [u32; 2],
    },
    /// The outgoing frame is larger than the crop.
    #[error("{}x{} pixels cannot become {}x{}; the ISP makes pictures smaller only", from[0], from[1], to[0], to[1])]
    Scale {
        /// The crop.
        from: [u32; 2],
        /// The picture.
        to: [u32; 2],
    },
    /// The outgoing format is raw.
    #[error("{0} is a raw format; the ISP puts out processed formats only")]
    Raw(&'static str),
    /// A parameter is out of its range.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A thread cannot start.
    #[error("the ISP's threads cannot start: {0}")]
    Threads(#[from] io::Error),
}

/// The setup that all threads share.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) level: Level,
    pub(super) input: Input,
    pub(super) output: Output,
    /// The number of even or odd columns of a line, rounded up to a multiple of [`LANES`].
    pub(super) count: usize,
    pub(super) black: [u16; 4],
    pub(super) threshold: i16,
    pub(super) mesh: Box<Mesh>,
    pub(super) awb_range: [u16; 2],
    pub(super) balance: [u16; 4],
    /// The colour matrices for lines with red, and for lines with blue.
    pub(super) matrices: [Matrix; 2],
    pub(super) tone: Tone,
    pub(super) detail: Strength,
    pub(super) yuv: Yuv,
}

impl Setup {
    /// A setup whose parameters are not set yet.
    pub(super) fn new(input: Input, output: Output) -> Self {
        Self {
            level: Level::best(),
            input,
            output,
            count: 0,
            black: [0; 4],
            threshold: 0,
            mesh: Box::new(lens::by_channels(None)),
            awb_range: [0; 2],
            balance: [0; 4],
            matrices: [Matrix::default(); 2],
            tone: Tone::new(),
            detail: Strength::default(),
            yuv: Yuv::default(),
        }
    }

    /// Changes the frames that come in and go out.
    pub(super) fn configure(&mut self, input: Input, output: Output) {
        (self.input, self.output) = (input, output);
        self.count = self.half().next_multiple_of(LANES);
    }

    /// Changes the parameters, which must be valid. True if the lens shading is different now.
    pub(super) fn set_params(&mut self, params: &Params) -> bool {
        self.black = params.black_level;
        self.threshold = i16::try_from(params.defect_pixel.threshold).unwrap_or(i16::MAX);
        self.awb_range = params.awb_range;
        self.balance = params.white_balance;
        let matrix = Matrix::new(params.gained_matrix(), params.colour_offset);
        self.matrices = [matrix, matrix.swapped()];
        self.tone.set(&params.tone_curve);
        self.detail = Strength::new(&params.detail);
        self.yuv = Yuv::new(params.encoding);
        let mesh = lens::by_channels(params.lens_shading.as_deref());
        let is_changed = *self.mesh != mesh;
        if is_changed {
            *self.mesh = mesh;
        }
        is_changed
    }

    /// The number of even or odd columns of a line.
    pub(super) fn half(&self) -> usize {
        self.input.size[0] as usize / 2
    }
}

impl Input {
    pub(super) fn check(&self) -> Result<(), IspError> {
        check_size(self.size)?;
        if [8, 10, 12, 14].contains(&self.bits) { Ok(()) } else { Err(IspError::Bits(self.bits)) }
    }
}

impl Output {
    /// Checks that it can be made from frames of this size.
    pub(super) fn check(&self, size: [u32; 2]) -> Result<(), IspError> {
        let Self { crop, size: to, format } = *self;
        let fits = |start: u32, length: u32, whole: u32| {
            (start | length).is_multiple_of(2) && start.checked_add(length).is_some_and(|end| end <= whole)
        };
        if !fits(crop.left, crop.width, size[0]) || !fits(crop.top, crop.height, size[1]) {
            return Err(IspError::Crop { crop, size });
        }
        let from = [crop.width, crop.height];
        check_size(to)?;
        if to[0] > from[0] || to[1] > from[1] {
            return Err(IspError::Scale { from, to });
        }
        if matches!(format.pixels, Pixels::Bayer(_)) { Err(IspError::Raw(format.name)) } else { Ok(()) }
    }
}

fn check_size(size: [u32; 2]) -> Result<(), IspError> {
    if size.iter().all(|length| SIZES.contains(length) && length.is_multiple_of(2)) {
        Ok(())
    } else {
        Err(IspError::Size(size))
    }
}
