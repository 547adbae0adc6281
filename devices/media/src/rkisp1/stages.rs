//! The stages of a frame from raw lines to red, green and blue. A stage processes a line only when a later stage needs it, so
//! that lines stay in cache.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    curve::{EQUIDISTANT, LOGARITHMIC, Table},
    defects::correct,
    demosaic::{at_colour, at_green, cross_talk, threshold},
    denoise::Denoiser,
    encode::Planes,
    filter::Smoother,
    frame::Frame,
    lens::Shading,
    params::{CrossTalk, Degamma, GammaOut, Params},
    raw::{BlackMeter, amplify, mirror, split},
};
use crate::{
    isp::lines::{Ring, mirrored},
    simd::{LANES, Level},
};

/// The lines that the stages of raw lines keep: the denoising filter reads four above and four below.
const RAW_LINES: usize = 9;

/// The lines above and below that defect correction, denoising and demosaicing read.
const DEFECT_REACH: u32 = 2;
const DENOISE_REACH: u32 = 4;
const DEMOSAIC_REACH: u32 = 2;

/// Fills a line with its samples.
type Read<'a> = &'a mut dyn FnMut(u32, &mut [u16]);

/// The line buffers and tables of all stages.
#[derive(Debug, Default)]
pub(super) struct Stages {
    /// The size of frames and the width of pictures that the buffers are for.
    of: ([u32; 2], u32),
    samples: Vec<u16>,
    /// Lines after the white balance, and of these, after defect correction and after denoising, if these are on.
    raw: [Ring<2>; 3],
    /// The next line of each.
    next: [u32; 3],
    /// Red, green and blue before the filter, if it is on.
    colours: Ring<6>,
    next_colours: u32,
    /// A line of the picture.
    picture: Ring<6>,
    degamma: (Option<Degamma>, [Table; 3]),
    /// None if the table was never set.
    gamma: (Option<Option<GammaOut>>, Table),
    shading: Shading,
    denoiser: Denoiser,
    smoother: Smoother,
    meter: BlackMeter,
    /// The black levels that were measured in the last frame.
    black: [u16; 4],
}

impl Stages {
    /// Adapts to a frame.
    pub(super) fn begin(&mut self, frame: &Frame, params: &Params) {
        let (half, width) = (frame.size[0] as usize / 2, frame.window.width);
        if self.of != (frame.size, width) {
            self.of = (frame.size, width);
            self.samples = vec![0; frame.size[0] as usize];
            self.raw = std::array::from_fn(|_| Ring::new(RAW_LINES, half));
            self.colours = Ring::new(4, width as usize / 2);
            self.picture = Ring::new(1, width as usize / 2);
            self.denoiser.resize(half);
            self.smoother.resize(width as usize / 2);
        }
        if let Some(degamma) = &params.degamma
            && self.degamma.0.as_ref() != Some(degamma)
        {
            let (of, tables) = &mut self.degamma;
            *of = Some(*degamma);
            let widths = degamma.intervals.map(|interval| (interval & 7) + 4);
            for (table, points) in tables.iter_mut().zip(degamma.curves) {
                table.set(widths, points, 0xfff);
            }
        }
        if self.gamma.0 != Some(params.gamma) {
            let (of, table) = &mut self.gamma;
            *of = Some(params.gamma);
            match &params.gamma {
                Some(GammaOut { logarithmic, points }) => {
                    table.set(if *logarithmic { LOGARITHMIC } else { EQUIDISTANT }, *points, 0x3ff);
                }
                None => table.fill(|sample| sample >> 2),
            }
        }
        if let Some(lens) = &params.lens_shading {
            self.shading.set(lens, frame.size);
        }
        if let Some(denoise) = &params.denoise {
            self.denoiser.set(denoise, params.white_balance);
        }
        self.meter = BlackMeter::default();
        let mut first = frame.window.top.saturating_sub(DEMOSAIC_REACH);
        for (stage, reach) in [(2, DENOISE_REACH), (1, DEFECT_REACH)] {
            self.next[stage] = first;
            if is_on(params, stage) {
                first = first.saturating_sub(reach);
            }
        }
        self.next[0] = if BlackMeter::is_on(params.black_level.as_ref()) { 0 } else { first };
        self.next_colours = 0;
    }

