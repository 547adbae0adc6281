//! Lens shading and white balance: a gain for each pixel, interpolated between the corners of its sector.

use super::{
    arith::{W, sample, wide},
    params::{LensShading, POINTS},
};
use crate::{
    phase::Phase,
    simd::{Level, kernel},
};

/// The number of sectors in each direction.
const SECTORS: usize = POINTS - 1;

/// Where a position lies: its sector, and the part of the way to the next in units of 2^-15.
type Place = (usize, i16);

/// The places of `length` positions. The sizes of the sectors of the first half are mirrored to the second one. Positions
/// behind the last sector are still in it.
fn axis(sizes: &[u16; 8], gradients: &[u16; 8], length: u32) -> impl Iterator<Item = Place> {
    let sector = |index: usize| {
        let half = index.min(SECTORS - 1 - index);
        (usize::from(sizes[half]), u32::from(gradients[half].min(0xfff)))
    };
    let mut places = (0, 0);
    (0..length).map(move |_| {
        let (index, at) = &mut places;
        while *index < SECTORS - 1 && *at >= sector(*index).0 {
            (*index, *at) = (*index + 1, 0);
        }
        let way = u32::try_from(*at).unwrap_or(u32::MAX).saturating_mul(sector(*index).1);
        *at += 1;
        // At the end of a sector the part is 1: the largest value stands for it.
        (*index, i16::try_from(way).unwrap_or(i16::MAX))
    })
}

/// Lens shading for frames of one size.
#[derive(Debug, Default)]
pub(super) struct Shading {
    /// What the places are for: the size of the frame, and sizes and gradients of the sectors.
    of: ([u32; 2], [[u16; 8]; 4]),
    /// The part of the way of each column, even and odd ones separate, and the first column of each sector.
    columns: [Vec<i16>; 2],
    begins: [[usize; POINTS]; 2],
    lines: Vec<Place>,
}

impl Shading {
    /// Adapts to a frame's size and to other sectors.
    pub(super) fn set(&mut self, lens: &LensShading, size: [u32; 2]) {
        let of = (size, [lens.x_sizes, lens.x_gradients, lens.y_sizes, lens.y_gradients]);
        if self.of == of {
            return;
        }
        self.of = of;
        self.lines.clear();
        self.lines.extend(axis(&lens.y_sizes, &lens.y_gradients, size[1]));
        let half = size[0] as usize / 2;
        self.begins = [[half; POINTS]; 2];
        self.columns.iter_mut().for_each(Vec::clear);
        for (x, (sector, way)) in axis(&lens.x_sizes, &lens.x_gradients, size[0]).enumerate() {
            self.columns[x % 2].push(way);
            let begin = &mut self.begins[x % 2][sector];
            *begin = (*begin).min(x / 2);
        }
        // A sector without columns begins where the next one does.
        for begins in &mut self.begins {
            for sector in (0..SECTORS).rev() {
                begins[sector] = begins[sector].min(begins[sector + 1]);
            }
        }
    }

    /// The gains of line `y` at the left edges of its sectors, and behind the last one.
    fn edges(&self, gains: &[[u16; POINTS]; POINTS], y: u32) -> [i16; POINTS] {
        let (sector, way) = self.lines.get(y as usize).copied().unwrap_or_default();
        let gain = |line: usize, x: usize| gains[line][x].min(0xfff).cast_signed();
        std::array::from_fn(|x| between(gain(sector, x), gain(sector + 1, x), way))
    }

    /// Applies the gains of lens shading and of the white balance to the columns of one parity of line `y`.
    #[expect(clippy::too_many_arguments, reason = "a line, and what is done to it")]
    pub(super) fn apply(
        &self,
        level: Level,
        lens: &LensShading,
        phase: Phase,
        y: u32,
        parity: usize,
        balance: i16,
        line: &mut [i16],
    ) {
        self.sectors(lens, phase, y, parity, line, |ends, ways, line| {
            shade(level, ends, balance, ways, line);
        });
    }

    /// The gains of the columns of one parity of line `y`.
    pub(super) fn gains(
        &self,
        level: Level,
        lens: &LensShading,
        phase: Phase,
        y: u32,
        parity: usize,
        line: &mut [i16],
    ) {
        self.sectors(lens, phase, y, parity, line, |ends, ways, line| {
            ramp(level, ends, ways, line);
        });
    }

