//! The part of a frame that one thread processes. A stage processes a line only when a later stage needs it, so that lines stay
//! in cache.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    colour::{self, Yuv},
    demosaic::{at_colour, at_green},
    detail::detail,
    lens::Gains,
    lines::{Ring, mirror, mirrored},
    pack::{Line, Packer},
    raw::{correct, split},
    resize::Resizer,
    setup::Setup,
    statistics::{Collector, Statistics},
};
use crate::simd::LANES;

/// Fills a line with its samples.
pub(super) type Read<'a> = &'a (dyn Fn(u32, &mut [u16]) + Sync);

/// Takes the plane, the number and the bytes of a line.
pub(super) type Write<'a> = &'a (dyn Fn(usize, u32, &[u8]) + Sync);

/// The line buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct Band {
    samples: Vec<u16>,
    /// Lines after the black level.
    raw: Ring<2>,
    gains: Gains,
    /// Corrected lines before white balance, and after it.
    plain: Ring<2>,
    balanced: Ring<2>,
    /// Lines after the tone curve: even and odd columns of red, green and blue. Below, those of luma.
    coded: Ring<6>,
    luma: Ring<2>,
    resizer: Resizer,
    packer: Packer,
    collector: Collector,
    /// The lines that this band measures.
    lines: std::ops::Range<u32>,
    /// The next line of each stage.
    next_raw: u32,
    next_corrected: u32,
    next_coded: u32,
}

impl Band {
    /// The line buffers for the frames of `setup`.
    pub(super) fn new(setup: &Setup) -> Self {
        let [width, height] = setup.input.size;
        let (half, count) = (width as usize / 2, setup.count);
        let crop = [setup.output.crop.width, setup.output.crop.height];
        Self {
            samples: vec![0; width as usize],
            raw: Ring::new(5, half),
            gains: Gains::new([width, height], count),
            plain: Ring::new(2, half),
            balanced: Ring::new(5, half),
            coded: Ring::new(2, half),
            luma: Ring::new(3, half),
            resizer: Resizer::new(crop, setup.output.size),
            packer: Packer::new(setup.output.size[0]),
            collector: Collector::new([half, height as usize / 2]),
            ..Self::default()
        }
    }

    /// Discards the gains of the lens shading, after the mesh has changed.
    pub(super) fn forget_gains(&mut self) {
        self.gains.forget();
    }

    /// Processes part `index` of `parts` of a frame: it measures the lines of the part, and puts out all pairs of lines that
    /// begin in it. It ends before the next line that it puts out or measures if `abort` is set.
    pub(super) fn run(
        &mut self,
        setup: &Setup,
        index: usize,
        parts: usize,
        read: Read<'_>,
        write: Write<'_>,
        abort: &AtomicBool,
    ) {
        let quads = setup.input.size[1] as usize / 2;
        let edge = |index: usize| 2 * u32::try_from(quads * index / parts).unwrap_or(u32::MAX / 2);
        self.lines = edge(index)..edge(index + 1);
        self.collector.begin();
        if self.lines.is_empty() {
            return;
        }
        let (crop, size) = (setup.output.crop, setup.output.size);
        let from = [crop.width, crop.height];
        let lines_of = |y| {
            let lines = Resizer::lines(from, size, y);
            crop.top + lines.start..crop.top + lines.end
        };
        let lines = self.lines.clone();
        let mut out = (0..size[1]).filter(|y| lines.contains(&lines_of(y / 2 * 2).start)).peekable();
        let first = out.peek().map_or(self.lines.start, |&y| lines_of(y).start);
        self.next_coded = first.saturating_sub(1);
        self.next_corrected = self.lines.start.min(self.next_coded.saturating_sub(2));
        self.next_raw = self.next_corrected.saturating_sub(2);
        // A line that contributes to two outgoing lines is finished once.
        let mut next = first;
        let offset = (crop.left / 2) as isize;
        for y in out {
            if abort.load(Ordering::Relaxed) {
                return;
            }
            for line in lines_of(y) {
                if line >= next {
                    self.finish(setup, line, read);
                    next = line + 1;
                }
                if from != size {
                    self.resizer.add(setup.level, y, line - crop.top, self.coded.planes(line), offset);
                }
            }
            let (halves, offset) = if from == size {
                (self.coded.planes(crop.top + y), offset)
            } else {
                (self.resizer.finish(setup.level), 0)
            };
            let line = Line { halves, offset, count: size[0] as usize / 2 };
            self.packer.put(setup.level, setup.output.format, &setup.yuv, y, line, write);
        }
        while self.next_corrected < self.lines.end && !abort.load(Ordering::Relaxed) {
            self.correct_to(setup, self.next_corrected, read);
        }
    }

    /// Adds the measurements of the last frame to `statistics`.
    pub(super) fn measured(&mut self, statistics: &mut Statistics) {
        self.collector.finish(self.lines.end as usize / 2, statistics);
    }