    /// Makes line `y` of the picture, up to the cross-talk correction.
    pub(super) fn colour(&mut self, level: Level, frame: &Frame, params: &Params, y: u32, read: Read<'_>) {
        let height = frame.window.height;
        if let Some(filter) = &params.filter {
            while self.next_colours <= (y + 1).min(height - 1) {
                let line = self.next_colours;
                self.demosaic(level, frame, params, line, true, read);
                let [er, or, eg, og, eb, ob] = self.colours.planes_mut(line);
                for planes in [[er, or], [eg, og], [eb, ob]] {
                    mirror(planes, frame.window.width as usize / 2);
                }
                self.next_colours += 1;
            }
            let lines = [-1, 0, 1].map(|down| self.colours.planes(mirrored(i64::from(y) + down, height)));
            self.smoother.apply(level, filter, lines, self.picture.planes_mut(0));
        } else {
            self.demosaic(level, frame, params, y, false, read);
        }
        if params.cross_talk != CrossTalk::default() {
            let matrix = params.cross_talk.matrix.map(|row| row.map(|weight| weight.clamp(-1024, 1023)));
            let offset = params.cross_talk.offset.map(|offset| offset.clamp(-2048, 2047));
            let half = frame.window.width as usize / 2;
            let [er, or, eg, og, eb, ob] =
                self.picture.planes_mut(0).map(|plane| &mut plane[LANES..][..half]);
            cross_talk(level, &matrix, offset, er, eg, eb);
            cross_talk(level, &matrix, offset, or, og, ob);
        }
    }