    /// Calls `process` for each sector of the columns of one parity of line `y`: with the gains at its ends, the ways of its columns, and
    /// its part of the line.
    fn sectors(
        &self,
        lens: &LensShading,
        phase: Phase,
        y: u32,
        parity: usize,
        line: &mut [i16],
        mut process: impl FnMut([i16; 2], &[i16], &mut [i16]),
    ) {
        let edges = self.edges(&lens.gains[phase.channel(y, parity)], y);
        for (ends, bounds) in edges.windows(2).zip(self.begins[parity].windows(2)) {
            let range = bounds[0]..bounds[1];
            process([ends[0], ends[1]], &self.columns[parity][range.clone()], &mut line[range]);
        }
    }
}

/// The gain at a part of the way from one to another. It lies between the two.
#[inline(always)]
fn between(from: i16, to: i16, way: i16) -> i16 {
    sample(wide(from) + (((wide(to) - wide(from)) * wide(way) + W(1 << 14)) >> 15))
}

kernel! {
    /// Applies gains from one edge of a sector to the other.
    fn shade(ends: [i16; 2], balance: i16, ways: &[i16], line: &mut [i16]) {
        for (value, &way) in line.iter_mut().zip(ways) {
            let gain = between(ends[0], ends[1], way);
            let shaded = sample((wide(*value) * wide(gain) + W(512)) >> 10);
            *value = sample((wide(balance) * wide(shaded) + W(128)) >> 8);
        }
    }
}

kernel! {
    fn ramp(ends: [i16; 2], ways: &[i16], line: &mut [i16]) {
        for (gain, &way) in line.iter_mut().zip(ways) {
            *gain = between(ends[0], ends[1], way);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens() -> LensShading {
        let sizes = [5, 10, 20, 10, 5, 15, 10, 5];
        let gradients = sizes.map(|size| 32_768 / size);
        let gain = |channel: usize, y: usize, x: usize| {
            u16::try_from(1024 + 300 * channel + 40 * y + 70 * x).unwrap()
        };
        LensShading {
            gains: std::array::from_fn(|c| std::array::from_fn(|y| std::array::from_fn(|x| gain(c, y, x)))),
            x_sizes: sizes,
            y_sizes: sizes,
            x_gradients: gradients.map(|gradient| gradient.min(0xfff)),
            y_gradients: gradients.map(|gradient| gradient.min(0xfff)),
        }
    }

    #[test]
    fn gains_are_bilinear_and_sectors_mirrored() {
        let lens = lens();
        let mut shading = Shading::default();
        shading.set(&lens, [160, 160]);
        let edges = [0, 5, 15, 35, 45, 50, 65, 75, 80, 85, 95, 110, 115, 125, 145, 155, 160];
        let place = |at: u32| {
            let sector = (0..16).rfind(|&sector| edges[sector] <= at).unwrap();
            let size = edges[sector + 1] - edges[sector];
            // Sectors of 5 have the largest gradient of 12 bits, not 6553.
            let way = f64::from(at - edges[sector])
                * if size == 5 { 4095.0 / 32_768.0 } else { 1.0 / f64::from(size) };
            (sector as f64) + way
        };
        for y in [0, 1, 30, 44, 79, 80, 90, 159] {
            for parity in [0_u32, 1] {
                let mut line = [2000; 80];
                shading.apply(Level::best(), &lens, Phase::Rggb, y, parity as usize, 256, &mut line);
                let channel = y % 2 * 2 + parity;
                for (value, x) in line.into_iter().zip((parity..).step_by(2)) {
                    let gain = 1024.0 + 300.0 * f64::from(channel) + 40.0 * place(y) + 70.0 * place(x);
                    let exact = (2000.0 * gain / 1024.0).min(4095.0);
                    assert!((f64::from(value) - exact).abs() <= 2.0, "{value} not {exact} at {x}, {y}");
                }
            }
        }
    }

    #[test]
    fn sectors_need_not_fit_the_frame() {
        let mut shading = Shading::default();
        let mut lens = lens();
        for sizes in [[0; 8], [1; 8], [0xfff; 8]] {
            (lens.x_sizes, lens.y_sizes) = (sizes, sizes);
            (lens.x_gradients, lens.y_gradients) = ([0xffff; 8], [0xffff; 8]);
            shading.set(&lens, [64, 48]);
            let mut line = [1; 32];
            shading.gains(Level::best(), &lens, Phase::Bggr, 47, 1, &mut line);
            // The second pixel of this line is red. The gains are those between the corners of the grid.
            assert!(line.iter().all(|&gain| (1024..=1024 + 16 * 110).contains(&gain)), "{line:?}");
            assert_eq!(shading.columns.each_ref().map(Vec::len), [32; 2]);
        }
    }
}
