//! The ISP: makes pictures of a sensor's raw lines, and measures them.
//!
//! A frame is walked once, line by line, and a line goes through all stages while it is in cache: black level, defect pixels,
//! lens shading, [`statistics`], white balance, demosaicing, colour matrix, tone curve, denoising and sharpening, cropping and
//! scaling, pixel format. With several threads each has a band of lines, and what it needs of its neighbours' it makes again.
//! All arithmetic is of integers of 16 bits, and each kernel is one function, compiled for several instruction sets: what
//! comes out is the same to the bit for any number of threads and on any machine.
//!
//! Even and odd columns of a line lie apart from the first stage to the last, so that neighbours in a register are pixels of
//! the same colour.

use std::{io, sync::Mutex};

mod arith;
mod band;
mod colour;
mod demosaic;
mod detail;
mod lens;
pub(super) mod level;
mod lines;
mod pack;
mod params;
mod pool;
mod raw;
mod resize;
pub mod statistics;
pub(super) mod vector;

pub use level::Level;
pub use params::{
    DIGITAL_GAIN_MAX, DIGITAL_GAIN_ONE, DefectPixel, Detail, GAIN_ONE, MATRIX_ONE, MESH, Params, ParamsError,
    TONE_POINTS, ToneCurve,
};
pub use statistics::{Statistics, ZONES, Zone};

use super::{
    format::{Format, Pixels},
    sensor::Phase,
};
use band::Band;
use colour::{Tone, Yuv};
use demosaic::Matrix;
use detail::Strength;
use lens::Mesh;
use lines::LANES;
use pool::Pool;

/// Least and most pixels of a frame in each direction, before scaling and behind it.
pub const SIZES: std::ops::RangeInclusive<u32> = 32..=8192;

/// What comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Width and height, even.
    pub size: [u32; 2],
    /// The colours of the first pixels.
    pub phase: Phase,
    /// Bits of a sample: 8, 10, 12 or 14.
    pub bits: u32,
}

/// A part of a frame, as `struct v4l2_rect` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Columns left of it, an even number.
    pub left: u32,
    /// Lines above it, an even number.
    pub top: u32,
    /// Its columns, an even number.
    pub width: u32,
    /// Its lines, an even number.
    pub height: u32,
}

/// What goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// The part of what comes in that is seen.
    pub crop: Rect,
    /// Width and height of the picture that is made of it: even, and not larger.
    pub size: [u32; 2],
    /// The pixel format, which is not a raw one.
    pub format: &'static Format,
}