    /// The line of the picture.
    pub(super) fn picture(&self) -> Planes<'_> {
        let half = self.of.1 as usize / 2;
        self.picture.planes(0).map(|plane| &plane[LANES..][..half])
    }

    /// Applies gamma out to the line of the picture, which has 10 bits then.
    pub(super) fn gamma(&mut self) {
        let half = self.of.1 as usize / 2;
        for plane in self.picture.planes_mut(0) {
            self.gamma.1.apply(&mut plane[LANES..][..half]);
        }
    }

    /// Reads the rest of the frame if the black level is measured there. The result is false if `abort` is set.
    pub(super) fn finish(
        &mut self,
        frame: &Frame,
        params: &Params,
        read: Read<'_>,
        abort: &AtomicBool,
    ) -> bool {
        if let Some(black) = &params.black_level
            && BlackMeter::is_on(Some(black))
        {
            for y in self.next[0]..frame.size[1] {
                if abort.load(Ordering::Relaxed) {
                    return false;
                }
                read(y, &mut self.samples);
                self.meter.add(black, y, &self.samples);
            }
        }
        true
    }

    /// The black levels that were measured.
    pub(super) fn black_level(&mut self, params: &Params) -> [u16; 4] {
        let levels = self.meter.finish(params.black_level.as_ref());
        if BlackMeter::is_on(params.black_level.as_ref()) {
            self.black = levels;
        }
        levels
    }

    /// Interpolates the colours of line `y` of the picture, for the filter or for the picture.
    fn demosaic(
        &mut self,
        level: Level,
        frame: &Frame,
        params: &Params,
        y: u32,
        is_filtered: bool,
        read: Read<'_>,
    ) {
        let (height, here) = (frame.size[1], frame.window.top + y);
        let stage = last_stage(params, 2);
        self.raw_to(level, frame, params, stage, (here + DEMOSAIC_REACH).min(height - 1), read);
        let line = |down| self.raw[stage].planes(mirrored(i64::from(here) + down, height));
        let [n2, n, c, s, s2] = [-2, -1, 0, 1, 2].map(line);
        let half = frame.window.width as usize / 2;
        let first = frame.window.left as usize / 2;
        let out = if is_filtered { &mut self.colours } else { &mut self.picture };
        let [er, or, eg, og, eb, ob] = out.planes_mut(y).map(|plane| &mut plane[LANES..][..half]);
        if params.demosaic.bypass {
            let [even, odd] = c.map(|plane| &plane[LANES + first..][..half]);
            [er, eg, eb].into_iter().for_each(|plane| plane.copy_from_slice(even));
            [or, og, ob].into_iter().for_each(|plane| plane.copy_from_slice(odd));
            return;
        }
        let first = first.cast_signed();
        let (is_red, own) = frame.phase.line(here);
        let beside = 1 - own;
        let side = own.cast_signed();
        let texture = threshold(params.demosaic.threshold);
        let (at_own, at_beside) =
            if own == 0 { ([er, eg, eb], [or, og, ob]) } else { ([or, og, ob], [er, eg, eb]) };
        let others = [n[beside], s[beside]];
        let [colour, green, other] = by_line(is_red, at_own);
        let (colours, greens) = ([n2[own], c[own], s2[own]], [n[own], c[beside], s[own]]);
        at_colour(level, colours, greens, others, side, first, texture, colour, green, other);
        let [colour, green, other] = by_line(is_red, at_beside);
        let (greens, corners) = ([n2[beside], c[beside], s2[beside]], [n[own], s[own]]);
        at_green(level, greens, corners, c[own], others, side, first, texture, colour, green, other);
    }

    /// Processes raw lines up to `last` with the stages up to `stage`.
    fn raw_to(
        &mut self,
        level: Level,
        frame: &Frame,
        params: &Params,
        stage: usize,
        last: u32,
        read: Read<'_>,
    ) {
        while self.next[stage] <= last {
            let y = self.next[stage];
            match stage {
                0 => self.read_line(level, frame, params, y, read),
                1 => self.correct_line(level, frame, params, y, read),
                _ => self.denoise_line(level, frame, params, y, read),
            }
            self.next[stage] += 1;
        }
    }

    /// Reads line `y`, and applies black level, degamma, lens shading and white balance.
    fn read_line(&mut self, level: Level, frame: &Frame, params: &Params, y: u32, read: Read<'_>) {
        read(y, &mut self.samples);
        let half = frame.size[0] as usize / 2;
        let mut black = [0; 2];
        if let Some(params) = &params.black_level {
            self.meter.add(params, y, &self.samples);
            let measured = self.black.map(u16::cast_signed);
            let levels = if params.measured { measured } else { params.fixed };
            let [a, b, c, d] = levels.map(|level| level.clamp(-4096, 4095));
            black = if y.is_multiple_of(2) { [a, b] } else { [c, d] };
        }
        let [even, odd] = self.raw[0].planes_mut(y);
        split(level, &self.samples, black, &mut even[LANES..][..half], &mut odd[LANES..][..half]);
        for (parity, plane) in [&mut *even, &mut *odd].into_iter().enumerate() {
            let line = &mut plane[LANES..][..half];
            let channel = frame.phase.channel(y, parity);
            if params.degamma.is_some() {
                self.degamma.1[[0, 1, 1, 2][channel]].apply(line);
            }
            let gain = params.white_balance.map_or(256, |gains| gains[channel].min(0x3ff).cast_signed());
            if let Some(lens) = &params.lens_shading {
                self.shading.apply(level, lens, frame.phase, y, parity, gain, line);
            } else if gain != 256 {
                amplify(level, gain, line);
            }
        }
        mirror([even, odd], half);
    }

    /// Corrects the defect pixels of line `y`.
    fn correct_line(&mut self, level: Level, frame: &Frame, params: &Params, y: u32, read: Read<'_>) {
        let (height, half) = (frame.size[1], frame.size[0] as usize / 2);
        self.raw_to(level, frame, params, 0, (y + DEFECT_REACH).min(height - 1), read);
        let [raw, corrected, _] = &mut self.raw;
        let Some(defects) = &params.defects else { return };
        let lines = [-2, -1, 0, 1, 2].map(|down| raw.planes(mirrored(i64::from(y) + down, height)));
        let [even, odd] = corrected.planes_mut(y);
        for (parity, plane) in [&mut *even, &mut *odd].into_iter().enumerate() {
            let is_green = matches!(frame.phase.channel(y, parity), 1 | 2);
            correct(level, defects, lines, parity, is_green, plane, half);
        }
        mirror([even, odd], half);
    }

    /// Denoises line `y`.
    fn denoise_line(&mut self, level: Level, frame: &Frame, params: &Params, y: u32, read: Read<'_>) {
        let (height, half) = (frame.size[1], frame.size[0] as usize / 2);
        let source = last_stage(params, 1);
        self.raw_to(level, frame, params, source, (y + DENOISE_REACH).min(height - 1), read);
        let Some(denoise) = &params.denoise else { return };
        let [raw, corrected, denoised] = &mut self.raw;
        let from = if source == 0 { raw } else { corrected };
        let line = |down: usize| {
            from.planes(mirrored(i64::from(y) + down as i64 - i64::from(DENOISE_REACH), height))
        };
        let lines = std::array::from_fn(line);
        let [even, odd] = denoised.planes_mut(y);
        for (parity, plane) in [&mut *even, &mut *odd].into_iter().enumerate() {
            let lens = params.lens_shading.as_ref().filter(|_| denoise.gains.lens);
            if let Some(lens) = lens {
                self.shading.gains(level, lens, frame.phase, y, parity, self.denoiser.lens_mut());
            }
            let channel = frame.phase.channel(y, parity);
            self.denoiser.apply(level, denoise, lines, parity, channel, lens.is_some(), plane);
        }
        mirror([even, odd], half);
    }
}

/// Whether a stage of raw lines is on.
fn is_on(params: &Params, stage: usize) -> bool {
    match stage {
        0 => true,
        1 => params.defects.is_some(),
        _ => params.denoise.is_some(),
    }
}

/// The last stage up to `stage` that is on.
fn last_stage(params: &Params, stage: usize) -> usize {
    (0..=stage).rfind(|&stage| is_on(params, stage)).unwrap_or(0)
}

/// Planes of red, green and blue as those of a line's colour, of green, and of the other colour.
fn by_line(is_red: bool, [red, green, blue]: [&mut [i16]; 3]) -> [&mut [i16]; 3] {
    if is_red { [red, green, blue] } else { [blue, green, red] }
}
