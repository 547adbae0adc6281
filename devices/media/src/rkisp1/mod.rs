//! The image processing of Rockchip's ISP1 in its version 10 (RK3288, RK3399), without registers.
//!
//! The facts are those of Linux: `include/uapi/linux/rkisp1-config.h`, the driver `rkisp1`, and the comments of libcamera's
//! `src/ipa/rkisp1`. A frame is processed in one pass, line by line: black level (BLS), sensor degamma (SDG), lens shading
//! (LSC), white balance gains (AWB), defect pixels (DPCC), denoising (DPF), demosaicing (BDM) and its filter (FLT), cross-talk
//! (CTK), the measurements, gamma out (GOC), the colour space matrix (CSM), colour processing (CPROC), and image effects (IE).
//! Samples have 12 bits up to gamma out, and 10 from there to the colour space matrix. Then [`Resizer`]s scale the picture.
//!
//! # Approximate
//!
//! The arithmetic of some blocks is not published. They honour what the parameters are documented to mean, in this way:
//!
//! - BLS: the levels that are measured in a frame are subtracted from the next one.
//! - Windows: those of BLS and the sectors of LSC count from the corner of the incoming frame, all others from that of the
//!   outgoing picture.
//! - LSC: a gain is interpolated down, then across, each time rounded. Behind the last sector the gain stays.
//! - DPCC: `defects` defines the methods and the fixed set.
//! - DPF: `denoise` defines the weight by difference. The weight that a neighbour loses goes to the pixel itself.
//! - BDM: `demosaic` interpolates linearly, and adds the gradient of the pixel's own colour above the threshold.
//! - FLT: `filter` defines the masks of green and the weight by luminance. A factor of 8 changes nothing. Both dynamic modes of
//!   the horizontal chroma filter have fixed masks of five columns.
//! - AWB: the limit of Cb + Cr is one of their distances from the reference, since grey has 256, which 8 bits do not hold, and
//!   the register's reset value is 16.
//! - HST: the weight 16 counts a pixel as 16, so that a bin has four fractional bits. libcamera discards as many; the UAPI
//!   names five.
//! - AFC: sharpness is the sum of the squares of the differences from the pixels to the left and above, of (R + 2 G + B) / 4.
//! - CPROC: with the limited input range 16 is subtracted from Y before contrast, and added after it.
//! - IE: `effect` defines colour selection, emboss and sketch.
//! - Resizers: the position of a sample is exact, and the table gives the weight of the neighbour at the next lower 64th.

mod arith;
mod curve;
mod defects;
mod demosaic;
mod denoise;
mod effect;
mod encode;
mod filter;
mod frame;
mod lens;
mod measure;
mod params;
mod raw;
mod resize;
mod self_path;
mod stages;

use std::sync::atomic::{AtomicBool, Ordering};

pub use encode::Line;
pub use frame::{Frame, LARGEST, SMALLEST};
pub use measure::{Focus, Statistics, WhiteMeans};
pub use params::*;
pub use resize::{Axis, Plane, Resizer, Scale, Scaled};
pub use self_path::SelfPath;

use crate::simd::Level;
use effect::Effects;
use encode::{Processing, encode};
use measure::Collector;
use stages::Stages;

/// The ISP with its line buffers. It allocates memory only for frames of another size.
///
/// ```
/// use std::sync::atomic::AtomicBool;
///
/// use media::{Phase, isp::Rect, rkisp1::*};
///
/// let window = Rect { left: 0, top: 0, width: 64, height: 48 };
/// let frame = Frame { size: [64, 48], phase: Phase::Rggb, window };
/// let params = Params { black_level: Some(BlackLevel { fixed: [256; 4], ..Default::default() }), ..Default::default() };
/// let mut lines = 0;
/// let mut write = |_line: u32, line: &Line<'_>| {
///     // Black in limited range.
///     assert!(line.y.iter().all(|&y| y == 16));
///     lines += 1;
/// };
/// let mut statistics = Statistics::default();
/// let mut read = |_line: u32, samples: &mut [u16]| samples.fill(256);
/// assert!(Isp::default().process(&frame, &params, &mut read, &mut write, &mut statistics, &AtomicBool::new(false)));
/// assert_eq!(lines, 48);
/// ```
#[derive(Debug)]
pub struct Isp {
    level: Level,
    stages: Stages,
    collector: Collector,
    effects: Effects,
    /// The size of the picture that the buffers are for.
    size: [u32; 2],
}

impl Default for Isp {
    fn default() -> Self {
        Self {
            level: Level::best(),
            stages: Stages::default(),
            collector: Collector::default(),
            effects: Effects::default(),
            size: [0; 2],
        }
    }
}

impl Isp {
    /// Changes the level of instructions. The result stays the same.
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
    }

    /// Processes a frame. `read` fills a line with its samples, which have 12 bits: those of fewer bits are shifted to the
    /// left. Lines are read in order, but not all of them if the window or the parameters need fewer. `write` takes the lines
    /// of the window in order.
    ///
    /// The result is false if the frame does not fit ([`Frame::fitted`]), or if `abort` is set, which ends it with the line
    /// that it works on. Then `statistics` stay as they were.
    pub fn process(
        &mut self,
        frame: &Frame,
        params: &Params,
        read: &mut dyn FnMut(u32, &mut [u16]),
        write: &mut dyn FnMut(u32, &Line<'_>),
        statistics: &mut Statistics,
        abort: &AtomicBool,
    ) -> bool {
        let Some(frame) = frame.fitted() else { return false };
        let Self { level, stages, collector, effects, size } = self;
        let level = *level;
        let picture = [frame.window.width, frame.window.height];
        if *size != picture {
            *size = picture;
            *collector = Collector::new(picture[0] as usize / 2);
            *effects = Effects::new(picture[0] as usize);
        }
        stages.begin(&frame, params);
        collector.begin(params);
        let processing = params.colour_processing.as_ref().map(Processing::new);
        for y in 0..picture[1] {
            if abort.load(Ordering::Relaxed) {
                return false;
            }
            stages.colour(level, &frame, params, y, read);
            collector.line(level, params, y, stages.picture());
            stages.gamma();
            let [luma, cb, cr] = effects.line_mut(y);
            encode(level, &params.colour_space, stages.picture(), luma, cb, cr);
            collector.luma(params, y, luma);
            if let Some(processing) = &processing {
                processing.apply(level, luma, cb, cr);
            }
            effects.put(level, params.effect.as_ref(), y, picture[1], write);
        }
        if !stages.finish(&frame, params, read, abort) {
            return false;
        }
        *statistics = Statistics { black_level: stages.black_level(params), ..collector.finish(params) };
        true
    }
}

#[cfg(test)]
mod tests;
