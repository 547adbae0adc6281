//! The image signal processor (ISP): it makes pictures from the raw lines of a sensor, and measures them.
//!
//! A frame is processed in one pass, line by line, and a line goes through all stages while it is in cache: black level, defect
//! pixels, lens shading, [`statistics`], white balance, demosaicing, colour matrix, tone curve, denoising and sharpening,
//! cropping and scaling, pixel format. With several threads, each has a band of lines, and processes lines of a neighbour's band
//! again where it needs them. The arithmetic is that of 16-bit integers, and each kernel is one function that is compiled for
//! several instruction sets. So the result is the same to the bit for any number of threads and on any machine.
//!
//! The even and the odd columns of a line are separate from the first stage to the last, so that neighbours in a vector are
//! pixels of the same colour.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

mod arith;
mod band;
mod colour;
mod demosaic;
mod detail;
mod lens;
pub(crate) mod lines;
mod overrides;
mod pack;
mod params;
mod pool;
mod raw;
mod resize;
mod setup;
pub mod statistics;

pub use crate::rect::Rect;
pub use overrides::Overrides;
pub use params::{
    DIGITAL_GAIN_MAX, DIGITAL_GAIN_ONE, DefectPixel, Detail, GAIN_ONE, LensMesh, MATRIX_ONE, MESH, Params,
    ParamsError, TONE_POINTS, ToneCurve,
};
pub use pool::Pool;
pub use setup::{Input, IspError, Output, SIZES};
pub use statistics::{Statistics, ZONES, Zone};

use super::simd::Level;
use band::Band;
use setup::Setup;

/// An ISP with its line buffers and threads. It processes frames without memory allocations.
///
/// ```
/// use std::sync::{Mutex, atomic::AtomicBool};
///
/// use media::{FORMATS, Phase, isp::*, sensor};
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
///     &AtomicBool::new(false),
/// );
/// // Black in limited range.
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
    /// An ISP with `threads` threads. The caller of [`Isp::process`] is one of them.
    ///
    /// # Errors
    /// If it does not support the input, the output or the parameters, or a thread cannot start.
    pub fn new(input: Input, output: Output, params: &Params, threads: usize) -> Result<Self, IspError> {
        Self::with_pool(input, output, params, Pool::new(threads)?)
    }

    /// An ISP with the threads of `pool`.
    ///
    /// # Errors
    /// If it does not support the input, the output or the parameters.
    pub fn with_pool(input: Input, output: Output, params: &Params, pool: Pool) -> Result<Self, IspError> {
        input.check()?;
        output.check(input.size)?;
        params.check()?;
        let setup = Setup::new(input, output);
        let mut isp = Self { setup, bands: Vec::new(), pool };
        isp.configure(input, output)?;
        isp.set_params(params)?;
        Ok(isp)
    }

    /// The threads, for another ISP.
    pub fn into_pool(self) -> Pool {
        self.pool
    }

    /// Changes input and output from the next frame on, and allocates the line buffers for them.
    ///
    /// # Errors
    /// If it does not support them; then nothing has changed.
    pub fn configure(&mut self, input: Input, output: Output) -> Result<(), IspError> {
        input.check()?;
        output.check(input.size)?;
        let Self { setup, bands, pool } = self;
        setup.configure(input, output);
        bands.clear();
        bands.extend((0..pool.threads()).map(|_| Mutex::new(Band::new(setup))));
        Ok(())
    }

    /// Changes the parameters from the next frame on, without memory allocations.
    ///
    /// # Errors
    /// The first parameter that is out of its range. The parameters have not changed then.
    pub fn set_params(&mut self, params: &Params) -> Result<(), ParamsError> {
        params.check()?;
        if self.setup.set_params(params) {
            self.bands.iter_mut().for_each(|band| lock_mut(band).forget_gains());
        }
        Ok(())
    }

    /// Changes the level of instructions. The result stays the same.
    pub fn set_level(&mut self, level: Level) {
        self.setup.level = level;
    }

    /// Processes a frame. `read` fills a line with its samples, and `write` takes the plane, the number and the bytes of each
    /// finished line. All threads call both. The lines of a band come in order, and lines at the edge of a band are read for the
    /// neighbouring band too.
    ///
    /// If `abort` is set, each thread ends with the line that it works on. Then the frame is not whole, `statistics` stay as they
    /// were, and the result is false.
    ///
    /// # Panics
    /// If `read` or `write` panics.
    pub fn process(
        &mut self,
        read: &(dyn Fn(u32, &mut [u16]) + Sync),
        write: &(dyn Fn(usize, u32, &[u8]) + Sync),
        statistics: &mut Statistics,
        abort: &AtomicBool,
    ) -> bool {
        let Self { setup, bands, pool } = self;
        let (setup, bands) = (&*setup, &*bands);
        pool.run(&|index| {
            let mut band = bands[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            band.run(setup, index, bands.len(), read, write, abort);
        });
        if abort.load(Ordering::Relaxed) {
            return false;
        }
        *statistics = Statistics::default();
        self.bands.iter_mut().for_each(|band| lock_mut(band).measured(statistics));
        true
    }
}

fn lock_mut(band: &mut Mutex<Band>) -> &mut Band {
    band.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
