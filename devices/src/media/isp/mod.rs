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

use std::sync::Mutex;

mod arith;
mod band;
mod colour;
mod demosaic;
mod detail;
mod lens;
mod lines;
mod overrides;
mod pack;
mod params;
mod pool;
mod raw;
mod resize;
mod setup;
pub mod statistics;

pub use overrides::Overrides;
pub use params::{
    DIGITAL_GAIN_MAX, DIGITAL_GAIN_ONE, DefectPixel, Detail, GAIN_ONE, LensMesh, MATRIX_ONE, MESH, Params,
    ParamsError, TONE_POINTS, ToneCurve,
};
pub use setup::{Input, IspError, Output, Rect, SIZES};
pub use statistics::{Statistics, ZONES, Zone};

use super::simd::Level;
use band::Band;
use pool::Pool;
use setup::Setup;

/// An ISP, with its line buffers and threads: it processes frames without taking memory.
///
/// ```
/// use std::sync::Mutex;
///
/// use devices::media::{FORMATS, Phase, isp::*, sensor};
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

impl Isp {
    /// An ISP of `threads` threads, of which the caller of [`Isp::process`] is one.
    ///
    /// # Errors
    /// What it cannot do, and a lack of threads.
    pub fn new(input: Input, output: Output, params: &Params, threads: usize) -> Result<Self, IspError> {
        input.check()?;
        output.check(input.size)?;
        params.check()?;
        let setup = Setup::new(input, output);
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
        setup.configure(input, output);
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
        if self.setup.set_params(params) {
            self.bands.iter_mut().for_each(|band| lock_mut(band).forget_gains());
        }
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
mod tests;