/// What an ISP cannot do.
#[derive(Debug, thiserror::Error)]
pub enum IspError {
    /// A size of what comes in or goes out.
    #[error("a frame of the ISP cannot be {}x{}; both are even, from 32 to 8192", .0[0], .0[1])]
    Size([u32; 2]),
    /// The samples' bits.
    #[error("samples cannot have {0} bits; they have 8, 10, 12 or 14")]
    Bits(u32),
    /// A crop that is odd, or not within the frame.
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
    /// A picture larger than its crop.
    #[error("{}x{} pixels cannot become {}x{}; the ISP makes pictures smaller only", from[0], from[1], to[0], to[1])]
    Scale {
        /// The crop.
        from: [u32; 2],
        /// The picture.
        to: [u32; 2],
    },
    /// A raw format.
    #[error("{0} is a raw format; the ISP makes pictures of such, and none of its own")]
    Raw(&'static str),
    /// Parameters.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// Threads.
    #[error("the ISP has no threads: {0}")]
    Threads(#[from] io::Error),
}

/// An ISP, with its line buffers and threads: it processes frames without taking memory.
///
/// ```
/// use std::sync::Mutex;
///
/// use devices::camera::{FORMATS, isp::*, sensor::{self, Phase}};
///
/// let size = [64, 48];
/// let grey = FORMATS.iter().find(|format| format.name == "GREY").unwrap();
/// let input = Input { size, phase: Phase::Rggb, bits: 12 };
/// let crop = Rect { left: 0, top: 0, width: 64, height: 48 };
/// let output = Output { crop, size: [32, 32], format: grey };
/// let params = Params::default_for(&sensor::colour(), size);
/// let mut isp = Isp::new(input, output, &params, 2)?;
///
/// let frame = Mutex::new([[0; 32]; 32]);
/// let mut statistics = Statistics::default();
/// isp.process(
///     &|_line, samples| samples.fill(sensor::BLACK),
///     &|_plane, line, bytes| frame.lock().unwrap()[line as usize].copy_from_slice(bytes),
///     &mut statistics,
/// );
/// // Black, of limited range.
/// assert_eq!(frame.into_inner().unwrap(), [[16; 32]; 32]);
/// assert_eq!(statistics.histogram[0], 32 * 24);
/// # Ok::<(), IspError>(())
/// ```
#[derive(Debug)]
pub struct Isp {
    setup: Setup,
    bands: Vec<Mutex<Band>>,
    pool: Pool,
}

/// What all threads go by.
#[derive(Debug)]
struct Setup {
    level: Level,
    input: Input,
    output: Output,
    /// Columns of each half of a line, in whole vectors.
    count: usize,
    black: [u16; 4],
    threshold: i16,
    mesh: Box<Mesh>,
    awb_range: [u16; 2],
    balance: [u16; 4],
    /// For lines with red, and with blue.
    matrices: [Matrix; 2],
    tone: Tone,
    detail: Strength,
    yuv: Yuv,
}

impl Setup {
    /// Columns of each half of a line.
    fn half(&self) -> usize {
        self.input.size[0] as usize / 2
    }
}

impl Phase {
    /// Whether line `y` has red, and whether that or blue is in its even (0) or odd columns (1).
    fn line(self, y: u32) -> (bool, usize) {
        let is_even = y.is_multiple_of(2);
        match self {
            Self::Rggb => (is_even, usize::from(!is_even)),
            Self::Grbg => (is_even, usize::from(is_even)),
            Self::Gbrg => (!is_even, usize::from(is_even)),
            Self::Bggr => (!is_even, usize::from(!is_even)),
        }
    }

    /// Which of red, green beside red, green beside blue, and blue the even (0) or odd (1) columns of line `y` have.
    fn channel(self, y: u32, parity: usize) -> usize {
        match self.line(y) {
            (true, colour) => usize::from(colour != parity),
            (false, colour) => 3 - usize::from(colour != parity),
        }
    }
}

impl Input {
    fn check(&self) -> Result<(), IspError> {
        check_size(self.size)?;
        if [8, 10, 12, 14].contains(&self.bits) { Ok(()) } else { Err(IspError::Bits(self.bits)) }
    }
}

impl Output {
    /// Whether it can be made of frames of this size.
    fn check(&self, size: [u32; 2]) -> Result<(), IspError> {
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

impl Isp {
    /// An ISP of `threads` threads, of which the caller of [`Isp::process`] is one.
    ///
    /// # Errors
    /// What it cannot do, and a lack of threads.
    pub fn new(input: Input, output: Output, params: &Params, threads: usize) -> Result<Self, IspError> {
        input.check()?;
        output.check(input.size)?;
        params.check()?;
        let setup = Setup {
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
        };
        let mut isp = Self { setup, bands: Vec::new(), pool: Pool::new(threads)? };
        isp.configure(input, output)?;
        isp.set_params(params)?;
        Ok(isp)
    }

    /// Changes what comes in and goes out from the next frame on; takes the memory for it.
    ///
    /// # Errors
    /// What it cannot do; then nothing has changed.
    pub fn configure(&mut self, input: Input, output: Output) -> Result<(), IspError> {
        input.check()?;
        output.check(input.size)?;
        let Self { setup, bands, pool } = self;
        (setup.input, setup.output) = (input, output);
        setup.count = setup.half().next_multiple_of(LANES);
        bands.clear();
        bands.extend((0..pool.threads()).map(|_| Mutex::new(Band::new(setup))));
        Ok(())
    }

    /// Changes the parameters from the next frame on; takes no memory.
    ///
    /// # Errors
    /// Which of them cannot be; then nothing has changed.
    pub fn set_params(&mut self, params: &Params) -> Result<(), ParamsError> {
        params.check()?;
        let setup = &mut self.setup;
        setup.black = params.black_level;
        setup.threshold = i16::try_from(params.defect_pixel.threshold).unwrap_or(i16::MAX);
        let mesh = lens::by_channels(params.lens_shading.as_deref());
        if *setup.mesh != mesh {
            *setup.mesh = mesh;
            self.bands.iter_mut().for_each(|band| lock_mut(band).forget());
        }
        setup.awb_range = params.awb_range;
        setup.balance = params.white_balance;
        let matrix = Matrix::new(params.gained_matrix(), params.colour_offset);
        setup.matrices = [matrix, matrix.swapped()];
        setup.tone.set(&params.tone_curve);
        setup.detail = Strength::new(&params.detail);
        setup.yuv = Yuv::new(params.encoding);
        Ok(())
    }

    /// Changes which instructions are used; nothing else changes by it but the time.
    pub fn set_level(&mut self, level: Level) {
        self.setup.level = level;
    }

    /// Processes a frame. `read` has to fill a line with its samples; `write` gets the plane, the number and the bytes of each
    /// line that is done. Both are called by all threads: each band's lines come in order, and those at a band's edges are
    /// read for both its neighbours.
    ///
    /// # Panics
    /// If `read` or `write` do.
    pub fn process(
        &mut self,
        read: &(dyn Fn(u32, &mut [u16]) + Sync),
        write: &(dyn Fn(usize, u32, &[u8]) + Sync),
        statistics: &mut Statistics,
    ) {
        let Self { setup, bands, pool } = self;
        let (setup, bands) = (&*setup, &*bands);
        pool.run(&|index| {
            let mut band = bands[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            band.run(setup, index, bands.len(), read, write);
        });
        *statistics = Statistics::default();
        self.bands.iter_mut().for_each(|band| lock_mut(band).measured(statistics));
    }
}

fn lock_mut(band: &mut Mutex<Band>) -> &mut Band {
    band.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