    /// Runs all stages for line `y` up to denoising and sharpening.
    fn finish(&mut self, setup: &Setup, y: u32, read: Read<'_>) {
        let height = setup.input.size[1];
        let with_detail = !setup.detail.is_none();
        let last = if with_detail { (y + 1).min(height - 1) } else { y };
        while self.next_coded <= last {
            let line = self.next_coded;
            self.colour(setup, line, read);
            self.next_coded += 1;
        }
        if !with_detail {
            return;
        }
        let lines = [-1, 0, 1].map(|down| self.luma.planes(mirrored(i64::from(y) + down, height)));
        let even = lines.map(|[even, _]| even);
        let odd = lines.map(|[_, odd]| odd);
        let [er, or, eg, og, eb, ob] = self.coded.planes_mut(y);
        detail(setup.level, even, odd, -1, &setup.detail, er, eg, eb, setup.count);
        detail(setup.level, odd, even, 0, &setup.detail, or, og, ob, setup.count);
    }

    /// Interpolates the colours of line `y`, and applies colour matrix and tone curve.
    fn colour(&mut self, setup: &Setup, y: u32, read: Read<'_>) {
        let Setup { level, count, .. } = *setup;
        let height = setup.input.size[1];
        self.correct_to(setup, (y + 2).min(height - 1), read);
        let line = |down| self.balanced.planes(mirrored(i64::from(y) + down, height));
        let [n2, n, c, s, s2] = [-2, -1, 0, 1, 2].map(line);
        let (is_red, parity) = setup.input.phase.line(y);
        let matrix = &setup.matrices[usize::from(!is_red)];
        // The columns with the colour of the line, and those with green.
        let (own, beside) = (parity, 1 - parity);
        let side = if parity == 0 { 0 } else { 1 };
        let [er, or, eg, og, eb, ob] = self.coded.planes_mut(y);
        let (at_own, at_beside) =
            if parity == 0 { ([er, eg, eb], [or, og, ob]) } else { ([or, og, ob], [er, eg, eb]) };
        let [red, green, blue] = at_own;
        let colours = [n2[own], c[own], s2[own]];
        let greens = [n[own], c[beside], s[own]];
        let others = [n[beside], s[beside]];
        at_colour(level, colours, greens, others, side, matrix, red, green, blue, count);
        let [red, green, blue] = at_beside;
        let greens = [n2[beside], c[beside], s2[beside]];
        let diagonal = [n[own], s[own]];
        at_green(level, greens, diagonal, c[own], others, side, matrix, red, green, blue, count);
        for plane in self.coded.planes_mut(y) {
            colour::tone(level, &setup.tone, plane, count);
        }
        if !setup.detail.is_none() {
            let [er, or, eg, og, eb, ob] = self.coded.planes(y);
            let [even, odd] = self.luma.planes_mut(y);
            let yuv: &Yuv = &setup.yuv;
            colour::luma(level, [er, eg, eb], yuv, even, count);
            colour::luma(level, [or, og, ob], yuv, odd, count);
            mirror(even, odd, setup.half());
        }
    }

    /// Corrects all lines up to `last`, and measures those of this band.
    fn correct_to(&mut self, setup: &Setup, last: u32, read: Read<'_>) {
        while self.next_corrected <= last {
            let y = self.next_corrected;
            self.correct(setup, y, read);
            self.next_corrected += 1;
        }
    }

    fn correct(&mut self, setup: &Setup, y: u32, read: Read<'_>) {
        let Setup { level, count, .. } = *setup;
        let height = setup.input.size[1];
        while self.next_raw <= (y + 2).min(height - 1) {
            let line = self.next_raw;
            read(line, &mut self.samples);
            let [even, odd] = self.raw.planes_mut(line);
            let black = [0, 1].map(|parity| setup.black[setup.input.phase.channel(line, parity)]);
            let shift = 14 - setup.input.bits;
            split(level, &self.samples, shift, black, &mut even[LANES..], &mut odd[LANES..]);
            mirror(even, odd, setup.half());
            self.next_raw += 1;
        }
        let [above, here, below] =
            [-2, 0, 2].map(|down| self.raw.planes(mirrored(i64::from(y) + down, height)));
        let (gains, down) = self.gains.line(level, &setup.mesh, setup.input.phase, y);
        let plain = self.plain.planes_mut(y);
        let mut balanced = self.balanced.planes_mut(y);
        for (parity, (plain, balanced)) in plain.into_iter().zip(&mut balanced).enumerate() {
            let lines = [above[parity], here[parity], below[parity]];
            let gain = setup.balance[setup.input.phase.channel(y, parity)];
            correct(level, lines, setup.threshold, gains[parity], down, gain, plain, balanced, count);
        }
        let [even, odd] = balanced;
        mirror(even, odd, setup.half());
        if y % 2 == 1 && self.lines.contains(&y) {
            let mut quad = [&[][..]; 4];
            for line in [y - 1, y] {
                for (parity, plane) in self.plain.planes(line).into_iter().enumerate() {
                    quad[setup.input.phase.channel(line, parity)] = plane;
                }
            }
            self.collector.line(level, y as usize / 2, quad, setup.awb_range);
        }
    }
}
